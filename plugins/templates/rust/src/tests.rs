//! What the plugin promises, checked natively: `cargo test`.

use aiproxy_plugin_sdk::testing::{caller, configure, logged, refused, request, sent};
use aiproxy_plugin_sdk::{BodyEdit, HeaderEdit};

use super::*;

fn decide(settings: &str, request: Request) -> Answer {
    let (plugin, _) = configure::<MyPlugin>(settings).expect("these settings are right");
    plugin.decide(request, caller("alice"))
}

fn chat() -> Request {
    request("POST", "/v1/chat/completions").with_model("small")
}

#[test]
fn a_path_under_v1_goes_under_the_prefix_with_its_query() {
    for (settings, path, expected) in [
        ("{}", "/v1/models", "/v1/models"),
        (
            r#"{"prefix": "/api/v3"}"#,
            "/v1/models/a%2Fb",
            "/api/v3/models/a%2Fb",
        ),
        (r#"{"prefix": "/api/"}"#, "/v1/models", "/api/models"),
        (r#"{"prefix": "/"}"#, "/v1/models", "/models"),
    ] {
        let plan = sent(decide(settings, request("GET", path).with_query("limit=2")));
        assert_eq!(
            (plan.path.as_str(), plan.query.as_deref()),
            (expected, Some("limit=2")),
            "{settings}"
        );
    }
}

#[test]
fn any_other_path_is_declined() {
    for path in ["/", "/v1", "/v1beta/models", "/api/v1/models"] {
        assert_eq!(
            decide("{}", request("GET", path)),
            Answer::Decline,
            "{path}"
        );
    }
}

#[test]
fn a_model_that_the_channel_is_not_for_is_refused() {
    let settings = r#"{"models": ["small", "large"]}"#;
    assert_eq!(sent(decide(settings, chat())).path, "/v1/chat/completions");
    // Who names no model is served.
    assert_eq!(
        sent(decide(settings, request("GET", "/v1/files"))).path,
        "/v1/files"
    );
    let refusal = refused(decide(settings, chat().with_model("other")));
    assert_eq!(
        (refusal.status, refusal.code.as_str()),
        (404, "model_not_found")
    );
    assert_eq!(
        refusal.message,
        "the model `other` is not served by this channel"
    );
}

#[test]
fn the_provider_learns_who_calls() {
    let plan = sent(decide(
        "{}",
        chat()
            .with_header("x-tenant", "acme")
            .with_header("x-tenant", "ignored"),
    ));
    assert_eq!(
        plan.headers,
        [
            HeaderEdit::Set(("x-client".into(), "alice".into())),
            HeaderEdit::Remove("x-tenant".into()),
            HeaderEdit::Set(("x-organization".into(), "acme".into())),
        ]
    );
    assert_eq!(
        plan.body,
        [BodyEdit::SetIfAbsent(("/user".into(), r#""alice""#.into()))]
    );
    // Without a tenant, and where there is no JSON body to edit.
    let plan = sent(decide("{}", request("GET", "/v1/models")));
    assert_eq!((plan.headers.len(), plan.body.len()), (2, 0));
}

#[test]
fn the_key_goes_out_as_a_bearer_token_and_usage_is_read() {
    let plan = sent(decide("{}", chat()));
    assert_eq!(
        (plan.credentials, plan.meters),
        (vec![Credential::bearer()], Some(0))
    );
    let (_, profile) = configure::<MyPlugin>("{}").ok().unwrap();
    assert_eq!(
        profile.meters[0]
            .iter()
            .map(|meter| meter.name.as_str())
            .collect::<Vec<_>>(),
        ["input", "output"]
    );
}

#[test]
fn what_is_wrong_with_the_settings_is_said_with_its_name() {
    for (settings, expected) in [
        (
            r#"{"prefx": "/v1"}"#,
            "settings: unknown setting `prefx`; did you mean `prefix`? (known: prefix, models)",
        ),
        (
            r#"{"prefix": 1}"#,
            "settings.prefix: expected a string, found a number",
        ),
        (
            r#"{"prefix": "v1"}"#,
            "settings.prefix: expected a path that begins with `/` and has no spaces, found `v1`",
        ),
        (
            r#"{"prefix": "/v 1"}"#,
            "settings.prefix: expected a path that begins with `/` and has no spaces, found `/v 1`",
        ),
        (
            r#"{"models": "small"}"#,
            "settings.models: expected a list of strings, found a string",
        ),
        (
            r#"{"models": [1]}"#,
            "settings.models: expected a list of strings, found a number at [0]",
        ),
    ] {
        assert_eq!(
            configure::<MyPlugin>(settings).err().as_deref(),
            Some(expected)
        );
    }
}

#[test]
fn the_log_says_where_it_serves() {
    let (_, lines) =
        logged(|| configure::<MyPlugin>(r#"{"prefix": "/api", "_note": "a comment"}"#));
    assert_eq!(lines, [(log::Level::Info, "serving under /api".to_owned())]);
}
