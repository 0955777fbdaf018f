//! From JSON to a [`Head`]: written by a capture, or by hand.
//!
//! Everything but `path` has a default. Unknown fields are errors, since a misspelt one would test something else.
//! Credentials are taken out as the gateway takes them out, and each is told of.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde_json::{Map, Value};

use super::Head;
use crate::config::problem::nearest;
use crate::exchange::identify::{self, Form};
use crate::json::Pointer;
use crate::plugin::{Caller, Presented, Transport, visible_header};

const FIELDS: [&str; 11] = [
    "method",
    "path",
    "query",
    "transport",
    "presented",
    "headers",
    "withheld",
    "model",
    "streaming",
    "body",
    "caller",
];

impl Head {
    /// The head, and what was changed in it. The error names the field.
    pub fn read(json: &Value) -> Result<(Self, Vec<String>), String> {
        let fields = object(json, "the request")?;
        known(fields, "", &FIELDS)?;
        let mut notes = Vec::new();
        let mut headers = headers(fields.get("headers"))?;
        let mut uri = uri(fields)?;
        let form = identify::strip(&mut headers, &mut uri);
        if form.is_some() {
            notes.push("a credential was taken out: no plugin is shown one".to_owned());
        }
        let presented = presented(fields.get("presented"), form)?;
        let mut kept = Vec::with_capacity(headers.len());
        for (name, value) in &headers {
            if visible_header(name.as_str()).is_err() {
                notes.push(format!("the header {name} was taken out: no plugin is shown it"));
                continue;
            }
            let value = std::str::from_utf8(value.as_bytes()).map_err(|_| format!("headers.{name}: not UTF-8"))?;
            kept.push((name.as_str().to_owned(), value.to_owned()));
        }
        let method = text(fields, "", "method")?.unwrap_or("POST");
        Method::from_bytes(method.as_bytes()).map_err(|_| format!("method: {method:?} is no method"))?;
        let head = Self {
            transport: match text(fields, "", "transport")? {
                None | Some("http") => Transport::Http,
                Some("websocket") => Transport::Websocket,
                Some(_) => return Err("transport: expected \"http\" or \"websocket\"".to_owned()),
            },
            method: method.to_owned(),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            presented,
            headers: kept,
            withheld: strings(fields.get("withheld"), "withheld")?,
            model: fields.get("model").map(|_| text(fields, "", "model")).transpose()?.map(|it| it.map(str::to_owned)),
            streaming: false,
            body: body(fields.get("body"))?,
            caller: caller(fields.get("caller"))?,
        };
        let streaming = match fields.get("streaming") {
            None | Some(Value::Null) => head.accepts_events(),
            Some(Value::Bool(streaming)) => *streaming,
            Some(_) => return Err("streaming: expected true or false".to_owned()),
        };
        Ok((Self { streaming, ..head }, notes))
    }
}

fn object<'a>(json: &'a Value, what: &str) -> Result<&'a Map<String, Value>, String> {
    json.as_object().ok_or_else(|| format!("{what}: expected an object"))
}

fn known(fields: &Map<String, Value>, place: &str, known: &[&str]) -> Result<(), String> {
    // A name that begins with `_` is a comment, as in the configuration.
    let Some(name) = fields.keys().find(|name| !name.starts_with('_') && !known.contains(&name.as_str())) else {
        return Ok(());
    };
    let meant = nearest(name, known.iter().copied()).unwrap_or_default();
    Err(format!("{place}{name:?} is not a known field; did you mean {meant:?}?"))
}

/// `null` is as good as absent.
fn text<'a>(fields: &'a Map<String, Value>, place: &str, name: &str) -> Result<Option<&'a str>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{place}{name}: expected a string")),
    }
}

fn strings(list: Option<&Value>, place: &str) -> Result<Vec<String>, String> {
    let expected = || format!("{place}: expected a list of strings");
    match list {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(expected)).collect()
        }
        Some(_) => Err(expected()),
    }
}

