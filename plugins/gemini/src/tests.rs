//! One row per fact about the Gemini API.

use aiproxy_plugin_sdk::Transport;
use aiproxy_plugin_sdk::testing::{self, caller};

use super::*;

const LIVE: &str = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";
const CONSTRAINED: &str = "/ws/google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateContentConstrained";

fn gemini(settings: &str) -> Result<(Gemini, Profile), String> {
    testing::configure(settings)
}

/// What the operator is warned of.
fn warnings(settings: &str) -> Vec<String> {
    let (configured, lines) = testing::logged(|| gemini(settings));
    assert!(configured.is_ok());
    lines.into_iter().filter(|(level, _)| *level == log::Level::Warn).map(|(_, line)| line).collect()
}

fn bearer() -> Presented {
    Presented::Authorization("bearer".into())
}

fn google() -> Presented {
    Presented::Header("x-goog-api-key".into())
}

fn legacy() -> Presented {
    Presented::Query("key".into())
}

fn request(method: &str, path: &str, presented: Presented) -> Request {
    testing::request(method, path).with_presented(presented)
}

fn chat(model: &str) -> Request {
    Request { model: Some(model.into()), ..request("POST", "/v1/chat/completions", bearer()) }
}

fn socket(path: &str, presented: Presented, query: Option<&str>) -> Request {
    Request { query: query.map(Into::into), ..testing::socket(path).with_presented(presented) }
}

fn answer(settings: &str, request: Request) -> Answer {
    gemini(settings).expect("these settings are right").0.decide(request, caller("anyone"))
}

fn decide(request: Request) -> Option<Plan> {
    match answer("{}", request) {
        Answer::Send(plan) => Some(plan),
        Answer::Decline => None,
        Answer::Refuse(refusal) => panic!("{refusal:?}"),
    }
}

fn in_header() -> Vec<Credential> {
    vec![Credential::in_header("x-goog-api-key")]
}

fn as_bearer() -> Vec<Credential> {
    vec![Credential::bearer()]
}

#[test]
fn native_paths_go_through_untouched_with_the_key_in_its_header() {
    for path in [
        "/v1beta/models/gemini-2.5-flash:generateContent",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        "/v1beta/models/gemini-2.5-flash:countTokens",
        "/v1beta/models/gemini-embedding-001:embedContent",
        "/v1beta/models/gemini-embedding-001:batchEmbedContents",
        "/v1beta/models/imagen-4:predict",
        "/v1beta/models/veo-3:predictLongRunning",
        "/v1/models/gemini-2.5-flash:generateContent",
        "/v1alpha/models/gemini-2.5-flash:generateContent",
        "/v1beta/models",
        "/v1beta/tunedModels",
        "/v1beta/operations/o-1",
        "/v1beta/files",
        "/v1beta/cachedContents",
        "/v1beta/batches",
        "/v1/cachedContents",
        "/v1/operations/o-1",
        "/upload/v1beta/files",
        "/upload/v1/files",
        "/something/%E4%BD%A0//odd",
    ] {
        // In whichever form the client showed its key.
        for presented in [bearer(), google(), legacy()] {
            let plan = decide(request("POST", path, presented)).expect(path);
            assert_eq!((plan.path.as_str(), plan.credentials), (path, in_header()));
        }
    }
}

#[test]
fn short_openai_paths_get_geminis_prefix_and_a_bearer_token() {
    for resource in [
        "chat/completions",
        "embeddings",
        "images/generations",
        "videos",
        "videos/v-1/content",
        "batches",
        "batches/b-1",
        "files",
        "files/f-1/content",
        "models",
        "models/gemini-2.5-flash",
    ] {
        for short in [format!("/v1/{resource}"), format!("/{resource}"), format!("/v1beta/openai/{resource}")] {
            let plan = decide(request("POST", &short, bearer())).expect(&short);
            assert_eq!((plan.path, plan.credentials), (format!("/v1beta/openai/{resource}"), as_bearer()), "{short}");
        }
    }
}

