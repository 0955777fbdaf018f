//! Relays a WebSocket's messages both ways, until one side or the gateway ends it.
//!
//! One task polls both directions. A message is taken from one side only when the other has room, so that a slow reader
//! slows the writer, and nothing lies here but one message each way. Text, binary and close pass as they came and in
//! order; ping and pong are between the gateway and each side. What every message says is noted on the way
//! ([`Observer`]); it is never changed.

mod boundary;
mod link;
mod observer;
mod parting;
mod peer;
mod pulse;

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

pub use self::observer::Observer;

use self::parting::{End, part};
use self::peer::Peer;
use self::pulse::{Beat, Pulse, Sign, Vitals};
use crate::config;
use crate::exchange::settle::Party;
use crate::exchange::sockets::{Listener, Notice};
use crate::exchange::view::View;
use crate::exchange::worker::Worker;
use crate::upstream::Tunnel;

/// A WebSocket whose upstream has accepted it; it runs once the client's connection has switched.
pub struct Accepted {
    pub worker: Rc<Worker>,
    /// The generation that it was opened on.
    pub view: Rc<View>,
    pub tunnel: Tunnel,
    pub observer: Observer,
    /// Of the proxy key, to see whether it still opens the channel.
    pub key_digest: [u8; 32],
}

impl Accepted {
    /// Relays to the end; `read_before` is what the client has sent already.
    pub async fn run<S>(self: Box<Self>, client: S, read_before: Bytes)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { worker, view, mut tunnel, mut observer, key_digest } = *self;
        let settings = view.generation.config.gateway.websocket.clone();
        // All that a socket needs of its generation; whoever stays for hours shall not keep the rest.
        drop(view);
        observer.open();
        let from_upstream = std::mem::take(&mut tunnel.read_before);
        let mut relay = Relay {
            client: Peer::new(client, read_before, Role::Server, &settings, &worker.shared),
            upstream: Peer::new(tunnel, from_upstream, Role::Client, &settings, &worker.shared),
            client_vitals: Vitals::default(),
            upstream_vitals: Vitals::default(),
            pulse: Pulse::new(&settings),
            listener: worker.sockets.listen(),
            observer,
            is_down_first: false,
        };
        let right = Right { worker: &worker, channel: relay.observer.channel(), key_digest };
        let end = match right.first_look() {
            Some(end) => end,
            None => poll_fn(|cx| relay.poll(cx, &right)).await,
        };
        // The listener stays until both have parted: a worker that stops waits for it.
        let Relay { client, upstream, mut observer, listener: _listener, .. } = relay;
        observer.closed(end.closing());
        let (to_client, to_upstream) = end.partings();
        let is_patient = end.is_patient();
        // In a box: a socket that is open has no use for the room that its end takes.
        let ending = futures_util::future::join(
            part(client, to_client, is_patient, |_| {}),
            part(upstream, to_upstream, is_patient, |message| observer.after_the_end(message)),
        );
        Box::pin(ending).await;
    }
}

