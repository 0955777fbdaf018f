//! The access log's file is begun anew, by the gateway or by somebody else, and no line is lost, cut or written twice.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Conf, Gateway, Process, Upstream, get, soon};

/// A gateway whose access log is a file in a folder of its own, and that folder.
async fn logged(upstream: &Upstream, rotation: Value) -> (Gateway, PathBuf) {
    let conf = Conf::new(&upstream.url());
    let folder = conf.folder().join("logs");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("access.log").to_string_lossy().into_owned();
    (Gateway::start(conf.gateway("access_log", path).gateway("access_log_rotation", rotation)).await, folder)
}

/// The paths that were asked for, by the lines of all files in the folder.
fn paths(folder: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a whole line"));
        paths.extend(lines.map(|line| line["path"].as_str().unwrap().to_owned()));
    }
    paths.sort_unstable();
    paths
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn holds(file: &Path, text: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|lines| lines.contains(text))
}

/// Asks for one path after another until a file is there.
async fn ask_until_there(gateway: &Gateway, asked: &mut Vec<String>, file: &Path, fault: &str) {
    while !file.exists() {
        assert!(asked.len() < 100_000, "{fault}");
        asked.push(format!("/{}", asked.len()));
        get(gateway.address, &asked[asked.len() - 1]).await;
    }
}

#[tokio::test]
async fn a_full_file_is_renamed_and_a_new_one_begun_while_lines_come() {
    let upstream = Upstream::echo().await;
    let (mut gateway, folder) = logged(&upstream, json!({"bytes_max": 2000, "files_kept": 1000})).await;
    let mut asked = Vec::new();
    // Lines are gathered: three rotations are waited for, whatever the number of lines that they take.
    ask_until_there(&gateway, &mut asked, &folder.join("access.log.3"), "it is not rotated").await;
    gateway.stop();
    gateway.ended().await;
    asked.sort_unstable();
    assert_eq!(paths(&folder), asked);
    let mut newest = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{entry:?}");
        newest += usize::from(metadata.len() < 2000);
    }
    assert!(newest <= 1, "only the last may be less than full");
}

#[tokio::test]
async fn more_files_than_shall_be_kept_are_not_kept() {
    let upstream = Upstream::echo().await;
    let (gateway, folder) = logged(&upstream, json!({"bytes_max": 1, "files_kept": 2})).await;
    for number in 0..4 {
        get(gateway.address, &format!("/{number}")).await;
        let file = folder.join("access.log");
        until("the line", || holds(&file, &format!("\"/{number}\""))).await;
    }
    assert_eq!(paths(&folder), ["/1", "/2", "/3"]);
    assert!(holds(&folder.join("access.log.2"), "\"/1\""));
}

#[tokio::test]
async fn a_file_that_logrotate_has_moved_is_begun_anew_at_sighup_without_a_line() {
    let upstream = Upstream::echo().await;
    let (mut gateway, folder) = logged(&upstream, json!({"bytes_max": 0})).await;
    let (file, moved) = (folder.join("access.log"), folder.join("access.log-20260101"));
    get(gateway.address, "/before").await;
    until("the line", || holds(&file, "/before")).await;
    fs::rename(&file, &moved).unwrap();
    gateway.reload();
    until("a new file", || file.exists()).await;
    get(gateway.address, "/after").await;
    gateway.stop();
    gateway.ended().await;
    assert!(holds(&moved, "/before") && holds(&file, "/after"));
    assert_eq!(paths(&folder), ["/after", "/before"]);
}

#[tokio::test]
async fn without_a_signal_a_moved_file_is_noticed_and_no_line_is_lost() {
    let upstream = Upstream::echo().await;
    let (mut gateway, folder) = logged(&upstream, json!({"bytes_max": 0})).await;
    let (file, moved) = (folder.join("access.log"), folder.join("access.log-20260101"));
    let mut asked = vec!["/first".to_owned()];
    get(gateway.address, "/first").await;
    until("the line", || holds(&file, "/first")).await;
    fs::rename(&file, &moved).unwrap();
    ask_until_there(&gateway, &mut asked, &file, "it is not noticed").await;
    gateway.stop();
    gateway.ended().await;
    asked.sort_unstable();
    assert_eq!(paths(&folder), asked);
}

#[tokio::test]
async fn a_deleted_file_takes_no_later_line_with_it() {
    let upstream = Upstream::echo().await;
    let (gateway, folder) = logged(&upstream, json!({})).await;
    let file = folder.join("access.log");
    for number in 0..3 {
        get(gateway.address, &format!("/{number}")).await;
        until("the line", || holds(&file, &format!("\"/{number}\""))).await;
        assert_eq!(paths(&folder), [format!("/{number}")]);
        fs::remove_file(&file).unwrap();
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_renamed_goes_on_and_that_is_said_once() {
    let upstream = Upstream::echo().await;
    let conf = Conf::new(&upstream.url());
    let file = conf.folder().join("access.log");
    fs::create_dir(conf.folder().join("access.log.1")).unwrap();
    let conf = conf
        .gateway("access_log", file.to_string_lossy().into_owned())
        .gateway("access_log_rotation", json!({"bytes_max": 1, "files_kept": 1}));
    let process = Process::start(conf).await;
    for number in 0..4 {
        get(process.address, &format!("/{number}")).await;
        until("the line", || holds(&file, &format!("\"/{number}\""))).await;
    }
    let said = || process.log().matches("the access log cannot be rotated").count();
    until("the warning", || said() > 0).await;
    assert_eq!((said(), fs::read_to_string(&file).unwrap().lines().count()), (1, 4));
}

#[tokio::test]
async fn other_settings_of_the_access_log_hold_at_the_next_start_and_that_is_said() {
    let upstream = Upstream::echo().await;
    let conf = Conf::new(&upstream.url());
    let file = conf.folder().join("access.log");
    let process = Process::start(conf.gateway("access_log", file.to_string_lossy().into_owned())).await;
    let changed = json!({"access_log": "stdout", "access_log_rotation": {"bytes_max": 1}});
    process.conf.write_file("gateway.json", &changed.to_string());
    for field in ["access_log", "access_log_rotation"] {
        let warning = format!("a change of `{field}` takes effect at the next start");
        until(&warning, || process.log().contains(&warning)).await;
    }
    for path in ["/one", "/two"] {
        get(process.address, path).await;
        until("the line", || holds(&file, path)).await;
    }
    assert!(!process.conf.folder().join("access.log.1").exists());
}
