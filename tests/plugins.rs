//! A misbehaving plugin costs the one exchange that met it, and nothing else.

use std::sync::{Arc, Mutex};

use aiproxy_host::digest;
use http::{Request, Response};
use hyper::body::Frame;
use serde_json::{Value, json};

use crate::support::{
    Answer, Conf, Gateway, Http2, KEY, Message, Process, Raw, RawUpstream, Upstream, channel, get, guests, http2, post,
    reply, request, send, soon, stream,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What breaks the call off, and what it costs.
const BROKEN_CALLS: [(&str, &str); 5] = [
    ("trap", "plugin_trapped"),
    ("exit", "plugin_trapped"),
    ("sleep", "plugin_tried_to_wait"),
    ("eat", "plugin_memory_exceeded"),
    ("huge", "plugin_answer_invalid"),
];

/// What no gateway may act on, what it costs, and what the message names.
const BAD_ANSWERS: [(&str, &str, &str); 13] = [
    ("control-path", "plugin_answer_invalid", "path"),
    ("control-query", "plugin_answer_invalid", "query"),
    ("control-header", "plugin_answer_invalid", "x-fine"),
    ("control-header-name", "plugin_answer_invalid", "header name"),
    ("framing-header", "plugin_answer_invalid", "transfer-encoding"),
    ("host-header", "plugin_answer_invalid", "host"),
    ("thousand-headers", "plugin_answer_invalid", "more than 64"),
    ("relative-path", "plugin_answer_invalid", "no-slash"),
    ("unknown-meters", "plugin_answer_invalid", "meters 99"),
    ("unknown-option", "plugin_option_unknown", "teleport"),
    ("unknown-scheme", "signing_scheme_unknown", "wax-seal"),
    ("unknown-secret", "plugin_secret_unknown", "not-yours"),
    ("unknown-endpoint", "plugin_endpoint_unknown", "not-configured"),
];

/// Little memory, so that it is soon eaten; and time enough for that on a busy machine.
fn patient(conf: Conf) -> Conf {
    conf.gateway("sandbox", json!({"memory_bytes_max": 8 << 20, "deadline_ms": 5000}))
}

fn error(message: &Message) -> Value {
    let body: Value = serde_json::from_slice(&message.body).unwrap_or_else(|e| panic!("{e} in {}", message.body()));
    body["error"].clone()
}

async fn ask(gateway: &Gateway, key: &str, path: &str) -> Answer {
    let request = Request::get(path).header("x-api-key", key);
    send(gateway.address, request.body(http_body_util::Full::default()).expect("a request")).await
}

#[tokio::test]
async fn a_call_that_breaks_off_costs_one_exchange_a_502_with_its_own_code() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::start(patient(Conf::new(&upstream.url()))).await;
    let mut client = Raw::connect(gateway.address).await;
    for (behaviour, code) in BROKEN_CALLS {
        let failed = client.ask(&format!("GET /puppet/{behaviour}"), &[]).await;
        assert_eq!((failed.status(), error(&failed)["code"].as_str()), (502, Some(code)), "{behaviour}");
        assert!(!failed.has("connection"), "{behaviour}: {}", failed.head());
        let after = client.ask(&format!("GET /after/{behaviour}"), &[]).await;
        assert_eq!((after.status(), after.body().as_str()), (200, "ok"), "the same connection after {behaviour}");
    }
    let asked: Vec<_> = upstream.requests().iter().map(Message::line).collect();
    let expected: Vec<_> = BROKEN_CALLS.iter().map(|(name, _)| format!("GET /after/{name} HTTP/1.1")).collect();
    assert_eq!(asked, expected, "nothing else reached the upstream");
}

#[tokio::test]
async fn an_answer_that_nobody_may_act_on_costs_one_exchange_a_502_that_names_it() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::start(patient(Conf::new(&upstream.url()))).await;
    let mut client = Raw::connect(gateway.address).await;
    for (behaviour, code, named) in BAD_ANSWERS {
        let failed = client.ask(&format!("GET /puppet/{behaviour}"), &[]).await;
        let error = error(&failed);
        assert_eq!((failed.status(), error["code"].as_str()), (502, Some(code)), "{behaviour}");
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains(named), "{behaviour}: {message}");
        assert!(!message.contains(char::is_control), "{behaviour}: {message:?}");
        assert!(!failed.has("x-smuggled"), "{}", failed.head());
        assert_eq!(client.ask("GET /after", &[]).await.status(), 200, "the same connection after {behaviour}");
    }
    assert_eq!(upstream.requests().len(), BAD_ANSWERS.len(), "nothing else reached the upstream");
    assert!(upstream.requests().iter().all(|request| !request.has("x-smuggled")));
}

