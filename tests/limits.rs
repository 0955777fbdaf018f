//! Bounds: each refusal with its status, and nothing else suffers.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    Conf, Gateway, Http2, Raw, RawUpstream, Upstream, get, http2, post, reply, request, soon, stream,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn limited(upstream_url: &str, limits: Value) -> Gateway {
    Gateway::start(Conf::new(upstream_url).gateway("limits", limits)).await
}

/// An upstream that streams to `/stream` what the sender is given, and answers everything else.
async fn streaming() -> (tokio::sync::mpsc::UnboundedSender<Result<Frame<bytes::Bytes>, std::io::Error>>, Upstream) {
    let (sender, body) = stream();
    let body = Arc::new(Mutex::new(Some(body)));
    let upstream = Upstream::start(move |request| {
        let body = (request.uri().path() == "/stream").then(|| body.lock().expect("no panic").take()).flatten();
        async move { body.map_or_else(|| reply(200, "ok"), Response::new) }
    })
    .await;
    (sender, upstream)
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    soon(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_head_of_too_many_bytes_is_431_whatever_it_is_made_of() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = limited(&upstream.url(), json!({"header_bytes_max": 8192})).await;
    let long = "x".repeat(300_000);
    for head in [
        request("GET /", &[&format!("x-long: {long}")]),
        // Within hyper's buffer, and beyond the limit all the same.
        request("GET /", &[&format!("x-long: {}", &long[..8200])]),
        request(&format!("GET /{long}"), &[]),
        request(&format!("{long} /"), &[]),
        request("GET /", &[&format!("{long}: x")]),
    ] {
        let mut client = Raw::connect(gateway.address).await;
        // The gateway need not read it to its end, but shall not lose its answer over that.
        let _ = client.0.write_all(head.as_bytes()).await;
        let reply = client.reply().await;
        assert_eq!(reply.status(), 431, "{}", reply.head());
        assert!(reply.body().contains("\"head_too_large\""), "{}", reply.body());
        assert!(reply.has("x-aiproxy-request-id"), "{}", reply.head());
        let _ = client.0.shutdown().await;
        client.closed().await;
    }
    let mut client = Raw::connect(gateway.address).await;
    let fits = format!("x-long: {}", &long[..7000]);
    assert_eq!(client.ask("GET /", &[&fits]).await.status(), 200, "what fits is served");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_head_of_too_many_fields_is_431_over_http_1_and_http_2() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = limited(&upstream.url(), json!({"header_count_max": 16})).await;
    let fields: Vec<String> = (0..17).map(|number| format!("x-{number}: 1")).collect();
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let mut client = Raw::connect(gateway.address).await;
    let refused = client.ask("GET /", &fields).await;
    assert_eq!(refused.status(), 431);
    assert!(refused.body().contains("\"head_too_large\""), "{}", refused.body());
    let mut client = Raw::connect(gateway.address).await;
    assert_eq!(client.ask("GET /", &fields[..14]).await.status(), 200);

    let client = Http2::connect(gateway.address).await;
    let mut request = http2::request("GET", "/", "");
    for number in 0..17 {
        request.headers_mut().append("x-many", number.into());
    }
    let refused = client.send(request).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (431, "head_too_large"));
    assert_eq!(client.send(http2::request("GET", "/", "")).await.status, 200);
}

#[tokio::test]
async fn a_stuck_client_is_dropped_while_others_come_and_go() {
    let upstream = RawUpstream::answering(OK).await;
    let conf = Conf::new(&upstream.url()).gateway("limits", json!({"head_timeout_ms": 2000}));
    let gateway = Gateway::with_workers(conf, 1).await;
    let mut stuck = Raw::connect(gateway.address).await;
    stuck.write(&request("GET /x", &[])[..20]).await;
    // Each comes before the worker would look over its connections, were it to begin anew with every one.
    let address = gateway.address;
    let mut busy = tokio::task::JoinSet::new();
    for _ in 0..4 {
        busy.spawn(async move {
            loop {
                assert_eq!(get(address, "/healthz").await.status, 200);
            }
        });
    }
    stuck.closed().await;
}

