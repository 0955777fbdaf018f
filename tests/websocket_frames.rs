//! Frames as strangers send them: what is allowed passes as messages, what is not gets the close code that RFC 6455 names,
//! and nothing of it reaches the other side.

use futures_util::StreamExt;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::support::sockets::{self, Socket, SocketUpstream, connect, frame};
use crate::support::{Conf, Gateway, Raw, RawUpstream, soon};

/// An upstream that tells what it hears, the close at last as `close CODE`.
async fn listening() -> (SocketUpstream, UnboundedReceiver<String>) {
    let (heard, hearing) = unbounded_channel();
    let upstream = SocketUpstream::start(move |mut socket: Socket| {
        let heard = heard.clone();
        async move {
            loop {
                let text = match socket.0.next().await {
                    Some(Ok(Message::Text(text))) => format!("text {text}"),
                    Some(Ok(Message::Binary(bytes))) => format!("binary {}", bytes.len()),
                    Some(Ok(Message::Close(Some(frame)))) => format!("close {}", frame.code),
                    Some(Ok(Message::Close(None))) => "close".to_owned(),
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => return,
                };
                let _ = heard.send(text);
            }
        }
    })
    .await;
    (upstream, hearing)
}

async fn gateway(conf: Conf) -> Gateway {
    let websocket = json!({"message_bytes_max": 100_000, "message_budget_bytes": 1_000_000});
    Gateway::start(conf.gateway("websocket", websocket)).await
}

#[tokio::test]
async fn fragments_become_one_message_and_control_frames_between_them_are_answered() {
    let (upstream, mut hearing) = listening().await;
    let gateway = gateway(sockets::conf(&upstream.url())).await;
    let mut client = Raw::socket(gateway.address, "/").await;
    client.write(frame(0x01, "für".as_bytes().split_at(2).0, true)).await;
    client.write(frame(0x89, b"are you there", true)).await;
    assert_eq!(client.next_frame().await, Some((0x8a, b"are you there".to_vec())));
    client.write(frame(0x00, &"für".as_bytes()[2..], true)).await;
    client.write(frame(0x8a, b"unasked", true)).await;
    client.write(frame(0x80, b" alle", true)).await;
    client.write(frame(0x82, b"", true)).await;
    assert_eq!(soon("a text", hearing.recv()).await.as_deref(), Some("text für alle"));
    assert_eq!(soon("a binary", hearing.recv()).await.as_deref(), Some("binary 0"));
}

#[tokio::test]
async fn frames_cut_at_every_byte_are_the_same_frames() {
    let (upstream, mut hearing) = listening().await;
    let gateway = gateway(sockets::conf(&upstream.url())).await;
    let mut client = Raw::socket(gateway.address, "/").await;
    let bytes = [frame(0x01, b"one ", true), frame(0x89, b"", true), frame(0x80, &[b'x'; 200], true)].concat();
    for byte in bytes {
        client.write([byte]).await;
    }
    let expected = format!("text one {}", "x".repeat(200));
    assert_eq!(soon("a text", hearing.recv()).await, Some(expected));
}

#[tokio::test]
async fn what_a_client_may_not_send_gets_its_code_and_goes_no_further() {
    let (upstream, mut hearing) = listening().await;
    let gateway = gateway(sockets::conf(&upstream.url())).await;
    let header_only = |first: u8, length: u64| {
        let mut bytes = vec![first, 0xff];
        bytes.extend(length.to_be_bytes());
        bytes.extend([1, 2, 3, 4]);
        bytes
    };
    for (name, bytes, code) in [
        ("unmasked", frame(0x81, b"bare", false), 1002),
        ("a reserved bit", frame(0xc1, b"compressed", true), 1002),
        ("another reserved bit", frame(0x91, b"?", true), 1002),
        ("a reserved opcode", frame(0x83, b"?", true), 1002),
        ("a reserved control opcode", frame(0x8b, b"?", true), 1002),
        ("a fragmented ping", frame(0x09, b"?", true), 1002),
        ("a long ping", frame(0x89, &[0; 126], true), 1002),
        ("a continuation of nothing", frame(0x80, b"?", true), 1002),
        ("a new message within one", [frame(0x01, b"a", true), frame(0x81, b"b", true)].concat(), 1002),
        ("a close of one byte", frame(0x88, &[3], true), 1002),
        ("a close code nobody may send", frame(0x88, &1006_u16.to_be_bytes(), true), 1002),
        ("a close code below all", frame(0x88, &999_u16.to_be_bytes(), true), 1002),
        ("text that is not UTF-8", frame(0x81, &[0xc3, 0x28], true), 1007),
        ("text cut within a character", frame(0x81, &[0xe2, 0x82], true), 1007),
        ("fragments that are not UTF-8", [frame(0x01, &[0xf0], true), frame(0x80, &[0x28], true)].concat(), 1007),
        ("a close reason that is not UTF-8", frame(0x88, &[0x03, 0xe8, 0xff], true), 1007),
        ("a message that is too large", frame(0x82, &vec![0; 100_001], true), 1009),
        ("one that says it will be", header_only(0x82, 1 << 62), 1009),
        ("one that says the top bit", header_only(0x82, 1 << 63), 1009),
        (
            "fragments that are too large",
            [frame(0x02, &vec![0; 60_000], true), frame(0x80, &vec![0; 60_000], true)].concat(),
            1009,
        ),
    ] {
        let mut client = Raw::socket(gateway.address, "/").await;
        client.write(frame(0x81, name.as_bytes(), true)).await;
        let _ = client.0.write_all(&bytes).await;
        assert_eq!(client.close_frame().await.0, code, "{name}");
        let _ = client.0.shutdown().await;
        client.closed().await;
        assert_eq!(soon("what was sound", hearing.recv()).await, Some(format!("text {name}")));
        assert_eq!(soon("the end", hearing.recv()).await.as_deref(), Some("close 1001"), "{name}");
    }
    let stats = gateway.until("all have ended", |stats| stats["websockets"]["open"] == 0).await;
    assert_eq!(stats["websockets"]["closes"], json!({"1002": 12, "1007": 4, "1009": 4}));
    assert_eq!(stats["successful_requests"], 0);
}

