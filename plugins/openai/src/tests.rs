//! What a channel's settings make of a request.

use aiproxy_plugin_sdk::testing::{self, caller};
use aiproxy_plugin_sdk::{BodyEdit, Credential, HeaderEdit, Placement, Presented};

use super::*;

const CHAT: &str = "/v1/chat/completions";

fn request(method: &str, path: &str, model: Option<&str>) -> Request {
    Request { model: model.map(Into::into), ..testing::request(method, path) }
}

fn post(path: &str, model: Option<&str>) -> Request {
    request("POST", path, model)
}

fn configured(settings: &str) -> (OpenAi, Profile) {
    testing::configure(settings).expect("these settings are right")
}

fn decide(settings: &str, request: Request) -> Option<Plan> {
    match configured(settings).0.decide(request, caller("anyone")) {
        Answer::Send(plan) => Some(plan),
        Answer::Decline => None,
        Answer::Refuse(refusal) => panic!("{refusal:?}"),
    }
}

fn set(pointer: &str, value: &str) -> BodyEdit {
    BodyEdit::Set((pointer.into(), value.into()))
}

#[test]
fn short_paths_get_the_prefix() {
    for (settings, path, expected) in [
        ("{}", "/v1/chat/completions", "/v1/chat/completions"),
        ("{}", "/chat/completions", "/v1/chat/completions"),
        ("{}", "/models", "/v1/models"),
        ("{}", "/tokenize", "/tokenize"),
        ("{}", "/api/chat", "/api/chat"),
        (r#"{"prefix": ""}"#, "/v1/chat/completions", "/chat/completions"),
        (r#"{"prefix": ""}"#, "/chat/completions", "/chat/completions"),
        (r#"{"prefix": "/openai/v1/"}"#, "/v1/responses/r-1", "/openai/v1/responses/r-1"),
        (r#"{"prefix": "/openai/v1"}"#, "/chat/completions", "/openai/v1/chat/completions"),
        (r#"{"prefix": "/openai/v1"}"#, "/openai/v1/chat/completions", "/openai/v1/chat/completions"),
        (r#"{"prefix": "/compatible-mode/v1"}"#, "/compatible-mode/v1/models", "/compatible-mode/v1/models"),
    ] {
        assert_eq!(decide(settings, post(path, None)).unwrap().path, expected, "{settings} {path}");
    }
}

#[test]
fn the_operators_rewrites_win_under_either_name() {
    let settings = r#"{"rewrites": {"/v1/chat": "/a"}, "path_rewrite": {"/v1/embeddings": "/b?v=2", "/v1beta": "/v1beta"},
        "websocket_endpoints": {"voice": "/v1/realtime"}}"#;
    assert_eq!(decide(settings, post(CHAT, None)).unwrap().path, "/a/completions");
    let plan = decide(settings, Request { query: Some("x=1".into()), ..post("/v1/embeddings", None) }).unwrap();
    assert_eq!((plan.path.as_str(), plan.query.as_deref()), ("/b", Some("v=2&x=1")));
    assert_eq!(
        decide(settings, post("/v1beta/models/g:generateContent", None)).unwrap().path,
        "/v1beta/models/g:generateContent"
    );
    let socket = Request { transport: Transport::Websocket, ..request("GET", "/voice", None) };
    assert_eq!(decide(settings, socket).unwrap().path, "/v1/realtime");
}

#[test]
fn a_path_that_only_another_provider_has_is_declined() {
    for path in [
        "/v1beta/models/gemini-2.5-flash:generateContent",
        "/v1/models/gemini-2.5-flash:generateContent",
        "/upload/v1beta/files",
        "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
        "/api/v1/services/aigc/text-generation/generation",
        "/api-ws/v1/inference",
        "/compatible-mode/v1/chat/completions",
    ] {
        assert_eq!(decide("{}", post(path, None)), None, "{path}");
    }
    let google = Presented::Header("x-goog-api-key".into());
    assert_eq!(decide("{}", Request { presented: google, ..request("GET", "/v1/models", None) }), None);
    // A fine-tuned model has colons as well, and OpenRouter's own paths look like DashScope's.
    for (method, path) in [("GET", "/v1/models/ft:gpt-4o:org::id"), ("GET", "/api/v1/models")] {
        assert_eq!(decide("{}", request(method, path, None)).unwrap().path, path);
    }
}

#[test]
fn only_models_that_fit_are_served() {
    let settings = r#"{"models": ["gpt-*", "O3"], "aliases": {"fast": "gpt-4o-mini"}}"#;
    for (model, sent) in [
        (Some("gpt-4o"), true),
        (Some("GPT-4o"), true),
        (Some("o3"), true),
        (Some("fast"), true),
        (None, true),
        (Some("qwen-max"), false),
    ] {
        assert_eq!(decide(settings, post(CHAT, model)).is_some(), sent, "{model:?}");
    }
    let socket = |model: &str| Request {
        transport: Transport::Websocket,
        query: Some(format!("model={model}")),
        ..request("GET", "/v1/realtime", None)
    };
    assert_eq!(decide(settings, socket("gpt-realtime")).unwrap().model.as_deref(), Some("gpt-realtime"));
    assert_eq!(decide(settings, socket("qwen-omni")), None);
    // Without patterns, every model is.
    assert!(decide("{}", post(CHAT, Some("qwen-max"))).is_some());
}

#[test]
fn an_alias_becomes_the_providers_name_in_body_and_statistics() {
    let settings = r#"{"aliases": {"fast": "deepseek\"chat"}}"#;
    let plan = decide(settings, post(CHAT, Some("fast"))).unwrap();
    assert_eq!(plan.body, [set("/model", r#""deepseek\"chat""#)]);
    assert_eq!(plan.model.as_deref(), Some("deepseek\"chat"));
    let plan = decide(settings, post(CHAT, Some("other"))).unwrap();
    assert_eq!((plan.body, plan.model), (vec![], None));
}

#[test]
fn fields_are_edited_only_in_bodies_that_are_json() {
    let settings = r#"{"body": {"set": {"/user": "u", "/n": 1}, "default": {"/store": false}, "remove": ["/seed"]}}"#;
    let edits = [
        set("/n", "1"),
        set("/user", r#""u""#),
        BodyEdit::SetIfAbsent(("/store".into(), "false".into())),
        BodyEdit::Remove("/seed".into()),
    ];
    for (request, edited) in [
        (post(CHAT, Some("m")), true),
        // Its model is not known if the body is too large to be read.
        (post(CHAT, None), true),
        (post("/embeddings", None), true),
        (post("/v1/added/tomorrow", Some("m")), true),
        (post("/v1/added/tomorrow", None), false),
        (post("/v1/responses/r-1/cancel", None), false),
        (post("/v1/audio/transcriptions", Some("whisper-1")), false),
        (post("/v1/files", None), false),
        (request("GET", "/v1/models", None), false),
    ] {
        let path = request.path.clone();
        let mut actual = decide(settings, request).unwrap().body;
        // The order of the settings' names is the JSON parser's.
        actual.sort_by_key(|edit| format!("{edit:?}"));
        let mut expected = if edited { edits.to_vec() } else { vec![] };
        expected.sort_by_key(|edit| format!("{edit:?}"));
        assert_eq!(actual, expected, "{path}");
    }
}

#[test]
fn usage_in_streams_is_asked_for_where_the_settings_say_so() {
    let asked = BodyEdit::SetIfAbsent(("/stream_options".into(), r#"{"include_usage":true}"#.into()));
    for (settings, path, streaming, expected) in [
        (r#"{"stream_usage": true}"#, CHAT, true, vec![asked]),
        (r#"{"stream_usage": true}"#, CHAT, false, vec![]),
        (r#"{"stream_usage": true}"#, "/v1/responses", true, vec![]),
        ("{}", CHAT, true, vec![]),
    ] {
        let request = Request { streaming, ..post(path, Some("m")) };
        assert_eq!(decide(settings, request).unwrap().body, expected, "{settings} {path} {streaming}");
    }
}

#[test]
fn headers_and_key_are_as_set() {
    let settings = r#"{"key": {"header": "api-key"}, "headers": {
        "set": {"HTTP-Referer": "https://example.org"}, "default": {"X-Title": "t"}, "remove": ["OpenAI-Beta"]}}"#;
    let plan = decide(settings, post(CHAT, None)).unwrap();
    assert_eq!(
        plan.headers,
        [
            HeaderEdit::Set(("http-referer".into(), "https://example.org".into())),
            HeaderEdit::SetIfAbsent(("x-title".into(), "t".into())),
            HeaderEdit::Remove("openai-beta".into()),
        ]
    );
    assert_eq!(plan.credentials, [Credential { secret: "key".into(), place: Placement::Header("api-key".into()) }]);
    assert_eq!(decide(r#"{"key": "none"}"#, post(CHAT, None)).unwrap().credentials, []);
}

#[test]
fn usage_is_looked_for_where_the_path_reports_it() {
    let socket = Request { transport: Transport::Websocket, ..request("GET", "/v1/realtime", None) };
    for (request, expected) in [
        (post(CHAT, None), Some(COMPATIBLE)),
        (post("/v1/responses", None), Some(COMPATIBLE)),
        (post("/v1/messages", None), Some(ANTHROPIC)),
        (post("/v1/messages/count_tokens", None), None),
        (post("/v1/threads/t-1/messages", None), Some(COMPATIBLE)),
        (request("GET", "/v1/responses/r-1", None), None),
        (socket, Some(REALTIME)),
    ] {
        let path = request.path.clone();
        assert_eq!(decide("{}", request).unwrap().meters, expected, "{path}");
    }
    assert_eq!(configured("{}").1.meters.len(), 3);
}

#[test]
fn answers_serve_every_caller_and_depend_on_no_header() {
    let profile = configured("{}").1;
    assert_eq!(profile.reuse, Reuse::AnyCaller);
    assert_eq!(profile.headers, [] as [String; 0]);
}

#[test]
fn the_readmes_examples_do_what_they_say() {
    let readme = include_str!("../README.md");
    let json = readme.split("```json").nth(1).and_then(|rest| rest.split("```").next()).expect("it has examples");
    let channels: serde_json::Value = serde_json::from_str(json).expect("they are JSON");
    for (channel, model, path, key) in [
        ("openai", "gpt-4o", "/v1/chat/completions", Some(Placement::Authorization("Bearer".into()))),
        ("deepseek", "deepseek-chat", "/chat/completions", Some(Placement::Authorization("Bearer".into()))),
        ("azure", "gpt-4o", "/openai/v1/chat/completions", Some(Placement::Header("api-key".into()))),
        ("vllm", "my-org/model", "/v1/chat/completions", Some(Placement::Authorization("Bearer".into()))),
        ("ollama", "small", "/v1/chat/completions", None),
    ] {
        let plan = decide(&channels[channel]["settings"].to_string(), post(CHAT, Some(model))).expect(channel);
        assert_eq!(plan.path, path, "{channel}");
        assert_eq!(plan.credentials.into_iter().next().map(|credential| credential.place), key, "{channel}");
    }
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
        let request = Request { transport, method, query: query.clone(), model, ..post(&path, None) };
        if let Answer::Send(plan) = configured("{}").0.decide(request, caller("anyone")) {
            proptest::prop_assert!(plan.path.starts_with('/'));
            proptest::prop_assert_eq!(plan.query, query);
        }
    }
}
