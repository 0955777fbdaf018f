//! What the loader promises: what the fields come to, and that everything wrong is told at once.

mod faults;
mod strangers;
mod tls;

use std::path::Path;
use std::time::Duration;

use super::load::{Channels, KeyList, Part, Sources, channels, combine, gateway, keys, load};
use super::*;

fn env(name: &str) -> Option<String> {
    match name {
        "KEY" => Some("sk-from-environment\n".to_owned()),
        "BAD" => Some("a b".to_owned()),
        "HOST" => Some("api.example.com".to_owned()),
        _ => None,
    }
}

fn read_channels(text: &str) -> Part<Channels> {
    channels(text.as_bytes(), Path::new("c.json"), &env)
}

fn lines<T>(part: &Part<T>) -> Vec<String> {
    part.problems.iter().map(ToString::to_string).collect()
}

/// The one channel `a`, with these fields.
fn channel(fields: &str) -> Part<Channels> {
    read_channels(&format!("{{\"channels\": {{\"a\": {{\n{fields}\n}}}}}}"))
}

fn sound(fields: &str) -> Arc<Channel> {
    let part = channel(fields);
    assert!(part.problems.is_empty(), "{fields}: {:?}", lines(&part));
    Arc::clone(&part.value.unwrap().by_id["a"])
}

const ORIGINAL_CHANNELS: &str = r#"{"channels": {"bailian": {"name": "阿里云百炼", "api_key": "${KEY}",
  "base_url": "https://dashscope.aliyuncs.com", "websocket_url": "wss://dashscope.aliyuncs.com",
  "host": "dashscope.aliyuncs.com", "path_rewrite": {"/chat/completions": "/compatible-mode/v1/chat/completions"},
  "websocket_endpoints": {}, "supports_websocket": true, "timeout": 30, "ssl": true, "status": "active"}}}"#;
const ORIGINAL_KEYS: &str = r#"[{"proxy_key": "sk-bailian-tester-001", "channel": "bailian", "status": "active",
  "description": "…", "user": "王"}]"#;

