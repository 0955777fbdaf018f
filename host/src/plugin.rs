//! Plugins, as the exchange sees them: components that are told the head of a request and answer how to send it.
//!
//! A file's bytes become a [`Version`] ([`Engine::load`]: hashed, compiled, linked), a version configured for a channel
//! becomes a [`Deployed`] (checked, with spare instances), and each worker asks it through its own [`Instances`]. What
//! a plugin answers is a stranger's input until [`check`] has made it a [`Plan`].
//!
//! A plugin that traps, loops, waits or eats memory costs the exchange that asked it, and nothing else: calls are
//! bounded in CPU time, memory and data, an instance with a fault is thrown away, and a plugin that breached its
//! deadline or fails again and again is not asked for a while ([`Deployed::backing_off`]).

mod artifact;
mod back_off;
mod bindings;
mod check;
mod deployed;
pub mod embedded;
mod engine;
pub mod inspect;
mod instance;
mod load;
mod log;
mod pool;
pub mod rehearsal;
mod role;
mod store;
pub mod templates;

pub use self::bindings::Candidate;
pub use self::bindings::types::{Caller, Field, Fold, Meter, Presented, Request, Reuse, Transport};
pub use self::check::{BodyEdit, Credential, Decision, HeaderEdit, Placement, Plan, Profile, Route, visible_header};
pub use self::deployed::Deployed;
pub use self::engine::{Engine, EngineOptions};
pub use self::load::imports::is_offered;
pub use self::load::interface::WIT;
pub use self::load::kind::Kind;
pub use self::load::mismatch::{Mismatch, REMEDY};
pub use self::load::{AnyVersion, LoadError, Version};
pub use self::log::{Said, escaped};
pub use self::pool::Instances;
pub use self::role::Role;

#[cfg(test)]
pub use self::check::sample;

#[cfg(test)]
pub mod defaults;
#[cfg(test)]
#[path = "../../tests/support/dummies.rs"]
mod dummies;
#[cfg(test)]
#[path = "../../tests/support/guests.rs"]
mod guests;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
