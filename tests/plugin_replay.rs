//! `plugin replay`: what a gateway has captured tells, before a plugin is deployed, which decisions it would change.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::binary::{Ran, aiproxy, run};
use crate::support::{Conf, Gateway, Upstream, call, guests};

const HEADERS: [(&str, &str); 3] =
    [("authorization", "Bearer sk-test-0123456789"), ("content-type", "application/json"), ("x-a", "1")];

/// A gateway whose plugin has decided on some requests, with these settings.
async fn captured(settings: Value) -> (Gateway, Upstream) {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url()).set("capture", true).settings(settings)).await;
    for path in ["/v1/chat?a=1", "/v1/chat?a=1", "/v1/embed", "/puppet/decline", "/puppet/host-header"] {
        let body = r#"{"model": "m", "stream": true, "n": [1, 2]}"#;
        call(gateway.address, "POST", path, &HEADERS, body).await;
    }
    gateway.captured("c", 5).await;
    (gateway, upstream)
}

async fn replay(plugin: &Path, capture: &Path, arguments: &[&str]) -> Ran {
    let mut command = aiproxy(&["plugin", "replay"]);
    command.arg(plugin).arg(capture).args(arguments);
    run(command).await
}

fn all() -> Value {
    json!({"uncounted": true, "profile": {"headers": ["x-a", "content-type"], "reads_model": true, "body": ["/n", "/x"]}})
}

#[tokio::test]
async fn the_same_plugin_would_change_nothing() {
    let (gateway, _upstream) = captured(all()).await;
    let plugin = gateway.conf.plugins().join("puppet.wasm");
    // The puppet's plans tell all that it was shown: it was shown the very same.
    let ran = replay(&plugin, &gateway.capture_file("c"), &[]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stdout, "5 decisions judged, 0 would change; 0 not judged, 0 lines not readable\n");
}

#[tokio::test]
async fn another_version_is_told_apart_by_every_decision_that_changes() {
    let (gateway, _upstream) = captured(all()).await;
    let plugin = gateway.conf.folder().join("candidate.wasm");
    std::fs::write(&plugin, guests::puppet_marked(*b"BBBBBBBBBBBB")).unwrap();
    let ran = replay(&plugin, &gateway.capture_file("c"), &[]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for text in [
        "c: POST /v1/chat (model m): 2 requests, lines ",
        "c: POST /v1/embed (model m): line ",
        "  headers\n    - set x-puppet-mark: MARK-AAAAAAAAAAAA\n    + set x-puppet-mark: MARK-BBBBBBBBBBBB\n",
        "5 decisions judged, 3 would change; 0 not judged, 0 lines not readable\n",
    ] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
    let ran = replay(&plugin, &gateway.capture_file("c"), &["--json"]).await;
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&json["judged"], &json["changed"]), (&json!(5), &json!(3)));
    let change = &json["changes"][0];
    assert_eq!(change["new"]["send"]["headers"][0], json!({"set": ["x-puppet-mark", "MARK-BBBBBBBBBBBB"]}));
}

#[tokio::test]
async fn other_settings_come_from_a_flag_or_from_a_configuration() {
    let (mut gateway, _upstream) = captured(all()).await;
    let plugin = gateway.conf.plugins().join("puppet.wasm");
    let mut declining = all();
    declining["behaviour"] = json!("decline");
    let settings = declining.to_string();
    let ran = replay(&plugin, &gateway.capture_file("c"), &["--settings", &settings]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("    - send\n    + decline"), "{}", ran.stdout);
    assert!(ran.stdout.contains("5 decisions judged, 4 would change"), "one was declined before: {}", ran.stdout);
    gateway.conf.write_channels(|channels| channels["c"]["settings"] = declining);
    let conf = gateway.conf.conf();
    let same = replay(&plugin, &gateway.capture_file("c"), &["--conf", conf.to_str().unwrap()]).await;
    assert_eq!(same.stdout, ran.stdout);
}

#[tokio::test]
async fn what_was_not_recorded_is_not_judged() {
    let (gateway, _upstream) = captured(json!({"uncounted": true, "quiet": true})).await;
    let plugin = gateway.conf.plugins().join("puppet.wasm");
    let asking = |profile: Value| json!({"uncounted": true, "quiet": true, "profile": profile}).to_string();
    let capture = gateway.capture_file("c");
    // Headers are there whatever the profile was.
    let ran = replay(&plugin, &capture, &["--settings", &asking(json!({"headers": ["x-a"]}))]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for (profile, reason) in
        [(json!({"body": ["/n"]}), "the body's \"/n\""), (json!({"reads_model": true}), "the model")]
    {
        let ran = replay(&plugin, &capture, &["--settings", &asking(profile)]).await;
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(
            ran.stdout.contains(&format!("asks for what was not recorded: {reason}: 5 requests")),
            "{}",
            ran.stdout
        );
        assert!(ran.stderr.contains("no decision could be judged"), "{}", ran.stderr);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_of_its_own() {
    let (gateway, _upstream) = captured(all()).await;
    let plugin = gateway.conf.plugins().join("puppet.wasm");
    let capture = gateway.capture_file("c");
    let whole = std::fs::read_to_string(&capture).unwrap();
    let damaged = gateway.conf.folder().join("damaged.jsonl");
    std::fs::write(&damaged, format!("{whole}{{\"half\": \n\n{}\n", json!({"channel": 1}))).unwrap();
    let ran = replay(&plugin, &damaged, &[]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.stdout.contains("5 decisions judged, 0 would change; 0 not judged, 2 lines not readable"),
        "{}",
        ran.stdout
    );
    for line in ["not readable: line 6: ", "not readable: line 8: "] {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }
    let broken = gateway.conf.folder().join("broken.wasm");
    std::fs::write(&broken, "text").unwrap();
    let empty = gateway.conf.folder().join("empty.jsonl");
    std::fs::write(&empty, "").unwrap();
    for (plugin, capture, arguments, reason) in [
        (&broken, &capture, &[][..], "not a WebAssembly file"),
        (&plugin, &broken, &[], "not every line"),
        (&plugin, &empty, &[], "no decision could be judged"),
        (&plugin, &gateway.conf.folder().join("nowhere"), &[], "cannot be read"),
        (&plugin, &capture, &["--settings", r#"{"configure": "fail"}"#], "the strings are tangled"),
    ] {
        let ran = replay(plugin, capture, arguments).await;
        assert!(ran.code == Some(2) && ran.stderr.contains(reason), "{reason}: {ran:?}");
    }
}

#[tokio::test]
async fn a_captured_line_can_be_run_by_itself() {
    let (gateway, _upstream) = captured(all()).await;
    let line = gateway.captured("c", 1).await.remove(0);
    let file = gateway.conf.folder().join("line.json");
    std::fs::write(&file, line.to_string()).unwrap();
    let mut command = aiproxy(&["plugin", "run", "--calls", "1", "--json"]);
    command.arg(gateway.conf.plugins().join("puppet.wasm")).arg(file);
    let json: Value = serde_json::from_str(&run(command).await.stdout).unwrap();
    assert_eq!((&json["answer"], &json["request"]), (&line["answer"], &line["request"]));
}
