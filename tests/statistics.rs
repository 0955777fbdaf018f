//! What is counted: every exchange once, whatever became of it, and each under its own.

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde_json::{Value, json};

use crate::support::client::open;
use crate::support::{
    Conf, Gateway, KEY, Raw, Upstream, ask, ask::request, call, channel, get, post, reply, sockets, stream,
};

/// The row of a table of the window.
fn row<'a>(stats: &'a Value, table: &str, name: &str, value: &str) -> &'a Value {
    let rows = stats["window"][table].as_array().expect("a table");
    rows.iter().find(|row| row[name] == value).unwrap_or(&Value::Null)
}

/// Waits until so many have ended.
async fn counted(gateway: &Gateway, requests: u64) -> Value {
    gateway.until("all are counted", |stats| stats["total_requests"] == requests).await
}

/// One set of meters, which the plan names.
fn metered() -> Value {
    let meters = json!([[
        {"name": "input", "alternatives": [["/usage/in"]], "fold": "last"},
        {"name": "output", "alternatives": [["/usage/out"]], "fold": "sum"},
        {"name": "characters", "alternatives": [["/usage/characters"]], "fold": "sum"},
    ]]);
    json!({"profile": {"meters": meters, "reads_model": true}, "plan": {"meters": 0}})
}

fn json_reply(body: &'static str) -> Response<crate::support::Body> {
    let mut answer = reply(200, body);
    answer.headers_mut().insert("content-type", "application/json".parse().unwrap());
    answer
}

