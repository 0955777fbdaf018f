//! Versions of plugins that were accepted, kept in the state folder so that an earlier one can be brought back.
//!
//! One folder a plugin: `HASH.wasm` for each version, and `history.json`. A version is taken back only if its bytes have its
//! hash. Failing to write is told and otherwise costs nothing but the way back; without a state folder nothing is kept.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{hex, sha256};

/// So many are kept of one plugin; the one that serves, the pinned one and the file's own stay in any case.
const VERSIONS_MAX: usize = 10;
const HISTORY: &str = "history.json";

/// An accepted version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeptVersion {
    /// SHA-256 of the component.
    pub version: String,
    /// When it was accepted last, Unix time in seconds.
    pub accepted_at: u64,
    /// Of the WIT package `aiproxy:plugin` that it speaks.
    pub interface: String,
    pub bytes: u64,
    /// `file`, or `embedded` for a default plugin out of the binary.
    pub source: String,
}

/// Holds a plugin to a version, until its file gets a hash that the history does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pin {
    pub version: String,
    /// Unix time in seconds.
    pub since: u64,
    pub reason: String,
}

/// What is known of one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Oldest first.
    pub versions: Vec<KeptVersion>,
    /// The version that serves; during a trial, the one before.
    pub serving: Option<String>,
    pub pin: Option<Pin>,
}

impl History {
    pub fn find(&self, version: &str) -> Option<&KeptVersion> {
        self.versions.iter().find(|known| known.version == version)
    }

    /// The one accepted version whose hash begins so.
    pub fn beginning_with(&self, prefix: &str) -> Result<&KeptVersion, String> {
        let mut found = self.versions.iter().filter(|known| known.version.starts_with(prefix));
        match (found.next(), found.next()) {
            (Some(version), None) => Ok(version),
            (Some(_), Some(_)) => Err(format!("several versions begin with {prefix}: write more of the hash")),
            (None, _) => Err(format!("no version {prefix} is kept; there are: {}", self.names())),
        }
    }

    /// The one that was accepted before `serving`.
    pub fn before(&self, serving: &str) -> Option<&KeptVersion> {
        let position = self.versions.iter().position(|known| known.version == serving);
        self.versions[..position.unwrap_or(self.versions.len())].last()
    }

    /// Newest first, for people.
    fn names(&self) -> String {
        let names: Vec<_> = self.versions.iter().rev().map(|known| short(&known.version)).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

/// Enough of a hash to tell versions apart.
pub fn short(version: &str) -> &str {
    version.get(..12).unwrap_or(version)
}

/// The histories of all plugins.
pub struct Kept {
    folder: Option<PathBuf>,
    is_read_only: bool,
    histories: BTreeMap<String, History>,
}

impl Kept {
    /// `None`: nothing is kept beyond this process, and no bytes at all.
    pub fn new(folder: Option<&Path>) -> Self {
        Self { folder: folder.map(Path::to_owned), is_read_only: false, histories: BTreeMap::new() }
    }

    /// Looks at what a gateway keeps, and leaves it as it is.
    pub fn read_only(folder: &Path) -> Self {
        Self { is_read_only: true, ..Self::new(Some(folder)) }
    }

    /// Where to write.
    fn target(&self, plugin: &str) -> Option<PathBuf> {
        let folder = self.folder.as_ref().filter(|_| !self.is_read_only)?;
        Some(folder.join(plugin))
    }

    /// Of a plugin; read at the first look.
    pub fn history(&mut self, plugin: &str) -> &mut History {
        let Self { folder, is_read_only, histories } = self;
        histories.entry(plugin.to_owned()).or_insert_with(|| {
            folder.as_ref().map(|folder| read(&folder.join(plugin), *is_read_only)).unwrap_or_default()
        })
    }

    /// As far as it has been looked at.
    pub fn known(&self, plugin: &str) -> Option<&History> {
        self.histories.get(plugin)
    }

    /// Keeps a component's bytes under their hash, before it is known whether it will be accepted.
    pub fn keep(&mut self, plugin: &str, version: &str, bytes: &[u8]) {
        let history = self.history(plugin).clone();
        let Some(folder) = self.target(plugin) else { return };
        let file = folder.join(file_name(version));
        let is_there = fs::metadata(&file).is_ok_and(|there| there.len() == bytes.len() as u64);
        let written = if is_there { Ok(()) } else { write(&file, bytes) };
        if let Err(error) = written {
            tracing::warn!(plugin, %error, "a plugin's version cannot be kept: it could not be brought back");
        }
        // What was kept and then refused is of no use.
        let files = fs::read_dir(&folder).into_iter().flatten().flatten();
        for name in files.filter_map(|file| file.file_name().into_string().ok()) {
            let is_wanted =
                name.strip_suffix(".wasm").is_none_or(|hash| hash == version || history.find(hash).is_some());
            if !is_wanted {
                let _ = fs::remove_file(folder.join(name));
            }
        }
    }

    /// A version was accepted: it is the newest now. `file`: the hash of what is in the plugin's file.
    pub fn accept(&mut self, plugin: &str, accepted: KeptVersion) {
        let history = self.history(plugin);
        history.versions.retain(|known| known.version != accepted.version);
        let newest = accepted.version.clone();
        history.versions.push(accepted);
        while history.versions.len() > VERSIONS_MAX {
            let held = |known: &KeptVersion| {
                known.version == newest
                    || history.serving.as_ref() == Some(&known.version)
                    || history.pin.as_ref().is_some_and(|pin| pin.version == known.version)
            };
            let Some(oldest) = history.versions.iter().position(|known| !held(known)) else { break };
            history.versions.remove(oldest);
        }
        self.write(plugin);
    }

    pub fn serves(&mut self, plugin: &str, version: &str) {
        let history = self.history(plugin);
        if history.serving.as_deref() != Some(version) {
            history.serving = Some(version.to_owned());
            self.write(plugin);
        }
    }

    pub fn pin(&mut self, plugin: &str, pin: Option<Pin>) {
        let history = self.history(plugin);
        if history.pin != pin {
            history.pin = pin;
            self.write(plugin);
        }
    }

    /// A kept version's component.
    pub fn bytes(&self, plugin: &str, version: &str) -> Result<Vec<u8>, String> {
        let folder = self.folder.as_ref().ok_or("without a state folder, no version is kept")?;
        let path = folder.join(plugin).join(file_name(version));
        let bytes = fs::read(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        if hex(&sha256(&bytes)) != version {
            return Err(format!("{} is damaged: its content does not have the hash in its name", path.display()));
        }
        Ok(bytes)
    }

    fn write(&self, plugin: &str) {
        let (Some(folder), Some(history)) = (self.target(plugin), self.histories.get(plugin)) else { return };
        let json = serde_json::to_vec_pretty(history).expect("a history is plain data");
        if let Err(error) = write(&folder.join(HISTORY), &json) {
            tracing::warn!(plugin, %error, "the history of a plugin's versions cannot be written");
        }
    }
}

fn file_name(version: &str) -> String {
    format!("{version}.wasm")
}

/// A damaged history is set aside, and begun anew.
fn read(folder: &Path, is_read_only: bool) -> History {
    let path = folder.join(HISTORY);
    let parsed = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => return History::default(),
        Err(error) => Err(error.to_string()),
    };
    parsed.unwrap_or_else(|error| {
        let aside = path.with_extension("json.damaged");
        if !is_read_only {
            let _ = fs::rename(&path, &aside);
        }
        tracing::error!(path = %path.display(), error, aside = %aside.display(), "the history of a plugin's versions cannot be read; it begins anew");
        History::default()
    })
}

/// Whole or not at all.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(name: &str) -> KeptVersion {
        let source = "file".to_owned();
        KeptVersion { version: name.into(), accepted_at: 7, interface: "0.1.0".into(), bytes: 3, source }
    }