#[tokio::test]
async fn a_looping_plugin_is_not_asked_for_a_while_and_other_channels_are() {
    let upstream = Upstream::echo().await;
    let other = "sk-other-0123456789";
    let keys = json!([
        {"proxy_key": KEY, "id": "tester", "channel": "c"},
        {"proxy_key": other, "id": "other", "channel": "other"},
    ]);
    let conf = Conf::new(&upstream.url()).channel("other", channel(&upstream.url())).keys(keys);
    let gateway = Gateway::start(conf.gateway("sandbox", json!({"back_off_ms": 60_000}))).await;
    let mut client = Raw::connect(gateway.address).await;
    let looped = client.ask("GET /puppet/loop", &[]).await;
    assert_eq!((looped.status(), error(&looped)["code"].as_str()), (502, Some("plugin_deadline_exceeded")));
    assert_eq!(ask(&gateway, other, "/x").await.status, 200, "another channel, at once");
    // On both workers: the pause is the process's.
    for mut client in [client, Raw::connect(gateway.address).await, Raw::connect(gateway.address).await] {
        let refused = client.ask("GET /x", &[]).await;
        assert_eq!((refused.status(), error(&refused)["code"].as_str()), (502, Some("plugin_backing_off")));
        let seconds: u32 = refused.values("retry-after")[0].parse().expect("seconds");
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    assert_eq!(ask(&gateway, other, "/x").await.status, 200, "another channel, still");
}

#[tokio::test]
async fn the_back_off_closes_by_itself() {
    let upstream = RawUpstream::answering(OK).await;
    let conf = Conf::new(&upstream.url()).gateway("sandbox", json!({"back_off_ms": 100}));
    let gateway = Gateway::start(conf).await;
    let mut client = Raw::connect(gateway.address).await;
    for _ in 0..2 {
        assert_eq!(client.ask("GET /puppet/loop", &[]).await.status(), 502, "it is asked, and loops");
        soon("the end of the back-off", async {
            while client.ask("GET /x", &[]).await.status() != 200 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_channel_that_backs_off_is_passed_over_while_another_may_serve() {
    let upstream = Upstream::echo().await;
    let mut spare = channel(&upstream.url());
    spare["api_key"] = json!("the-spare-key-0123");
    let keys = json!([{"proxy_key": KEY, "id": "tester", "channels": ["c", "spare"]}]);
    let conf = Conf::new(&upstream.url()).channel("spare", spare).keys(keys);
    let gateway = Gateway::start(conf.gateway("sandbox", json!({"back_off_ms": 60_000}))).await;
    assert_eq!(get(gateway.address, "/puppet/loop").await.code(), "plugin_deadline_exceeded");
    let reply = get(gateway.address, "/x").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.echoed("authorization"), ["Bearer the-spare-key-0123"]);
}

#[tokio::test]
async fn a_refusal_is_the_reply_and_no_other_channel_is_asked() {
    let upstream = RawUpstream::answering(OK).await;
    let refusal = json!({"behaviour": "refuse/451/model_gone/This model\r\nis gone."});
    let keys = json!([{"proxy_key": KEY, "id": "tester", "channels": ["c", "other"]}]);
    let conf = Conf::new(&upstream.url()).settings(refusal).channel("other", channel(&upstream.url())).keys(keys);
    let gateway = Gateway::start(conf).await;
    let reply = get(gateway.address, "/x").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (451, "model_gone"));
    assert_eq!(reply.json()["error"]["message"], r"This model\r\nis gone.");
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_refusal_that_is_none_is_an_invalid_answer() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1")).await;
    for refusal in ["200/fine/x", "399/fine/x", "600/fine/x", "400//x", "400/Not-A-Code/x"] {
        let reply = get(gateway.address, &format!("/puppet/refuse/{refusal}")).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (502, "plugin_answer_invalid"), "{refusal}");
    }
}

#[tokio::test]
async fn a_request_that_every_plugin_declines_is_404() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1")).await;
    let reply = get(gateway.address, "/puppet/decline").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (404, "no_channel_for_request"));
}

