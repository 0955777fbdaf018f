//! A plugin sees what its profile asked for, and the body is read and answers are reused only where it says so.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;
use serde_json::{Value, json};

use crate::support::{
    Answer, Body, Conf, Gateway, Http2, KEY, Raw, RawUpstream, UPSTREAM_KEY, Upstream, channel, guests, http2, post,
    request, send, soon, stream, whole,
};

const OTHER_KEY: &str = "sk-test-another-caller";

/// One worker, so that the plugin has one instance, and an echo behind it.
async fn echoing(profile: Value) -> (Upstream, Gateway) {
    let upstream = Upstream::echo().await;
    let conf = Conf::new(&upstream.url()).settings(json!({"profile": profile})).keys(json!([
        {"proxy_key": KEY, "id": "tester", "channel": "c"},
        {"proxy_key": OTHER_KEY, "id": "other", "channel": "c"},
    ]));
    let gateway = Gateway::with_workers(conf, 1).await;
    (upstream, gateway)
}

/// What the puppet says that it was shown.
fn saw(reply: &Answer, what: &str) -> String {
    let values = reply.echoed(&format!("x-puppet-saw-{what}")).join(", ");
    assert_eq!(reply.status, 200, "{}", reply.text());
    values
}

/// Of a JSON body: the model, whether it streams, the fields.
fn facts(reply: &Answer) -> (String, bool, Value) {
    let fields = serde_json::from_str(&saw(reply, "body")).expect("the puppet writes JSON");
    (saw(reply, "model"), saw(reply, "streaming") == "true", fields)
}

