//! The state folder: what a gateway keeps for itself between two runs. Mode 0700, used by one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// [`StateFolder::versions`] of a folder that may be another process's.
pub fn versions(state: &Path) -> PathBuf {
    state.join("versions")
}

/// [`StateFolder::requests`] of a folder that may be another process's.
pub fn requests(state: &Path) -> PathBuf {
    state.join("requests")
}

/// Holds the lock for as long as it lives.
pub struct StateFolder {
    path: PathBuf,
    _lock: File,
}

impl StateFolder {
    /// Makes the folder where it is missing, and locks it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let Some(folder) = Self::try_open(path)? else {
            bail!(
                "the state folder {} is in use by another aiproxy-host; stop it, or name another folder with --state",
                path.display()
            );
        };
        Ok(folder)
    }

    /// The same; `None` while another process uses it.
    pub fn try_open(path: &Path) -> anyhow::Result<Option<Self>> {
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
            Ok(()) => Ok(Some(Self { path: path.to_owned(), _lock: lock })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("the state folder {} cannot be locked", path.display()))
            }
        }
    }

    /// Statistics.
    pub fn statistics(&self) -> PathBuf {
        self.path.join("statistics.sqlite")
    }

    /// Captured decisions.
    pub fn captures(&self) -> PathBuf {
        self.path.join("captures")
    }

    /// Compiled plugins.
    pub fn compiled(&self) -> PathBuf {
        self.path.join("compiled")
    }

    /// Versions of plugins that were accepted.
    pub fn versions(&self) -> PathBuf {
        versions(&self.path)
    }

    /// What commands ask of the gateway.
    pub fn requests(&self) -> PathBuf {
        requests(&self.path)
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