#[test]
fn the_original_format_loads_unchanged() {
    let channels = read_channels(ORIGINAL_CHANNELS);
    let keys = keys(ORIGINAL_KEYS.as_bytes(), Path::new("k.json"));
    assert!(channels.problems.is_empty() && keys.problems.is_empty(), "{:?} {:?}", lines(&channels), lines(&keys));
    let (config, problems) = combine(&channels.value.unwrap(), &keys.value.unwrap(), &Gateway::default());
    assert!(problems.is_empty());
    let bailian = &config.channels["bailian"];
    assert_eq!((bailian.name.as_str(), bailian.plugin.as_str()), ("阿里云百炼", "bailian"));
    assert!(bailian.active && bailian.supports_websocket && bailian.key_missing.is_none());
    assert_eq!(bailian.secrets["key"].reveal(), "sk-from-environment");
    assert_eq!(bailian.settings, r#"{"path_rewrite":{"/chat/completions":"/compatible-mode/v1/chat/completions"}}"#);
    let expected = "https://dashscope.aliyuncs.com:443 (Host: dashscope.aliyuncs.com, proxy: None)";
    assert_eq!(format!("{:?}", bailian.http), expected);
    assert_eq!(bailian.http, bailian.websocket);
    assert_eq!(
        bailian.timeouts,
        Timeouts {
            connect: Duration::from_secs(30),
            first_byte: Duration::from_mins(10),
            idle: Duration::from_mins(10)
        }
    );
    let key = &config.keys.by_digest[&Keys::digest(b"sk-bailian-tester-001")];
    assert!(key.active);
    assert_eq!(
        (key.channels.as_slice(), key.tags.as_slice()),
        (&["bailian".to_owned()][..], &["user:王".to_owned()][..])
    );
    assert!(key.id.starts_with("key-") && key.id.len() == 12, "{}", key.id);
}

#[test]
fn a_channel_has_defaults_for_everything_but_its_url() {
    let a = sound(r#""_note": [1], "api_url": "http://h:8080/v1/""#);
    assert_eq!((a.name.as_str(), a.plugin.as_str(), a.settings.as_str()), ("a", "a", "{}"));
    assert_eq!((a.priority, a.weight, a.active, a.supports_websocket), (0, 0, true, false));
    assert_eq!((a.usage, a.capture), (UsageSource::Read, false));
    assert_eq!(a.key_missing.as_deref(), Some("channels.a.api_key is not given"));
    assert!(a.secrets.is_empty() && a.endpoints.is_empty());
    assert_eq!(format!("{:?}", a.websocket), "http://h:8080/v1 (Host: h:8080, proxy: None)");
    assert_eq!(a.timeouts.connect, Duration::from_secs(10));
}

#[test]
fn every_field_of_a_channel_arrives() {
    let a = sound(
        r#""name": "A", "description": "x", "plugin": "openai", "settings": {"_c": 1, "z": 1, "b": {"_c": 2, "c": null}},
        "websocket_endpoints": {"/r": "/s"}, "api_keys": ["${KEY}", "second"], "secrets": {"other": "x-${KEY}"},
        "base_url": "https://${HOST}/p", "websocket_url": "ws://sockets.example:81", "host": "Front.example:8443",
        "priority": -3, "weight": 7, "endpoints": {"upload": "https://up.example/u"}, "status": "inactive",
        "proxy": "socks5://u:${KEY}@p.example", "first_byte_timeout_ms": 5, "idle_timeout_ms": 6, "ssl": true,
        "usage": "ask", "capture": true"#,
    );
    assert_eq!(a.settings, r#"{"z":1,"b":{"c":null},"websocket_endpoints":{"/r":"/s"}}"#);
    assert_eq!((a.name.as_str(), a.plugin.as_str(), a.priority, a.weight), ("A", "openai", -3, 7));
    assert!(!a.active && a.supports_websocket);
    assert_eq!(a.secrets["key"].reveal(), "sk-from-environment");
    assert_eq!(a.secrets["other"].reveal(), "x-sk-from-environment");
    let proxy = "Some(Socks5://p.example:1080)";
    assert_eq!(
        format!("{:?}", a.http),
        format!("https://api.example.com:443/p (Host: front.example:8443, proxy: {proxy})")
    );
    // Another host's Host header is not replaced.
    assert_eq!(
        format!("{:?}", a.websocket),
        format!("ws://sockets.example:81 (Host: sockets.example:81, proxy: {proxy})").replace("ws:", "http:")
    );
    assert_eq!(
        format!("{:?}", a.endpoints["upload"]),
        format!("https://up.example:443/u (Host: up.example, proxy: {proxy})")
    );
    assert_eq!(a.http.proxy.as_ref().unwrap().login, Some(("u".to_owned(), Secret::new("sk-from-environment"))));
    assert_eq!((a.timeouts.first_byte, a.timeouts.idle), (Duration::from_millis(5), Duration::from_millis(6)));
    assert_eq!((a.usage, a.capture), (UsageSource::Ask, true));
    assert_eq!(sound(&format!(r#""usage": "read", {URL}"#)).usage, UsageSource::Read);
}

#[test]
fn the_environment_gives_a_proxy_unless_the_channel_refuses() {
    let env = |name: &str| (name == "HTTPS_PROXY").then(|| "http://p.example:3128".to_owned());
    for (field, expected) in
        [("", true), (r#", "proxy": """#, false), (r#", "proxy": "direct""#, false), (r#", "proxy": "none""#, false)]
    {
        let text = format!(r#"{{"channels": {{"a": {{"base_url": "https://h.example"{field}}}}}}}"#);
        let part = channels(text.as_bytes(), Path::new("c.json"), &env);
        assert_eq!(part.value.unwrap().by_id["a"].http.proxy.is_some(), expected, "{field}");
    }
    let broken = |name: &str| (name == "HTTPS_PROXY").then(|| "ftp://secret-marker".to_owned());
    let part = channels(
        br#"{"channels": {"a": {"base_url": "https://h.example", "websocket_url": "ws://localhost"}}}"#,
        Path::new("c.json"),
        &broken,
    );
    assert_eq!(
        lines(&part),
        ["error: c.json:1:20: channels.a: goes through the environment variable HTTPS_PROXY, which must begin with \
          http:// or socks5://; correct the variable, or give the channel a `proxy` (\"direct\" for none)"]
    );
}

const URL: &str = r#""base_url": "https://h""#;

fn read_keys(text: &str) -> Part<KeyList> {
    keys(text.as_bytes(), Path::new("k.json"))
}

#[test]
fn keys_carry_tags_status_and_equal_channel_fields() {
    let part = read_keys(
        r#"{"$schema": "x", "keys": [{"_comment": "between"}, {"proxy_key": "sk-123456", "channel": "a", "channels": ["a"],
        "status": "disabled", "user": " u ", "tags": ["team:x"], "id": "mine"}]}"#,
    );
    assert!(part.problems.is_empty(), "{:?}", lines(&part));
    let channels = channel(URL).value.unwrap();
    let (config, _) = combine(&channels, &part.value.unwrap(), &Gateway::default());
    let key = &config.keys.by_digest[&Keys::digest(b"sk-123456")];
    let tags = vec!["team:x".to_owned(), "user:u".to_owned()];
    assert_eq!(
        **key,
        ProxyKey { id: "mine".to_owned(), active: false, channels: vec!["a".to_owned()], tags, description: None }
    );
}

#[test]
fn a_running_gateway_keeps_what_is_left_of_a_key() {
    let keys = read_keys(
        "[{\"proxy_key\": \"sk-123456\", \"channels\": [\"a\", \"aa\"]},\n{\"proxy_key\": \"sk-abcdef\", \"channel\": \"aa\"}]",
    );
    let (config, problems) = combine(&channel(URL).value.unwrap(), &keys.value.unwrap(), &Gateway::default());
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "error: k.json:1:47: [0].channels[1]: names a channel that does not exist; did you mean `a`?",
            "error: k.json:2:39: [1].channel: names a channel that does not exist; did you mean `a`?",
        ]
    );
    assert_eq!(config.keys.by_digest.len(), 1);
    assert_eq!(config.keys.by_digest[&Keys::digest(b"sk-123456")].channels, ["a"]);
}

#[test]
fn the_gateway_file_overrides_defaults_and_plugins_override_the_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), "-----BEGIN CERTIFICATE-----").unwrap();
    let text =
        br#"{"limits": {"drain_ms": 5}, "sandbox": {"deadline_ms": 20, "isolation": "fresh"}, "trusted_ca": "ca.pem",
        "plugin_sandbox": {"py": {"deadline_ms": 50}}, "cors_origins": ["http://localhost:3000"],
        "access_log": "./access.log", "access_log_rotation": {"bytes_max": 0},
        "log": {"level": "debug", "format": "json"}}"#;
    let part = gateway(text, &dir.path().join("gateway.json"), &env);
    assert!(part.problems.is_empty(), "{:?}", lines(&part));
    let gateway = part.value.unwrap();
    assert_eq!(gateway.limits, Limits { drain: Duration::from_millis(5), ..Limits::default() });
    let sandbox = Sandbox { deadline: Some(Duration::from_millis(20)), fresh: true, ..Sandbox::default() };
    assert_eq!(gateway.sandbox, sandbox);
    assert_eq!(gateway.plugin_sandbox["py"], Sandbox { deadline: Some(Duration::from_millis(50)), ..sandbox });
    assert_eq!(gateway.trusted_ca, Some(dir.path().join("ca.pem")));
    assert_eq!(gateway.access_log, AccessLog::File(dir.path().join("./access.log")));
    assert_eq!((gateway.access_log_rotation, Gateway::default().access_log_rotation.is_some()), (None, true));
    assert_eq!(gateway.log, Log { level: tracing::Level::DEBUG, format: LogFormat::Json });
    assert_eq!(gateway.cors_origins, ["http://localhost:3000"]);
}

