//! Channels with `"usage": "ask"`: a stream's usage is logged whoever asked for it, and only who asked sees it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use aiproxy_host::demo;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::client::open;
use crate::support::{
    Answer, Body, Conf, Gateway, Http2, KEY, Upstream, access_log, ask::request, http2, post, send, stream, whole,
};

const CHAT: &str = "/v1/chat/completions";
const STREAMED: &str = r#"{"model": "m",  "stream": true, "messages": [{"role": "user", "content": "\u00e4"}]}"#;
const EXTRA: &str = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":5}}\n\n";

/// What a provider streams, with the extra chunk where it is asked for.
fn events(is_asked: bool) -> String {
    let usage = if is_asked { ",\"usage\":null" } else { "" };
    let chunk =
        |delta: &str| format!("data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{{delta}}}}}]{usage}}}\n\n");
    let extra = if is_asked { EXTRA } else { "" };
    format!(": processing\n\n{}{}{extra}data: [DONE]\n\n", chunk("\"role\":\"assistant\""), chunk("\"content\":\"Hi\""))
}

/// What the client is left with of an asked-for stream that it did not ask for.
fn events_without_extra() -> String {
    events(true).replace(EXTRA, "")
}

type Bodies = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// An OpenAI-compatible provider, and what it was sent.
async fn provider() -> (Upstream, Bodies) {
    let bodies = Bodies::default();
    let seen = bodies.clone();
    let upstream = Upstream::start(move |request| {
        let seen = seen.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.expect("a whole body").to_bytes();
            seen.lock().unwrap().push((parts.headers, body.clone()));
            let json: Value = serde_json::from_slice(&body).unwrap_or_default();
            let (kind, reply) = if json["stream"] == true {
                ("text/event-stream", events(json["stream_options"]["include_usage"] == true))
            } else {
                ("application/json", r#"{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}}"#.into())
            };
            Response::builder().header("content-type", kind).body(whole(reply)).expect("a reply")
        }
    })
    .await;
    (upstream, bodies)
}

fn metered() -> Value {
    let meters = json!([[
        {"name": "input", "alternatives": [["/usage/prompt_tokens"]], "fold": "last"},
        {"name": "output", "alternatives": [["/usage/completion_tokens"]], "fold": "last"},
    ]]);
    json!({"quiet": true, "profile": {"meters": meters}, "plan": {"meters": 0}})
}

/// A gateway that asks, and its access log.
async fn asking(upstream: &Upstream) -> (Gateway, PathBuf) {
    let (conf, path) = access_log::file(Conf::new(&upstream.url()).settings(metered()).set("usage", "ask"));
    (Gateway::start(conf).await, path)
}

fn sent(bodies: &Bodies) -> String {
    let (_, body) = bodies.lock().unwrap().pop().expect("the upstream was asked");
    String::from_utf8(body.to_vec()).expect("it is text")
}

#[tokio::test]
async fn a_client_that_does_not_ask_sees_no_usage_and_the_log_has_it() {
    let (upstream, bodies) = provider().await;
    let (gateway, path) = asking(&upstream).await;
    for target in [CHAT, "/v1/completions", "/completions?x=1"] {
        let reply = post(gateway.address, target, STREAMED).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, events_without_extra().as_str()));
        assert_eq!(reply.header("content-length"), None);
        let expected = STREAMED.replace("}]}", "}],\"stream_options\":{\"include_usage\":true}}");
        assert_eq!(sent(&bodies), expected);
    }
    let lines = access_log::lines(gateway, &path).await;
    assert_eq!(lines.len(), 3);
    for line in lines {
        assert_eq!((&line["usage"], &line["outcome"]), (&json!({"input": 9, "output": 5}), &json!("complete")));
        assert_eq!(line["bytes_out"], events_without_extra().len(), "what the client was sent");
    }
}

