//! The default plugins lead clients of every kind to their providers, as the demo upstream plays them.

use std::net::SocketAddr;

use aiproxy_host::demo;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::{Answer, Conf, Gateway, KEY, Raw, Upstream, send};

const BAILIAN_KEY: &str = "sk-upstream-bailian-0123";
const GEMINI_KEY: &str = "AIza-upstream-gemini-0123";

/// The demo upstream, until dropped.
struct Demo {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Demo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let keys = demo::Keys { bailian: BAILIAN_KEY.into(), gemini: GEMINI_KEY.into() };
        let task = tokio::spawn(async move {
            demo::serve(listener, keys, std::future::pending()).await.expect("it has an address");
        });
        Self { address, task }
    }

    /// A channel to it with this upstream key; the plugin is the one of the channel's name.
    fn channel(&self, key: &str) -> Value {
        channel(&format!("http://{}", self.address), key)
    }

    fn bailian(&self) -> Value {
        json!({"bailian": self.channel(BAILIAN_KEY)})
    }

    fn gemini(&self) -> Value {
        json!({"gemini": self.channel(GEMINI_KEY)})
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn channel(base_url: &str, key: &str) -> Value {
    json!({"name": "C", "api_key": key, "base_url": base_url, "proxy": "direct"})
}

/// These channels and no others, for the usual proxy key in this order.
async fn gateway(channels: Value) -> Gateway {
    let ids: Vec<_> = channels.as_object().expect("an object").keys().cloned().collect();
    let keys = json!([{"proxy_key": KEY, "id": "tester", "channels": ids}]);
    Gateway::with_workers(Conf::new("http://127.0.0.1:9").channels(channels).keys(keys), 1).await
}

/// `METHOD target` with headers, a body where one is given, and the proxy key as a bearer unless a header carries it.
async fn ask(gateway: &Gateway, line: &str, fields: &[(&str, &str)], body: Value) -> Answer {
    let (method, target) = line.split_once(' ').expect("METHOD target");
    let mut request = Request::builder().method(method).uri(target);
    if !fields.iter().any(|(_, value)| value.contains(KEY)) && !target.contains(KEY) {
        request = request.header("authorization", format!("Bearer {KEY}"));
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let body = if body.is_null() {
        Bytes::new()
    } else {
        request = request.header("content-type", "application/json");
        Bytes::from(body.to_string())
    };
    send(gateway.address, request.body(Full::new(body)).expect("a request")).await
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
}

/// The text at this place of a successful reply.
fn text(reply: &Answer, pointer: &str) -> String {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let json = reply.json();
    let found = json.pointer(pointer).unwrap_or_else(|| panic!("nothing at {pointer} in {json:#}"));
    found.as_str().map_or_else(|| found.to_string(), str::to_owned)
}

/// What the demo upstream says to "Hello", whatever the protocol.
fn echo(provider: &str, model: &str) -> String {
    format!("You said: Hello — and the {provider} demo upstream, model {model}, is happy to echo it back to you.")
}

/// The data of server-sent events, `[DONE]` left out.
fn events(reply: &Answer) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")), "{reply:?}");
    let data = reply.text().lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).expect("an event is JSON")).collect()
}

/// The text at one place of every event, put together.
fn streamed(reply: &Answer, pointer: &str) -> String {
    events(reply).iter().filter_map(|event| event.pointer(pointer)?.as_str().map(str::to_owned)).collect()
}

const CHAT_TEXT: &str = "/choices/0/message/content";
const DELTA_TEXT: &str = "/choices/0/delta/content";
const GEMINI_TEXT: &str = "/candidates/0/content/parts/0/text";

