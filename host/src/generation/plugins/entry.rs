//! One plugin of a running gateway: what its file holds, what serves, what is on trial, what was refused.

use std::collections::HashSet;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use super::{Part, Wanted};
use crate::digest::{hex, sha256};
use crate::generation::conf::Fingerprint;
use crate::generation::kept::{Kept, short};
use crate::generation::{Depth, State};
use crate::plugin::embedded::{EMBEDDED, ROUTERS};
use crate::plugin::{AnyVersion, Engine, LoadError};

/// The largest known components are Python's, 18 MB.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// One plugin.
#[derive(Default)]
pub struct Entry {
    fingerprint: Option<Fingerprint>,
    /// What was looked at last, good or bad.
    pub seen: Option<([u8; 32], Source)>,
    pub accepted: Option<Loaded>,
    /// When it was, Unix time in seconds.
    pub accepted_at: Option<u64>,
    /// Accepted too, and beside the other on channels that compare.
    pub trial: Option<OnTrial>,
    /// Loads, but not yet known to work for its channels.
    pub candidate: Option<Loaded>,
    /// Loads, but did not work for a channel.
    pub misfit: Option<Loaded>,
    pub error: Option<String>,
}

#[derive(Clone)]
pub struct Loaded {
    pub version: AnyVersion,
    pub source: Source,
}

pub struct OnTrial {
    pub loaded: Loaded,
    /// The channels on which it has passed.
    pub passed: HashSet<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    File,
    Embedded,
    /// An earlier version, out of the state folder.
    Kept,
}

/// Compiled and linked as what it is needed for.
fn load(engine: &Arc<Engine>, wanted: &Wanted<'_>, bytes: &[u8]) -> Result<AnyVersion, LoadError> {
    match wanted.part {
        Part::Channel => engine.load_as(wanted.name, bytes).map(AnyVersion::Channel),
        Part::Router => engine.load_as(wanted.name, bytes).map(AnyVersion::Router),
    }
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Embedded => "embedded",
            Self::Kept => "kept",
        }
    }
}

impl Entry {
    pub fn state(&self) -> State {
        if self.error.is_some() || self.accepted.is_none() { State::Refused } else { State::Active }
    }

    /// The newest version that loads.
    pub fn newest(&self) -> Option<&Loaded> {
        self.candidate.as_ref().or(self.trial.as_ref().map(|trial| &trial.loaded)).or(self.accepted.as_ref())
    }

    /// Forgets what it knows of the file, so that the next scan finds news.
    pub fn forget_file(&mut self) {
        (self.seen, self.fingerprint) = (None, None);
    }

    /// Looks at the file. The error says why it cannot be loaded.
    pub fn scan(
        &mut self,
        engine: &Arc<Engine>,
        kept: &mut Kept,
        wanted: &Wanted<'_>,
        path: &Path,
        depth: Depth,
    ) -> Result<(), String> {
        let fingerprint = Fingerprint::of(path);
        if depth == Depth::Changed && self.seen.is_some() && fingerprint == self.fingerprint {
            return Ok(());
        }
        self.fingerprint = fingerprint;
        let name = wanted.name;
        let history = kept.history(name).clone();
        // Before the file is looked at, whatever is in it, and whether there is one.
        if let (None, Some(pin)) = (&self.accepted, &history.pin) {
            self.accepted = Some(load_kept(engine, kept, wanted, &pin.version).map_err(|reason| {
                let version = short(&pin.version);
                format!("it is pinned to version {version}: {reason}; `aiproxy-host plugin unpin {name}` lifts the pin")
            })?);
        }
        let found = match read(path) {
            Ok(Some(bytes)) => Ok((bytes, Source::File)),
            Ok(None) => {
                if let Some((_, bytes)) = embedded(wanted.part).iter().find(|(known, _)| *known == name) {
                    Ok((bytes.to_vec(), Source::Embedded))
                } else {
                    // Whoever takes a version on trial away wants none of it.
                    self.trial = None;
                    Err(missing(path, wanted.part))
                }
            }
            Err(reason) => Err(reason),
        };
        // The same bytes, once they can be read again, are news.
        let (bytes, source) = found.inspect_err(|_| (self.seen, self.candidate, self.misfit) = (None, None, None))?;
        let digest = sha256(&bytes);
        if self.seen == Some((digest, source)) {
            // Looked at before: it serves, or its refusal stands.
            return Ok(());
        }
        self.seen = Some((digest, source));
        (self.candidate, self.misfit) = (None, None);
        let hash = hex(&digest);
        if history.holds_back(&hash) {
            self.error = None;
            return Ok(());
        }
        if let Some(accepted) = &mut self.accepted
            && accepted.version.hash() == hash
        {
            // Back to what serves.
            accepted.source = source;
            (self.trial, self.error) = (None, None);
            return Ok(());
        }
        if self.trial.as_ref().is_some_and(|trial| trial.loaded.version.hash() == hash) {
            self.error = None;
            return Ok(());
        }
        let version = load(engine, wanted, &bytes).map_err(|refusal| refusal.to_string())?;
        kept.keep(name, &hash, &bytes);
        if self.accepted.is_none() && wanted.is_canary {
            self.accepted = serving_before(engine, kept, wanted, &hash);
        }
        self.candidate = Some(Loaded { version, source });
        Ok(())
    }
}

/// An earlier version out of the state folder.
pub fn load_kept(engine: &Arc<Engine>, kept: &Kept, wanted: &Wanted<'_>, version: &str) -> Result<Loaded, String> {
    let bytes = kept.bytes(wanted.name, version)?;
    let version = load(engine, wanted, &bytes).map_err(|error| error.to_string())?;
    Ok(Loaded { version, source: Source::Kept })
}

/// What served before this start, where the file holds another version and a channel compares: so that a restart does not
/// spare a new version its trial.
fn serving_before(engine: &Arc<Engine>, kept: &mut Kept, wanted: &Wanted<'_>, hash: &str) -> Option<Loaded> {
    let serving = kept.history(wanted.name).serving.clone().filter(|serving| serving != hash)?;
    let loaded = load_kept(engine, kept, wanted, &serving);
    let told = |reason: &String| {
        tracing::warn!(
            plugin = wanted.name,
            version = short(&serving),
            reason,
            "the version that served before cannot be loaded; the new one serves without a trial"
        );
    };
    loaded.inspect_err(told).ok()
}

fn embedded(part: Part) -> &'static [(&'static str, &'static [u8])] {
    match part {
        Part::Channel => EMBEDDED,
        Part::Router => ROUTERS,
    }
}

pub fn missing(path: &Path, part: Part) -> String {
    let names: Vec<_> = embedded(part).iter().map(|(name, _)| *name).collect();
    let (kind, field) = match part {
        Part::Channel => ("default plugin", "the channel's `plugin`"),
        Part::Router => ("default router", "`router.plugin`"),
    };
    format!(
        "there is no file {} and no {kind} of that name (there are: {}); put the file there, or name another with {field}",
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
