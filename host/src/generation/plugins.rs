//! The plugin files of a running gateway, and the default plugins inside the binary where there is no file.
//!
//! A file becomes a candidate when it loads; whether it serves is known only when every channel that names it could be
//! configured with it. A refused file stays out, with its reason, until its bytes change or the channels do. What is
//! accepted is kept ([`Kept`]), and can be brought back; on channels that compare, a new version is first on trial.

mod entry;
mod needed;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::digest::hex;
use crate::generation::kept::{Kept, KeptVersion, Pin, short};
use crate::generation::{Depth, FileStatus, PluginStatus, VersionStatus};
use crate::plugin::{AnyVersion, Engine};
use crate::stats::{Level, unix_time_s};

use self::entry::{Entry, Loaded, OnTrial, Source, load_kept, missing};
pub use self::needed::{Needed, Part, Wanted};

pub struct Plugins {
    folder: PathBuf,
    entries: BTreeMap<String, Entry>,
    kept: Kept,
    /// What people should see, since it was taken last: plugin, message.
    news: Vec<(Level, String, String)>,
}

/// The versions of one plugin that may serve.
pub struct Standing {
    /// What serves without any doubt; absent before the first.
    pub settled: Option<AnyVersion>,
    pub newest: AnyVersion,
    /// Whether the newest has to pass a trial where a channel wants one.
    pub is_tried: bool,
    /// The channels on which it has.
    pub passed: HashSet<String>,
}

/// What a scan found.
#[derive(Default)]
pub struct Scan {
    /// What could not be loaded, by plugin.
    pub failures: Vec<(String, String)>,
    /// Some plugin's bytes are others than before.
    pub has_news: bool,
}