#[tokio::test]
async fn bailian_serves_openai_dashscope_and_anthropic_clients() {
    let demo = Demo::start().await;
    let gateway = gateway(demo.bailian()).await;
    let ask = async |line: &str, body| self::ask(&gateway, line, &[], body).await;
    let said = echo("bailian", "qwen-plus");
    for path in ["/v1/chat/completions", "/chat/completions", "/compatible-mode/v1/chat/completions"] {
        let reply = ask(&format!("POST {path}"), chat("qwen-plus")).await;
        assert_eq!(text(&reply, CHAT_TEXT), said, "{path}");
    }
    let embeddings = json!({"model": "text-embedding-v4", "input": "Hello", "dimensions": 8});
    let reply = ask("POST /v1/embeddings", embeddings).await;
    assert_eq!(reply.json()["data"][0]["embedding"].as_array().map(Vec::len), Some(8));
    for (line, place) in [
        ("GET /v1/models", "/data/0/id"),
        ("GET /models", "/data/0/id"),
        ("GET /api/v1/models", "/output/models/0/model"),
    ] {
        assert_eq!(text(&ask(line, Value::Null).await, place), "qwen-max", "{line}");
    }
    let rerank = json!({"model": "gte-rerank-v2", "query": "red", "documents": ["blue", "red"]});
    assert_eq!(text(&ask("POST /v1/reranks", rerank).await, "/results/0/index"), "1");
    let messages = json!({"model": "qwen-plus", "max_tokens": 99, "messages": [{"role": "user", "content": "Hello"}]});
    let fields = [("x-api-key", KEY), ("anthropic-version", "2023-06-01")];
    let reply = self::ask(&gateway, "POST /v1/messages", &fields, messages).await;
    assert_eq!(text(&reply, "/content/0/text"), said);

    let native = json!({"model": "qwen-plus", "input": {"prompt": "Hello"}});
    let line = "POST /api/v1/services/aigc/text-generation/generation";
    assert_eq!(text(&ask(line, native).await, "/output/text"), said);
    let job = json!({"model": "wan2.2-t2i-flash", "input": {"prompt": "a lamp"}});
    let line = "POST /api/v1/services/aigc/text2image/image-synthesis";
    let job = self::ask(&gateway, line, &[("x-dashscope-async", "enable")], job).await;
    let task = text(&job, "/output/task_id");
    assert_eq!(text(&ask(&format!("GET /api/v1/tasks/{task}"), Value::Null).await, "/output/task_id"), task);
}

#[tokio::test]
async fn bailian_streams() {
    let demo = Demo::start().await;
    let gateway = gateway(demo.bailian()).await;
    let mut body = chat("qwen-plus");
    (body["stream"], body["stream_options"]) = (json!(true), json!({"include_usage": true}));
    let reply = ask(&gateway, "POST /v1/chat/completions", &[], body).await;
    assert_eq!(streamed(&reply, DELTA_TEXT), echo("bailian", "qwen-plus"));
    assert!(reply.text().ends_with("data: [DONE]\n\n"));
    assert!(events(&reply).last().expect("events")["usage"]["total_tokens"].is_u64());

    let native = json!({
        "model": "qwen-plus", "input": {"messages": [{"role": "user", "content": "Hello"}]},
        "parameters": {"result_format": "message", "incremental_output": true},
    });
    let line = "POST /api/v1/services/aigc/text-generation/generation";
    let reply = ask(&gateway, line, &[("x-dashscope-sse", "enable")], native).await;
    assert_eq!(streamed(&reply, "/output/choices/0/message/content"), echo("bailian", "qwen-plus"));
}

