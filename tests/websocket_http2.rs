//! WebSockets over HTTP/2: extended CONNECT (RFC 8441), one stream each.

use futures_util::SinkExt;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde_json::json;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::support::sockets::{self, Socket, SocketUpstream};
use crate::support::{Body, Gateway, Http2, KEY, Process, Upstream, http2, reply, soon, whole};

type Stream = TokioIo<hyper::upgrade::Upgraded>;

fn ask(protocol: &'static str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(Method::CONNECT).uri(format!("http://gateway.test{path}"));
    if !protocol.is_empty() {
        request = request.extension(Protocol::from_static(protocol));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(whole("")).expect("a request")
}

/// A client that knows that the gateway takes extended CONNECT.
async fn client(address: std::net::SocketAddr) -> Http2 {
    let client = Http2::connect(address).await;
    assert_eq!(client.send(http2::request("GET", "/healthz", "")).await.status, 200);
    client
}

const SOUND: [(&str, &str); 2] = [("sec-websocket-version", "13"), ("x-api-key", KEY)];

async fn open(client: &Http2, path: &str, headers: &[(&str, &str)]) -> (Socket<Stream>, Response<()>) {
    let reply = client.open(ask("websocket", path, headers)).await.expect("the gateway answers");
    assert_eq!(reply.status(), 200, "{reply:?}");
    let head = reply.headers().clone();
    let stream = soon("the switch", hyper::upgrade::on(reply)).await.expect("a stream");
    let mut reply = Response::new(());
    *reply.headers_mut() = head;
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Client, None).await;
    (Socket(socket), reply)
}

