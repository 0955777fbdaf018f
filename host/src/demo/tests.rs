//! The demo upstream as its clients see it: over a socket, on a port of its own.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::{Keys, serve};

mod sockets;

type Header = (&'static str, &'static str);
/// Path, headers, and the refusal: status, where its code stands, the code.
type CredentialCase = (&'static str, &'static [Header], u16, &'static str, &'static str);
/// Path, credential, body, and the refusal.
type RequestCase = (&'static str, Header, &'static str, u16, &'static str, &'static str);

const BAILIAN: Header = ("authorization", "Bearer sk-bailian");
const GEMINI: Header = ("x-goog-api-key", "AIza-gemini");
const GEMINI_BEARER: Header = ("authorization", "bearer AIza-gemini");
const SSE: Header = ("x-dashscope-sse", "enable");
const ASYNC: Header = ("x-dashscope-async", "enable");

/// Starts an upstream and sends it requests, each on a connection of its own.
struct Demo {
    address: std::net::SocketAddr,
}

impl Demo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let keys = Keys { bailian: "sk-bailian".into(), gemini: "AIza-gemini".into() };
        tokio::spawn(serve(listener, keys, std::future::pending()));
        Self { address }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: String) -> Response<Incoming> {
        let io = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap()
    }

    async fn text(&self, method: &str, path: &str, headers: &[(&str, &str)], body: String) -> (StatusCode, String) {
        let reply = self.send(method, path, headers, body).await;
        let status = reply.status();
        (status, String::from_utf8(reply.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: Value) -> (u16, Value) {
        let (status, text) = self.text("POST", path, headers, body.to_string()).await;
        (status.as_u16(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let (status, text) = self.text("GET", path, headers, String::new()).await;
        (status.as_u16(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    /// The `data` of every event, as JSON, without the closing `[DONE]`.
    async fn events(&self, path: &str, headers: &[(&str, &str)], body: Value) -> Vec<Value> {
        let (status, text) = self.text("POST", path, headers, body.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        let data = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "ping pong"}]})
}

fn contents() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "ping pong"}]}]})
}

const COMPATIBLE_CHAT: &str = "/compatible-mode/v1/chat/completions";
const NATIVE_CHAT: &str = "/api/v1/services/aigc/text-generation/generation";
const GEMINI_CHAT: &str = "/v1beta/openai/chat/completions";
const GENERATE: &str = "/v1beta/models/gemini-2.5-flash:generateContent";
const STREAM: &str = "/v1beta/models/gemini-2.5-pro:streamGenerateContent";

#[tokio::test]
async fn a_chat_echoes_and_its_stream_says_and_costs_the_same() {
    let demo = Demo::start().await;
    for (path, key, model) in
        [(COMPATIBLE_CHAT, BAILIAN, "qwen-plus"), (GEMINI_CHAT, GEMINI_BEARER, "gemini-2.5-flash")]
    {
        let (status, reply) = demo.post(path, &[key], chat(model)).await;
        assert_eq!(status, 200);
        let content = reply["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(content.contains("ping pong"), "{content}");
        let usage = &reply["usage"];
        let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
        assert_eq!(usage["total_tokens"], sum);

        let mut body = chat(model);
        body["stream"] = json!(true);
        let plain = demo.events(path, &[key], body.clone()).await;
        assert!(plain.iter().all(|event| event.get("usage").is_none()));
        body["stream_options"] = json!({"include_usage": true});
        let events = demo.events(path, &[key], body).await;
        let (last, chunks) = events.split_last().unwrap();
        assert_eq!((&last["choices"], &last["usage"]), (&json!([]), usage));
        let pieces: Vec<&str> =
            chunks.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
        assert!(pieces.len() > 3);
        assert_eq!(pieces.concat(), content);
    }
}

#[tokio::test]
async fn the_first_event_arrives_before_the_last_is_sent() {
    let demo = Demo::start().await;
    let mut body = chat("qwen-plus");
    body["stream"] = json!(true);
    let mut reply = demo.send("POST", COMPATIBLE_CHAT, &[BAILIAN], body.to_string()).await.into_body();
    let first = reply.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"data: ") && !first.windows(6).any(|window| window == b"[DONE]"));
    let rest = reply.collect().await.unwrap().to_bytes();
    assert!(rest.ends_with(b"data: [DONE]\n\n"));
}