#[test]
fn the_form_of_the_credential_tells_native_from_compatible_where_both_have_the_path() {
    let short = "/v1beta/openai/models";
    let x_api_key = Presented::Header("x-api-key".into());
    for (method, path, presented, expected) in [
        ("GET", "/v1/models", bearer(), short),
        ("GET", "/v1/models", x_api_key, short),
        ("GET", "/v1/models", google(), "/v1/models"),
        ("GET", "/v1/models", legacy(), "/v1/models"),
        ("GET", "/v1/models/gemini-2.5-flash", google(), "/v1/models/gemini-2.5-flash"),
        ("POST", "/v1/files", google(), "/v1/files"),
        (
            "POST",
            "/v1/models/gemini-2.5-flash:generateContent",
            bearer(),
            "/v1/models/gemini-2.5-flash:generateContent",
        ),
        // No native path has this name.
        ("POST", "/v1/chat/completions", google(), "/v1beta/openai/chat/completions"),
    ] {
        let shown = format!("{method} {path} {presented:?}");
        assert_eq!(decide(request(method, path, presented)).unwrap().path, expected, "{shown}");
    }
}

#[test]
fn a_live_socket_has_the_key_in_its_header() {
    let plan = decide(socket(LIVE, legacy(), None)).unwrap();
    assert_eq!((plan.path.as_str(), &plan.credentials), (LIVE, &in_header()));
    assert!(plan.meters.is_some());
}

#[test]
fn a_constrained_socket_goes_with_the_clients_own_token_and_never_with_our_key() {
    for request in [
        socket(CONSTRAINED, google(), None),
        socket(CONSTRAINED, legacy(), None),
        socket(CONSTRAINED, bearer(), Some("access_token=auth_tokens%2Fx")),
    ] {
        let plan = decide(request).unwrap();
        assert_eq!((plan.path.as_str(), plan.credentials), (CONSTRAINED, vec![]));
    }
    // The proxy key stands where the token would have to.
    let Answer::Refuse(refusal) = answer("{}", socket(CONSTRAINED, bearer(), None)) else { panic!("not refused") };
    assert_eq!((refusal.status, refusal.code.as_str()), (400, "ephemeral_token_missing"));
}

#[test]
fn the_model_is_read_out_of_a_native_path() {
    for (path, expected) in [
        ("/v1beta/models/gemini-2.5-flash:generateContent", Some("gemini-2.5-flash")),
        ("/v1/models/imagen-4:predict", Some("imagen-4")),
        ("/v1beta/tunedModels/mine-1:generateContent", Some("tunedModels/mine-1")),
        ("/v1beta/models/gemini-2.5-flash", None),
        ("/v1beta/files/f:register", None),
        ("/v1beta/models", None),
        ("/v1/chat/completions", None),
    ] {
        assert_eq!(decide(request("POST", path, google())).unwrap().model.as_deref(), expected, "{path}");
    }
}

#[test]
fn a_models_name_is_the_same_to_statistics_however_it_was_written() {
    for (model, expected) in [("models/gemini-2.5-flash", Some("gemini-2.5-flash")), ("gemini-2.5-flash", None)] {
        assert_eq!(decide(chat(model)).unwrap().model.as_deref(), expected);
    }
}

#[test]
fn what_is_surely_anothers_is_declined_and_what_nobody_knows_is_sent() {
    for (model, sent) in [
        ("gemini-2.5-flash", true),
        ("models/gemini-2.5-flash", true),
        ("gemma-3-27b-it", true),
        ("learnlm-2", true),
        ("added-tomorrow", true),
        ("qwen-max", false),
        ("deepseek-v3", false),
        ("gpt-4o", false),
        ("claude-sonnet-4", false),
    ] {
        assert_eq!(decide(chat(model)).is_some(), sent, "{model}");
    }
    for path in [
        "/compatible-mode/v1/chat/completions",
        "/api/v1/services/aigc/text-generation/generation",
        "/api/v1/models",
        "/api-ws/v1/inference",
        "/v1/messages",
    ] {
        assert_eq!(decide(request("POST", path, bearer())), None, "{path}");
    }
    // The path says whose it is: the model is the upstream's to judge.
    let native = Request {
        model: Some("qwen-max".into()),
        ..request("POST", "/v1beta/models/gemini-2.5-flash:generateContent", google())
    };
    assert!(decide(native).is_some());
}

