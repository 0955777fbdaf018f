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

use anyhow::Context;
use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::{oneshot, watch};

use crate::config::Gateway;
use crate::exchange::worker::Shared;
use crate::generation::kept::short;
use crate::generation::requests::{self, Answer, Wish};
use crate::generation::{Depth, FileStatus, Generation, Loader, PluginStatus, State, Status};
use crate::stats::{Level, Registry};
use crate::telemetry;

const RESCAN_INTERVAL: Duration = Duration::from_secs(5);
/// A scan waits until nothing has happened for this long …
const QUIET: Duration = Duration::from_millis(50);
/// … but not longer than this.
const QUIET_MAX: Duration = Duration::from_millis(500);

/// How often trials are looked at, while there are any.
const TRIAL_INTERVAL: Duration = Duration::from_millis(200);

enum Hint {
    Changed,
    Reload,
    Wish(Wish, oneshot::Sender<Answer>),
    Stop,
}

/// What to do next.
enum Task {
    Scan(Depth),
    Judge,
    Fulfil(Wish, oneshot::Sender<Answer>),
}

/// The watching thread; dropping it ends it.
pub struct Watcher {
    hints: Sender<Hint>,
    thread: Option<JoinHandle<()>>,
}

/// Asks the watching thread.
pub struct Wisher(Sender<Hint>);

impl Wisher {
    /// `None`: the gateway is being stopped.
    pub async fn ask(&self, wish: Wish) -> Option<Answer> {
        let (promise, answer) = oneshot::channel();
        self.0.send(Hint::Wish(wish, promise)).ok()?;
        answer.await.ok()
    }
}

impl Watcher {
    /// `requests`: the folder in which commands ask. `swapped` is sent the number of each new generation.
    pub fn start(
        loader: Loader,
        requests: PathBuf,
        shared: Arc<Shared>,
        swapped: watch::Sender<u64>,
    ) -> anyhow::Result<Self> {
        let (hints, hinted) = channel();
        let events = hints.clone();
        let notifier = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.as_ref().map_or(true, is_of_interest) {
                let _ = events.send(Hint::Changed);
            }
        })?;
        std::fs::create_dir_all(&requests).with_context(|| format!("cannot make {}", requests.display()))?;
        let _ = shared.wisher.set(Wisher(hints.clone()));
        let watched = Watched { notifier, folders: HashSet::new() };
        let mut watching = Watching { loader, requests, shared, swapped, watched };
        watching.follow();
        let thread = std::thread::Builder::new().name("reload".into()).spawn(move || watching.run(&hinted))?;
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

/// What the thread has.
struct Watching {
    loader: Loader,
    requests: PathBuf,
    shared: Arc<Shared>,
    swapped: watch::Sender<u64>,
    watched: Watched,
}

impl Watching {
    fn run(mut self, hinted: &Receiver<Hint>) {
        let mut scan_due = Instant::now() + RESCAN_INTERVAL;
        while let Some(task) = next_task(hinted, scan_due, self.loader.has_trials()) {
            match task {
                Task::Scan(_) => scan_due = Instant::now() + RESCAN_INTERVAL,
                // A change that was about to be looked at may have been put off for it.
                Task::Fulfil(..) => scan_due = Instant::now(),
                Task::Judge => {}
            }
            // A panic here would leave the gateway deaf to every further change, a revoked key among them.
            let performed = catch_unwind(AssertUnwindSafe(|| {
                self.perform(task);
                // Not only when nothing else happens: something may happen all the time.
                if self.loader.has_trials() {
                    self.perform(Task::Judge);
                }
            }));
            if performed.is_err() {
                tracing::error!("a reload ended by a panic; what served before serves on");
            }
        }
    }

    fn perform(&mut self, task: Task) {
        match task {
            Task::Scan(depth) => {
                for (name, wish) in requests::take(&self.requests) {
                    let answer = self.fulfil(&wish, requests::BY_COMMAND);
                    requests::answer(&self.requests, &name, &answer);
                }
                let generation = self.loader.rescan(depth);
                self.swap(generation);
            }
            Task::Judge => {
                let generation = self.loader.judge_trials();
                if generation.is_none() {
                    return;
                }
                self.swap(generation);
            }
            Task::Fulfil(wish, promise) => {
                let answer = self.fulfil(&wish, BY_ROUTE);
                let _ = promise.send(answer);
            }
        }
    }

    fn fulfil(&mut self, wish: &Wish, reason: &str) -> Answer {
        // What has landed before was meant to be there: going back counts from it.
        let generation = self.loader.rescan(Depth::All);
        self.swap(generation);
        let (answer, generation) = wish.fulfil(&mut self.loader, reason);
        self.swap(generation);
        if matches!(wish, Wish::Unpin { .. }) {
            let generation = self.loader.rescan(Depth::All);
            self.swap(generation);
        }
        answer
    }

    /// Makes the generation, where there is one, the current one; and has everything shown as it is now.
    fn swap(&mut self, generation: Option<Arc<Generation>>) {
        let Self { loader, shared, swapped, .. } = self;
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
        for (level, plugin, message) in loader.take_news() {
            shared.stats.events.add(level, "plugin", &plugin, &message, 1);
        }
        self.follow();
    }

    fn follow(&mut self) {
        self.watched.follow(self.loader.folders().chain([self.requests.clone()]));
    }
}

/// Access events are none of a change, and a log may lie in a watched folder, where it changes all the time.
fn is_of_interest(event: &notify::Event) -> bool {
    let is_log = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".log") || name.contains(".log.")
    };
    let is_logs_alone = !event.paths.is_empty() && event.paths.iter().all(is_log);
    !matches!(event.kind, EventKind::Access(_)) && !is_logs_alone
}

/// The reason of a pin that was set on the admin route.
const BY_ROUTE: &str = "rolled back on the admin route";

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
                let short = short(version);
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

/// Waits for a reason to do something; `None` ends the thread.
fn next_task(hinted: &Receiver<Hint>, scan_due: Instant, has_trials: bool) -> Option<Task> {
    let until_scan = scan_due.saturating_duration_since(Instant::now());
    let patience = if has_trials { TRIAL_INTERVAL.min(until_scan) } else { until_scan };
    match hinted.recv_timeout(patience) {
        Err(RecvTimeoutError::Timeout) if patience < until_scan => return Some(Task::Judge),
        Err(RecvTimeoutError::Timeout) => return Some(Task::Scan(Depth::Changed)),
        Ok(Hint::Reload) => return Some(Task::Scan(Depth::All)),
        Ok(Hint::Wish(wish, promise)) => return Some(Task::Fulfil(wish, promise)),
        Ok(Hint::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
        Ok(Hint::Changed) => {}
    }
    let deadline = Instant::now() + QUIET_MAX;
    while Instant::now() < deadline {
        match hinted.recv_timeout(QUIET) {
            Ok(Hint::Changed) => {}
            Ok(Hint::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
            Ok(Hint::Wish(wish, promise)) => return Some(Task::Fulfil(wish, promise)),
            Ok(Hint::Reload) | Err(RecvTimeoutError::Timeout) => break,
        }
    }
    Some(Task::Scan(Depth::All))
}
