//! The command line, as the real binary: `init`, `check`, `explain`, `serve`, and the environment.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aiproxy_host::digest::{hex, sha256};
use serde_json::{Value, json};

use crate::support::binary::{Ran, Server, aiproxy, run};
use crate::support::{Conf, KEY, UPSTREAM_KEY, Upstream, channel, get, soon};

/// Every file under a folder with its content and mode.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>, u32)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            found.push((path.clone(), std::fs::read(&path).unwrap(), mode));
        }
    }
    found.sort();
    found
}

async fn init(folder: &Path) -> Ran {
    let ran = run(aiproxy(&["init", folder.to_str().unwrap()])).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran
}

/// A subcommand on the folders of a configuration.
async fn on(conf: &Conf, subcommand: &str, arguments: &[&str]) -> Ran {
    let mut command = aiproxy(&[subcommand]);
    command.arg("--conf").arg(conf.conf()).arg("--plugins").arg(conf.plugins()).args(arguments);
    run(command).await
}

#[tokio::test]
async fn init_writes_a_configuration_that_check_finds_sound() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("new/place");
    let ran = init(&place).await;
    let keys: Value = serde_json::from_slice(&std::fs::read(place.join("conf/api_keys.json")).unwrap()).unwrap();
    let keys: Vec<_> = keys.as_array().unwrap().iter().filter_map(|key| key["proxy_key"].as_str()).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| key.len() > 40 && ran.stdout.contains(key)), "they are shown once: {}", ran.stdout);
    for plugin in ["bailian", "gemini", "openai"] {
        let bytes = std::fs::read(place.join(format!("plugins/{plugin}.wasm"))).unwrap();
        assert!(bytes.starts_with(b"\0asm\x0d\0\x01\0"), "{plugin} is a component");
    }
    for schema in ["channels_config", "api_keys", "gateway"] {
        let bytes = std::fs::read(place.join(format!("conf/schemas/{schema}.schema.json"))).unwrap();
        assert!(serde_json::from_slice::<Value>(&bytes).unwrap()["$schema"].is_string(), "{schema}");
    }
    let (conf, plugins) = (place.join("conf"), place.join("plugins"));
    let ran = run(aiproxy(&["check", "--conf", conf.to_str().unwrap(), "--plugins", plugins.to_str().unwrap()])).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("ok: 3 channels, 3 proxy keys"), "{}", ran.stdout);
    for variable in ["DASHSCOPE_API_KEY", "GEMINI_API_KEY", "OPENAI_API_KEY"] {
        assert!(ran.stdout.contains(variable), "what is not set is said: {}", ran.stdout);
    }
}

#[tokio::test]
async fn init_draws_random_keys_and_hides_what_holds_keys() {
    let folder = tempfile::tempdir().unwrap();
    let mut keys = HashSet::new();
    for name in ["a", "b"] {
        let place = folder.path().join(name);
        init(&place).await;
        let text = std::fs::read_to_string(place.join("conf/api_keys.json")).unwrap();
        let list: Value = serde_json::from_str(&text).unwrap();
        keys.extend(list.as_array().unwrap().iter().filter_map(|key| key["proxy_key"].as_str().map(str::to_owned)));
        let mode = |path: &str| std::fs::metadata(place.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode("conf"), mode("conf/api_keys.json"), mode("conf/channels_config.json")),
            (0o700, 0o600, 0o600)
        );
    }
    assert_eq!(keys.len(), 6, "no key is drawn twice");
}

