//! One live instance: how it is built, called, and found out.
//!
//! Guests run on the asynchronous WASI, and every call is polled **exactly once** with a waker that does nothing: a
//! call that is then pending is one in which the guest tried to wait, and is over. (The synchronous WASI would wait on
//! the worker's thread, and panics inside a tokio runtime.) After a fault an instance is not used again.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use wasmtime::{PoolConcurrencyLimitError, Store};
use wasmtime_wasi::I32Exit;

use super::bindings::types::{Caller, Refusal, Request};
use super::bindings::{Answer, Candidate};
use super::check::Profile;
use super::load::one_line;
use super::log::{Speaker, Voice, escaped};
use super::role::Role;
use super::store::{Deadline, State};
use crate::config::{Channel, Router, Sandbox};
use crate::error::{Failure, Kind};

/// An instance is replaced when its memory has grown to so many times what it was after `configure`, …
const GROWTH_MAX: usize = 2;
/// … and by so many bytes.
const GROWTH_BYTES_MIN: usize = 4 << 20;
const CONFIGURE_MESSAGE_BYTES_MAX: usize = 1000;

pub struct Instance<R: Role = Channel> {
    store: Store<State>,
    exports: R::Exports,
    calls: u32,
    bytes_configured: usize,
}

/// What broke a call off.
#[derive(Debug)]
pub enum Fault {
    Trapped(String),
    Deadline(Duration),
    Memory(usize),
    Waited,
    /// More data than one call may hand over, or data that is not what its type says.
    Answer(String),
    /// No room for another instance in the pool.
    PoolEmpty,
    /// `configure` answered with an error.
    Refused(String),
    Profile(String),
    Unfit(String),
}

impl<R: Role> Instance<R> {
    /// Instantiates and configures, each within its deadline; with what the plugin declared, checked.
    pub fn build(
        pre: &R::Pre,
        subject: &R,
        speaker: &Arc<Speaker>,
        sandbox: &Sandbox,
    ) -> Result<(Self, Profile), Fault> {
        let voice = Voice::new(speaker.clone());
        let mut store =
            State::store(R::instance_pre(pre).component().engine(), voice.clone(), sandbox.memory_bytes_max);
        voice.begin("configure");
        let built = Self::configure(pre, &mut store, subject, sandbox);
        voice.end();
        let (exports, profile) = built?;
        let bytes_configured = store.data().memory.bytes;
        Ok((Self { store, exports, calls: 0, bytes_configured }, profile))
    }

    fn configure(
        pre: &R::Pre,
        store: &mut Store<State>,
        subject: &R,
        sandbox: &Sandbox,
    ) -> Result<(R::Exports, Profile), Fault> {
        let allowed = sandbox.configure_deadline;
        Deadline::arm(store, allowed);
        let outcome = poll_once(R::instantiate(pre, store));
        let exports = found_out(outcome, store.data(), sandbox, allowed).map_err(|fault| match fault {
            // Here are found functions and records of another shape than the interface's.
            Fault::Answer(text) => Fault::Unfit(text),
            other => other,
        })?;
        Deadline::arm(store, allowed);
        let outcome = poll_once(subject.configure(&exports, store));
        let profile = found_out(outcome, store.data(), sandbox, allowed)?
            .map_err(|message| Fault::Refused(escaped(&message, CONFIGURE_MESSAGE_BYTES_MAX)))?;
        let profile = Profile::check(profile).map_err(Fault::Profile)?;
        Ok((exports, profile))
    }

    /// A call begins.
    fn begin(&mut self, request_id: &str, sandbox: &Sandbox) {
        self.calls += 1;
        Deadline::arm(&mut self.store, sandbox.deadline.unwrap_or_default());
        self.store.data().voice.begin(request_id);
    }

    /// It is over.
    fn end<T>(&mut self, outcome: Option<wasmtime::Result<T>>, sandbox: &Sandbox) -> Result<T, Fault> {
        let found = found_out(outcome, self.store.data(), sandbox, sandbox.deadline.unwrap_or_default());
        self.store.data().voice.end();
        found
    }

