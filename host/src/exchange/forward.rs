//! Sends the request upstream as the plan says: hop-by-hop headers out, edits in, credential last.
//!
//! `Host`, `Content-Length` and `Transfer-Encoding` are never taken from the client or the plugin: `Host` is the
//! endpoint's, framing follows from the body that is really sent.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};

use crate::config::{Endpoint, Timeouts};
use crate::error::{Failure, Kind};
use crate::exchange::names;
use crate::exchange::plan::Prepared;
use crate::json::edit::{self, BodyEdit, EditFault};
use crate::upstream::{ReplyBody, RequestBody, Upgrade, Upstream};

/// Bodies longer than this are edited on a thread of their own, not on the worker.
const EDIT_INLINE_BYTES_MAX: usize = 256 << 10;

/// Headers that concern one connection only (RFC 9110, section 7.6.1), or that the host sets itself.
static DROPPED: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
];

/// What a request must not carry on; `TE: trailers` survives, without which trailers do not pass.
pub fn clean_request(headers: &mut HeaderMap) {
    let wants_trailers = names::has(headers, &header::TE)
        && headers.get_all(header::TE).iter().flat_map(items).any(|item| item.eq_ignore_ascii_case(b"trailers"));
    remove_hop_by_hop(headers, false);
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes what a reply must not carry on; the length stays where there is no body that it could frame.
pub fn clean_reply<B>(reply: &mut Response<B>, is_head: bool) -> Result<(), Failure> {
    // No `Upgrade` was sent. Passed on, it would turn the client's connection into bytes that nobody frames.
    if reply.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::new(Kind::UpstreamBroken, "the upstream switched protocols without being asked"));
    }
    // Undone by nobody, the coding would be part of the content without a word.
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if names::has(reply.headers(), &header::TRANSFER_ENCODING)
        && !reply.headers().get_all(header::TRANSFER_ENCODING).iter().all(is_chunked)
    {
        return Err(Failure::new(
            Kind::UpstreamBroken,
            "the upstream replied with a transfer coding besides `chunked`",
        ));
    }
    // Of an HTTP/1.0 reply hyper would make one that ends with the connection, and one cut off would look complete.
    *reply.version_mut() = Version::HTTP_11;
    let keep_length = is_head || reply.status() == StatusCode::NOT_MODIFIED;
    remove_hop_by_hop(reply.headers_mut(), keep_length);
    // The provider's other addresses are not the gateway's: browsers would take requests and keys elsewhere.
    names::remove(reply.headers_mut(), &header::ALT_SVC);
    Ok(())
}

/// Removes what the head of an upstream's switch to a WebSocket must not carry on.
pub fn clean_switch(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers, false);
    names::remove(headers, &header::ALT_SVC);
}

/// The items of a list, as bytes: one that is not ASCII must not hide the others.
fn items(list: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    list.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn remove_hop_by_hop(headers: &mut HeaderMap, keep_length: bool) {
    if names::has(headers, &header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(items)
            .filter_map(|token| HeaderName::from_bytes(token).ok())
            .collect();
        for name in named {
            // A client cannot make the gateway drop what frames the message or names its length.
            if name != header::CONTENT_LENGTH && name != header::HOST {
                headers.remove(name);
            }
        }
    }
    for name in &DROPPED {
        if !(keep_length && name == header::CONTENT_LENGTH) {
            names::remove(headers, name);
        }
    }
}

/// `X-Forwarded-*`, for providers that look at them; the list grows by the client's address.
pub fn add_forwarded(headers: &mut HeaderMap, client: &HeaderValue, host: Option<HeaderValue>, is_tls: bool) {
    static FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    static PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
    static HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
    let list = if names::has(headers, &FOR) {
        let list = headers.get_all(&FOR).iter().chain([client]).filter_map(|value| value.to_str().ok());
        let list = list.collect::<Vec<_>>().join(", ");
        HeaderValue::try_from(list).expect("addresses and former header values are valid")
    } else {
        client.clone()
    };
    headers.insert(&FOR, list);
    headers.insert(&PROTO, HeaderValue::from_static(if is_tls { "https" } else { "http" }));
    match host {
        Some(host) => headers.insert(&HOST, host),
        None => names::remove(headers, &HOST),
    };
}

/// The body with these edits, every other byte as it was.
pub async fn edited_body(bytes: Bytes, edits: &[BodyEdit]) -> Result<Bytes, Failure> {
    let result = if bytes.len().saturating_mul(edits.len()) <= EDIT_INLINE_BYTES_MAX {
        edit::apply(&bytes, edits)
    } else {
        let edits = edits.to_vec();
        tokio::task::spawn_blocking(move || edit::apply(&bytes, &edits))
            .await
            .map_err(|error| Failure::new(Kind::BodyEdit, "the request's body could not be edited").because(error))?
    };
    result.map(Bytes::from).map_err(|error| {
        let kind = match error.reason {
            EditFault::BodyNotJson(_) => Kind::BodyNotJson,
            _ => Kind::BodyEdit,
        };
        Failure::new(kind, format!("this channel changes the request's body, which cannot be done here: {error}"))
    })
}

/// One attempt to open a WebSocket; the headers are the gateway's handshake.
pub async fn open(
    upstream: &Upstream,
    prepared: &Prepared,
    timeouts: &Timeouts,
    headers: HeaderMap,
) -> Result<Upgrade, Failure> {
    upstream.upgrade(&prepared.endpoint, timeouts, headers, Uri::from(prepared.target.clone())).await
}

/// One attempt.
pub fn send<'a>(
    upstream: &'a std::rc::Rc<Upstream>,
    prepared: &'a Prepared,
    timeouts: &'a Timeouts,
    method: Method,
    headers: HeaderMap,
    body: RequestBody,
) -> impl Future<Output = Result<Response<ReplyBody>, Failure>> + 'a {
    let endpoint: &Arc<Endpoint> = &prepared.endpoint;
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(prepared.target.clone());
    *request.headers_mut() = headers;
    upstream.send(endpoint, timeouts, request)
}
