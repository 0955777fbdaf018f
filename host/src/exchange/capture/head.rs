//! The head of a request as JSON: what a capture records, `explain --json` prints and `plugin run` reads.
//!
//! It is more than one plugin is shown: all headers but those with credentials, so that a plugin with another profile can
//! be asked. What the body said is in it as far as somebody looked, by pointer; what nobody looked for is absent, which is
//! not the same as `null` (looked for, and not there).

mod conceal;
mod read;

use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::secrecy::{is_secret_field, is_suspect};
use super::suspects::Suspects;
use crate::exchange::classify::accepts_events;
use crate::plugin::{Caller, Presented, Profile, Request, Transport, visible_header};

/// A longer value is left out.
const HEADER_VALUE_BYTES_MAX: usize = 4 << 10;

#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    pub transport: Transport,
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    pub presented: Presented,
    /// Names in lower case; without credentials.
    pub headers: Vec<(String, String)>,
    /// Names of headers, and pointers of body fields, that were there and are in neither list: too long a header, or what
    /// looks like a credential. A pointer is told by its `/`; that of the whole body is empty.
    pub withheld: Vec<String>,
    /// None: nobody looked for it.
    pub model: Option<Option<String>>,
    /// What the body or `accept` say.
    pub streaming: bool,
    /// By pointer.
    pub body: Vec<(String, Option<String>)>,
    pub caller: Caller,
}

/// What a plugin of one profile is shown of a head.
pub struct Shown {
    pub request: Request,
    /// What the profile asks for and the head does not tell.
    pub unknown: Vec<String>,
}

impl Head {
    /// Of a request whose credentials are gone, as `shown` to a plugin of this profile; and the values that look like
    /// credentials all the same, which must not get out by another way. Those in the query are still to be masked.
    pub fn of(shown: &Request, headers: &HeaderMap, profile: &Profile, caller: Caller) -> (Self, Suspects) {
        let mut suspects = Suspects::default();
        let mut head = Self {
            transport: shown.transport,
            method: shown.method.clone(),
            path: shown.path.clone(),
            query: shown.query.clone(),
            presented: shown.presented.clone(),
            headers: Vec::with_capacity(headers.len()),
            withheld: Vec::new(),
            model: None,
            streaming: shown.streaming,
            body: Vec::new(),
            caller,
        };
        for (name, value) in headers {
            let name = name.as_str();
            // What is not UTF-8 is shown to no plugin, and neither are credentials.
            let Ok(value) = std::str::from_utf8(value.as_bytes()) else { continue };
            if visible_header(name).is_err() {
                continue;
            }
            let is_suspect = is_suspect(name);
            if is_suspect {
                suspects.add(value);
            }
            if value.len() > HEADER_VALUE_BYTES_MAX || is_suspect {
                head.withhold(name);
                continue;
            }
            head.headers.push((name.to_owned(), value.to_owned()));
        }
        head.note(shown, profile, &mut suspects);
        (head, suspects)
    }

    /// What another plugin was shown of the same request.
    pub fn add(&mut self, shown: &Request, profile: &Profile) {
        self.note(shown, profile, &mut Suspects::default());
    }

    fn note(&mut self, shown: &Request, profile: &Profile, suspects: &mut Suspects) {
        if profile.reads_model {
            self.model = Some(shown.model.clone());
            self.streaming |= shown.streaming;
        }
        for (pointer, value) in profile.body.iter().zip(&shown.body) {
            if value.as_ref().is_some_and(|value| is_secret_field(pointer, value, suspects)) {
                self.withhold(pointer);
            } else if !self.body.iter().any(|(known, _)| known == pointer) {
                self.body.push((pointer.clone(), value.clone()));
            }
        }
    }

    fn withhold(&mut self, name: &str) {
        if !self.is_withheld(name) {
            self.withheld.push(name.to_owned());
        }
    }

    fn is_withheld(&self, name: &str) -> bool {
        self.withheld.iter().any(|withheld| withheld == name)
    }

    /// As a plugin of this profile is shown it.
    pub fn shown(&self, profile: &Profile) -> Shown {
        let mut unknown = Vec::new();
        let mut headers = Vec::new();
        for name in profile.headers.iter().map(http::HeaderName::as_str) {
            if self.is_withheld(name) {
                unknown.push(format!("the header {name}, whose value is not given"));
            }
            headers.extend(self.headers.iter().filter(|(own, _)| own == name).cloned());
        }
        if profile.reads_model && self.model.is_none() {
            unknown.push("the model".to_owned());
        }
        let body = profile.body.iter().map(|pointer| {
            let known = self.body.iter().find(|(own, _)| own == pointer);
            if known.is_none() {
                let why = if self.is_withheld(pointer) { ", whose value is not given" } else { "" };
                unknown.push(format!("the body's {pointer:?}{why}"));
            }
            known.and_then(|(_, value)| value.clone())
        });
        let request = Request {
            transport: self.transport,
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            presented: self.presented.clone(),
            body: body.collect(),
            headers,
            model: self.model.clone().flatten().filter(|_| profile.reads_model),
            // Who does not have the body read knows only what `accept` says.
            streaming: if profile.reads_model { self.streaming } else { self.accepts_events() },
        };
        Shown { request, unknown }
    }

    fn accepts_events(&self) -> bool {
        let values = self.headers.iter().filter(|(name, _)| name == "accept");
        let values = values.filter_map(|(_, value)| Some((http::header::ACCEPT, value.parse().ok()?)));
        accepts_events(&values.collect())
    }

