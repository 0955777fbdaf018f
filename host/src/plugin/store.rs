//! What an instance runs in: its share of WASI, its limits and its clock.
//!
//! Invariant: nothing in here can reach a file, the network, an environment or a tokio runtime, and nothing can wait.
//! Of WASI 0.2 everything is linked, so that any toolchain's component loads, and everything answers empty or denied,
//! except clocks, random numbers (small portions) and the standard output, which goes to the log.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::bindings::{ChannelPlugin, log, types};
use super::log::{Stream, Voice};

/// What one call may hand to the host, in bytes.
const HOSTCALL_BYTES_MAX: usize = 1 << 20;
const RANDOM_BYTES_MAX: u64 = 4096;
/// Streams, pollables and the like that a guest may hold at one time.
const RESOURCES_MAX: usize = 256;

/// The state of one instance.
pub struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    started: std::time::Instant,
    pub voice: Voice,
    pub memory: Memory,
    pub deadline: Deadline,
}

impl State {
    /// A store whose instance may use `memory_bytes_max` of memory, all its memories and tables together.
    pub fn store(engine: &wasmtime::Engine, voice: Voice, memory_bytes_max: usize) -> Store<Self> {
        let wasi = WasiCtx::builder()
            .stdout(voice.stream(Stream::Stdout))
            .stderr(voice.stream(Stream::Stderr))
            .max_random_size(RANDOM_BYTES_MAX)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let memory = Memory { bytes: 0, bytes_max: memory_bytes_max, refused: false };
        let deadline = Deadline { allowed: Duration::ZERO, first_fired: None, breached: false };
        let state = Self { wasi, table, started: std::time::Instant::now(), voice, memory, deadline };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
        store.epoch_deadline_callback(|mut context| Ok(context.data_mut().deadline.fired()));
        store
    }

    /// Everything a component may import.
    pub fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Self>> {
        let mut linker = Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        // In place of the one above, whose pollables need a tokio runtime with a timer around every call.
        linker.allow_shadowing(true);
        monotonic_clock::add_to_linker::<Self, Clock>(&mut linker, |state| ClockView {
            started: state.started,
            table: &mut state.table,
        })?;
        linker.allow_shadowing(false);
        ChannelPlugin::add_to_linker::<Self, wasmtime::component::HasSelf<Self>>(&mut linker, |state| state)?;
        Ok(linker)
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl types::Host for State {}

impl log::Host for State {
    fn log(&mut self, level: log::Level, message: String) {
        self.voice.say(level, &message);
    }
}

/// The memory limit. Growth beyond it is refused as the specification has it, since a guest may be able to collect
/// its garbage and go on; only if the call then fails is it a breach.
pub struct Memory {
    pub bytes: usize,
    bytes_max: usize,
    pub refused: bool,
}

/// Most elements of one table, and most tables, memories and core instances: far above what toolchains emit.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;
const PARTS_MAX: usize = 256;

impl Memory {
    /// Whether there is room for `bytes` more; `is_possible`: what exceeds the memory's or table's own maximum fails
    /// without being allocated.
    fn takes(&mut self, bytes: usize, is_possible: bool) -> bool {
        let bytes = self.bytes.saturating_add(bytes);
        if bytes > self.bytes_max {
            self.refused = true;
            return false;
        }
        if is_possible {
            self.bytes = bytes;
        }
        true
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.takes(desired.saturating_sub(current), maximum.is_none_or(|maximum| desired <= maximum)))
    }

    /// An element is a pointer of the host's.
    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            self.refused = true;
            return Ok(false);
        }
        let bytes = desired.saturating_sub(current).saturating_mul(size_of::<usize>());
        Ok(self.takes(bytes, maximum.is_none_or(|maximum| desired <= maximum)))
    }

    /// There was room here, but not in the pool, whose tables have a size of their own, or in the machine. What was counted
    /// for it stays so: this is also called for growths that nobody asked about before, of which nothing was counted.
    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = true;
        Ok(())
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = true;
        Ok(())
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

