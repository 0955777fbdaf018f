//! Whatever stands in the files: no secret is shown, and nothing panics.

use std::path::Path;

use proptest::prelude::*;

use super::super::load::{channels, combine, gateway, keys};
use super::super::problem::{Problem, Severity};
use super::super::{Gateway, file};
use super::{ORIGINAL_CHANNELS, env, lines};

const MARKER: &str = "sk-MARKER-0123456789";

/// Everything that is shown of a configuration: each problem's line and Debug, and the Debug of what was loaded.
fn shown(channel_text: &str, key_text: &str, gateway_text: &str) -> String {
    let env = |name: &str| (name == "MARKER" || name.ends_with("PROXY")).then(|| format!("{MARKER} \u{7f}"));
    let channels = channels(channel_text.as_bytes(), Path::new("c"), &env);
    let keys = keys(key_text.as_bytes(), Path::new("k"));
    let gateway = gateway(gateway_text.as_bytes(), Path::new("g"), &env);
    let mut shown = format!("{channels:?} {keys:?} {gateway:?}");
    shown += &[lines(&channels), lines(&keys), lines(&gateway)].concat().join("\n");
    if let (Some(channels), Some(keys)) = (&channels.value, &keys.value) {
        let (config, problems) = combine(channels, keys, &Gateway::default());
        return format!("{shown} {config:?} {problems:?}");
    }
    shown
}

#[test]
fn a_secret_is_never_shown_wherever_it_stands() {
    let channel = format!(
        r#"{{"channels": {{"a": {{"api_key": "{MARKER}", "base_url": "https://h.example", "secrets": {{"s": "{MARKER}"}},
        "proxy": "http://u:{MARKER}@p.example"}}}}}}"#
    );
    let key = format!(r#"[{{"proxy_key": "{MARKER}", "channel": "a"}}]"#);
    let both = [channel.as_str(), key.as_str()];
    assert!(channels(channel.as_bytes(), Path::new("c"), &env).value.is_some());
    // Whole, and cut off at every place, so that the fault of the grammar is near the secret.
    for text in both {
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            for tail in ["", "\"", "\\q\"", "\n", "}", ",,", "\u{1}"] {
                let broken = format!("{}{tail}", &text[..end]);
                assert!(!shown(&broken, &broken, &broken).contains("MARKER"), "{broken}");
            }
        }
    }
    // As the value of every field, and of every type of value.
    let fields =
        file::schema::<file::ChannelsFile>()["properties"]["channels"]["additionalProperties"]["properties"].clone();
    let key_fields = file::schema::<file::KeysFile>()["anyOf"][0]["items"]["properties"].clone();
    for value in [
        format!("\"{MARKER}\""),
        format!("\"{MARKER} \\u0007\""),
        format!("[\"{MARKER}\"]"),
        format!("{{\"x\": \"{MARKER}\"}}"),
        "\"https://${MARKER}/\"".to_owned(),
        "\"${MARKER}\"".to_owned(),
        format!("\"${{{MARKER}}}\""),
        format!("\"https://u:{MARKER}@h\""),
        format!("\"https://h?key={MARKER}\""),
    ] {
        for field in fields.as_object().unwrap().keys() {
            // What the operator calls a name, a setting or a path is no secret.
            if ["name", "settings", "websocket_endpoints", "path_rewrite", "plugin", "host"].contains(&field.as_str()) {
                continue;
            }
            let text = format!(r#"{{"channels": {{"a": {{"{field}": {value}, "base_url": "https://h"}}}}}}"#);
            assert!(!shown(&text, "[]", "{}").contains("MARKER"), "{text}");
        }
        for field in
            key_fields.as_object().unwrap().keys().filter(|field| !["id", "user", "tags"].contains(&field.as_str()))
        {
            let text = format!(r#"[{{"{field}": {value}, "proxy_key": "sk-123456", "channel": "a"}}]"#);
            assert!(!shown("{\"channels\": {}}", &text, "{}").contains("MARKER"), "{text}");
        }
        for field in ["trusted_ca", "cors_origins", "access_log", "access_log_rotation", "log", "limits", "sandbox"] {
            let text = format!(r#"{{"{field}": {value}}}"#);
            let part = gateway(text.as_bytes(), Path::new("g"), &env);
            assert!(!lines(&part).join("\n").contains("MARKER"), "{text}");
        }
        for text in [format!(r#"{{"admin": {value}}}"#), format!(r#"{{"admin": {{"token": {value}}}}}"#)] {
            assert!(!shown("{\"channels\": {}}", "[]", &text).contains("MARKER"), "{text}");
        }
        for text in [format!(r#"{{"tls": {value}}}"#), format!(r#"{{"tls": {{"cert": {value}, "key": {value}}}}}"#)] {
            let part = gateway(text.as_bytes(), Path::new("g"), &env);
            assert!(!lines(&part).join("\n").contains("MARKER"), "{text}");
        }
    }
}

/// JSON made of the configuration's own words, so that it gets past the grammar and the outer types.
fn json_like() -> impl Strategy<Value = serde_json::Value> {
    let word = prop::sample::select(vec![
        "channels",
        "keys",
        "a",
        "_c",
        "$schema",
        "base_url",
        "api_key",
        "api_keys",
        "host",
        "proxy",
        "secrets",
        "endpoints",
        "path_rewrite",
        "settings",
        "timeout",
        "proxy_key",
        "channel",
        "tags",
        "user",
        "id",
        "limits",
        "sandbox",
        "plugin_sandbox",
        "deadline_ms",
        "cors_origins",
        "access_log",
        "é",
        "",
    ]);
    let text = prop::sample::select(vec![
        "https://h",
        "https://[::1]:0/%",
        "${KEY}",
        "${",
        "YOUR_X_HERE",
        "a",
        "active",
        "http://u@h",
        "/",
        "*",
        "é\u{0}",
        "",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        text.prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

/// What holds for any bytes: no panic, and no value without every error being gone.
fn hold(bytes: &[u8]) {
    let file = Path::new("f");
    let channels = channels(bytes, file, &env);
    let keys = keys(bytes, file);
    let gateway = gateway(bytes, file, &env);
    let has_error = |problems: &[Problem]| problems.iter().any(|p| p.severity == Severity::Error);
    assert_eq!(channels.value.is_none(), has_error(&channels.problems), "{:?}", lines(&channels));
    assert_eq!(keys.value.is_none(), has_error(&keys.problems), "{:?}", lines(&keys));
    assert_eq!(gateway.value.is_none(), has_error(&gateway.problems), "{:?}", lines(&gateway));
    for line in [lines(&channels), lines(&keys), lines(&gateway)].concat() {
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        hold(&bytes);
    }

    #[test]
    fn arbitrary_values_never_panic_and_always_give_a_value_or_a_reason(
        value in json_like(),
        wrap in 0..4,
    ) {
        let value = match wrap {
            0 => value,
            1 => serde_json::json!({"channels": {"a": value, "b": {"base_url": "https://h", "x": value}}}),
            2 => serde_json::json!([value, {"proxy_key": "sk-123456", "channels": value}]),
            _ => serde_json::json!({"limits": value, "sandbox": {"deadline_ms": value}, "plugin_sandbox": {"x": value}}),
        };
        hold(value.to_string().as_bytes());
    }

    #[test]
    fn a_damaged_original_never_panics(at in 0..ORIGINAL_CHANNELS.len(), byte in any::<u8>()) {
        let mut bytes = ORIGINAL_CHANNELS.as_bytes().to_vec();
        bytes[at] = byte;
        hold(&bytes);
    }
}
