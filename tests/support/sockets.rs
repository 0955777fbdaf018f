//! WebSockets for both ends: upstreams that are closures, clients, and frames as they are on the wire.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config, client_async_with_config};

use super::wire::soon;
use super::{Conf, KEY, Raw};

/// One end of a WebSocket, as a test uses it.
pub struct Socket<S = TcpStream>(pub WebSocketStream<S>);

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Socket<S> {
    pub async fn send(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).await.expect("the other end takes it");
    }

    pub async fn say(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    /// The next message that is no ping or pong; `None` at the end.
    pub async fn try_next(&mut self) -> Option<Result<Message, tungstenite::Error>> {
        loop {
            match soon("a message", self.0.next()).await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return other,
            }
        }
    }

    pub async fn next(&mut self) -> Message {
        self.try_next().await.expect("a message, but the socket ended").expect("a message")
    }

    pub async fn hear(&mut self) -> String {
        match self.next().await {
            Message::Text(text) => text.to_string(),
            other => panic!("a text was to come: {other:?}"),
        }
    }

    /// Waits for the close and gives its code and reason; 1005 where it has none, 1006 where none comes.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.try_next().await {
                Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                    self.drain().await;
                    return (code.into(), reason.to_string());
                }
                Some(Ok(Message::Close(None))) => {
                    self.drain().await;
                    return (1005, String::new());
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return (1006, String::new()),
            }
        }
    }

    pub async fn close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.to_owned().into() };
        self.send(Message::Close(Some(frame))).await;
    }

    /// Answers what has to be answered, to the end.
    async fn drain(&mut self) {
        while let Some(Ok(_)) = soon("the end", self.0.next()).await {}
    }
}

/// An upstream that speaks WebSocket; serves until dropped.
pub struct SocketUpstream {
    pub address: SocketAddr,
    handshakes: Arc<Mutex<Vec<Request<()>>>>,
    task: JoinHandle<()>,
}

impl SocketUpstream {
    pub async fn start<F, R>(serve: F) -> Self
    where
        F: Fn(Socket) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::choosing(None, serve).await
    }

    /// Chooses this sub-protocol, whether it is offered or not.
    pub async fn choosing<F, R>(protocol: Option<&'static str>, serve: F) -> Self
    where
        F: Fn(Socket) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let handshakes: Arc<Mutex<Vec<Request<()>>>> = Arc::default();
        let noted = handshakes.clone();
        let task = tokio::spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (serve, noted) = (serve.clone(), noted.clone());
                let _ = stream.set_nodelay(true);
                serving.spawn(async move {
                    #[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
                    let note = |request: &Request<()>, mut reply: Response<()>| {
                        noted.lock().expect("no panic").push(request.clone());
                        if let Some(protocol) = protocol {
                            let chosen = HeaderValue::from_static(protocol);
                            reply.headers_mut().insert("sec-websocket-protocol", chosen);
                        }
                        reply.headers_mut().insert("x-upstream", HeaderValue::from_static("yes"));
                        Ok(reply)
                    };
                    if let Ok(socket) = accept_hdr_async_with_config(stream, note, Some(large())).await {
                        serve(Socket(socket)).await;
                    }
                });
            }
        });
        Self { address, handshakes, task }
    }

    /// Sends every message back.
    pub async fn echo() -> Self {
        Self::start(|mut socket| async move {
            while let Some(Ok(message)) = socket.0.next().await {
                if (message.is_text() || message.is_binary()) && socket.0.send(message).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The handshakes so far.
    pub fn handshakes(&self) -> Vec<Request<()>> {
        self.handshakes.lock().expect("no panic").clone()
    }
}

impl Drop for SocketUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn large() -> WebSocketConfig {
    WebSocketConfig::default().max_message_size(None).max_frame_size(None)
}

/// A channel that lets WebSockets through.
pub fn conf(base_url: &str) -> Conf {
    Conf::new(base_url).set("supports_websocket", true)
}

/// A client's handshake with further headers; a `Sec-WebSocket-Protocol` makes the client want an answer to it.
pub fn handshake(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Request<()> {
    use tungstenite::client::IntoClientRequest;
    let mut request = format!("ws://{address}{path}").into_client_request().expect("a request");
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().expect("a name");
        request.headers_mut().append(name, value.parse().expect("a value"));
    }
    request
}

/// Opens a WebSocket with these headers.
pub async fn dial(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(Socket, Response<Option<Vec<u8>>>), tungstenite::Error> {
    let stream = TcpStream::connect(address).await.expect("the gateway listens");
    stream.set_nodelay(true).expect("a socket option");
    let handshake = client_async_with_config(handshake(address, path, headers), stream, Some(large()));
    soon("the handshake", handshake).await.map(|(socket, reply)| (Socket(socket), reply))
}

/// Opens a WebSocket with the usual proxy key.
pub async fn connect(address: SocketAddr, path: &str) -> Socket {
    dial(address, path, &[("authorization", &format!("Bearer {KEY}"))]).await.expect("the gateway accepts").0
}

/// The lines of a sound handshake, for a request on the bare socket.
pub const UPGRADE: [&str; 4] = [
    "connection: Upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// A frame as it is on the wire, its payload masked with the key 1, 2, 3, 4 where it is a client's.
pub fn frame(first: u8, payload: &[u8], is_masked: bool) -> Vec<u8> {
    let mask = if is_masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(mask | u8::try_from(length).expect("it is short")),
        length @ 126..=0xffff => {
            bytes.push(mask | 0x7e);
            bytes.extend(u16::try_from(length).expect("it is short").to_be_bytes());
        }
        length => {
            bytes.push(mask | 0x7f);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    if is_masked {
        bytes.extend([1, 2, 3, 4]);
    }
    let key = [1, 2, 3, 4];
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| if is_masked { byte ^ key[at % 4] } else { *byte }));
    bytes
}

impl Raw {
    /// Opens a WebSocket whose frames the test writes itself.
    pub async fn socket(address: SocketAddr, path: &str) -> Self {
        let mut raw = Self::connect(address).await;
        raw.write(super::request(&format!("GET {path}"), &UPGRADE)).await;
        let head = raw.bare_reply().await;
        assert_eq!(head.status(), 101, "{head:?}");
        raw
    }

    /// The next frame: its first byte, and its payload unmasked; `None` at the end.
    pub async fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = soon("a frame", self.0.read_u8()).await.ok()?;
        let second = self.0.read_u8().await.ok()?;
        let length = match second & 0x7f {
            126 => usize::from(self.0.read_u16().await.ok()?),
            127 => usize::try_from(self.0.read_u64().await.ok()?).ok()?,
            short => usize::from(short),
        };
        let mut key = [0; 4];
        if second & 0x80 != 0 {
            self.0.read_exact(&mut key).await.ok()?;
        }
        let mut payload = vec![0; length];
        soon("a payload", self.0.read_exact(&mut payload)).await.ok()?;
        payload.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= key[at % 4]);
        Some((first, payload))
    }

    /// Waits for a close frame, answers it, and gives its code and reason; 1005 where it has none.
    pub async fn close_frame(&mut self) -> (u16, String) {
        loop {
            let (first, payload) = self.next_frame().await.expect("a close frame, but the gateway closed");
            if first != 0x88 {
                continue;
            }
            let _ = self.0.write_all(&frame(0x88, &payload, true)).await;
            return match payload.split_at_checked(2) {
                Some((code, reason)) => {
                    (u16::from_be_bytes([code[0], code[1]]), String::from_utf8_lossy(reason).into_owned())
                }
                None => (1005, String::new()),
            };
        }
    }
}
