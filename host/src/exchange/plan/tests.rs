//! Whatever a plugin answers becomes a request as the channel's configuration has it, or a failure that can be shown.

use std::collections::BTreeMap;

use http::{HeaderMap, Request as HttpRequest, Uri};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::path;
use crate::plugin::sample::{self, is_harmless, is_hosts_own};
use crate::plugin::{Presented, Request};

/// Headers as the gateway has made them before the plan's edits.
fn headers() -> HeaderMap {
    let fields = [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "gateway.example"),
        ("te", "trailers"),
        ("x-a", "the client's"),
        ("x-a", "and again"),
        ("content-type", "application/json"),
    ];
    fields.into_iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn request(transport: Transport, path: &str) -> Request {
    Request {
        transport,
        method: "POST".into(),
        path: path.into(),
        query: None,
        presented: Presented::Header("x-api-key".into()),
        headers: Vec::new(),
        model: None,
        streaming: false,
        body: Vec::new(),
    }
}

/// The plan ready to be applied, where it is one.
fn prepared(answer: sample::Answer, channel: &Channel, request: &Request) -> Result<Option<Rc<Prepared>>, Failure> {
    let decision = sample::decision(answer, channel, &sample::profile_of_two_sets())?;
    Ok(match Answer::from_decision(decision, channel, request)? {
        Answer::Send(prepared) => Some(prepared),
        Answer::Decline => None,
        Answer::Refuse(failure) => return Err(failure),
        Answer::KeyMissing(reason) => panic!("the channel has all its keys: {reason}"),
    })
}

/// What must hold of the request's line and of where it goes.
fn check_target(prepared: &Prepared, channel: &Channel, request: &Request) -> Result<(), TestCaseError> {
    let Prepared { plan, endpoint, target, .. } = prepared;
    let own = if request.transport == Transport::Http { &channel.http } else { &channel.websocket };
    let expected = if plan.endpoint.is_some() { &channel.endpoints["batch"] } else { own };
    prop_assert!(Arc::ptr_eq(endpoint, expected));
    prop_assert_eq!(target.path(), format!("{}{}", endpoint.base_path, plan.path));
    prop_assert!(!path::climbs(&plan.path), "{}", target);
    prop_assert!(!path::begins_with_authority(target.as_str()) || plan.path == request.path, "{}", target);
    prop_assert!(target.as_str().bytes().all(|b| b > b' ' && b != 0x7f && b != b'#'), "{}", target);
    let uri = Uri::from(target.clone());
    prop_assert!(uri.authority().is_none() && uri.scheme().is_none());
    let addressed = Uri::builder().scheme("https").authority(endpoint.authority.as_str());
    let addressed = addressed.path_and_query(target.clone()).build().expect("a URI");
    prop_assert_eq!(addressed.host(), Some(endpoint.host.as_str()));
    Ok(())
}

/// The credentials are where the plan says, each once, and nowhere else.
fn check_credentials(prepared: &Prepared, channel: &Channel, headers: &HeaderMap) -> Result<(), TestCaseError> {
    let mut in_headers = BTreeMap::new();
    let mut in_query: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for credential in &prepared.plan.credentials {
        let secret = channel.secrets[&credential.secret].reveal();
        match &credential.place {
            Placement::Authorization(scheme) => {
                in_headers.insert(AUTHORIZATION.as_str(), format!("{scheme} {secret}"));
            }
            Placement::Header(name) => {
                in_headers.insert(name.as_str(), secret.to_owned());
            }
            Placement::Query(name) => in_query.entry(name).or_default().push(secret),
        }
    }
    for (name, value) in headers {
        match in_headers.get(name.as_str()) {
            Some(expected) => {
                prop_assert_eq!(value.as_bytes(), expected.as_bytes());
                prop_assert!(value.is_sensitive() && headers.get_all(name).iter().count() == 1);
            }
            None => prop_assert!(!holds_secret(value.as_bytes(), channel), "{}", name),
        }
    }
    prop_assert!(in_headers.keys().all(|name| headers.contains_key(*name)));
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in prepared.target.query().unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        if in_query.contains_key(plain(name).as_str()) {
            found.entry(plain(name)).or_default().push(plain(value));
        } else {
            prop_assert!(!holds_secret(plain(pair).as_bytes(), channel), "{}", pair);
        }
    }
    prop_assert_eq!(format!("{found:?}"), format!("{in_query:?}"));
    Ok(())
}