    pub fn to_json(&self) -> Value {
        let mut json = Map::new();
        let mut put = |name: &str, value: Value| _ = json.insert(name.to_owned(), value);
        put("method", json!(self.method));
        put("path", json!(self.path));
        if let Some(query) = &self.query {
            put("query", json!(query));
        }
        put("transport", json!(if self.transport == Transport::Http { "http" } else { "websocket" }));
        put(
            "presented",
            match &self.presented {
                Presented::Authorization(scheme) => json!({"authorization": scheme}),
                Presented::Header(name) => json!({"header": name}),
                Presented::Query(name) => json!({"query": name}),
                Presented::Subprotocol => json!("subprotocol"),
            },
        );
        put("headers", headers_json(&self.headers));
        if !self.withheld.is_empty() {
            put("withheld", json!(self.withheld));
        }
        if let Some(model) = &self.model {
            put("model", json!(model));
        }
        put("streaming", json!(self.streaming));
        if !self.body.is_empty() {
            put("body", self.body.iter().map(|(pointer, value)| (pointer.clone(), json!(value))).collect());
        }
        put("caller", json!({"id": self.caller.id, "tags": self.caller.tags}));
        Value::Object(json)
    }
}

/// `{"accept": "*/*", "x-a": ["1", "2"]}`
fn headers_json(headers: &[(String, String)]) -> Value {
    let mut json = Map::new();
    for (name, value) in headers {
        match json.get_mut(name) {
            None => _ = json.insert(name.clone(), json!(value)),
            Some(Value::Array(values)) => values.push(json!(value)),
            Some(only) => *only = json!([only.take(), value]),
        }
    }
    Value::Object(json)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::plugin::Reuse;

    fn profile(headers: &[&'static str], reads_model: bool, body: &[&str]) -> Profile {
        Profile {
            headers: headers.iter().map(|name| http::HeaderName::from_static(name)).collect(),
            reads_model,
            body: body.iter().map(|&pointer| pointer.to_owned()).collect(),
            socket_model: Vec::new(),
            meters: Vec::new(),
            reuse: Reuse::Never,
        }
    }

    fn request() -> Request {
        Request {
            transport: Transport::Http,
            method: "POST".into(),
            path: "/v1/a%2fb".into(),
            query: Some("a=1".into()),
            presented: Presented::Header("x-api-key".into()),
            headers: Vec::new(),
            model: Some("m".into()),
            streaming: true,
            body: vec![Some("1".into()), None],
        }
    }

    fn headers(list: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static [u8])| {
            (http::HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        };
        list.iter().map(pair).collect()
    }

    fn caller() -> Caller {
        Caller { id: "tester".into(), tags: vec!["team-a".into()] }
    }

    #[test]
    fn credentials_are_left_out_whatever_the_profile_wants_and_the_rest_is_kept() {
        let long: &'static [u8] = vec![b'x'; HEADER_VALUE_BYTES_MAX + 1].leak();
        let headers = headers(&[
            ("authorization", b"Token auth_tokens/1"),
            ("cookie", b"a=1"),
            ("proxy-authorization", b"Basic x"),
            ("x-session-token", b"session-1"),
            ("x-long", long),
            ("x-odd", b"\xff"),
            ("x-a", b"1"),
            ("x-a", b"2"),
        ]);
        let profile = profile(&["x-a", "x-long", "x-session-token"], true, &["/n", "/absent"]);
        let (head, suspects) = Head::of(&request(), &headers, &profile, caller());
        assert_eq!(suspects.masked("session-1").as_deref(), Some("***"));
        assert_eq!(head.headers, [("x-a".to_owned(), "1".to_owned()), ("x-a".to_owned(), "2".to_owned())]);
        assert_eq!(head.withheld, ["x-session-token", "x-long"]);
        assert_eq!(head.body, [("/n".to_owned(), Some("1".to_owned())), ("/absent".to_owned(), None)]);
        let shown = head.shown(&profile);
        assert_eq!(shown.unknown.len(), 2, "{:?}", shown.unknown);
        assert_eq!(shown.request.headers.len(), 2);
        assert_eq!((shown.request.model.as_deref(), shown.request.body), (Some("m"), vec![Some("1".into()), None]));
    }

    #[test]
    fn what_nobody_looked_for_is_unknown_and_what_was_not_there_is_known() {
        let (without, _) =
            Head::of(&request(), &headers(&[("accept", b"text/event-stream")]), &profile(&[], false, &[]), caller());
        assert_eq!((without.model.as_ref(), without.body.len()), (None, 0));
        let unknown = without.shown(&profile(&["x-absent"], true, &["/n"])).unknown;
        assert_eq!(unknown, ["the model", "the body's \"/n\""]);
        let quiet = Head { headers: Vec::new(), model: Some(None), ..without.clone() };
        assert!(quiet.shown(&profile(&[], true, &[])).unknown.is_empty());
        assert!(without.shown(&profile(&[], false, &[])).request.streaming, "`accept` says so");
        assert!(!quiet.shown(&profile(&[], false, &[])).request.streaming, "only the body says so");
    }

    #[test]
    fn a_head_is_read_back_as_it_was_written() {
        let profile = profile(&["x-a"], true, &["/n", "/absent"]);
        let (mut head, _) = Head::of(&request(), &headers(&[("x-a", b"1"), ("x-key", b"1")]), &profile, caller());
        for presented in
            [Presented::Authorization("bearer".into()), Presented::Query("key".into()), Presented::Subprotocol]
        {
            head.presented = presented;
            assert_eq!(Head::read(&head.to_json()).unwrap(), (head.clone(), Vec::new()));
        }
        (head.transport, head.query, head.model) = (Transport::Websocket, None, Some(None));
        assert_eq!(Head::read(&head.to_json()).unwrap(), (head.clone(), Vec::new()));
    }
}