#[tokio::test]
async fn an_exchange_is_counted_under_its_key_channel_model_endpoint_transport_status_and_outcome() {
    let upstream =
        Upstream::start(|_| async { json_reply(r#"{"usage": {"in": 7, "out": 5, "characters": 2}}"#) }).await;
    let gateway = Gateway::start(Conf::new(&upstream.url()).settings(metered())).await;
    let body = r#"{"model": "m-1"}"#;
    let asked = [("content-type", "application/json"), ("x-api-key", KEY)];
    for path in ["/v1/files/file-1234", "/v1/files/file-5678"] {
        call(gateway.address, "POST", path, &asked, body).await;
    }
    let stats = counted(&gateway, 2).await;
    for (table, name, value) in [
        ("keys", "id", "tester"),
        ("channels", "id", "c"),
        ("models", "model", "m-1"),
        ("endpoints", "endpoint", "POST /v1/files/{id}"),
        ("transports", "transport", "http"),
        ("status_classes", "status_class", "2xx"),
        ("outcomes", "outcome", "complete"),
    ] {
        let row = row(&stats, table, name, value);
        assert_eq!(
            (&row["requests"], &row["succeeded"], &row["attempts"]),
            (&json!(2), &json!(2), &json!(2)),
            "{table}"
        );
        let measured = json!({"requests": 2, "amounts": {"input": 14.0, "output": 10.0, "characters": 4.0}});
        assert_eq!(row["usage"]["measured"], measured, "{table}");
        assert_eq!((&row["bytes_in"], &row["bytes_out"]), (&json!(32), &json!(94)), "{table}");
    }
    let totals = &stats["window"]["totals"];
    for seconds in ["latency_seconds", "first_byte_seconds", "gateway_seconds"] {
        let of = |name: &str| totals[seconds][name].as_f64().unwrap_or_else(|| panic!("{seconds}: {totals:#}"));
        assert!(0.0 < of("p50") && of("p50") <= of("p90") && of("p90") <= of("p99"), "{seconds}: {totals:#}");
    }
    assert!(totals["plugin_seconds_avg"].as_f64().unwrap() > 0.0);
    let series = &stats["window"]["series"];
    let last = series["time"].as_array().unwrap().len() - 1;
    let sum = |line: &Value| line.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).sum::<f64>();
    assert_eq!((last, sum(&series["requests"]["complete"]), sum(&series["tokens"]["m-1"])), (59, 2.0, 24.0));
}

#[tokio::test]
async fn usage_is_measured_partial_or_missing_and_the_three_are_told_apart() {
    let (sender, body) = stream();
    let body = std::sync::Arc::new(std::sync::Mutex::new(Some(body)));
    let upstream = Upstream::start(move |request| {
        let stream = (request.uri().path() == "/stream").then(|| body.lock().unwrap().take().expect("one stream"));
        let path = request.uri().path().to_owned();
        async move {
            match (stream, path.as_str()) {
                (Some(body), _) => Response::builder().header("content-type", "text/event-stream").body(body).unwrap(),
                (_, "/full") => json_reply(r#"{"usage": {"in": 7, "out": 5}}"#),
                (_, "/error") => reply(400, "no"),
                _ => json_reply("{}"),
            }
        }
    })
    .await;
    let gateway = Gateway::start(Conf::new(&upstream.url()).settings(metered())).await;
    for path in ["/full", "/none", "/error"] {
        get(gateway.address, path).await;
    }
    sender.send(Ok(Frame::data(Bytes::from_static(b"data: {\"usage\": {\"in\": 3}}\n\n")))).unwrap();
    let request = request("GET", "/stream", &[("x-api-key", KEY), ("host", "h")], "");
    let mut reply = open(gateway.address, request).await;
    reply.frame().await.unwrap().unwrap();
    drop(reply);
    let usage = counted(&gateway, 4).await["window"]["totals"]["usage"].clone();
    let expected = json!({
        "measured": {"requests": 1, "amounts": {"input": 7.0, "output": 5.0}},
        "partial": {"requests": 1, "amounts": {"input": 3.0}},
        "missing": {"requests": 1},
    });
    assert_eq!(usage, expected, "an error that says nothing costs nothing");
}

#[tokio::test]
async fn whatever_becomes_of_an_exchange_it_is_counted_once() {
    let (sender, body) = stream();
    let body = std::sync::Arc::new(std::sync::Mutex::new(Some(body)));
    let upstream = Upstream::start(move |request| {
        let path = request.uri().path().to_owned();
        let body = (path == "/broken").then(|| body.lock().unwrap().take().expect("one stream"));
        async move {
            match (body, path.as_str()) {
                (Some(body), _) => Response::new(body),
                (_, "/busy") => reply(503, "later"),
                _ => reply(200, "fine"),
            }
        }
    })
    .await;
    let conf = Conf::new(&upstream.url()).channel("dead", channel("http://127.0.0.1:1"));
    let keys = json!([
        {"proxy_key": KEY, "id": "tester", "channel": "c"},
        {"proxy_key": "sk-dead-dead", "id": "dead-key", "channel": "dead"},
    ]);
    let gateway = Gateway::start(conf.keys(keys)).await;
    get(gateway.address, "/fine").await;
    get(gateway.address, "/busy").await;
    get(gateway.address, "/puppet/trap").await;
    get(gateway.address, "/puppet/refuse").await;
    get(gateway.address, "/puppet/decline").await;
    ask(gateway.address, "GET", "/x", &[("x-api-key", "sk-nobody-knows")]).await;
    ask(gateway.address, "GET", "/x", &[("x-api-key", "sk-dead-dead")]).await;
    ask(gateway.address, "GET", "/stats/nothing", &[]).await;
    sender.send(Ok(Frame::data(Bytes::from_static(b"first")))).unwrap();
    let broken = request("GET", "/broken", &[("x-api-key", KEY), ("host", "h")], "");
    let mut answer = open(gateway.address, broken).await;
    answer.frame().await.unwrap().unwrap();
    sender.send(Err(std::io::Error::other("broken"))).unwrap();
    assert!(answer.frame().await.unwrap().is_err());
    let stats = counted(&gateway, 9).await;
    let window = &stats["window"];
    assert_eq!(window["totals"]["requests"], 9);
    for (table, sum) in [("transports", 9), ("status_classes", 9), ("outcomes", 9), ("keys", 7), ("channels", 7)] {
        let rows = window[table].as_array().unwrap();
        let found: u64 = rows.iter().map(|row| row["requests"].as_u64().unwrap()).sum();
        assert_eq!(found, sum, "{table}: {rows:#?}");
    }
    let outcomes: Vec<_> = ["complete", "failed", "upstream_broken"]
        .map(|outcome| row(&stats, "outcomes", "outcome", outcome)["requests"].as_u64())
        .into();
    assert_eq!(outcomes, [Some(2), Some(6), Some(1)]);
    assert_eq!((&stats["successful_requests"], &stats["failed_requests"]), (&json!(1), &json!(8)));
    let events = stats["events"].as_array().unwrap();
    let told = |subject: &str, text: &str| {
        events.iter().any(|event| event["subject"] == subject && event["message"].as_str().unwrap().contains(text))
    };
    assert!(
        told("dead", "upstream_unreachable") && told("c", "plugin_trapped") && told("", "proxy_key_unknown"),
        "{events:#?}"
    );
    assert_eq!(stats["in_flight"], 0);
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_once_at_whatever_stage() {
    let (release, waits) = tokio::sync::watch::channel(false);
    let upstream = Upstream::start(move |_| {
        let mut waits = waits.clone();
        async move {
            let _ = waits.wait_for(|go| *go).await;
            reply(200, "late")
        }
    })
    .await;
    let gateway = Gateway::start(Conf::new(&upstream.url()).settings(metered())).await;
    let head = |path: &str, more: &str| format!("POST {path} HTTP/1.1\r\nhost: h\r\nx-api-key: {KEY}\r\n{more}\r\n");
    // In the head: no exchange has begun.
    let mut raw = Raw::connect(gateway.address).await;
    raw.write("GET /head HTTP/1.1\r\nhost: h").await;
    drop(raw);
    // In a body that is read for a plugin.
    let mut raw = Raw::connect(gateway.address).await;
    raw.write(head("/body", "content-type: application/json\r\ncontent-length: 100\r\n") + "{\"model\"").await;
    gateway.until("it has begun", |stats| stats["in_flight"] == 1).await;
    drop(raw);
    counted(&gateway, 1).await;
    // In a body that is passed on.
    let mut raw = Raw::connect(gateway.address).await;
    raw.write(head("/upload", "content-type: application/octet-stream\r\ncontent-length: 100\r\n") + "some").await;
    gateway.until("it has begun", |stats| stats["in_flight"] == 1).await;
    drop(raw);
    counted(&gateway, 2).await;
    // While the upstream thinks.
    let mut raw = Raw::connect(gateway.address).await;
    raw.write(head("/wait", "content-length: 0\r\n")).await;
    gateway.until("it has begun", |stats| stats["in_flight"] == 1).await;
    drop(raw);
    let stats = counted(&gateway, 3).await;
    let signals = &row(&stats, "channels", "id", "c")["signals"];
    assert_eq!((&signals["in_flight"], &stats["in_flight"]), (&json!(0), &json!(0)));
    release.send(true).unwrap();
    // With the reply complete.
    post(gateway.address, "/done", "").await;
    let stats = counted(&gateway, 4).await;
    assert_eq!(row(&stats, "outcomes", "outcome", "complete")["requests"], 1);
    assert_eq!(stats["successful_requests"], 1);
}

#[tokio::test]
async fn a_filter_and_a_window_are_taken_and_another_is_refused_with_the_choice() {
    let upstream = Upstream::echo().await;
    let keys = json!([
        {"proxy_key": KEY, "id": "tester", "channel": "c", "description": "The team"},
        {"proxy_key": "sk-second-key", "id": "second", "channel": "c"},
        {"proxy_key": "sk-idle-key", "id": "idle", "channel": "c"},
    ]);
    let gateway = Gateway::start(Conf::new(&upstream.url()).keys(keys)).await;
    for key in [KEY, "sk-second-key", "sk-second-key"] {
        ask(gateway.address, "GET", "/x", &[("x-api-key", key)]).await;
    }
    let stats = counted(&gateway, 3).await;
    assert_eq!(row(&stats, "keys", "id", "second")["requests"], 2, "{stats:#}");
    assert_eq!(row(&stats, "keys", "id", "tester")["description"], "The team");
    assert_eq!(row(&stats, "keys", "id", "idle")["requests"], 0, "one that was not used is shown too");
    let of = async |query: &str| {
        let reply = get(gateway.address, &format!("/stats?{query}")).await.json();
        let window = &reply["window"];
        (window["totals"]["requests"].as_u64().unwrap(), window["series"]["time"].as_array().unwrap().len())
    };
    assert_eq!(of("key=second").await, (2, 60));
    assert_eq!(of("window=24h&key=second&channel=c").await, (2, 144));
    assert_eq!(of("window=7d&channel=none").await, (0, 168));
    assert_eq!(of("window=30d").await, (3, 180));
    let refusal = get(gateway.address, "/stats?window=2h").await;
    assert_eq!((refusal.status.as_u16(), refusal.code().as_str()), (400, "query_invalid"));
    assert!(refusal.text().contains("1h, 24h, 7d, 30d"), "{}", refusal.text());
}

#[tokio::test]
async fn a_websocket_is_counted_with_its_handshake_its_bytes_and_the_most_that_were_open() {
    let upstream = sockets::SocketUpstream::echo().await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    let mut socket = sockets::connect(gateway.address, "/live").await;
    socket.say("hello").await;
    socket.hear().await;
    gateway.until("it is drawn", |stats| stats["window"]["series"]["websockets_open"][59] == 1).await;
    socket.close(1000, "").await;
    let stats = counted(&gateway, 1).await;
    let found = row(&stats, "transports", "transport", "websocket");
    assert_eq!((&found["bytes_in"], &found["bytes_out"], &found["succeeded"]), (&json!(5), &json!(5), &json!(1)));
    assert_eq!(row(&stats, "status_classes", "status_class", "1xx")["requests"], 1);
}

#[tokio::test]
async fn models_that_never_worked_are_counted_as_other() {
    let upstream = Upstream::start(|_| async { reply(404, "no such model") }).await;
    let gateway = Gateway::start(Conf::new(&upstream.url()).settings(metered())).await;
    let asked = [("content-type", "application/json"), ("x-api-key", KEY)];
    for number in 0..50 {
        let body = format!(r#"{{"model": "made-up-{number}"}}"#);
        call(gateway.address, "POST", &format!("/v1/made-up-{number}x"), &asked, &body).await;
    }
    let stats = counted(&gateway, 50).await;
    assert_eq!(row(&stats, "models", "model", "other")["requests"], 50);
    assert_eq!(stats["statistics"]["folded_requests"], 50);
    assert_eq!(stats["window"]["models"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_shown_is_as_its_schema_says() {
    let schema: Value = serde_json::from_str(include_str!("../docs/stats.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let check = |stats: &Value| {
        let faults: Vec<_> =
            schema.iter_errors(stats).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
        assert!(faults.is_empty(), "{faults:#?}");
    };
    check(&gateway.stats().await);
    get(gateway.address, "/x").await;
    get(gateway.address, "/puppet/trap").await;
    check(&counted(&gateway, 2).await);
    let mut wrong = gateway.stats().await;
    wrong["window"]["totals"]["requests"] = json!("many");
    assert!(!schema.is_valid(&wrong), "the schema can find a fault");
}
