//! A plan's edits and credentials arrive upstream, and every other byte as the client sent it.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;
use hyper::body::Frame;
use serde_json::{Value, json};

use crate::support::{
    Answer, Conf, Gateway, Http2, KEY, Message, Raw, RawUpstream, UPSTREAM_KEY, Upstream, get, http2, post, request,
    send, soon, stream,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A body whose spelling no serialiser would reproduce.
const BODY: &str = "\t{ \"n\" : 1.50e+01 ,\"model\":\"m\\u00e9\",\r\n \"z\":{\"deep\" : [1 , 2,{ \"x\":null}]}, \"big\":123456789012345678901, \"n\":-0 }\n";

fn planned(upstream_url: &str, plan: &Value) -> Conf {
    Conf::new(upstream_url).settings(json!({"quiet": true, "plan": plan}))
}

async fn gateway(plan: &Value) -> (Gateway, Upstream) {
    let upstream = Upstream::echo().await;
    (Gateway::start(planned(&upstream.url(), plan)).await, upstream)
}

/// What the upstream was asked when a client posts with these headers.
async fn posted(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(gateway.address, request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).expect("a request")).await
}

#[tokio::test]
async fn a_reply_whose_usage_is_read_is_asked_for_uncompressed_unless_the_plan_says_otherwise() {
    let upstream = Upstream::echo().await;
    let meters = json!([[{"name": "input", "alternatives": [["/usage/input"]], "fold": "last"}]]);
    let set = json!([["set", "accept-encoding", "br"]]);
    let if_absent = json!([["set-if-absent", "accept-encoding", "br"]]);
    let remove = json!([["remove", "accept-encoding"]]);
    for (plan, clients, expected) in [
        (json!({"meters": 0}), Some("gzip, br"), &["identity"][..]),
        (json!({"meters": 0}), None, &["identity"]),
        (json!({"meters": 0, "headers": [["set", "x-other", "y"]]}), Some("gzip"), &["identity"]),
        (json!({"meters": 0, "headers": set}), Some("gzip"), &["br"]),
        (json!({"meters": 0, "headers": if_absent}), Some("gzip"), &["gzip"]),
        (json!({"meters": 0, "headers": remove}), Some("gzip"), &[]),
        (json!({}), Some("gzip, br"), &["gzip, br"]),
        (json!({}), None, &[]),
    ] {
        let settings = json!({"quiet": true, "profile": {"meters": meters}, "plan": plan});
        let gateway = Gateway::start(Conf::new(&upstream.url()).settings(settings)).await;
        let bearer = format!("Bearer {KEY}");
        let fields = [("authorization", Some(bearer.as_str())), ("accept-encoding", clients)];
        let fields: Vec<_> = fields.iter().filter_map(|(name, value)| Some((*name, (*value)?))).collect();
        let reply = posted(&gateway, "/x", &fields, "{}").await;
        assert_eq!(reply.echoed("accept-encoding"), expected, "{plan} {clients:?}");
    }
}

#[tokio::test]
async fn headers_are_set_set_if_absent_and_removed_in_the_plans_order() {
    let plan = json!({"headers": [
        ["set", "x-set", "by the plan"],
        ["set", "x-new", "é"],
        ["set-if-absent", "x-there", "not this"],
        ["set-if-absent", "x-absent", "this"],
        ["remove", "x-removed"],
        ["remove", "x-never-there"],
        ["set", "x-twice", "first"],
        ["set", "x-twice", "second"],
        ["remove", "x-back"],
        ["set-if-absent", "x-back", "again"],
        ["set", "user-agent", "the plan's"],
    ]});
    let (gateway, _upstream) = gateway(&plan).await;
    let bearer = format!("Bearer {KEY}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-set", "one"),
        ("x-set", "two"),
        ("x-there", "the client's"),
        ("x-there", "and its second"),
        ("x-removed", "one"),
        ("x-removed", "two"),
        ("x-back", "the client's"),
        ("x-untouched", "yes"),
    ];
    let reply = posted(&gateway, "/x", &headers, "{}").await;
    for (name, values) in [
        ("x-set", &["by the plan"][..]),
        ("x-new", &["é"]),
        ("x-there", &["the client's", "and its second"]),
        ("x-absent", &["this"]),
        ("x-removed", &[]),
        ("x-twice", &["second"]),
        ("x-back", &["again"]),
        ("user-agent", &["the plan's"]),
        ("x-untouched", &["yes"]),
    ] {
        assert_eq!(reply.echoed(name), values, "{name}");
    }
}

