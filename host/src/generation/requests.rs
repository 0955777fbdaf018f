//! What people ask of a running gateway about its plugins: on its admin route, or with a command on the same machine.
//!
//! The command writes a file into `STATE/requests`, which the gateway watches, and waits for the answer beside it. Who may
//! write there is the gateway's own user, so no token is needed.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::kept::{self, Pin, short};
use super::{Generation, Kept, Loader, RolledBack};
use crate::stats::unix_time_s;

const ASKED: &str = "json";
const ANSWERED: &str = "answer";
/// How often a command looks for its answer.
const PATIENCE: Duration = Duration::from_millis(20);
/// Nobody may run on the folder any more, or not yet: whoever asks looks again.
const UNTAKEN: Duration = Duration::from_secs(2);
/// A request that is older is not carried out; the command has waited for less.
const STALE: Duration = Duration::from_mins(2);
/// An answer that nobody has fetched for so long is thrown away.
const FORGOTTEN: Duration = Duration::from_mins(10);

/// About one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Wish {
    /// To the version whose hash begins so, or to the one before that which serves.
    Rollback { plugin: String, version: Option<String> },
    /// Its file shall count again.
    Unpin { plugin: String },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub done: bool,
    /// What serves now, or why nothing changed.
    pub message: String,
    /// The version that is pinned now.
    pub version: Option<String>,
}

impl Answer {
    fn done(message: String, version: Option<String>) -> Self {
        Self { done: true, message, version }
    }

    pub fn refused(message: String) -> Self {
        Self { done: false, message, version: None }
    }
}

impl Wish {
    /// On a running gateway. A generation, where another one serves then.
    pub fn fulfil(&self, loader: &mut Loader, reason: &str) -> (Answer, Option<std::sync::Arc<Generation>>) {
        match self {
            Self::Rollback { plugin, version } => {
                let (moved, generation) = loader.roll_back(plugin, version.as_deref(), reason);
                let answer = match moved {
                    Ok(RolledBack { version, forgotten }) => {
                        let what = format!("plugin {plugin}: version {} serves and is pinned", short(&version));
                        let but =
                            |reason| format!("; but that cannot be written ({reason}): a restart would forget it");
                        let message = what + &forgotten.map(but).unwrap_or_default();
                        Answer::done(message, Some(version))
                    }
                    Err(reason) => Answer::refused(format!("plugin {plugin}: nothing changed: {reason}")),
                };
                (answer, generation)
            }
            Self::Unpin { plugin } => {
                let answer = match loader.unpin(plugin) {
                    Ok(true) => {
                        Answer::done(format!("plugin {plugin}: the pin is lifted; its file counts again"), None)
                    }
                    Ok(false) => Answer::done(format!("plugin {plugin}: there was no pin"), None),
                    Err(reason) => Answer::refused(format!("plugin {plugin}: nothing changed: {reason}")),
                };
                (answer, None)
            }
        }
    }

    /// Where no gateway runs: from the next start on.
    pub fn fulfil_offline(&self, kept: &mut Kept) -> Answer {
        let (Self::Rollback { plugin, .. } | Self::Unpin { plugin }) = self;
        if kept.history(plugin).versions.is_empty() {
            return Answer::refused(format!("nothing is kept of a plugin {plugin}"));
        }
        let done = match self {
            Self::Rollback { version, .. } => pin_offline(kept, plugin, version.as_deref()).map(|version| {
                let name = short(&version);
                let message = format!(
                    "plugin {plugin}: version {name} is pinned; no gateway runs, so it serves from the next start on"
                );
                Answer::done(message, Some(version))
            }),
            Self::Unpin { .. } => {
                let what = if kept.history(plugin).pin.is_some() { "the pin is lifted" } else { "there was no pin" };
                let lifted = kept.pin(plugin, None).map_err(|error| error.to_string());
                lifted.map(|()| Answer::done(format!("plugin {plugin}: {what}"), None))
            }
        };
        done.unwrap_or_else(|reason| Answer::refused(format!("plugin {plugin}: nothing changed: {reason}")))
    }
}

