//! The demo upstream: both providers on one loopback port, for trying the gateway without a provider's key.
//!
//! It is strict where a provider is: a request counts only with the right path, the right upstream key in the right
//! place and no other credential beside it, and everything else gets the provider's own error body. What it answers is
//! made from the request alone (an echo, tokens counted from the text, vectors derived from it), so that the same
//! request always costs the same `usage`. The models `status-429` and `status-500` fail on demand.
//!
//! The providers' paths are disjoint, so one port serves both. It is no load generator: streamed replies and sockets
//! pause between their pieces, and every request body is read whole. Of the WebSockets it speaks bailian's tasks (speech
//! from text and text from speech), its realtime events, and Gemini Live; sound is bytes that can be predicted.

mod anthropic;
mod dashscope;
mod fault;
mod gemini;
mod inference;
mod live;
mod openai;
mod ranking;
mod realtime;
mod reply;
mod route;
mod session;
mod sockets;
mod sound;
mod tasks;
#[cfg(test)]
mod tests;
mod text;
mod uploads;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use self::sockets::Slot;
use self::tasks::Tasks;
use self::uploads::Uploads;

/// The upstream keys that the two emulated providers demand.
#[derive(Clone)]
pub struct Keys {
    pub bailian: String,
    pub gemini: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// What outlives a single request: the asynchronous tasks and the resumable uploads.
struct Upstream {
    keys: Keys,
    /// Where this upstream listens; an upload's reply names it, as the provider's names the provider.
    address: SocketAddr,
    tasks: Mutex<Tasks>,
    uploads: Mutex<Uploads>,
}

/// Serves until `shutdown` resolves, HTTP/1.1 and HTTP/2 with prior knowledge; open connections are then dropped.
///
/// The error is that of a listener which has no local address.
pub async fn serve(listener: TcpListener, keys: Keys, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let upstream = Arc::new(Upstream {
        keys,
        address: listener.local_addr()?,
        tasks: Mutex::default(),
        uploads: Mutex::default(),
    });
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&upstream)));
                }
                // Out of descriptors, mostly: an immediate retry would spin.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
        }
    }
}

/// A broken connection is its client's business: there is nobody here to tell.
async fn connection(stream: TcpStream, upstream: Arc<Upstream>) {
    let _ = stream.set_nodelay(true);
    let mut start = [0; 3];
    let prior_knowledge = matches!(stream.peek(&mut start).await, Ok(3)) && &start == b"PRI";
    let slot = Arc::new(Slot::default());
    let service = service_fn(|request| {
        let (upstream, slot) = (Arc::clone(&upstream), Arc::clone(&slot));
        async move { Ok::<_, std::convert::Infallible>(route::answer(&upstream, &slot, request).await) }
    });
    let io = TokioIo::new(stream);
    if prior_knowledge {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades().await;
        if let Some(session) = slot.take() {
            session.run().await;
        }
    }
}
