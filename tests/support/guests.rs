//! Test guests, built once in a test process.
//!
//! Cargo builds them for `wasm32-wasip2` into a folder of its own inside the outer target folder, so that the two never
//! wait for each other's lock; when nothing has changed that takes a moment.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The bytes in the puppet that a test may replace, to make another version of it.
pub const MARK: &[u8; 17] = b"MARK-AAAAAAAAAAAA";

/// The component built from `tests/guests/puppet`.
pub fn puppet() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| build("puppet"))
}

/// The component built from `tests/guests/marshal`, a router.
pub fn marshal() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| build("marshal"))
}

/// Another version of the puppet: one whose plans carry `MARK-` and these twelve letters.
pub fn puppet_marked(letters: [u8; 12]) -> Vec<u8> {
    let mut bytes = puppet().to_vec();
    let places: Vec<usize> = (0..bytes.len() - MARK.len()).filter(|&at| bytes[at..].starts_with(MARK)).collect();
    assert_eq!(places.len(), 1, "the mark must be in the component exactly once");
    bytes[places[0] + 5..places[0] + 17].copy_from_slice(&letters);
    bytes
}

fn build(package: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the host's folder is in the workspace");
    let target = target_folder().join("guests");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // The outer build's flags are for another target; RUSTC and the wrappers stay.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let outer = name.starts_with("CARGO_") && name != "CARGO_HOME" && !name.starts_with("CARGO_NET");
        if outer || name.contains("RUSTFLAGS") {
            cargo.env_remove(name);
        }
    }
    let output = cargo
        .current_dir(root)
        .args(["build", "--quiet", "--locked", "--release", "--target", "wasm32-wasip2", "-p", package, "--target-dir"])
        .arg(&target)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "building {package} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let file = target.join("wasm32-wasip2/release").join(package).with_extension("wasm");
    std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// The outer target folder: the test binary lies in `<target>/<profile>/deps`.
pub fn target_folder() -> PathBuf {
    let binary = std::env::current_exe().expect("a test binary has a path");
    binary.ancestors().nth(3).expect("…/<profile>/deps/<binary>").to_owned()
}
