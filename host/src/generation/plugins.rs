//! The plugin files of a running gateway, and the default plugins inside the binary where there is no file.
//!
//! A file becomes a candidate when it loads; whether it serves is known only when every channel that names it could be
//! configured with it. A refused file stays out, with its reason, until its bytes change or the channels do.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::digest::sha256;
use crate::generation::conf::Fingerprint;
use crate::generation::{Depth, FileStatus, PluginStatus, State};
use crate::plugin::embedded::EMBEDDED;
use crate::plugin::{Engine, Version};
use crate::stats::unix_time_s;

/// The largest known components are Python's, 18 MB.
const FILE_BYTES_MAX: u64 = 256 << 20;

pub struct Plugins {
    folder: PathBuf,
    entries: BTreeMap<String, Entry>,
}

/// One plugin.
#[derive(Default)]
struct Entry {
    fingerprint: Option<Fingerprint>,
    /// What was looked at last, good or bad.
    seen: Option<([u8; 32], Source)>,
    accepted: Option<Loaded>,
    /// When it was, Unix time in seconds.
    accepted_at: Option<u64>,
    /// Loads, but not yet known to work for its channels.
    candidate: Option<Loaded>,
    /// Loads, but did not work for a channel.
    misfit: Option<Loaded>,
    error: Option<String>,
}

/// What a scan found.
#[derive(Default)]
pub struct Scan {
    /// What could not be loaded, by plugin.
    pub failures: Vec<(String, String)>,
    /// Some plugin's bytes are others than before.
    pub has_news: bool,
}

#[derive(Clone)]
struct Loaded {
    version: Arc<Version>,
    source: Source,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    File,
    Embedded,
}

impl Plugins {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), entries: BTreeMap::new() }
    }

    /// For people: the file, or that it is the embedded one.
    pub fn label(&self, name: &str) -> String {
        let path = self.path(name);
        if path.exists() { path.display().to_string() } else { format!("embedded plugin {name}") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.wasm"))
    }

    /// Of every `NAME.wasm` that is there.
    pub fn names_in_folder(&self) -> HashSet<String> {
        let files = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        files.filter_map(|file| file.file_name().to_str()?.strip_suffix(".wasm").map(str::to_owned)).collect()
    }

    /// Looks for changes.
    pub fn scan(&mut self, engine: &Arc<Engine>, needed: &HashSet<String>, depth: Depth) -> Scan {
        let mut scan = Scan::default();
        for name in needed {
            let path = self.path(name);
            let entry = self.entries.entry(name.clone()).or_default();
            let seen = entry.seen;
            if let Err(reason) = entry.scan(engine, name, &path, depth) {
                if entry.error.as_ref() != Some(&reason) {
                    let serving = if entry.accepted.is_some() { "; the last good version serves on" } else { "" };
                    tracing::error!(plugin = name, "{}: {reason}{serving}", path.display());
                }
                entry.error = Some(reason.clone());
                scan.failures.push((name.clone(), reason));
            }
            scan.has_news |= entry.seen != seen;
        }
        scan
    }

    /// The newest version of each plugin that loads.
    pub fn candidates(&self) -> HashMap<String, Arc<Version>> {
        let newest = |entry: &Entry| entry.candidate.as_ref().or(entry.accepted.as_ref()).map(|it| it.version.clone());
        self.entries.iter().filter_map(|(name, entry)| Some((name.clone(), newest(entry)?))).collect()
    }

    /// Every candidate fits; but one that no serving channel names has shown nothing: its channel was refused.
    pub fn accept_candidates(&mut self, serving: &HashSet<String>) {
        for (name, entry) in &mut self.entries {
            let Some(candidate) = entry.candidate.take() else { continue };
            if serving.contains(name) {
                tracing::info!(plugin = name, version = candidate.version.short_hash(), "a plugin version is accepted");
                entry.accepted = Some(candidate);
                entry.accepted_at = Some(unix_time_s(SystemTime::now()));
                entry.misfit = None;
                entry.error = None;
            } else {
                entry.misfit = Some(candidate);
                entry.error = Some("the channels file that names it is refused".to_owned());
            }
        }
    }

    /// Goes back to the version that served before; false when there is none, or nothing to go back from.
    pub fn refuse_candidate(&mut self, name: &str, reason: &str) -> bool {
        let Some(entry) = self.entries.get_mut(name) else { return false };
        if entry.accepted.is_none() {
            return false;
        }
        let Some(candidate) = entry.candidate.take() else { return false };
        if entry.error.as_deref() != Some(reason) {
            let version = candidate.version.short_hash();
            tracing::error!(plugin = name, version, "{reason}; the last good version serves on");
        }
        entry.misfit = Some(candidate);
        entry.error = Some(reason.to_owned());
        true
    }

    /// Something changed: versions that did not work before may work now.
    pub fn reconsider(&mut self) {
        for entry in self.entries.values_mut() {
            if let Some(misfit) = entry.misfit.take() {
                entry.candidate.get_or_insert(misfit);
            }
        }
    }

    /// Forgets plugins that no channel names.
    pub fn retain(&mut self, is_used: impl Fn(&str) -> bool) {
        self.entries.retain(|name, _| is_used(name));
    }

    pub fn why_missing(&self, name: &str) -> String {
        let entry = self.entries.get(name);
        entry.and_then(|entry| entry.error.clone()).unwrap_or_else(|| missing(&self.path(name)))
    }

    pub fn status(&self, users: impl Fn(&str) -> Vec<String>) -> Vec<PluginStatus> {
        let status = |(name, entry): (&String, &Entry)| PluginStatus {
            name: name.clone(),
            version: entry.accepted.as_ref().map(|loaded| loaded.version.hash.clone()),
            source: entry.accepted.as_ref().map(|loaded| loaded.source.as_str()),
            state: entry.state(),
            last_error: entry.error.clone(),
            loaded_at: entry.accepted.as_ref().and(entry.accepted_at),
            channels: users(name),
        };
        self.entries.iter().map(status).collect()
    }

    pub fn file_status(&self) -> Vec<FileStatus> {
        let of_file = |(name, entry): (&String, &Entry)| {
            let is_file = entry.seen.is_some_and(|(_, source)| source == Source::File) || entry.error.is_some();
            is_file.then(|| FileStatus {
                name: format!("{name}.wasm"),
                version: entry.accepted.as_ref().map(|loaded| loaded.version.hash.clone()),
                state: entry.state(),
                last_error: entry.error.clone(),
                warnings: Vec::new(),
            })
        };
        self.entries.iter().filter_map(of_file).collect()
    }
}

