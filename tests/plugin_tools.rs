//! `plugin check` and `plugin run`, as the real binary: what they tell of good files and of bad ones.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::binary::{Ran, aiproxy, run};
use crate::support::{Conf, channel, dummies, guests};

/// A folder with files in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn puppet(&self) -> PathBuf {
        self.file("puppet.wasm", guests::puppet())
    }

    fn request(&self, json: &Value) -> PathBuf {
        self.file("request.json", json.to_string())
    }
}

async fn check(file: &Path, arguments: &[&str]) -> Ran {
    let mut command = aiproxy(&["plugin", "check"]);
    command.arg(file).args(arguments);
    run(command).await
}

async fn ask(folder: &Folder, request: &Value, arguments: &[&str]) -> Ran {
    let mut command = aiproxy(&["plugin", "run"]);
    command.arg(folder.puppet()).arg(folder.request(request)).args(["--calls", "20"]).args(arguments);
    run(command).await
}

/// The JSON of a command that printed some.
fn json_of(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[tokio::test]
async fn check_tells_of_a_router_and_run_says_that_it_asks_none() {
    let folder = Folder::new();
    let file = folder.file("marshal.wasm", guests::marshal());
    let ran = check(&file, &[]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for text in ["aiproxy:plugin/router@0.1.0", "is shown the headers x-order", "ok: the gateway takes this file"] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
    let ran = check(&file, &["--settings", r#"{"behaviour": "fail"}"#]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("the marshal has lost the way"), "{}", ran.stdout);
    let mut command = aiproxy(&["plugin", "run"]);
    command.arg(&file).arg(folder.request(&json!({"path": "/x"})));
    let ran = run(command).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("this is a router"), "{ran:?}");
}

#[tokio::test]
async fn check_tells_what_a_plugin_is_and_what_it_declares() {
    let folder = Folder::new();
    let settings = r#"{"profile": {"headers": ["x-a"], "reads_model": true, "body": ["/n"], "reuse": "same-caller"},
        "configure": "print-line"}"#;
    let ran = check(&folder.puppet(), &["--settings", settings]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for text in [
        "a component, ",
        "aiproxy:plugin/channel@0.1.0",
        "aiproxy:plugin/log@0.1.0",
        "interfaces of WASI 0.2, which answer empty or denied: wasi:cli, ",
        "language: Rust",
        "accepted 5 times, the same profile each time",
        "is shown the headers x-a",
        "read for its model and /n",
        "equal request of the same caller",
        "info: a line on stdout",
        "ok: the gateway takes this file",
    ] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
    let json = json_of(&check(&folder.puppet(), &["--json"]).await);
    assert_eq!((&json["ok"], &json["kind"], &json["faults"]), (&json!(true), &json!("component"), &json!([])));
    assert_eq!(json["profile"]["headers"], json!([]));
    assert!(json["configure"]["memory_bytes"].as_u64().unwrap() > 0, "{json}");
}

#[tokio::test]
async fn check_says_of_every_file_that_is_no_plugin_what_to_change() {
    let folder = Folder::new();
    let whole = guests::puppet();
    let wit = dummies::WIT
        .replace("import log; export channel;", "import log; import elsewhere; export channel;")
        .replace("decide: func(request: request, caller: caller)", "decide: func(request: request)")
        + "interface elsewhere { run: func(); }";
    for (name, bytes, texts) in [
        ("text.wasm", b"#!/bin/sh".to_vec(), &["not WebAssembly", "does not begin with"][..]),
        ("core.wasm", b"\0asm\x01\0\0\0".to_vec(), &["a core WebAssembly module", "wasm-tools component new"]),
        ("cut.wasm", whole[..whole.len() / 2].to_vec(), &["a component that was cut off", "being written"]),
        ("header.wasm", whole[..8].to_vec(), &["a component that was cut off", "after its 8-byte header"]),
        (
            "other.wasm",
            dummies::component(&wit, "channel-plugin"),
            &[
                "not given: aiproxy:plugin/elsewhere@0.1.0",
                "the function decide of aiproxy:plugin/channel@0.1.0 does not fit",
                "expected   decide: func(request: request, caller: caller) -> answer",
                "found      decide: func(request: request) -> answer",
                "because    it has 1 parameter, not 2",
            ],
        ),
    ] {
        let ran = check(&folder.file(name, bytes), &[]).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        for text in texts.iter().chain(&["error: the gateway refuses this file"]) {
            assert!(ran.stdout.contains(text), "{name}: {text}: {}", ran.stdout);
        }
    }
}

#[tokio::test]
async fn serve_and_check_tell_a_mismatch_in_the_same_words() {
    let wit = dummies::WIT.replace("tags: list<string> }", "tags: string }");
    let bytes = dummies::component(&wit, "channel-plugin");
    let conf = Conf::new("http://127.0.0.1:1");
    conf.write();
    conf.plugin("puppet", &bytes);
    let mut command = aiproxy(&["check"]);
    command.arg("--conf").arg(conf.conf()).arg("--plugins").arg(conf.plugins());
    let gateways = run(command).await;
    let json = json_of(&check(&conf.plugins().join("puppet.wasm"), &["--json"]).await);
    let fault = &json["faults"][0];
    for part in ["function", "expected", "found", "difference"] {
        let text = fault[part].as_str().unwrap();
        assert!(gateways.stdout.contains(text), "{text}: {}", gateways.stdout);
    }
    assert_eq!(fault["difference"], "the field `tags` of `caller` is `string`, not `list<string>`");
    assert_eq!(fault["types"]["found"], "record caller { id: string, tags: string }");
}

#[tokio::test]
async fn check_configures_with_the_settings_of_a_flag_a_file_or_a_channel() {
    let folder = Folder::new();
    let (plugin, refusing) = (folder.puppet(), r#"{"configure": "fail"}"#);
    let file = folder.file("settings.json", refusing);
    let mut other = channel("http://127.0.0.1:1");
    other["settings"] = json!({"configure": "fail"});
    let conf = Conf::new("http://127.0.0.1:1").channel("other", other);
    conf.write();
    let place = conf.conf();
    let conf_flags = ["--conf", place.to_str().unwrap(), "--channel"];
    for arguments in [
        vec!["--settings", refusing],
        vec!["--settings", &format!("@{}", file.display())],
        [&conf_flags[..], &["other"]].concat(),
    ] {
        let ran = check(&plugin, &arguments).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(
            ran.stdout.contains("refused: it refused its configuration: the strings are tangled"),
            "{}",
            ran.stdout
        );
    }
    assert_eq!(check(&plugin, &[&conf_flags[..], &["c"]].concat()).await.code, Some(0));
    for (arguments, reason) in [
        ([&conf_flags[..], &["nowhere"]].concat(), "there are: c, other"),
        (vec!["--settings", "{"], "not valid JSON"),
        (vec!["--settings", "[]"], "expected a JSON object"),
        (vec!["--settings", "@/nowhere"], "cannot be read"),
    ] {
        let ran = check(&plugin, &arguments).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(reason), "{reason}: {}", ran.stderr);
    }
}

#[tokio::test]
async fn run_prints_the_plan_the_times_the_memory_and_what_was_said() {
    let folder = Folder::new();
    let settings = r#"{"quiet": true, "behaviour": "log", "plan": {"path": "/v2/chat", "query": "a=1", "model": "m",
        "headers": [["set", "x-a", "1"], ["remove", "x-b"]], "body": [["set-if-absent", "/user", "\"u\""]]}}"#;
    let request = json!({"path": "/v1/chat?a=1", "headers": {"x-api-key": "sk-1234567890"}});
    let ran = ask(&folder, &request, &["--settings", settings]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for line in [
        "request    POST /v1/chat?a=1",
        "note       a credential was taken out: no plugin is shown one",
        "answer     send",
        "path       /v2/chat",
        "           set x-a: 1",
        "           remove x-b",
        "body       set if absent /user = \"u\"",
        "secrets    key → authorization: Bearer ***",
        "model      m",
        "later      19 calls: median ",
        "after the calls",
        r"said       warn: a line for the log\nwith\u{1b}[31m colours",
    ] {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("sk-1234567890"), "{}", ran.stdout);
    let json = json_of(&ask(&folder, &request, &["--settings", settings, "--json"]).await);
    assert_eq!(json["answer"]["send"]["body"], json!([{"set-if-absent": ["/user", "\"u\""]}]));
    assert_eq!((&json["us"]["later"]["calls"], &json["changed_at"]), (&json!(19), &json!(null)));
    assert_eq!(json["said"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn run_shows_a_plugin_what_the_gateway_would_and_tells_what_it_does_not_know() {
    let folder = Folder::new();
    let settings = r#"{"profile": {"headers": ["x-a"], "reads_model": true, "body": ["/n", "/m"]}}"#;
    let request = json!({
        "method": "PUT", "path": "/x", "headers": [["x-a", "1"], ["x-a", "2"], ["x-b", "3"]], "model": "m",
        "streaming": true, "presented": {"query": "key"}, "body": {"/n": 7}, "caller": {"id": "me", "tags": ["t"]},
    });
    let json = json_of(&ask(&folder, &request, &["--settings", settings, "--json"]).await);
    assert_eq!(json["notes"], json!(["not told, so the plugin is shown none: the body's \"/m\""]));
    let saw = |name: &str| {
        let headers = json["answer"]["send"]["headers"].as_array().unwrap();
        let name = format!("x-puppet-saw-{name}");
        headers.iter().find(|edit| edit["set"][0] == *name).map(|edit| edit["set"][1].as_str().unwrap().to_owned())
    };
    for (name, value) in [
        ("method", "PUT"),
        ("headers", r#"[["x-a","1"],["x-a","2"]]"#),
        ("model", "m"),
        ("streaming", "true"),
        ("presented", "query key"),
        ("body", r#"["7",null]"#),
        ("caller", "me"),
        ("tags", r#"["t"]"#),
    ] {
        assert_eq!(saw(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(json["changed_at"], 2, "the puppet counts its calls");
}

#[tokio::test]
async fn run_shows_what_the_gateway_would_not_act_on_as_such() {
    let folder = Folder::new();
    for (path, code, text) in [
        ("/puppet/host-header", "plugin_answer_invalid", "\\\"host\\\" is the gateway's own business"),
        ("/puppet/unknown-secret", "plugin_secret_unknown", "not-yours"),
        ("/puppet/trap", "plugin_trapped", "strings are cut"),
        ("/puppet/loop", "plugin_deadline_exceeded", "longer than 20 ms"),
    ] {
        let ran = ask(&folder, &json!({"path": path}), &["--json", "--deadline-ms", "20"]).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let json = json_of(&ran);
        assert_eq!(json["answer"]["fail"]["code"], code, "{json}");
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
    let ran = ask(&folder, &json!({"path": "/puppet/unknown-endpoint"}), &[]).await;
    assert!(ran.stdout.contains("name the channel with --conf and --channel"), "{}", ran.stdout);
    let ran = ask(&folder, &json!({"path": "/puppet/eat"}), &["--memory-bytes", "8388608"]).await;
    assert!(ran.stdout.contains("plugin_memory_exceeded") && ran.stdout.contains("8388608"), "{ran:?}");
}

#[tokio::test]
async fn run_keeps_to_the_sandbox_of_the_channels_plugin_whatever_the_file_is_called() {
    let conf = Conf::new("http://127.0.0.1:1").gateway("plugin_sandbox", json!({"puppet": {"deadline_ms": 77}}));
    conf.write();
    let folder = Folder::new();
    let mut command = aiproxy(&["plugin", "run", "--channel", "c", "--conf"]);
    command.arg(conf.conf()).arg(folder.file("candidate.wasm", guests::puppet()));
    command.arg(folder.request(&json!({"path": "/puppet/loop"})));
    let ran = run(command).await;
    assert!(ran.code == Some(1) && ran.stdout.contains("longer than 77 ms"), "{ran:?}");
}

#[tokio::test]
async fn run_names_what_is_wrong_with_a_request_or_a_file() {
    let folder = Folder::new();
    let ran = ask(&folder, &json!({"path": "/", "modle": "m"}), &[]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains(r#""modle" is not a known field; did you mean "model"?"#), "{}", ran.stderr);
    let mut command = aiproxy(&["plugin", "run"]);
    command.arg(folder.file("bad.wasm", "text")).arg(folder.request(&json!({"path": "/"})));
    let ran = run(command).await;
    assert!(ran.code == Some(1) && ran.stderr.contains("not a WebAssembly file"), "{ran:?}");
}

#[tokio::test]
async fn what_explain_prints_as_json_is_what_run_reads() {
    let conf = Conf::new("http://127.0.0.1:1").settings(json!({"profile": {"headers": ["x-a"], "reads_model": true}}));
    conf.write();
    let mut command = aiproxy(&["explain", "--json", "--key", "tester", "--model", "m", "-H", "x-a: 1"]);
    command.args(["-H", "cookie: a=1", "-H", "x-api-key: sk-1234567890", "POST", "/v1/chat?b=2"]);
    command.arg("--conf").arg(conf.conf()).arg("--plugins").arg(conf.plugins());
    let ran = run(command).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let head = json_of(&ran);
    assert_eq!((&head["path"], &head["query"], &head["model"]), (&json!("/v1/chat"), &json!("b=2"), &json!("m")));
    assert_eq!((&head["presented"], &head["caller"]["id"]), (&json!({"header": "x-api-key"}), &json!("tester")));
    assert!(!ran.stdout.contains("sk-1234567890") && !ran.stdout.contains("a=1"), "{}", ran.stdout);
    let folder = Folder::new();
    let ran = ask(&folder, &head, &["--settings", r#"{"profile": {"headers": ["x-a"], "reads_model": true}}"#]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains(r#"x-puppet-saw-headers: [["x-a","1"]]"#), "{}", ran.stdout);
    assert!(!ran.stdout.contains("note "), "everything is told: {}", ran.stdout);
}