    /// Of all its memories and tables.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.bytes
    }

    /// Whether another should take its place as soon as one is ready.
    pub fn is_worn(&self, sandbox: &Sandbox) -> bool {
        let bytes = self.memory_bytes();
        self.calls >= sandbox.calls_max
            || bytes > self.bytes_configured.saturating_mul(GROWTH_MAX)
                && bytes - self.bytes_configured >= GROWTH_BYTES_MIN
    }
}

impl Instance<Channel> {
    pub fn decide(
        &mut self,
        request: &Request,
        caller: &Caller,
        request_id: &str,
        sandbox: &Sandbox,
    ) -> Result<Answer, Fault> {
        self.begin(request_id, sandbox);
        let outcome = poll_once(self.exports.aiproxy_plugin_channel().call_decide(&mut self.store, request, caller));
        self.end(outcome, sandbox)
    }
}

impl Instance<Router> {
    pub fn route(
        &mut self,
        request: &Request,
        caller: &Caller,
        candidates: &[Candidate],
        request_id: &str,
        sandbox: &Sandbox,
    ) -> Result<Result<Vec<String>, Refusal>, Fault> {
        self.begin(request_id, sandbox);
        let router = self.exports.aiproxy_plugin_router();
        let outcome = poll_once(router.call_route(&mut self.store, request, caller, candidates));
        self.end(outcome, sandbox)
    }
}

/// None: the guest tried to wait.
fn poll_once<T>(call: impl Future<Output = T>) -> Option<T> {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

fn found_out<T>(
    outcome: Option<wasmtime::Result<T>>,
    state: &State,
    sandbox: &Sandbox,
    allowed: Duration,
) -> Result<T, Fault> {
    let error = match outcome {
        Some(Ok(value)) => return Ok(value),
        None => return Err(Fault::Waited),
        Some(Err(error)) => error,
    };
    if state.deadline.breached {
        return Err(Fault::Deadline(allowed));
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Err(Fault::PoolEmpty);
    }
    if state.memory.refused {
        return Err(Fault::Memory(sandbox.memory_bytes_max));
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Err(Fault::Trapped(format!("it exited with status {}", exit.0)));
    }
    if error.is::<wasmtime::Trap>() {
        return Err(Fault::Trapped(one_line(&error)));
    }
    let text = one_line(&error);
    // What is neither a trap nor ours comes from lifting the answer, or from linking.
    Err(if error.is::<wasmtime::WasmBacktrace>() { Fault::Trapped(text) } else { Fault::Answer(text) })
}

impl Fault {
    /// For the exchange in whose call it happened.
    pub fn failure(self, whose: &str) -> Failure {
        let cause = self.to_string();
        let kind = match self {
            Self::Trapped(_) => Kind::PluginTrapped,
            Self::Deadline(_) => Kind::PluginDeadline,
            Self::Memory(_) => Kind::PluginMemory,
            Self::Waited => Kind::PluginWaited,
            Self::Answer(_) => Kind::PluginAnswer,
            Self::PoolEmpty | Self::Refused(_) | Self::Profile(_) | Self::Unfit(_) => Kind::PluginBusy,
        };
        Failure::new(kind, format!("{whose} failed: {}.", self.reason())).because(cause)
    }

    /// What happened, in words for the client: without anything that the plugin said.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Trapped(_) => "it trapped",
            Self::Deadline(_) => "it took too long to decide",
            Self::Memory(_) => "it needed more memory than it may have",
            Self::Waited => "it tried to wait, which no plugin may",
            Self::Answer(_) => "its answer is invalid and could not be read",
            Self::PoolEmpty | Self::Refused(_) | Self::Profile(_) | Self::Unfit(_) => "it is not ready",
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Trapped(text) => write!(f, "it trapped: {text}"),
            Self::Deadline(allowed) => write!(f, "it computed for longer than {} ms", allowed.as_millis()),
            Self::Memory(bytes_max) => write!(f, "it asked for more than {bytes_max} bytes of memory"),
            Self::Waited => f.write_str("it tried to wait (a sleep, or a poll of something that is not ready)"),
            Self::Answer(text) => write!(f, "its answer could not be read: {text}"),
            Self::PoolEmpty => f.write_str("there is no room for another instance"),
            Self::Refused(message) => write!(f, "it refused its configuration: {message}"),
            Self::Profile(message) => write!(f, "its profile is invalid: {message}"),
            Self::Unfit(text) => write!(f, "it does not fit the interface: {text}"),
        }
    }
}
