//! A first configuration on disk, from the templates that travel inside the binary.
//!
//! Invariants: nothing that exists is touched, no well-known key is ever active, and files that hold keys are for
//! their owner alone. Prints nothing: the caller shows the [`Report`].

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::file::{ChannelsFile, GatewayFile, KeysFile, schema};
use super::load::{Sources, channels};
use crate::digest::hex;

pub const CHANNELS_EXAMPLE: &str = include_str!("../../../conf/channels_config.json.example");
pub const KEYS_EXAMPLE: &str = include_str!("../../../conf/api_keys.json.example");
pub const GATEWAY_EXAMPLE: &str = include_str!("../../../conf/gateway.json.example");

const PRIVATE_FILE: u32 = 0o600;
const PUBLIC_FILE: u32 = 0o644;
const PRIVATE_FOLDER: u32 = 0o700;
const PUBLIC_FOLDER: u32 = 0o755;

/// What was done. No `Debug`: it holds the fresh keys.
#[derive(Default)]
pub struct Report {
    pub conf: PathBuf,
    pub plugins: PathBuf,
    pub written: Vec<PathBuf>,
    /// Existed already, and were left as they are.
    pub kept: Vec<PathBuf>,
    /// Channel and proxy key; empty if `api_keys.json` was kept. To be shown once, to whoever ran the command.
    pub keys: Vec<(String, String)>,
    /// None if `gateway.json` was kept. To be shown once, likewise.
    pub admin_token: Option<String>,
    /// One line each.
    pub next_steps: Vec<String>,
}

/// Writes `DIR/conf` and `DIR/plugins`; plugins are given as file stem and bytes.
pub fn write(dir: &Path, plugins: &[(&str, &[u8])]) -> anyhow::Result<Report> {
    let (conf, plugins_folder) = (dir.join("conf"), dir.join("plugins"));
    let mut report = Report { conf: conf.clone(), plugins: plugins_folder.clone(), ..Report::default() };
    make_folder(dir, PUBLIC_FOLDER)?;
    make_folder(&conf, PRIVATE_FOLDER)?;
    make_folder(&conf.join("schemas"), PUBLIC_FOLDER)?;
    make_folder(&plugins_folder, PUBLIC_FOLDER)?;

    let files = Sources::under(&conf);
    report.write(&files.channels, CHANNELS_EXAMPLE.as_bytes(), PRIVATE_FILE)?;
    let keys: Vec<(String, String)> = channel_ids(&files.channels)?
        .into_iter()
        .map(|id| Ok((id, random_key("sk-aiproxy-")?)))
        .collect::<anyhow::Result<_>>()?;
    if report.write(&files.keys, keys_file(&keys).as_bytes(), PRIVATE_FILE)? {
        report.keys = keys;
    }
    let admin_token = random_key("admin-")?;
    if report.write(&files.gateway, gateway_file(&admin_token).as_bytes(), PRIVATE_FILE)? {
        report.admin_token = Some(admin_token);
    }
    for (name, schema) in [
        ("channels_config", schema::<ChannelsFile>()),
        ("api_keys", schema::<KeysFile>()),
        ("gateway", schema::<GatewayFile>()),
    ] {
        let path = conf.join("schemas").join(format!("{name}.schema.json"));
        report.write(&path, format!("{schema:#}\n").as_bytes(), PUBLIC_FILE)?;
    }
    for (name, bytes) in plugins {
        report.write(&plugins_folder.join(format!("{name}.wasm")), bytes, PUBLIC_FILE)?;
    }

    let (conf, plugins) = (conf.display(), plugins_folder.display());
    report.next_steps = vec![
        format!("set the providers' keys (DASHSCOPE_API_KEY, GEMINI_API_KEY, …) or edit {}", files.channels.display()),
        format!("aiproxy-host check --conf {conf} --plugins {plugins}"),
        format!("aiproxy-host serve --conf {conf} --plugins {plugins}"),
    ];
    Ok(report)
}

impl Report {
    /// Whether the file was written; one that exists is kept.
    fn write(&mut self, path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<bool> {
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
            Ok(file) => file,
            Err(fault) if fault.kind() == ErrorKind::AlreadyExists => {
                self.kept.push(path.to_owned());
                return Ok(false);
            }
            Err(fault) => return Err(fault).with_context(|| format!("cannot create {}", path.display())),
        };
        if let Err(fault) = file.write_all(bytes) {
            // Half a file would be kept the next time.
            _ = std::fs::remove_file(path);
            return Err(fault).with_context(|| format!("cannot write {}", path.display()));
        }
        self.written.push(path.to_owned());
        Ok(true)
    }
}

fn make_folder(path: &Path, mode: u32) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| format!("cannot create {}", path.display()))
}

/// Of the file that is there now, which may be one that was kept: keys for other channels would open nothing.
fn channel_ids(file: &Path) -> anyhow::Result<Vec<String>> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let part = channels(&bytes, file, &|_| None);
    let Some(channels) = part.value else {
        let problems: Vec<_> = part.problems.iter().map(ToString::to_string).collect();
        anyhow::bail!(
            "{} was kept, but no keys can be drawn for its channels:\n{}",
            file.display(),
            problems.join("\n")
        );
    };
    Ok(channels.by_id.into_keys().collect())
}

/// A prefix and 192 random bits.
pub fn random_key(prefix: &str) -> anyhow::Result<String> {
    let mut random = [0_u8; 24];
    getrandom::fill(&mut random).map_err(|fault| anyhow::anyhow!("the system gives no random bytes: {fault}"))?;
    Ok(format!("{prefix}{}", hex(&random)))
}

