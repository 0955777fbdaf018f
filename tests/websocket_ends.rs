//! How WebSockets end: a side that vanishes, silence, a stop, a swap, a key that is disabled.

use futures_util::StreamExt;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_tungstenite::tungstenite::Message;

use crate::support::sockets::{self, Socket, SocketUpstream, connect, dial};
use crate::support::{Conf, Gateway, KEY, Process, Raw, Upstream, get, soon};

/// An upstream that echoes, and tells the code of each close; 1006 where none came.
async fn echoing() -> (SocketUpstream, UnboundedReceiver<u16>) {
    let (closes, closing) = unbounded_channel();
    let upstream = SocketUpstream::start(move |mut socket: Socket| {
        let closes = closes.clone();
        async move {
            let code = loop {
                match socket.0.next().await {
                    Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => socket.send(message).await,
                    Some(Ok(Message::Close(frame))) => break frame.map_or(1005, |frame| frame.code.into()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break 1006,
                }
            };
            while socket.0.next().await.is_some_and(|next| next.is_ok()) {}
            let _ = closes.send(code);
        }
    })
    .await;
    (upstream, closing)
}

async fn roundtrip(socket: &mut Socket, text: &str) {
    socket.say(text).await;
    assert_eq!(socket.hear().await, text);
}

#[tokio::test]
async fn a_client_that_vanishes_is_known_to_the_upstream_at_once() {
    let (upstream, mut closing) = echoing().await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    let mut socket = connect(gateway.address, "/").await;
    roundtrip(&mut socket, "here").await;
    drop(socket);
    assert_eq!(soon("the close", closing.recv()).await, Some(1001));
    let stats = gateway.until("it has ended", |stats| stats["websockets"]["open"] == 0).await;
    assert_eq!(stats["websockets"]["closes"], json!({"1006": 1}));
}

#[tokio::test]
async fn an_upstream_that_vanishes_is_known_to_the_client_at_once() {
    let upstream = SocketUpstream::start(|mut socket| async move {
        let text = socket.hear().await;
        socket.say(&text).await;
    })
    .await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    let mut socket = connect(gateway.address, "/").await;
    roundtrip(&mut socket, "here").await;
    let (code, reason) = socket.closed().await;
    assert_eq!(code, 1011);
    assert!(reason.contains("upstream"), "{reason}");
}

#[tokio::test]
async fn an_upstreams_last_words_arrive_although_the_client_still_sends() {
    let upstream = SocketUpstream::start(|mut socket| async move {
        let _ = socket.hear().await;
        socket.say("last words").await;
        socket.close(1008, "enough").await;
        // Closed with bytes unread: the connection is reset.
    })
    .await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    let mut socket = connect(gateway.address, "/").await;
    socket.say("go").await;
    let noise = Message::binary(vec![0; 4096]);
    for _ in 0..50 {
        if futures_util::SinkExt::send(&mut socket.0, noise.clone()).await.is_err() {
            break;
        }
    }
    assert_eq!(socket.hear().await, "last words");
    assert_eq!(socket.closed().await, (1008, "enough".to_owned()));
}

#[tokio::test]
async fn a_socket_without_messages_ends_and_pings_do_not_keep_it() {
    let (upstream, mut closing) = echoing().await;
    let websocket = json!({"idle_timeout_ms": 1200, "ping_interval_ms": 500});
    let gateway = Gateway::start(sockets::conf(&upstream.url()).gateway("websocket", websocket)).await;
    let mut socket = connect(gateway.address, "/").await;
    roundtrip(&mut socket, "here").await;
    // The library answers the gateway's pings.
    let (code, reason) = socket.closed().await;
    assert_eq!(code, 1001);
    assert!(reason.contains("idle"), "{reason}");
    assert_eq!(soon("the close", closing.recv()).await, Some(1001));
}

#[tokio::test]
async fn a_client_that_answers_no_ping_counts_as_gone() {
    let (upstream, mut closing) = echoing().await;
    let websocket = json!({"ping_interval_ms": 500});
    let gateway = Gateway::start(sockets::conf(&upstream.url()).gateway("websocket", websocket)).await;
    let mut client = Raw::socket(gateway.address, "/").await;
    assert_eq!(client.next_frame().await, Some((0x89, Vec::new())), "it is asked");
    // It says nothing, and its connection stands.
    assert_eq!(soon("the close", closing.recv()).await, Some(1001));
    client.closed().await;
}

#[tokio::test]
async fn one_that_answers_pings_stays() {
    let (upstream, _closing) = echoing().await;
    let websocket = json!({"ping_interval_ms": 500});
    let gateway = Gateway::start(sockets::conf(&upstream.url()).gateway("websocket", websocket)).await;
    let mut client = Raw::socket(gateway.address, "/").await;
    for _ in 0..3 {
        assert_eq!(client.next_frame().await, Some((0x89, Vec::new())), "it is asked again");
        client.write(sockets::frame(0x8a, b"", true)).await;
    }
    assert_eq!(gateway.stats().await["websockets"]["open"], 1);
}

#[tokio::test]
async fn a_stop_says_1001_to_both_sides_and_waits_for_their_answers() {
    let (upstream, mut closing) = echoing().await;
    let mut process = Process::start(sockets::conf(&upstream.url())).await;
    let mut socket = connect(process.address, "/").await;
    roundtrip(&mut socket, "here").await;
    process.signal(Signal::TERM);
    let (code, reason) = socket.closed().await;
    assert_eq!(code, 1001);
    assert!(reason.contains("stops"), "{reason}");
    assert_eq!(soon("the close", closing.recv()).await, Some(1001));
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(!process.log().contains("drain time"), "{}", process.log());
}

#[tokio::test]
async fn a_client_that_does_not_answer_is_cut_when_the_drain_time_is_over() {
    let (upstream, _closing) = echoing().await;
    let mut process = Process::start(sockets::conf(&upstream.url()).gateway("limits", json!({"drain_ms": 300}))).await;
    let mut client = Raw::socket(process.address, "/").await;
    process.signal(Signal::TERM);
    assert_eq!(client.next_frame().await.expect("a close").0, 0x88);
    client.closed().await;
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(process.log().contains("drain time"), "{}", process.log());
}

fn keys(status: &str) -> Value {
    json!([
        {"proxy_key": KEY, "id": "tester", "channel": "c", "status": status},
        {"proxy_key": "sk-other-0123456789", "id": "other", "channel": "c"},
    ])
}

async fn with_two_keys(websocket: Value) -> (Gateway, Socket, SocketUpstream, UnboundedReceiver<u16>) {
    let (upstream, closing) = echoing().await;
    let conf = sockets::conf(&upstream.url()).keys(keys("active")).gateway("websocket", websocket);
    let gateway = Gateway::start(conf).await;
    let mut socket = connect(gateway.address, "/").await;
    roundtrip(&mut socket, "here").await;
    (gateway, socket, upstream, closing)
}

#[tokio::test]
async fn an_open_socket_lives_on_when_its_key_is_disabled() {
    let (gateway, mut socket, _upstream, _closing) = with_two_keys(json!({})).await;
    gateway.conf.write_file("api_keys.json", &keys("disabled").to_string());
    gateway.reload();
    soon("the key to be refused", async { while dial(gateway.address, "/", &[("x-api-key", KEY)]).await.is_ok() {} })
        .await;
    roundtrip(&mut socket, "still here").await;
}

#[tokio::test]
async fn sockets_of_a_disabled_key_are_closed_where_that_is_wanted_and_no_others() {
    let (gateway, mut socket, _upstream, mut closing) = with_two_keys(json!({"close_when_disabled": true})).await;
    let (mut other, _) = dial(gateway.address, "/", &[("x-api-key", "sk-other-0123456789")]).await.expect("accepted");
    gateway.conf.write_file("api_keys.json", &keys("disabled").to_string());
    gateway.reload();
    let (code, reason) = socket.closed().await;
    assert_eq!((code, reason.as_str()), (1008, "the proxy key is disabled"));
    assert_eq!(soon("the close", closing.recv()).await, Some(1008));
    roundtrip(&mut other, "still here").await;
}

#[tokio::test]
async fn sockets_of_a_disabled_channel_are_closed_where_that_is_wanted() {
    let (mut gateway, mut socket, _upstream, mut closing) = with_two_keys(json!({"close_when_disabled": true})).await;
    gateway.conf.write_channels(|channels| channels["c"]["status"] = json!("disabled"));
    gateway.reload();
    assert_eq!(socket.closed().await, (1008, "the channel is disabled".to_owned()));
    assert_eq!(soon("the close", closing.recv()).await, Some(1008));
}

#[tokio::test]
async fn open_sockets_stay_on_their_generation_and_new_ones_use_the_new() {
    let (first, _closing) = echoing().await;
    let (second, _closing) = echoing().await;
    let mut gateway = Gateway::start(sockets::conf(&first.url())).await;
    let mut old = connect(gateway.address, "/").await;
    roundtrip(&mut old, "before").await;
    let url = second.url();
    gateway.conf.write_channels(|channels| channels["c"]["base_url"] = json!(url));
    gateway.swap_in(&crate::support::loaded::version(b'B')).await;
    let mut new = soon("a socket of the new generation", async {
        loop {
            let socket = connect(gateway.address, "/").await;
            if !second.handshakes().is_empty() {
                return socket;
            }
        }
    })
    .await;
    roundtrip(&mut new, "new").await;
    roundtrip(&mut old, "old").await;
    assert_eq!(second.handshakes()[0].headers()["x-puppet-mark"], "MARK-BBBBBBBBBBBB");
    assert_eq!(first.handshakes()[0].headers()["x-puppet-mark"], "MARK-AAAAAAAAAAAA");
}

#[tokio::test]
async fn an_open_socket_does_not_keep_the_generation_that_it_was_opened_on() {
    let (upstream, _closing) = echoing().await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    let mut socket = connect(gateway.address, "/").await;
    roundtrip(&mut socket, "before").await;
    let before = std::sync::Arc::downgrade(&gateway.shared.current.load_full());
    gateway.swap_in(&crate::support::loaded::version(b'B')).await;
    soon("the old generation to go", async {
        while before.upgrade().is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    roundtrip(&mut socket, "after").await;
}

#[tokio::test]
async fn a_connection_that_carried_a_socket_is_given_back_when_it_ends() {
    let (upstream, _closing) = echoing().await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    for _ in 0..20 {
        let mut socket = connect(gateway.address, "/").await;
        roundtrip(&mut socket, "here").await;
        socket.close(1000, "").await;
        socket.closed().await;
    }
    // The one that asks is open itself.
    gateway.until("all are gone", |stats| stats["connections"] == 1 && stats["in_flight"] == 0).await;
}

#[tokio::test]
async fn http_goes_on_beside_open_sockets() {
    let (upstream, _closing) = echoing().await;
    let http = Upstream::echo().await;
    let conf = Conf::new(&http.url()).set("websocket_url", upstream.url());
    let gateway = Gateway::start(conf).await;
    let mut socket = connect(gateway.address, "/").await;
    assert_eq!(get(gateway.address, "/plain").await.status, 200);
    roundtrip(&mut socket, "here").await;
}