#[tokio::test]
async fn gemini_serves_openai_and_google_clients() {
    let demo = Demo::start().await;
    let gateway = gateway(demo.gemini()).await;
    let said = echo("gemini", "gemini-2.5-flash");
    for path in ["/v1/chat/completions", "/chat/completions", "/v1beta/openai/chat/completions"] {
        let reply = ask(&gateway, &format!("POST {path}"), &[], chat("gemini-2.5-flash")).await;
        assert_eq!(text(&reply, CHAT_TEXT), said, "{path}");
    }
    let embeddings = json!({"model": "gemini-embedding-001", "input": "Hello", "dimensions": 8});
    let reply = ask(&gateway, "POST /v1/embeddings", &[], embeddings).await;
    assert_eq!(reply.json()["data"][0]["embedding"].as_array().map(Vec::len), Some(8));
    let reply = ask(&gateway, "GET /v1/models", &[], Value::Null).await;
    assert_eq!(text(&reply, "/data/0/id"), "models/gemini-2.5-flash");

    // Google's own clients, by header and by query.
    let google = [("x-goog-api-key", KEY)];
    let contents = json!({"contents": [{"parts": [{"text": "Hello"}]}]});
    let generate = "POST /v1beta/models/gemini-2.5-flash:generateContent";
    let reply = ask(&gateway, generate, &google, contents.clone()).await;
    assert_eq!(text(&reply, GEMINI_TEXT), said);
    let reply = ask(&gateway, &format!("{generate}?key={KEY}"), &[], contents.clone()).await;
    assert_eq!(text(&reply, GEMINI_TEXT), said);
    for path in ["/v1/models", "/v1beta/models"] {
        let reply = ask(&gateway, &format!("GET {path}"), &google, Value::Null).await;
        assert_eq!(text(&reply, "/models/0/name"), "models/gemini-2.5-flash", "{path}");
    }
    let line = "POST /v1beta/models/gemini-embedding-001:embedContent";
    let reply = ask(&gateway, line, &google, json!({"content": {"parts": [{"text": "Hello"}]}})).await;
    assert_eq!(reply.json()["embedding"]["values"].as_array().map(Vec::len), Some(3072));
    let line = "POST /v1beta/models/gemini-2.5-flash:countTokens";
    assert_eq!(text(&ask(&gateway, line, &google, contents).await, "/totalTokens"), "5");
}

#[tokio::test]
async fn gemini_streams() {
    let demo = Demo::start().await;
    let gateway = gateway(demo.gemini()).await;
    let said = echo("gemini", "gemini-2.5-flash");
    let mut body = chat("gemini-2.5-flash");
    body["stream"] = json!(true);
    let reply = ask(&gateway, "POST /v1/chat/completions", &[], body).await;
    assert_eq!(streamed(&reply, DELTA_TEXT), said);
    let contents = json!({"contents": [{"parts": [{"text": "Hello"}]}]});
    let line = "POST /v1beta/models/gemini-2.5-flash:streamGenerateContent";
    let google = [("x-goog-api-key", KEY)];
    let reply = ask(&gateway, &format!("{line}?alt=sse"), &google, contents.clone()).await;
    assert_eq!(streamed(&reply, GEMINI_TEXT), said);
    let pieces = ask(&gateway, line, &google, contents).await.json();
    let pieces = pieces.as_array().expect("without `alt=sse` it is an array that grows").iter();
    assert_eq!(pieces.filter_map(|piece| piece.pointer(GEMINI_TEXT)?.as_str()).collect::<String>(), said);
}

#[tokio::test]
async fn a_providers_errors_arrive_as_the_provider_says_them() {
    let demo = Demo::start().await;
    let mut bailian_and_gemini = demo.bailian();
    bailian_and_gemini["gemini"] = demo.channel(GEMINI_KEY);
    let gateway = gateway(bailian_and_gemini).await;
    let gemini = |model| format!("/v1beta/models/{model}:generateContent");
    let native = "/api/v1/services/aigc/text-generation/generation";
    let contents = json!({"contents": [{"parts": [{"text": "Hello"}]}]});
    let prompt = |model| json!({"model": model, "input": {"prompt": "Hello"}});
    for (path, body, status, place, code) in [
        ("/v1/chat/completions", chat("status-429"), 429, "/error/code", "limit_requests"),
        ("/v1/chat/completions", chat("status-500"), 500, "/error/code", "internal_error"),
        ("/v1/chat/completions", chat("nobody-knows-it"), 404, "/error/code", "model_not_found"),
        ("/v1/chat/completions", json!({"model": "qwen-plus"}), 400, "/error/code", "invalid_parameter_error"),
        (native, prompt("status-429"), 429, "/code", "Throttling.RateQuota"),
        (native, prompt("status-500"), 500, "/code", "InternalError"),
        (native, prompt("nobody-knows-it"), 404, "/code", "ModelNotFound"),
        (&gemini("status-429"), contents.clone(), 429, "/error/status", "RESOURCE_EXHAUSTED"),
        (&gemini("status-500"), contents.clone(), 500, "/error/status", "INTERNAL"),
        (&gemini("nobody-knows-it"), contents.clone(), 404, "/error/status", "NOT_FOUND"),
        ("/v1beta/openai/chat/completions", chat("status-429"), 429, "/0/error/status", "RESOURCE_EXHAUSTED"),
    ] {
        let reply = ask(&gateway, &format!("POST {path}"), &[], body).await;
        let found = reply.json().pointer(place).cloned();
        assert_eq!((reply.status.as_u16(), found), (status, Some(json!(code))), "{path}: {}", reply.text());
        let is_gemini = path.contains("beta");
        assert_eq!(reply.header("retry-after"), (status == 429 && !is_gemini).then_some("1"), "{path}");
        assert_eq!(reply.header("x-request-id").is_some(), !is_gemini, "{path}: the provider's own id");
        assert!(reply.header("x-aiproxy-request-id").is_some(), "{path}");
    }
    // A wrong upstream key is the operator's to mend; the provider's words say so.
    let gateway = self::gateway(json!({"bailian": demo.channel("sk-wrong-upstream-key")})).await;
    let reply = ask(&gateway, "POST /v1/chat/completions", &[], chat("qwen-plus")).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (401, "invalid_api_key"));
}

