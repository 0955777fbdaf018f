//! Compiled components, and the folder that keeps them from one start to the next.
//!
//! An entry is taken only if nobody else can have written it (a regular file of ours, mode 0600, in a folder of ours
//! without rights for others) and it is whole (its own SHA-256). Anything else is compiled anew and overwritten. It is
//! named by the hash of the component and the one of the engine's settings: what another version of wasmtime or
//! another processor needs has another name. Failing to write is only a slower next start.
#![allow(unsafe_code, reason = "taking over compiled code is; see `take_over`")]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use crate::digest::hex;

const MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
const DIGEST_BYTES: usize = 32;
/// The newest are kept.
const ENTRIES_MAX: usize = 64;
const SUFFIX: &str = ".compiled";

/// What [`wasmtime::Engine::precompile_component`] made, in this process or in one that left it to us.
pub struct Artifact(Vec<u8>);

impl Artifact {
    pub fn compile(engine: &wasmtime::Engine, wasm: &[u8]) -> wasmtime::Result<Self> {
        engine.precompile_component(wasm).map(Self)
    }

    /// The code of a component that is loaded already, for another engine.
    pub fn of(component: &Component) -> wasmtime::Result<Self> {
        component.serialize().map(Self)
    }

    /// Makes the component usable in `engine`.
    pub fn take_over(&self, engine: &wasmtime::Engine) -> wasmtime::Result<Component> {
        // SAFETY: the bytes are the unchanged output of `precompile_component` or `serialize`: an `Artifact` is made
        // by these, or by `Cache::fetch`, which takes only what this user's process has written, whole. That it was
        // made for other settings or another wasmtime is no matter of safety: `deserialize` looks at that itself.
        unsafe { Component::deserialize(engine, &self.0) }
    }
}

/// The folder of compiled components.
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Makes the folder where it is missing; refuses one that others can write to.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        let metadata = fs::symlink_metadata(folder)?;
        if !metadata.is_dir() || !is_ours(&metadata) || metadata.mode() & 0o077 != 0 {
            let message = format!("{} must be a folder of this user with mode 0700", folder.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The artifact of the component with this hash for this engine, if a trustworthy one is there.
    pub fn fetch(&self, engine: &wasmtime::Engine, wasm_hash: &str) -> Option<Artifact> {
        let path = self.path(engine, wasm_hash);
        let no_links = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let mut file = OpenOptions::new().read(true).custom_flags(no_links).open(&path).ok()?;
        match read_entry(&mut file) {
            Ok(bytes) => Some(Artifact(bytes)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled component not used, compiling anew");
                None
            }
        }
    }

    /// Keeps an artifact: whole or not at all.
    pub fn keep(&self, engine: &wasmtime::Engine, wasm_hash: &str, artifact: &Artifact) -> io::Result<()> {
        let path = self.path(engine, wasm_hash);
        let unfinished = path.with_extension(format!("unfinished-{}", std::process::id()));
        let written = write_entry(&unfinished, &artifact.0).and_then(|()| fs::rename(&unfinished, &path));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        self.forget_oldest();
        written
    }

    fn path(&self, engine: &wasmtime::Engine, wasm_hash: &str) -> PathBuf {
        let mut settings = Sha256Hasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut settings);
        let settings = hex(&settings.0.finalize()[..8]);
        self.folder.join(format!("{wasm_hash}-{settings}{SUFFIX}"))
    }

    fn forget_oldest(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut entries: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(SUFFIX))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        entries.sort();
        for (_, path) in entries.iter().rev().skip(ENTRIES_MAX) {
            let _ = fs::remove_file(path);
        }
    }
}

fn is_ours(metadata: &fs::Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw()
}

fn read_entry(file: &mut File) -> io::Result<Vec<u8>> {
    let refuse = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let metadata = file.metadata()?;
    if !metadata.is_file() || !is_ours(&metadata) || metadata.mode() & 0o7777 != MODE {
        return refuse("not a regular file of this user with mode 0600");
    }
    let mut digest = [0; DIGEST_BYTES];
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.read_exact(&mut digest)?;
    file.read_to_end(&mut bytes)?;
    if Sha256::digest(&bytes)[..] != digest {
        return refuse("its content does not fit its hash");
    }
    Ok(bytes)
}

fn write_entry(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(&Sha256::digest(bytes))?;
    file.write_all(bytes)
}

struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("the whole digest is taken")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn setup() -> (tempfile::TempDir, Cache, wasmtime::Engine, Artifact) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("compiled")).unwrap();
        let engine = wasmtime::Engine::default();
        let artifact = Artifact::compile(&engine, b"\0asm\x0d\0\x01\0").unwrap();
        (folder, cache, engine, artifact)
    }

    #[test]
    fn an_entry_comes_back_whole_and_private() {
        let (_folder, cache, engine, artifact) = setup();
        assert!(cache.fetch(&engine, "abc").is_none());
        cache.keep(&engine, "abc", &artifact).unwrap();
        assert_eq!(fs::metadata(cache.path(&engine, "abc")).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(cache.fetch(&engine, "abc").unwrap().0, artifact.0);
        cache.fetch(&engine, "abc").unwrap().take_over(&engine).unwrap();
        assert!(cache.fetch(&engine, "abd").is_none());
    }

    #[test]
    fn an_entry_that_others_could_have_written_or_that_is_damaged_is_not_taken_but_rewritten() {
        let (_folder, cache, engine, artifact) = setup();
        let path = cache.path(&engine, "abc");
        let spoil: [&dyn Fn(); 4] = [
            &|| fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap(),
            &|| {
                let mut bytes = fs::read(&path).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(&path, bytes).unwrap();
            },
            &|| fs::write(&path, b"short").unwrap(),
            &|| {
                let elsewhere = path.with_extension("elsewhere");
                fs::rename(&path, &elsewhere).unwrap();
                std::os::unix::fs::symlink(elsewhere, &path).unwrap();
            },
        ];
        for spoil in spoil {
            cache.keep(&engine, "abc", &artifact).unwrap();
            assert!(cache.fetch(&engine, "abc").is_some());
            spoil();
            assert!(cache.fetch(&engine, "abc").is_none());
        }
    }

    #[test]
    fn a_folder_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Cache::open(folder.path()).is_err());
    }

    #[test]
    fn only_the_newest_entries_are_kept() {
        let (_folder, cache, engine, artifact) = setup();
        for n in 0..ENTRIES_MAX + 3 {
            cache.keep(&engine, &n.to_string(), &artifact).unwrap();
        }
        assert_eq!(fs::read_dir(&cache.folder).unwrap().count(), ENTRIES_MAX);
    }
}
