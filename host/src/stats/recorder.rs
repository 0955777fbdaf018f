//! Writes the statistics to their file, on a thread of its own: whatever the disk does, nobody else waits for it.
//!
//! A file that cannot be used (broken, or another program's) is moved aside and a new one begun, into which everything
//! that is in memory is written anew; a disk that is full or gone is tried again. Nothing is lost by either but what
//! happens before the process ends.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::SystemTime;

use super::database::{Batch, Database, DatabaseError};
use super::events::Event;
use super::store::Store;

pub struct Recorder {
    path: PathBuf,
    open: Option<Open>,
    /// There is a file that could not be read so far: nothing may be written into it before.
    is_unread: bool,
    #[cfg(test)]
    pub pages_max: Option<i64>,
}

struct Open {
    database: Database,
    /// Which file it is: one that was deleted can still be written, and nobody would ever see that.
    identity: (u64, u64),
}

/// What came of a write.
#[derive(Debug)]
pub enum Written {
    Done,
    /// Nothing was written: there is a new file, which wants everything. Why the old one was given up, if there was one.
    Afresh(Option<String>),
    /// Nothing was written: what could not be read at the start can be now, and has to be joined with what came since.
    Found(Box<Store>),
    /// Nothing was written.
    Failed(String),
}

impl Recorder {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            open: None,
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
        let loaded = self.opened().and_then(|open| open.database.load(store));
        loaded.map_err(|error| {
            self.open = None;
            self.is_unread = !error.is_final();
            if error.is_final() { self.set_aside(&error) } else { format!("{}: {error}", self.path.display()) }
        })
    }

    pub fn write(&mut self, batch: &Batch) -> Written {
        if std::mem::take(&mut self.is_unread) && self.path.exists() {
            let mut store = Store::new(super::unix_time_s(SystemTime::now()));
            return match self.load(&mut store) {
                Ok(_) => Written::Found(Box::new(store)),
                Err(reason) => Written::Failed(reason),
            };
        }
        let is_there = |open: &Open| identity(&self.path) == Some(open.identity);
        let was_open = self.open.is_some();
        if !self.open.as_ref().is_some_and(is_there) {
            self.open = None;
            let is_new = !self.path.exists();
            if let Err(error) = self.opened() {
                return self.failed(&error);
            }
            if is_new {
                return Written::Afresh(was_open.then(|| "the statistics file was deleted".to_owned()));
            }
            // It came back, or is another one, which is as good as new: what is in memory is the truth.
            if was_open {
                return Written::Afresh(Some("the statistics file was replaced".to_owned()));
            }
        }
        let Some(open) = &mut self.open else { return Written::Failed("the file is not open".to_owned()) };
        match open.database.write(batch) {
            Ok(()) => Written::Done,
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &DatabaseError) -> Written {
        self.open = None;
        if error.is_final() {
            let why = self.set_aside(error);
            return match self.opened() {
                Ok(_) => Written::Afresh(Some(why)),
                Err(error) => Written::Failed(error.to_string()),
            };
        }
        Written::Failed(error.to_string())
    }

    fn opened(&mut self) -> Result<&mut Open, DatabaseError> {
        if self.open.is_none() {
            let database = Database::open(&self.path)?;
            #[cfg(test)]
            if let Some(pages) = self.pages_max {
                database.limit_pages(pages);
            }
            let identity = identity(&self.path).unwrap_or_default();
            self.open = Some(Open { database, identity });
        }
        Ok(self.open.as_mut().expect("it has just been opened"))
    }

    /// Keeps the file under another name; says what was done.
    fn set_aside(&self, error: &DatabaseError) -> String {
        let seconds = super::unix_time_s(SystemTime::now());
        let mut aside = self.path.clone().into_os_string();
        aside.push(format!(".broken-{seconds}"));
        let moved = std::fs::rename(&self.path, &aside);
        for suffix in ["-wal", "-shm"] {
            let with = |path: &Path| {
                let mut name = path.as_os_str().to_owned();
                name.push(suffix);
                PathBuf::from(name)
            };
            // Of the old file: SQLite would apply it to the new one.
            let _ = std::fs::rename(with(&self.path), with(Path::new(&aside)));
        }
        match moved {
            Ok(()) => format!(
                "the statistics file cannot be used ({error}); it is kept as {} and a new one is begun",
                Path::new(&aside).display()
            ),
            Err(fault) => format!("the statistics file cannot be used ({error}), and not be moved aside ({fault})"),
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
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
