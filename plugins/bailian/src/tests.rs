//! One row per fact about DashScope.

use aiproxy_plugin_sdk::testing::{self, caller, request};
use aiproxy_plugin_sdk::{HeaderEdit, Placement, Presented, Transport};

use super::*;

fn bailian(settings: &str) -> Result<(Bailian, Profile), String> {
    testing::configure(settings)
}

fn post(path: &str, model: Option<&str>) -> Request {
    Request { model: model.map(Into::into), ..request("POST", path) }
}

fn socket(path: &str, query: Option<&str>) -> Request {
    Request { query: query.map(Into::into), ..testing::socket(path) }
}

fn decide(request: Request) -> Option<Plan> {
    decide_with("{}", request)
}

fn decide_with(settings: &str, request: Request) -> Option<Plan> {
    let answer = bailian(settings).expect("these settings are right").0.decide(request, caller("anyone"));
    match answer {
        Answer::Send(plan) => Some(plan),
        Answer::Decline => None,
        Answer::Refuse(refusal) => panic!("{refusal:?}"),
    }
}

fn path_of(plan: Option<Plan>) -> Option<String> {
    plan.map(|plan| plan.path)
}

#[test]
fn short_paths_get_dashscopes_prefix() {
    let compatible = [
        "chat/completions",
        "completions",
        "embeddings",
        "responses",
        "responses/resp_1",
        "responses/resp_1/cancel",
        "responses/resp_1/input_items",
        "conversations",
        "conversations/c_1/items",
        "files",
        "files/file-1",
        "files/file-1/content",
        "batches",
        "batches/batch_1",
        "models",
        "models/qwen-max",
    ];
    for resource in compatible {
        let expected = Some(format!("/compatible-mode/v1/{resource}"));
        assert_eq!(path_of(decide(post(&format!("/v1/{resource}"), None))), expected);
        assert_eq!(path_of(decide(post(&format!("/{resource}"), None))), expected);
    }
    for (path, expected) in [
        ("/v1/reranks", "/compatible-api/v1/reranks"),
        ("/reranks", "/compatible-api/v1/reranks"),
        ("/v1/messages", "/apps/anthropic/v1/messages"),
        ("/v1/messages/count_tokens", "/apps/anthropic/v1/messages/count_tokens"),
        ("/v1/added/tomorrow", "/compatible-mode/v1/added/tomorrow"),
    ] {
        assert_eq!(path_of(decide(post(path, Some("qwen-max")))).as_deref(), Some(expected), "{path}");
    }
}

#[test]
fn native_prefixed_and_unknown_paths_go_through_untouched() {
    for path in [
        "/compatible-mode/v1/chat/completions",
        "/compatible-api/v1/reranks",
        "/apps/anthropic/v1/messages",
        "/api/v1/services/aigc/text-generation/generation",
        "/api/v1/services/aigc/multimodal-generation/generation",
        "/api/v1/services/aigc/text2image/image-synthesis",
        "/api/v1/services/aigc/image2image/image-synthesis",
        "/api/v1/services/aigc/video-generation/video-synthesis",
        "/api/v1/services/embeddings/text-embedding/text-embedding",
        "/api/v1/services/rerank/text-rerank/text-rerank",
        "/api/v1/services/audio/asr/transcription",
        "/api/v1/services/audio/tts/customization",
        "/api/v1/tasks/t-1",
        "/api/v1/apps/a-1/completion",
        "/api/v1/uploads",
        "/api/v1/files",
        "/api/v1/models",
        "/something/%E4%BD%A0//odd",
        "/",
    ] {
        assert_eq!(path_of(decide(post(path, None))).as_deref(), Some(path));
    }
}

#[test]
fn a_path_of_dashscopes_own_is_sent_whatever_the_model() {
    for path in ["/compatible-mode/v1/chat/completions", "/api/v1/services/aigc/text-generation/generation"] {
        assert_eq!(path_of(decide(post(path, Some("gemini-2.5-flash")))).as_deref(), Some(path));
    }
}

#[test]
fn sockets_keep_their_path_and_the_short_realtime_path_is_led_to_dashscopes() {
    for (path, expected) in [
        ("/api-ws/v1/inference", "/api-ws/v1/inference"),
        ("/api-ws/v1/inference/", "/api-ws/v1/inference/"),
        ("/api-ws/v1/realtime", "/api-ws/v1/realtime"),
        ("/v1/realtime", "/api-ws/v1/realtime"),
        ("/realtime", "/api-ws/v1/realtime"),
        ("/some/socket", "/some/socket"),
    ] {
        let plan = decide(socket(path, Some("model=qwen-omni-turbo-realtime"))).expect(path);
        assert_eq!(plan.path, expected);
        assert_eq!(plan.query.as_deref(), Some("model=qwen-omni-turbo-realtime"));
        assert_eq!(plan.model.as_deref(), Some("qwen-omni-turbo-realtime"));
        assert_eq!(plan.credentials.len(), 1);
    }
}