fn pin_offline(kept: &mut Kept, plugin: &str, version: Option<&str>) -> Result<String, String> {
    let history = kept.history(plugin);
    let serving = history.serving.as_deref().unwrap_or_default();
    // The newest does not serve, and nothing is pinned: it was on trial beside the one that did.
    let is_tried = history.pin.is_none() && history.versions.last().is_some_and(|newest| newest.version != serving);
    let target = match version {
        Some(prefix) => history.beginning_with(prefix)?,
        None => match history.find(serving).filter(|_| is_tried) {
            Some(settled) => settled,
            None => history.before(serving).ok_or("no version was accepted before the one that served last")?,
        },
    };
    let version = target.version.clone();
    kept.bytes(plugin, &version)?;
    let since = unix_time_s(SystemTime::now());
    let pin = Pin { version: version.clone(), since, reason: BY_COMMAND.to_owned(), file: None };
    kept.pin(plugin, Some(pin)).map_err(|error| format!("the history cannot be written: {error}"))?;
    Ok(version)
}

/// The reason of a pin that a command set.
pub const BY_COMMAND: &str = "rolled back by `aiproxy-host plugin rollback`";

/// Asks the gateway that runs on this folder; `None` if it has not answered in time, or nobody takes the request: then it is
/// withdrawn.
pub fn ask(folder: &Path, wish: &Wish, patience: Duration) -> io::Result<Option<Answer>> {
    let mut id = [0_u8; 8];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(format!("the system gives no random bytes: {error}")))?;
    let name = format!("{:016x}", u64::from_be_bytes(id));
    let (asked, answered) = (file(folder, &name, ASKED), file(folder, &name, ANSWERED));
    kept::write(&asked, &serde_json::to_vec(wish)?)?;
    let asked_at = Instant::now();
    let deadline = asked_at + patience;
    while Instant::now() < deadline {
        match fs::read(&answered) {
            Ok(bytes) => {
                let _ = fs::remove_file(&answered);
                return Ok(Some(serde_json::from_slice(&bytes)?));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => std::thread::sleep(PATIENCE),
            Err(error) => return Err(error),
        }
        // What is still there to be removed has not been taken.
        if asked_at.elapsed() > UNTAKEN && fs::remove_file(&asked).is_ok() {
            return Ok(None);
        }
    }
    let _ = fs::remove_file(&asked);
    Ok(None)
}

/// What has been asked since the last look, in no particular order; each is taken once.
pub fn take(folder: &Path) -> Vec<(String, Wish)> {
    let mut taken = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if path.extension().is_some_and(|extension| extension == ASKED) {
            // Who asked has given up long ago, and may have asked again.
            let is_stale = age(&entry).is_some_and(|age| age > STALE);
            let wish = kept::read_file(&path).ok().filter(|_| !is_stale);
            let wish = wish.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let _ = fs::remove_file(&path);
            if let Some(wish) = wish {
                taken.push((name, wish));
            } else {
                tracing::warn!(path = %path.display(), "a request that is stale, or cannot be read, is thrown away");
            }
            continue;
        }
        if age(&entry).is_some_and(|age| age > FORGOTTEN) {
            let _ = fs::remove_file(&path);
        }
    }
    taken
}

fn age(entry: &fs::DirEntry) -> Option<Duration> {
    entry.metadata().ok()?.modified().ok()?.elapsed().ok()
}

pub fn answer(folder: &Path, name: &str, answer: &Answer) {
    let json = serde_json::to_vec(answer).expect("an answer is plain data");
    if let Err(error) = kept::write(&file(folder, name, ANSWERED), &json) {
        tracing::warn!(%error, "an answer to a command cannot be written");
    }
}

fn file(folder: &Path, name: &str, extension: &str) -> PathBuf {
    folder.join(name).with_extension(extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish::Rollback { plugin: "p".into(), version: None }
    }

    #[test]
    fn a_wish_is_taken_once_and_answered_to_who_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let asking = std::thread::spawn(move || ask(&path, &wish(), Duration::from_mins(1)).unwrap());
        let (name, taken) = loop {
            if let Some(taken) = take(folder.path()).pop() {
                break taken;
            }
            std::thread::yield_now();
        };
        assert_eq!(taken, wish());
        assert!(take(folder.path()).is_empty());
        let said = Answer::refused("no".into());
        answer(folder.path(), &name, &said);
        assert_eq!(asking.join().unwrap(), Some(said));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_wish_that_nobody_takes_is_withdrawn_and_one_that_cannot_be_read_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(ask(folder.path(), &wish(), Duration::ZERO).unwrap(), None);
        fs::write(folder.path().join("x.json"), b"{\"action\": \"explode\"}").unwrap();
        assert!(take(folder.path()).is_empty());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