#[tokio::test]
async fn path_rewrites_of_the_service_before_win_over_the_plugin() {
    let upstream = Upstream::echo().await;
    let mut bailian = channel(&upstream.url(), BAILIAN_KEY);
    bailian["path_rewrite"] = json!({"/chat/completions": "/own/chat", "/short": "/long?fixed=1"});
    let gateway = gateway(json!({"bailian": bailian})).await;
    for (path, expected) in [
        ("/chat/completions", "/own/chat"),
        ("/chat/completions/more?x=1", "/own/chat/more?x=1"),
        ("/chat/completionsx", "/compatible-mode/v1/chat/completionsx"),
        ("/v1/chat/completions", "/compatible-mode/v1/chat/completions"),
        ("/short", "/long?fixed=1"),
        ("/short?x=1", "/long?fixed=1&x=1"),
    ] {
        let reply = ask(&gateway, &format!("POST {path}"), &[], chat("qwen-plus")).await;
        assert_eq!(reply.echoed_line(), format!("POST {expected}"));
        assert_eq!(reply.echoed("authorization"), [format!("Bearer {BAILIAN_KEY}")]);
    }
}

#[tokio::test]
async fn a_path_rewrite_that_cannot_work_is_not_applied_and_statistics_say_so() {
    let demo = Demo::start().await;
    let mut gemini = demo.channel(GEMINI_KEY);
    gemini["path_rewrite"] = json!({
        "/chat/completions": "/v1beta/models/gemini-pro:generateContent",
        "/list": "/v1beta/models",
    });
    let gateway = gateway(json!({"gemini": gemini})).await;
    for path in ["/chat/completions", "/v1/chat/completions"] {
        let reply = ask(&gateway, &format!("POST {path}"), &[], chat("gemini-2.5-flash")).await;
        assert_eq!(text(&reply, CHAT_TEXT), echo("gemini", "gemini-2.5-flash"), "{path}");
    }
    let reply = ask(&gateway, "GET /list", &[], Value::Null).await;
    assert_eq!(text(&reply, "/models/0/name"), "models/gemini-2.5-flash", "the other one is applied");
    let stats = gateway.stats().await;
    let files = stats["files"].as_array().expect("a list");
    let file = files.iter().find(|file| file["name"] == "channels_config.json").expect("it is listed");
    let warnings = file["warnings"].as_array().expect("a list");
    assert_eq!((&file["state"], warnings.len()), (&json!("active"), 1), "{file:#}");
    let warning = warnings[0].as_str().expect("text");
    assert!(warning.contains("/chat/completions") && warning.contains("not applied"), "{warning}");
}

