//! The configuration files of a running gateway: each keeps its own last good version.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;

use crate::config::load::{self, Channels, KeyList, Part, Sources};
use crate::config::problem::{Problem, Severity};
use crate::config::{Channel, Config, Gateway};
use crate::digest::{hex, sha256};
use crate::generation::renewal::Renewal;
use crate::generation::{Depth, FileStatus, State};

/// Size, times and identity: what changes when a file is written or replaced, on a clock that ticks fast enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    bytes: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
    inode: (u64, u64),
}

impl Fingerprint {
    pub fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata: Metadata| Self {
            bytes: metadata.len(),
            modified_ns: (metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: (metadata.ctime(), metadata.ctime_nsec()),
            inode: (metadata.dev(), metadata.ino()),
        })
    }
}

const GONE: &str = "the file is gone; its last good version serves";

pub struct Conf {
    channels: Watched<Channels>,
    keys: Watched<KeyList>,
    gateway: Watched<Gateway>,
    /// Of the gateway.json that serves.
    certificate: Renewal,
    /// What keys and channels say of each other.
    discord: Vec<Problem>,
}

/// One file.
struct Watched<T> {
    path: PathBuf,
    fingerprint: Option<Fingerprint>,
    /// What was read last, good or bad; absent before the first look and where there is no file.
    seen: Option<[u8; 32]>,
    good: Option<Good<T>>,
    /// Read well, but not yet known to fit the rest.
    candidate: Option<Good<T>>,
    /// Read well, but did not fit the rest; it is tried again when the rest changes.
    refused: Option<Good<T>>,
    error: Option<String>,
}

#[derive(Clone)]
struct Good<T> {
    digest: Option<[u8; 32]>,
    value: T,
    warnings: Vec<String>,
}

impl Conf {
    pub fn new(folder: &Path) -> Self {
        let sources = Sources::under(folder);
        Self {
            channels: Watched::new(sources.channels),
            keys: Watched::new(sources.keys),
            gateway: Watched::new(sources.gateway),
            certificate: Renewal::default(),
            discord: Vec::new(),
        }
    }

    /// All three, or everything that is wrong.
    pub fn first(&mut self) -> (Option<Config>, Vec<Problem>) {
        let mut problems = self.read(Depth::All);
        for file in [&self.channels.path, &self.keys.path] {
            if !file.exists() {
                problems.push(load::missing(file));
            }
        }
        self.accept();
        let (Some(channels), Some(keys)) = (&self.channels.good, &self.keys.good) else { return (None, problems) };
        let (config, discord) = load::combine(&channels.value, &keys.value, &self.newest_gateway());
        problems.extend(discord);
        let is_sound = problems.iter().all(|problem| problem.severity == Severity::Warning);
        (is_sound.then_some(config), problems)
    }

    /// Looks for changes; what is broken is noted and left out. True when something new may come to serve.
    pub fn scan(&mut self, depth: Depth) -> bool {
        for problem in self.read(depth) {
            if problem.severity == Severity::Error {
                tracing::error!("{problem}; the last good version of this file serves on");
            } else {
                tracing::warn!("{problem}");
            }
        }
        self.channels.candidate.is_some() || self.gateway.candidate.is_some()
    }

    fn read(&mut self, depth: Depth) -> Vec<Problem> {
        let env = |name: &str| std::env::var(name).ok();
        let mut problems = self.channels.scan(depth, |bytes, path| load::channels(bytes, path, &env));
        problems.extend(self.keys.scan(depth, load::keys));
        self.certificate.scan(depth);
        if self.gateway.is_unsound() {
            // It names other files: what was wrong with it may have been mended there.
            self.gateway.seen = None;
        }
        let certificate = self.certificate.serving();
        problems.extend(self.gateway.scan(depth, |bytes, path| load::gateway_again(bytes, path, &env, certificate)));
        // Keys fit whatever the others say: a revoked one waits for nothing.
        self.keys.accept();
        problems
    }

    /// Absent: the file was never good.
    pub fn parsed_channels(&self) -> Option<IndexMap<String, Arc<Channel>>> {
        self.channels.newest().map(|channels| channels.value.by_id.clone())
    }

    pub fn newest_channels(&self) -> IndexMap<String, Arc<Channel>> {
        self.parsed_channels().unwrap_or_default()
    }

    pub fn refused_channels(&self) -> IndexMap<String, Arc<Channel>> {
        self.channels.refused.as_ref().map(|refused| refused.value.by_id.clone()).unwrap_or_default()
    }

    /// A gateway.json that does not exist means its defaults.
    pub fn newest_gateway(&self) -> Gateway {
        self.gateway.newest().map(|gateway| gateway.value.clone()).unwrap_or_default()
    }

    /// The newest versions fit together.
    pub fn accept(&mut self) {
        self.channels.accept();
        self.gateway.accept();
        self.certificate.follow(self.gateway.good.as_ref().and_then(|good| good.value.tls.as_ref()));
    }

    /// The new channels file does not work; false when there is no new one.
    pub fn refuse_channels(&mut self, reason: &str) -> bool {
        self.channels.refuse_candidate(reason)
    }

