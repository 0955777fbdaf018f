//! What belongs to a trace passes on untouched, and its id stands in what the gateway says of the exchange.

use serde_json::{Value, json};

use crate::support::sockets::{self, SocketUpstream, dial};
use crate::support::{Conf, Gateway, Http2, KEY, Process, Raw, RawUpstream, ask, http2, soon};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The access log's lines; the gateway ends for it.
async fn logged(mut gateway: Gateway) -> Vec<Value> {
    gateway.stop();
    gateway.ended().await;
    let text = std::fs::read_to_string(gateway.conf.conf().join("access.log")).expect("a log");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn the_headers_of_a_trace_pass_untouched_and_its_id_is_logged() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::start(Conf::new(&upstream.url()).gateway("access_log", "./access.log")).await;
    let mut client = Raw::connect(gateway.address).await;
    let parent = format!("traceparent: {PARENT}");
    let fields =
        [parent.as_str(), "tracestate: congo=t61rcWkgMzE, x=1", "tracestate: rojo=00f0", "baggage: user=%20a;p=1,b=2"];
    assert_eq!(client.ask("GET /one", &fields).await.status(), 200);
    let seen = upstream.last();
    assert_eq!(seen.values("traceparent"), [PARENT]);
    assert_eq!(seen.values("tracestate"), ["congo=t61rcWkgMzE, x=1", "rojo=00f0"]);
    assert_eq!(seen.values("baggage"), ["user=%20a;p=1,b=2"]);

    let client = Http2::connect(gateway.address).await;
    let mut request = http2::request("GET", "/two", "");
    request.headers_mut().insert("traceparent", PARENT.parse().unwrap());
    assert_eq!(client.send(request).await.status, 200);
    assert_eq!(upstream.last().values("traceparent"), [PARENT]);

    let ids: Vec<_> = logged(gateway).await.into_iter().map(|line| line["trace_id"].clone()).collect();
    assert_eq!(ids, [TRACE, TRACE]);
}

#[tokio::test]
async fn what_is_no_valid_traceparent_passes_on_too_and_no_id_is_logged() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::start(Conf::new(&upstream.url()).gateway("access_log", "./access.log")).await;
    let mut client = Raw::connect(gateway.address).await;
    let upper = PARENT.to_uppercase();
    let more = format!("{PARENT}-more");
    for values in [vec![upper.as_str()], vec![&more], vec!["nonsense"], vec![""], vec![PARENT, PARENT], vec![]] {
        let fields: Vec<_> = values.iter().map(|value| format!("traceparent: {value}")).collect();
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        assert_eq!(client.ask("GET /", &fields).await.status(), 200);
        assert_eq!(upstream.last().values("traceparent"), values);
    }
    let lines = logged(gateway).await;
    assert_eq!(lines.len(), 6);
    assert!(lines.iter().all(|line| line.get("trace_id").is_none()), "{lines:?}");
}

#[tokio::test]
async fn a_websockets_handshake_takes_the_trace_along() {
    let upstream = SocketUpstream::echo().await;
    let gateway = Gateway::start(sockets::conf(&upstream.url()).gateway("access_log", "./access.log")).await;
    let key = format!("Bearer {KEY}");
    let headers =
        [("authorization", key.as_str()), ("traceparent", PARENT), ("tracestate", "congo=t61"), ("baggage", "a=1")];
    let (mut socket, _) = dial(gateway.address, "/live", &headers).await.expect("the gateway accepts");
    for (name, value) in &headers[1..] {
        assert_eq!(upstream.handshakes()[0].headers()[*name], value);
    }
    socket.close(1000, "").await;
    socket.closed().await;
    let lines = logged(gateway).await;
    assert_eq!((lines.len(), &lines[0]["trace_id"], &lines[0]["status"]), (1, &json!(TRACE), &json!(101)));
}

#[tokio::test]
async fn the_gateways_own_log_names_request_and_trace() {
    let conf = Conf::new("http://127.0.0.1:1").gateway("log", json!({"format": "json"}));
    let process = Process::start(conf).await;
    let reply = ask(process.address, "GET", "/x", &[("x-api-key", KEY), ("traceparent", PARENT)]).await;
    assert_eq!(reply.status, 502);
    let id = reply.header("x-aiproxy-request-id").expect("an id");
    let line = soon("the event", async {
        loop {
            let log = process.log();
            let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let mut lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
            if let Some(line) = lines.find(|line| line["request_id"] == id) {
                return line;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!((&line["trace_id"], &line["level"]), (&json!(TRACE), &json!("WARN")), "{line}");
}
