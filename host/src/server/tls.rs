//! A connection to a port that speaks TLS, from its first byte to the end of the handshake.
//!
//! Both are the client's to be slow with, and share one `head_timeout`. Until the handshake is done nothing has been
//! asked of the gateway, so an order to stop ends the connection at once. The handshake's arithmetic is done on the
//! worker, whose other connections wait for one signature; a thread for it would cost every handshake two hand-overs.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::connection::{Connection, refusal};
use super::say;
use crate::config::certificate::Certificate;
use crate::error::{Failure, Kind};
use crate::exchange::worker::Worker;
use crate::stream::Stream;

/// The type of a record that carries a handshake, with which every client begins (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 0x16;

/// The stream, and whether HTTP/2 is spoken on it; `None` where there is nothing to serve.
pub async fn accept(
    stream: TcpStream,
    certificate: &Certificate,
    worker: &Worker,
    connection: &Connection,
    head_timeout: Duration,
) -> Option<(Stream<TcpStream>, bool)> {
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(head_timeout, shake_hands(stream, certificate, worker)) => shaken.ok()?,
        () = connection.asked() => return None,
    };
    match shaken {
        Ok(opened) => {
            // The request's head has a time of its own.
            connection.expect_head();
            opened
        }
        Err(error) => {
            tracing::debug!(%error, "a client connection ended in its TLS handshake");
            None
        }
    }
}

async fn shake_hands(
    stream: TcpStream,
    certificate: &Certificate,
    worker: &Worker,
) -> io::Result<Option<(Stream<TcpStream>, bool)>> {
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => return Ok(None),
        _ if first == [HANDSHAKE] => {}
        _ => {
            let failure = Failure::new(Kind::MalformedRequest, "this port speaks TLS: use https://");
            say(stream, &refusal(&failure, &worker.next_request_id())).await;
            return Ok(None);
        }
    }
    let stream = TlsAcceptor::from(certificate.server.clone()).accept(stream).await?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Some((Stream::Tls(Box::new(stream.into())), is_http2)))
}