#[tokio::test]
async fn what_a_plugin_does_to_one_exchange_does_not_hold_up_others_of_its_worker() {
    let (feed, body) = stream();
    let body = Arc::new(Mutex::new(Some(body)));
    let upstream = Upstream::start(move |request| {
        let body = (request.uri().path() == "/stream").then(|| body.lock().expect("no panic").take()).flatten();
        async move { body.map_or_else(|| reply(200, "ok"), Response::new) }
    })
    .await;
    let gateway = Gateway::with_workers(patient(Conf::new(&upstream.url())), 1).await;
    let mut streaming = Raw::connect(gateway.address).await;
    streaming.write(request("GET /stream", &[])).await;
    for (behaviour, code) in BROKEN_CALLS {
        feed.send(Ok(Frame::data(format!("before {behaviour}").into()))).expect("the reply is wanted");
        streaming.read_until(&format!("before {behaviour}")).await;
        let address = gateway.address;
        let bad = format!("/puppet/{behaviour}");
        let (failed, fine, failed_too) = tokio::join!(get(address, &bad), get(address, "/x"), get(address, &bad));
        assert_eq!((failed.code().as_str(), failed_too.code().as_str()), (code, code));
        assert_eq!(fine.status, 200, "beside {behaviour}");
        feed.send(Ok(Frame::data(format!("after {behaviour}").into()))).expect("the reply is wanted");
        streaming.read_until(&format!("after {behaviour}")).await;
    }
    drop(feed);
    streaming.read_until("0\r\n\r\n").await;
}

#[tokio::test]
async fn a_loop_ends_and_its_worker_serves_on() {
    let upstream = Upstream::echo().await;
    let other = "sk-other-0123456789";
    let keys = json!([
        {"proxy_key": KEY, "id": "tester", "channel": "c"},
        {"proxy_key": other, "id": "other", "channel": "other"},
    ]);
    let conf = Conf::new(&upstream.url()).channel("other", channel(&upstream.url())).keys(keys);
    let gateway = Gateway::with_workers(conf, 1).await;
    let (looped, fine) = tokio::join!(get(gateway.address, "/puppet/loop"), ask(&gateway, other, "/x"));
    assert_eq!((looped.code().as_str(), fine.status.as_u16()), ("plugin_deadline_exceeded", 200));
}

#[tokio::test]
async fn a_failed_exchange_leaves_the_other_streams_of_an_http_2_connection_alone() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(patient(Conf::new(&upstream.url()))).await;
    let client = Http2::connect(gateway.address).await;
    for (behaviour, code) in BROKEN_CALLS {
        let (failed, fine) = tokio::join!(
            client.send(http2::request("POST", &format!("/puppet/{behaviour}"), "body")),
            client.send(http2::request("POST", "/x", "body"))
        );
        assert_eq!((failed.status.as_u16(), failed.code().as_str()), (502, code), "{behaviour}");
        assert_eq!((fine.status.as_u16(), fine.echoed_body()), (200, "body"), "beside {behaviour}");
    }
}

#[tokio::test]
async fn a_plugin_finds_nothing_around_it() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::start(patient(Conf::new(&upstream.url()))).await;
    assert_eq!(get(gateway.address, "/puppet/look-around").await.status, 200);
}

