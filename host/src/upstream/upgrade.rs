//! A connection of its own for each WebSocket: the handshake goes up as a request, and what switches is handed over.
//!
//! Always HTTP/1.1, and never a pooled connection: a handshake that meets a connection just closed would have to be
//! repeated, and the connection does not come back in any case. Whether the upstream's acceptance is sound is for the
//! caller to see; a refusal is an ordinary reply.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::body::{Open, ReplyBody, RequestBody, chain};
use super::connect::{self, Alpn, Connected, Socket};
use super::pool::{HEAD_BYTES_MAX, Lease};
use super::{Upstream, address_http1, broken, connect_timeout, head};
use crate::config::{Endpoint, Timeouts};
use crate::error::{Failure, Kind};
use crate::stream::Stream;

/// What came of a handshake.
pub enum Upgrade {
    /// 101, with its headers.
    Switched(http::HeaderMap, Tunnel),
    /// Any other reply.
    Refused(Response<ReplyBody>),
}

/// A connection that speaks HTTP no longer.
pub struct Tunnel {
    stream: Stream<Socket>,
    /// What came behind the head of the reply.
    pub read_before: Bytes,
}

impl Upstream {
    /// Sends a handshake to the endpoint; as with [`Upstream::send`], the URI is path and query.
    pub async fn upgrade(
        &self,
        endpoint: &Arc<Endpoint>,
        timeouts: &Timeouts,
        headers: http::HeaderMap,
        target: http::Uri,
    ) -> Result<Upgrade, Failure> {
        let slot = self.pool.slot(endpoint)?;
        let mut request = Request::new(RequestBody::empty());
        *request.uri_mut() = target;
        *request.headers_mut() = headers;
        address_http1(&mut request, &slot);

        let connected = connect::connect(endpoint, &self.tls, Alpn::Http1);
        let connected = tokio::time::timeout(timeouts.connect, connected).await;
        let Connected { stream, .. } =
            connected.unwrap_or_else(|_| Err(connect_timeout(endpoint, timeouts.connect)))?;
        let handshake = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| broken(&error))?;
        tokio::task::spawn_local(async move {
            // An error has been told to the request.
            let _ = connection.with_upgrades().await;
        });

        let now = Instant::now();
        let mut lease = Lease::single(sender);
        let mut timer = self.timers.take(now + timeouts.first_byte);
        let sent = head(lease.send(request), timeouts.first_byte, &mut timer, None).await?;
        let mut reply = sent.map_err(|error| broken(error.error()))?;
        if reply.status() != StatusCode::SWITCHING_PROTOCOLS {
            let open = Open { lease, timer, idle: timeouts.idle, moved: now, progress: None };
            return Ok(Upgrade::Refused(reply.map(|frames| ReplyBody::new(frames, open))));
        }
        let failed = |cause: String| {
            Failure::new(Kind::UpstreamBroken, "the upstream broke the connection off while it switched protocols")
                .because(cause)
        };
        let upgraded = hyper::upgrade::on(&mut reply).await.map_err(|error| failed(chain(&error)))?;
        let parts =
            upgraded.downcast::<TokioIo<Stream<Socket>>>().map_err(|_| failed("not our own stream".to_owned()))?;
        let tunnel = Tunnel { stream: parts.io.into_inner(), read_before: parts.read_buf };
        Ok(Upgrade::Switched(reply.into_parts().0.headers, tunnel))
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
