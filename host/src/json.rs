//! JSON as bytes that pass through: read at a few places, edited at a few places, never taken apart into a tree.
//!
//! A gateway needs of a body of megabytes one or two members, and must send on every other byte as it came. So
//! nothing here builds values: a [`Scanner`] validates whatever pieces arrive and remembers what stands at the
//! pointers of a [`Query`], and [`edit`] splices texts into the bytes it was given. `serde_json` stays for
//! configuration, where there is a type to read into.

pub mod edit;
mod pointer;
mod query;
#[cfg(test)]
pub(crate) mod sample;
mod scan;
mod text;

pub use pointer::{Pointer, PointerError};
pub use query::Query;
pub use scan::{DEPTH_MAX, Documents, Found, Kind, Malformed, Reason, Scanner};