impl Plugins {
    pub fn new(folder: &Path, kept: Kept) -> Self {
        Self { folder: folder.to_owned(), entries: BTreeMap::new(), kept, news: Vec::new() }
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
    pub fn scan(&mut self, engine: &Arc<Engine>, needed: &Needed, depth: Depth) -> Scan {
        let mut scan = Scan::default();
        for wanted in needed.wanted() {
            let (name, path) = (wanted.name, self.path(wanted.name));
            let entry = self.entries.entry(name.to_owned()).or_default();
            let seen = entry.seen;
            if let Err(reason) = entry.scan(engine, &mut self.kept, &wanted, &path, depth) {
                if entry.error.as_ref() != Some(&reason) {
                    let serving = if entry.accepted.is_some() { "; the last good version serves on" } else { "" };
                    tracing::error!(plugin = name, "{}: {reason}{serving}", path.display());
                }
                entry.error = Some(reason.clone());
                // One that serves already serves on, at a start too: a pinned one.
                if entry.accepted.is_none() {
                    scan.failures.push((name.to_owned(), reason));
                }
            }
            scan.has_news |= entry.seen != seen;
        }
        scan
    }

    /// The versions of each plugin that load.
    pub fn standings(&self) -> HashMap<String, Standing> {
        let standing = |entry: &Entry| {
            let newest = entry.newest()?;
            Some(Standing {
                settled: entry.accepted.as_ref().map(|accepted| accepted.version.clone()),
                newest: newest.version.clone(),
                // Who brings an earlier version back wants it back now.
                is_tried: newest.source != Source::Kept,
                passed: match (&entry.candidate, &entry.trial) {
                    (None, Some(trial)) => trial.passed.clone(),
                    _ => HashSet::new(),
                },
            })
        };
        self.entries.iter().filter_map(|(name, entry)| Some((name.clone(), standing(entry)?))).collect()
    }

    /// Every candidate fits; but one that nothing that serves names has shown nothing: its channel was refused.
    /// `is_on_trial`: whether some channel runs two versions of a plugin now; where none does, the newest one serves.
    pub fn accept_candidates(&mut self, serving: &Needed, is_on_trial: impl Fn(&str) -> bool) {
        for (name, entry) in &mut self.entries {
            if let Some(candidate) = entry.candidate.take() {
                if !serving.contains(name) {
                    entry.misfit = Some(candidate);
                    entry.error = Some("the channels file that names it is refused".to_owned());
                    continue;
                }
                entry.misfit = None;
                entry.error = None;
                accepted(&mut self.kept, name, &candidate);
                if is_on_trial(name) {
                    let hash = short(candidate.version.hash());
                    let message = format!("version {hash} is on trial beside the one that serves");
                    self.news.push((Level::Info, name.clone(), message));
                    entry.trial = Some(OnTrial { loaded: candidate, passed: HashSet::new() });
                } else {
                    entry.serves(&mut self.kept, name, candidate);
                }
            } else if !is_on_trial(name)
                // Where no active channel uses the plugin, nothing has been passed; the trial waits.
                && serving.contains(name)
                && let Some(trial) = entry.trial.take()
            {
                let message = format!("version {} has passed its trial and serves", short(trial.loaded.version.hash()));
                self.news.push((Level::Info, name.clone(), message));
                entry.serves(&mut self.kept, name, trial.loaded);
            } else if let Some(accepted) = &entry.accepted {
                self.kept.serves(name, accepted.version.hash());
            }
        }
    }

    /// Goes back to the version that served before; false when there is none, or nothing to go back from.
    pub fn refuse_candidate(&mut self, name: &str, reason: &str) -> bool {
        let Some(entry) = self.entries.get_mut(name) else { return false };
        if entry.accepted.is_none() {
            return false;
        }
        // A version on trial has nothing to do with a newer one that does not fit.
        let refused = entry.candidate.take().or_else(|| entry.trial.take().map(|trial| trial.loaded));
        let Some(candidate) = refused else { return false };
        if entry.error.as_deref() != Some(reason) {
            let version = short(candidate.version.hash());
            tracing::error!(plugin = name, version, "{reason}; the last good version serves on");
        }
        entry.misfit = Some(candidate);
        entry.error = Some(reason.to_owned());
        true
    }

    /// The version on trial is good enough for this channel.
    pub fn passed(&mut self, name: &str, channel: &str) {
        if let Some(trial) = self.entries.get_mut(name).and_then(|entry| entry.trial.as_mut()) {
            trial.passed.insert(channel.to_owned());
        }
    }

    /// The version on trial did worse: it goes, and what served before is held to.
    pub fn withdraw(&mut self, name: &str, channel: &str, why: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let (Some(trial), Some(accepted)) = (entry.trial.take(), &entry.accepted) else { return };
        let version = short(trial.loaded.version.hash());
        let reason = format!("version {version} was withdrawn from its trial on channel {channel}: {why}");
        tracing::error!(plugin = name, "{reason}");
        self.news.push((Level::Error, name.to_owned(), reason.clone()));
        entry.error = Some(reason.clone());
        let pin = entry.pin(accepted.version.hash(), reason);
        if let Err(error) = self.kept.pin(name, Some(pin)) {
            tracing::error!(plugin = name, %error, "the withdrawal cannot be written: a restart would begin the trial anew");
        }
    }

    /// Something changed: versions that did not work before may work now.
    pub fn reconsider(&mut self) {
        for entry in self.entries.values_mut() {
            if let Some(misfit) = entry.misfit.take() {
                entry.candidate.get_or_insert(misfit);
            }
        }
    }

    /// Makes an earlier version the candidate: the one that begins with these digits, or the one before that which serves.
    /// Gives its hash. Whether it serves is known when it has been tried.
    pub fn bring_back(
        &mut self,
        engine: &Arc<Engine>,
        needed: &Needed,
        name: &str,
        version: Option<&str>,
    ) -> Result<String, String> {
        let wanted = needed.wanted().find(|wanted| wanted.name == name);
        let unknown = self.unknown(name);
        let (Some(wanted), Some(entry)) = (wanted, self.entries.get_mut(name)) else { return Err(unknown) };
        let history = self.kept.history(name);
        let serving = entry.accepted.as_ref().map(|accepted| accepted.version.hash());
        let target = match (version, &entry.trial, serving) {
            (Some(prefix), ..) => history.beginning_with(prefix)?.version.clone(),
            (None, Some(_), Some(serving)) => serving.to_owned(),
            (None, _, serving) => {
                let before = history.before(serving.unwrap_or_default());
                before.ok_or("no version was accepted before the one that serves")?.version.clone()
            }
        };
        if serving == Some(&target) {
            entry.trial = None;
        } else {
            // What is on trial goes when this one is accepted.
            entry.candidate = Some(load_kept(engine, &self.kept, &wanted, &target)?);
        }
        Ok(target)
    }

    /// Whether what was brought back serves; then it is pinned. Gives why a restart would forget that, if it would.
    pub fn brought_back(&mut self, name: &str, target: &str, reason: &str) -> Result<Option<String>, String> {
        let Some(entry) = self.entries.get_mut(name) else { return Err(format!("plugin {name} is used no more")) };
        if entry.accepted.as_ref().is_none_or(|accepted| accepted.version.hash() != target) {
            // It shall not come back by itself when something else changes.
            entry.misfit = None;
            return Err(entry.error.take().unwrap_or_else(|| "it does not work for a channel".to_owned()));
        }
        (entry.error, entry.misfit) = (None, None);
        let pin = entry.pin(target, reason.to_owned());
        let forgotten = self.kept.pin(name, Some(pin)).err().map(|error| error.to_string());
        let message = format!("version {} was brought back, and is pinned ({reason})", short(target));
        self.news.push((Level::Warn, name.to_owned(), message));
        Ok(forgotten)
    }

    /// The file counts again; true if there was a pin.
    pub fn unpin(&mut self, name: &str) -> Result<bool, String> {
        if !self.entries.contains_key(name) {
            return Err(self.unknown(name));
        }
        let had_pin = self.kept.history(name).pin.is_some();
        self.kept.pin(name, None).map_err(|error| format!("the history cannot be written: {error}"))?;
        if let Some(entry) = self.entries.get_mut(name).filter(|_| had_pin) {
            entry.forget_file();
            self.news.push((Level::Info, name.to_owned(), "the pin is lifted; the file counts again".to_owned()));
        }
        Ok(had_pin)
    }

    fn unknown(&self, name: &str) -> String {
        let names: Vec<_> = self.entries.keys().map(String::as_str).collect();
        format!("nothing uses a plugin {name}; there are: {}", names.join(", "))
    }

    /// Forgets plugins that nothing names.
    pub fn retain(&mut self, is_used: impl Fn(&str) -> bool) {
        self.entries.retain(|name, _| is_used(name));
    }

    pub fn why_missing(&self, name: &str, part: Part) -> String {
        let entry = self.entries.get(name);
        entry.and_then(|entry| entry.error.clone()).unwrap_or_else(|| missing(&self.path(name), part))
    }

    pub fn take_news(&mut self) -> Vec<(Level, String, String)> {
        std::mem::take(&mut self.news)
    }

    pub fn status(&self, users: impl Fn(&str) -> Vec<String>) -> Vec<PluginStatus> {
        let status = |(name, entry): (&String, &Entry)| {
            let hash_of = |loaded: &Loaded| loaded.version.hash().to_owned();
            let version = entry.accepted.as_ref().map(hash_of);
            let trial = entry.trial.as_ref().map(|trial| hash_of(&trial.loaded));
            let history = self.kept.known(name);
            let shown = |kept: &KeptVersion| VersionStatus {
                serves: version.as_ref() == Some(&kept.version),
                on_trial: trial.as_ref() == Some(&kept.version),
                kept: kept.clone(),
            };
            PluginStatus {
                name: name.clone(),
                source: entry.accepted.as_ref().map(|loaded| loaded.source.as_str()),
                interface: entry.accepted.as_ref().map(|loaded| loaded.version.interface()),
                state: entry.state(),
                last_error: entry.error.clone(),
                loaded_at: entry.accepted.as_ref().and(entry.accepted_at),
                channels: users(name),
                pin: history.and_then(|history| history.pin.clone()),
                versions: history.iter().flat_map(|history| history.versions.iter().rev()).map(shown).collect(),
                version,
                trial,
            }
        };
        self.entries.iter().map(status).collect()
    }

    /// Whether what is in the file does not serve because of a pin.
    fn held_back(&self, name: &str, entry: &Entry) -> Option<String> {
        let (digest, _) = entry.seen?;
        let history = self.kept.known(name)?;
        let pinned = short(&history.pin.as_ref()?.version);
        let is_held_back = history.holds_back(&hex(&digest));
        is_held_back.then(|| format!("what is in the file does not serve: version {pinned} is pinned"))
    }

    pub fn file_status(&self) -> Vec<FileStatus> {
        let of_file = |(name, entry): (&String, &Entry)| {
            let is_file = entry.seen.is_some_and(|(_, source)| source == Source::File) || entry.error.is_some();
            is_file.then(|| FileStatus {
                name: format!("{name}.wasm"),
                version: entry.accepted.as_ref().map(|loaded| loaded.version.hash().to_owned()),
                state: entry.state(),
                last_error: entry.error.clone(),
                warnings: self.held_back(name, entry).into_iter().collect(),
            })
        };
        self.entries.iter().filter_map(of_file).collect()
    }
}

impl Entry {
    fn pin(&self, version: &str, reason: String) -> Pin {
        let file = self.seen.map(|(digest, _)| hex(&digest));
        Pin { version: version.to_owned(), since: unix_time_s(SystemTime::now()), reason, file }
    }

    fn serves(&mut self, kept: &mut Kept, name: &str, loaded: Loaded) {
        let hash = loaded.version.hash();
        tracing::info!(plugin = name, version = short(hash), "a plugin version is accepted");
        kept.serves(name, hash);
        self.accepted = Some(loaded);
        self.accepted_at = Some(unix_time_s(SystemTime::now()));
        self.trial = None;
    }
}

/// Into the history; one that is new there lifts the pin. What came out of it stays where it is.
fn accepted(kept: &mut Kept, name: &str, loaded: &Loaded) {
    if loaded.source == Source::Kept {
        return;
    }
    let version = &loaded.version;
    if kept.history(name).find(version.hash()).is_none()
        && let Err(error) = kept.pin(name, None)
    {
        tracing::warn!(plugin = name, %error, "a pin was lifted, which cannot be written");
    }
    kept.accept(
        name,
        KeptVersion {
            version: version.hash().to_owned(),
            accepted_at: unix_time_s(SystemTime::now()),
            interface: version.interface().to_owned(),
            bytes: version.bytes() as u64,
            source: loaded.source.as_str().to_owned(),
        },
    );
}