#[tokio::test]
async fn slow_heads_are_dropped_and_a_slow_reply_is_not() {
    let (feed, upstream) = streaming().await;
    let gateway = limited(&upstream.url(), json!({"head_timeout_ms": 100})).await;
    let mut patient = Raw::connect(gateway.address).await;
    patient.write(request("GET /stream", &[])).await;
    feed.send(Ok(Frame::data("first".into()))).expect("the reply is wanted");
    patient.read_until("first").await;

    let half = &request("GET /x", &[])[..20];
    let mut silent = Raw::connect(gateway.address).await;
    let mut stuck = Raw::connect(gateway.address).await;
    stuck.write(half).await;
    let mut stuck_later = Raw::connect(gateway.address).await;
    assert_eq!(stuck_later.ask("GET /", &[]).await.status(), 200);
    stuck_later.write(half).await;
    let mut stuck_in_preface = Raw::connect(gateway.address).await;
    stuck_in_preface.write("PRI * HT").await;
    for client in [&mut silent, &mut stuck, &mut stuck_later, &mut stuck_in_preface] {
        client.closed().await;
    }
    // A byte every now and then does not help.
    let mut trickling = Raw::connect(gateway.address).await;
    trickling.write("GET /").await;
    soon("the end of the trickle", async {
        while trickling.0.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;

    feed.send(Ok(Frame::data("second".into()))).expect("the reply is wanted");
    patient.read_until("second").await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_keep_alive_time_and_a_busy_one_is_not() {
    let (feed, upstream) = streaming().await;
    let gateway = limited(&upstream.url(), json!({"keep_alive_ms": 100})).await;
    let mut busy = Raw::connect(gateway.address).await;
    busy.write(request("GET /stream", &[])).await;
    feed.send(Ok(Frame::data("first".into()))).expect("the reply is wanted");
    busy.read_until("first").await;
    let mut idle = Raw::connect(gateway.address).await;
    assert_eq!(idle.ask("GET /", &[]).await.status(), 200);
    idle.closed().await;
    let idle = Http2::connect(gateway.address).await;
    assert_eq!(idle.send(http2::request("GET", "/", "")).await.status, 200);
    idle.closed().await;
    feed.send(Ok(Frame::data("second".into()))).expect("the reply is wanted");
    drop(feed);
    let rest = busy.read_until("0\r\n\r\n").await;
    assert!(rest.contains("second"), "{rest}");
    busy.closed().await;
}

#[tokio::test]
async fn a_client_that_stops_reading_holds_its_exchange_no_longer_than_the_keep_alive_time() {
    let (gone, mut upstream_gone) = tokio::sync::mpsc::unbounded_channel();
    let upstream = RawUpstream::start(move |mut raw, _| {
        let gone = gone.clone();
        async move {
            raw.next().await;
            raw.write("HTTP/1.1 200 OK\r\n\r\n").await;
            while raw.0.write_all(&vec![b'x'; 65536]).await.is_ok() {}
            let _ = gone.send(());
        }
    })
    .await;
    let gateway = limited(&upstream.url(), json!({"keep_alive_ms": 100})).await;
    let mut first = Raw::connect(gateway.address).await;
    first.write(request("GET /", &[])).await;
    first.read_until("xxx").await;
    soon("the upstream's connection to be given up", upstream_gone.recv()).await;
    until("the exchange's end", || gateway.shared.in_flight.load(Ordering::Relaxed) == 0).await;
    until("the connection's end", || gateway.shared.connections.load(Ordering::Relaxed) == 0).await;
    drop(first);
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_served() {
    let upstream = Upstream::start(|_| async { reply(200, vec![b'x'; 24 << 20]) }).await;
    let gateway = limited(&upstream.url(), json!({"keep_alive_ms": 400})).await;
    let mut client = Raw::connect(gateway.address).await;
    client.write(request("GET /", &["connection: close"])).await;
    let (mut bytes, mut count) = (vec![0; 2 << 20], 0);
    loop {
        // Longer in all than the limit, and each pause shorter.
        tokio::time::sleep(Duration::from_millis(40)).await;
        let mut part = 0;
        while part < bytes.len() {
            let read = soon("more", client.0.read(&mut bytes)).await.expect("the gateway writes on");
            if read == 0 {
                break;
            }
            part += read;
        }
        count += part;
        if part < bytes.len() {
            break;
        }
    }
    assert!(count > 24 << 20, "{count} bytes and the end");
}

#[tokio::test]
async fn a_client_that_vanishes_is_noticed_by_the_system() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1")).await;
    let mut client = Raw::connect(gateway.address).await;
    assert_eq!(client.ask("GET /healthz", &[]).await.status(), 200);
    let port = |address: std::net::SocketAddr| format!("0100007F:{:04X}", address.port());
    let ends = [port(gateway.address), port(client.0.local_addr().expect("an address"))];
    until("a keepalive timer on the gateway's socket", || {
        let sockets = std::fs::read_to_string("/proc/net/tcp").expect("it runs on Linux");
        let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let socket = sockets.lines().map(fields).find(|fields| fields[1..3] == ends).expect("the socket is listed");
        // The column `tr`: 02 is the keepalive timer.
        socket[5].starts_with("02:")
    })
    .await;
}

#[tokio::test]
async fn a_body_that_trickles_is_not_held_for_ever() {
    let upstream = RawUpstream::answering(OK).await;
    let conf = Conf::new(&upstream.url()).settings(json!({"profile": {"reads_model": true}}));
    let gateway = Gateway::start(conf.gateway("limits", json!({"keep_alive_ms": 200}))).await;
    let mut client = Raw::connect(gateway.address).await;
    client.write(request("POST /", &["content-type: application/json", "content-length: 100000"])).await;
    let (mut read, mut write) = client.0.split();
    let trickle = async {
        while write.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut start = [0; 12];
    tokio::select! {
        read = soon("the refusal", read.read_exact(&mut start)) => assert!(read.is_ok()),
        () = trickle => {}
    }
    assert_eq!(&start, b"HTTP/1.1 400");
    until("the budget", || gateway.shared.inspected_bytes.load(Ordering::Relaxed) == 0).await;
    assert!(upstream.requests().is_empty());

    // One that comes in slow pieces, but comes, is served.
    let mut client = Raw::connect(gateway.address).await;
    client.write(request("POST /", &["content-type: application/json", "content-length: 300000"])).await;
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        client.write(vec![b' '; 20_000]).await;
    }
    assert_eq!(client.reply().await.status(), 200);
}

#[tokio::test]
async fn an_idle_http_2_client_that_ignores_the_end_is_cut() {
    let gateway = limited("http://127.0.0.1:1", json!({"keep_alive_ms": 100})).await;
    let mut client = Raw::connect(gateway.address).await;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // Empty SETTINGS, then GET /healthz on stream 1; nothing that comes is ever acknowledged.
    bytes.extend_from_slice(b"\0\0\0\x04\0\0\0\0\0");
    let block = b"\x82\x86\x04\x08/healthz\x41\x01a";
    bytes.extend_from_slice(&[0, 0, u8::try_from(block.len()).expect("short"), 1, 5, 0, 0, 0, 1]);
    bytes.extend_from_slice(block);
    client.write(bytes).await;
    client.read_until("{\"status\":\"ok\"}").await;
    soon("the cut", client.read_to_close()).await;
}

#[tokio::test]
async fn a_connection_too_many_is_told_so_and_served_when_there_is_place_again() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = limited(&upstream.url(), json!({"connections_max": 2})).await;
    let mut first = Raw::connect(gateway.address).await;
    let mut second = Raw::connect(gateway.address).await;
    assert_eq!(first.ask("GET /", &[]).await.status(), 200);
    assert_eq!(second.ask("GET /", &[]).await.status(), 200);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut third = Raw::connect(gateway.address).await;
        let refused = third.ask("GET /", &[]).await;
        assert_eq!((refused.status(), refused.values("retry-after")), (503, vec!["1".to_owned()]));
        assert!(refused.body().contains("\"too_many_connections\""), "{}", refused.body());
        ids.extend(refused.values("x-aiproxy-request-id"));
        third.closed().await;
    }
    assert_ne!(ids[0], ids[1]);
    assert!(refused_id_is_in_the_body(&gateway).await, "the body carries the id too");
    assert_eq!(first.ask("GET /", &[]).await.status(), 200, "those that stand are served on");
    drop(second);
    until("a place", || gateway.shared.connections.load(Ordering::Relaxed) < 2).await;
    assert_eq!(Raw::connect(gateway.address).await.ask("GET /", &[]).await.status(), 200);
}

async fn refused_id_is_in_the_body(gateway: &Gateway) -> bool {
    let refused = Raw::connect(gateway.address).await.ask("GET /", &[]).await;
    refused.body().contains(&refused.values("x-aiproxy-request-id")[0])
}

#[tokio::test]
async fn an_exchange_too_many_is_refused_while_pages_and_other_exchanges_go_on() {
    let (feed, upstream) = streaming().await;
    let gateway = limited(&upstream.url(), json!({"in_flight_max": 1})).await;
    let mut first = Raw::connect(gateway.address).await;
    first.write(request("GET /stream", &[])).await;
    feed.send(Ok(Frame::data("first".into()))).expect("the reply is wanted");
    first.read_until("first").await;
    let refused = post(gateway.address, "/x", "{}").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (503, "too_many_exchanges"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(crate::support::get(gateway.address, "/healthz").await.status, 200);
    drop(feed);
    first.read_until("0\r\n\r\n").await;
    until("a place", || gateway.shared.in_flight.load(Ordering::Relaxed) == 0).await;
    assert_eq!(post(gateway.address, "/x", "{}").await.status, 200);
    until("a place", || gateway.shared.in_flight.load(Ordering::Relaxed) == 0).await;
}

#[tokio::test]
async fn a_body_too_long_to_be_read_is_forwarded_whole_and_tells_no_model() {
    let upstream = Upstream::echo().await;
    let conf = Conf::new(&upstream.url()).settings(json!({"profile": {"reads_model": true}}));
    let gateway = Gateway::start(conf.gateway("limits", json!({"inspect_bytes_max": 1024}))).await;
    let short = r#"{"model": "m"}"#.to_owned();
    let long = format!(r#"{{"model": "m", "text": "{}"}}"#, "x".repeat(100_000));
    for (body, model) in [(&short, "m"), (&long, "none")] {
        let reply = post(gateway.address, "/x", body.clone()).await;
        assert_eq!((reply.status.as_u16(), reply.echoed("x-puppet-saw-model")), (200, vec![model]));
        assert!(reply.echoed_body() == body, "{model}: with a length, every byte arrives");

        let (sender, stream) = stream();
        for piece in body.as_bytes().chunks(700) {
            sender.send(Ok(Frame::data(bytes::Bytes::copy_from_slice(piece)))).expect("the body is wanted");
        }
        drop(sender);
        let request = http2::request("POST", "/x", "").map(|_| stream);
        let reply = Http2::connect(gateway.address).await.send(request).await;
        assert_eq!((reply.status.as_u16(), reply.echoed("x-puppet-saw-model")), (200, vec![model]));
        assert!(reply.echoed_body() == body, "{model}: without a length, every byte arrives");
    }
    assert_eq!(gateway.shared.inspected_bytes.load(Ordering::Relaxed), 0, "the budget is whole again");
}

#[tokio::test]
async fn bodies_beyond_the_budget_are_refused_until_others_have_gone() {
    let (release, released) = tokio::sync::watch::channel(false);
    let (arrive, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::start(move |request| {
        let (mut released, arrive) = (released.clone(), arrive.clone());
        async move {
            let is_held = request.uri().path() == "/held";
            let _ = request.into_body().collect().await;
            if is_held {
                let _ = arrive.send(());
                let _ = released.wait_for(|released| *released).await;
            }
            reply(200, "ok")
        }
    })
    .await;
    let conf = Conf::new(&upstream.url()).settings(json!({"profile": {"reads_model": true}}));
    let limits = json!({"inspect_bytes_max": 2048, "inspect_budget_bytes": 2048});
    let gateway = Gateway::start(conf.gateway("limits", limits)).await;
    let body = format!(r#"{{"model": "{}"}}"#, "m".repeat(1500));
    let held = tokio::spawn({
        let (address, body) = (gateway.address, body.clone());
        async move { post(address, "/held", body).await }
    });
    soon("the first at the upstream", arrived.recv()).await;
    let refused = post(gateway.address, "/x", body.clone()).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (503, "inspect_budget_exhausted"));
    assert_eq!(post(gateway.address, "/x", r#"{"model": "small"}"#).await.status, 200, "what fits is served");
    release.send(true).expect("the upstream waits");
    assert_eq!(held.await.expect("no panic").status, 200);
    assert_eq!(post(gateway.address, "/x", body).await.status, 200);
}
