//! Writes the statistics to their file, on a thread of its own: whatever the disk does, nobody else waits for it.
//!
//! A file that cannot be used (broken, or another program's) is moved aside and a new one begun, into which everything
//! that is in memory is written anew; a disk that is full or gone is tried again. Nothing is lost by either but what
//! happens before the process ends.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::SystemTime;

use super::database::{Batch, Database, DatabaseError};
use super::events::Event;
use super::store::Store;

/// What the names of SQLite's own files end in.
const LOGS: [&str; 2] = ["-wal", "-shm"];

pub struct Recorder {
    path: PathBuf,
    open: Option<Database>,
    /// What was seen of the files last: one that was deleted or spoiled from outside can still be written, and nobody
    /// would ever see that.
    seen: Option<Seen>,
    /// The file is new, and everything is still to be written.
    wants_all: bool,
    /// There is a file that could not be read so far: nothing may be written into it before.
    is_unread: bool,
    #[cfg(test)]
    pub pages_max: Option<i64>,
}

/// What came of a write.
#[derive(Debug)]
pub enum Written {
    Done,
    /// Nothing was written: there is a new file, which wants everything. Why the old one was given up, if there was one.
    Afresh(Option<String>),
    /// Nothing was written: what could not be read at the start can be now, and has to be joined with what came since.
    Found(Box<Store>, Vec<Event>),
    /// Nothing was written.
    Failed(String),
}

impl Recorder {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            open: None,
            seen: None,
            wants_all: false,
            is_unread: false,
            #[cfg(test)]
            pages_max: None,
        }
    }

    /// Reads what there is; what is not readable is moved aside. The store may be filled in part after an error.
    pub fn load(&mut self, store: &mut Store) -> Result<Vec<Event>, String> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        let loaded = self.opened().and_then(|database| database.load(store));
        loaded.map_err(|error| {
            self.open = None;
            self.is_unread = !error.is_final();
            if error.is_final() {
                self.set_aside(&error.to_string()).unwrap_or_else(|why| why)
            } else {
                format!("{}: {error}", self.path.display())
            }
        })
    }

    pub fn write(&mut self, batch: &Batch) -> Written {
        if std::mem::take(&mut self.is_unread) && self.path.exists() {
            let mut store = Store::new(super::unix_time_s(SystemTime::now()));
            return match self.load(&mut store) {
                Ok(events) => Written::Found(Box::new(store), events),
                Err(reason) => Written::Failed(reason),
            };
        }
        let mut why = None;
        let found = Seen::of(&self.path);
        let is_same = match (&self.seen, &found) {
            (Some(seen), Some(found)) => found.follows(seen),
            (seen, found) => seen.is_none() && found.is_some(),
        };
        if !is_same {
            // What was written is gone, or something else stands there, whose numbers mean other series.
            self.open = None;
            if self.seen.is_some() && found.is_some() {
                // All that is in them is in memory, and they might spoil the other file.
                for log in self.logs() {
                    let _ = std::fs::remove_file(log);
                }
                match self.set_aside("it was changed or replaced from outside") {
                    Ok(text) => why = Some(text),
                    // Until it can be, it is not ours to write into.
                    Err(text) => return Written::Failed(text),
                }
            } else if self.seen.is_some() {
                why = Some("the statistics file was deleted".to_owned());
            }
            self.seen = None;
            self.wants_all = true;
        }
        let is_too_little = self.wants_all && !batch.is_all;
        let written = match self.opened() {
            Ok(_) if is_too_little => return Written::Afresh(why),
            Ok(database) => database.write(batch),
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => {
                self.wants_all = false;
                self.seen = Seen::of(&self.path);
                Written::Done
            }
            Err(error) => self.failed(&error),
        }
    }

    /// SQLite then puts its log away by itself.
    fn close(&mut self) {
        self.open = None;
        if let Some(seen) = &mut self.seen {
            seen.log = None;
        }
    }

    fn failed(&mut self, error: &DatabaseError) -> Written {
        self.close();
        if !error.is_final() {
            return Written::Failed(error.to_string());
        }
        match self.set_aside(&error.to_string()) {
            Ok(why) => {
                self.seen = None;
                self.wants_all = true;
                match self.opened() {
                    Ok(_) => Written::Afresh(Some(why)),
                    Err(error) => Written::Failed(format!("{why}, which fails: {error}")),
                }
            }
            Err(why) => Written::Failed(why),
        }
    }

    fn opened(&mut self) -> Result<&mut Database, DatabaseError> {
        if self.open.is_none() {
            #[cfg(not(test))]
            let database = Database::open(&self.path)?;
            #[cfg(test)]
            let database = Database::open_within(&self.path, self.pages_max)?;
            self.seen = Seen::of(&self.path);
            self.open = Some(database);
        }
        Ok(self.open.as_mut().expect("it has just been opened"))
    }

    /// SQLite's own, beside the file.
    fn logs(&self) -> [PathBuf; 2] {
        LOGS.map(|suffix| extended(&self.path, suffix))
    }

    /// Keeps the file under another name; says what was done, or why it could not be.
    fn set_aside(&self, reason: &str) -> Result<String, String> {
        let seconds = super::unix_time_s(SystemTime::now());
        let aside = extended(&self.path, &format!(".broken-{seconds}"));
        let moved = std::fs::rename(&self.path, &aside);
        for (log, suffix) in self.logs().into_iter().zip(LOGS) {
            // Of the old file: SQLite would apply it to the new one.
            let _ = std::fs::rename(log, extended(&aside, suffix));
        }
        match moved {
            Ok(()) => Ok(format!(
                "the statistics file cannot be used ({reason}); it is kept as {} and a new one is begun",
                aside.display()
            )),
            Err(fault) => Err(format!("the statistics file cannot be used ({reason}), nor be moved aside ({fault})")),
        }
    }
}