#[test]
fn an_admin_token_comes_from_the_file_or_the_environment() {
    let admin = |text: &str| {
        let part = gateway(text.as_bytes(), Path::new("g.json"), &env);
        (lines(&part), part.value.unwrap().admin)
    };
    let token = |token: &str| Admin { token: Some(AdminToken::new(token.as_bytes())), public: false };
    assert_eq!(admin("{}"), (vec![], Admin::default()));
    assert_eq!(admin(r#"{"admin": {"token": null, "public": true}}"#).1, Admin { token: None, public: true });
    assert_eq!(admin(r#"{"admin": {"token": "0123456789abcdef"}}"#), (vec![], token("0123456789abcdef")));
    assert_eq!(admin(r#"{"admin": {"token": "${KEY}"}}"#), (vec![], token("sk-from-environment")));
    let unset = "warning: g.json:1:21: admin.token: has no value: the environment variable NONE is not set; until it has \
                 one, only viewers on the machine itself see the pages: set it, and restart";
    assert_eq!(admin(r#"{"admin": {"token": "${NONE}"}}"#), (vec![unset.to_owned()], Admin::default()));

    let remedy = "write one of at least 16 visible ASCII characters that nobody can guess, such as `aiproxy-host init` \
                  draws, or remove the field";
    for (token, expected) in [
        ("short-enough".to_owned(), format!("is shorter than 16 characters; {remedy}")),
        ("${BAD}".to_owned(), format!("holds a space, a control character or a character beyond ASCII; {remedy}")),
        ("x".repeat(513), format!("is longer than 512 characters; {remedy}")),
        ("${KEY".to_owned(), "holds a `${` that begins no variable; write ${NAME}, or remove the `${`".to_owned()),
    ] {
        let part = gateway(format!(r#"{{"admin": {{"token": "{token}"}}}}"#).as_bytes(), Path::new("g.json"), &env);
        assert_eq!(lines(&part), [format!("error: g.json:1:21: admin.token: {expected}")], "{token}");
        assert!(part.value.is_none(), "{token}");
    }
}

#[test]
fn all_problems_of_all_files_are_reported_in_one_go() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("conf");
    std::fs::create_dir(&conf).unwrap();
    let files = Sources::under(&conf);
    std::fs::write(
        &files.channels,
        r#"{"channels": {"a": {"base_url": 1, "x": 2}, "b": {"host": "?", "base_url": "x"}}}"#,
    )
    .unwrap();
    std::fs::write(&files.keys, r#"[{"proxy_key": "short"}, {"proxy_key": "also", "channel": 1}]"#).unwrap();
    std::fs::write(&files.gateway, "{,}").unwrap();
    let loaded = load(&conf, &|_| None);
    assert!(loaded.config.is_none());
    let places: Vec<_> = loaded.problems.iter().map(|problem| problem.place.as_str()).collect();
    let expected = [
        "channels.a.base_url",
        "channels.a.x",
        "channels.b.base_url",
        "channels.b.host",
        "[0].channel",
        "[0].proxy_key",
        "[1].channel",
        "[1].proxy_key",
        "",
    ];
    assert_eq!(places, expected);
}

#[test]
fn missing_and_unreadable_files_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("conf");
    let loaded = load(&conf, &|_| None);
    let root = dir.path().display();
    let messages: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        ["channels_config.json", "api_keys.json"].map(|file| format!(
            "error: {root}/conf/{file}: does not exist; write it, or let `aiproxy-host init {root}` write an example"
        ))
    );
    std::fs::create_dir_all(conf.join("gateway.json")).unwrap();
    std::fs::write(conf.join("channels_config.json"), ORIGINAL_CHANNELS).unwrap();
    std::fs::write(conf.join("api_keys.json"), ORIGINAL_KEYS).unwrap();
    let loaded = load(&conf, &env);
    assert!(loaded.config.is_none());
    assert_eq!(
        loaded.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [format!(
            "error: {root}/conf/gateway.json: cannot be read: not a regular file; check the file and its permissions"
        )]
    );
    std::fs::remove_dir(conf.join("gateway.json")).unwrap();
    assert_eq!(load(&conf, &env).config.unwrap().gateway, Gateway::default());
}

#[test]
fn the_documentation_names_every_field() {
    fn names(schema: &serde_json::Value, found: &mut Vec<String>) {
        match schema {
            serde_json::Value::Object(members) => {
                for (name, value) in members {
                    if name == "properties" {
                        found.extend(value.as_object().unwrap().keys().cloned());
                    }
                    names(value, found);
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| names(item, found)),
            _ => {}
        }
    }
    let mut fields = Vec::new();
    for schema in
        [file::schema::<file::ChannelsFile>(), file::schema::<file::KeysFile>(), file::schema::<file::GatewayFile>()]
    {
        names(&schema, &mut fields);
    }
    assert!(fields.len() > 60);
    let pages = [include_str!("../../../docs/configuration.md"), include_str!("../../../docs/configuration.zh.md")];
    for (page, field) in pages.iter().flat_map(|page| fields.iter().map(move |field| (page, field))) {
        assert!(
            page.contains(&format!("`{field}`")),
            "{field} is not in the page that begins {:?}",
            &page.lines().next()
        );
    }
}
