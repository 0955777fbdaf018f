//! HTTP/1.1 or HTTP/2 with prior knowledge, told by the first bytes of a connection in the clear.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::connection::Connection;

/// The first bytes of HTTP/2 with prior knowledge (RFC 9113, section 3.4); no HTTP/1 method is `PRI`.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// How long to wait for the rest of a preface that arrives in pieces.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);

/// What is spoken on a connection in the clear; `None` where there is nothing to serve.
pub async fn is_http2(stream: &TcpStream, connection: &Connection, head_timeout: Duration) -> Option<bool> {
    tokio::select! {
        began = tokio::time::timeout(head_timeout, begins_with_preface(stream)) => began.ok()?.ok(),
        () = connection.asked() => {
            // What a client has sent before the gateway began to stop is still served.
            if !has_bytes(stream) {
                return None;
            }
            Some(matches!(tokio::time::timeout(head_timeout, begins_with_preface(stream)).await, Ok(Ok(true))))
        }
    }
}

fn has_bytes(stream: &TcpStream) -> bool {
    matches!(SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]), Ok(1..))
}

async fn begins_with_preface(stream: &TcpStream) -> io::Result<bool> {
    let mut bytes = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut bytes).await?;
        if count == 0 || !PREFACE.starts_with(&bytes[..count]) {
            return Ok(false);
        }
        if count == PREFACE.len() {
            return Ok(true);
        }
        // The socket stays readable, so there is no event for "one more byte".
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}
