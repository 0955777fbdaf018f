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
use super::{Generation, Kept, Loader};
use crate::stats::unix_time_s;

const ASKED: &str = "json";
const ANSWERED: &str = "answer";
/// How often a command looks for its answer.
const PATIENCE: Duration = Duration::from_millis(20);
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
                    Ok(version) => {
                        let message = format!("plugin {plugin}: version {} serves and is pinned", short(&version));
                        Answer::done(message, Some(version))
                    }
                    Err(reason) => Answer::refused(format!("plugin {plugin}: nothing changed: {reason}")),
                };
                (answer, generation)
            }
            Self::Unpin { plugin } => {
                let message = if loader.unpin(plugin) {
                    format!("plugin {plugin}: the pin is lifted; its file counts again")
                } else {
                    format!("plugin {plugin}: there was no pin")
                };
                (Answer::done(message, None), None)
            }
        }
    }

    /// Where no gateway runs: from the next start on.
    pub fn fulfil_offline(&self, kept: &mut Kept) -> Answer {
        match self {
            Self::Rollback { plugin, version } => {
                let history = kept.history(plugin);
                let target = match (version, &history.serving) {
                    (Some(prefix), _) => history.beginning_with(prefix).cloned(),
                    (None, serving) => history
                        .before(serving.as_deref().unwrap_or_default())
                        .cloned()
                        .ok_or_else(|| "no version was accepted before the one that served last".to_owned()),
                };
                let target = target.and_then(|target| kept.bytes(plugin, &target.version).map(|_| target.version));
                match target {
                    Ok(version) => {
                        let since = unix_time_s(SystemTime::now());
                        kept.pin(plugin, Some(Pin { version: version.clone(), since, reason: BY_COMMAND.to_owned() }));
                        let name = short(&version);
                        let message = format!(
                            "plugin {plugin}: version {name} is pinned; no gateway runs, so it serves from the next start on"
                        );
                        Answer::done(message, Some(version))
                    }
                    Err(reason) => Answer::refused(format!("plugin {plugin}: nothing changed: {reason}")),
                }
            }
            Self::Unpin { plugin } => {
                let had_pin = kept.history(plugin).pin.is_some();
                kept.pin(plugin, None);
                let what = if had_pin { "the pin is lifted" } else { "there was no pin" };
                Answer::done(format!("plugin {plugin}: {what}"), None)
            }
        }
    }
}

/// The reason of a pin that a command set.
pub const BY_COMMAND: &str = "rolled back by `aiproxy-host plugin rollback`";

/// Asks the gateway that runs on this folder; `None` if it has not answered in time.
pub fn ask(folder: &Path, wish: &Wish, patience: Duration) -> io::Result<Option<Answer>> {
    let mut id = [0_u8; 8];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(format!("the system gives no random bytes: {error}")))?;
    let name = format!("{:016x}", u64::from_be_bytes(id));
    let (asked, answered) = (file(folder, &name, ASKED), file(folder, &name, ANSWERED));
    kept::write(&asked, &serde_json::to_vec(wish)?)?;
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        match fs::read(&answered) {
            Ok(bytes) => {
                let _ = fs::remove_file(&answered);
                return Ok(Some(serde_json::from_slice(&bytes)?));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => std::thread::sleep(PATIENCE),
            Err(error) => return Err(error),
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
            let wish = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let _ = fs::remove_file(&path);
            if let Some(wish) = wish {
                taken.push((name, wish));
            } else {
                tracing::warn!(path = %path.display(), "a request that cannot be read is thrown away");
            }
            continue;
        }
        let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
        if matches!(age, Ok(Ok(age)) if age > FORGOTTEN) {
            let _ = fs::remove_file(&path);
        }
    }
    taken
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
