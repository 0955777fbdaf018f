//! One of a relay's two ends: tungstenite's protocol over a stream, polled by one task for both directions.
//!
//! tungstenite's own tokio wrapper keeps wakers for a reading and a writing task; here there is one, so its core is
//! driven directly. Memory is bounded by what the peer is allowed to have under way: bytes of a message that is not
//! complete, or not written yet, count towards a budget of the whole process, and buffers that a large message has grown
//! are replaced as soon as nothing is in them.

use std::io::{self, Read, Write};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::boundary::Boundary;
use crate::config;
use crate::exchange::worker::{Reservation, Shared};

/// The library's default is 32 times as much, and allocated before anything comes.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Small messages that come together leave together, up to here.
const WRITE_BUFFER_BYTES: usize = 16 << 10;
/// Buffers that have held more are not kept.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// What a peer may have under way outside the budget: an atomic operation for each small message would cost more than
/// the bound is worth.
const UNBUDGETED_BYTES: usize = 64 << 10;
/// The budget is taken in steps of this size.
const BUDGET_STEP_BYTES: usize = 256 << 10;

pub type Result<T> = std::result::Result<T, Error>;

pub struct Peer<S> {
    context: WebSocketContext,
    role: Role,
    link: Link<S>,
    /// Something may be written that is not on its way yet.
    is_unflushed: bool,
    /// The stream takes no more for now.
    is_blocked: bool,
    /// A buffer has held more than is to be kept.
    is_swollen: bool,
    /// For what has been given to this peer and not been taken by its stream.
    outgoing: Option<Reservation>,
}

/// The stream as tungstenite sees it, and what passes through it.
struct Link<S> {
    stream: S,
    waker: Waker,
    intake: Intake,
    /// Something came.
    is_heard: bool,
    /// Something was taken, after a wait.
    is_moving: bool,
    is_blocked: bool,
}

/// What has come and is not complete.
struct Intake {
    boundary: Boundary,
    shared: Arc<Shared>,
    budget_bytes: usize,
    reservation: Option<Reservation>,
    is_over_budget: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// `read_before` is what has come of the WebSocket already.
    pub fn new(stream: S, read_before: Bytes, role: Role, settings: &config::WebSocket, shared: &Arc<Shared>) -> Self {
        let mut intake = Intake {
            boundary: Boundary::default(),
            shared: shared.clone(),
            budget_bytes: settings.message_budget_bytes,
            reservation: None,
            is_over_budget: false,
        };
        intake.take(&read_before);
        let context = WebSocketContext::from_partially_read(read_before.into(), role, Some(configured(settings)));
        let link =
            Link { stream, waker: Waker::noop().clone(), intake, is_heard: true, is_moving: false, is_blocked: false };
        Self { context, role, link, is_unflushed: false, is_blocked: false, is_swollen: false, outgoing: None }
    }

