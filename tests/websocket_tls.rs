//! WebSockets under TLS, on both sides.

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_tungstenite::{accept_async, client_async};

use crate::support::sockets::{self, Socket};
use crate::support::{Gateway, KEY, TestCa, soon};

#[tokio::test]
async fn wss_from_the_client_and_to_an_upstream_that_would_speak_http_2() {
    let ca = TestCa::new();
    let acceptor = ca.acceptor("127.0.0.1", &["h2", "http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let upstream = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("the gateway connects");
        let stream = acceptor.accept(stream).await.expect("a handshake");
        // A WebSocket begins with HTTP/1.1: nothing else may be agreed on.
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut socket = accept_async(stream).await.expect("a WebSocket");
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() || message.is_binary() {
                socket.send(message).await.expect("the gateway takes it");
            }
        }
    });
    let (cert, key) = ca.pair();
    let conf = sockets::conf(&format!("https://{address}"))
        .gateway("trusted_ca", ca.pem_file().to_str().expect("a path"))
        .gateway("tls", json!({"cert": "../cert.pem", "key": "../key.pem"}));
    std::fs::write(conf.folder().join("cert.pem"), cert).expect("a file can be written");
    std::fs::write(conf.folder().join("key.pem"), key).expect("a file can be written");
    let gateway = Gateway::start(conf).await;

    let stream = ca.client(&["http/1.1"]).connect(gateway.address).await.expect("a handshake");
    let request = sockets::handshake(gateway.address, "/live", &[("x-api-key", KEY)]);
    let (socket, _) = Box::pin(soon("the handshake", client_async(request, stream))).await.expect("accepted");
    let mut socket = Socket(socket);
    for text in ["short", &"long ".repeat(100_000)] {
        socket.say(text).await;
        assert!(socket.hear().await == text);
    }
    socket.close(1000, "done").await;
    assert_eq!(socket.closed().await.0, 1000);
    soon("the upstream's end", upstream).await.expect("no panic");
}