async fn text(reply: Response<Incoming>) -> String {
    let bytes = reply.into_body().collect().await.expect("a whole reply").to_bytes();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_stream_becomes_a_websocket_and_the_connection_goes_on_beside_it() {
    let upstream = SocketUpstream::choosing(Some("b"), |mut socket| async move {
        while let Some(Ok(message)) = socket.try_next().await {
            if message.is_text() {
                socket.send(message).await;
            }
        }
    })
    .await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    let client = client(gateway.address).await;
    let headers = [SOUND.as_slice(), &[("sec-websocket-protocol", "a, b")]].concat();
    let (mut first, reply) = open(&client, "/live?x=1", &headers).await;
    assert_eq!(reply.headers()["sec-websocket-protocol"], "b");
    assert!(reply.headers().contains_key("x-aiproxy-request-id") && !reply.headers().contains_key("upgrade"));
    let (mut second, _) = open(&client, "/", &headers).await;
    for text in ["one", &"two".repeat(50_000)] {
        first.say(text).await;
        second.say(text).await;
        assert_eq!((first.hear().await, second.hear().await), (text.to_owned(), text.to_owned()));
    }
    assert_eq!(client.send(http2::request("GET", "/healthz", "")).await.status, 200);
    let handshake = &upstream.handshakes()[0];
    assert_eq!((handshake.method(), handshake.uri().to_string()), (&Method::GET, "/live?x=1".to_owned()));
    assert_eq!(handshake.headers()["x-puppet-saw-method"], "GET");
    first.close(1000, "bye").await;
    assert_eq!(first.closed().await.0, 1000);
    second.say("still here").await;
    assert_eq!(second.hear().await, "still here");
}

#[tokio::test]
async fn what_is_no_sound_extended_connect_is_refused() {
    let upstream = SocketUpstream::echo().await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    let client = client(gateway.address).await;
    for (protocol, headers, status, reason) in [
        ("connect-udp", SOUND.to_vec(), 400, "CONNECT"),
        ("websocket", vec![SOUND[1]], 426, "Sec-WebSocket-Version"),
        ("websocket", vec![SOUND[0]], 401, "proxy key"),
    ] {
        let reply = client.open(ask(protocol, "/", &headers)).await.expect("the gateway answers");
        assert_eq!(reply.status(), status, "{protocol} {headers:?}");
        let text = text(reply).await;
        assert!(text.contains(reason), "{text}");
    }
    assert!(upstream.handshakes().is_empty());
}

#[tokio::test]
async fn an_upstreams_refusal_arrives_and_a_success_without_a_switch_is_none() {
    for (status, expected) in [(401, 401), (503, 503), (200, 502), (204, 502)] {
        let upstream = Upstream::start(move |_| async move { reply(status, "the upstream's words") }).await;
        let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
        let client = client(gateway.address).await;
        let refused = client.open(ask("websocket", "/", &SOUND)).await.expect("the gateway answers");
        assert_eq!(refused.status(), expected);
        let text = text(refused).await;
        let words = if expected == status { "the upstream's words" } else { "upstream_broken" };
        assert!(text.contains(words), "{text}");
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_is_a_client_that_vanished() {
    let (closes, mut closing) = tokio::sync::mpsc::unbounded_channel();
    let upstream = SocketUpstream::start(move |mut socket| {
        let closes = closes.clone();
        async move {
            let _ = closes.send(socket.closed().await.0);
        }
    })
    .await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    let client = client(gateway.address).await;
    let (socket, _) = open(&client, "/", &SOUND).await;
    drop(socket);
    assert_eq!(soon("the close", closing.recv()).await, Some(1001));
}

#[tokio::test]
async fn sockets_whose_upstream_reads_nothing_do_not_hold_up_their_neighbours() {
    let upstream = SocketUpstream::start(|mut socket| async move {
        if socket.hear().await == "stuck" {
            std::future::pending::<()>().await;
        }
        while let Some(Ok(message)) = socket.try_next().await {
            socket.send(message).await;
        }
    })
    .await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    let client = client(gateway.address).await;
    let mut stuck = Vec::new();
    for _ in 0..8 {
        let (mut socket, _) = open(&client, "/", &SOUND).await;
        socket.say("stuck").await;
        // Until there is room nowhere any more.
        let filling = async { while socket.0.send(Message::binary(vec![0; 64 << 10])).await.is_ok() {} };
        let _ = tokio::time::timeout(std::time::Duration::from_millis(300), filling).await;
        stuck.push(socket);
    }
    let (mut socket, _) = open(&client, "/", &SOUND).await;
    socket.say("go on").await;
    let long = "x".repeat(1 << 20);
    socket.say(&long).await;
    assert!(socket.hear().await == long);
}

#[tokio::test]
async fn a_connection_with_an_open_socket_is_not_idle() {
    let upstream = SocketUpstream::echo().await;
    let conf = sockets::conf(&upstream.url()).gateway("limits", json!({"keep_alive_ms": 100}));
    let gateway = Gateway::start(conf).await;
    let client = client(gateway.address).await;
    let idle = Http2::connect(gateway.address).await;
    assert_eq!(idle.send(http2::request("GET", "/healthz", "")).await.status, 200);
    let (mut socket, _) = open(&client, "/", &SOUND).await;
    // The one beside it shows that the time has passed.
    idle.closed().await;
    socket.say("still here").await;
    assert_eq!(socket.hear().await, "still here");
}

#[tokio::test]
async fn a_stop_says_1001_and_waits_for_the_upstreams_answer_too() {
    let (answer, answers) = tokio::sync::watch::channel(false);
    let upstream = SocketUpstream::start(move |mut socket| {
        let mut answers = answers.clone();
        async move {
            while let Some(Ok(message)) = socket.try_next().await {
                if message.is_close() {
                    // The library answers when it is asked for the next message.
                    let _ = answers.wait_for(|answer| *answer).await;
                } else {
                    socket.send(message).await;
                }
            }
        }
    })
    .await;
    let mut process = Process::start(sockets::conf(&upstream.url())).await;
    let client = client(process.address).await;
    let (mut socket, _) = open(&client, "/", &SOUND).await;
    socket.say("here").await;
    assert_eq!(socket.hear().await, "here");
    process.signal(Signal::TERM);
    assert_eq!(socket.closed().await.0, 1001);
    drop((socket, client));
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), process.ended()).await;
    assert!(early.is_err(), "the upstream has not answered: {early:?}");
    answer.send(true).expect("the upstream waits");
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(!process.log().contains("drain time"), "{}", process.log());
}
