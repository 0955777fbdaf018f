//! WebSockets: what passes, in which order, and what is noted of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::sockets::{self, Socket, SocketUpstream, connect, dial, frame};
use crate::support::{Gateway, KEY, Raw, UPSTREAM_KEY, soon};

async fn echoing() -> (SocketUpstream, Gateway) {
    let upstream = SocketUpstream::echo().await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    (upstream, gateway)
}

/// The access log's one line.
async fn logged(log: &std::path::Path) -> Value {
    let line = soon("a line", async {
        loop {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            if text.ends_with('\n') {
                return text;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    serde_json::from_str(&line.await).expect("one line of JSON")
}

#[tokio::test]
async fn the_plugin_says_where_a_socket_goes_and_where_the_key() {
    let (upstream, gateway) = echoing().await;
    let headers = [("x-api-key", KEY), ("x-own", "passes"), ("origin", "http://any.example")];
    let (mut socket, reply) = dial(gateway.address, "/a/b?x=1&y=%2F", &headers).await.expect("accepted");
    assert_eq!(reply.headers()["x-upstream"], "yes");
    assert!(reply.headers().contains_key("x-aiproxy-request-id"));
    socket.say("hello").await;
    assert_eq!(socket.hear().await, "hello");

    let asked = &upstream.handshakes()[0];
    let header = |name: &str| asked.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert_eq!(asked.uri().to_string(), "/a/b?x=1&y=%2F");
    assert_eq!(header("authorization"), format!("Bearer {UPSTREAM_KEY}"));
    assert_eq!(header("x-puppet-saw-transport"), "websocket");
    assert_eq!(header("x-puppet-saw-presented"), "header x-api-key");
    assert_eq!((header("x-own"), header("x-forwarded-for")), ("passes", "127.0.0.1"));
    assert_eq!(header("host"), upstream.address.to_string());
    assert!(!asked.headers().contains_key("x-api-key") && !asked.headers().contains_key("sec-websocket-extensions"));
}

#[tokio::test]
async fn texts_and_binaries_of_every_size_pass_in_order_both_ways() {
    let (_upstream, gateway) = echoing().await;
    let socket = connect(gateway.address, "/").await;
    let (mut sink, mut stream) = socket.0.split();
    let messages: Vec<Message> = [0, 1, 125, 126, 4096, 65_535, 65_536, 1 << 20, 0, 5 << 20, 3]
        .into_iter()
        .enumerate()
        .map(|(index, length)| {
            if index % 2 == 0 {
                Message::binary(vec![index as u8; length])
            } else {
                Message::text("é".repeat(length / 2))
            }
        })
        .collect();
    let sent = messages.clone();
    let sending = tokio::spawn(async move {
        for message in sent {
            sink.send(message).await.expect("the gateway takes it");
        }
    });
    for (index, expected) in messages.into_iter().enumerate() {
        let heard = soon("an echo", stream.next()).await.expect("the socket is open").expect("a message");
        assert!(heard == expected, "message {index}");
    }
    sending.await.expect("no panic");
}

#[tokio::test]
async fn a_close_arrives_as_it_was_said_from_either_side() {
    let upstream = SocketUpstream::start(|mut socket| async move {
        match socket.next().await {
            Message::Text(text) if text == "you first" => socket.close(4321, "the upstream's reason").await,
            Message::Text(text) if text == "say nothing" => socket.send(Message::Close(None)).await,
            Message::Close(Some(frame)) => {
                assert_eq!((u16::from(frame.code), frame.reason.as_str()), (3000, "the client's reason"));
            }
            Message::Close(None) => {}
            other => panic!("{other:?}"),
        }
        let _ = socket.closed().await;
    })
    .await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    let mut socket = connect(gateway.address, "/").await;
    socket.say("you first").await;
    assert_eq!(socket.closed().await, (4321, "the upstream's reason".to_owned()));
    let mut socket = connect(gateway.address, "/").await;
    socket.say("say nothing").await;
    assert_eq!(socket.closed().await.0, 1005);
    let mut socket = connect(gateway.address, "/").await;
    socket.close(3000, "the client's reason").await;
    assert_eq!(socket.closed().await.0, 3000);
    let mut socket = connect(gateway.address, "/").await;
    socket.send(Message::Close(None)).await;
    assert_eq!(socket.closed().await.0, 1005);
    let stats = gateway.until("all have ended", |stats| stats["websockets"]["open"] == 0).await;
    assert_eq!(stats["websockets"]["closes"], json!({"1005": 2, "3000": 1, "4321": 1}));
}

#[tokio::test]
async fn what_was_said_before_a_close_arrives_before_it() {
    let upstream = SocketUpstream::start(|mut socket| async move {
        for number in 0..500 {
            socket.say(&format!("{number}")).await;
        }
        socket.send(Message::binary(vec![7; 3 << 20])).await;
        socket.close(1000, "done").await;
        let _ = socket.closed().await;
    })
    .await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    let mut socket = connect(gateway.address, "/").await;
    for number in 0..500 {
        assert_eq!(socket.hear().await, format!("{number}"));
    }
    assert_eq!(socket.next().await.len(), 3 << 20);
    assert_eq!(socket.closed().await, (1000, "done".to_owned()));
}

#[tokio::test]
async fn what_comes_right_behind_a_handshake_is_not_lost() {
    let upstream = SocketUpstream::start(|mut socket| async move {
        socket.say("welcome").await;
        let text = socket.hear().await;
        socket.say(&text).await;
        let _ = socket.closed().await;
    })
    .await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    let mut client = Raw::connect(gateway.address).await;
    let mut bytes = crate::support::request("GET /", &sockets::UPGRADE).into_bytes();
    bytes.extend(frame(0x81, b"in haste", true));
    client.write(bytes).await;
    assert_eq!(client.bare_reply().await.status(), 101);
    assert_eq!(client.next_frame().await, Some((0x81, b"welcome".to_vec())));
    assert_eq!(client.next_frame().await, Some((0x81, b"in haste".to_vec())));
}

#[tokio::test]
async fn a_slow_reader_slows_the_writer_and_memory_stays_bounded() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let upstream = SocketUpstream::start(move |mut socket| {
        let count = count.clone();
        async move {
            while socket.0.send(Message::binary(vec![1; 64 << 10])).await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    let mut socket = connect(gateway.address, "/").await;
    // The writer comes to a halt while nobody reads: what lies in between are the two connections' own buffers.
    let halted = async {
        let mut before = 0;
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            let now = sent.load(Ordering::Relaxed);
            if now > 0 && now == before {
                return now;
            }
            before = now;
        }
    };
    let messages = soon("the writer to halt", halted).await;
    assert!(messages < 1000, "{messages} messages of 64 KiB lie somewhere");
    for _ in 0..messages + 10 {
        assert_eq!(socket.next().await.len(), 64 << 10);
    }
    assert!(sent.load(Ordering::Relaxed) > messages, "it goes on once it is read");
}

#[tokio::test]
async fn messages_are_counted_both_ways_and_logged_with_the_close() {
    let upstream = SocketUpstream::echo().await;
    let conf = sockets::conf(&upstream.url()).gateway("access_log", "./access.log");
    let log = conf.conf().join("access.log");
    let gateway = Gateway::start(conf).await;
    let before = gateway.stats().await;
    assert_eq!(before["protocol_stats"]["websocket_connections"], 0);
    let mut socket = connect(gateway.address, "/live").await;
    let open = gateway.until("it is open", |stats| stats["websockets"]["open"] == 1).await;
    assert_eq!(open["protocol_stats"]["websocket_requests"], 1);
    assert_eq!(open["protocol_stats"]["websocket_connections"], 1);
    socket.say("12345").await;
    socket.send(Message::binary(vec![0; 100])).await;
    assert_eq!((socket.next().await.len(), socket.next().await.len()), (5, 100));
    socket.close(1000, "").await;
    socket.closed().await;
    let stats = gateway.until("it has ended", |stats| stats["websockets"]["open"] == 0).await;
    let sockets = &stats["websockets"];
    assert_eq!((&sockets["messages_in"], &sockets["messages_out"]), (&json!(2), &json!(2)));
    assert_eq!((&sockets["bytes_in"], &sockets["bytes_out"]), (&json!(105), &json!(105)));
    assert_eq!(sockets["closes"], json!({"1000": 1}));
    assert_eq!((&stats["protocol_stats"]["http_requests"], &stats["total_requests"]), (&json!(0), &json!(1)));
    assert_eq!(
        (&stats["successful_requests"], &stats["protocol_stats"]["websocket_connection_rate"]),
        (&json!(1), &json!(100.0))
    );

    let line = logged(&log).await;
    assert_eq!(
        (&line["transport"], &line["status"], &line["outcome"]),
        (&json!("websocket"), &json!(101), &json!("complete"))
    );
    let socket = &line["socket"];
    assert_eq!((&socket["closed_by"], &socket["close_code"]), (&json!("client"), &json!(1000)));
    assert_eq!((&socket["messages_in"], &line["bytes_in"], &line["bytes_out"]), (&json!(2), &json!(105), &json!(105)));
}

#[tokio::test]
async fn model_and_usage_are_read_from_the_messages() {
    let upstream = SocketUpstream::start(|mut socket: Socket| async move {
        let _ = socket.hear().await;
        let _ = socket.hear().await;
        socket.say(r#"{"usage":{"in":2,"out":3}}"#).await;
        socket.send(Message::binary(&br#"{"usage":{"in":1,"out":4}}"#[..])).await;
        socket.send(Message::binary(vec![0xff; 32])).await;
        let _ = socket.closed().await;
    })
    .await;
    let meters = json!([[
        {"name": "input", "alternatives": [["/usage/in"]], "fold": "sum"},
        {"name": "output", "alternatives": [["/usage/out"]], "fold": "sum"},
    ]]);
    let conf = sockets::conf(&upstream.url())
        .settings(json!({
            "profile": {"socket_model": ["/none", "/setup/model"], "meters": meters},
            "plan": {"meters": 0},
        }))
        .gateway("access_log", "./access.log");
    let log = conf.conf().join("access.log");
    let gateway = Gateway::start(conf).await;
    let mut socket = connect(gateway.address, "/").await;
    socket.say("not JSON").await;
    socket.say(r#"{"setup":{"model":"live-1"}}"#).await;
    for _ in 0..3 {
        socket.next().await;
    }
    socket.close(1000, "").await;
    socket.closed().await;
    gateway.until("it has ended", |stats| stats["websockets"]["open"] == 0).await;
    let line = logged(&log).await;
    assert_eq!((&line["model"], &line["usage"]), (&json!("live-1"), &json!({"input": 3, "output": 7})));
    assert!(line["usage_is_partial"].is_null(), "{line}");
}

#[tokio::test]
async fn what_the_upstream_tells_after_the_clients_close_counts_all_the_same() {
    let upstream = SocketUpstream::start(|mut socket: Socket| async move {
        let _ = socket.hear().await;
        // Before it has seen the close.
        socket.say(r#"{"usage":{"out":5}}"#).await;
        socket.say(r#"{"usage":{"out":6}}"#).await;
        let _ = socket.closed().await;
    })
    .await;
    let meters = json!([[{"name": "output", "alternatives": [["/usage/out"]], "fold": "sum"}]]);
    let conf = sockets::conf(&upstream.url())
        .settings(json!({"profile": {"meters": meters}, "plan": {"meters": 0}}))
        .gateway("access_log", "./access.log");
    let log = conf.conf().join("access.log");
    let gateway = Gateway::start(conf).await;
    let mut socket = Raw::socket(gateway.address, "/").await;
    socket.write([frame(0x81, b"go", true), frame(0x88, &1000_u16.to_be_bytes(), true)].concat()).await;
    assert_eq!(socket.close_frame().await.0, 1000);
    let line = logged(&log).await;
    assert_eq!((&line["usage"], &line["usage_is_partial"]), (&json!({"output": 11}), &Value::Null));
}
