//! Versions of plugins that were accepted, kept in the state folder so that an earlier one can be brought back.
//!
//! One folder a plugin: `HASH.wasm` for each version, and `history.json`. A version is taken back only if its bytes have its
//! hash. Failing to write is told and otherwise costs nothing but the way back; without a state folder nothing is kept.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::is_name;
use crate::digest::{hex, sha256};

/// So many are kept of one plugin; the one that serves, the pinned one and the file's own stay in any case.
const VERSIONS_MAX: usize = 10;
/// Digits of a hash that name a version at the least.
const PREFIX_MIN: usize = 4;
const HISTORY: &str = "history.json";
const DAMAGED: &str = "history.json.damaged";

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
    /// SHA-256 of what was in the plugin's file at that time: it does not lift the pin, accepted before or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
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

    /// Whether the pin keeps a file with this content from serving.
    pub fn holds_back(&self, hash: &str) -> bool {
        self.pin
            .as_ref()
            .is_some_and(|pin| pin.version != hash && (self.find(hash).is_some() || pin.file.as_deref() == Some(hash)))
    }

    /// The one accepted version whose hash begins so.
    pub fn beginning_with(&self, prefix: &str) -> Result<&KeptVersion, String> {
        if prefix.len() < PREFIX_MIN {
            return Err(format!("{prefix:?} is too little of a version's hash; write at least {PREFIX_MIN} digits"));
        }
        let prefix = &*prefix.to_ascii_lowercase();
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
    /// Those whose history is there and could not be read: nothing of it is touched.
    untouchable: HashSet<String>,
}

impl Kept {
    /// `None`: nothing is kept beyond this process, and no bytes at all.
    pub fn new(folder: Option<&Path>) -> Self {
        Self {
            folder: folder.map(Path::to_owned),
            is_read_only: false,
            histories: BTreeMap::new(),
            untouchable: HashSet::new(),
        }
    }

    /// Looks at what a gateway keeps, and leaves it as it is.
    pub fn read_only(folder: &Path) -> Self {
        Self { is_read_only: true, ..Self::new(Some(folder)) }
    }

    /// Where to write.
    fn target(&self, plugin: &str) -> Option<PathBuf> {
        let is_touchable = !self.is_read_only && !self.untouchable.contains(plugin) && is_name(plugin);
        Some(self.folder.as_ref().filter(|_| is_touchable)?.join(plugin))
    }

    /// Of a plugin; read at the first look.
    pub fn history(&mut self, plugin: &str) -> &mut History {
        let Self { folder, is_read_only, histories, untouchable } = self;
        histories.entry(plugin.to_owned()).or_insert_with(|| {
            let folder = folder.as_ref().filter(|_| is_name(plugin)).map(|folder| folder.join(plugin));
            let read = folder.map_or(Ok(History::default()), |folder| read(&folder, *is_read_only));
            read.unwrap_or_else(|error| {
                tracing::error!(plugin, %error, "the history of a plugin's versions cannot be read; it is left alone");
                untouchable.insert(plugin.to_owned());
                History::default()
            })
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
        let is_there = read_file(&file).is_ok_and(|there| there == bytes);
        let written = if is_there { Ok(()) } else { write(&file, bytes) };
        if let Err(error) = written {
            tracing::warn!(plugin, %error, "a plugin's version cannot be kept: it could not be brought back");
        }
        if folder.join(DAMAGED).exists() {
            // It may name any of them.
            return;
        }
        // What was kept and then refused is of no use, nor is what a kill left half written.
        let files = fs::read_dir(&folder).into_iter().flatten().flatten();
        for name in files.filter_map(|file| file.file_name().into_string().ok()) {
            let is_wanted = match name.strip_suffix(".wasm") {
                Some(hash) => hash == version || history.find(hash).is_some(),
                None => !name.starts_with(".tmp"),
            };
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
        self.try_write(plugin);
    }

    pub fn serves(&mut self, plugin: &str, version: &str) {
        let history = self.history(plugin);
        if history.serving.as_deref() != Some(version) {
            history.serving = Some(version.to_owned());
            self.try_write(plugin);
        }
    }

    /// The error says that it holds until this process ends only.
    pub fn pin(&mut self, plugin: &str, pin: Option<Pin>) -> io::Result<()> {
        let history = self.history(plugin);
        if history.pin == pin {
            return Ok(());
        }
        history.pin = pin;
        self.write(plugin)
    }

    /// A kept version's component.
    pub fn bytes(&self, plugin: &str, version: &str) -> Result<Vec<u8>, String> {
        let folder = self.folder.as_ref().ok_or("without a state folder, no version is kept")?;
        if !is_name(plugin) {
            return Err(format!("{plugin:?} is not the name of a plugin"));
        }
        let path = folder.join(plugin).join(file_name(version));
        let bytes = read_file(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        if hex(&sha256(&bytes)) != version {
            return Err(format!("{} is damaged: its content does not have the hash in its name", path.display()));
        }
        Ok(bytes)
    }

    fn try_write(&self, plugin: &str) {
        if let Err(error) = self.write(plugin) {
            tracing::warn!(plugin, %error, "the history of a plugin's versions cannot be written");
        }
    }

    fn write(&self, plugin: &str) -> io::Result<()> {
        if self.untouchable.contains(plugin) {
            return Err(io::Error::other("it is there and could not be read"));
        }
        let (Some(folder), Some(history)) = (self.target(plugin), self.histories.get(plugin)) else { return Ok(()) };
        let json = serde_json::to_vec_pretty(history).expect("a history is plain data");
        write(&folder.join(HISTORY), &json)
    }
}

fn file_name(version: &str) -> String {
    format!("{version}.wasm")
}

/// One that is damaged is set aside, and begun anew; one that cannot be read at all is an error.
fn read(folder: &Path, is_read_only: bool) -> io::Result<History> {
    let path = folder.join(HISTORY);
    let bytes = match read_file(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(History::default()),
        Err(error) => return Err(error),
    };
    Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        let aside = folder.join(DAMAGED);
        if !is_read_only {
            let _ = fs::rename(&path, &aside);
        }
        tracing::error!(path = %path.display(), %error, aside = %aside.display(), "the history of a plugin's versions is damaged; it begins anew, without its pin and the way back");
        History::default()
    }))
}

/// A pipe, say, would make the reader wait for ever.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    fs::read(path)
}

/// Whole or not at all, and there to stay. Readable by the folder's owner whoever has written it: a command may have been
/// run by root. The state folder keeps everybody else out.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o644)).tempfile_in(folder)?;
    io::Write::write_all(&mut file, bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
