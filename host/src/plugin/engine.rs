//! What all plugins share: the wasmtime engines, the clock that bounds calls, and the threads that compile and build.
//!
//! Workers only ever call instances. Compiling runs on a pool of low priority, building and dropping instances on one
//! loader thread. There are two wasmtime engines with the same settings: one allocates from a pool, fast; the other on
//! demand, for a component that is too large for the pool and for the time when the pool is empty.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::artifact::Cache;
use super::deployed::Deployed;
use super::instance::Instance;
use super::load::{self, LoadError, Version};
use super::role::Role;
use super::store::State;

/// How fine deadlines are measured.
const TICK: Duration = Duration::from_millis(5);
/// So many ticks without a call, and the ticking stops until the next: waking it costs a call a microsecond or two.
const QUIET_TICKS: u32 = 100;
/// Of a slot's memory, what is wiped instead of given back to the kernel when an instance goes.
const KEEP_RESIDENT_BYTES: usize = 1 << 20;
/// Core instances and tables per component: `wit-component` makes a main module, a shim and a fix-up.
const PARTS_A_COMPONENT: u32 = 4;
/// The lowest priority that still gets some time on a busy machine.
const COMPILER_NICENESS: i32 = 15;

#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Where compiled components are kept; none: they are compiled at every start.
    pub cache: Option<PathBuf>,
    /// Instances that the pool has room for; further ones are allocated on demand. Costs address space, not memory.
    pub pool_instances: u32,
    pub compile_threads: usize,
    /// Instances kept ready per plugin and channel. The number of workers is a good one: after a swap each wants one.
    pub spares: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(2, NonZeroUsize::get);
        Self { cache: None, pool_instances: 1000, compile_threads: cores.div_ceil(2), spares: cores.min(8) }
    }
}

/// One per process.
pub struct Engine {
    pooled: Option<Allocation>,
    on_demand: Allocation,
    cache: Option<Cache>,
    compilers: rayon::ThreadPool,
    spares: usize,
    started: Instant,
    loader: Loader,
    ticker: Ticker,
}

/// One of the two wasmtime engines.
pub(super) struct Allocation {
    pub engine: wasmtime::Engine,
    pub linker: Linker<State>,
}

impl Engine {
    pub fn new(options: EngineOptions) -> anyhow::Result<Arc<Self>> {
        let pooled = match Allocation::new(&config(Some(options.pool_instances))) {
            Ok(allocation) => Some(allocation),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "no pool for plugin instances, allocating on demand");
                None
            }
        };
        let on_demand = Allocation::new(&config(None)).map_err(|error| anyhow!("starting wasmtime: {error:#}"))?;
        let cache =
            options.cache.map(|folder| Cache::open(&folder)).transpose().context("opening the compile cache")?;
        let compilers = rayon::ThreadPoolBuilder::new()
            .num_threads(options.compile_threads.max(1))
            .thread_name(|n| format!("compile-{n}"))
            .start_handler(|_| lower_priority())
            .build()
            .context("starting the compiler threads")?;
        let ticking = pooled.iter().chain([&on_demand]).map(|allocation| allocation.engine.clone()).collect();
        Ok(Arc::new(Self {
            pooled,
            on_demand,
            cache,
            compilers,
            spares: options.spares.max(1),
            started: Instant::now(),
            loader: Loader::start().context("starting the loader thread")?,
            ticker: Ticker::start(ticking).context("starting the epoch thread")?,
        }))
    }

    /// Makes a component's bytes a version that can be deployed: checked, compiled (or taken from the cache), linked.
    /// Takes seconds for a large component: not for a worker.
    pub fn load(self: &Arc<Self>, name: &str, bytes: &[u8]) -> Result<Arc<Version>, LoadError> {
        self.load_as(name, bytes)
    }

    /// The same, for whatever role.
    pub fn load_as<R: Role>(self: &Arc<Self>, name: &str, bytes: &[u8]) -> Result<Arc<Version<R>>, LoadError> {
        load::load(self, name, bytes).map(Arc::new)
    }

    /// To be held during every call into a guest: without it a deadline is never noticed.
    pub(super) fn ticking(&self) -> Ticking<'_> {
        self.ticker.ticking()
    }

    pub(super) fn pooled(&self) -> Option<&Allocation> {
        self.pooled.as_ref()
    }

    pub(super) fn on_demand(&self) -> &Allocation {
        &self.on_demand
    }

    pub(super) fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// Runs `work`, and whatever it runs in parallel, on the compiler threads.
    pub(super) fn compile<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.compilers.install(work)
    }

    pub(super) fn spares(&self) -> usize {
        self.spares
    }

    /// Since some moment at the start.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// One more spare instance, soon.
    pub(super) fn order<R: Role>(&self, deployed: Weak<Deployed<R>>) {
        self.loader.send(move || {
            if let Some(deployed) = deployed.upgrade() {
                deployed.build();
            }
        });
    }

    /// Drops an instance elsewhere: wiping its memory takes a while.
    pub(super) fn discard<R: Role>(&self, instance: Instance<R>) {
        self.loader.send(move || drop(instance));
    }
}

