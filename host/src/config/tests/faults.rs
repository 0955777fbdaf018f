//! Every fault and every warning, with its exact text: place, what is wrong, what to do.

use std::path::Path;

use super::super::load::gateway;
use super::{URL, channel, env, lines, read_channels, read_keys};

/// The fields of the channel stand on line 2; the column is where a field's value begins.
const CHANNEL_FAULTS: &[(&str, &str)] = &[
    ("", "error: c.json:1:20: channels.a.base_url: is missing; write where requests go, like https://api.example.com"),
    (
        r#""base_url": "h""#,
        "error: c.json:2:13: channels.a.base_url: must begin with https:// or http://; write it like https://api.example.com/prefix",
    ),
    (
        r#""base_url": 5"#,
        "error: c.json:2:13: channels.a.base_url: must be a string, not a number; write it in double quotes",
    ),
    (
        r#""base_url": "https://${H""#,
        "error: c.json:2:13: channels.a.base_url: has a `${` that begins no variable; write ${NAME}: a letter or `_`, then letters, digits and `_`",
    ),
    (
        r#""base_url": "https://h", "api_url": "https://i""#,
        "error: c.json:2:37: channels.a.api_url: differs from base_url, whose other name it is; remove one",
    ),
    (
        r#""base_ulr": 1, "base_url": "https://h""#,
        "error: c.json:2:13: channels.a.base_ulr: is not a known field; did you mean `base_url`? (a name that begins with `_` is a comment)",
    ),
    (
        r#""websocket_url": "ftp://h", URL"#,
        "error: c.json:2:18: channels.a.websocket_url: must begin with wss:// or ws://; write it like https://api.example.com/prefix",
    ),
    (
        r#""host": "a/b", URL"#,
        "error: c.json:2:9: channels.a.host: has no valid host; write the name alone, like api.example.com",
    ),
    (
        r#""status": "on", URL"#,
        "error: c.json:2:11: channels.a.status: has a value that is not known; write one of \"active\", \"disabled\", \"inactive\"",
    ),
    (
        r#""usage": "count", URL"#,
        "error: c.json:2:10: channels.a.usage: has a value that is not known; write one of \"read\", \"ask\"",
    ),
    (r#""timeout": 0, URL"#, "error: c.json:2:12: channels.a.timeout: is too small; write a number from 1 to 600"),
    (r#""timeout": 601, URL"#, "error: c.json:2:12: channels.a.timeout: is too large; write a number from 1 to 600"),
    (
        r#""timeout": 1.5, URL"#,
        "error: c.json:2:12: channels.a.timeout: must be a whole number, not a number; write a whole number, without quotes",
    ),
    (
        r#""timeout": "30", URL"#,
        "error: c.json:2:12: channels.a.timeout: must be a whole number, not a string; write a whole number, without quotes",
    ),
    (r#""weight": -1, URL"#, "error: c.json:2:11: channels.a.weight: is too small; write a number from 0 to 1000000"),
    (
        r#""priority": 1001, URL"#,
        "error: c.json:2:13: channels.a.priority: is too large; write a number from -1000 to 1000",
    ),
    (
        r#""supports_websocket": 1, URL"#,
        "error: c.json:2:23: channels.a.supports_websocket: must be a boolean, not a number; write true or false, without quotes",
    ),
    (
        r#""settings": [], URL"#,
        "error: c.json:2:13: channels.a.settings: must be an object, not a list; write it in curly brackets",
    ),
    (
        r#""api_keys": "k", URL"#,
        "error: c.json:2:13: channels.a.api_keys: must be a list, not a string; write it in square brackets",
    ),
    (
        r#""api_keys": ["k", 1], URL"#,
        "error: c.json:2:19: channels.a.api_keys[1]: must be a string, not a number; write it in double quotes",
    ),
    (
        r#""api_keys": ["k"], "api_key": "k", URL"#,
        "error: c.json:2:13: channels.a.api_keys: is given beside api_key; put every key into api_keys",
    ),
    (
        r#""api_key": "a b", URL"#,
        "error: c.json:2:12: channels.a.api_key: holds a space or a character that no header can carry; a key is visible ASCII: write it, or its ${NAME}, again",
    ),
    (
        r#""api_key": "${BAD}", URL"#,
        "error: c.json:2:12: channels.a.api_key: holds a space or a character that no header can carry; a key is visible ASCII: write it, or its ${NAME}, again",
    ),
    (
        r#""secrets": {"key": "x"}, URL"#,
        "error: c.json:2:20: channels.a.secrets.key: has the name of the channel's api_key; choose another name",
    ),
    (
        r#""secrets": {"a b": "x"}, URL"#,
        "error: c.json:2:20: channels.a.secrets.\"a b\": has a name that is not allowed; use letters, digits, `.`, `_` and `-`, at most 64, beginning with a letter or digit",
    ),
    (
        r#""secrets": {"x": ""}, URL"#,
        "error: c.json:2:18: channels.a.secrets.x: is empty; write the secret, or remove the field",
    ),
    (
        r#""endpoints": {"x": "h"}, URL"#,
        "error: c.json:2:20: channels.a.endpoints.x: must begin with wss:// or ws://; write it like https://api.example.com/prefix",
    ),
    (
        r#""endpoints": {"/": "ws://h"}, URL"#,
        "error: c.json:2:20: channels.a.endpoints.\"/\": has a name that is not allowed; use letters, digits, `.`, `_` and `-`, at most 64, beginning with a letter or digit",
    ),
    (
        r#""proxy": "ftp://h", URL"#,
        "error: c.json:2:10: channels.a.proxy: must begin with http:// or socks5://; write it like http://user:password@proxy.example.com:3128, or \"direct\" for none",
    ),
    (
        r#""plugin": "../x", URL"#,
        "error: c.json:2:11: channels.a.plugin: is not the name of a plugin; use letters, digits, `.`, `_` and `-`, at most 64, beginning with a letter or digit",
    ),
    (
        r#""name": "a\u0000", URL"#,
        "error: c.json:2:9: channels.a.name: is not a name to show; write at most 128 characters, without control characters",
    ),
    (
        r#""path_rewrite": {"x": "/y"}, URL"#,
        "error: c.json:2:23: channels.a.path_rewrite.x: rewrites something that is not a path; begin both sides with `/`",
    ),
    (
        r#""path_rewrite": {"/x": "/y"}, "settings": {"path_rewrite": {}}, URL"#,
        "error: c.json:2:60: channels.a.settings.path_rewrite: is given in the channel too; remove one of the two",
    ),
    (
        r#""status": "active", "status": "active", URL"#,
        "error: c.json:2:31: channels.a.status: is given twice in one object; remove or rename one of the two",
    ),
];

#[test]
fn every_fault_of_a_channel_is_told_with_its_place_and_remedy() {
    for (fields, expected) in CHANNEL_FAULTS {
        let part = channel(&fields.replace("URL", URL));
        assert_eq!(lines(&part), [*expected], "{fields}");
        assert!(part.value.is_none(), "{fields}");
    }
}

#[test]
fn every_warning_of_a_channel_leaves_the_channel_and_says_what_will_not_work() {
    let why = "channels.a.api_key: the environment variable NONE is not set";
    for (fields, expected, active, key_missing) in [
        (
            r#""api_key": "${NONE}", URL"#,
            "warning: c.json:2:12: channels.a.api_key: has no value: the environment variable NONE is not set; requests that need it are answered 503: set it and restart",
            true,
            Some(why),
        ),
        (
            r#""api_key": "YOUR_API_KEY_HERE", URL"#,
            "warning: c.json:2:12: channels.a.api_key: has no value: it still is the placeholder of the example; requests that need it are answered 503: set it and restart",
            true,
            Some("channels.a.api_key: it still is the placeholder of the example"),
        ),
        (
            r#""api_keys": ["${NONE}", "b"], URL"#,
            "warning: c.json:2:13: channels.a.api_keys[0]: has no value: the environment variable NONE is not set; requests that need it are answered 503: set it and restart",
            true,
            None,
        ),
        (
            r#""api_key": "k", "secrets": {"s": "${NONE}"}, URL"#,
            "warning: c.json:2:34: channels.a.secrets.s: has no value: the environment variable NONE is not set; requests that need it are answered 503: set it and restart",
            true,
            Some("channels.a.secrets.s: the environment variable NONE is not set"),
        ),
        (
            r#""api_key": "k", "base_url": "https://${NONE}.example""#,
            "warning: c.json:2:29: channels.a.base_url: cannot be told: the environment variable NONE is not set; the channel is unavailable until it is: set it and restart",
            false,
            Some("channels.a.base_url: the environment variable NONE is not set"),
        ),
        (
            r#""api_key": "k", "proxy": "http://u:${NONE}@h", URL"#,
            "warning: c.json:2:26: channels.a.proxy: cannot be told: the environment variable NONE is not set; the channel is unavailable until it is: set it and restart",
            false,
            Some("channels.a.proxy: the environment variable NONE is not set"),
        ),
        (
            r#""api_key": "k", "ssl": false, URL"#,
            "warning: c.json:2:24: channels.a.ssl: says no TLS, but the URL says https://; the URL counts: correct one of the two",
            true,
            None,
        ),
        (
            r#""api_key": "k", "ssl": true, "base_url": "http://h""#,
            "warning: c.json:2:24: channels.a.ssl: says TLS, but the URL says http://; the URL counts: correct one of the two",
            true,
            None,
        ),
        (
            r#""api_key": "k", "path_rewrite": {"/chat/completions": "/v1beta/models/m:generateContent"}, URL"#,
            "warning: c.json:2:55: channels.a.path_rewrite.\"/chat/completions\": cannot work and is not applied: it sends an OpenAI body to a method that reads Gemini's format; remove it: the gemini plugin sends such paths to the provider's OpenAI-compatible ones",
            true,
            None,
        ),
        (
            r#""api_key": "k", "settings": {"x": [{"y": "${KEY}"}]}, URL"#,
            "warning: c.json:2:29: channels.a.settings: holds `${`, but variables are not replaced in settings; write the value; a secret belongs into `secrets`, where the plugin names it but never sees it",
            true,
            None,
        ),
    ] {
        let part = channel(&fields.replace("URL", URL));
        assert_eq!(lines(&part), [expected], "{fields}");
        let a = &part.value.unwrap().by_id["a"];
        assert_eq!((a.active, a.key_missing.as_deref()), (active, key_missing), "{fields}");
        assert!(!a.settings.contains("path_rewrite"), "{fields}");
    }
}

#[test]
fn faults_of_the_channels_file_as_a_whole() {
    for (text, expected) in [
        ("", "error: c.json:1:1: is not JSON: EOF while parsing a value; correct the JSON at this place"),
        ("[]", "error: c.json:1:1: must be an object, not a list; write it in curly brackets"),
        ("{}", "error: c.json:1:1: channels: is missing; give the channels by id: {\"channels\": {\"bailian\": {…}}}"),
        ("{\"channels\": {}}", "warning: c.json:1:14: channels: is empty; add a channel, or nothing can be served"),
        (
            "{\"channels\": {\"a\": 1}}",
            "error: c.json:1:20: channels.a: must be an object, not a number; write it in curly brackets",
        ),
        (
            "{\"channels\": {\"a/b\": {\"base_url\": \"http://h\"}}}",
            "error: c.json:1:22: channels.\"a/b\": has an id that is not allowed; use letters, digits, `.`, `_` and `-`, at most 64, beginning with a letter or digit",
        ),
        (
            "{\"channels\": {\"a\": {\"base_url\": \"http://h\"}, \"a\": {\"base_url\": \"http://h\"}}}",
            "error: c.json:1:51: channels.a: is given twice in one object; remove or rename one of the two",
        ),
        (
            "{\"chanels\": {}, \"channels\": {\"a\": {\"base_url\": \"http://h\"}}}",
            "error: c.json:1:13: chanels: is not a known field; did you mean `channels`? (a name that begins with `_` is a comment)",
        ),
    ] {
        assert_eq!(lines(&read_channels(text)), [expected], "{text}");
    }
}

#[test]
fn every_fault_of_a_key_is_told_with_its_place_and_remedy() {
    let good = r#""proxy_key": "sk-123456", "channel": "a""#;
    for (text, expected) in [
        ("5", "error: k.json:1:1: must be a list or an object, not a number; write it in square brackets"),
        ("{}", "error: k.json:1:1: keys: is missing; give the list of proxy keys: {\"keys\": [{…}]}"),
        ("{\"keys\": 1}", "error: k.json:1:10: keys: must be a list, not a number; write it in square brackets"),
        ("[]", "warning: k.json:1:1: has no key; add one, or nobody can call"),
        ("[1]", "error: k.json:1:2: [0]: must be an object, not a number; write it in curly brackets"),
        (r#"[{"channel": "a"}]"#, "error: k.json:1:2: [0].proxy_key: is missing; write the key that the client sends"),
        (
            r#"[{"proxy_key": 12345678, "channel": "a"}]"#,
            "error: k.json:1:16: [0].proxy_key: must be a string, not a number; write it in double quotes",
        ),
        (
            r#"{"keys": [{"proxy_key": "sk-1234", "channel": "a"}]}"#,
            "error: k.json:1:25: keys[0].proxy_key: is shorter than 8 characters; use a random key, which cannot be guessed",
        ),
        (
            r#"[{"proxy_key": "sk-12 456", "channel": "a"}]"#,
            "error: k.json:1:16: [0].proxy_key: holds a space, a control character or a character beyond ASCII; use visible ASCII characters",
        ),
        (
            r#"[{"proxy_key": "sk-123456\n", "channel": "a"}]"#,
            "error: k.json:1:16: [0].proxy_key: holds a space, a control character or a character beyond ASCII; use visible ASCII characters",
        ),
        (
            r#"[{"proxy_key": "${SOME_KEY}", "channel": "a"}]"#,
            "error: k.json:1:16: [0].proxy_key: holds `${`, but variables are not replaced in proxy keys; write the key itself",
        ),
        (
            r#"[{"proxy_key": "YOUR_KEY_HERE", "channel": "a"}, {GOOD}]"#,
            "warning: k.json:1:16: [0].proxy_key: still is the placeholder of the example; write a random key (`aiproxy-host init` draws one); until then the entry is passed over",
        ),
        (
            r#"[{"proxy_key": "sk-123456"}]"#,
            "error: k.json:1:2: [0].channel: is missing; name the channel that this key opens",
        ),
        (
            r#"[{"proxy_key": "sk-123456", "channel": 1}]"#,
            "error: k.json:1:40: [0].channel: must be a string, not a number; write it in double quotes",
        ),
        (
            r#"[{"proxy_key": "sk-123456", "channels": []}]"#,
            "error: k.json:1:41: [0].channels: is empty; name the channel that this key opens",
        ),
        (
            r#"[{"channels": ["b"], GOOD}]"#,
            "error: k.json:1:15: [0].channels: is given beside channel, and differs from it; put every channel into channels, and remove channel",
        ),
        (
            r#"[{"proxy_key": "sk-123456", "channels": ["a", "a"]}]"#,
            "error: k.json:1:47: [0].channels[1]: names a channel a second time; remove it",
        ),
        (
            r#"[{"id": "a b", GOOD}]"#,
            "error: k.json:1:9: [0].id: is not an id; use letters, digits, `.`, `_` and `-`, at most 64, beginning with a letter or digit",
        ),
        (
            r#"[{"id": "sk-123456", GOOD}]"#,
            "error: k.json:1:9: [0].id: would reveal the key; choose another: ids are shown in logs and statistics",
        ),
        (
            r#"[{"tags": ["a\nb"], GOOD}]"#,
            "error: k.json:1:11: [0].tags: holds a text that cannot be a tag; write 1 to 128 characters, without control characters",
        ),
        (
            r#"[{"status": "off", GOOD}]"#,
            "error: k.json:1:13: [0].status: has a value that is not known; write one of \"active\", \"disabled\", \"inactive\"",
        ),
        (
            r#"[{"usr": "x", GOOD}]"#,
            "error: k.json:1:10: [0].usr: is not a known field; did you mean `user`? (a name that begins with `_` is a comment)",
        ),
        (
            r#"[{GOOD}, {"_c": 1}, {GOOD}]"#,
            "error: k.json:1:71: [2].proxy_key: is the same key as that of [0]; remove one, or list several `channels` in one",
        ),
        (
            r#"[{"id": "x", GOOD}, {"id": "x", "proxy_key": "sk-abcdef", "channel": "a"}]"#,
            "error: k.json:1:64: [1].id: is the same id as that of [0]; give each key an id of its own",
        ),
    ] {
        assert_eq!(lines(&read_keys(&text.replace("GOOD", good))), [expected], "{text}");
    }
}

#[test]
fn every_fault_of_the_gateway_file_is_told_with_its_place_and_remedy() {
    for (text, expected) in [
        ("[]", "error: g.json:1:1: must be an object, not a list; write it in curly brackets"),
        (
            r#"{"limits": {"connections_max": 0}}"#,
            "error: g.json:1:32: limits.connections_max: is too small; write a number from 1 to 1000000",
        ),
        (
            r#"{"limits": {"inspect_bytes_max": 9999999999}}"#,
            "error: g.json:1:34: limits.inspect_bytes_max: is too large; write a number from 1024 to 1073741824",
        ),
        (
            r#"{"limits": {"inspect_budget_bytes": 1024}}"#,
            "error: g.json:1:12: limits.inspect_bytes_max: is larger than limits.inspect_budget_bytes, the bound for all bodies together; raise the budget, or lower this",
        ),
        (
            r#"{"limits": {"head_timeout": 1}}"#,
            "error: g.json:1:29: limits.head_timeout: is not a known field; did you mean `head_timeout_ms`? (a name that begins with `_` is a comment)",
        ),
        (
            r#"{"sandbox": {"isolation": "none"}}"#,
            "error: g.json:1:27: sandbox.isolation: has a value that is not known; write one of \"pooled\", \"fresh\"",
        ),
        (
            r#"{"plugin_sandbox": {"x": {"deadline_ms": 0}}}"#,
            "error: g.json:1:42: plugin_sandbox.x.deadline_ms: is too small; write a number from 1 to 10000",
        ),
        (
            r#"{"plugin_sandbox": {"/x": {}}}"#,
            "error: g.json:1:27: plugin_sandbox.\"/x\": is not the name of a plugin; use letters, digits, `.`, `_` and `-`, at most 64, beginning with a letter or digit",
        ),
        (
            r#"{"trusted_ca": "missing.pem"}"#,
            "error: g.json:1:16: trusted_ca: names a file that cannot be read (entity not found); give the path of a PEM file, relative to this file's folder",
        ),
        (
            r#"{"trusted_ca": "Cargo.toml"}"#,
            "error: g.json:1:16: trusted_ca: names a file without a PEM certificate; give the path of a PEM file, relative to this file's folder",
        ),
        (
            r#"{"cors_origins": ["*", "https://a.example/"]}"#,
            "error: g.json:1:18: cors_origins[1]: is not an origin as browsers send it; write it like https://chat.example.com: lower case, no path, no default port; or *",
        ),
        (
            r#"{"access_log": "of"}"#,
            "error: g.json:1:16: access_log: is neither a known word nor a file's path; write \"stdout\", \"off\", or a path with a `/`, such as \"./access.log\"",
        ),
        (
            r#"{"access_log": "none/x.log"}"#,
            "error: g.json:1:16: access_log: names a file in a folder that does not exist; create the folder",
        ),
        (
            r#"{"access_log_rotation": {"files_kept": 0}}"#,
            "error: g.json:1:40: access_log_rotation.files_kept: is too small; write a number from 1 to 1000",
        ),
        (
            r#"{"log": {"level": "loud"}}"#,
            "error: g.json:1:19: log.level: has a value that is not known; write one of \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
        ),
    ] {
        // Tests run in the package's folder, where a bare file name resolves.
        let part = gateway(text.as_bytes(), Path::new("g.json"), &env);
        assert_eq!(lines(&part), [expected], "{text}");
        assert!(part.value.is_none(), "{text}");
    }
}