    fn names(history: &History) -> Vec<&str> {
        history.versions.iter().map(|known| &*known.version).collect()
    }

    #[test]
    fn what_was_kept_comes_back_with_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let hash = hex(&sha256(b"abc"));
        let mut kept = Kept::new(Some(folder.path()));
        kept.keep("p", &hash, b"abc");
        kept.accept("p", version(&hash));
        kept.serves("p", &hash);
        let pin = Pin { version: hash.clone(), since: 8, reason: "a test".into() };
        kept.pin("p", Some(pin.clone()));
        let mut again = Kept::new(Some(folder.path()));
        let history = again.history("p");
        assert_eq!(names(history), [&*hash]);
        assert_eq!((history.serving.as_ref(), history.pin.as_ref()), (Some(&hash), Some(&pin)));
        assert_eq!(again.bytes("p", &hash).unwrap(), b"abc");
    }

    #[test]
    fn damaged_bytes_are_not_taken_and_a_damaged_history_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let hash = hex(&sha256(b"abc"));
        let mut kept = Kept::new(Some(folder.path()));
        kept.keep("p", &hash, b"abc");
        kept.accept("p", version(&hash));
        fs::write(folder.path().join("p").join(file_name(&hash)), b"abd").unwrap();
        assert!(kept.bytes("p", &hash).unwrap_err().contains("is damaged"));
        assert!(kept.bytes("p", "other").unwrap_err().contains("cannot be read"));
        fs::write(folder.path().join("p").join(HISTORY), b"{").unwrap();
        assert_eq!(*Kept::new(Some(folder.path())).history("p"), History::default());
        assert_eq!(fs::read(folder.path().join("p/history.json.damaged")).unwrap(), b"{");
    }

    #[test]
    fn few_versions_are_kept_and_never_those_in_use_lost() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Kept::new(Some(folder.path()));
        for n in 0..VERSIONS_MAX + 5 {
            let name = format!("{n:02}");
            kept.keep("p", &name, b"x");
            kept.accept("p", version(&name));
            if n == 0 {
                kept.serves("p", &name);
            }
            if n == 1 {
                kept.pin("p", Some(Pin { version: name, since: 0, reason: String::new() }));
            }
        }
        let history = kept.history("p").clone();
        assert_eq!(history.versions.len(), VERSIONS_MAX);
        assert_eq!(names(&history)[..3], ["00", "01", "07"]);
        kept.keep("p", "refused", b"x");
        kept.keep("p", "next", b"x");
        let files = fs::read_dir(folder.path().join("p")).unwrap().count();
        assert_eq!(files, VERSIONS_MAX + 2, "the kept ones, the one just looked at, and the history");
    }

    #[test]
    fn a_version_is_named_by_the_beginning_of_its_hash() {
        let versions = ["aa11", "aa22", "bb33"].map(version).into();
        let history = History { versions, ..History::default() };
        assert_eq!(history.beginning_with("bb").unwrap().version, "bb33");
        assert!(history.beginning_with("aa").unwrap_err().contains("several"));
        assert!(history.beginning_with("cc").unwrap_err().contains("there are: bb33, aa22, aa11"));
        assert_eq!(history.before("bb33").unwrap().version, "aa22");
        assert_eq!(history.before("aa11"), None);
        assert_eq!(history.before("elsewhere").unwrap().version, "bb33");
    }
}