fn uri(fields: &Map<String, Value>) -> Result<Uri, String> {
    let path =
        text(fields, "", "path")?.ok_or("path: is missing; write where the request goes, such as \"/v1/models\"")?;
    if !path.starts_with('/') {
        return Err("path: does not begin with \"/\"".to_owned());
    }
    let target = match text(fields, "", "query")? {
        None => path.to_owned(),
        Some(_) if path.contains('?') => return Err("query: is given in `path`, too; remove one".to_owned()),
        Some(query) => format!("{path}?{query}"),
    };
    // What begins with `//` would be read as an authority.
    let target = http::uri::PathAndQuery::try_from(target);
    target.map(Uri::from).map_err(|error| format!("path: {error}; what is not ASCII must be percent-encoded"))
}

/// An object of names and values (or lists of them), or a list of pairs.
fn headers(json: Option<&Value>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, value: &Value| -> Result<(), String> {
        let place = || format!("headers.{name}");
        let value = value.as_str().ok_or_else(|| format!("{}: expected a string", place()))?;
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("headers: {name:?} is no header name"))?;
        let value =
            HeaderValue::from_bytes(value.as_bytes()).map_err(|_| format!("{}: no header can carry it", place()))?;
        headers.try_append(name, value).map_err(|_| "headers: too many".to_owned())?;
        Ok(())
    };
    match json {
        None | Some(Value::Null) => {}
        Some(Value::Object(members)) => {
            for (name, value) in members {
                match value {
                    Value::Array(values) => values.iter().try_for_each(|value| add(name, value))?,
                    value => add(name, value)?,
                }
            }
        }
        Some(Value::Array(pairs)) => {
            for pair in pairs {
                match pair.as_array().map(Vec::as_slice) {
                    Some([Value::String(name), value]) => add(name, value)?,
                    _ => return Err("headers: expected pairs, [\"name\", \"value\"]".to_owned()),
                }
            }
        }
        Some(_) => return Err("headers: expected an object, or a list of pairs".to_owned()),
    }
    Ok(headers)
}

/// As it is given; else how a credential that was taken out was shown; else as most clients do it.
fn presented(json: Option<&Value>, form: Option<Form>) -> Result<Presented, String> {
    const EXPECTED: &str =
        "presented: expected {\"authorization\": \"bearer\"}, {\"header\": NAME}, {\"query\": NAME} or \"subprotocol\"";
    match json {
        None | Some(Value::Null) => Ok(match form {
            None | Some(Form::Bearer) => Presented::Authorization("bearer".to_owned()),
            Some(Form::Header(name)) => Presented::Header(name.to_owned()),
            Some(Form::Query(name)) => Presented::Query(name.to_owned()),
            Some(Form::Subprotocol) => Presented::Subprotocol,
        }),
        Some(Value::String(word)) if word == "subprotocol" => Ok(Presented::Subprotocol),
        Some(Value::Object(members)) if members.len() == 1 => {
            let (kind, name) = members.iter().next().expect("there is one");
            let name = name.as_str().ok_or(EXPECTED)?.to_owned();
            match kind.as_str() {
                "authorization" => Ok(Presented::Authorization(name)),
                "header" => Ok(Presented::Header(name)),
                "query" => Ok(Presented::Query(name)),
                _ => Err(EXPECTED.to_owned()),
            }
        }
        Some(_) => Err(EXPECTED.to_owned()),
    }
}

/// Pointer → text; another value than a string is taken as the JSON text that a plugin would be shown.
fn body(json: Option<&Value>) -> Result<Vec<(String, Option<String>)>, String> {
    let members = match json {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(json) => object(json, "body")?,
    };
    let field = |(pointer, value): (&String, &Value)| {
        Pointer::parse(pointer).map_err(|error| format!("body: {pointer:?} is no JSON pointer (RFC 6901): {error}"))?;
        let text = match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        Ok((pointer.clone(), text))
    };
    members.iter().map(field).collect()
}