#[tokio::test]
async fn a_key_with_several_channels_is_led_to_the_provider_that_has_the_model() {
    let demo = Demo::start().await;
    let mut channels = demo.bailian();
    channels["gemini"] = demo.channel(GEMINI_KEY);
    let gateway = gateway(channels).await;
    for (model, provider) in [("qwen-plus", "bailian"), ("gemini-2.5-flash", "gemini"), ("deepseek-v3", "bailian")] {
        let reply = ask(&gateway, "POST /v1/chat/completions", &[], chat(model)).await;
        assert_eq!(text(&reply, CHAT_TEXT), echo(provider, model));
    }
    let contents = json!({"contents": [{"parts": [{"text": "Hello"}]}]});
    let reply = ask(&gateway, "POST /v1beta/models/gemini-2.5-flash:generateContent", &[], contents).await;
    assert_eq!(text(&reply, GEMINI_TEXT), echo("gemini", "gemini-2.5-flash"));
    let reply = ask(&gateway, "GET /v1/models", &[("x-goog-api-key", KEY)], Value::Null).await;
    assert_eq!(text(&reply, "/models/0/name"), "models/gemini-2.5-flash", "a Google client");
    let reply = ask(&gateway, "GET /v1/models", &[], Value::Null).await;
    assert_eq!(text(&reply, "/data/0/id"), "qwen-max", "any other client: the first channel");
    let reply = ask(&gateway, "POST /v1/chat/completions", &[], chat("gpt-4o")).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (404, "no_channel_for_request"));
    // What nobody serves is counted with the channel that was asked last.
    let counted = |stats: &Value, channel: &str| stats["channel_stats"][channel]["requests"].clone();
    let are_counted = |stats: &Value| counted(stats, "bailian") == 3 && counted(stats, "gemini") == 4;
    gateway.until("each is counted where it went", are_counted).await;
}

#[tokio::test]
async fn a_websocket_is_refused_with_a_message_that_says_so() {
    let demo = Demo::start().await;
    let gateway = gateway(demo.bailian()).await;
    let fields = [
        "connection: Upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let reply = Raw::connect(gateway.address).await.ask("GET /api-ws/v1/inference", &fields).await;
    assert_eq!(reply.status(), 400);
    let body: Value = serde_json::from_str(&reply.body()).expect("an error is JSON");
    assert_eq!(body["error"]["code"], "websocket_not_supported");
    assert!(body["error"]["message"].as_str().is_some_and(|text| text.contains("WebSocket")), "{body}");
}

/// The plugin `openai` with these settings.
fn openai(base_url: &str, settings: Value) -> Value {
    let mut channel = channel(base_url, "sk-upstream-openai-0123");
    (channel["plugin"], channel["settings"]) = (json!("openai"), settings);
    channel
}

#[tokio::test]
async fn openai_serves_any_compatible_provider_from_its_settings() {
    let demo = Demo::start().await;
    let mut any = demo.channel(BAILIAN_KEY);
    (any["plugin"], any["settings"]) = (
        json!("openai"),
        json!({"prefix": "/compatible-mode/v1", "aliases": {"fast": "qwen-plus"}, "models": ["qwen-*"]}),
    );
    let gateway = gateway(json!({"any": any})).await;
    for (path, model) in [
        ("/v1/chat/completions", "qwen-plus"),
        ("/chat/completions", "fast"),
        ("/compatible-mode/v1/chat/completions", "fast"),
    ] {
        let reply = ask(&gateway, &format!("POST {path}"), &[], chat(model)).await;
        assert_eq!(text(&reply, CHAT_TEXT), echo("bailian", "qwen-plus"), "{path} {model}");
    }
    // Patterns fit in any case; it is the provider who says that it wants another.
    let reply = ask(&gateway, "POST /v1/chat/completions", &[], chat("Qwen-Max")).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (404, "model_not_found"));
    let mut body = chat("fast");
    body["stream"] = json!(true);
    let reply = ask(&gateway, "POST /v1/chat/completions", &[], body).await;
    assert_eq!(streamed(&reply, DELTA_TEXT), echo("bailian", "qwen-plus"));
    assert_eq!(text(&ask(&gateway, "GET /v1/models", &[], Value::Null).await, "/data/0/id"), "qwen-max");
    let reply = ask(&gateway, "POST /v1/chat/completions", &[], chat("deepseek-v3")).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (404, "no_channel_for_request"));
}