async fn send_as(gateway: &Gateway, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let mut request = ::http::Request::post("/x").header("authorization", format!("Bearer {KEY}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    send(gateway.address, request.body(Full::new(body.into())).expect("a request")).await
}

#[tokio::test]
async fn a_plugin_sees_the_headers_that_it_named_and_the_values_of_each_in_order_of_arrival() {
    let upstream = RawUpstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let profile = json!({"headers": ["x-absent", "x-first", "x-twice", "user-agent", "host"]});
    let gateway = Gateway::start(Conf::new(&upstream.url()).settings(json!({"profile": profile}))).await;
    let fields = ["X-First: 1", "x-unasked: u", "x-twice: b", "cookie: c=1", "x-twice: a", "user-agent: test"];
    let mut head = request("GET /", &fields).into_bytes();
    head.truncate(head.len() - 2);
    head.extend_from_slice(b"x-twice: not \xff utf-8\r\nx-twice: last\r\n\r\n");
    let mut client = Raw::connect(gateway.address).await;
    client.write(head).await;
    assert_eq!(client.reply().await.status(), 200);
    let seen = upstream.last();
    let shown: Value = serde_json::from_str(&seen.values("x-puppet-saw-headers")[0]).expect("JSON");
    assert_eq!(
        shown,
        json!([
            ["x-first", "1"],
            ["x-twice", "b"],
            ["x-twice", "a"],
            ["x-twice", "last"],
            ["user-agent", "test"],
            ["host", "gateway.test"],
        ])
    );
    assert_eq!(seen.values("x-twice").len(), 4, "upstream gets them all");

    // Without a profile nothing is shown.
    let (_upstream, gateway) = echoing(json!({})).await;
    assert_eq!(saw(&post(gateway.address, "/x", r#"{"model": "m", "stream": true}"#).await, "headers"), "[]");
}

#[tokio::test]
async fn a_profile_that_asks_for_credentials_is_refused_and_what_served_serves_on() {
    let (upstream, gateway) = echoing(json!({"headers": ["x-fine"]})).await;
    let names = ["authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization"];
    for name in names {
        let mut channel = channel(&upstream.url());
        channel["settings"] = json!({"profile": {"headers": ["x-fine", name]}});
        gateway.conf.write_file("channels_config.json", &json!({"channels": {"c": channel}}).to_string());
        gateway.reload();
        let refused = |stats: &Value| {
            let files = stats["files"].as_array().expect("a list");
            let file = files.iter().find(|file| file["name"] == "channels_config.json").expect("it is listed");
            let error = file["last_error"].as_str().unwrap_or_default();
            file["state"] == "refused" && error.contains(&format!("\"{name}\"")) && error.contains("credentials")
        };
        let stats = gateway.until(&format!("{name} is refused"), refused).await;
        assert_eq!(stats["generation"], 1);
    }
    let reply = send_as(&gateway, &[("x-fine", "1"), ("cookie", "c=1")], "").await;
    assert_eq!(saw(&reply, "headers"), r#"[["x-fine","1"]]"#);
    assert_eq!(reply.echoed("cookie"), ["c=1"], "the cookie is for the upstream");
}

#[tokio::test]
async fn the_model_comes_from_json_or_from_a_form() {
    let (_upstream, gateway) = echoing(json!({"reads_model": true})).await;
    for (body, model) in [
        (r#"{"model": "m-1"}"#, "m-1"),
        (r#" { "messages": [{"model": "inner"}], "model" : "\u006d-\"2\"" } "#, "m-\"2\""),
        (r#"{"model": "first", "x": 1, "model": "last"}"#, "last"),
        (r#"{"model": "first", "m\u006fdel": "last"}"#, "last"),
        (r#"{"model": "first", "model": null}"#, "none"),
        (r#"{"model": 4}"#, "none"),
        (r#"{"Model": "m"}"#, "none"),
        (r#"[{"model": "m"}]"#, "none"),
        (r#"{"model": "m""#, "none"),
        (r#"{"model": "m"} {}"#, "none"),
        ("", "none"),
    ] {
        let reply = post(gateway.address, "/x", body).await;
        assert_eq!((saw(&reply, "model").as_str(), reply.echoed_body()), (model, body), "{body}");
    }

    let part = |head: &str, value: &str| format!("--b\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n");
    let file = part("name=\"file\"; filename=\"model\"", &"x".repeat(50_000));
    for (form, model) in [
        (part("name=\"model\"", "whisper-1") + &file, "whisper-1"),
        (file.clone() + &part("name=\"model\"", "whisper-1"), "whisper-1"),
        (file.clone() + &part("name=\"model\"; filename=\"m\"", "whisper-1"), "none"),
        (file.clone(), "none"),
    ] {
        let form = form + "--b--\r\n";
        let reply = send_as(&gateway, &[("content-type", "multipart/form-data; boundary=b")], form.clone()).await;
        assert_eq!(saw(&reply, "model"), model);
        assert!(reply.echoed_body() == form, "every byte arrives");
    }
}

#[tokio::test]
async fn streaming_is_told_by_the_body_or_by_what_the_client_accepts() {
    let (_upstream, gateway) = echoing(json!({"reads_model": true})).await;
    let (_upstream_blind, blind) = echoing(json!({})).await;
    for (body, accept, is_streaming, is_seen_blindly) in [
        (r#"{"stream": true}"#, "*/*", true, false),
        (r#"{"stream": false}"#, "*/*", false, false),
        (r#"{"stream": "true"}"#, "*/*", false, false),
        (r#"{"stream": 1}"#, "*/*", false, false),
        (r#"{"options": {"stream": true}}"#, "*/*", false, false),
        (r#"{"stream": true, "stream": false}"#, "*/*", false, false),
        (r#"{"stream": false, "stream": true}"#, "*/*", true, false),
        ("{}", "application/json, text/event-stream", true, true),
        (r#"{"stream": false}"#, "text/event-stream", true, true),
        ("", "text/event-stream", true, true),
    ] {
        let reply = send_as(&gateway, &[("accept", accept)], body).await;
        assert_eq!(saw(&reply, "streaming"), is_streaming.to_string(), "{body} {accept}");
        let reply = send_as(&blind, &[("accept", accept)], body).await;
        assert_eq!(saw(&reply, "streaming"), is_seen_blindly.to_string(), "body not read: {body} {accept}");
    }
}

#[tokio::test]
async fn a_body_field_is_shown_as_text_or_as_json_and_not_when_it_is_long() {
    let pointers = ["/s", "/n", "/o", "/a/1", "/t", "/null", "/missing", "/a~1b", "/fits", "/long", "/big", "/twice/x"];
    let (_upstream, gateway) = echoing(json!({"body": pointers})).await;
    let (fits, long) = ("f".repeat(4096), "l".repeat(4097));
    let big = format!("[{}1]", "1,".repeat(2048));
    let body = format!(
        r#"{{"s": "say \"\u0041\"", "n": -1.50e3, "o": {{"k":[1,"2"]}}, "a": ["0", "1"], "t": true, "null": null,
            "a/b": "slash", "fits": "{fits}", "long": "{long}", "big": {big}, "twice": {{"x": 1}}, "twice": {{"x": 2}}}}"#
    );
    let reply = post(gateway.address, "/x", body.clone()).await;
    let expected =
        json!(["say \"A\"", "-1.50e3", r#"{"k":[1,"2"]}"#, "1", "true", "null", null, "slash", fits, null, null, "2"]);
    assert_eq!(facts(&reply), ("none".into(), false, expected));
    assert!(reply.echoed_body() == body, "every byte arrives");

    // The last of two members counts even where it lacks what the first had, or is too long.
    for (body, at_twice, at_s) in [
        (r#"{"twice": {"x": 1}, "twice": {}}"#.to_owned(), Value::Null, Value::Null),
        (r#"{"twice": {"x": 1}, "twice": 7}"#.to_owned(), Value::Null, Value::Null),
        (format!(r#"{{"s": "short", "s": "{long}"}}"#), Value::Null, Value::Null),
        (format!(r#"{{"s": "{long}", "s": "short"}}"#), Value::Null, json!("short")),
    ] {
        let (_, _, fields) = facts(&post(gateway.address, "/x", body.clone()).await);
        assert_eq!((&fields[11], &fields[0]), (&at_twice, &at_s), "{body:.40}");
    }
}

#[tokio::test]
async fn what_a_body_is_says_its_content_type() {
    let (_upstream, gateway) = echoing(json!({"reads_model": true, "body": ["/f"]})).await;
    let body = r#"{"model": "m", "stream": true, "f": "f"}"#;
    let readable = ("m".to_owned(), true, json!(["f"]));
    let unreadable = ("none".to_owned(), false, json!([null]));
    for (fields, expected) in [
        (&[][..], &readable),
        (&[("content-type", "application/json")], &readable),
        (&[("content-type", "application/json; charset=utf-8")], &readable),
        (&[("content-type", "Application/JSON ;charset=\"UTF-8\"")], &readable),
        (&[("content-type", "application/vnd.x+json")], &readable),
        (&[("content-type", "text/json")], &readable),
        (&[("content-type", "application/json"), ("content-encoding", "identity")], &readable),
        (&[("content-type", "text/plain")], &unreadable),
        (&[("content-type", "application/x-ndjson")], &unreadable),
        (&[("content-type", "application/octet-stream")], &unreadable),
        (&[("content-type", "multipart/form-data; boundary=b")], &unreadable),
        (&[("content-type", "multipart/form-data")], &unreadable),
        (&[("content-type", "application/json"), ("content-encoding", "gzip")], &unreadable),
        (&[("content-type", "application/json"), ("content-encoding", "identity, br")], &unreadable),
    ] {
        let reply = send_as(&gateway, fields, body).await;
        assert_eq!((&facts(&reply), reply.echoed_body()), (expected, body), "{fields:?}");
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_tells_nothing_and_is_forwarded_whole() {
    let upstream = Upstream::echo().await;
    let conf = Conf::new(&upstream.url()).settings(json!({"profile": {"reads_model": true, "body": ["/f"]}}));
    let gateway = Gateway::start(conf.gateway("limits", json!({"inspect_bytes_max": 1024}))).await;
    for (length, is_read) in [(1024, true), (1025, false), (100_000, false)] {
        let start = r#"{"model": "m", "stream": true, "f": "f", "text": ""#;
        let body = format!(r#"{start}{}"}}"#, "x".repeat(length - start.len() - 2));
        assert_eq!(body.len(), length);
        let expected = if is_read { ("m".into(), true, json!(["f"])) } else { ("none".into(), false, json!([null])) };
        let reply = post(gateway.address, "/x", body.clone()).await;
        assert_eq!(facts(&reply), expected, "{length} bytes");
        assert!(reply.echoed_body() == body, "{length} bytes: all arrive");
    }
    assert_eq!(gateway.shared.inspected_bytes.load(Ordering::Relaxed), 0, "nothing is held any more");
}

#[tokio::test]
async fn an_upload_streams_where_no_profile_asks_for_its_body() {
    let reads_model = json!({"reads_model": true});
    for (profile, content_type) in
        [(json!({}), "application/json"), (json!({"headers": ["accept"]}), "text/json"), (reads_model, "audio/wav")]
    {
        let (arrive, mut arrived) = tokio::sync::mpsc::unbounded_channel();
        let upstream = Upstream::start(move |request| {
            let arrive = arrive.clone();
            async move {
                let mut body = request.into_body();
                while let Some(Ok(frame)) = body.frame().await {
                    let _ = arrive.send(frame.into_data().unwrap_or_default());
                }
                Response::new(whole("done"))
            }
        })
        .await;
        let gateway = Gateway::start(Conf::new(&upstream.url()).settings(json!({"profile": profile}))).await;
        let (pieces, body) = stream();
        let mut request = http2::request("POST", "/x", "").map(|_| -> Body { body });
        request.headers_mut().insert("content-type", content_type.parse().expect("a value"));
        let client = Http2::connect(gateway.address).await;
        let reply = tokio::spawn(async move { client.send(request).await });
        for piece in ["first", "second"] {
            pieces.send(Ok(Frame::data(piece.into()))).expect("the body is wanted");
            let came = soon(&format!("the {piece} piece ({content_type})"), arrived.recv()).await;
            assert_eq!(came.as_deref(), Some(piece.as_bytes()));
        }
        drop(pieces);
        assert_eq!(reply.await.expect("no panic").text(), "done");
    }
}

/// One of the puppet's calls, by number: the same number twice is an answer that was reused.
async fn call(gateway: &Gateway, key: &str, line: &str, fields: &[(&str, &str)], body: &'static str) -> u32 {
    let (method, target) = line.split_once(' ').expect("METHOD target");
    let mut request = ::http::Request::builder().method(method).uri(target);
    if !fields.iter().any(|(name, _)| *name == "x-api-key") {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let reply = send(gateway.address, request.body(Full::new(body.into())).expect("a request")).await;
    saw(&reply, "calls").parse().expect("a number")
}

#[tokio::test]
async fn an_answer_is_reused_for_whom_the_profile_says() {
    for (reuse, expected) in [("never", [1, 2, 3, 4]), ("same-caller", [1, 1, 2, 2]), ("any-caller", [1, 1, 1, 1])] {
        let (_upstream, gateway) = echoing(json!({"reads_model": true, "reuse": reuse})).await;
        let mut calls = Vec::new();
        for key in [KEY, KEY, OTHER_KEY, OTHER_KEY] {
            calls.push(call(&gateway, key, "POST /x?q", &[], r#"{"model": "m"}"#).await);
        }
        assert_eq!(calls, expected, "{reuse}");
    }
}

#[tokio::test]
async fn an_answer_is_reused_for_an_equal_record_and_not_for_another() {
    let profile = json!({"reads_model": true, "headers": ["x-h"], "body": ["/b"], "reuse": "any-caller"});
    let (_upstream, gateway) = echoing(profile).await;
    let body = r#"{"model": "m", "b": 1}"#;
    let first = call(&gateway, KEY, "POST /x?q", &[("x-h", "1")], body).await;
    // What the plugin is not shown makes no difference.
    let text = r#"{"b":1,"other":2,"model":"m"}"#;
    assert_eq!(call(&gateway, KEY, "POST /x?q", &[("x-h", "1"), ("x-other", "1")], text).await, first);
    let mut calls = vec![first];
    for (line, fields, body) in [
        ("PUT /x?q", &[("x-h", "1")][..], body),
        ("POST /y?q", &[("x-h", "1")], body),
        ("POST /x?r", &[("x-h", "1")], body),
        ("POST /x", &[("x-h", "1")], body),
        ("POST /x?q", &[("x-h", "2")], body),
        ("POST /x?q", &[("x-h", "1"), ("x-h", "1")], body),
        ("POST /x?q", &[], body),
        ("POST /x?q", &[("x-h", "1"), ("x-api-key", KEY)], body),
        ("POST /x?q", &[("x-h", "1"), ("accept", "text/event-stream")], body),
        ("POST /x?q", &[("x-h", "1")], r#"{"model": "n", "b": 1}"#),
        ("POST /x?q", &[("x-h", "1")], r#"{"model": "m", "b": 2}"#),
        ("POST /x?q", &[("x-h", "1")], r#"{"b": 1}"#),
    ] {
        let number = call(&gateway, KEY, line, fields, body).await;
        assert!(!calls.contains(&number), "{line} {fields:?} {body} was answered from call {number}");
        assert_eq!(call(&gateway, KEY, line, fields, body).await, number, "and is reused itself");
        calls.push(number);
    }
}

#[tokio::test]
async fn another_version_or_a_changed_channel_starts_afresh() {
    let profile = json!({"headers": [], "reuse": "any-caller"});
    let (upstream, gateway) = echoing(profile.clone()).await;
    let client = Http2::connect(gateway.address).await;
    let ask = async || client.send(http2::request("GET", "/x", "")).await;
    let told = |reply: &Answer| {
        ["x-puppet-mark", "authorization", "x-puppet-saw-calls"].map(|n| reply.echoed(n)[0].to_owned())
    };
    let upstream_key = format!("Bearer {UPSTREAM_KEY}");
    for _ in 0..2 {
        assert_eq!(told(&ask().await), ["MARK-AAAAAAAAAAAA", &upstream_key, "1"]);
    }

    gateway.conf.plugin("puppet", &guests::puppet_marked(*b"BBBBBBBBBBBB"));
    gateway.reload();
    gateway.until("the new version serves", |stats| stats["generation"] == 2).await;
    for _ in 0..2 {
        assert_eq!(told(&ask().await), ["MARK-BBBBBBBBBBBB", &upstream_key, "1"]);
    }

    let mut changed = channel(&upstream.url());
    changed["api_key"] = json!("the-next-upstream-key");
    changed["settings"] = json!({"profile": profile});
    gateway.conf.write_file("channels_config.json", &json!({"channels": {"c": changed}}).to_string());
    gateway.reload();
    gateway.until("the new key serves", |stats| stats["generation"] == 3).await;
    for _ in 0..2 {
        assert_eq!(told(&ask().await), ["MARK-BBBBBBBBBBBB", "Bearer the-next-upstream-key", "1"]);
    }

    // What does not concern the plugin leaves it and its answers as they are.
    let keys = json!([{"proxy_key": KEY, "id": "renamed", "channel": "c"}]);
    gateway.conf.write_file("api_keys.json", &keys.to_string());
    gateway.reload();
    gateway.until("the keys are read", |stats| stats["generation"] == 4).await;
    assert_eq!(saw(&ask().await, "caller"), "tester", "still the answer given to the first caller");
}