impl Allocation {
    fn new(config: &Config) -> wasmtime::Result<Self> {
        let engine = wasmtime::Engine::new(config)?;
        let linker = State::linker(&engine)?;
        Ok(Self { engine, linker })
    }
}

/// The same for both engines, but for the allocation: so one's compiled code fits the other.
fn config(pool_instances: Option<u32>) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.concurrency_support(false);
    config.memory_init_cow(true);
    if let Some(count) = pool_instances {
        let parts = count.saturating_mul(PARTS_A_COMPONENT);
        let mut pool = PoolingAllocationConfig::default();
        pool.total_component_instances(count)
            .total_core_instances(parts)
            .total_memories(count)
            .total_tables(parts)
            .total_stacks(count)
            .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
            .table_keep_resident(KEEP_RESIDENT_BYTES)
            .pagemap_scan(Enabled::Auto);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// On Linux a thread has a niceness of its own, and "the calling process" here is the calling thread (setpriority(2)).
fn lower_priority() {
    if let Err(error) = rustix::process::setpriority_process(None, COMPILER_NICENESS) {
        tracing::debug!(%error, "compiling with ordinary priority");
    }
}

/// Advances the epochs while guests are called, until it is dropped. Between calls it sleeps: an idle gateway, and one
/// whose plugins' answers are reused, has no use for two hundred wake-ups a second.
struct Ticker {
    pulse: Arc<Pulse>,
    thread: Option<JoinHandle<()>>,
}

/// What callers and the ticking thread tell each other.
#[derive(Default)]
struct Pulse {
    begun: AtomicUsize,
    ended: AtomicUsize,
    is_asleep: AtomicBool,
    stop: AtomicBool,
}

/// Keeps the epochs going while it lives.
pub(super) struct Ticking<'a>(&'a Pulse);

impl Ticker {
    fn start(engines: Vec<wasmtime::Engine>) -> std::io::Result<Self> {
        let pulse = Arc::new(Pulse::default());
        let thread = thread::Builder::new().name("epochs".into()).spawn({
            let pulse = pulse.clone();
            move || pulse.tick(&engines)
        })?;
        Ok(Self { pulse, thread: Some(thread) })
    }

    fn ticking(&self) -> Ticking<'_> {
        self.pulse.begun.fetch_add(1, SeqCst);
        // Either this sees that the thread sleeps, or the thread sees the call that has begun: both orders are total.
        if self.pulse.is_asleep.load(SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Ticking(&self.pulse)
    }
}

impl Pulse {
    fn tick(&self, engines: &[wasmtime::Engine]) {
        let (mut seen, mut quiet_ticks) = (0, 0);
        while !self.stop.load(SeqCst) {
            thread::park_timeout(TICK);
            engines.iter().for_each(wasmtime::Engine::increment_epoch);
            let begun = self.begun.load(SeqCst);
            quiet_ticks = if begun == seen && self.ended.load(SeqCst) == begun { quiet_ticks + 1 } else { 0 };
            seen = begun;
            if quiet_ticks >= QUIET_TICKS {
                self.is_asleep.store(true, SeqCst);
                if self.begun.load(SeqCst) == seen && !self.stop.load(SeqCst) {
                    thread::park();
                }
                self.is_asleep.store(false, SeqCst);
                quiet_ticks = 0;
            }
        }
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.pulse.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread that builds and drops instances. A job that panics ends alone.
struct Loader {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    fn start() -> std::io::Result<Self> {
        let (jobs, ordered) = mpsc::channel::<Job>();
        let thread = thread::Builder::new().name("loader".into()).spawn(move || {
            for job in ordered {
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!("building or dropping a plugin's instance panicked, which is a bug of the gateway");
                }
            }
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    fn send(&self, job: impl FnOnce() + Send + 'static) {
        // The thread outlives every sender, and without one there is nothing left to do.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(Box::new(job)));
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.jobs = None;
        // The last reference to an engine may be one that the loader itself let go: it ends on its own then.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticking_stops_without_calls_and_begins_again_with_one() {
        let ticker = Ticker::start(Vec::new()).unwrap();
        let until = |asleep: bool| {
            let deadline = Instant::now() + Duration::from_secs(30);
            while ticker.pulse.is_asleep.load(SeqCst) != asleep {
                assert!(Instant::now() < deadline, "in vain: asleep {asleep}");
                thread::yield_now();
            }
        };
        until(true);
        let ticking = ticker.ticking();
        until(false);
        drop(ticking);
        until(true);
    }

    #[test]
    fn a_job_that_panics_does_not_end_the_loader() {
        let loader = Loader::start().unwrap();
        loader.send(|| panic!("on purpose"));
        let (done, is_done) = mpsc::channel();
        loader.send(move || done.send(()).unwrap());
        assert_eq!(is_done.recv(), Ok(()));
    }
}
