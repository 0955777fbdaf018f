//! HTTP/1.1 on the bare socket, for both ends: messages as they are on the wire, and upstreams that record them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{KEY, Raw};

/// A fuse: what takes so long never comes.
const FUSE: Duration = Duration::from_secs(30);

/// Waits for what must come.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(FUSE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// A message as it was on the wire.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// With the empty line.
    pub head: Vec<u8>,
    /// With its chunks' sizes, where it was chunked.
    pub body: Vec<u8>,
}

impl Message {
    pub fn head(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }

    pub fn body(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The request line or the status line.
    pub fn line(&self) -> String {
        self.head().lines().next().unwrap_or_default().to_owned()
    }

    pub fn status(&self) -> u16 {
        self.line().split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// The values of a header (named in lower case), in order.
    pub fn values(&self, name: &str) -> Vec<String> {
        let head = self.head();
        let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.values(name).is_empty()
    }
}

/// `METHOD target HTTP/1.1` with `Host`, the usual proxy key and further header lines; no body.
pub fn request(line: &str, fields: &[&str]) -> String {
    let mut text = format!("{line} HTTP/1.1\r\nhost: gateway.test\r\nauthorization: Bearer {KEY}\r\n");
    for field in fields {
        text.push_str(field);
        text.push_str("\r\n");
    }
    text + "\r\n"
}

impl Raw {
    /// The next head, byte by byte so that nothing behind it is taken; `None` at the end of the stream.
    pub async fn next_head(&mut self) -> Option<Vec<u8>> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon("a head", self.0.read_u8()).await.ok()?);
        }
        Some(head)
    }

    /// The next message with the body that its head announces; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Message> {
        let mut message = Message { head: self.next_head().await?, body: Vec::new() };
        if message.values("transfer-encoding").iter().any(|coding| coding.ends_with("chunked")) {
            let is_last = |body: &[u8]| body.starts_with(b"0\r\n") || body.windows(5).any(|w| w == b"\r\n0\r\n");
            while !(message.body.ends_with(b"\r\n\r\n") && is_last(&message.body)) {
                message.body.push(soon("a chunk", self.0.read_u8()).await.ok()?);
            }
        } else if let Some(length) = message.values("content-length").first() {
            message.body = vec![0; length.parse().expect("a length")];
            soon("a body", self.0.read_exact(&mut message.body)).await.ok()?;
        }
        Some(message)
    }

    /// The reply to what was written before; fails when the gateway closes instead.
    pub async fn reply(&mut self) -> Message {
        self.next().await.expect("a reply, but the gateway closed")
    }

    /// The head of a reply that has no body whatever its head says.
    pub async fn bare_reply(&mut self) -> Message {
        Message { head: self.next_head().await.expect("a reply, but the gateway closed"), body: Vec::new() }
    }

    pub async fn ask(&mut self, line: &str, fields: &[&str]) -> Message {
        self.write(request(line, fields)).await;
        self.reply().await
    }

    /// Waits for the peer's close and fails if it writes before; a reset counts as a close.
    pub async fn closed(&mut self) {
        let rest = soon("the connection's end", self.read_to_close()).await;
        assert_eq!(rest, "", "nothing more was to come");
    }
}

/// An upstream on the bare socket.
pub struct RawUpstream {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    recorded: Arc<Mutex<Vec<Message>>>,
    count: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl RawUpstream {
    /// Calls `serve` for every connection, counted from 0; when that returns, the connection is closed.
    pub async fn start<F, R>(serve: F) -> Self
    where
        F: Fn(Raw, usize) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::start_recording(move |raw, number, _| serve(raw, number)).await
    }

    /// Answers every request with these bytes, as they are, and records what it was asked.
    pub async fn answering(reply: impl Into<Vec<u8>>) -> Self {
        let reply = reply.into();
        Self::start_recording(move |mut raw, _, recorder| {
            let reply = reply.clone();
            async move {
                while let Some(message) = raw.next().await {
                    recorder.note(message);
                    if raw.0.write_all(&reply).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    pub async fn start_recording<F, R>(serve: F) -> Self
    where
        F: Fn(Raw, usize, Recorder) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let messages: Arc<Mutex<Vec<Message>>> = Arc::default();
        let (counter, count) = watch::channel(0);
        let recorder = Recorder { recorded: messages.clone(), counter: Arc::new(counter) };
        let connections = accepted.clone();
        let task = tokio::spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::Relaxed);
                let _ = stream.set_nodelay(true);
                serving.spawn(serve(Raw(stream), number, recorder.clone()));
            }
        });
        Self { address, accepted, recorded: messages, count, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// What was recorded so far.
    pub fn requests(&self) -> Vec<Message> {
        self.recorded.lock().expect("no test panics with the lock").clone()
    }

    pub fn last(&self) -> Message {
        self.requests().pop().expect("a request came")
    }

    /// Waits until so many messages have been recorded.
    pub async fn recorded(&self, count: usize) {
        let mut counted = self.count.clone();
        soon("a request at the upstream", counted.wait_for(|now| *now >= count)).await.expect("the upstream lives");
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where an upstream of a test notes what it saw.
#[derive(Clone)]
pub struct Recorder {
    recorded: Arc<Mutex<Vec<Message>>>,
    counter: Arc<watch::Sender<usize>>,
}

impl Recorder {
    pub fn note(&self, message: Message) {
        self.recorded.lock().expect("no test panics with the lock").push(message);
        self.counter.send_modify(|count| *count += 1);
    }
}
