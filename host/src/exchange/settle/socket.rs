//! A WebSocket's part of an exchange's record: its handshake, its messages while it is open, how it ended.

use http::Uri;
use serde::Serialize;

use super::served::Served;
use super::{Settle, micros};
use crate::exchange::worker::Counted;
use crate::stats::Outcome;

/// Who ended a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    Client,
    Upstream,
    Gateway,
}

/// How a WebSocket ended.
#[derive(Debug)]
pub struct Closing {
    pub by: Party,
    /// As it was said first; 1005 where none was given, 1006 where nothing was said (RFC 6455, section 7.4.1).
    pub code: u16,
    /// The gateway's reason: on whose account, and what.
    pub why: Option<(&'static str, &'static str)>,
    /// One side said goodbye.
    pub is_orderly: bool,
}

/// A WebSocket's part of the record.
pub struct Socket {
    /// Its place among the open ones.
    _open: Option<Counted>,
    pub opened_us: u64,
    pub messages_in: u64,
    pub messages_out: u64,
    pub bytes_in: u64,
    pub closing: Option<Closing>,
}

impl Settle {
    /// The client asks for a WebSocket.
    pub fn websocket(&mut self) {
        self.is_websocket = true;
        self.worker.counters.sockets.asked.add(1);
    }

    /// The WebSocket is open.
    pub fn opened(&mut self) {
        self.worker.counters.sockets.accepted.add(1);
        // The parsed one keeps the buffer alive that the whole request was read into.
        if let Ok(path) = Uri::try_from(self.uri.path()) {
            self.uri = path;
        }
        self.channel = self.channel.as_ref().map(Served::named);
        if let Some(channel) = &self.channel {
            channel.signals().note(self.first_byte.map(|at| at - self.started), false);
        }
        self.socket = Some(Box::new(Socket {
            _open: Counted::new(&self.worker.shared, |shared| &shared.stats.open_sockets, usize::MAX),
            opened_us: micros(self.started.elapsed()),
            messages_in: 0,
            messages_out: 0,
            bytes_in: 0,
            closing: None,
        }));
    }

    /// A WebSocket is open, and not over.
    pub fn is_open(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.closing.is_none())
    }

    /// A message of the client's has passed.
    pub fn message_in(&mut self, bytes: usize) {
        let counters = &self.worker.counters.sockets;
        counters.messages_in.add(1);
        counters.bytes_in.add(bytes as u64);
        if let Some(socket) = &mut self.socket {
            socket.messages_in += 1;
            socket.bytes_in += bytes as u64;
        }
    }

    /// A message of the upstream's has passed.
    pub fn message_out(&mut self, bytes: usize) {
        let counters = &self.worker.counters.sockets;
        counters.messages_out.add(1);
        counters.bytes_out.add(bytes as u64);
        self.bytes_out += bytes as u64;
        if let Some(socket) = &mut self.socket {
            socket.messages_out += 1;
        }
    }

    /// The WebSocket is over.
    pub fn closed(&mut self, closing: Closing) {
        self.outcome = match closing.by {
            _ if closing.is_orderly => Outcome::Complete,
            Party::Client => Outcome::ClientGone,
            Party::Upstream => Outcome::UpstreamBroken,
            Party::Gateway => Outcome::GatewayClosed,
        };
        self.worker.counters.sockets.closed(closing.code);
        if let Some(socket) = &mut self.socket {
            socket.closing = Some(closing);
        }
    }
}
