//! Heads that hyper lets through and that are ours to refuse, with 400 and the connection's end.
//!
//! Each is a way to make two parties read one message differently: more or less than one `Host`, a transfer coding that
//! is not `chunked` alone, a target that names another authority, a path that climbs above its root, a method that asks
//! for a tunnel.

use http::header::{HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Version};

use crate::config::Limits;
use crate::error::{Failure, Kind};
use crate::exchange::{handshake, names};
use crate::path;

pub fn check<B>(request: &Request<B>, limits: &Limits) -> Result<(), Failure> {
    let (headers, uri) = (request.headers(), request.uri());
    if request.method() == Method::CONNECT && !handshake::is_extended_connect(request.method(), request.extensions()) {
        return Err(refused("CONNECT is not served here"));
    }
    if headers.len() > limits.header_count_max {
        return Err(Failure::new(Kind::HeadTooLarge, "the request has more header fields than the gateway accepts"));
    }
    let line_bytes = request.method().as_str().len() + uri.path().len() + uri.query().unwrap_or_default().len();
    let field_bytes = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    // hyper's own limit is one of its buffer, and lets through up to twice as much.
    if line_bytes + headers.iter().map(field_bytes).sum::<usize>() > limits.header_bytes_max {
        return Err(Failure::new(Kind::HeadTooLarge, "the request's head is larger than the gateway accepts"));
    }
    let mut hosts = headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() || (request.version() == Version::HTTP_11 && host.is_none()) {
        return Err(refused("an HTTP/1.1 request has exactly one Host header"));
    }
    // The absolute form's, or `:authority` (RFC 9113, section 8.3.1).
    if let Some(authority) = uri.authority()
        && host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()))
    {
        return Err(refused("the request's target names another host than its Host header"));
    }
    if names::has(headers, &TRANSFER_ENCODING) {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let is_chunked = |coding: &HeaderValue| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
        if !codings.next().is_some_and(is_chunked) || codings.next().is_some() {
            return Err(refused("the only transfer coding accepted is `chunked`, once"));
        }
    }
    if !uri.path().starts_with('/') {
        return Err(refused("the request's target must be a path"));
    }
    // Here already: passed on by a plugin that means no harm, it would count as the plugin's fault.
    if path::climbs(uri.path()) {
        return Err(refused("the request's path has dot segments that climb above its root"));
    }
    Ok(())
}

fn refused(why: &'static str) -> Failure {
    Failure::new(Kind::MalformedRequest, why)
}