#[tokio::test]
async fn over_http2_too_and_beside_the_plans_own_edits() {
    let (upstream, bodies) = provider().await;
    let mut settings = metered();
    settings["plan"]["body"] = json!([["set", "/model", "\"n\""]]);
    let (conf, path) = access_log::file(Conf::new(&upstream.url()).settings(settings).set("usage", "ask"));
    let gateway = Gateway::start(conf).await;
    let client = Http2::connect(gateway.address).await;
    let mut request = http2::request("POST", CHAT, STREAMED);
    request.headers_mut().insert("content-type", "application/json".parse().unwrap());
    let reply = client.send(request).await;
    assert_eq!(reply.text(), events_without_extra());
    let expected = STREAMED.replace("}]}", "}],\"stream_options\":{\"include_usage\":true}}").replace("\"m\"", "\"n\"");
    assert_eq!(sent(&bodies), expected);
    drop(client);
    assert_eq!(access_log::lines(gateway, &path).await[0]["usage"], json!({"input": 9, "output": 5}));
}

#[tokio::test]
async fn a_client_that_asks_gets_what_it_asked_for() {
    let (upstream, bodies) = provider().await;
    let (gateway, path) = asking(&upstream).await;
    let body = r#"{"stream": true, "stream_options": {"include_usage" : true}}"#;
    let reply = post(gateway.address, CHAT, body).await;
    assert_eq!((reply.text(), sent(&bodies).as_str()), (events(true).as_str(), body));
    let length = events(true).len().to_string();
    assert_eq!(reply.header("content-length"), Some(length.as_str()), "nothing stands between");
    assert_eq!(access_log::lines(gateway, &path).await[0]["usage"], json!({"input": 9, "output": 5}));
}