#[tokio::test]
async fn what_an_upstream_may_not_send_ends_the_socket_for_the_client_too() {
    for (name, bytes, to_client, to_upstream) in [
        ("masked", frame(0x81, b"?", true), 1011, 1002),
        ("a reserved bit", frame(0xc1, b"?", false), 1011, 1002),
        ("text that is not UTF-8", frame(0x81, &[0xff], false), 1011, 1007),
        ("a close code nobody may send", frame(0x88, &1005_u16.to_be_bytes(), false), 1011, 1002),
        ("a message that is too large", frame(0x82, &vec![0; 100_001], false), 1009, 1009),
    ] {
        let (closes, mut closing) = unbounded_channel();
        let upstream = RawUpstream::start(move |mut raw, _| {
            let (bytes, closes) = (bytes.clone(), closes.clone());
            async move {
                let asked = raw.next().await.expect("a handshake");
                let accept = derive_accept_key(asked.values("sec-websocket-key")[0].as_bytes());
                raw.write(format!(
                    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
                ))
                .await;
                raw.write(frame(0x81, b"sound", false)).await;
                let _ = raw.0.write_all(&bytes).await;
                let _ = closes.send(raw.close_frame().await.0);
            }
        })
        .await;
        let gateway = gateway(sockets::conf(&upstream.url())).await;
        let mut client = connect(gateway.address, "/").await;
        assert_eq!(client.hear().await, "sound");
        assert_eq!(client.closed().await.0, to_client, "{name}");
        assert_eq!(soon("a close", closing.recv()).await, Some(to_upstream), "{name}");
    }
}

#[tokio::test]
async fn a_message_that_does_not_come_on_ends_its_socket() {
    let (upstream, mut hearing) = listening().await;
    let websocket = json!({"ping_interval_ms": 500});
    let gateway = Gateway::start(sockets::conf(&upstream.url()).gateway("websocket", websocket)).await;
    let mut client = Raw::socket(gateway.address, "/").await;
    client.write(frame(0x02, &vec![0; 100_000], true)).await;
    // It answers every ping, and begins nothing else.
    let close = loop {
        match client.next_frame().await.expect("a frame, but the gateway closed") {
            (0x89, payload) => client.write(frame(0x8a, &payload, true)).await,
            (0x88, payload) => break u16::from_be_bytes([payload[0], payload[1]]),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(close, 1008);
    assert_eq!(soon("the end", hearing.recv()).await.as_deref(), Some("close 1001"));
}

#[tokio::test]
async fn unfinished_messages_of_all_sockets_together_are_bounded() {
    let (upstream, mut hearing) = listening().await;
    let websocket = json!({"message_bytes_max": 1_000_000, "message_budget_bytes": 1_000_000});
    let gateway = Gateway::start(sockets::conf(&upstream.url()).gateway("websocket", websocket)).await;
    // Fragments without an end: three of these are more than the budget.
    let unfinished = frame(0x02, &vec![0; 400_000], true);
    let mut first = Raw::socket(gateway.address, "/").await;
    first.write(&unfinished).await;
    soon("the first to be held", async {
        while gateway.shared.message_bytes.load(std::sync::atomic::Ordering::Relaxed) < 400_000 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
    let mut second = Raw::socket(gateway.address, "/").await;
    let _ = second.0.write_all(&unfinished).await;
    let mut third = Raw::socket(gateway.address, "/").await;
    let _ = third.0.write_all(&unfinished).await;
    let refused = tokio::select! {
        close = second.close_frame() => close,
        close = third.close_frame() => close,
    };
    assert_eq!(refused.0, 1013);
    drop((second, third));
    // Small messages are beside the budget, and the first is finished as it began.
    first.write(frame(0x80, b"end", true)).await;
    let heard = async {
        loop {
            match hearing.recv().await.expect("the upstream lives") {
                text if text.starts_with("binary") => return text,
                _ => {}
            }
        }
    };
    assert_eq!(soon("the first", heard).await, "binary 400003");
    soon("the budget to be given back", async {
        while gateway.shared.message_bytes.load(std::sync::atomic::Ordering::Relaxed) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
}
