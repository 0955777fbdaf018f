//! What one worker thread owns: its upstream connections, its view of the current generation, and its counters.
//!
//! Nothing here is shared with another worker, so nothing here locks. What workers do share is [`Shared`]: the current
//! generation, and the few numbers that limits need.

use std::cell::{Cell, RefCell};
use std::ops::{Deref, Range};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use arc_swap::ArcSwap;

use crate::exchange::capture::Captures;
use crate::exchange::sockets::Sockets;
use crate::exchange::view::View;
use crate::generation::watch::Wisher;
use crate::generation::{Generation, Status};
use crate::stats::{Asker, Registry, WorkerCounters};
use crate::telemetry::LineBuffer;
use crate::upstream::Upstream;

/// What all workers see.
pub struct Shared {
    pub current: ArcSwap<Generation>,
    /// What is loaded from where, and what is wrong; changes also where a bad file leaves the generation as it is.
    pub status: ArcSwap<Status>,
    pub stats: Arc<Registry>,
    /// Asks the statistics thread.
    pub asker: Asker,
    pub captures: Captures,
    /// Client connections, over all workers.
    pub connections: AtomicUsize,
    /// Exchanges between their head and their end, over all workers.
    pub in_flight: AtomicUsize,
    /// Bytes of request bodies that are held for inspection, over all workers.
    pub inspected_bytes: AtomicUsize,
    /// Bytes of WebSocket messages that have come in part or wait to be taken, over all workers.
    pub message_bytes: AtomicUsize,
    pub draining: AtomicBool,
    /// Asks for a rollback; absent where nothing watches.
    pub wisher: OnceLock<Wisher>,
    /// All generations that may still be alive.
    generations: Mutex<Vec<Weak<Generation>>>,
    /// Eight random hexadecimal digits that begin every request id of this process.
    pub request_id_prefix: String,
}

impl Shared {
    pub fn new(
        generation: Arc<Generation>,
        status: Status,
        registry: Arc<Registry>,
        asker: Asker,
    ) -> anyhow::Result<Self> {
        let mut prefix = [0_u8; 4];
        getrandom::fill(&mut prefix).map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
        Ok(Self {
            generations: Mutex::new(vec![Arc::downgrade(&generation)]),
            current: ArcSwap::new(generation),
            status: ArcSwap::from_pointee(status),
            stats: registry,
            asker,
            captures: Captures::default(),
            connections: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            inspected_bytes: AtomicUsize::new(0),
            message_bytes: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            wisher: OnceLock::new(),
            request_id_prefix: format!("{:08x}", u32::from_be_bytes(prefix)),
        })
    }

    /// Makes a generation the current one.
    pub fn swap(&self, generation: Arc<Generation>) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.retain(|generation| generation.strong_count() > 0);
        generations.push(Arc::downgrade(&generation));
        self.current.store(generation);
    }

    /// How many generations something still runs on.
    pub fn generations_alive(&self) -> usize {
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.iter().filter(|generation| generation.strong_count() > 0).count()
    }

    /// The request ids of one thread: workers count from 0, the acceptor comes behind them.
    pub fn request_ids(&self, thread: usize) -> RequestIds {
        RequestIds { common: RequestId::new(&self.request_id_prefix, thread), count: Cell::new(0) }
    }
}

/// One worker's own things.
pub struct Worker {
    pub shared: Arc<Shared>,
    pub index: usize,
    pub upstream: Rc<Upstream>,
    pub counters: Arc<WorkerCounters>,
    pub access_log: Option<LineBuffer>,
    /// Those that are open.
    pub sockets: Sockets,
    view: RefCell<Rc<View>>,
    request_ids: RequestIds,
    random: Cell<u64>,
}

/// Draws the request ids of one thread.
pub struct RequestIds {
    /// What they have in common; the count is filled in.
    common: RequestId,
    count: Cell<u64>,
}

impl RequestIds {
    pub fn next(&self) -> RequestId {
        let count = self.count.get();
        self.count.set(count + 1);
        let mut id = self.common;
        id.write_hex(10..20, count);
        id
    }
}

/// What names an exchange in logs and replies: unique in this process and, but for chance, beyond. 8 random
/// hexadecimal digits of the process, 2 of the thread, 10 of a count.
#[derive(Clone, Copy)]
pub struct RequestId([u8; 20]);

impl RequestId {
    fn new(prefix: &str, worker: usize) -> Self {
        let mut id = Self([b'0'; 20]);
        id.0[..8].copy_from_slice(prefix.as_bytes());
        id.write_hex(8..10, worker as u64);
        id
    }

    fn write_hex(&mut self, digits: Range<usize>, mut value: u64) {
        for digit in self.0[digits].iter_mut().rev() {
            *digit = b"0123456789abcdef"[(value & 0xf) as usize];
            value >>= 4;
        }
    }
}

impl Deref for RequestId {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits are UTF-8")
    }
}

impl Worker {
    pub fn new(shared: Arc<Shared>, index: usize, upstream: Rc<Upstream>, access_log: Option<LineBuffer>) -> Rc<Self> {
        let counters = shared.stats.worker(index);
        let view = View::new(shared.current.load_full(), &shared.stats, &counters, None);
        Rc::new(Self {
            request_ids: shared.request_ids(index),
            shared,
            index,
            upstream,
            counters,
            access_log,
            sockets: Sockets::default(),
            view: RefCell::new(Rc::new(view)),
            random: Cell::new(0x9e37_79b9_7f4a_7c15 ^ (index as u64 + 1)),
        })
    }

    /// The current generation; an exchange asks once and keeps the answer.
    pub fn view(&self) -> Rc<View> {
        let current = self.shared.current.load();
        let mut view = self.view.borrow_mut();
        if !Arc::ptr_eq(&current, &view.generation) {
            let next = View::new(Arc::clone(&current), &self.shared.stats, &self.counters, Some(&view));
            *view = Rc::new(next);
        }
        view.clone()
    }

    pub fn next_request_id(&self) -> RequestId {
        self.request_ids.next()
    }

    /// A number below `bound`, for spreading load only (xorshift).
    pub fn random_below(&self, bound: u64) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x % bound.max(1)
    }
}

/// A share of a budget of the whole process; given back when dropped.
pub struct Reservation {
    shared: Arc<Shared>,
    which: fn(&Shared) -> &AtomicUsize,
    bytes: usize,
}

impl Reservation {
    pub fn new(shared: &Arc<Shared>, which: fn(&Shared) -> &AtomicUsize) -> Self {
        Self { shared: shared.clone(), which, bytes: 0 }
    }

    /// False when all shares together are more than the budget now.
    pub fn grow(&mut self, bytes: usize, budget_bytes: usize) -> bool {
        self.bytes += bytes;
        (self.which)(&self.shared).fetch_add(bytes, Ordering::Relaxed) + bytes <= budget_bytes
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        (self.which)(&self.shared).fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Counts one while it lives.
pub struct Counted {
    shared: Arc<Shared>,
    which: fn(&Shared) -> &AtomicUsize,
}

impl Counted {
    /// `None` when `max` are counted already.
    pub fn new(shared: &Arc<Shared>, which: fn(&Shared) -> &AtomicUsize, max: usize) -> Option<Self> {
        if which(shared).fetch_add(1, Ordering::Relaxed) >= max {
            which(shared).fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self { shared: shared.clone(), which })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.which)(&self.shared).fetch_sub(1, Ordering::Relaxed);
    }
}
