//! The state folder: what a gateway keeps for itself between two runs. Mode 0700, used by one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Holds the lock for as long as it lives.
pub struct StateFolder {
    path: PathBuf,
    _lock: File,
}

impl StateFolder {
    /// Makes the folder where it is missing, and locks it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| {
            format!("the state folder {} cannot be made; name a writable one with --state", path.display())
        })?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .with_context(|| {
                format!("the state folder {} cannot be written; name another with --state", path.display())
            })?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => bail!(
                "the state folder {} is in use by another aiproxy-host; stop it, or name another folder with --state",
                path.display()
            ),
            Err(fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("the state folder {} cannot be locked", path.display()))
            }
        }
    }

    /// Statistics.
    pub fn statistics(&self) -> PathBuf {
        self.path.join("statistics.sqlite")
    }

    /// Compiled plugins.
    pub fn compiled(&self) -> PathBuf {
        self.path.join("compiled")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused_until_it_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = StateFolder::open(&path).unwrap();
        let refusal = StateFolder::open(&path).err().unwrap();
        assert!(refusal.to_string().contains("in use"), "{refusal}");
        drop(first);
        StateFolder::open(&path).unwrap();
    }
}