fn caller(json: Option<&Value>) -> Result<Caller, String> {
    let Some(json) = json.filter(|json| !json.is_null()) else {
        return Ok(Caller { id: "tester".to_owned(), tags: Vec::new() });
    };
    let fields = object(json, "caller")?;
    known(fields, "caller: ", &["id", "tags"])?;
    Ok(Caller {
        id: text(fields, "caller.", "id")?.unwrap_or("tester").to_owned(),
        tags: strings(fields.get("tags"), "caller.tags")?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
    use serde_json::json;

    use super::*;

    fn error(json: &Value) -> String {
        Head::read(json).unwrap_err()
    }

    #[test]
    fn a_path_is_enough() {
        let (head, notes) = Head::read(&json!({"path": "/v1/models?a=1"})).unwrap();
        assert_eq!(
            (head.method.as_str(), head.path.as_str(), head.query.as_deref()),
            ("POST", "/v1/models", Some("a=1"))
        );
        assert_eq!((head.transport, &head.presented), (Transport::Http, &Presented::Authorization("bearer".into())));
        assert_eq!((head.model, head.caller.id.as_str(), notes.len()), (None, "tester", 0));
    }

    #[test]
    fn headers_and_bodies_are_written_in_any_usual_way() {
        let headers = json!({"X-A": "1", "x-b": ["2", "3"], "accept": "text/event-stream"});
        let json =
            json!({"_why": "a comment", "path": "/", "headers": headers, "body": {"/a": "t", "/b": 1, "/c": null}});
        let (head, _) = Head::read(&json).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(head.headers[..3], [pair("x-a", "1"), pair("x-b", "2"), pair("x-b", "3")]);
        assert!(head.streaming, "`accept` says so");
        let values: Vec<_> = head.body.iter().map(|(_, value)| value.as_deref()).collect();
        assert_eq!(values, [Some("t"), Some("1"), None]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, reason) in [
            (json!([]), "expected an object"),
            (json!({}), "path: is missing"),
            (json!({"path": "v1"}), "begin with"),
            (json!({"path": "/a b"}), "path: "),
            (json!({"path": "/a?b", "query": "c"}), "query: "),
            (json!({"path": "/", "modle": "m"}), "\"modle\" is not a known field; did you mean \"model\"?"),
            (json!({"path": "/", "caller": {"name": "x"}}), "caller: \"name\""),
            (json!({"path": "/", "model": 1}), "model: expected a string"),
            (json!({"path": "/", "streaming": "yes"}), "streaming: expected true or false"),
            (json!({"path": "/", "method": "G T"}), "method: "),
            (json!({"path": "/", "transport": "tcp"}), "transport: "),
            (json!({"path": "/", "headers": {"a b": "c"}}), "no header name"),
            (json!({"path": "/", "headers": {"a": "c\n"}}), "headers.a: "),
            (json!({"path": "/", "headers": ["a"]}), "pairs"),
            (json!({"path": "/", "presented": {"cookie": "a"}}), "presented: "),
            (json!({"path": "/", "body": {"a": 1}}), "RFC 6901"),
            (json!({"path": "/", "withheld": [1]}), "withheld: "),
        ] {
            assert!(error(&json).contains(reason), "{json}: {}", error(&json));
        }
    }

    #[test]
    fn credentials_are_taken_out_and_told_of() {
        let headers = json!({"x-api-key": "sk-1234567890", "cookie": "a=1", "x-a": "1"});
        let (head, notes) = Head::read(&json!({"path": "/?key=sk-1234567890&b", "headers": headers})).unwrap();
        assert_eq!((head.headers.len(), head.query.as_deref()), (1, Some("b")));
        assert_eq!(head.presented, Presented::Header("x-api-key".into()));
        assert!(notes[0].contains("a credential") && notes[1].contains("cookie"), "{notes:?}");
        assert!(!format!("{head:?}{notes:?}").contains("sk-1234567890"));
    }

    fn anything() -> impl Strategy<Value = Value> {
        let name = prop_oneof![proptest::sample::select(FIELDS.to_vec()).prop_map(str::to_owned), "\\PC{0,6}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            "/[a-z?&=%é]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 32, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((name.clone(), inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_json_makes_reading_panic_and_what_was_read_is_read_again(json in anything()) {
            if let Ok((head, _)) = Head::read(&json) {
                prop_assert_eq!(Head::read(&head.to_json()), Ok((head, Vec::new())));
            }
        }
    }
}