/// The CPU time that a call may use.
///
/// Epochs count wall-clock time, and a worker that the kernel has descheduled uses none: so the first tick within a
/// call only starts the measurement, and the call is broken off when this thread has *computed* for `allowed` since.
pub struct Deadline {
    allowed: Duration,
    first_fired: Option<Duration>,
    pub breached: bool,
}

impl Deadline {
    /// Before every call into the guest.
    pub fn arm(store: &mut Store<State>, allowed: Duration) {
        store.set_epoch_deadline(1);
        let state = store.data_mut();
        state.deadline = Self { allowed, first_fired: None, breached: false };
        // What an earlier call was refused, and bore with, is not why this one fails.
        state.memory.refused = false;
    }

    fn fired(&mut self) -> UpdateDeadline {
        let now = thread_cpu_time();
        let first = *self.first_fired.get_or_insert(now);
        if now.saturating_sub(first) < self.allowed {
            return UpdateDeadline::Continue(1);
        }
        self.breached = true;
        UpdateDeadline::Interrupt
    }
}

fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// `wasi:clocks/monotonic-clock`: the time is told, but a pollable for a later time is never ready.
struct Clock;

struct ClockView<'a> {
    started: std::time::Instant,
    table: &'a mut ResourceTable,
}

impl HasData for Clock {
    type Data<'a> = ClockView<'a>;
}

impl monotonic_clock::Host for ClockView<'_> {
    fn now(&mut self) -> wasmtime::Result<monotonic_clock::Instant> {
        Ok(self.started.elapsed().as_nanos() as u64)
    }

    fn resolution(&mut self) -> wasmtime::Result<monotonic_clock::Duration> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: monotonic_clock::Instant) -> wasmtime::Result<Resource<DynPollable>> {
        let now = self.now()?;
        self.subscribe_duration(when.saturating_sub(now))
    }

    fn subscribe_duration(&mut self, wait: monotonic_clock::Duration) -> wasmtime::Result<Resource<DynPollable>> {
        let alarm = self.table.push(Alarm { due: wait == 0 })?;
        subscribe(self.table, alarm)
    }
}

struct Alarm {
    due: bool,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Alarm {
    async fn ready(&mut self) {
        if !self.due {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preempted_call_goes_on_and_a_computing_one_is_broken_off() {
        let mut deadline = Deadline { allowed: Duration::from_millis(5), first_fired: None, breached: false };
        // Ticks without CPU time of this thread between them: as after a preemption.
        for _ in 0..100 {
            assert!(matches!(deadline.fired(), UpdateDeadline::Continue(1)));
        }
        let until = thread_cpu_time() + Duration::from_millis(6);
        while thread_cpu_time() < until {
            std::hint::spin_loop();
        }
        assert!(matches!(deadline.fired(), UpdateDeadline::Interrupt));
        assert!(deadline.breached);
    }

    #[test]
    fn memories_share_one_limit() {
        let mut memory = Memory { bytes: 0, bytes_max: 300, refused: false };
        assert!(memory.memory_growing(0, 100, None).unwrap());
        assert!(memory.memory_growing(0, 200, None).unwrap());
        assert!(!memory.memory_growing(200, 201, None).unwrap());
        assert!(memory.refused);
        assert_eq!(memory.bytes, 300);
    }

    #[test]
    fn tables_are_memory_too() {
        const ELEMENT: usize = size_of::<usize>();
        let mut memory = Memory { bytes: 0, bytes_max: 100 * ELEMENT, refused: false };
        assert!(memory.memory_growing(0, 50 * ELEMENT, None).unwrap());
        assert!(memory.table_growing(0, 40, None).unwrap());
        assert!(memory.table_growing(40, 50, Some(45)).unwrap());
        assert_eq!(memory.bytes, 90 * ELEMENT, "what exceeds a table's own maximum is not allocated");
        memory.table_grow_failed(wasmtime::Error::msg("the pool's tables are smaller")).unwrap();
        assert_eq!((memory.bytes, memory.refused), (90 * ELEMENT, true));
        memory.refused = false;
        assert!(!memory.table_growing(40, 51, None).unwrap());
        assert!(memory.refused);
        assert!(!memory.memory_growing(50 * ELEMENT, 61 * ELEMENT, None).unwrap());
    }
}
