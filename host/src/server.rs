//! The listener and the workers: accepts, hands each connection to the worker with the fewest, stops in an orderly way.
//!
//! One thread accepts; every worker is a thread with a runtime of its own, on which a connection stays for its life.
//! The caller brings the listener and the commands, so that tests bind port 0 and stop without signals.

mod connection;
mod preface;
mod tls;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Limits;
use crate::error::{Failure, Kind};
use crate::exchange::sockets::Notice;
use crate::exchange::worker::{Counted, RequestId, Shared, Worker};
use crate::memory;
use crate::shutdown::{Command, Commands};
use crate::telemetry::LineWriter;
use crate::upstream::{self, Tls, Upstream};

use connection::Connection;

/// How long a client may take to read that there is no place for it.
const REFUSAL_TIME: Duration = Duration::from_secs(2);
/// Refusals under way at one time; beyond, connections are just closed.
const REFUSALS_MAX: usize = 256;
/// After an error of `accept` (too many open files), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections accepted after the order to stop: as many as the system may hold ready, and no endless rush.
const LAST_ACCEPTS_MAX: usize = 1024;

/// What a server is made of.
pub struct Parts {
    pub shared: Arc<Shared>,
    pub tls: Arc<Tls>,
    pub access_log: Option<LineWriter>,
    /// Changes with every new generation.
    pub swapped: watch::Receiver<u64>,
    /// Called on SIGHUP.
    pub reload: Box<dyn Fn() + Send>,
    pub workers: usize,
}

enum Message {
    Connection(TcpStream, IpAddr, Counted),
    /// Finish what is open, until then.
    Drain(Instant),
    /// End now.
    Abort,
}

/// The acceptor's view of a worker.
struct Seat {
    inbox: UnboundedSender<Message>,
    open: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

/// Serves until told to stop; returns when every worker has ended.
pub fn run(listener: TcpListener, parts: &Parts, commands: Commands) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    let (ended, endings) = unbounded_channel();
    let seats =
        (0..parts.workers).map(|index| seat(index, parts, ended.clone())).collect::<anyhow::Result<Vec<_>>>()?;
    drop(ended);
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(accept(listener, parts, &seats, commands, endings))?;
    for seat in seats {
        if seat.thread.join().is_err() {
            tracing::error!("a worker ended by a panic");
        }
    }
    Ok(())
}

async fn accept(
    listener: TcpListener,
    parts: &Parts,
    seats: &[Seat],
    mut commands: Commands,
    mut endings: UnboundedReceiver<()>,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let refusals = Rc::new(());
    let request_ids = parts.shared.request_ids(seats.len());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let gateway = &parts.shared.current.load().config.gateway;
                    match Counted::new(&parts.shared, |shared| &shared.connections, gateway.limits.connections_max) {
                        Some(place) => {
                            if let Ok(stream) = stream.into_std() {
                                seat_connection(seats, stream, peer.ip(), place);
                            }
                        }
                        // Under TLS a refusal would cost a handshake, on the thread that all others are waiting for.
                        None if gateway.tls.is_none() && Rc::strong_count(&refusals) <= REFUSALS_MAX => {
                            tokio::task::spawn_local(refuse(stream, request_ids.next(), refusals.clone()));
                        }
                        None => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            command = commands.recv() => match command {
                Some(Command::Reload) => {
                    (parts.reload)();
                    if let Some(access_log) = &parts.access_log {
                        access_log.reopen();
                    }
                }
                Some(Command::Stop) | None => break,
            },
        }
    }
    // Those that the system has accepted already may have sent a request.
    let listener = listener.into_std()?;
    for _ in 0..LAST_ACCEPTS_MAX {
        let Ok((stream, peer)) = listener.accept() else { break };
        let limits = &parts.shared.current.load().config.gateway.limits;
        if let Some(place) = Counted::new(&parts.shared, |shared| &shared.connections, limits.connections_max)
            && stream.set_nonblocking(true).is_ok()
        {
            seat_connection(seats, stream, peer.ip(), place);
        }
    }
    drop(listener);
    parts.shared.draining.store(true, Ordering::Relaxed);
    let drain = parts.shared.current.load().config.gateway.limits.drain;
    tracing::info!(drain_s = drain.as_secs(), in_flight = parts.shared.in_flight.load(Ordering::Relaxed), "stopping");
    let deadline = Instant::now() + drain;
    for seat in seats {
        let _ = seat.inbox.send(Message::Drain(deadline));
    }
    loop {
        tokio::select! {
            ending = endings.recv() => if ending.is_none() { return Ok(()) },
            Some(command) = commands.recv() => if command == Command::Stop {
                for seat in seats {
                    let _ = seat.inbox.send(Message::Abort);
                }
            },
        }
    }
}

/// A worker that has died has no open connections, and must get none.
fn quietest(seats: &[Seat]) -> Option<&Seat> {
    seats.iter().filter(|seat| !seat.inbox.is_closed()).min_by_key(|seat| seat.open.load(Ordering::Relaxed))
}

/// To the worker with the fewest open connections.
fn seat_connection(seats: &[Seat], stream: TcpStream, peer: IpAddr, place: Counted) {
    let Some(seat) = quietest(seats) else { return };
    seat.open.fetch_add(1, Ordering::Relaxed);
    let _ = seat.inbox.send(Message::Connection(stream, peer, place));
}

/// Says 503 to a connection for which there is no place.
async fn refuse(stream: tokio::net::TcpStream, request_id: RequestId, _place: Rc<()>) {
    let failure = Failure::new(Kind::TooManyConnections, "the gateway has as many connections as it may; try again");
    say(stream, &connection::refusal(&failure.retry_after(1), &request_id)).await;
}