#[test]
fn the_key_goes_into_the_authorization_header_and_nothing_else_changes() {
    let request = Request { query: Some("action=getPolicy&x=%20".into()), ..post("/api/v1/uploads", None) };
    let plan = decide(request).unwrap();
    let bearer = Credential { secret: "key".into(), place: Placement::Authorization("Bearer".into()) };
    assert_eq!(plan.credentials, [bearer]);
    assert_eq!(plan.query.as_deref(), Some("action=getPolicy&x=%20"));
    assert_eq!(plan.headers, [] as [HeaderEdit; 0]);
    assert!(plan.body.is_empty() && plan.endpoint.is_none() && plan.options.is_empty());
}

#[test]
fn what_is_surely_anothers_is_declined_and_what_nobody_knows_is_sent() {
    let chat = "/v1/chat/completions";
    for (request, sent) in [
        (post(chat, Some("qwen-max")), true),
        (post(chat, Some("deepseek-v3")), true),
        (post(chat, Some("gpt-oss-120b")), true),
        (post(chat, Some("added-tomorrow")), true),
        (post(chat, None), true),
        (post(chat, Some("gemini-2.5-flash")), false),
        (post(chat, Some("models/gemini-2.5-flash")), false),
        (post(chat, Some("gpt-4o")), false),
        (post("/v1/messages", Some("claude-sonnet-4")), false),
        (post("/v1/embeddings", Some("text-embedding-v4")), true),
        (post("/v1/embeddings", Some("text-embedding-004")), false),
        (post("/v1beta/models/gemini-2.5-flash:generateContent", None), false),
        (post("/v1/models/gemini-2.5-flash:streamGenerateContent", None), false),
        (post("/v1beta/openai/chat/completions", None), false),
        (post("/upload/v1beta/files", None), false),
        (post("/v1/cachedContents", None), false),
        (socket("/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent", None), false),
        (socket("/v1/realtime", Some("model=gpt-realtime")), false),
        (Request { presented: Presented::Header("x-goog-api-key".into()), ..post("/v1/models", None) }, false),
        (Request { presented: Presented::Header("x-goog-api-key".into()), ..post(chat, None) }, true),
        (Request { presented: Presented::Query("key".into()), ..post("/v1/models", None) }, true),
    ] {
        let shown = format!("{} {:?}", request.path, request.model);
        assert_eq!(decide(request).is_some(), sent, "{shown}");
    }
}

#[test]
fn usage_is_looked_for_where_the_path_reports_it() {
    let get = |path| Request { method: "GET".into(), ..post(path, None) };
    for (request, pointer) in [
        (post("/v1/chat/completions", None), Some("/usage/prompt_tokens")),
        (post("/v1/messages", None), Some("/usage/input_tokens")),
        (post("/api/v1/services/aigc/text-generation/generation", None), Some("/usage/input_tokens")),
        (get("/api/v1/tasks/t-1"), Some("/usage/input_tokens")),
        (socket("/api-ws/v1/inference", None), Some("/payload/usage/input_tokens")),
        (socket("/api-ws/v1/realtime", None), Some("/response/usage/input_tokens")),
        (get("/v1/responses/resp_1"), None),
        (get("/v1/models"), None),
        (post("/v1/messages/count_tokens", None), None),
    ] {
        let sets = bailian("{}").unwrap().1.meters;
        let path = request.path.clone();
        let meters = decide(request).unwrap().meters.map(|index| &sets[index as usize]);
        assert_eq!(meters.map(|set| set[0].alternatives[0][0].as_str()), pointer, "{path}");
    }
}

#[test]
fn the_operators_rewrites_win() {
    let settings =
        r#"{"path_rewrite": {"/chat/completions": "/x"}, "websocket_endpoints": {"tts": "/api-ws/v1/inference"}}"#;
    let sent = |request| path_of(decide_with(settings, request));
    assert_eq!(sent(post("/chat/completions", None)).as_deref(), Some("/x"));
    assert_eq!(sent(post("/chat/completions", Some("gemini-2.5-flash"))).as_deref(), Some("/x"));
    assert_eq!(sent(post("/v1/chat/completions", None)).as_deref(), Some("/compatible-mode/v1/chat/completions"));
    assert_eq!(sent(socket("/tts", None)).as_deref(), Some("/api-ws/v1/inference"));
}

#[test]
fn an_unknown_setting_is_refused() {
    let error = bailian(r#"{"path_rewrites": {}}"#).unwrap_err();
    assert!(error.contains("did you mean `path_rewrite`?"), "{error}");
}

#[test]
fn answers_serve_every_caller_and_depend_on_no_header() {
    let profile = bailian("").unwrap().1;
    assert_eq!(profile.reuse, Reuse::AnyCaller);
    assert_eq!(profile.headers, [] as [String; 0]);
    assert!(profile.reads_model);
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
        if let Answer::Send(plan) = bailian("{}").unwrap().0.decide(request, caller("anyone")) {
            proptest::prop_assert!(plan.path.starts_with('/'));
            proptest::prop_assert_eq!(plan.query, query);
        }
    }
}