impl Entry {
    fn state(&self) -> State {
        if self.error.is_some() || self.accepted.is_none() { State::Refused } else { State::Active }
    }

    fn scan(&mut self, engine: &Arc<Engine>, name: &str, path: &Path, depth: Depth) -> Result<(), String> {
        let fingerprint = Fingerprint::of(path);
        if depth == Depth::Changed && self.seen.is_some() && fingerprint == self.fingerprint {
            return Ok(());
        }
        self.fingerprint = fingerprint;
        let embedded = || EMBEDDED.iter().find(|(embedded, _)| *embedded == name).map(|(_, bytes)| bytes.to_vec());
        let found = match read(path) {
            Ok(Some(bytes)) => Ok((bytes, Source::File)),
            Ok(None) => embedded().map(|bytes| (bytes, Source::Embedded)).ok_or_else(|| missing(path)),
            Err(reason) => Err(reason),
        };
        // The same bytes, once they can be read again, are news.
        let (bytes, source) = found.inspect_err(|_| (self.seen, self.candidate, self.misfit) = (None, None, None))?;
        let seen = (sha256(&bytes), source);
        if self.seen == Some(seen) {
            // Looked at before: it serves, or its refusal stands.
            return Ok(());
        }
        self.seen = Some(seen);
        (self.candidate, self.misfit) = (None, None);
        let version = engine.load(name, &bytes).map_err(|refusal| refusal.to_string())?;
        if let Some(accepted) = &mut self.accepted
            && accepted.version.hash == version.hash
        {
            // Back to what serves.
            accepted.source = source;
            self.error = None;
            return Ok(());
        }
        self.candidate = Some(Loaded { version, source });
        Ok(())
    }
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Embedded => "embedded",
        }
    }
}

fn missing(path: &Path) -> String {
    let names: Vec<_> = EMBEDDED.iter().map(|(name, _)| *name).collect();
    format!(
        "there is no file {} and no default plugin of that name (there are: {}); put the file there, or name another with the channel's `plugin`",
        path.display(),
        names.join(", ")
    )
}

/// A file's bytes; `None` if there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let read = || {
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(std::io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(std::io::Error::new(ErrorKind::FileTooLarge, "larger than 256 MiB"));
        }
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("the file cannot be read: {error}")),
    }
}
