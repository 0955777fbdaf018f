//! What the default channel plugins have in common beyond the SDK: formats and paths that several providers share.
//!
//! Nothing in here knows a provider's paths except [`owner`], which knows just enough of all of them to tell whose a
//! request surely is.

pub mod meters;
pub mod owner;
pub mod rewrites;
pub mod short;