#[tokio::test]
async fn openai_puts_the_key_where_the_settings_say_or_nowhere() {
    let upstream = Upstream::echo().await;
    let url = upstream.url();
    let mut keyless = openai(&url, json!({"key": "none", "models": ["local"]}));
    keyless.as_object_mut().expect("an object").remove("api_key");
    let mut query = openai(&url, json!({"models": ["query"], "key": {"query": "k"}, "prefix": ""}));
    query["api_key"] = json!("sk-up_stream.~&=+/%");
    let gateway = gateway(json!({
        "bearer": openai(&url, json!({"models": ["bearer"]})),
        "header": openai(&url, json!({"models": ["header"], "key": {"header": "api-key"}, "prefix": "/openai/v1"})),
        "query": query,
        "local": keyless,
    }))
    .await;
    let key = "sk-upstream-openai-0123";
    let bearer = format!("Bearer {key}");
    for (model, line, authorization, header) in [
        ("bearer", "/v1/chat/completions?x=1".to_owned(), vec![bearer.as_str()], vec![]),
        ("header", "/openai/v1/chat/completions?x=1".to_owned(), vec![], vec![key]),
        ("query", "/chat/completions?x=1&k=sk-up_stream.~%26%3D%2B%2F%25".to_owned(), vec![], vec![]),
        ("local", "/v1/chat/completions?x=1".to_owned(), vec![], vec![]),
    ] {
        for form in ["authorization", "api-key"] {
            let shown = if form == "api-key" { KEY.to_owned() } else { format!("Bearer {KEY}") };
            let reply = ask(&gateway, "POST /v1/chat/completions?x=1", &[(form, &shown)], chat(model)).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_eq!(reply.echoed_line(), format!("POST {line}"), "{model}");
            assert_eq!(
                (reply.echoed("authorization"), reply.echoed("api-key")),
                (authorization.clone(), header.clone())
            );
            assert!(!reply.text().contains(KEY), "{model}: the proxy key stays here");
        }
    }
}

#[tokio::test]
async fn openai_changes_what_the_settings_say_and_no_other_byte_of_the_body() {
    let upstream = Upstream::echo().await;
    let settings = json!({
        "aliases": {"fast": "gpt-4o-mini"},
        "stream_usage": true,
        "headers": {"set": {"x-set": "s"}, "default": {"x-default": "d"}, "remove": ["x-gone"]},
        "body": {"set": {"/user": "gateway"}, "default": {"/temperature": 0.5}, "remove": ["/seed"]},
        "rewrites": {"/v1/moderations": "/own/moderations"},
    });
    let gateway = gateway(json!({"openai": openai(&upstream.url(), settings)})).await;
    let body =
        r#"{ "model" : "fast",  "stream": true, "seed": 1, "user": "u", "messages": [ {"content": "\u00e4 1.0e0"} ] }"#;
    let request = Request::post("/v1/chat/completions")
        .header("authorization", format!("Bearer {KEY}"))
        .header("content-type", "application/json")
        .header("x-default", "mine")
        .header("x-gone", "1")
        .body(Full::new(body.into()));
    let reply = send(gateway.address, request.expect("a request")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let sent = reply.echoed_body();
    let json: Value = serde_json::from_str(sent).expect("it is JSON still");
    assert_eq!(
        json,
        json!({
            "model": "gpt-4o-mini", "stream": true, "user": "gateway", "temperature": 0.5,
            "stream_options": {"include_usage": true}, "messages": [{"content": "ä 1.0e0"}],
        })
    );
    assert!(sent.starts_with(r#"{ "model" : "gpt-4o-mini",  "stream": true,"#), "{sent}");
    assert!(sent.contains(r#""messages": [ {"content": "\u00e4 1.0e0"} ]"#), "{sent}");
    assert_eq!(reply.echoed("content-length"), [sent.len().to_string()]);
    assert_eq!((reply.echoed("x-set"), reply.echoed("x-default")), (vec!["s"], vec!["mine"]));
    assert!(reply.echoed("x-gone").is_empty());
    let reply = ask(&gateway, "POST /v1/moderations", &[], json!({"model": "m"})).await;
    assert_eq!((reply.echoed_line(), reply.echoed("x-default")), ("POST /own/moderations", vec!["d"]));
    let raw = Raw::connect(gateway.address).await.ask("GET /v1/models", &[]).await;
    assert!(raw.body().starts_with("GET /v1/models\n") && raw.body().ends_with("\n\n"), "{}", raw.body());
}