#[tokio::test]
async fn native_generation_streams_only_when_the_header_asks_for_it() {
    let demo = Demo::start().await;
    let body = |incremental: bool| {
        json!({
            "model": "qwen-plus", "input": {"messages": [{"role": "user", "content": "ping"}]},
            "parameters": {"result_format": "message", "incremental_output": incremental},
        })
    };
    let (status, whole) = demo.post(NATIVE_CHAT, &[BAILIAN, ("accept", "text/event-stream")], body(true)).await;
    assert_eq!(status, 200);
    let content = whole["output"]["choices"][0]["message"]["content"].as_str().unwrap();

    let content_of = |event: &Value| event["output"]["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let increments = demo.events(NATIVE_CHAT, &[BAILIAN, SSE], body(true)).await;
    assert_eq!(increments.iter().map(content_of).collect::<String>(), content);
    let cumulative = demo.events(NATIVE_CHAT, &[BAILIAN, SSE], body(false)).await;
    assert_eq!(content_of(cumulative.last().unwrap()), content);
    for events in [increments, cumulative] {
        assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
        assert!(events.iter().all(|event| event["usage"]["total_tokens"].is_u64()));
    }
}

#[tokio::test]
async fn gemini_streams_events_or_a_growing_array() {
    let demo = Demo::start().await;
    let events = demo.events(&format!("{STREAM}?alt=sse"), &[GEMINI], contents()).await;
    let (status, array) = demo.post(STREAM, &[GEMINI], contents()).await;
    assert_eq!((status, array.as_array().unwrap().len()), (200, events.len()));
    let usage = &events.last().unwrap()["usageMetadata"];
    assert_eq!(usage, &array.as_array().unwrap().last().unwrap()["usageMetadata"]);
    let count = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!(
        count("totalTokenCount"),
        count("promptTokenCount") + count("candidatesTokenCount") + count("thoughtsTokenCount")
    );
}

#[tokio::test]
async fn the_anthropic_stream_ends_with_the_usage_of_the_whole() {
    let demo = Demo::start().await;
    let mut body = chat("qwen-plus");
    assert_eq!(demo.post("/apps/anthropic/v1/messages", &[BAILIAN], body.clone()).await.0, 400);
    body["max_tokens"] = json!(100);
    let (_, whole) = demo.post("/apps/anthropic/v1/messages", &[BAILIAN], body.clone()).await;
    body["stream"] = json!(true);
    let events = demo.events("/apps/anthropic/v1/messages", &[BAILIAN], body).await;
    let delta = events.iter().find(|event| event["type"] == "message_delta").unwrap();
    assert_eq!(delta["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
    assert_eq!(events.last().unwrap()["type"], "message_stop");
}

#[tokio::test]
async fn a_wrong_missing_or_misplaced_credential_is_refused_in_the_providers_words() {
    let demo = Demo::start().await;
    let cases: &[CredentialCase] = &[
        (COMPATIBLE_CHAT, &[], 401, "/error/code", "invalid_api_key"),
        (COMPATIBLE_CHAT, &[("authorization", "Bearer sk-proxy")], 401, "/error/code", "invalid_api_key"),
        (COMPATIBLE_CHAT, &[("x-api-key", "sk-bailian")], 401, "/error/code", "invalid_api_key"),
        (COMPATIBLE_CHAT, &[BAILIAN, ("x-api-key", "sk-proxy")], 400, "/error/code", "invalid_parameter_error"),
        (
            "/compatible-mode/v1/chat/completions?key=sk-bailian",
            &[BAILIAN],
            400,
            "/error/code",
            "invalid_parameter_error",
        ),
        (NATIVE_CHAT, &[("authorization", "Bearer sk-proxy")], 401, "/code", "InvalidApiKey"),
        ("/apps/anthropic/v1/messages", &[("x-api-key", "sk-bailian")], 401, "/error/type", "authentication_error"),
        (GENERATE, &[], 403, "/error/status", "PERMISSION_DENIED"),
        (GENERATE, &[GEMINI_BEARER], 403, "/error/status", "PERMISSION_DENIED"),
        (GENERATE, &[("x-goog-api-key", "sk-proxy")], 400, "/error/details/0/reason", "API_KEY_INVALID"),
        (GENERATE, &[GEMINI, GEMINI_BEARER], 400, "/error/status", "INVALID_ARGUMENT"),
        (
            "/v1beta/models/gemini-2.5-flash:generateContent?key=AIza-gemini",
            &[],
            400,
            "/error/status",
            "INVALID_ARGUMENT",
        ),
        (GEMINI_CHAT, &[GEMINI], 403, "/0/error/status", "PERMISSION_DENIED"),
        (GEMINI_CHAT, &[("authorization", "Bearer sk-proxy")], 400, "/0/error/status", "INVALID_ARGUMENT"),
    ];
    for (path, headers, status, pointer, code) in cases {
        let (found, body) = demo.post(path, headers, chat("qwen-plus")).await;
        assert_eq!((found, body.pointer(pointer)), (*status, Some(&json!(code))), "{path} {headers:?}: {body}");
    }
}

#[tokio::test]
async fn paths_models_and_bodies_that_do_not_exist_are_refused_in_the_providers_words() {
    let demo = Demo::start().await;
    let cases: &[RequestCase] = &[
        ("/chat/completions", BAILIAN, "{}", 404, "/error/code", "not_found"),
        ("/v1/chat/completions", GEMINI, "{}", 404, "/error/status", "NOT_FOUND"),
        ("/compatible-mode/v1/chat", BAILIAN, "{}", 404, "/error/code", "not_found"),
        ("/api/v1/services/aigc/nothing/here", BAILIAN, "{}", 400, "/code", "InvalidParameter"),
        (COMPATIBLE_CHAT, BAILIAN, "{", 400, "/error/code", "invalid_parameter_error"),
        (COMPATIBLE_CHAT, BAILIAN, r#"{"model":"qwen-plus"}"#, 400, "/error/code", "invalid_parameter_error"),
        (COMPATIBLE_CHAT, BAILIAN, r#"{"model":"gemini-2.5-pro"}"#, 404, "/error/code", "model_not_found"),
        (NATIVE_CHAT, BAILIAN, "[]", 400, "/code", "InvalidParameter"),
        (NATIVE_CHAT, BAILIAN, r#"{"model":"nothing","input":{}}"#, 404, "/code", "ModelNotFound"),
        (GENERATE, GEMINI, "not json", 400, "/error/status", "INVALID_ARGUMENT"),
        ("/v1beta/models/qwen-plus:generateContent", GEMINI, "{}", 404, "/error/status", "NOT_FOUND"),
        ("/v1beta/models/gemini-2.5-flash:nothing", GEMINI, "{}", 404, "/error/status", "NOT_FOUND"),
    ];
    for (path, key, body, status, pointer, code) in cases {
        let (found, text) = demo.text("POST", path, &[*key], (*body).into()).await;
        let reply: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((found.as_u16(), reply.pointer(pointer)), (*status, Some(&json!(code))), "{path}: {text}");
    }
}

#[tokio::test]
async fn failures_on_demand_say_when_to_come_back() {
    let demo = Demo::start().await;
    let reply = demo.send("POST", COMPATIBLE_CHAT, &[BAILIAN], chat("status-429").to_string()).await;
    assert_eq!((reply.status().as_u16(), &reply.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    let (status, body) = demo.post("/v1beta/models/status-429:generateContent", &[GEMINI], contents()).await;
    assert_eq!((status, &body["error"]["details"][0]["retryDelay"]), (429, &json!("1s")));
    let native = json!({"model": "status-500", "input": {"prompt": "ping"}});
    assert_eq!(demo.post(NATIVE_CHAT, &[BAILIAN], native).await.1["code"], "InternalError");
    assert_eq!(demo.post(GEMINI_CHAT, &[GEMINI_BEARER], chat("status-500")).await.0, 500);
}

#[tokio::test]
async fn embeddings_have_the_asked_dimensions_in_every_protocol() {
    let demo = Demo::start().await;
    let openai = json!({"model": "text-embedding-v4", "input": ["a", "b"], "dimensions": 8});
    let (_, reply) = demo.post("/compatible-mode/v1/embeddings", &[BAILIAN], openai).await;
    let native = json!({"model": "text-embedding-v4", "input": {"texts": ["a"]}, "parameters": {"dimension": 8}});
    let path = "/api/v1/services/embeddings/text-embedding/text-embedding";
    let (_, native) = demo.post(path, &[BAILIAN], native).await;
    let vector = &reply["data"][0]["embedding"];
    assert_eq!((vector.as_array().unwrap().len(), vector), (8, &native["output"]["embeddings"][0]["embedding"]));
    let one = json!({"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 8});
    let (_, single) = demo.post("/v1/models/gemini-embedding-001:embedContent", &[GEMINI], one.clone()).await;
    assert_eq!(&single["embedding"]["values"], vector);
    let batch = json!({"requests": [one]});
    let (_, batch) = demo.post("/v1/models/gemini-embedding-001:batchEmbedContents", &[GEMINI], batch).await;
    assert_eq!(&batch["embeddings"][0]["values"], vector);
}

#[tokio::test]
async fn a_job_needs_its_header_and_is_done_when_asked_for_twice() {
    let demo = Demo::start().await;
    let path = "/api/v1/services/aigc/text2image/image-synthesis";
    let body = json!({"model": "wan2.2-t2i-flash", "input": {"prompt": "a cat"}});
    let (status, reply) = demo.post(path, &[BAILIAN], body.clone()).await;
    assert_eq!((status, &reply["code"]), (403, &json!("AccessDenied")));
    let (_, reply) = demo.post(path, &[BAILIAN, ASYNC], body).await;
    let task = format!("/api/v1/tasks/{}", reply["output"]["task_id"].as_str().unwrap());
    assert_eq!(demo.get(&task, &[BAILIAN]).await.1["output"]["task_status"], "RUNNING");
    assert_eq!(demo.get(&task, &[BAILIAN]).await.1["output"]["task_status"], "SUCCEEDED");
    assert_eq!(demo.get("/api/v1/tasks/none", &[BAILIAN]).await.1["output"]["task_status"], "UNKNOWN");
}

#[tokio::test]
async fn lists_ranks_counts_and_policies_have_the_providers_shape() {
    let demo = Demo::start().await;
    let (_, models) = demo.get("/compatible-mode/v1/models", &[BAILIAN]).await;
    assert_eq!(models["data"][0]["object"], "model");
    let (_, model) = demo.get("/v1beta/openai/models/gemini-2.5-flash", &[GEMINI_BEARER]).await;
    assert_eq!(model["owned_by"], "google");
    let (_, models) = demo.get("/v1beta/models", &[GEMINI]).await;
    assert_eq!(models["models"][0]["name"], "models/gemini-2.5-flash");
    assert_eq!(demo.get("/v1/models/gemini-2.5-pro", &[GEMINI]).await.1["name"], "models/gemini-2.5-pro");
    assert_eq!(demo.get("/v1beta/files", &[GEMINI]).await.1["files"], json!([]));
    let (_, count) = demo.post("/v1/models/gemini-2.5-flash:countTokens", &[GEMINI], contents()).await;
    assert_eq!(count["totalTokens"], 5);
    let (_, policy) = demo.get("/api/v1/uploads?action=getPolicy&model=qwen-vl-plus", &[BAILIAN]).await;
    assert!(policy["data"]["upload_host"].is_string());
    let rank = json!({"model": "gte-rerank-v2", "query": "red cat", "documents": ["dog", "a red cat"], "top_n": 1});
    let (_, ranked) = demo.post("/compatible-api/v1/reranks", &[BAILIAN], rank).await;
    assert_eq!((ranked["results"].as_array().unwrap().len(), &ranked["results"][0]["index"]), (1, &json!(1)));
}

#[tokio::test]
async fn a_resumable_upload_goes_on_at_the_url_that_its_start_named() {
    let demo = Demo::start().await;
    let header = |headers: &HeaderMap, name: &str| headers[name].to_str().unwrap().to_owned();
    let start = [GEMINI, ("x-goog-upload-protocol", "resumable"), ("x-goog-upload-command", "start")];
    let reply =
        demo.send("POST", "/upload/v1beta/files", &start, json!({"file": {"displayName": "x"}}).to_string()).await;
    assert_eq!(header(reply.headers(), "x-goog-upload-status"), "active");
    let url: http::Uri = header(reply.headers(), "x-goog-upload-url").parse().unwrap();
    assert_eq!(url.authority().unwrap().as_str(), demo.address.to_string());
    let finish = [("x-goog-upload-command", "upload, finalize"), ("x-goog-upload-offset", "0")];
    let (_, body) = demo.text("POST", url.path_and_query().unwrap().as_str(), &finish, "12345".into()).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["file"]["sizeBytes"], &body["file"]["displayName"]), (&json!("5"), &json!("x")));
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_understood() {
    let demo = Demo::start().await;
    let io = TokioIo::new(TcpStream::connect(demo.address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("http://{}/compatible-mode/v1/models", demo.address);
    let request = Request::get(uri).header(BAILIAN.0, BAILIAN.1).body(Full::<Bytes>::default()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn shutdown_ends_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let keys = Keys { bailian: "a".into(), gemini: "b".into() };
    assert_eq!(format!("{keys:?}"), "Keys(…)");
    let server = tokio::spawn(serve(listener, keys, async {
        let _ = stopped.await;
    }));
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), server).await.unwrap().unwrap().unwrap();
}
