//! The file of the access log, or of a capture: begun anew when it is large enough, and when somebody else has moved or deleted it.
//!
//! A full `access.log` becomes `access.log.1`, after `.1` has become `.2` and so on; the oldest goes. Each step is one
//! rename, from the oldest to the newest: wherever a crash falls, every line is in a file, and a gap that it leaves in
//! the numbers is filled by the next rotation. Lines come in whole batches, and a batch goes into one file.
//!
//! Whether the path still leads to the open file is looked at once a second, and on SIGHUP: what `logrotate` has moved
//! takes lines until then, which are in it. A deleted file takes none: its batch is written again, to the new one.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::lines::Sink;
use crate::config::Rotation;

/// How often the path is looked at, and a rotation that failed is tried again.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

pub struct LogFile {
    /// What it is called where something is wrong with it.
    name: &'static str,
    path: PathBuf,
    rotation: Option<Rotation>,
    file: File,
    /// Device and inode of the file.
    identity: (u64, u64),
    /// Its size, in which others may have a part.
    bytes: u64,
    /// It ends in the middle of a line: the rest could not be written.
    is_torn: bool,
    look_at: Instant,
    /// What has been said, and holds still.
    is_full: bool,
    is_lost: bool,
}

impl LogFile {
    pub fn open(name: &'static str, path: &Path, rotation: Option<Rotation>) -> io::Result<Self> {
        let file = open(path)?;
        let metadata = file.metadata()?;
        Ok(Self {
            name,
            path: path.to_owned(),
            rotation,
            file,
            identity: identity(&metadata),
            bytes: metadata.len(),
            is_torn: false,
            look_at: Instant::now() + LOOK_INTERVAL,
            is_full: false,
            is_lost: false,
        })
    }

    /// Opens the path anew if it leads elsewhere, or nowhere. Where that cannot be, the file that is open goes on.
    fn follow(&mut self) -> io::Result<()> {
        self.look_at = Instant::now() + LOOK_INTERVAL;
        if fs::metadata(&self.path).is_ok_and(|there| identity(&there) == self.identity) {
            self.is_lost = false;
            return Ok(());
        }
        let begun = self.begin();
        if let Err(error) = &begun
            && !self.is_lost
        {
            self.is_lost = true;
            let (name, path) = (self.name, self.path.display());
            tracing::warn!(%path, %error, "the {name} was moved and cannot be opened anew; the moved file goes on");
        }
        begun
    }

    /// Goes on with what the path leads to, which is made if it is not there.
    fn begin(&mut self) -> io::Result<()> {
        let file = open(&self.path)?;
        let metadata = file.metadata()?;
        (self.file, self.identity, self.bytes) = (file, identity(&metadata), metadata.len());
        (self.is_torn, self.is_full, self.is_lost) = (false, false, false);
        Ok(())
    }

    /// Begins a new file in place of a full one. Where that cannot be, the full one goes on.
    fn rotate(&mut self, rotation: Rotation) {
        let before = self.identity;
        // Somebody else may just have done it.
        if self.follow().is_err() || self.identity != before {
            return;
        }
        let rotated = self.check_is_plain().and_then(|()| shift(&self.path, rotation.files_kept));
        if let Err(error) = rotated.and_then(|()| self.begin())
            && !self.is_full
        {
            self.is_full = true;
            let (name, path) = (self.name, self.path.display());
            tracing::warn!(%path, %error, "the {name} cannot be rotated; it goes on in the same file");
        }
    }

    /// What a link leads to has a name of its own, which renaming would not change.
    fn check_is_plain(&self) -> io::Result<()> {
        if fs::symlink_metadata(&self.path)?.is_file() {
            return Ok(());
        }
        Err(io::Error::other("its path is a symbolic link; give the file's own path"))
    }

    /// Writes the batch; whether a file has it that can be found is told by the number of its names.
    fn write(&mut self, lines: &[u8]) -> io::Result<u64> {
        write_lines(&mut self.file, lines, &mut self.is_torn)?;
        let metadata = self.file.metadata()?;
        self.bytes = metadata.len();
        Ok(metadata.nlink())
    }
}

impl Sink for LogFile {
    fn put(&mut self, lines: &[u8]) -> io::Result<()> {
        let is_due = Instant::now() >= self.look_at;
        if is_due {
            // It has been said, and the open file takes the lines.
            let _ = self.follow();
        }
        if let Some(rotation) = self.rotation
            && self.bytes >= rotation.bytes_max
            && (is_due || !self.is_full)
        {
            self.rotate(rotation);
        }
        let written_to = self.identity;
        if self.write(lines)? == 0 {
            self.follow()?;
            // A path such as `/dev/stderr` may lead to a file without a name.
            if self.identity != written_to {
                self.write(lines)?;
            }
        }
        Ok(())
    }

    fn reopen(&mut self) {
        let _ = self.follow();
        // The next batch tries again what has failed.
        self.look_at = Instant::now();
    }
}

/// Writes whole lines. After a failure in the middle of one, the next begin on a line of their own.
fn write_lines(file: &mut impl Write, lines: &[u8], is_torn: &mut bool) -> io::Result<()> {
    if *is_torn {
        file.write_all(b"\n")?;
        *is_torn = false;
    }
    let mut written = 0;
    while written < lines.len() {
        match file.write(&lines[written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        *is_torn = !lines[..written].ends_with(b"\n");
    }
    Ok(())
}

/// Renames `path` to `path.1`, and what is there one up, as far as there are files; `path.<kept>` goes if all are there.
fn shift(path: &Path, kept: u32) -> io::Result<()> {
    let is_free = |number: &u32| {
        let there = fs::symlink_metadata(numbered(path, *number));
        there.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    };
    let last = (1..kept).find(is_free).unwrap_or(kept);
    for number in (1..last).rev() {
        fs::rename(numbered(path, number), numbered(path, number + 1))?;
    }
    fs::rename(path, numbered(path, 1))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests;