#[tokio::test]
async fn a_header_set_by_the_plan_is_not_removed_because_the_client_calls_it_hop_by_hop() {
    let (gateway, _upstream) = gateway(&json!({"headers": [["set", "x-set", "1"]]})).await;
    let mut client = Raw::connect(gateway.address).await;
    let reply = client.ask("GET /x", &["connection: x-set, authorization", "x-set: 0"]).await.body();
    assert!(
        reply.contains("x-set: 1\n") && reply.contains(&format!("authorization: Bearer {UPSTREAM_KEY}\n")),
        "{reply}"
    );
}

#[tokio::test]
async fn body_edits_are_made_in_order_and_keep_every_other_byte() {
    let plan = json!({"body": [
        ["set", "/model", "\"qwen\""],
        ["set", "/z/deep/1", "[ 20 ]"],
        ["set", "/added", "{\"a\" : 1}"],
        ["set", "/added/b", "true"],
        ["set-if-absent", "/big", "0"],
        ["set-if-absent", "/fresh", "1.0"],
        ["set", "/gone", "1"],
        ["remove", "/gone"],
        ["remove", "/z/deep/2/x"],
        ["remove", "/never-there"],
    ]});
    let (gateway, _upstream) = gateway(&plan).await;
    let reply = post(gateway.address, "/x", BODY).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let expected = "\t{ \"n\" : 1.50e+01 ,\"model\":\"qwen\",\r\n \"z\":{\"deep\" : [1 , [ 20 ],{ }]}, \"big\":123456789012345678901, \"n\":-0,\"added\":{\"a\" : 1,\"b\":true},\"fresh\":1.0 }\n";
    assert_eq!(reply.echoed_body(), expected);
    assert_eq!(reply.echoed("content-length"), [expected.len().to_string()]);
    assert_eq!(reply.echoed("content-type"), ["application/json"]);
}

#[tokio::test]
async fn an_edit_that_changes_nothing_changes_nothing() {
    let (gateway, _upstream) = gateway(&json!({"body": [["remove", "/nothing"], ["set-if-absent", "/n", "0"]]})).await;
    let reply = post(gateway.address, "/x", BODY).await;
    assert_eq!(reply.echoed_body(), BODY);
}

