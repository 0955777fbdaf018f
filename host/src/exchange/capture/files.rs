//! The files of captures: `<folder>/<channel>.jsonl`, and one predecessor, `.jsonl.1`.
//!
//! A worker appends a line to memory, and one thread for each channel writes it, through the same writer as the logs'. A
//! disk that is too slow loses lines, which are counted, and never holds up an exchange. A thread is started with a
//! channel's first line, and lives as long as the gateway.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::config::Rotation;
use crate::telemetry::{LineBuffer, LineWriter, LogFile, Sink};

/// A file that has reached this is begun anew. It may be larger by what is gathered in 50 ms.
const FILE_BYTES_MAX: u64 = 8 << 20;
const ROTATION: Rotation = Rotation { bytes_max: FILE_BYTES_MAX, files_kept: 1 };
/// A longer line is dropped: a plan may set megabytes of body.
pub const LINE_BYTES_MAX: usize = 256 << 10;

/// All captures of a process.
#[derive(Default)]
pub struct Captures {
    /// None: nothing is recorded.
    folder: Option<PathBuf>,
    by_channel: Mutex<HashMap<String, Open>>,
}

struct Open {
    lines: LineBuffer,
    /// Writes what is left when it is dropped.
    _writer: LineWriter,
}

impl Captures {
    /// Made with the first line.
    pub fn into(folder: PathBuf) -> Self {
        Self { folder: Some(folder), by_channel: Mutex::default() }
    }

    /// Whether there is anywhere to record to.
    pub fn is_on(&self) -> bool {
        self.folder.is_some()
    }

    /// Adds a line, which ends with a newline, to a channel's file. Never waits for the disk.
    pub fn append(&self, channel: &str, line: &[u8]) {
        if line.len() > LINE_BYTES_MAX {
            return self.lose_one(channel);
        }
        if let Some(lines) = self.lines_of(channel) {
            lines.append(|buffer| buffer.extend_from_slice(line));
        }
    }

    /// Counts a line that could not be made.
    pub fn lose_one(&self, channel: &str) {
        if let Some(lines) = self.lines_of(channel) {
            lines.lose_one();
        }
    }

    /// Writes what is left, and ends the threads.
    pub fn finish(&self) {
        let open = std::mem::take(&mut *self.by_channel.lock().unwrap_or_else(PoisonError::into_inner));
        drop(open);
    }

    fn lines_of(&self, channel: &str) -> Option<LineBuffer> {
        let folder = self.folder.as_ref()?;
        let mut by_channel = self.by_channel.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = by_channel.get(channel) {
            return Some(open.lines.clone());
        }
        let sink = CaptureFile { path: folder.join(format!("{channel}.jsonl")), file: None };
        match LineWriter::start("capture", Box::new(sink)) {
            Ok(writer) => {
                let lines = writer.buffer();
                by_channel.insert(channel.to_owned(), Open { lines: lines.clone(), _writer: writer });
                Some(lines)
            }
            Err(error) => {
                tracing::warn!(channel, error = format!("{error:#}"), "decisions cannot be captured");
                None
            }
        }
    }
}

/// Opened by the thread that writes: opening a file may take a while, too.
struct CaptureFile {
    path: PathBuf,
    file: Option<LogFile>,
}

impl Sink for CaptureFile {
    fn put(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            return file.put(lines);
        }
        if let Some(folder) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = self.file.insert(LogFile::open("capture", &self.path, Some(ROTATION))?);
        file.put(lines)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn lines_are_in_the_channels_file_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let captures = Captures::into(folder.path().join("captures"));
        captures.append("a", b"{\"n\":1}\n");
        captures.append("b", b"{\"n\":2}\n");
        captures.append("a", b"{\"n\":3}\n");
        captures.append("a", &vec![b'x'; LINE_BYTES_MAX + 1]);
        captures.finish();
        let path = folder.path().join("captures/a.jsonl");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"n\":1}\n{\"n\":3}\n");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_full_file_has_one_predecessor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.jsonl");
        let mut file = CaptureFile { path: path.clone(), file: None };
        let batch = [vec![b'x'; (FILE_BYTES_MAX / 2) as usize - 1], vec![b'\n']].concat();
        for _ in 0..7 {
            file.put(&batch).unwrap();
        }
        let mut sizes: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
            .collect();
        sizes.sort();
        assert_eq!(sizes, [("c.jsonl".into(), FILE_BYTES_MAX / 2), ("c.jsonl.1".into(), FILE_BYTES_MAX)]);
    }

    #[test]
    fn without_a_folder_nothing_is_recorded_and_no_thread_started() {
        let captures = Captures::default();
        captures.append("a", b"{}\n");
        assert!(!captures.is_on() && captures.by_channel.lock().unwrap().is_empty());
    }
}
