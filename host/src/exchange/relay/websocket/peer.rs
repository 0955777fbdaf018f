//! One of a relay's two ends: tungstenite's protocol over a stream, polled by one task for both directions.
//!
//! tungstenite's own tokio wrapper keeps wakers for a reading and a writing task; here there is one, so its core is
//! driven directly. Memory is bounded by what the peer is allowed to have under way: bytes of a message that is not
//! complete, or not written yet, count towards a budget of the whole process; a long message goes out in fragments, so
//! that it is not copied whole; a side that takes nothing is owed few pongs; and buffers that a large message has grown
//! are replaced once nothing is in them.

use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::link::Link;
use crate::config;
use crate::exchange::worker::{Reservation, Shared};

/// The library's default is 32 times as much, and allocated before anything comes.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Small messages that come together leave together, up to here.
const WRITE_BUFFER_BYTES: usize = 16 << 10;
/// Longer messages go out in fragments (which RFC 6455, section 5.4, allows an intermediary), shorter ones as one frame.
/// tungstenite moves what is left in its buffer at every write, which for megabytes would hold the worker up.
const FRAME_BYTES_MAX: usize = 1 << 20;
const FRAGMENT_BYTES: usize = 256 << 10;
/// Pongs owed to a side that takes nothing; with more of them it is not read.
const PONGS_MAX: u32 = 64;
/// Buffers that have held more are not kept.
const KEPT_BYTES_MAX: usize = 64 << 10;
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
    /// Of a long message, what has not been framed yet.
    rest: Option<Rest>,
    /// Pings that have come since the stream last took all that was written.
    pongs_owed: u32,
}

/// A long message on its way.
struct Rest {
    bytes: Bytes,
    kind: Data,
    is_begun: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// `read_before` is what has come of the WebSocket already.
    pub fn new(stream: S, read_before: Bytes, role: Role, settings: &config::WebSocket, shared: &Arc<Shared>) -> Self {
        let link = Link::new(stream, &read_before, settings.message_budget_bytes, shared);
        let context = WebSocketContext::from_partially_read(read_before.into(), role, Some(configured(settings)));
        Self {
            context,
            role,
            link,
            is_unflushed: false,
            is_blocked: false,
            is_swollen: false,
            outgoing: None,
            rest: None,
            pongs_owed: 0,
        }
    }

    /// The next message, control frames included; pings are answered by the way.
    pub fn poll_message(&mut self, cx: &Context<'_>) -> Poll<Result<Message>> {
        self.link.watch(cx);
        if !self.link.is_blocked {
            self.pongs_owed = 0;
        }
        if self.pongs_owed > PONGS_MAX {
            self.is_unflushed = true;
            ready!(self.poll_flush(cx))?;
        }
        match self.context.read(&mut self.link) {
            Ok(message) => {
                self.is_swollen |= message.len() > KEPT_BYTES_MAX;
                self.pongs_owed += u32::from(message.is_ping());
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
        ready!(self.poll_frame(cx))?;
        if self.is_blocked { self.poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Takes a message; it is on its way once [`Self::poll_flush`] is ready. `held` is its share of the budget.
    pub fn give(&mut self, message: Message, held: Option<Reservation>, cx: &Context<'_>) -> Result<()> {
        self.is_swollen |= message.len() > KEPT_BYTES_MAX;
        if held.is_some() {
            self.outgoing = held;
        }
        let (bytes, kind) = match message {
            Message::Text(text) if text.len() > FRAME_BYTES_MAX => (text.into(), Data::Text),
            Message::Binary(bytes) if bytes.len() > FRAME_BYTES_MAX => (bytes, Data::Binary),
            message => return self.write(message, cx),
        };
        self.rest = Some(Rest { bytes, kind, is_begun: false });
        match self.poll_frame(cx) {
            Poll::Ready(framed) => framed,
            Poll::Pending => Ok(()),
        }
    }

    /// Frames what is left of a long message, as far as there is room.
    fn poll_frame(&mut self, cx: &Context<'_>) -> Poll<Result<()>> {
        while let Some(rest) = &mut self.rest {
            if self.is_blocked {
                ready!(self.poll_written(cx))?;
                continue;
            }
            let piece = rest.bytes.split_to(rest.bytes.len().min(FRAGMENT_BYTES));
            let is_last = rest.bytes.is_empty();
            let kind = if mem::replace(&mut rest.is_begun, true) { Data::Continue } else { rest.kind };
            if is_last {
                self.rest = None;
            }
            self.write(Message::Frame(Frame::message(piece, OpCode::Data(kind), is_last)), cx)?;
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, message: Message, cx: &Context<'_>) -> Result<()> {
        self.link.watch(cx);
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

    /// Queues a close frame, behind everything framed before; the rest of a long message is given up.
    pub fn close(&mut self, frame: Option<CloseFrame>, cx: &Context<'_>) {
        self.link.watch(cx);
        self.rest = None;
        self.is_unflushed = true;
        // What goes wrong shows when the rest is flushed.
        let _ = self.context.close(&mut self.link, frame);
    }

    pub fn poll_flush(&mut self, cx: &Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_frame(cx))?;
        ready!(self.poll_written(cx))?;
        self.outgoing = None;
        Poll::Ready(Ok(()))
    }

    /// Ready when all that has been framed is on its way.
    fn poll_written(&mut self, cx: &Context<'_>) -> Poll<Result<()>> {
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
                (self.is_unflushed, self.is_blocked) = (false, false);
                Poll::Ready(flushed)
            }
        }
    }

    /// Waits until this peer's answer to our close frame, or its end, has come.
    pub fn poll_closed(&mut self, cx: &Context<'_>, mut note: impl FnMut(&Message)) -> Poll<()> {
        if let Poll::Ready(Err(_)) = self.poll_flush(cx) {
            return Poll::Ready(());
        }
        loop {
            match ready!(self.poll_message(cx)) {
                Ok(Message::Close(_)) | Err(_) => return Poll::Ready(()),
                Ok(message) => {
                    note(&message);
                    self.take_reservation();
                }
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

    /// Whether, since this was last asked, a message that has begun has not come on: it would hold the budget for ever.
    pub fn is_stuck(&mut self) -> bool {
        self.link.intake.is_stuck()
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
        if !self.is_swollen || !is_flushed || self.rest.is_some() || !self.link.intake.boundary.is_clear() {
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

#[cfg(test)]
mod tests;
