//! The sockets as clients see them: each protocol, each refusal, each end; and that the default plugins' meters find
//! the usage in what is said.

mod inference;
mod live;
mod realtime;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{BAILIAN, Demo, GEMINI, GEMINI_BEARER, Header};
use crate::demo::sound;
use crate::meter::MessageMeter;
use crate::plugin::defaults;

const INFERENCE: &str = "/api-ws/v1/inference";
const OMNI: &str = "/api-ws/v1/realtime?model=qwen3-omni-flash-realtime";
const LIVE: &str = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";
const CONSTRAINED: &str = "/ws/google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateContentConstrained";

/// What a handshake consists of, beside the credential.
const HANDSHAKE: [Header; 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

struct Socket(WebSocketStream<TcpStream>);

/// A message, as far as it matters here.
#[derive(Debug, PartialEq)]
enum Heard {
    Text(Value),
    Binary(Vec<u8>),
    Close(u16, String),
}

impl Socket {
    async fn open(demo: &Demo, path: &str, headers: &[Header]) -> Result<(Self, http::HeaderMap), Error> {
        let mut request = format!("ws://{}{path}", demo.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, reply) = client_async(request, TcpStream::connect(demo.address).await.unwrap()).await?;
        Ok((Self(socket), reply.headers().clone()))
    }

    async fn at(demo: &Demo, path: &str, key: Header) -> Self {
        Self::open(demo, path, &[key]).await.unwrap().0
    }

    async fn say(&mut self, value: Value) {
        self.0.send(Message::text(value.to_string())).await.unwrap();
    }

    async fn send(&mut self, bytes: Vec<u8>) {
        self.0.send(Message::binary(bytes)).await.unwrap();
    }

    async fn next(&mut self) -> Heard {
        match tokio::time::timeout(Duration::from_secs(10), self.0.next()).await.unwrap().unwrap().unwrap() {
            Message::Text(text) => Heard::Text(serde_json::from_str(&text).unwrap()),
            Message::Binary(bytes) => Heard::Binary(bytes.to_vec()),
            Message::Close(Some(frame)) => Heard::Close(frame.code.into(), frame.reason.to_string()),
            other => panic!("{other:?}"),
        }
    }

    /// JSON, in whichever kind of message.
    async fn json(&mut self) -> Value {
        match self.next().await {
            Heard::Text(value) => value,
            Heard::Binary(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Heard::Close(code, reason) => panic!("closed: {code} {reason}"),
        }
    }

    /// Everything up to the message in which this is so.
    async fn until(&mut self, is_so: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut messages = vec![self.json().await];
        while !is_so(messages.last().unwrap()) {
            messages.push(self.json().await);
        }
        messages
    }

    async fn until_event(&mut self, kind: &str) -> Vec<Value> {
        self.until(|message| message["type"] == kind).await
    }

    /// The sound up to an event of a task, and that event.
    async fn sound_until(&mut self, event: &str) -> (Vec<u8>, Value) {
        let mut sound = Vec::new();
        loop {
            match self.next().await {
                Heard::Binary(bytes) => sound.extend(bytes),
                Heard::Text(message) if message["header"]["event"] == event => return (sound, message),
                Heard::Text(_) => {}
                Heard::Close(code, reason) => panic!("closed: {code} {reason}"),
            }
        }
    }
}

fn task(action: &str, id: &str, payload: Value) -> Value {
    let mut message = json!({"header": {"action": action, "task_id": id, "streaming": "duplex"}});
    message["payload"] = payload;
    message
}

fn run(id: &str, task_name: &str, model: &str) -> Value {
    let parameters = json!({"format": "pcm", "sample_rate": 16_000});
    task("run-task", id, json!({"model": model, "task": task_name, "parameters": parameters, "input": {}}))
}

fn input(text: &str) -> Value {
    json!({"input": {"text": text}})
}

fn realtime(kind: &str) -> Value {
    json!({"event_id": "event_1", "type": kind})
}

/// The words in the sound that came in base64.
fn words_of<'a>(chunks: impl IntoIterator<Item = &'a Value>) -> String {
    let sound: Vec<u8> = chunks.into_iter().flat_map(|chunk| BASE64.decode(chunk.as_str().unwrap()).unwrap()).collect();
    String::from_utf8(sound.into_iter().step_by(16).collect()).unwrap()
}

#[tokio::test]
async fn a_handshake_is_refused_in_the_providers_words() {
    let demo = Demo::start().await;
    let wrong: Header = ("authorization", "Bearer sk-proxy");
    let token: Header = ("authorization", "Token auth_tokens/x");
    let cases: &[(&str, &[Header], u16, &str, &str)] = &[
        (INFERENCE, &[], 401, "/code", "InvalidApiKey"),
        (INFERENCE, &[wrong], 401, "/code", "InvalidApiKey"),
        (INFERENCE, &[("x-api-key", "sk-bailian")], 401, "/code", "InvalidApiKey"),
        (OMNI, &[wrong], 401, "/code", "InvalidApiKey"),
        (OMNI, &[BAILIAN, ("x-goog-api-key", "sk-proxy")], 400, "/code", "InvalidParameter"),
        (
            OMNI,
            &[BAILIAN, ("sec-websocket-protocol", "realtime, openai-insecure-api-key.sk-proxy")],
            400,
            "/code",
            "InvalidParameter",
        ),
        ("/api-ws/v1/inference?key=sk-proxy", &[BAILIAN], 400, "/code", "InvalidParameter"),
        (LIVE, &[], 403, "/error/status", "PERMISSION_DENIED"),
        (LIVE, &[("x-goog-api-key", "sk-proxy")], 400, "/error/details/0/reason", "API_KEY_INVALID"),
        (LIVE, &[GEMINI, GEMINI_BEARER], 400, "/error/status", "INVALID_ARGUMENT"),
        (CONSTRAINED, &[], 403, "/error/status", "PERMISSION_DENIED"),
        (CONSTRAINED, &[GEMINI], 400, "/error/status", "INVALID_ARGUMENT"),
        (CONSTRAINED, &[token, GEMINI], 400, "/error/status", "INVALID_ARGUMENT"),
        (CONSTRAINED, &[GEMINI_BEARER], 400, "/error/details/0/reason", "API_KEY_INVALID"),
        (CONSTRAINED, &[("authorization", "Token sk-proxy")], 400, "/error/details/0/reason", "API_KEY_INVALID"),
    ];
    for (path, headers, status, pointer, code) in cases {
        let (found, body) = demo.get(path, &[&HANDSHAKE[..], headers].concat()).await;
        assert_eq!((found, body.pointer(pointer)), (*status, Some(&json!(code))), "{path} {headers:?}: {body}");
    }
    // The right key, and no handshake.
    for (path, key, pointer) in
        [(INFERENCE, BAILIAN, "/code"), (OMNI, BAILIAN, "/code"), (LIVE, GEMINI, "/error/status")]
    {
        let (status, body) = demo.get(path, &[key]).await;
        assert_eq!((status, body.pointer(pointer).is_some()), (400, true), "{path}: {body}");
    }
}

#[tokio::test]
async fn tokens_are_taken_from_the_query_and_the_realtime_protocol_is_agreed_to() {
    let demo = Demo::start().await;
    Socket::open(&demo, &format!("{CONSTRAINED}?access_token=auth_tokens%2Fx"), &[]).await.unwrap();
    let (_, headers) = Socket::open(&demo, OMNI, &[BAILIAN, ("sec-websocket-protocol", "realtime")]).await.unwrap();
    assert_eq!(headers["sec-websocket-protocol"], "realtime");
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_socket() {
    let demo = Demo::start().await;
    let mut socket = Socket::at(&demo, INFERENCE, BAILIAN).await;
    // The rest of it may find the socket closed.
    let _ = socket.0.send(Message::binary(vec![0; 5 << 20])).await;
    assert!(matches!(socket.next().await, Heard::Close(1009, _)));
}

/// What a default plugin's meters make of these messages; `set` is the number of the set in its profile.
fn metered(plugin: &'static str, set: usize, messages: &[Value]) -> Vec<(String, f64)> {
    let set = defaults::deployed(plugin).profile.compiled_meters().swap_remove(set);
    let mut meter = MessageMeter::new(set);
    for message in messages {
        meter.text(message.to_string().as_bytes());
    }
    let usage = meter.finish();
    assert!(!usage.is_partial);
    usage.totals.into_iter().map(|(name, total)| (name.to_string(), total)).collect()
}

fn total(name: &str, value: &Value) -> (String, f64) {
    (name.to_owned(), value.as_f64().unwrap())
}

#[tokio::test]
async fn the_plugins_meters_find_the_usage_of_every_socket() {
    let demo = Demo::start().await;
    let mut socket = Socket::at(&demo, INFERENCE, BAILIAN).await;
    let mut tasks = Vec::new();
    socket.say(run("one", "tts", "cosyvoice-v2")).await;
    socket.say(task("continue-task", "one", input("Hello"))).await;
    socket.say(task("finish-task", "one", json!({"input": {}}))).await;
    tasks.push(socket.sound_until("task-finished").await.1);
    socket.say(run("two", "asr", "paraformer-realtime-v2")).await;
    socket.send(vec![1; 64_000]).await;
    socket.say(task("finish-task", "two", json!({"input": {}}))).await;
    tasks.extend(socket.until(|event| event["header"]["event"] == "task-finished").await);
    assert_eq!(metered("bailian", 3, &tasks), [("characters".to_owned(), 5.0), ("seconds".to_owned(), 2.0)]);

    let mut socket = Socket::at(&demo, OMNI, BAILIAN).await;
    socket.say(realtime("response.create")).await;
    let events = socket.until_event("response.done").await;
    let usage = &events.last().unwrap()["response"]["usage"];
    let expected = [total("input", &usage["input_tokens"]), total("output", &usage["output_tokens"])];
    assert_eq!(metered("bailian", 4, &events), expected);
    let mut socket = Socket::at(&demo, "/api-ws/v1/realtime?model=qwen3-tts-flash-realtime", BAILIAN).await;
    socket.say(json!({"type": "input_text_buffer.append", "text": "Hello. 你好。"})).await;
    let events = socket.until_event("response.done").await;
    assert_eq!(metered("bailian", 4, &events), [("characters".to_owned(), 13.0)]);

    let mut socket = Socket::at(&demo, LIVE, GEMINI).await;
    socket.say(json!({"setup": {"model": "models/gemini-2.5-flash"}})).await;
    socket.say(json!({"realtimeInput": {"text": "ping pong"}})).await;
    let messages = socket.until(|message| message["serverContent"]["turnComplete"] == true).await;
    let usage = &messages.last().unwrap()["usageMetadata"];
    let expected = [total("input", &usage["promptTokenCount"]), total("output", &usage["responseTokenCount"])];
    assert_eq!(metered("gemini", 2, &messages), expected);
}
