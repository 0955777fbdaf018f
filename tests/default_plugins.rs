//! The three default plugins against the demo upstream.
