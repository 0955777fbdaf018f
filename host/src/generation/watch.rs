//! Notices changed files and swaps generations while traffic flows.
//!
//! File-system events are only hints: they are debounced, then everything is scanned again. A scan runs every few
//! seconds without any hint, since network file systems drop events. Folders are watched, not files: editors rename,
//! and Kubernetes swaps a link. Access events are ignored, or a scan would cause the next.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::watch;

use crate::config::Gateway;
use crate::exchange::worker::Shared;
use crate::generation::{Depth, FileStatus, Loader, PluginStatus, State, Status};
use crate::stats::{Level, Registry};
use crate::telemetry;

const RESCAN_INTERVAL: Duration = Duration::from_secs(5);
/// A scan waits until nothing has happened for this long …
const QUIET: Duration = Duration::from_millis(50);
/// … but not longer than this.
const QUIET_MAX: Duration = Duration::from_millis(500);

enum Hint {
    Changed,
    Reload,
    Stop,
}

/// The watching thread; dropping it ends it.
pub struct Watcher {
    hints: Sender<Hint>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// `swapped` is sent the number of each new generation.
    pub fn start(mut loader: Loader, shared: Arc<Shared>, swapped: watch::Sender<u64>) -> anyhow::Result<Self> {
        let (hints, hinted) = channel();
        let events = hints.clone();
        let notifier = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let is_access = matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(_)));
            if !is_access {
                let _ = events.send(Hint::Changed);
            }
        })?;
        let mut watched = Watched { notifier, folders: HashSet::new() };
        watched.follow(loader.folders());
        let thread = std::thread::Builder::new().name("reload".into()).spawn(move || {
            while let Some(depth) = next_scan(&hinted) {
                // A panic here would leave the gateway deaf to every further change, a revoked key among them.
                let Ok(generation) = catch_unwind(AssertUnwindSafe(|| loader.rescan(depth))) else {
                    tracing::error!("a reload ended by a panic; what served before serves on");
                    continue;
                };
                if let Some(generation) = generation {
                    let number = generation.number;
                    apply(&shared.stats, &shared.current.load().config.gateway, &generation.config.gateway);
                    shared.swap(generation);
                    swapped.send_replace(number);
                }
                // After the swap: what is shown as active serves.
                let status = Arc::new(loader.status());
                let before = shared.status.swap(status.clone());
                tell(&shared.stats, &before, &status);
                watched.follow(loader.folders());
            }
        })?;
        Ok(Self { hints, thread: Some(thread) })
    }

    /// Asks for a scan at once.
    pub fn reloader(&self) -> impl Fn() + Send + 'static {
        let hints = self.hints.clone();
        move || {
            let _ = hints.send(Hint::Reload);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.hints.send(Hint::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The folders from which there are events.
struct Watched {
    notifier: notify::RecommendedWatcher,
    folders: HashSet<PathBuf>,
}

impl Watched {
    fn follow(&mut self, folders: impl Iterator<Item = PathBuf>) {
        // By its true name: a folder that is watched under two of them is lost when one is given up.
        let wanted: HashSet<_> = folders.map(|folder| folder.canonicalize().unwrap_or(folder)).collect();
        for folder in self.folders.difference(&wanted) {
            let _ = self.notifier.unwatch(folder);
        }
        for folder in wanted.difference(&self.folders) {
            if let Err(error) = self.notifier.watch(folder, RecursiveMode::NonRecursive) {
                let interval_s = RESCAN_INTERVAL.as_secs();
                tracing::info!(folder = %folder.display(), %error, interval_s, "no events from this folder; it is scanned at intervals");
            }
        }
        self.folders = wanted;
    }
}

/// What of gateway.json concerns no exchange: the log's level and format change now, TLS for those who connect from now
/// on, the rest needs a restart.
fn apply(stats: &Registry, before: &Gateway, now: &Gateway) {
    if before.log != now.log {
        telemetry::apply(&now.log);
    }
    if before.tls.is_some() != now.tls.is_some() {
        let spoken = if now.tls.is_some() { "TLS" } else { "plain HTTP" };
        tracing::info!("gateway.json: new connections speak {spoken}");
    }
    stats.log_requests(now.statistics.request_log_days);
    for (field, has_changed) in [
        ("access_log", before.access_log != now.access_log),
        ("access_log_rotation", before.access_log_rotation != now.access_log_rotation),
        ("trusted_ca", before.trusted_ca != now.trusted_ca),
    ] {
        if has_changed {
            tracing::warn!("gateway.json: a change of `{field}` takes effect at the next start");
        }
    }
}

/// Has people see what changed: what serves now, and what was refused.
fn tell(stats: &Registry, before: &Status, now: &Status) {
    let files = now.files.iter().map(|FileStatus { name, version, state, last_error, .. }| {
        let known = before.files.iter().find(|known| known.name == *name);
        let known = known.map(|known| (&known.version, &known.last_error));
        ("reload", name, version, *state, last_error, known)
    });
    // A plugin out of a file is told as that file.
    let embedded = now.plugins.iter().filter(|plugin| plugin.source == Some("embedded"));
    let plugins = embedded.map(|PluginStatus { name, version, state, last_error, .. }| {
        let known = before.plugins.iter().find(|known| known.name == *name);
        let known = known.map(|known| (&known.version, &known.last_error));
        ("plugin", name, version, *state, last_error, known)
    });
    for (kind, name, version, state, last_error, known) in files.chain(plugins) {
        if known == Some((version, last_error)) {
            continue;
        }
        match (last_error, version) {
            (Some(reason), _) => {
                stats.reloads.refused();
                stats.events.add(Level::Error, kind, name, reason, 1);
            }
            (None, Some(version)) => {
                stats.reloads.accepted();
                let short = version.get(..12).unwrap_or(version);
                stats.events.add(Level::Info, kind, name, &format!("version {short} serves"), 1);
            }
            (None, None) if state == State::Absent && known.is_some() => {
                stats.reloads.accepted();
                stats.events.add(Level::Info, kind, name, "the file is gone; defaults serve", 1);
            }
            (None, None) => {}
        }
    }
    for gone in before.files.iter().filter(|known| !now.files.iter().any(|file| file.name == known.name)) {
        stats.events.add(Level::Info, "reload", &gone.name, "it is used no more", 1);
    }
}

/// Waits for a reason to scan; `None` ends the thread.
fn next_scan(hinted: &Receiver<Hint>) -> Option<Depth> {
    match hinted.recv_timeout(RESCAN_INTERVAL) {
        Err(RecvTimeoutError::Timeout) => return Some(Depth::Changed),
        Ok(Hint::Reload) => return Some(Depth::All),
        Ok(Hint::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
        Ok(Hint::Changed) => {}
    }
    let deadline = Instant::now() + QUIET_MAX;
    while Instant::now() < deadline {
        match hinted.recv_timeout(QUIET) {
            Ok(Hint::Changed) => {}
            Ok(Hint::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
            Ok(Hint::Reload) | Err(RecvTimeoutError::Timeout) => break,
        }
    }
    Some(Depth::All)
}