/// Writes a reply to a connection on which nothing was read, and closes it.
async fn say(mut stream: tokio::net::TcpStream, reply: &[u8]) {
    let _ = tokio::time::timeout(REFUSAL_TIME, async {
        stream.write_all(reply).await?;
        stream.shutdown().await?;
        // Closing with unread bytes would reset the connection, and the reply with it.
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    })
    .await;
}

fn seat(index: usize, parts: &Parts, ended: UnboundedSender<()>) -> anyhow::Result<Seat> {
    let (inbox, messages) = unbounded_channel();
    let open = Arc::new(AtomicUsize::new(0));
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn({
        let (shared, tls, open) = (parts.shared.clone(), parts.tls.clone(), open.clone());
        let (swapped, access_log) = (parts.swapped.clone(), parts.access_log.as_ref().map(LineWriter::buffer));
        move || {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            let runtime = runtime.expect("a worker needs a runtime: the system has no file descriptors left");
            runtime.block_on(async {
                let worker = Worker::new(shared, index, Upstream::new(tls, upstream::Limits::default()), access_log);
                serve(worker, messages, swapped, open).await;
            });
            // Ends what the drain time did not suffice for.
            drop(runtime);
            drop(ended);
        }
    });
    Ok(Seat { inbox, open, thread: thread.context("a worker thread could not be started")? })
}

/// Open connections of one worker, for the sweep and for the drain.
type Open = Rc<RefCell<HashMap<u64, Rc<Connection>>>>;

/// A connection's place on its worker, given back however the connection ends.
struct Seated {
    id: u64,
    open: Open,
    count: Arc<AtomicUsize>,
    gone: UnboundedSender<()>,
    _place: Counted,
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.open.borrow_mut().remove(&self.id);
        self.count.fetch_sub(1, Ordering::Relaxed);
        let _ = self.gone.send(());
    }
}

async fn serve(
    worker: Rc<Worker>,
    mut messages: UnboundedReceiver<Message>,
    mut swapped: watch::Receiver<u64>,
    open_count: Arc<AtomicUsize>,
) {
    let open: Open = Rc::default();
    let mut next_id = 0_u64;
    let mut drain: Option<Instant> = None;
    let (gone, mut goings) = unbounded_channel::<()>();
    let mut last_sweep = Instant::now();
    loop {
        let limits = worker.view().generation.config.gateway.limits.clone();
        // Connections that come and go all the time must not put it off.
        let next_sweep = last_sweep + sweep_interval(&limits);
        let until = drain.map_or(next_sweep, |deadline| deadline.min(next_sweep));
        tokio::select! {
            message = messages.recv() => match message {
                Some(Message::Connection(stream, peer, place)) => {
                    let id = next_id;
                    next_id += 1;
                    let connection = Rc::new(Connection::new());
                    open.borrow_mut().insert(id, connection.clone());
                    let seated = Seated { id, open: open.clone(), count: open_count.clone(), gone: gone.clone(), _place: place };
                    let worker = worker.clone();
                    tokio::task::spawn_local(async move {
                        if let Some(switched) = connection::serve(worker, connection, stream, peer).await {
                            // In a task of its own: that of HTTP is large, and a WebSocket may stay for hours.
                            tokio::task::spawn_local(async move {
                                let _seated = seated;
                                switched.await;
                            });
                        }
                    });
                }
                Some(Message::Drain(deadline)) => {
                    drain = Some(deadline);
                    open.borrow().values().for_each(|connection| connection.finish());
                    worker.sockets.tell(Notice::Stopping);
                }
                Some(Message::Abort) | None => return,
            },
            // The view is made anew at the loop's start, so that an idle worker lets the old generation go.
            changed = swapped.changed() => {
                if changed.is_err() {
                    return;
                }
                worker.sockets.tell(Notice::Swapped);
            }
            Some(()) = goings.recv() => {}
            () = worker.sockets.ended(), if drain.is_some() => {}
            () = tokio::time::sleep_until(until) => {
                last_sweep = Instant::now();
                open.borrow().values().for_each(|connection| connection.sweep(&limits));
                memory::give_back();
            }
        }
        if let Some(deadline) = drain
            && ((open.borrow().is_empty() && worker.sockets.are_closed()) || Instant::now() >= deadline)
        {
            let left = open.borrow().len();
            if left > 0 || !worker.sockets.are_closed() {
                tracing::warn!(
                    worker = worker.index,
                    connections = left,
                    "the drain time is over; connections are cut"
                );
            }
            return;
        }
    }
}

/// Often enough that a limit is kept to a quarter of its length: one sweep notes the beginning, a later one the end.
fn sweep_interval(limits: &Limits) -> Duration {
    (limits.head_timeout.min(limits.keep_alive) / 8).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(open: usize) -> (Seat, UnboundedReceiver<Message>) {
        let (inbox, messages) = unbounded_channel();
        (Seat { inbox, open: Arc::new(AtomicUsize::new(open)), thread: std::thread::spawn(|| {}) }, messages)
    }

    #[test]
    fn connections_go_to_the_worker_with_the_fewest_that_still_lives() {
        let (seats, mut inboxes): (Vec<_>, Vec<_>) = [seat(3), seat(1), seat(2)].into_iter().unzip();
        let chosen = || quietest(&seats).map(|seat| seat.open.load(Ordering::Relaxed));
        assert_eq!(chosen(), Some(1));
        inboxes.remove(1);
        assert_eq!(chosen(), Some(2), "the one with the fewest has died");
        inboxes.clear();
        assert_eq!(chosen(), None);
    }
}