#[tokio::test]
async fn init_never_writes_over_a_file() {
    let folder = tempfile::tempdir().unwrap();
    init(folder.path()).await;
    std::fs::write(folder.path().join("plugins/gemini.wasm"), "mine").unwrap();
    std::fs::remove_file(folder.path().join("plugins/openai.wasm")).unwrap();
    let before = files(folder.path());
    let ran = init(folder.path()).await;
    let after = files(folder.path());
    assert_eq!(after.len(), before.len() + 1, "what was missing is written");
    assert!(before.iter().all(|file| after.contains(file)), "what was there is as it was");
    assert!(ran.stdout.contains("kept") && ran.stdout.contains("gemini.wasm"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("sk-aiproxy-"), "keys that exist are not shown: {}", ran.stdout);
}

#[tokio::test]
async fn check_prints_every_problem_of_every_file_and_plugin_at_once() {
    let mut misfit = channel("http://127.0.0.1:1");
    (misfit["plugin"], misfit["settings"]) = (json!("puppet"), json!({"configure": "fail"}));
    let mut broken = channel("http://127.0.0.1:1");
    broken["plugin"] = json!("broken");
    let mut nowhere = channel("http://127.0.0.1:1");
    nowhere["plugin"] = json!("nowhere");
    let conf = Conf::new("http://127.0.0.1:1").channel("misfit", misfit).channel("broken", broken);
    let conf = conf.channel("nowhere", nowhere).gateway("acess_log", "off");
    let conf = conf.keys(json!([
        {"proxy_key": KEY, "id": "tester", "channel": "cc"},
        {"proxy_key": "short", "id": "short", "channel": "c"},
    ]));
    conf.plugin("broken", b"\0asm\x0d\0\x01\0");
    conf.write();
    let ran = on(&conf, "check", &[]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for line in [
        "gateway.json:1:",
        "did you mean `access_log`?",
        "api_keys.json:1:",
        "shorter than 8 characters",
        "broken.wasm: ",
        "puppet.wasm: does not work for channel misfit: ",
        "the strings are tangled",
        "nowhere.wasm",
        "no default plugin of that name",
    ] {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }
    assert!(ran.stderr.contains("error: "), "{}", ran.stderr);
}

#[tokio::test]
async fn check_looks_at_keys_and_plugins_even_beside_a_broken_channels_file() {
    let conf = Conf::new("http://127.0.0.1:1").keys(json!([{"proxy_key": KEY, "id": "a b", "channel": "c"}]));
    conf.write();
    conf.write_file(
        "channels_config.json",
        r#"{"channels": {"c": {"base_ulr": "http://127.0.0.1:1"}, "d": {"base_url": 7}}}"#,
    );
    conf.plugin("puppet", b"no component");
    let ran = on(&conf, "check", &[]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for line in
        ["channels.c.base_ulr: ", "did you mean `base_url`?", "channels.d.base_url: ", "[0].id: ", "puppet.wasm: "]
    {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }
}

#[tokio::test]
async fn check_says_which_plugin_version_serves_each_channel() {
    let conf = Conf::new("http://127.0.0.1:1");
    conf.write();
    let ran = on(&conf, "check", &[]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let version = &hex(&sha256(crate::support::guests::puppet()))[..12];
    assert!(ran.stdout.contains(&format!("channel c: active, plugin puppet {version}\n")), "{}", ran.stdout);
}

/// As the service before had them.
const ORIGINAL_CHANNELS: &str = r#"{"channels": {
  "bailian": {"name": "阿里云百炼", "api_key": "${DASHSCOPE_API_KEY}", "base_url": "https://dashscope.aliyuncs.com",
    "websocket_url": "wss://dashscope.aliyuncs.com", "host": "dashscope.aliyuncs.com",
    "path_rewrite": {"/chat/completions": "/compatible-mode/v1/chat/completions"}, "websocket_endpoints": {},
    "supports_websocket": true, "timeout": 30, "ssl": true, "status": "active"},
  "gemini": {"name": "Google Gemini", "api_key": "YOUR_GEMINI_API_KEY_HERE",
    "api_url": "https://generativelanguage.googleapis.com",
    "path_rewrite": {"/chat/completions": "/v1beta/models/gemini-pro:generateContent"}, "_note": "a comment",
    "timeout": 30, "ssl": true, "status": "active"}}}"#;
const ORIGINAL_KEYS: &str = r#"[
  {"proxy_key": "sk-bailian-tester-001", "channel": "bailian", "status": "active", "description": "…", "user": "…"},
  {"proxy_key": "sk-gemini-tester-001", "channel": "gemini", "status": "active", "description": "…", "user": "…"}]"#;

#[tokio::test]
async fn the_files_of_the_service_before_load_unchanged() {
    let conf = Conf::new("http://127.0.0.1:1");
    conf.write_file("channels_config.json", ORIGINAL_CHANNELS);
    conf.write_file("api_keys.json", ORIGINAL_KEYS);
    let mut command = aiproxy(&["check"]);
    command
        .arg("--conf")
        .arg(conf.conf())
        .arg("--plugins")
        .arg(conf.plugins())
        .env("DASHSCOPE_API_KEY", "a-real-key-0123");
    let ran = run(command).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("channel bailian: active, plugin bailian "), "{}", ran.stdout);
    assert!(ran.stdout.contains("channel gemini: unavailable, plugin gemini "), "{}", ran.stdout);
    assert!(ran.stdout.contains("channels.gemini.api_key: has no value"), "the placeholder is told: {}", ran.stdout);
    let rewrite = ran.stdout.lines().find(|line| line.contains("path_rewrite"));
    assert!(rewrite.is_some_and(|line| line.starts_with("warning: ") && line.contains("gemini")), "{}", ran.stdout);
}