    /// The next message, control frames included; pings are answered by the way.
    pub fn poll_message(&mut self, cx: &Context<'_>) -> Poll<Result<Message>> {
        self.link.watch(cx);
        match self.context.read(&mut self.link) {
            Ok(message) => {
                self.is_swollen |= message.len() > KEPT_BYTES_MAX;
                // The answer to it is queued.
                self.is_unflushed |= message.is_close();
                Poll::Ready(Ok(message))
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.slim();
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Ready when another message may be given.
    pub fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<Result<()>> {
        if self.is_blocked { self.poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Takes a message; it is on its way once [`Self::poll_flush`] is ready. `held` is its share of the budget.
    pub fn give(&mut self, message: Message, held: Option<Reservation>, cx: &Context<'_>) -> Result<()> {
        self.link.watch(cx);
        self.is_swollen |= message.len() > KEPT_BYTES_MAX;
        if held.is_some() {
            self.outgoing = held;
        }
        self.is_unflushed = true;
        match self.context.write(&mut self.link, message) {
            // It was taken, and waits in the buffer.
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_blocked = true;
                Ok(())
            }
            other => other,
        }
    }

    /// Queues a close frame, behind everything given before.
    pub fn close(&mut self, frame: Option<CloseFrame>, cx: &Context<'_>) {
        self.link.watch(cx);
        self.is_unflushed = true;
        // What goes wrong shows when the rest is flushed.
        let _ = self.context.close(&mut self.link, frame);
    }

    pub fn poll_flush(&mut self, cx: &Context<'_>) -> Poll<Result<()>> {
        if !self.is_unflushed {
            return Poll::Ready(Ok(()));
        }
        self.link.watch(cx);
        match self.context.flush(&mut self.link) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_blocked = true;
                Poll::Pending
            }
            flushed => {
                (self.is_unflushed, self.is_blocked, self.outgoing) = (false, false, None);
                Poll::Ready(flushed)
            }
        }
    }

    /// Waits until this peer's answer to our close frame, or its end, has come; messages are thrown away.
    pub fn poll_closed(&mut self, cx: &Context<'_>) -> Poll<()> {
        if let Poll::Ready(Err(_)) = self.poll_flush(cx) {
            return Poll::Ready(());
        }
        loop {
            match ready!(self.poll_message(cx)) {
                Ok(Message::Close(_)) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    }

    /// Ends the stream: what is queued goes out, then our side is closed, then what still comes is thrown away until the
    /// peer closes too. Closing under a peer that sends would reset the connection, and take the close frame with it.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_flush(cx).is_pending() {
            return Poll::Pending;
        }
        if ready!(Pin::new(&mut self.link.stream).poll_shutdown(cx)).is_err() {
            return Poll::Ready(());
        }
        let mut bytes = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut self.link.stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }

    /// The share of the budget of the message that has just come, for whoever it is given to.
    pub fn take_reservation(&mut self) -> Option<Reservation> {
        // What has come of the next one is within what goes unbudgeted.
        self.link.intake.reservation.take()
    }

    pub fn is_over_budget(&self) -> bool {
        self.link.intake.is_over_budget
    }

    /// Whether anything has come, or been taken after a wait, since this was last asked.
    pub fn was_alive(&mut self) -> bool {
        mem::take(&mut self.link.is_heard) | self.was_moving()
    }

    /// Whether anything has been taken after a wait, since this was last asked.
    pub fn was_moving(&mut self) -> bool {
        mem::take(&mut self.link.is_moving)
    }

    /// Lets large buffers go. tungstenite has no other way than to begin anew, which is possible between messages, when
    /// all that was given is on its way.
    fn slim(&mut self) {
        // A pong that is not on its way yet shows only in the link.
        let is_flushed = !self.is_unflushed && !self.link.is_blocked;
        if !self.is_swollen || !is_flushed || !self.link.intake.boundary.is_clear() {
            return;
        }
        // While the closing handshake runs, the context knows how far it is.
        if !self.context.can_read() || !self.context.can_write() {
            return;
        }
        self.context = WebSocketContext::new(self.role, Some(*self.context.get_config()));
        self.is_swollen = false;
    }
}

fn configured(settings: &config::WebSocket) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        // A message is given only when there is room in the buffer, and may then exceed it.
        .max_write_buffer_size(settings.message_bytes_max + 2 * WRITE_BUFFER_BYTES)
        .max_message_size(Some(settings.message_bytes_max))
        .max_frame_size(Some(settings.message_bytes_max))
}

impl Intake {
    fn take(&mut self, bytes: &[u8]) {
        self.boundary.pass(bytes);
        let held = usize::try_from(self.boundary.incomplete_bytes()).unwrap_or(usize::MAX);
        if held <= UNBUDGETED_BYTES {
            return;
        }
        let shared = &self.shared;
        let reservation =
            self.reservation.get_or_insert_with(|| Reservation::new(shared, |shared| &shared.message_bytes));
        if held > reservation.bytes() {
            let missing = (held - reservation.bytes()).next_multiple_of(BUDGET_STEP_BYTES);
            self.is_over_budget |= !reservation.grow(missing, self.budget_bytes);
        }
    }
}

impl<S> Link<S> {
    fn watch(&mut self, cx: &Context<'_>) {
        if !self.waker.will_wake(cx.waker()) {
            self.waker.clone_from(cx.waker());
        }
    }
}

impl<S: AsyncRead + Unpin> Read for Link<S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.intake.is_over_budget {
            return Err(io::Error::other("the budget for messages is spent"));
        }
        let mut buffer = ReadBuf::new(bytes);
        match Pin::new(&mut self.stream).poll_read(&mut Context::from_waker(&self.waker), &mut buffer) {
            Poll::Ready(Ok(())) => {
                let read = buffer.filled();
                self.is_heard |= !read.is_empty();
                self.intake.take(read);
                Ok(read.len())
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S: AsyncWrite + Unpin> Write for Link<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = Pin::new(&mut self.stream).poll_write(&mut Context::from_waker(&self.waker), bytes);
        match written {
            Poll::Ready(written) => {
                self.is_moving |= mem::take(&mut self.is_blocked);
                written
            }
            Poll::Pending => {
                self.is_blocked = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match Pin::new(&mut self.stream).poll_flush(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(flushed) => {
                self.is_moving |= mem::take(&mut self.is_blocked);
                flushed
            }
            Poll::Pending => {
                self.is_blocked = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_tungstenite::tungstenite::protocol::WebSocket;

    use super::*;
    use crate::generation::{Generation, Status};

    fn shared() -> Arc<Shared> {
        let config = config::Config {
            gateway: config::Gateway::default(),
            channels: indexmap::IndexMap::new(),
            keys: config::Keys::default(),
        };
        let generation = Generation { number: 1, config, channels: indexmap::IndexMap::new() };
        Arc::new(Shared::new(Arc::new(generation), Status::default(), 1).unwrap())
    }

    fn peer(stream: DuplexStream, shared: &Arc<Shared>) -> Peer<DuplexStream> {
        Peer::new(stream, Bytes::new(), Role::Server, &config::WebSocket::default(), shared)
    }

    /// A client's messages as bytes.
    fn bytes_of(messages: &[Message]) -> Vec<u8> {
        let mut client = WebSocket::from_raw_socket(io::Cursor::new(Vec::new()), Role::Client, None);
        for message in messages {
            client.send(message.clone()).unwrap();
        }
        client.into_inner().into_inner()
    }

    async fn next(peer: &mut Peer<DuplexStream>) -> Message {
        poll_fn(|cx| peer.poll_message(cx)).await.unwrap()
    }

    async fn nothing_comes(peer: &mut Peer<DuplexStream>) -> bool {
        poll_fn(|cx| Poll::Ready(peer.poll_message(cx).is_pending())).await
    }

    #[tokio::test]
    async fn a_buffer_that_a_large_message_has_grown_is_let_go_between_messages_only() {
        let (mut client, stream) = tokio::io::duplex(8 << 20);
        let shared = shared();
        let mut peer = peer(stream, &shared);
        let large = Message::binary(vec![7; 1 << 20]);
        let bytes = bytes_of(&[large.clone(), Message::text("next")]);
        // The next message has begun when the large one is complete.
        client.write_all(&bytes[..bytes.len() - 2]).await.unwrap();
        assert!(next(&mut peer).await == large);
        assert!(nothing_comes(&mut peer).await);
        assert!(peer.is_swollen, "a piece of a message is in it");
        client.write_all(&bytes[bytes.len() - 2..]).await.unwrap();
        assert_eq!(next(&mut peer).await, Message::text("next"));
        assert!(nothing_comes(&mut peer).await);
        assert!(!peer.is_swollen);
        client.write_all(&bytes_of(&[Message::text("after")])).await.unwrap();
        assert_eq!(next(&mut peer).await, Message::text("after"));
    }

    #[tokio::test]
    async fn the_budget_is_held_until_the_other_side_has_taken_the_message() {
        let held = |shared: &Shared| shared.message_bytes.load(std::sync::atomic::Ordering::Relaxed);
        let (mut client, stream) = tokio::io::duplex(8 << 20);
        let (mut reader, blocked) = tokio::io::duplex(1 << 10);
        let shared = shared();
        let (mut from, mut to) = (peer(stream, &shared), peer(blocked, &shared));
        client.write_all(&bytes_of(&[Message::binary(vec![7; 1 << 20])])).await.unwrap();
        let message = next(&mut from).await;
        assert!(held(&shared) >= 1 << 20);
        let mut reservation = from.take_reservation();
        poll_fn(|cx| Poll::Ready(to.give(message.clone(), reservation.take(), cx))).await.unwrap();
        assert!(held(&shared) >= 1 << 20, "nobody has taken it");
        let flushed = async {
            poll_fn(|cx| to.poll_flush(cx)).await.unwrap();
            drop(to);
        };
        let mut all = Vec::new();
        let ((), read) = tokio::join!(flushed, reader.read_to_end(&mut all));
        assert!(read.unwrap() > 1 << 20);
        assert_eq!(held(&shared), 0);
    }

    proptest! {
        #[test]
        fn strangers_bytes_end_in_messages_or_in_an_error(
            bytes in prop::collection::vec(
                prop_oneof![any::<u8>(), Just(0x81), Just(0x01), Just(0x80), Just(0x88), Just(0x89), Just(0xfe), Just(0xff)],
                0..600,
            ),
            is_client in any::<bool>(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (mut stranger, stream) = tokio::io::duplex(64 << 10);
                let role = if is_client { Role::Server } else { Role::Client };
                let mut peer = Peer::new(stream, Bytes::new(), role, &config::WebSocket::default(), &shared());
                stranger.write_all(&bytes).await.unwrap();
                drop(stranger);
                // The end of the stream is one.
                let error = poll_fn(|cx| {
                    loop {
                        match ready!(peer.poll_message(cx)) {
                            Ok(Message::Close(_)) => return Poll::Ready(None),
                            Ok(message) => assert!(message.len() <= bytes.len()),
                            Err(error) => return Poll::Ready(Some(error)),
                        }
                    }
                })
                .await;
                assert!(!matches!(error, Some(Error::AlreadyClosed | Error::WriteBufferFull(_))), "{error:?}");
                poll_fn(|cx| peer.poll_end(cx)).await;
            });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_message_comes_out_whole_however_its_bytes_arrive(
            sizes in prop::collection::vec(prop_oneof![0..300_usize, 60_000..70_000_usize, 100_000..200_000_usize], 1..8),
            cuts in prop::collection::vec(1..90_000_usize, 1..8),
        ) {
            let messages: Vec<_> = sizes
                .iter()
                .enumerate()
                .map(|(index, size)| {
                    let letter = b'a' + index as u8;
                    if size % 2 == 0 {
                        Message::binary(vec![letter; *size])
                    } else {
                        Message::text(String::from_utf8(vec![letter; *size]).unwrap())
                    }
                })
                .collect();
            let bytes = bytes_of(&messages);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (mut client, stream) = tokio::io::duplex(4 << 20);
                let mut peer = peer(stream, &shared());
                let mut heard = Vec::new();
                let mut rest = &bytes[..];
                for cut in cuts.iter().cycle() {
                    let (piece, after) = rest.split_at((*cut).min(rest.len()));
                    client.write_all(piece).await.unwrap();
                    rest = after;
                    // A task that never yields is told that there is nothing to read.
                    tokio::task::yield_now().await;
                    poll_fn(|cx| {
                        while let Poll::Ready(message) = peer.poll_message(cx) {
                            heard.push(message.unwrap());
                            peer.take_reservation();
                        }
                        Poll::Ready(())
                    })
                    .await;
                    if rest.is_empty() {
                        break;
                    }
                }
                assert!(heard == messages, "{} of {}", heard.len(), messages.len());
            });
        }
    }
}