    /// The new gateway.json does not work; false when there is no new one.
    pub fn refuse_gateway(&mut self, reason: &str) -> bool {
        self.gateway.refuse_candidate(reason)
    }

    /// Something changed: what did not fit before may fit now.
    pub fn reconsider(&mut self) {
        self.channels.reconsider();
        self.gateway.reconsider();
    }

    pub fn reconsider_channels(&mut self) {
        self.channels.reconsider();
    }

    /// The good versions together.
    pub fn combined(&mut self) -> Option<Config> {
        let (channels, keys) = (self.channels.good.as_ref()?, self.keys.good.as_ref()?);
        let mut gateway = self.gateway.good.as_ref().map(|good| good.value.clone()).unwrap_or_default();
        gateway.tls = self.certificate.serving().cloned();
        let (config, discord) = load::combine(&channels.value, &keys.value, &gateway);
        if discord != self.discord {
            for problem in &discord {
                tracing::warn!("{problem}");
            }
            self.discord = discord;
        }
        Some(config)
    }

    pub fn status(&self) -> Vec<FileStatus> {
        let mut keys = self.keys.status(State::Refused);
        keys.warnings.extend(self.discord.iter().map(ToString::to_string));
        let mut files = vec![self.channels.status(State::Refused), keys, self.gateway.status(State::Absent)];
        files.extend(self.certificate.status());
        files
    }

    /// Beyond the configuration's own: where it names files that change.
    pub fn folders(&self) -> impl Iterator<Item = PathBuf> {
        self.certificate.folders()
    }
}

impl<T> Watched<T> {
    fn new(path: PathBuf) -> Self {
        Self { path, fingerprint: None, seen: None, good: None, candidate: None, refused: None, error: None }
    }

    fn newest(&self) -> Option<&Good<T>> {
        self.candidate.as_ref().or(self.good.as_ref())
    }

    /// What is there was refused for what it says, and not for what it does not fit.
    fn is_unsound(&self) -> bool {
        self.error.is_some() && self.candidate.is_none() && self.refused.is_none()
    }

    fn accept(&mut self) {
        if let Some(candidate) = self.candidate.take() {
            self.good = Some(candidate);
            self.error = None;
        }
    }

    fn refuse_candidate(&mut self, reason: &str) -> bool {
        let Some(candidate) = self.candidate.take() else { return false };
        self.refused = Some(candidate);
        if self.error.as_deref() != Some(reason) {
            tracing::error!("{}: {reason}; the last good version of this file serves on", self.path.display());
        }
        self.error = Some(reason.to_owned());
        true
    }

    fn reconsider(&mut self) {
        if self.candidate.is_none() {
            self.candidate = self.refused.take();
        }
    }

    /// Reads the file where it changed, and gives what is wrong with it.
    fn scan(&mut self, depth: Depth, parse: impl FnOnce(&[u8], &Path) -> Part<T>) -> Vec<Problem> {
        let fingerprint = Fingerprint::of(&self.path);
        if depth == Depth::Changed && self.seen.is_some() && fingerprint == self.fingerprint {
            return Vec::new();
        }
        self.fingerprint = fingerprint;
        let bytes = match load::bytes(&self.path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return self.gone(),
            Err(problem) => {
                // The same bytes, once they can be read, are news again.
                self.seen = None;
                return self.refuse(vec![*problem]);
            }
        };
        let digest = sha256(&bytes);
        if self.seen.replace(digest) == Some(digest) {
            return Vec::new();
        }
        (self.candidate, self.refused) = (None, None);
        let part = parse(&bytes, &self.path);
        match part.value {
            Some(value) => {
                let warnings = part.problems.iter().map(ToString::to_string).collect();
                self.candidate = Some(Good { digest: Some(digest), value, warnings });
                part.problems
            }
            None => self.refuse(part.problems),
        }
    }

    fn gone(&mut self) -> Vec<Problem> {
        (self.seen, self.candidate, self.refused) = (None, None, None);
        if self.good.is_some() {
            if self.error.as_deref() != Some(GONE) {
                tracing::error!("{} is gone; its last good version serves on", self.path.display());
            }
            self.error = Some(GONE.to_owned());
        } else {
            // It may be missing, and what was wrong with it went with it.
            self.error = None;
        }
        Vec::new()
    }

    /// Notes what is wrong, and gives it where that is news.
    fn refuse(&mut self, problems: Vec<Problem>) -> Vec<Problem> {
        (self.candidate, self.refused) = (None, None);
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
        let error = errors.map(ToString::to_string).collect::<Vec<_>>().join("\n");
        if self.error.replace(error.clone()) == Some(error) { Vec::new() } else { problems }
    }

    fn status(&self, without_file: State) -> FileStatus {
        let state = match (&self.error, &self.good) {
            (Some(_), _) => State::Refused,
            (None, Some(_)) => State::Active,
            (None, None) => without_file,
        };
        FileStatus {
            name: self.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            version: self.good.as_ref().and_then(|good| good.digest).map(|digest| hex(&digest)),
            state,
            last_error: self.error.clone(),
            warnings: self.good.as_ref().map(|good| good.warnings.clone()).unwrap_or_default(),
        }
    }
}