#[tokio::test]
async fn what_does_not_stream_or_goes_elsewhere_or_cannot_be_read_passes_untouched() {
    let (upstream, bodies) = provider().await;
    let conf = Conf::new(&upstream.url()).settings(metered()).set("usage", "ask");
    let gateway = Gateway::start(conf.gateway("limits", json!({"inspect_bytes_max": 1024}))).await;
    let post_as = async |path: &str, kind: &str, coding: &str, body: &str| -> Answer {
        let bearer = format!("Bearer {KEY}");
        let fields = [("authorization", bearer.as_str()), ("content-type", kind), ("content-encoding", coding)];
        let fields = if coding.is_empty() { &fields[..2] } else { &fields[..] };
        send(gateway.address, request("POST", path, fields, body.to_owned())).await
    };
    let json = "application/json";
    let long = STREAMED.replace("u00e4", &"x".repeat(1024));
    for (path, kind, coding, body) in [
        (CHAT, json, "", r#"{"model": "m"}"#),
        (CHAT, json, "", r#"{"model": "m", "stream": false}"#),
        (CHAT, json, "", r#"{"stream": true,"#),
        (CHAT, json, "", r#"{"stream": true, "stream_options": "none"}"#),
        (CHAT, json, "gzip", STREAMED),
        (CHAT, "text/plain", "", STREAMED),
        (CHAT, json, "", &long),
        (CHAT, json, "", ""),
        ("/v1/responses", json, "", STREAMED),
        ("/v1/chat/completions/c-1", json, "", STREAMED),
    ] {
        let reply = post_as(path, kind, coding, body).await;
        assert_eq!(sent(&bodies), body, "{path} {kind} {coding}");
        assert!(reply.header("content-length").is_some(), "{path} {kind} {coding} {body}");
    }
}

#[tokio::test]
async fn nothing_is_asked_for_where_the_channel_or_its_plugin_does_not_want_it() {
    let (upstream, bodies) = provider().await;
    for conf in [
        Conf::new(&upstream.url()).settings(metered()),
        Conf::new(&upstream.url()).settings(metered()).set("usage", "read"),
        Conf::new(&upstream.url()).settings(json!({"quiet": true})).set("usage", "ask"),
    ] {
        let gateway = Gateway::start(conf).await;
        let reply = post(gateway.address, CHAT, STREAMED).await;
        assert_eq!((reply.text(), sent(&bodies).as_str()), (events(false).as_str(), STREAMED));
    }
}

/// A gateway that asks before a provider that streams what the test feeds it.
async fn fed() -> (Gateway, Upstream, tokio::sync::mpsc::UnboundedSender<Result<Frame<Bytes>, std::io::Error>>) {
    let (sender, body) = stream();
    let body: Arc<Mutex<Option<Body>>> = Arc::new(Mutex::new(Some(body)));
    let upstream = Upstream::start(move |_| {
        let body = body.lock().unwrap().take().expect("one request");
        async { Response::builder().header("content-type", "text/event-stream; charset=utf-8").body(body).unwrap() }
    })
    .await;
    let (gateway, _) = asking(&upstream).await;
    (gateway, upstream, sender)
}

fn streamed() -> Request<Full<Bytes>> {
    let bearer = format!("Bearer {KEY}");
    let fields = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("host", "h")];
    request("POST", CHAT, &fields, STREAMED)
}

#[tokio::test]
async fn an_event_goes_on_as_soon_as_it_is_complete() {
    let (gateway, _upstream, sender) = fed().await;
    let feed = |piece: &str| sender.send(Ok(Frame::data(piece.to_owned().into()))).unwrap();
    feed("data: {\"choices\":[1]}\n");
    let mut reply = open(gateway.address, streamed()).await;
    let mut next = async || reply.frame().await.map(|frame| frame.unwrap().into_data().unwrap());
    feed("\ndata: {\"cho");
    assert_eq!(next().await.unwrap(), "data: {\"choices\":[1]}\n\n");
    feed("ices\":[],\"usage\":{}}\r");
    feed("\n\r\n: alive\n");
    assert_eq!(next().await.unwrap(), ": alive\n");
    feed("data: [DONE]");
    drop(sender);
    assert_eq!(next().await.unwrap(), "data: [DONE]", "the end without its blank line");
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn a_stream_that_breaks_off_breaks_off_for_the_client_behind_all_that_came() {
    let (gateway, _upstream, sender) = fed().await;
    sender.send(Ok(Frame::data("data: a\n\ndata: b".into()))).unwrap();
    let mut reply = open(gateway.address, streamed()).await;
    assert_eq!(reply.frame().await.unwrap().unwrap().into_data().unwrap(), "data: a\n\n");
    sender.send(Err(std::io::Error::other("broken"))).unwrap();
    let mut rest = Vec::new();
    let broken = loop {
        match reply.frame().await {
            Some(Ok(frame)) => rest.extend_from_slice(frame.data_ref().unwrap()),
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(broken, "the client sees that it is not whole");
    assert!(b"data: b".starts_with(&rest[..]));
}

#[tokio::test]
async fn the_default_plugins_streams_are_counted_and_their_clients_see_no_difference() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let keys = demo::Keys { bailian: "sk-upstream-bailian".into(), gemini: "AIza-upstream-gemini".into() };
    let channel = |key: &str| json!({"api_key": key, "base_url": url, "proxy": "direct", "usage": "ask"});
    let channels = json!({"bailian": channel(&keys.bailian), "gemini": channel(&keys.gemini)});
    let provider = tokio::spawn(demo::serve(listener, keys, std::future::pending()));
    let conf = Conf::new("http://127.0.0.1:9").channels(channels);
    let proxy_keys = json!([{"proxy_key": KEY, "id": "tester", "channels": ["bailian", "gemini"]}]);
    let (conf, path) = access_log::file(conf.keys(proxy_keys));
    let gateway = Gateway::start(conf).await;
    for model in ["qwen-plus", "gemini-2.5-flash"] {
        let chat = json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "Hello"}]});
        let reply = post(gateway.address, CHAT, chat.to_string()).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let data: Vec<_> = reply.text().lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(data.last(), Some(&"[DONE]"));
        for chunk in &data[..data.len() - 1] {
            let chunk: Value = serde_json::from_str(chunk).unwrap();
            assert_eq!(chunk["choices"].as_array().map(Vec::len), Some(1), "{chunk}");
        }
    }
    for line in access_log::lines(gateway, &path).await {
        assert!(line["usage"]["input"].as_u64() > Some(0) && line["usage"]["output"].as_u64() > Some(0), "{line}");
    }
    provider.abort();
}
