//! Upstreams written as closures: what a test's provider answers stands in the test.

use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Collected, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// An error makes hyper break the connection off.
pub type Body = BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Serves until dropped, on the test's runtime.
pub struct Upstream {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Upstream {
    pub async fn start<F, R>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let _ = stream.set_nodelay(true);
                let answer = answer.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let reply = answer(request);
                        async move { Ok::<_, Infallible>(reply.await) }
                    });
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, accepted, task }
    }

    /// Answers 200 with what it was asked: method, target, headers (as `name: value` lines), an empty line, the body.
    pub async fn echo() -> Self {
        Self::start(|request| async move {
            let (parts, body) = request.into_parts();
            let mut text = format!("{} {}\n", parts.method, parts.uri);
            for (name, value) in &parts.headers {
                writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()))
                    .expect("a String takes everything");
            }
            text.push('\n');
            let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
            let mut bytes = text.into_bytes();
            bytes.extend_from_slice(&body);
            reply(200, bytes)
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

pub fn reply(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    Response::builder().status(status).body(whole(body)).expect("a valid status")
}

/// A body that the test feeds: frames, or an error that breaks it off; it ends when the sender is dropped.
pub fn stream() -> (UnboundedSender<Result<Frame<Bytes>, std::io::Error>>, Body) {
    let (sender, mut receiver): (_, UnboundedReceiver<Result<Frame<Bytes>, std::io::Error>>) = unbounded_channel();
    let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (sender, BodyExt::boxed(StreamBody::new(frames).map_err(Into::into)))
}
