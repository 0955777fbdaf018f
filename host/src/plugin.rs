//! (empty)
pub mod embedded;
