use super::sample::{channel, profile_of_two_sets};
use super::*;

fn sound() -> types::Plan {
    types::Plan {
        endpoint: None,
        path: "/v1/chat".into(),
        query: Some("a=b?c/%20".into()),
        headers: vec![],
        body: vec![],
        credentials: vec![],
        model: None,
        meters: None,
        options: vec![],
    }
}

fn check(plan: types::Plan) -> Result<Plan, Failure> {
    super::plan(plan, &channel(), &profile_of_two_sets())
}

fn set(name: &str, value: &str) -> types::HeaderEdit {
    types::HeaderEdit::Set((name.into(), value.into()))
}

#[test]
fn a_sound_plan_keeps_all_its_parts() {
    let credential = |secret: &str, place| types::Credential { secret: secret.into(), place };
    let plan = check(types::Plan {
        endpoint: Some("batch".into()),
        headers: vec![set("x-a", "ä"), types::HeaderEdit::Remove("x-b".into())],
        body: vec![types::BodyEdit::SetIfAbsent(("/a~1b".into(), "{\"x\": 1}".into()))],
        credentials: vec![
            credential("key", types::Placement::Authorization("Bearer".into())),
            credential("other", types::Placement::Header("x-goog-api-key".into())),
            credential("other", types::Placement::Query("key".into())),
        ],
        model: Some("qwen-max".into()),
        meters: Some(1),
        ..sound()
    })
    .unwrap();
    assert_eq!(plan.endpoint.unwrap().host, "batch.example");
    assert_eq!((plan.path.as_str(), plan.query.as_deref()), ("/v1/chat", Some("a=b?c/%20")));
    assert_eq!(plan.headers[1], HeaderEdit::Remove(HeaderName::from_static("x-b")));
    assert_eq!(plan.body[0], BodyEdit::SetIfAbsent { pointer: "/a~1b".into(), json: "{\"x\": 1}".into() });
    assert_eq!(plan.credentials[2], Credential { secret: "other".into(), place: Placement::Query("key".into()) });
    assert_eq!((plan.model.as_deref(), plan.meters), (Some("qwen-max"), Some(1)));
}

#[test]
fn every_unsound_part_of_a_plan_is_refused_with_its_kind_and_its_name() {
    type Spoil = fn(&mut types::Plan);
    let cases: &[(Spoil, Kind, &str)] = &[
        (|p| p.path = "v1".into(), Kind::PluginAnswer, "does not begin with"),
        (|p| p.path = String::new(), Kind::PluginAnswer, "does not begin with"),
        (|p| p.path = "/a b".into(), Kind::PluginAnswer, "holds ' '"),
        (|p| p.path = "/a?b".into(), Kind::PluginAnswer, "holds '?'"),
        (|p| p.path = "/a#b".into(), Kind::PluginAnswer, "holds '#'"),
        (|p| p.path = "/a\r\nx: y".into(), Kind::PluginAnswer, r#""/a\r\nx: y""#),
        (|p| p.path = format!("/{}", "a".repeat(60 << 10)), Kind::PluginAnswer, "61441 bytes"),
        (|p| p.path = "/a/%2e%2E/../x".into(), Kind::PluginAnswer, "climb above its root"),
        (|p| p.query = Some("a\0".into()), Kind::PluginAnswer, "the query holds"),
        (|p| p.query = Some("a#b".into()), Kind::PluginAnswer, "the query holds"),
        (|p| p.headers.push(set("x-a", "b\r\nc: d")), Kind::PluginAnswer, r"b\r\nc: d"),
        (|p| p.headers.push(set("X-A", "b")), Kind::PluginAnswer, "lower case"),
        (|p| p.headers.push(set("content-length", "0")), Kind::PluginAnswer, "\"content-length\""),
        (|p| p.headers.push(types::HeaderEdit::Remove("host".into())), Kind::PluginAnswer, "\"host\""),
        (|p| p.headers = vec![set("x-a", "b"); 1000], Kind::PluginAnswer, "1000 header edits, more than 64"),
        (|p| p.body.push(types::BodyEdit::Set(("a".into(), "1".into()))), Kind::PluginAnswer, "RFC 6901"),
        (|p| p.body.push(types::BodyEdit::Set(("/a".into(), "{".into()))), Kind::PluginAnswer, "not valid JSON"),
        (|p| p.body.push(types::BodyEdit::Set(("/a".into(), "1 2".into()))), Kind::PluginAnswer, "not valid JSON"),
        (|p| p.body.push(types::BodyEdit::Remove(String::new())), Kind::PluginAnswer, "whole document"),
        (|p| p.endpoint = Some("evil.example".into()), Kind::PluginEndpoint, "\"evil.example\""),
        (|p| p.options.push(("teleport".into(), "1".into())), Kind::PluginOption, "\"teleport\""),
        (|p| p.model = Some("a\nb".into()), Kind::PluginAnswer, r#""a\nb""#),
        (|p| p.model = Some("a".repeat(257)), Kind::PluginAnswer, "257 bytes"),
        (|p| p.meters = Some(2), Kind::PluginAnswer, "meters 2, the profile has 2"),
    ];
    for (spoil, kind, reason) in cases {
        let mut plan = sound();
        spoil(&mut plan);
        let failure = check(plan).unwrap_err();
        assert_eq!(failure.kind, *kind, "{failure}");
        assert!(failure.message.contains(reason), "{failure} should say {reason}");
    }
}

#[test]
fn credentials_are_checked_by_secret_scheme_and_place() {
    let refused = |secret: &str, place| {
        let credential = types::Credential { secret: secret.into(), place };
        let failure = check(types::Plan { credentials: vec![credential], ..sound() }).unwrap_err();
        (failure.kind, failure.message.into_owned())
    };
    let signature = types::Signature { scheme: "wax-seal".into(), parameters: vec![] };
    let cases = [
        (refused("yours", types::Placement::Query("key".into())), Kind::PluginSecret, "\"yours\""),
        (refused("key", types::Placement::Signed(signature)), Kind::PluginSigning, "\"wax-seal\""),
        (refused("key", types::Placement::Authorization("Be arer".into())), Kind::PluginAnswer, "token"),
        (refused("key", types::Placement::Header("host".into())), Kind::PluginAnswer, "\"host\""),
        (refused("key", types::Placement::Query("a&b".into())), Kind::PluginAnswer, "\"a&b\""),
    ];
    for ((kind, message), expected, reason) in cases {
        assert_eq!(kind, expected, "{message}");
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn a_refusal_has_the_plugins_status_and_code_and_a_harmless_message() {
    let refusal = |status, code: &str| types::Refusal { status, code: code.into(), message: "no\n\u{1b}".into() };
    let failure = super::refusal(refusal(429, "slow_down")).unwrap();
    assert_eq!((failure.status().as_u16(), failure.code(), &*failure.message), (429, "slow_down", r"no\n\u{1b}"));
    for (status, code) in [(200, "a"), (399, "a"), (600, "a"), (0, "a"), (400, ""), (400, "A"), (400, "a b")] {
        assert_eq!(super::refusal(refusal(status, code)).unwrap_err().kind, Kind::PluginAnswer);
    }
}
