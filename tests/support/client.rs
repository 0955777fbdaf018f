//! Clients: a simple one for whole replies, a raw one for what no well-behaved client would send.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::KEY;

/// A whole reply.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub trailers: Option<HeaderMap>,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the reply is text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The `code` of an error reply.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Of an echoed request (see `Upstream::echo`): the values of a header, in order.
    pub fn echoed<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        let head = self.text().split("\n\n").next().unwrap_or_default();
        head.lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .filter(|(n, _)| *n == name)
            .map(|(_, v)| v)
            .collect()
    }

    /// Of an echoed request: `METHOD target`.
    pub fn echoed_line(&self) -> &str {
        self.text().lines().next().unwrap_or_default()
    }

    /// Of an echoed request: the body.
    pub fn echoed_body(&self) -> &str {
        self.text().split_once("\n\n").map_or("", |(_, body)| body)
    }
}

/// Sends on a connection of its own and gives the reply's head as soon as it is there.
pub async fn open(address: SocketAddr, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let stream = TcpStream::connect(address).await.expect("the gateway listens");
    stream.set_nodelay(true).expect("a socket option");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a new connection");
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.expect("the gateway answers")
}

pub async fn whole(reply: Response<Incoming>) -> Answer {
    let (parts, body) = reply.into_parts();
    let body = body.collect().await.expect("the reply is whole");
    let trailers = body.trailers().cloned();
    Answer { status: parts.status, headers: parts.headers, trailers, body: body.to_bytes() }
}

/// Sends as it is, but for a `Host` where there is none.
pub async fn send(address: SocketAddr, mut request: Request<Full<Bytes>>) -> Answer {
    let host = address.to_string().parse().expect("an address is a header value");
    request.headers_mut().entry("host").or_insert(host);
    whole(open(address, request).await).await
}

/// GET with the usual proxy key.
pub async fn get(address: SocketAddr, path: &str) -> Answer {
    let request = Request::get(path).header("authorization", format!("Bearer {KEY}"));
    send(address, request.body(Full::default()).expect("a request")).await
}

/// POST of JSON with the usual proxy key.
pub async fn post(address: SocketAddr, path: &str, body: impl Into<Bytes>) -> Answer {
    let request =
        Request::post(path).header("authorization", format!("Bearer {KEY}")).header("content-type", "application/json");
    send(address, request.body(Full::new(body.into())).expect("a request")).await
}

/// A socket for bytes as the test writes them.
pub struct Raw(pub TcpStream);

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gateway listens");
        stream.set_nodelay(true).expect("a socket option");
        Self(stream)
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("the gateway reads");
    }

    /// Everything until the gateway closes; a reset counts as a close.
    pub async fn read_to_close(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.0.read_to_end(&mut bytes).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads until `end` has come; fails when the gateway closes before.
    pub async fn read_until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.windows(end.len()).any(|window| window == end.as_bytes()) {
            let mut piece = [0; 4096];
            let count = self.0.read(&mut piece).await.expect("the gateway writes");
            assert!(count > 0, "the gateway closed before {end:?}: {:?}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&piece[..count]);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