/// The path whose last name goes on so.
fn extended(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What shows from outside whether the files are still those that were written.
#[derive(Debug, PartialEq)]
struct Seen {
    /// Device and inode.
    file: (u64, u64),
    bytes: u64,
    is_database: bool,
    /// The log's, once something is in it.
    log: Option<(u64, u64)>,
}

/// What every SQLite file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

impl Seen {
    fn of(path: &Path) -> Option<Self> {
        let identity = |metadata: &std::fs::Metadata| (metadata.dev(), metadata.ino());
        let metadata = std::fs::metadata(path).ok()?;
        let mut magic = [0; 16];
        let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic));
        let log = std::fs::metadata(extended(path, LOGS[0])).ok().filter(|log| log.len() > 0).map(|log| identity(&log));
        Some(Self {
            file: identity(&metadata),
            bytes: metadata.len(),
            is_database: read.is_ok() && magic == *MAGIC,
            log,
        })
    }

    /// Whether this can have become of what was seen before by SQLite's own doing.
    fn follows(&self, before: &Self) -> bool {
        self.file == before.file
            && self.bytes >= before.bytes
            && self.is_database >= before.is_database
            && (before.log.is_none() || self.log == before.log)
    }
}

/// The recorder on its thread: takes a batch, and tells what came of it.
pub struct RecorderThread {
    batches: Option<Sender<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl RecorderThread {
    pub fn start(mut recorder: Recorder, told: impl Fn(Written, Batch) + Send + 'static) -> anyhow::Result<Self> {
        let (batches, orders): (Sender<Batch>, Receiver<Batch>) = channel();
        let thread = std::thread::Builder::new().name("statistics-file".into()).spawn(move || {
            for batch in orders {
                let written = recorder.write(&batch);
                told(written, batch);
            }
        })?;
        Ok(Self { batches: Some(batches), thread: Some(thread) })
    }

    /// Leaves the thread to itself: a disk that hangs must not hold up the process's end.
    pub fn abandon(mut self) {
        self.batches = None;
        self.thread = None;
    }

    pub fn write(&self, batch: Batch) {
        if let Some(batches) = &self.batches {
            let _ = batches.send(batch);
        }
    }
}

impl Drop for RecorderThread {
    /// Writes what was ordered.
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
