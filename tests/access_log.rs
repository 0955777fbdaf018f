//! The access log: one JSON line an exchange, whatever became of it, with what is known of it and never a secret.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde_json::{Value, json};

use crate::support::access_log::lines;
use crate::support::client::open;
use crate::support::{Conf, Gateway, KEY, Upstream, access_log, ask, ask::request, call, get, reply, stream, whole};

/// A configuration whose access log is a file, and that file.
fn logged(upstream: &Upstream) -> (Conf, PathBuf) {
    access_log::file(Conf::new(&upstream.url()))
}

/// The fields of a line that differ from run to run are checked and taken out; the rest is given back.
fn steady(mut line: Value) -> Value {
    let fields = line.as_object_mut().unwrap();
    let time = fields.shift_remove("time").unwrap();
    assert!(humantime::parse_rfc3339(time.as_str().unwrap()).is_ok(), "{time}");
    assert_eq!(fields.shift_remove("request_id").unwrap().as_str().unwrap().len(), 20);
    let duration = fields.shift_remove("duration_us").unwrap().as_u64().unwrap();
    for part in ["first_byte_us", "gateway_us", "plugin_us"] {
        if let Some(part) = fields.shift_remove(part) {
            assert!(part.as_u64().unwrap() <= duration);
        }
    }
    if let Some(version) = fields.shift_remove("plugin_version") {
        assert_eq!(version.as_str().unwrap().len(), 12);
    }
    line
}

#[tokio::test]
async fn a_success_is_one_line_with_who_what_where_and_how_long_and_no_query() {
    let upstream = Upstream::start(|_| async { reply(201, "twelve bytes") }).await;
    let (conf, path) = logged(&upstream);
    let gateway = Gateway::start(conf.settings(json!({"plan": {"model": "the-model"}}))).await;
    let reply = call(gateway.address, "POST", &format!("/v1/a%2Fb?secret=hush&key={KEY}"), &[], "{}").await;
    assert_eq!(reply.status, 201);
    let lines = lines(gateway, &path).await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["request_id"], reply.header("x-aiproxy-request-id").unwrap());
    assert!(lines[0]["first_byte_us"].is_u64() && lines[0]["plugin_version"].is_string(), "{}", lines[0]);
    let expected = json!({
        "client_address": "127.0.0.1", "method": "POST", "path": "/v1/a%2Fb", "key_id": "tester", "channel": "c",
        "plugin": "puppet", "model": "the-model", "status": 201, "outcome": "complete", "attempts": 1,
        "bytes_in": 2, "bytes_out": 12,
    });
    assert_eq!(steady(lines[0].clone()), expected);
}

#[tokio::test]
async fn an_error_of_the_gateway_is_one_line_with_its_code_and_whose_it_is() {
    let upstream = Upstream::echo().await;
    let (conf, path) = logged(&upstream);
    let gateway = Gateway::start(conf).await;
    get(gateway.address, "/puppet/trap?x=hush").await;
    ask(gateway.address, "GET", "/x?x=hush", &[("x-api-key", "sk-nobody-knows")]).await;
    let lines = lines(gateway, &path).await;
    let codes: Vec<_> = lines.iter().map(|line| &line["error_code"]).collect();
    assert_eq!(codes, ["plugin_trapped", "proxy_key_unknown"]);
    let expected = json!({
        "client_address": "127.0.0.1", "method": "GET", "path": "/puppet/trap", "key_id": "tester", "channel": "c",
        "plugin": "puppet", "status": 502, "outcome": "failed", "error_code": "plugin_trapped",
        "error_origin": "plugin", "attempts": 0, "bytes_in": 0, "bytes_out": 0,
    });
    assert_eq!(steady(lines[0].clone()), expected);
    let expected = json!({
        "client_address": "127.0.0.1", "method": "GET", "path": "/x", "status": 403, "outcome": "failed",
        "error_code": "proxy_key_unknown", "error_origin": "client", "attempts": 0, "bytes_in": 0, "bytes_out": 0,
    });
    assert_eq!(steady(lines[1].clone()), expected);
}