/// The log's lines of one request, as soon as one of them holds `text`.
async fn lines(process: &Process, request_id: &str, text: &str) -> Vec<Value> {
    soon(text, async {
        loop {
            let log = process.log();
            let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
            let lines: Vec<_> = lines.filter(|line| line["request_id"] == request_id).collect();
            if lines.iter().any(|line| line["message"].as_str().is_some_and(|message| message.contains(text))) {
                return lines;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
}

async fn talking() -> (Process, Upstream) {
    let upstream = Upstream::echo().await;
    let conf = patient(Conf::new(&upstream.url())).gateway("log", json!({"format": "json"}));
    (Process::start(conf).await, upstream)
}

#[tokio::test]
async fn what_a_plugin_says_is_logged_with_plugin_version_and_request_id() {
    let (process, _upstream) = talking().await;
    let version = digest::sha256(guests::puppet());
    let version = digest::hex(&version[..6]);
    for (behaviour, said) in [
        ("print-line", "a line on stdout"),
        ("print-line", "half a line on stderr"),
        ("log", r"a line for the log\nwith\u{1b}[31m colours"),
        ("trap", "the puppet's strings are cut"),
    ] {
        let reply = get(process.address, &format!("/puppet/{behaviour}")).await;
        let lines = lines(&process, reply.header("x-aiproxy-request-id").expect("an id"), said).await;
        let line = lines.iter().find(|line| line["message"].as_str().unwrap_or_default().contains(said));
        let line = line.expect("it was waited for");
        assert_eq!(line["plugin"], "puppet", "{line}");
        assert_eq!(line["version"], version, "{line}");
        assert_eq!(line["channel"], "c", "{line}");
        assert!(!reply.text().contains("strings are cut"), "a panic's text is not the client's business");
    }
}

#[tokio::test]
async fn printing_without_end_costs_a_bounded_log_and_nothing_else() {
    let (process, _upstream) = talking().await;
    let reply = get(process.address, "/puppet/print").await;
    assert_eq!(reply.status, 200);
    let id = reply.header("x-aiproxy-request-id").expect("an id");
    let lines = lines(&process, id, "more lines of this call were left out").await;
    assert!((2..100).contains(&lines.len()), "{}", lines.len());
    assert_eq!(get(process.address, "/x").await.status, 200);
}

#[tokio::test]
async fn a_client_that_still_sends_its_body_is_told_what_the_plugin_did() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(patient(Conf::new(&upstream.url()))).await;
    let body = "x".repeat(5 << 20);
    for _ in 0..3 {
        let (failed, refused) = tokio::join!(
            post(gateway.address, "/puppet/trap", body.clone()),
            post(gateway.address, "/puppet/refuse/422/no/x", body.clone())
        );
        assert_eq!((failed.status.as_u16(), failed.code().as_str()), (502, "plugin_trapped"));
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (422, "no"));
    }
}

#[tokio::test]
async fn a_small_body_that_nobody_read_does_not_end_the_connection() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::start(patient(Conf::new(&upstream.url()))).await;
    let mut client = Raw::connect(gateway.address).await;
    for framing in [("content-length: 4", "body"), ("transfer-encoding: chunked", "4\r\nbody\r\n0\r\n\r\n")] {
        for behaviour in ["trap", "refuse/400/no/x", "decline", "unknown-option"] {
            client.write(request(&format!("POST /puppet/{behaviour}"), &[framing.0]) + framing.1).await;
            assert!(client.reply().await.status() >= 400, "{behaviour}");
            assert_eq!(client.ask("GET /after", &[]).await.status(), 200, "{framing:?} after {behaviour}");
        }
    }
}

/// A guest's `loop` on every connection at a time: the first breach pauses the channel, so a worker is not held for long.
#[tokio::test]
async fn many_loops_at_once_do_not_hold_a_worker_for_their_sum() {
    let upstream = Upstream::echo().await;
    let other = "sk-other-0123456789";
    let keys = json!([
        {"proxy_key": KEY, "id": "tester", "channel": "c"},
        {"proxy_key": other, "id": "other", "channel": "other"},
    ]);
    let conf = Conf::new(&upstream.url()).channel("other", channel(&upstream.url())).keys(keys);
    let gateway = Gateway::with_workers(conf.gateway("sandbox", json!({"back_off_ms": 60_000})), 1).await;
    let loops = futures_util::future::join_all((0..40).map(|_| get(gateway.address, "/puppet/loop")));
    let (looped, fine) = tokio::join!(loops, ask(&gateway, other, "/x"));
    assert_eq!(fine.status, 200);
    let codes: Vec<_> = looped.iter().map(Answer::code).collect();
    assert_eq!(codes.iter().filter(|code| *code == "plugin_deadline_exceeded").count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| *code == "plugin_backing_off").count(), 39, "{codes:?}");
}