#[tokio::test]
async fn an_edit_whose_parent_is_missing_is_400_and_reaches_no_upstream() {
    let upstream = RawUpstream::answering(OK).await;
    let plan = json!({"body": [["set", "/model", "\"m\""], ["set", "/no/such/parent", "1"]]});
    let gateway = Gateway::start(planned(&upstream.url(), &plan)).await;
    for body in [BODY, r#"{"no": {"such": 1}}"#, "[]", "1"] {
        let reply = post(gateway.address, "/x", body).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "body_edit_failed"), "{body}");
    }
    let reply = post(gateway.address, "/x", BODY).await;
    assert!(reply.text().contains("/no/such/parent"), "{}", reply.text());
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_body_that_is_not_json_cannot_be_edited_and_is_415() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::start(planned(&upstream.url(), &json!({"body": [["set", "/model", "1"]]}))).await;
    for body in ["", "model=m", "{\"model\": 1", "{\"model\": 1} {}", "{'model': 1}", "\u{1f}\u{8b}"] {
        let reply = post(gateway.address, "/x", body).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (415, "body_not_json"), "{body:?}");
    }
    let invalid = post(gateway.address, "/x", &b"{\"model\": \"\xff\"}"[..]).await;
    assert_eq!(invalid.status, 415, "{invalid:?}");
    assert_eq!(get(gateway.address, "/x").await.status, 415, "a request without a body has nothing to edit");
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_body_too_large_to_be_edited_is_413_with_and_without_a_length() {
    let upstream = RawUpstream::answering(OK).await;
    let conf = planned(&upstream.url(), &json!({"body": [["set", "/model", "1"]]}));
    let gateway = Gateway::start(conf.gateway("limits", json!({"inspect_bytes_max": 1024}))).await;
    let body = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
    assert_eq!(post(gateway.address, "/x", body(1024)).await.status, 200, "what fits is edited");
    for bytes in [1025, 200_000] {
        let reply = post(gateway.address, "/x", body(bytes)).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (413, "body_too_large"), "{bytes}");
        let (sender, stream) = stream();
        for piece in body(bytes).as_bytes().chunks(700) {
            sender.send(Ok(Frame::data(Bytes::copy_from_slice(piece)))).expect("the body is wanted");
        }
        drop(sender);
        let request = http2::request("POST", "/x", "").map(|_| stream);
        let reply = Http2::connect(gateway.address).await.send(request).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (413, "body_too_large"), "{bytes} without a length");
    }
    assert_eq!(upstream.requests().len(), 1);
    let held = || gateway.shared.inspected_bytes.load(std::sync::atomic::Ordering::Relaxed);
    soon("the budget to be whole again", async {
        while held() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_large_body_is_edited_as_well_as_a_small_one() {
    let (gateway, _upstream) = gateway(&json!({"body": [["set", "/model", "\"n\""]]})).await;
    let text = "x".repeat(3 << 20);
    let reply = post(gateway.address, "/x", format!("{{\"text\":\"{text}\", \"model\" : \"m\"}}")).await;
    assert_eq!(reply.status, 200);
    let expected = format!("{{\"text\":\"{text}\", \"model\" : \"n\"}}");
    assert!(reply.echoed_body() == expected, "every byte arrives");
    assert_eq!(reply.echoed("content-length"), [expected.len().to_string()]);
}

/// A request in chunks, as one string.
fn chunked(body: &str, fields: &[&str], trailers: &str) -> String {
    let mut text = request("POST /x", &[&["transfer-encoding: chunked"], fields].concat());
    let (one, two) = body.split_at(body.len() / 2);
    for piece in [one, two] {
        text += &[&format!("{:x}", piece.len()), piece, ""].join("\r\n");
    }
    text + "0\r\n" + trailers + "\r\n"
}

#[tokio::test]
async fn an_edited_chunked_body_goes_out_with_its_length() {
    let upstream = RawUpstream::answering(OK).await;
    let plan = json!({"body": [["set", "/model", "\"longer\""]]});
    let gateway = Gateway::start(planned(&upstream.url(), &plan)).await;
    let mut client = Raw::connect(gateway.address).await;
    for count in 1..=2 {
        client.write(chunked(r#"{"model": "m"}"#, &[], "")).await;
        assert_eq!(client.reply().await.status(), 200, "request {count} on the connection");
        let asked = upstream.last();
        assert_eq!(asked.body(), r#"{"model": "longer"}"#);
        assert_eq!(asked.values("content-length"), ["19"]);
        assert!(!asked.has("transfer-encoding"), "{}", asked.head());
    }
}

#[tokio::test]
async fn trailers_follow_an_edited_body() {
    let upstream = RawUpstream::answering(OK).await;
    let plan = json!({"body": [["set", "/model", "\"longer\""]]});
    let gateway = Gateway::start(planned(&upstream.url(), &plan)).await;
    let mut client = Raw::connect(gateway.address).await;
    let fields = ["te: trailers", "trailer: x-checksum"];
    client.write(chunked(r#"{"model": "m"}"#, &fields, "x-checksum: abc\r\n")).await;
    assert_eq!(client.reply().await.status(), 200);
    let asked: Message = upstream.last();
    assert_eq!((asked.values("transfer-encoding"), asked.has("content-length")), (vec!["chunked".to_owned()], false));
    assert_eq!(asked.body(), "13\r\n{\"model\": \"longer\"}\r\n0\r\nx-checksum: abc\r\n\r\n");

    let (sender, stream) = stream();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "def".parse().expect("a value"));
    sender.send(Ok(Frame::data(r#"{"model": 1}"#.into()))).expect("the body is wanted");
    sender.send(Ok(Frame::trailers(trailers))).expect("the body is wanted");
    drop(sender);
    let mut request = http2::request("POST", "/x", "").map(|_| stream);
    request.headers_mut().insert("trailer", "x-checksum".parse().expect("a value"));
    assert_eq!(Http2::connect(gateway.address).await.send(request).await.status, 200);
    assert_eq!(upstream.last().body(), "13\r\n{\"model\": \"longer\"}\r\n0\r\nx-checksum: def\r\n\r\n");
}

#[tokio::test]
async fn a_client_that_waits_for_leave_to_send_is_given_it_when_the_body_is_to_be_edited() {
    let upstream = RawUpstream::answering(OK).await;
    let plan = json!({"body": [["set", "/model", "2"]]});
    let gateway = Gateway::start(planned(&upstream.url(), &plan)).await;
    let mut client = Raw::connect(gateway.address).await;
    client.write(request("POST /x", &["content-length: 12", "expect: 100-continue"])).await;
    assert_eq!(client.bare_reply().await.status(), 100);
    client.write(r#"{"model": 1}"#).await;
    assert_eq!(client.reply().await.status(), 200);
    assert_eq!(upstream.last().body(), r#"{"model": 2}"#);
}

#[tokio::test]
async fn every_credential_goes_where_the_plan_says() {
    let plan = json!({"credentials": [
        ["key", "authorization", "Token"],
        ["app", "header", "x-app-secret"],
        ["odd", "query", "signature"],
        ["key", "query", "key"],
        ["key", "header", "x-api-key"],
    ]});
    let upstream = Upstream::echo().await;
    let secrets = json!({"app": "app-secret-0123", "odd": "a/b+c=d&e%20#f"});
    let gateway = Gateway::start(planned(&upstream.url(), &plan).set("secrets", secrets)).await;
    let reply = get(gateway.address, "/x?a=%2F&b").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.echoed("authorization"), [format!("Token {UPSTREAM_KEY}")]);
    assert_eq!(reply.echoed("x-app-secret"), ["app-secret-0123"]);
    assert_eq!(reply.echoed("x-api-key"), [UPSTREAM_KEY]);
    let target = format!("GET /x?a=%2F&b&signature=a%2Fb%2Bc%3Dd%26e%2520%23f&key={UPSTREAM_KEY}");
    assert_eq!(reply.echoed_line(), target);
    let reply = get(gateway.address, "/x").await;
    assert!(reply.echoed_line().starts_with("GET /x?signature="), "{}", reply.echoed_line());
}

#[tokio::test]
async fn a_credential_takes_the_place_of_what_client_and_plan_put_there() {
    let plan = json!({
        "headers": [["set", "x-app-secret", "the plan's"]],
        "credentials": [["app", "header", "x-app-secret"], ["app", "query", "app_key"]],
    });
    let upstream = Upstream::echo().await;
    let conf = planned(&upstream.url(), &plan).set("secrets", json!({"app": "appsecret0123"}));
    let gateway = Gateway::start(conf).await;
    let headers = [("x-api-key", KEY), ("x-app-secret", "one"), ("x-app-secret", "two")];
    for (sent, arrives) in [
        ("/x?app_key=mine&a=1&app_key&&app_key=", "/x?a=1&&app_key=appsecret0123"),
        ("/x?app%5fkey=mine", "/x?app_key=appsecret0123"),
        ("/x?my_app_key=1", "/x?my_app_key=1&app_key=appsecret0123"),
        ("/x?", "/x?app_key=appsecret0123"),
    ] {
        let reply = posted(&gateway, sent, &headers, "").await;
        assert_eq!(reply.echoed("x-app-secret"), ["appsecret0123"]);
        assert_eq!(reply.echoed_line(), format!("POST {arrives}"), "{sent}");
    }
}

#[tokio::test]
async fn the_clients_credentials_never_survive() {
    let (gateway, _upstream) = gateway(&json!({"credentials": []})).await;
    let bearer = format!("bEaReR {KEY}");
    let forms = [("authorization", bearer.as_str()), ("x-api-key", KEY), ("api-key", KEY), ("x-goog-api-key", KEY)];
    for headers in forms.iter().map(std::slice::from_ref).chain([&forms[..]]) {
        let reply = posted(&gateway, &format!("/x?key={KEY}&a=1"), headers, "").await;
        assert_eq!((reply.status.as_u16(), reply.echoed_line()), (200, "POST /x?a=1"));
        assert!(!reply.text().contains(KEY), "{}", reply.text());
        for (name, _) in forms {
            assert_eq!(reply.echoed(name), [""; 0], "{name}");
        }
    }
    let foreign = [("authorization", "Basic dXNlcjpwYXNz"), ("proxy-authorization", "Basic eDp5"), ("x-api-key", KEY)];
    let reply = posted(&gateway, "/x", &foreign, "").await;
    assert_eq!(reply.status, 200);
    assert!(!reply.text().contains("Basic"), "{}", reply.text());
}

#[tokio::test]
async fn a_plan_may_name_another_endpoint_of_the_channel() {
    let (main, files) = (Upstream::echo().await, Upstream::echo().await);
    let plan = json!({"endpoint": "files", "path": "/v1/files/%2e", "query": "a=b%20c"});
    let conf = planned(&main.url(), &plan).set("endpoints", json!({"files": format!("{}/base", files.url())}));
    let gateway = Gateway::start(conf).await;
    let reply = post(gateway.address, "/x?gone=1", "body").await;
    assert_eq!(reply.echoed_line(), "POST /base/v1/files/%2e?a=b%20c");
    assert_eq!(reply.echoed("host"), [files.address.to_string()]);
    assert_eq!(reply.echoed("authorization"), [format!("Bearer {UPSTREAM_KEY}")]);
    assert_eq!((reply.echoed_body(), main.accepted(), files.accepted()), ("body", 0, 1));
}

#[tokio::test]
async fn the_model_of_the_plan_counts_before_that_of_the_body() {
    let upstream = Upstream::echo().await;
    let settings = json!({"quiet": true, "profile": {"reads_model": true}, "plan": {"model": "of-the-plan"}});
    let without = json!({"quiet": true, "profile": {"reads_model": true}});
    for (settings, model) in [(settings, "of-the-plan"), (without, "of-the-body")] {
        let conf = Conf::new(&upstream.url()).settings(settings);
        let path = conf.folder().join("access.log");
        let gateway = Gateway::start(conf.gateway("access_log", path.to_string_lossy().into_owned())).await;
        let reply = post(gateway.address, "/x", r#"{"model": "of-the-body"}"#).await;
        assert_eq!(reply.echoed_body(), r#"{"model": "of-the-body"}"#, "the plan's model is no edit");
        let line = soon("the access log", async {
            loop {
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                if log.ends_with('\n') {
                    return log;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        let line: Value = serde_json::from_str(&line).expect("one line");
        assert_eq!(line["model"], model, "{line}");
    }
}
