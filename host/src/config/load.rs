//! From the folder `conf` to a [`Config`], or to everything that is wrong with it.
//!
//! Two ways: [`load`] for a start, all or nothing; and file by file for a running gateway, where each file keeps its
//! last good version by itself ([`Sources`] names them, [`channels`], [`keys`] and [`gateway`] read them) and
//! [`combine`] puts together what there is. Nothing here watches or remembers.

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use super::channels::{Channels, read as channels};
pub use super::expand::Env;
pub use super::gateway::{read as gateway, reread as gateway_again};
pub use super::keys::{KeyList, read as keys};
use super::problem::{Problem, Problems, Severity, Spot, nearest};
use super::{Config, Gateway, Keys, ProxyKey};

/// More than any configuration needs; what is larger is a mistake.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// What came of one file.
#[derive(Debug)]
pub struct Part<T> {
    /// None: the file has an error.
    pub value: Option<T>,
    pub problems: Vec<Problem>,
}

impl<T> Part<T> {
    pub(super) fn new(value: Option<T>, problems: Problems<'_>) -> Self {
        let value = if problems.has_errors() { None } else { value };
        Self { value, problems: problems.into_vec() }
    }
}

/// The three files.
#[derive(Debug, Clone)]
pub struct Sources {
    pub channels: PathBuf,
    pub keys: PathBuf,
    /// Need not exist.
    pub gateway: PathBuf,
}

impl Sources {
    #[must_use]
    pub fn under(conf: &Path) -> Self {
        Self {
            channels: conf.join("channels_config.json"),
            keys: conf.join("api_keys.json"),
            gateway: conf.join("gateway.json"),
        }
    }
}

/// What came of the folder.
#[derive(Debug)]
pub struct Loaded {
    /// None: there is an error.
    pub config: Option<Config>,
    /// File by file, in the order of the text.
    pub problems: Vec<Problem>,
}

/// Loads what is under the folder, with all problems of all files.
pub fn load(conf: &Path, env: Env<'_>) -> Loaded {
    let files = Sources::under(conf);
    let channels = part(&files.channels, |bytes| channels(bytes, &files.channels, env));
    let keys = part(&files.keys, |bytes| keys(bytes, &files.keys));
    let gateway = match bytes(&files.gateway) {
        Ok(None) => Part { value: Some(Gateway::default()), problems: Vec::new() },
        Ok(Some(bytes)) => gateway(&bytes, &files.gateway, env),
        Err(problem) => Part { value: None, problems: vec![*problem] },
    };
    let mut problems = [channels.problems, keys.problems, gateway.problems].concat();
    let mut config = None;
    if let (Some(channels), Some(keys)) = (&channels.value, &keys.value) {
        // With a broken gateway.json too: what keys and channels say of each other belongs to "all problems at once".
        let (combined, mut more) = combine(channels, keys, gateway.value.as_ref().unwrap_or(&Gateway::default()));
        problems.append(&mut more);
        config = Some(combined);
    }
    let is_sound = problems.iter().all(|problem| problem.severity == Severity::Warning);
    Loaded { config: config.filter(|_| is_sound), problems }
}

/// Puts the parts together. A channel that a key names and that does not exist is an error at a start; a running
/// gateway goes on with the key's other channels, and without the key if there are none.
pub fn combine(channels: &Channels, keys: &KeyList, gateway: &Gateway) -> (Config, Vec<Problem>) {
    let mut problems = Problems::of(&keys.file);
    let mut by_digest = HashMap::with_capacity(keys.entries.len());
    for entry in &keys.entries {
        let mut existing = Vec::with_capacity(entry.channels.len());
        for (name, spot) in &entry.channels {
            if channels.by_id.contains_key(name) {
                existing.push(name.clone());
                continue;
            }
            let remedy = match nearest(name, channels.by_id.keys().map(String::as_str)) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "add the channel to channels_config.json".to_owned(),
            };
            problems.error(spot, "names a channel that does not exist", remedy);
        }
        if !existing.is_empty() {
            let super::keys::Entry { id, active, tags, description, .. } = entry;
            let (id, tags, description) = (id.clone(), tags.clone(), description.clone());
            let key = ProxyKey { id, active: *active, channels: existing, tags, description };
            by_digest.insert(entry.digest, Arc::new(key));
        }
    }
    let config = Config { gateway: gateway.clone(), channels: channels.by_id.clone(), keys: Keys { by_digest } };
    (config, problems.into_vec())
}

fn part<T>(file: &Path, read: impl FnOnce(&[u8]) -> Part<T>) -> Part<T> {
    match bytes(file) {
        Ok(Some(bytes)) => read(&bytes),
        Ok(None) => Part { value: None, problems: vec![missing(file)] },
        Err(problem) => Part { value: None, problems: vec![*problem] },
    }
}

/// A file that must be there and is not.
pub fn missing(file: &Path) -> Problem {
    // `init` adds the folder's name by itself.
    let dir = file.parent().and_then(Path::parent).filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let remedy = format!("write it, or let `aiproxy-host init {}` write an example", dir.display());
    unreadable(file, "does not exist".to_owned(), &remedy)
}

/// A file's bytes; none if there is no such file. What cannot be read is a problem of the file.
pub fn bytes(file: &Path) -> Result<Option<Vec<u8>>, Box<Problem>> {
    match regular(file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(fault) if fault.kind() == ErrorKind::NotFound => Ok(None),
        Err(fault) if fault.kind() == ErrorKind::FileTooLarge => {
            Err(Box::new(unreadable(file, "is larger than 32 MiB".to_owned(), "check that it is the right file")))
        }
        Err(fault) => {
            Err(Box::new(unreadable(file, format!("cannot be read: {fault}"), "check the file and its permissions")))
        }
    }
}

/// The bytes of a regular file that is not larger than any configuration needs.
pub(super) fn regular(file: &Path) -> std::io::Result<Vec<u8>> {
    // Before it is opened: opening a named pipe waits for a writer.
    if !std::fs::metadata(file)?.is_file() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

fn unreadable(file: &Path, what: String, remedy: &str) -> Problem {
    let mut problems = Problems::of(file);
    problems.error(&Spot { place: String::new(), position: None }, what, remedy);
    problems.into_vec().remove(0)
}