#[test]
fn usage_is_looked_for_where_the_path_reports_it() {
    let flash = |verb| request("POST", &format!("/v1beta/models/gemini-2.5-flash:{verb}"), google());
    let native = Some(["/usageMetadata/candidatesTokenCount", "/usageMetadata/thoughtsTokenCount"]);
    for (request, output) in [
        (flash("generateContent"), native),
        (flash("streamGenerateContent"), native),
        (flash("countTokens"), None),
        (request("GET", "/v1beta/models", google()), None),
        (
            socket(LIVE, google(), None),
            Some(["/usageMetadata/responseTokenCount", "/usageMetadata/thoughtsTokenCount"]),
        ),
    ] {
        let sets = gemini("{}").unwrap().1.meters;
        let meters = decide(request).unwrap().meters.map(|index| &sets[index as usize][1]);
        assert_eq!(
            meters.map(|meter| meter.alternatives[0].clone()),
            output.map(|names| names.map(str::to_owned).to_vec())
        );
    }
    let sets = gemini("{}").unwrap().1.meters;
    let compatible = decide(chat("gemini-2.5-flash")).unwrap().meters.unwrap();
    assert_eq!(sets[compatible as usize][0].alternatives[0], ["/usage/prompt_tokens"]);
}

#[test]
fn the_operators_rewrites_win_except_one_that_cannot_work() {
    let settings = r#"{"path_rewrite": {
        "/chat/completions": "/v1beta/models/gemini-pro:generateContent",
        "/mine": "/v1beta/openai/chat/completions"
    }}"#;
    let warned = warnings(settings);
    assert_eq!(warned.len(), 1);
    assert!(warned[0].starts_with("path_rewrite[\"/chat/completions\"] is not applied"));
    for path in ["/chat/completions", "/mine"] {
        let Answer::Send(plan) = answer(settings, request("POST", path, bearer())) else { panic!("not sent") };
        assert_eq!((plan.path.as_str(), plan.credentials), ("/v1beta/openai/chat/completions", as_bearer()));
    }
    let native = r#"{"path_rewrite": {"/v1beta/models/x:generateContent": "/v1/models/y:generateContent"}}"#;
    assert_eq!(warnings(native), [] as [String; 0]);
}

#[test]
fn answers_serve_every_caller_and_depend_on_no_header() {
    let profile = gemini("").unwrap().1;
    assert_eq!(profile.reuse, Reuse::AnyCaller);
    assert_eq!(profile.headers, [] as [String; 0]);
    assert_eq!(profile.socket_model, ["/setup/model"]);
}

proptest::proptest! {
    /// Whatever a stranger sends, the answer is one that the host can use.
    #[test]
    fn no_request_makes_a_trap_or_a_path_without_a_slash(
        path in "/(v1/|v1beta/|models/|tunedModels/|chat|:|[a-zA-Z]|\\PC){0,12}",
        query in proptest::option::of("\\PC{0,20}"),
        model in proptest::option::of("\\PC{0,20}"),
        is_post: bool,
        is_socket: bool,
    ) {
        let transport = if is_socket { Transport::Websocket } else { Transport::Http };
        let method = if is_post { "POST" } else { "GET" }.to_owned();
        let request = Request { transport, method, query: query.clone(), model, ..request("GET", &path, google()) };
        if let Answer::Send(plan) = gemini("{}").unwrap().0.decide(request, caller("anyone")) {
            proptest::prop_assert!(plan.path.starts_with('/'));
            proptest::prop_assert_eq!(plan.query, query);
        }
    }
}