/// The template's entries with the keys put in; channels that it does not know get an entry like them.
fn keys_file(keys: &[(String, String)]) -> String {
    let template: Vec<Value> = serde_json::from_str(KEYS_EXAMPLE).expect("the template is tested");
    let comments = template.iter().filter(|entry| entry.get("proxy_key").is_none()).cloned();
    let entries = keys.iter().map(|(channel, key)| {
        let known = template.iter().find(|entry| entry["channel"] == channel.as_str()).cloned();
        let mut entry = known.unwrap_or_else(|| {
            let description = format!("First key of the channel {channel}");
            let id = format!("{}-1", channel.chars().take(62).collect::<String>());
            json!({"id": id, "proxy_key": "", "channel": channel, "status": "active", "description": description})
        });
        entry["proxy_key"] = key.as_str().into();
        entry
    });
    format!("{:#}\n", comments.chain(entries).collect::<Value>())
}

/// The template with the token put in.
fn gateway_file(admin_token: &str) -> String {
    let mut template: Value = serde_json::from_str(GATEWAY_EXAMPLE).expect("the template is tested");
    let public = template["admin"]["public"].take();
    template["admin"] = json!({"token": admin_token, "public": public});
    format!("{template:#}\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::load::{gateway, keys, load};
    use super::super::{Admin, AdminToken, Gateway, Keys};
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_written_loads_and_opens_every_channel() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("new/place");
        let report = write(&root, &[("bailian", b"\0asm")]).unwrap();
        assert_eq!((report.written.len(), report.kept.len(), report.keys.len()), (7, 0, 3));
        assert_eq!(std::fs::read(root.join("plugins/bailian.wasm")).unwrap(), b"\0asm");
        for file in ["channels_config.json", "api_keys.json", "gateway.json"] {
            assert_eq!(mode(&root.join("conf").join(file)), 0o600, "{file}");
        }
        assert_eq!(mode(&root.join("conf")), 0o700);

        let loaded = load(&root.join("conf"), &|_| Some("value".to_owned()));
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
        let config = loaded.config.unwrap();
        for (channel, key) in &report.keys {
            assert!(key.starts_with("sk-aiproxy-") && key.len() == 11 + 48, "length");
            assert_eq!(config.keys.by_digest[&Keys::digest(key.as_bytes())].channels, [channel.as_str()]);
        }
        let token = report.admin_token.as_ref().unwrap();
        assert!(token.starts_with("admin-") && token.len() == 6 + 48, "length");
        let admin = Admin { token: Some(AdminToken::new(token.as_bytes())), public: false };
        assert_eq!(config.gateway, Gateway { admin, ..Gateway::default() });

        // Without the providers' keys it still loads, and says what is not there.
        let bare = load(&root.join("conf"), &|_| None);
        assert!(bare.config.is_some());
        assert_eq!(bare.problems.len(), 3, "{:?}", bare.problems);
        let another = write(&dir.path().join("other"), &[]).unwrap();
        assert_ne!(another.keys, report.keys, "keys are drawn anew");
    }

    #[test]
    fn nothing_that_exists_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("conf");
        std::fs::create_dir(&conf).unwrap();
        let own = r#"{"channels": {"mine": {"base_url": "http://127.0.0.1:1"}}}"#;
        std::fs::write(conf.join("channels_config.json"), own).unwrap();
        let report = write(dir.path(), &[]).unwrap();
        assert_eq!(report.kept, [conf.join("channels_config.json")]);
        assert_eq!(std::fs::read_to_string(conf.join("channels_config.json")).unwrap(), own);
        assert_eq!(report.keys.len(), 1);
        assert!(load(&conf, &|_| None).config.is_some(), "the key drawn is for the channel that is there");

        let before = std::fs::read(conf.join("api_keys.json")).unwrap();
        let again = write(dir.path(), &[]).unwrap();
        assert!(again.written.is_empty() && again.keys.is_empty() && again.admin_token.is_none());
        assert_eq!(std::fs::read(conf.join("api_keys.json")).unwrap(), before);
    }

    #[test]
    fn a_kept_file_that_is_broken_is_said_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("conf");
        std::fs::create_dir(&conf).unwrap();
        std::fs::write(conf.join("channels_config.json"), "{").unwrap();
        let fault = write(dir.path(), &[]).err().unwrap().to_string();
        assert!(fault.contains("was kept, but no keys can be drawn for its channels:\nerror: "), "{fault}");
        assert!(!conf.join("api_keys.json").exists());
    }

    #[test]
    fn the_templates_themselves_load_with_no_active_key() {
        let file = Path::new("f");
        assert!(channels(CHANNELS_EXAMPLE.as_bytes(), file, &|_| None).value.is_some());
        let keys = keys(KEYS_EXAMPLE.as_bytes(), file);
        assert!(keys.value.unwrap().entries.is_empty());
        assert_eq!(gateway(GATEWAY_EXAMPLE.as_bytes(), file, &|_| None).value.unwrap(), Gateway::default());
    }

    #[test]
    fn the_shipped_gateway_template_gives_every_default_of_the_schema() {
        let mut template: Value = serde_json::from_str(GATEWAY_EXAMPLE).unwrap();
        let members = template.as_object_mut().unwrap();
        members.retain(|name, _| !name.starts_with(['_', '$']));
        let mut defaults = serde_json::to_value(GatewayFile::default()).unwrap();
        for optional in ["tls", "trusted_ca"] {
            assert_eq!(defaults.as_object_mut().unwrap().remove(optional), Some(Value::Null));
        }
        assert_eq!(template, defaults);
    }
}
