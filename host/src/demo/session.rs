//! One WebSocket after its handshake: what is heard goes to a [`Protocol`], what it answers leaves at the demo's pace.
//!
//! A protocol decides and does no I/O, so a reply can be taken back while it is being sent. Nobody is waited for without
//! end: a client that takes nothing, or that has nothing to say for long, loses its socket. While much is still to be
//! sent, nothing more is read, so that what is held for one client stays within bounds.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::reply::PAUSE;

/// Larger than a minute of sound.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Beyond so many messages to be sent, none is read.
const WAITING_MAX: usize = 256;
/// For one message to be taken by the client's side.
const SEND_MAX: Duration = Duration::from_secs(10);
/// Without a message, a ping or a pong.
const SILENCE_MAX: Duration = Duration::from_mins(2);
/// For the other half of a closing handshake.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// For the rest of what a client sends that has lost its socket.
const REST_MAX: Duration = Duration::from_secs(1);
/// Of a close frame (RFC 6455, section 5.5: 125 bytes, of which the code takes two).
const REASON_BYTES_MAX: usize = 123;

/// What is said on a socket, and nothing of how it gets there.
pub trait Protocol: Send {
    /// Before the client has said anything.
    fn open(&mut self, _outbox: &mut Outbox) {}
    fn text(&mut self, text: &str, outbox: &mut Outbox);
    fn binary(&mut self, bytes: &[u8], outbox: &mut Outbox);
}

/// What is still to be sent, in order.
#[derive(Default)]
pub struct Outbox {
    waiting: VecDeque<Item>,
}

struct Item {
    message: Message,
    /// One of a reply's pieces: behind the one before it is a pause.
    is_piece: bool,
}

impl Outbox {
    /// JSON as a text message.
    pub fn say(&mut self, value: &Value) {
        self.put(Message::text(value.to_string()), false);
    }

    pub fn say_piece(&mut self, value: &Value) {
        self.put(Message::text(value.to_string()), true);
    }

    pub fn put(&mut self, message: Message, is_piece: bool) {
        self.waiting.push_back(Item { message, is_piece });
    }

    /// Ends the socket, behind what is still to be sent.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        let mut end = reason.len().min(REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let frame = CloseFrame { code, reason: reason[..end].to_owned().into() };
        self.put(Message::Close(Some(frame)), false);
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes back what has not been sent.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }

    /// When the next message may leave, if pieces may from `piece_from` on; a time that has passed means at once.
    fn due(&self, piece_from: Instant) -> Option<Instant> {
        self.waiting.front().map(|item| if item.is_piece { piece_from } else { Instant::now() })
    }
}

/// A socket whose handshake has been answered, but not yet sent.
pub struct Session {
    upgrade: OnUpgrade,
    protocol: Box<dyn Protocol>,
}

impl Session {
    pub fn new(upgrade: OnUpgrade, protocol: Box<dyn Protocol>) -> Self {
        Self { upgrade, protocol }
    }

    /// Until either side ends it. What breaks a socket is its client's business.
    pub async fn run(mut self) {
        let Ok(upgraded) = self.upgrade.await else { return };
        let config = WebSocketConfig::default()
            .read_buffer_size(16 << 10)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let io = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        // Without waiting for the client's part, what it has not read yet might be lost, and the reason with it.
        match converse(&mut socket, &mut *self.protocol).await {
            Some(End::Closed) => {
                let _ = timeout(CLOSE_MAX, async { while let Some(Ok(_)) = socket.next().await {} }).await;
            }
            Some(End::Faulty) => {
                let _ = timeout(REST_MAX, tokio::io::copy(socket.get_mut(), &mut tokio::io::sink())).await;
            }
            None => {}
        }
    }
}

/// A close frame was sent or received.
enum End {
    Closed,
    /// Behind a fault in the framing: the rest of what the client sends cannot be told apart any more.
    Faulty,
}

/// Up to the first close frame in either direction; none if the connection broke before.
async fn converse<S>(socket: &mut WebSocketStream<S>, protocol: &mut dyn Protocol) -> Option<End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut outbox = Outbox::default();
    protocol.open(&mut outbox);
    let mut piece_from = Instant::now();
    let mut end = End::Closed;
    loop {
        let due = outbox.due(piece_from);
        let has_room = outbox.waiting.len() < WAITING_MAX;
        tokio::select! {
            // In this order, what answers a message has left before the next one is heard.
            biased;
            () = until(due) => {
                let Item { message, is_piece } = outbox.waiting.pop_front()?;
                let is_last = message.is_close();
                timeout(SEND_MAX, socket.send(message)).await.ok()?.ok()?;
                if is_last {
                    return Some(end);
                }
                if is_piece {
                    piece_from = Instant::now() + PAUSE;
                }
            }
            heard = socket.next(), if has_room => match heard? {
                Ok(Message::Text(text)) => protocol.text(&text, &mut outbox),
                Ok(Message::Binary(bytes)) => protocol.binary(&bytes, &mut outbox),
                Ok(Message::Close(_)) => return Some(End::Closed),
                Ok(_) => {}
                Err(error) => {
                    outbox.clear();
                    outbox.close(code_of(&error)?, &error.to_string());
                    end = End::Faulty;
                }
            },
            () = sleep(SILENCE_MAX), if due.is_none() => outbox.close(CloseCode::Away, "idle for too long"),
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        // A timer would take a millisecond even for what is due at once.
        Some(due) if due <= Instant::now() => {}
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// How a fault in the framing is answered; none where nobody is there to be answered.
fn code_of(error: &Error) -> Option<CloseCode> {
    match error {
        Error::Capacity(_) => Some(CloseCode::Size),
        Error::Utf8(_) => Some(CloseCode::Invalid),
        Error::Protocol(_) => Some(CloseCode::Protocol),
        _ => None,
    }
}
