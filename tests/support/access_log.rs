//! The access log as a file, and what it says in the end.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Conf, Gateway};

/// The configuration with an access log in a file, and that file.
pub fn file(conf: Conf) -> (Conf, PathBuf) {
    let path = conf.folder().join("access.log");
    (conf.gateway("access_log", path.to_str().expect("a path in UTF-8")), path)
}

/// Everything that was logged; the gateway ends for it.
pub async fn lines(mut gateway: Gateway, path: &Path) -> Vec<Value> {
    gateway.stop();
    gateway.ended().await;
    let text = std::fs::read_to_string(path).expect("there is a log");
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}
