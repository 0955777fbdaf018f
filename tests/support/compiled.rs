//! What the gateways of earlier tests have compiled, for the state folders of later ones: compiling the same guest for
//! each of them would be most of the tests' time. The gateway trusts such a file for its own reasons, not for ours.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::guests;

/// Puts everything known into a state folder.
pub fn lend(state: &Path) {
    copy(&known(), &state.join("compiled"));
}

/// Keeps what was compiled into a state folder.
pub fn keep(state: &Path) {
    copy(&state.join("compiled"), &known());
}

fn known() -> PathBuf {
    guests::target_folder().join("guests").join("compiled")
}

/// By a rename, for tests run in parallel; what is there already stays.
fn copy(from: &Path, to: &Path) {
    static COPIES: AtomicUsize = AtomicUsize::new(0);
    let Ok(files) = fs::read_dir(from) else { return };
    DirBuilder::new().recursive(true).mode(0o700).create(to).expect("a folder");
    for file in files.flatten().filter(|file| file.path().extension().is_some_and(|it| it == "compiled")) {
        let target = to.join(file.file_name());
        if target.exists() {
            continue;
        }
        let copy = COPIES.fetch_add(1, Ordering::Relaxed);
        let aside = to.join(format!("{}-{copy}.new", std::process::id()));
        // Another test may be forgetting old files at this moment.
        if fs::copy(file.path(), &aside).is_ok() {
            let _ = fs::rename(&aside, &target);
        }
    }
}