#[tokio::test]
async fn serve_without_a_configuration_says_to_run_init() {
    let folder = tempfile::tempdir().unwrap();
    for subcommand in [&["serve"][..], &[]] {
        let mut command = aiproxy(subcommand);
        command.args(["--listen", "127.0.0.1:0"]).current_dir(folder.path());
        let ran = run(command).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.stderr.contains("aiproxy-host init") && ran.stderr.contains("--conf"), "{}", ran.stderr);
    }
}

#[tokio::test]
async fn serve_refuses_a_wrong_configuration_before_it_binds() {
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = occupied.local_addr().unwrap().to_string();
    let conf = Conf::new("http://127.0.0.1:1").set("timeuot", 3);
    conf.write();
    conf.write_file("gateway.json", "{");
    let state = conf.state();
    let ran = on(&conf, "serve", &["--state", state.to_str().unwrap(), "--listen", &address]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("did you mean `timeout`?"), "{}", ran.stderr);
    assert!(ran.stderr.contains("gateway.json:1:"), "all in one go: {}", ran.stderr);
    assert!(!ran.stderr.contains("cannot listen"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_port_in_use_is_said_with_what_to_do() {
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = occupied.local_addr().unwrap().to_string();
    let conf = Conf::new("http://127.0.0.1:1");
    conf.write();
    crate::support::compiled::lend(&conf.state());
    let state = conf.state();
    let ran = on(&conf, "serve", &["--state", state.to_str().unwrap(), "--listen", &address]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains(&address) && ran.stderr.contains("--listen"), "{}", ran.stderr);
}

#[tokio::test]
async fn every_flag_of_serve_is_an_environment_variable_too() {
    let upstream = Upstream::echo().await;
    let conf = Conf::new(&upstream.url());
    conf.write();
    crate::support::compiled::lend(&conf.state());
    let mut command = aiproxy(&[]);
    command.env("AIPROXY_CONF", conf.conf()).env("AIPROXY_PLUGINS", conf.plugins()).env("AIPROXY_STATE", conf.state());
    command.env("AIPROXY_LISTEN", "127.0.0.1:0").env("AIPROXY_WORKERS", "3").current_dir(conf.folder());
    let mut server = Server::spawn(command, conf.folder()).await;
    assert_eq!(get(server.address, "/x").await.echoed_line(), "GET /x");
    assert!(conf.state().join("lock").exists());
    until_workers(&server, 3).await;
    assert_eq!(server.end().await, Some(0));
}

/// Waits until a server has so many worker threads; it never has more. A thread names itself when it first runs.
async fn until_workers(server: &Server, count: usize) {
    // Whoever answers has started them all.
    assert_eq!(get(server.address, "/healthz").await.status, 200);
    let workers = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap();
        let names = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with("worker-")).count()
    };
    soon("the workers' names", async {
        while workers() < count {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(workers(), count);
}

#[tokio::test]
async fn the_number_of_workers_is_as_asked_for_and_nonsense_is_refused() {
    let conf = Conf::new("http://127.0.0.1:1");
    conf.write();
    crate::support::compiled::lend(&conf.state());
    let mut command = aiproxy(&["serve", "--workers", "1", "--listen", "127.0.0.1:0"]);
    command.arg("--conf").arg(conf.conf()).arg("--plugins").arg(conf.plugins()).arg("--state").arg(conf.state());
    // A flag wins over the environment.
    let server = Server::spawn(
        {
            command.env("AIPROXY_WORKERS", "5");
            command
        },
        conf.folder(),
    )
    .await;
    until_workers(&server, 1).await;
    for nonsense in [["--workers", "0"], ["--workers", "many"], ["--listen", "nowhere"]] {
        let ran = run(aiproxy(&nonsense)).await;
        assert_eq!(ran.code, Some(2), "{nonsense:?}: {ran:?}");
        assert!(ran.stderr.contains(nonsense[0]), "{}", ran.stderr);
    }
}

/// `explain` for the key `tester`; it must succeed.
async fn explained(conf: &Conf, arguments: &[&str]) -> String {
    conf.write();
    let ran = on(conf, "explain", &[&["--key", "tester"], arguments].concat()).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.stdout
}

#[tokio::test]
async fn explain_tells_what_a_request_would_become_and_sends_nothing() {
    let upstream = Upstream::echo().await;
    let settings = json!({"quiet": true, "profile": {"headers": ["x-flavour"], "reads_model": true}, "plan": {
        "path": "/v9/chat", "query": "alt=sse", "model": "the-model",
        "headers": [["set", "x-set", "one"], ["remove", "x-gone"], ["set-if-absent", "x-absent", "two"]],
        "body": [["set", "/model", "\"other\""], ["remove", "/user"]],
        "credentials": [["key", "authorization", "Bearer"], ["extra", "header", "x-extra"], ["key", "query", "api_token"]],
    }});
    let conf = Conf::new(&upstream.url()).settings(settings).set("secrets", json!({"extra": "extra-secret-0123"}));
    let text = explained(&conf, &["--model", "m", "-H", "x-flavour: sweet", "POST", "/v1/chat?a=b"]).await;
    let has = |line: &str| {
        assert!(text.lines().any(|it| it.split_whitespace().eq(line.split_whitespace())), "{line}: {text}");
    };
    has("request POST /v1/chat?a=b");
    has("key tester");
    has("asked c: sends");
    has("channel c (C)");
    has(&format!("upstream POST {}/v9/chat?alt=sse&api_token=***", upstream.url()));
    has("model the-model");
    has("= x-set: one");
    has("- x-gone");
    has("= x-absent: two (where the client sends none)");
    has("+ authorization: Bearer *** (secret `key`)");
    has("+ x-extra: *** (secret `extra`)");
    has("body /model = \"other\"");
    has("/user removed");
    let version = &hex(&sha256(crate::support::guests::puppet()))[..12];
    has(&format!("plugin puppet {version} (file)"));
    for secret in [UPSTREAM_KEY, KEY, "extra-secret"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert_eq!(upstream.accepted(), 0, "nothing is sent");
}

#[tokio::test]
async fn explain_shows_the_plugin_what_a_request_would() {
    let conf =
        Conf::new("http://127.0.0.1:1").settings(json!({"profile": {"headers": ["x-flavour"], "reads_model": true}}));
    let arguments = [
        "--model",
        "m",
        "-H",
        "x-flavour: sweet",
        "-H",
        "x-api-key: sk-whatever-1",
        "GET",
        "/v1/m?a=b&key=sk-whatever-1",
    ];
    let text = explained(&conf, &arguments).await;
    for line in [
        "= x-puppet-saw-headers: [[\"x-flavour\",\"sweet\"]]",
        "= x-puppet-saw-model: m",
        "= x-puppet-saw-presented: header x-api-key",
        "= x-puppet-saw-query: a=b",
        "= x-puppet-saw-caller: tester",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("sk-whatever-1"), "a key given by mistake is not shown: {text}");
}

#[tokio::test]
async fn explain_tells_of_a_websocket_where_the_request_asks_for_one() {
    let conf = Conf::new("http://127.0.0.1:1").set("websocket_url", "wss://sockets.example/base");
    let text = explained(&conf, &["-H", "upgrade: websocket", "GET", "/live"]).await;
    assert!(text.contains("GET wss://sockets.example/base/live"), "{text}");
    assert!(text.contains("x-puppet-saw-transport: websocket"), "{text}");
    let conf = Conf::new("http://127.0.0.1:1");
    let text = explained(&conf, &["-H", "upgrade: websocket", "GET", "/live"]).await;
    assert!(text.contains("websocket_not_supported"), "{text}");
}

#[tokio::test]
async fn explain_says_why_a_channel_does_not_serve() {
    let with = |field: &str, value: Value| {
        let mut channel = channel("http://127.0.0.1:1");
        channel[field] = value;
        channel
    };
    let conf = Conf::new("http://127.0.0.1:1")
        .settings(json!({"behaviour": "decline"}))
        .channel("off", with("status", json!("disabled")))
        .channel("keyless", with("api_key", json!("${AIPROXY_TEST_NEVER_SET}")))
        .channel("refuses", with("settings", json!({"behaviour": "refuse/418/teapot/short and stout"})));
    let key = |channels: Value| json!([{"proxy_key": KEY, "id": "tester", "channels": channels, "tags": ["vip"]}]);
    let conf = conf.keys(key(json!(["c", "off", "keyless", "refuses"])));
    let text = explained(&conf, &["GET", "/x"]).await;
    for line in [
        "tester (tags: vip)",
        "c: declines",
        "off: passed over: channel_disabled",
        "keyless: passed over: channel_unavailable",
        "AIPROXY_TEST_NEVER_SET",
        "refuses: the client gets 418: teapot: short and stout",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let text = explained(&conf.keys(key(json!(["c"]))), &["GET", "/x"]).await;
    assert!(text.contains("no channel of this key serves the request"), "{text}");
}

#[tokio::test]
async fn explain_lists_the_ids_when_the_one_given_is_unknown_and_never_takes_a_key_for_one() {
    let conf = Conf::new("http://127.0.0.1:1");
    conf.write();
    for id in ["nobody", KEY] {
        let ran = on(&conf, "explain", &["--key", id, "GET", "/x"]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.stderr.contains("there are: tester"), "{}", ran.stderr);
    }
}