fn holds_secret(bytes: &[u8], channel: &Channel) -> bool {
    channel.secrets.values().any(|secret| memchr::memmem::find(bytes, secret.reveal().as_bytes()).is_some())
}

/// What the host alone sets is as it was, and nothing ends a header's line.
fn check_headers(headers: &HeaderMap) -> Result<(), TestCaseError> {
    let own = |headers: &HeaderMap| {
        let own = headers.iter().filter(|(name, _)| is_hosts_own(name));
        own.map(|(name, value)| (name.to_string(), value.clone())).collect::<Vec<_>>()
    };
    prop_assert_eq!(own(headers), own(&self::headers()));
    for value in headers.values() {
        prop_assert!(value.as_bytes().iter().all(|b| !b.is_ascii_control() || *b == b'\t'), "{:?}", value);
    }
    Ok(())
}

/// An edited body is JSON, or the edit's failure can be shown.
fn check_body(edits: &[edit::BodyEdit]) -> Result<(), TestCaseError> {
    for body in ["{}", r#"{"a": {"b": [1, {"model": "m"}]}, "model": null}"#, "[1, 2]", "7"] {
        match edit::apply(body.as_bytes(), edits) {
            Ok(edited) => prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&edited).is_ok()),
            Err(error) => prop_assert!(is_harmless(&error.to_string()), "{}", error),
        }
    }
    Ok(())
}

fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases * 8, ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_answer_becomes_a_sound_request_or_a_failure_that_can_be_shown(
        answer in sample::answer(), is_websocket: bool, is_clients_path: bool,
    ) {
        let channel = sample::channel();
        let own_path = match &answer {
            sample::Answer::Send(plan) if is_clients_path => plan.path.clone(),
            _ => "/".to_owned(),
        };
        let transport = if is_websocket { Transport::Websocket } else { Transport::Http };
        let request = request(transport, &own_path);
        match prepared(answer, &channel, &request) {
            Ok(None) => {}
            Ok(Some(prepared)) => {
                let mut sent = HttpRequest::new(());
                *sent.headers_mut() = headers();
                prepared.edit_headers(sent.headers_mut());
                *sent.uri_mut() = Uri::from(prepared.target.clone());
                check_target(&prepared, &channel, &request)?;
                check_headers(sent.headers())?;
                check_credentials(&prepared, &channel, sent.headers())?;
                check_body(&prepared.body_edits)?;
            }
            Err(failure) => {
                prop_assert!(is_harmless(&failure.message), "{}", failure);
                prop_assert!(is_harmless(failure.cause.as_deref().unwrap_or_default()), "{}", failure);
                let status = failure.status().as_u16();
                prop_assert!((400..600).contains(&status) && !failure.code().is_empty());
                prop_assert!(failure.code().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            }
        }
    }
}

/// Else the property above says nothing.
#[test]
fn of_the_arbitrary_plans_many_pass_and_many_do_not() {
    let mut runner = TestRunner::deterministic();
    let channel = sample::channel();
    let request = request(Transport::Http, "/");
    let is_sent = |_: &usize| {
        let answer = sample::answer().new_tree(&mut runner).expect("a plan").current();
        matches!(prepared(answer, &channel, &request), Ok(Some(_)))
    };
    let passed = (0..400).filter(is_sent).count();
    assert!((80..320).contains(&passed), "{passed} of 400");
}
