//! `Content-Security-Policy`: a page loads nothing from elsewhere, and of scripts and styles only its own run.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::digest::sha256;

/// Nothing but what is `allowed`.
pub fn only(allowed: &str) -> HeaderValue {
    let policy = format!("default-src 'none'; {allowed}; base-uri 'none'; frame-ancestors 'none'");
    HeaderValue::try_from(policy).expect("base64 and directives are visible ASCII")
}

/// Of the text between a tag and its end.
pub fn hash(html: &str, tag: &str) -> String {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let rest = html.split_once(&open).map_or("", |(_, rest)| rest);
    let text = rest.split_once(&close).map_or("", |(text, _)| text);
    STANDARD.encode(sha256(text.as_bytes()))
}