#[tokio::test]
async fn an_upstreams_error_is_a_complete_exchange_with_its_status() {
    let upstream = Upstream::start(|_| async { reply(429, "slow down") }).await;
    let (conf, path) = logged(&upstream);
    let gateway = Gateway::start(conf).await;
    get(gateway.address, "/x").await;
    let lines = lines(gateway, &path).await;
    assert_eq!((&lines[0]["status"], &lines[0]["outcome"]), (&json!(429), &json!("complete")));
    assert_eq!(lines[0].get("error_code"), None);
}

/// An upstream that answers one request with the pieces that the test feeds it, as events.
async fn fed() -> (Upstream, tokio::sync::mpsc::UnboundedSender<Result<Frame<Bytes>, std::io::Error>>) {
    let (sender, body) = stream();
    let body = std::sync::Arc::new(std::sync::Mutex::new(Some(body)));
    let upstream = Upstream::start(move |_| {
        let body = body.lock().unwrap().take().expect("one request");
        async { Response::builder().header("content-type", "text/event-stream").body(body).unwrap() }
    })
    .await;
    (upstream, sender)
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_is_one_line_that_says_so() {
    let (upstream, sender) = fed().await;
    let (conf, path) = logged(&upstream);
    let gateway = Gateway::start(conf).await;
    sender.send(Ok(Frame::data(Bytes::from_static(b"first")))).unwrap();
    let request = request("GET", "/x", &[("x-api-key", KEY), ("host", "h")], "");
    let mut reply = open(gateway.address, request).await;
    assert_eq!(reply.frame().await.unwrap().unwrap().data_ref().unwrap(), "first");
    drop(reply);
    gateway.until("it is counted", |stats| stats["total_requests"] == 1).await;
    let lines = lines(gateway, &path).await;
    assert_eq!(lines.len(), 1);
    let (outcome, status, bytes) = (&lines[0]["outcome"], &lines[0]["status"], &lines[0]["bytes_out"]);
    assert_eq!((outcome, status, bytes), (&json!("client_gone"), &json!(200), &json!(5)));
    assert!(sender.is_closed(), "and the upstream's reply is cancelled");
}

#[tokio::test]
async fn an_upstream_that_breaks_off_in_the_middle_is_one_line_that_says_so() {
    let (upstream, sender) = fed().await;
    let (conf, path) = logged(&upstream);
    let gateway = Gateway::start(conf).await;
    sender.send(Ok(Frame::data(Bytes::from_static(b"first")))).unwrap();
    let request = request("GET", "/x", &[("x-api-key", KEY), ("host", "h")], "");
    let mut reply = open(gateway.address, request).await;
    assert_eq!(reply.frame().await.unwrap().unwrap().data_ref().unwrap(), "first");
    sender.send(Err(std::io::Error::other("broken"))).unwrap();
    assert!(reply.frame().await.unwrap().is_err(), "the client sees that it is not whole");
    gateway.until("it is counted", |stats| stats["total_requests"] == 1).await;
    let lines = lines(gateway, &path).await;
    assert_eq!(lines.len(), 1);
    let expected = json!({
        "client_address": "127.0.0.1", "method": "GET", "path": "/x", "key_id": "tester", "channel": "c",
        "plugin": "puppet", "status": 200, "outcome": "upstream_broken", "error_code": "upstream_broken",
        "error_origin": "upstream", "attempts": 1, "bytes_in": 0, "bytes_out": 5,
    });
    assert_eq!(steady(lines[0].clone()), expected);
}

/// Settings with one set of meters: the input as the last value, the output as a sum.
fn metered() -> Value {
    let meters = json!([[
        {"name": "input", "alternatives": [["/usage/prompt_tokens"]], "fold": "last"},
        {"name": "output", "alternatives": [["/usage/completion_tokens"]], "fold": "sum"},
    ]]);
    json!({"profile": {"meters": meters}, "plan": {"meters": 0}})
}

async fn usage_of(content_type: &'static str, body: &'static str) -> Value {
    let upstream = Upstream::start(move |_| async move {
        Response::builder().header("content-type", content_type).body(whole(body)).unwrap()
    })
    .await;
    let (conf, path) = logged(&upstream);
    let gateway = Gateway::start(conf.settings(metered())).await;
    assert_eq!(get(gateway.address, "/x").await.text(), body, "metering changes nothing");
    lines(gateway, &path).await.remove(0)
}

#[tokio::test]
async fn usage_is_read_from_a_json_reply() {
    let line = usage_of("application/json", r#"{"usage": {"prompt_tokens": 7, "completion_tokens": 2.5}}"#).await;
    assert_eq!(line["usage"], json!({"input": 7, "output": 2.5}));
    assert_eq!(line.get("usage_is_partial"), None);
}

#[tokio::test]
async fn usage_is_read_from_the_events_of_a_stream() {
    let events = "data: {\"usage\": {\"prompt_tokens\": 3, \"completion_tokens\": 1}}\n\n\
        : a comment\n\ndata: {\"usage\": {\"prompt_tokens\": 7, \"completion_tokens\": 4}}\n\ndata: [DONE]\n\n";
    let line = usage_of("text/event-stream; charset=utf-8", events).await;
    assert_eq!(line["usage"], json!({"input": 7, "output": 5}));
}

#[tokio::test]
async fn usage_that_could_not_be_read_is_flagged_and_a_reply_without_any_has_none() {
    let line = usage_of("application/json", r#"{"usage": {"prompt_tokens": 7"#).await;
    assert_eq!(line["usage_is_partial"], true, "{line}");
    let line = usage_of("text/plain", "no usage").await;
    assert_eq!((line.get("usage"), line.get("usage_is_partial")), (None, None));
}

#[tokio::test]
async fn usage_up_to_the_break_is_logged_when_a_reply_breaks_off() {
    let (upstream, sender) = fed().await;
    let (conf, path) = logged(&upstream);
    let gateway = Gateway::start(conf.settings(metered())).await;
    sender.send(Ok(Frame::data("data: {\"usage\": {\"prompt_tokens\": 3}}\n\n".into()))).unwrap();
    let mut reply = open(gateway.address, request("GET", "/x", &[("x-api-key", KEY), ("host", "h")], "")).await;
    reply.frame().await.unwrap().unwrap();
    drop(reply);
    gateway.until("it is counted", |stats| stats["total_requests"] == 1).await;
    let lines = lines(gateway, &path).await;
    let (usage, partial) = (&lines[0]["usage"], &lines[0]["usage_is_partial"]);
    assert_eq!((usage, partial), (&json!({"input": 3}), &json!(true)), "{}", lines[0]);
}

#[tokio::test]
async fn built_in_pages_are_no_exchanges() {
    let upstream = Upstream::echo().await;
    let (conf, path) = logged(&upstream);
    let gateway = Gateway::start(conf).await;
    for page in ["/healthz", "/readyz", "/stats", "/dashboard"] {
        get(gateway.address, page).await;
    }
    assert_eq!(lines(gateway, &path).await, Vec::<Value>::new());
}

#[tokio::test]
async fn lines_are_written_while_the_gateway_runs_and_none_is_lost_at_its_end() {
    let upstream = Upstream::echo().await;
    let (conf, path) = logged(&upstream);
    let gateway = Gateway::start(conf).await;
    get(gateway.address, "/early").await;
    let written = async {
        while !std::fs::read_to_string(&path).unwrap().contains("/early") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), written).await.expect("the line is written");
    for index in 0..40 {
        get(gateway.address, &format!("/late/{index}")).await;
    }
    let lines = lines(gateway, &path).await;
    let mut late: Vec<_> = lines.iter().filter_map(|line| line["path"].as_str()?.strip_prefix("/late/")).collect();
    late.sort_unstable();
    late.dedup();
    assert_eq!((lines.len(), late.len()), (41, 40));
}

#[tokio::test]
async fn the_file_is_for_its_owner_alone_and_is_appended_to() {
    use std::os::unix::fs::PermissionsExt;
    let upstream = Upstream::echo().await;
    let (conf, path) = logged(&upstream);
    let gateway = Gateway::start(conf).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(gateway);
    let (conf, path) = logged(&upstream);
    std::fs::write(&path, "{\"earlier\":true}\n").unwrap();
    let gateway = Gateway::start(conf).await;
    get(gateway.address, "/x").await;
    let lines = lines(gateway, &path).await;
    assert_eq!((lines.len(), &lines[0]), (2, &json!({"earlier": true})));
}