struct Relay<S> {
    client: Peer<S>,
    upstream: Peer<Tunnel>,
    client_vitals: Vitals,
    upstream_vitals: Vitals,
    pulse: Pulse,
    listener: Listener,
    observer: Observer,
    is_down_first: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Relay<S> {
    fn poll(&mut self, cx: &mut Context<'_>, right: &Right<'_>) -> Poll<End> {
        if let Some(notice) = self.listener.heard(cx)
            && let Some(end) = right.look_again(notice)
        {
            return Poll::Ready(end);
        }
        // In turn, or one that never pauses would keep the other waiting: a task is given so much to read at a time.
        self.is_down_first = !self.is_down_first;
        let (up, down) = if self.is_down_first {
            let down = self.pump_down(cx);
            (if down.is_over() { Pumped::Held } else { self.pump_up(cx) }, down)
        } else {
            let up = self.pump_up(cx);
            let down = if up.is_over() { Pumped::Held } else { self.pump_down(cx) };
            (up, down)
        };
        let (is_up_waiting, is_down_waiting) = match (up, down) {
            (Pumped::Over(end), _) | (_, Pumped::Over(end)) => return Poll::Ready(end),
            (Pumped::Broken, Pumped::Broken) => return Poll::Ready(End::Vanished(Party::Upstream)),
            // A side that takes nothing more may have said something before it went.
            (Pumped::Broken, _) => match self.pump_down(cx) {
                Pumped::Over(end) => return Poll::Ready(end),
                _ => (false, true),
            },
            (_, Pumped::Broken) => match self.pump_up(cx) {
                Pumped::Over(end) => return Poll::Ready(end),
                _ => (true, false),
            },
            (up, down) => (matches!(up, Pumped::Waiting), matches!(down, Pumped::Waiting)),
        };
        while let Poll::Ready(beat) = self.pulse.poll(cx, self.observer.messages()) {
            if beat == Beat::Idle {
                let why = "no message has passed for the idle timeout";
                return Poll::Ready(End::Ended { code: CloseCode::Away, why, is_patient: false });
            }
            // A side that the gateway does not read, since the other takes nothing, need not show that it is there.
            for (side, is_waiting) in [(Party::Client, is_up_waiting), (Party::Upstream, is_down_waiting)] {
                let is_stuck = if side == Party::Client { self.client.is_stuck() } else { self.upstream.is_stuck() };
                if is_waiting && is_stuck {
                    let why = "a message that was begun does not come on";
                    return Poll::Ready(End::Broke(side, CloseCode::Policy, why));
                }
            }
            if is_up_waiting && ask(&mut self.client, &mut self.client_vitals, cx) == Sign::Gone {
                return Poll::Ready(End::Vanished(Party::Client));
            }
            if is_down_waiting && ask(&mut self.upstream, &mut self.upstream_vitals, cx) == Sign::Gone {
                return Poll::Ready(End::Vanished(Party::Upstream));
            }
        }
        Poll::Pending
    }

    fn pump_up(&mut self, cx: &mut Context<'_>) -> Pumped {
        let Self { client, upstream, observer, .. } = self;
        pump(client, upstream, Party::Client, cx, |message| observer.from_client(message))
    }

    fn pump_down(&mut self, cx: &mut Context<'_>) -> Pumped {
        let Self { client, upstream, observer, .. } = self;
        pump(upstream, client, Party::Upstream, cx, |message| observer.from_upstream(message))
    }
}

/// How far one direction came.
enum Pumped {
    /// The source has nothing more for now, and all is on its way.
    Waiting,
    /// The destination takes no more for now.
    Held,
    /// The destination takes nothing ever more.
    Broken,
    Over(End),
}

impl Pumped {
    fn is_over(&self) -> bool {
        matches!(self, Self::Over(_))
    }
}

/// Passes messages on while there are any and the other side has room.
fn pump<A, B>(
    from: &mut Peer<A>,
    to: &mut Peer<B>,
    side: Party,
    cx: &mut Context<'_>,
    mut note: impl FnMut(&Message),
) -> Pumped
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match to.poll_ready(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Pumped::Broken,
            Poll::Pending => return Pumped::Held,
        }
        let message = match from.poll_message(cx) {
            Poll::Ready(Ok(Message::Close(frame))) => return Pumped::Over(End::of_close(frame, side)),
            Poll::Ready(Ok(message)) => message,
            Poll::Ready(Err(error)) => return Pumped::Over(End::of(&error, side, from.is_over_budget())),
            Poll::Pending => {
                return match to.poll_flush(cx) {
                    Poll::Ready(Ok(())) => Pumped::Waiting,
                    Poll::Ready(Err(_)) => Pumped::Broken,
                    Poll::Pending => Pumped::Held,
                };
            }
        };
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            note(&message);
            let held = from.take_reservation();
            if to.give(message, held, cx).is_err() {
                return Pumped::Broken;
            }
        }
    }
}

/// Looks whether a side is still there, and asks it where it is silent.
fn ask<S>(peer: &mut Peer<S>, vitals: &mut Vitals, cx: &Context<'_>) -> Sign
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let sign = vitals.look(peer.was_alive());
    // A side that takes nothing would not get the ping either.
    if sign == Sign::Silent && peer.poll_ready(cx).is_ready() {
        let _ = peer.give(Message::Ping(Bytes::new()), None, cx);
        let _ = peer.poll_flush(cx);
    }
    sign
}

/// What a socket needs to be allowed to go on.
struct Right<'a> {
    worker: &'a Worker,
    channel: String,
    key_digest: [u8; 32],
}

impl Right<'_> {
    /// What was said before there was anybody to hear it.
    fn first_look(&self) -> Option<End> {
        let notice =
            if self.worker.shared.draining.load(Ordering::Relaxed) { Notice::Stopping } else { Notice::Swapped };
        self.look_again(notice)
    }

    fn look_again(&self, notice: Notice) -> Option<End> {
        if notice == Notice::Stopping {
            return Some(End::Ended { code: CloseCode::Away, why: "the gateway stops", is_patient: true });
        }
        let generation = self.worker.shared.current.load();
        let config::Config { gateway, channels, keys } = &generation.config;
        if !gateway.websocket.close_when_disabled {
            return None;
        }
        let key = keys.by_digest.get(&self.key_digest);
        let is_key_active = key.is_some_and(|key| key.active && key.channels.contains(&self.channel));
        let is_channel_active = channels.get(&self.channel).is_some_and(|channel| channel.active);
        let why = match (is_key_active, is_channel_active) {
            (true, true) => return None,
            (false, _) => "the proxy key is disabled",
            (true, false) => "the channel is disabled",
        };
        Some(End::Ended { code: CloseCode::Policy, why, is_patient: false })
    }
}
