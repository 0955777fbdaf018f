//! What an operator reads who wrote something wrong.

use serde::Deserialize;
use serde_json::json;

use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Settings {
    prefix: String,
    models: Option<Vec<String>>,
    limits: Vec<u16>,
    strict: bool,
    share: f64,
    key: Option<Key>,
    nested: Option<Nested>,
    rewrites: Table<Path, Path>,
    raw: Value,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Nested {
    depth: u8,
    #[serde(default)]
    note: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Key {
    None,
    Header(String),
    Both { left: String },
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
struct Path(String);

impl TryFrom<String> for Path {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with('/') { Ok(Self(text)) } else { Err(format!("`{text}` does not begin with `/`")) }
    }
}

fn read(value: &Value) -> Result<Settings, String> {
    from_json(&value.to_string())
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let known = "prefix, models, limits, strict, share, key, nested, rewrites, raw";
    for (value, expected) in [
        (json!({"prefx": ""}), &*format!("settings: unknown setting `prefx`; did you mean `prefix`? (known: {known})")),
        (json!([]), "settings: expected an object, found a list"),
        (json!({"prefix": 1}), "settings.prefix: expected a string, found a number"),
        (json!({"prefix": null}), "settings.prefix: expected a string, found null"),
        (json!({"strict": {}}), "settings.strict: expected true or false, found an object"),
        (json!({"models": "m"}), "settings.models: expected a list of strings, found a string"),
        (json!({"models": ["m", 2]}), "settings.models: expected a list of strings, found a number at [1]"),
        (json!({"limits": 1}), "settings.limits: expected a list of whole numbers, found a number"),
        (json!({"limits": [70000]}), "settings.limits[0]: expected a whole number from 0 to 65535, found 70000"),
        (json!({"share": "1"}), "settings.share: expected a number, found a string"),
        (
            json!({"key": "heder"}),
            "settings.key: unknown value `heder`; did you mean `header`? (known: none, header, both)",
        ),
        (
            json!({"key": {"x": 1}}),
            "settings.key: unknown setting `x`; did you mean `none`? (known: none, header, both)",
        ),
        (json!({"key": "header"}), "settings.key: `header` wants a value: {\"header\": …}"),
        (json!({"key": {"none": 1}}), "settings.key: `none` takes no value: write \"none\""),
        (json!({"key": {}}), "settings.key: expected exactly one of none, header, both"),
        (json!({"key": 1}), "settings.key: expected one of none, header, both, found a number"),
        (json!({"key": {"header": 1}}), "settings.key.header: expected a string, found a number"),
        (json!({"key": {"both": {}}}), "settings.key.both: the setting `left` is missing"),
        (json!({"nested": 1}), "settings.nested: expected an object, found a number"),
        (json!({"nested": {}}), "settings.nested: the setting `depth` is missing"),
        (json!({"nested": {"depth": 256}}), "settings.nested.depth: expected a whole number from 0 to 255, found 256"),
        (json!({"rewrites": []}), "settings.rewrites: expected an object, found a list"),
        (json!({"rewrites": {"a": "/b"}}), "settings.rewrites.a: `a` does not begin with `/`"),
        (json!({"rewrites": {"/a": "b"}}), "settings.rewrites[\"/a\"]: `b` does not begin with `/`"),
        (json!({"rewrites": {"/a": 1}}), "settings.rewrites[\"/a\"]: expected a string, found a number"),
    ] {
        assert_eq!(read(&value).unwrap_err(), expected, "{value}");
    }
    assert!(from_json::<Settings>("{").unwrap_err().starts_with("the settings are not JSON: "));
}

#[test]
fn what_is_right_is_read_and_what_is_left_out_has_its_default() {
    let settings = read(&json!({
        "prefix": "/v1", "models": ["m"], "limits": [1, 65535], "strict": true, "share": 0.5, "key": {"header": "x"},
        "nested": {"depth": 3}, "rewrites": {"/a": "/b", "/c": "/d"},
    }))
    .unwrap();
    assert_eq!(settings.models, Some(vec!["m".to_owned()]));
    assert_eq!((settings.limits, settings.strict, settings.share), (vec![1, 65535], true, 0.5));
    assert_eq!((settings.key, settings.nested.unwrap().depth), (Some(Key::Header("x".into())), 3));
    let path = |text: &str| Path(text.to_owned());
    assert_eq!(settings.rewrites.0, [(path("/a"), path("/b")), (path("/c"), path("/d"))]);
    assert_eq!(from_json::<Settings>("").unwrap(), Settings::default());
    // An option may be said to be left out.
    assert_eq!(read(&json!({"models": null, "key": null})).unwrap(), Settings::default());
    assert_eq!(read(&json!({"key": "none"})).unwrap().key, Some(Key::None));
}

#[test]
fn a_name_that_begins_with_an_underscore_is_a_comment_except_in_json_that_is_taken_as_it_is() {
    let settings = read(&json!({
        "_": 1, "nested": {"_note": [], "depth": 1}, "key": {"_why": "", "header": "x"}, "rewrites": {"_off": 1, "/a": "/b"},
        "raw": {"_id": 1},
    }))
    .unwrap();
    assert_eq!(settings.rewrites.0.len(), 1);
    assert_eq!(settings.raw, json!({"_id": 1}));
}

#[test]
fn a_plugin_without_settings_refuses_any() {
    assert_eq!(from_json::<()>(""), Ok(()));
    assert_eq!(from_json::<()>(r#"{"_note": 1}"#), Ok(()));
    assert_eq!(from_json::<()>(r#"{"x": 1}"#).unwrap_err(), "settings: unknown setting `x` (there are none)");
    assert_eq!(from_json::<()>("1").unwrap_err(), "settings: expected an object, found a number");
}
