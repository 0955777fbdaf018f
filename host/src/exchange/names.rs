//! Asking a head for names that it usually does not have.
//!
//! A `HeaderMap` hashes the name for every lookup, byte by byte. A request has about seven headers, and the stages ask
//! for some thirty names of which nearly all are absent: comparing a name with the few that are there is several times
//! cheaper than hashing it. The number of headers is limited, and so is this.

use http::header::{HeaderMap, HeaderName, HeaderValue};

pub fn has(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.keys().any(|present| present == name)
}

/// Takes every value of this name out, and gives the first.
pub fn remove(headers: &mut HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    if has(headers, name) { headers.remove(name) } else { None }
}
