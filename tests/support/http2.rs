//! A client that speaks HTTP/2, in the clear with prior knowledge.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::client::whole;
use super::{Answer, Body, KEY};

#[derive(Clone)]
pub struct Http2(SendRequest<Body>);

impl Http2 {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gateway listens");
        stream.set_nodelay(true).expect("a socket option");
        Self::over(stream).await
    }

    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.expect("a new connection");
        tokio::spawn(connection);
        Self(sender)
    }

    /// The reply's head as soon as it is there.
    pub async fn open(&self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        self.0.clone().send_request(request).await
    }

    /// Waits until the gateway has ended the connection.
    pub async fn closed(&self) {
        let ended = async {
            while !self.0.is_closed() {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        super::soon("the connection's end", ended).await;
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        whole(self.open(request).await.expect("the gateway answers")).await
    }
}

/// A request with the usual proxy key.
pub fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("http://gateway.test{path}"))
        .header("authorization", format!("Bearer {KEY}"))
        .body(http_body_util::Full::new(body.into()).map_err(|never| match never {}).boxed())
        .expect("a request")
}
