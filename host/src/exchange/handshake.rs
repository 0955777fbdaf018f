//! The WebSocket handshake, of the client with the gateway and of the gateway with the upstream.
//!
//! Not a stage: what `classify`, `forward` and `relay` need of RFC 6455 (section 4) and RFC 8441. The two handshakes have
//! keys of their own; what passes from one to the other is the sub-protocols. Extensions (compression) are offered to
//! nobody: a relay has to understand every frame.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING,
    UPGRADE,
};
use http::request::Parts;
use http::{Method, Response, StatusCode, Uri, Version};
use hyper::ext::Protocol;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::error::{Failure, Kind};
use crate::exchange::{cors, names};

const WEBSOCKET: &str = "websocket";
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// What belongs to one handshake alone. The list of sub-protocols travels, the choice is put in anew.
static OWN: [HeaderName; 4] =
    [SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION];

/// A client's sound handshake.
#[derive(Debug)]
pub struct Opening {
    /// The answer to the client's key; over HTTP/2 there is none.
    accept: Option<HeaderValue>,
}

/// The gateway's handshake with an upstream.
#[derive(Debug)]
pub struct Asked {
    accept: String,
    /// What the upstream may choose from.
    protocols: Vec<String>,
}

/// Whether an HTTP/2 request asks for a WebSocket (RFC 8441, section 5).
pub fn is_extended_connect(method: &Method, extensions: &http::Extensions) -> bool {
    method == Method::CONNECT && extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == WEBSOCKET)
}

/// Whether the request is a handshake, sound or not. One whose `Upgrade` a proxy on the way has dropped is told by its key.
pub fn is_asked_for(parts: &Parts) -> bool {
    is_extended_connect(&parts.method, &parts.extensions)
        || is_asked_in(&parts.headers)
        || names::has(&parts.headers, &SEC_WEBSOCKET_KEY)
}

/// Whether the headers ask for a WebSocket.
pub fn is_asked_in(headers: &HeaderMap) -> bool {
    names::has(headers, &UPGRADE) && lists(headers, &UPGRADE, WEBSOCKET)
}

/// Looks at a client's handshake as a server must (RFC 6455, section 4.2.1).
pub fn check(parts: &Parts) -> Result<Opening, Failure> {
    let headers = &parts.headers;
    let invalid = |why: &'static str| Err(Failure::new(Kind::WebSocketHandshake, why));
    let is_connect = parts.method == Method::CONNECT;
    if !is_connect {
        if parts.version != Version::HTTP_11 {
            return invalid("a WebSocket is opened over HTTP/1.1, or over HTTP/2 with CONNECT (RFC 8441)");
        }
        if parts.method != Method::GET {
            return invalid("a WebSocket is opened with the method GET");
        }
        if !lists(headers, &UPGRADE, WEBSOCKET) {
            return Err(Failure::new(
                Kind::WebSocketUpgradeRequired,
                "the request has a Sec-WebSocket-Key and no `Upgrade: websocket`; a reverse proxy on the way must pass it on",
            ));
        }
        if !lists(headers, &CONNECTION, "upgrade") {
            return invalid("a WebSocket handshake has `upgrade` in its Connection header");
        }
        let has_body = headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
        if has_body || headers.contains_key(TRANSFER_ENCODING) {
            return invalid("a WebSocket handshake has no body");
        }
    }
    if only(headers, &SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) != Some(b"13") {
        return Err(Failure::new(
            Kind::WebSocketUpgradeRequired,
            "a WebSocket handshake has exactly one Sec-WebSocket-Version, and it is 13",
        ));
    }
    if names::has(headers, &SEC_WEBSOCKET_PROTOCOL) && protocols(headers).is_none() {
        return invalid("Sec-WebSocket-Protocol is a list of tokens");
    }
    if is_connect {
        return Ok(Opening { accept: None });
    }
    let key = only(headers, &SEC_WEBSOCKET_KEY).map(|key| key.as_bytes().trim_ascii());
    match key {
        Some(key) if STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) => {
            let accept = HeaderValue::try_from(derive_accept_key(key)).expect("base64 is visible ASCII");
            Ok(Opening { accept: Some(accept) })
        }
        _ => invalid("a WebSocket handshake has exactly one Sec-WebSocket-Key, which is 16 bytes in base64"),
    }
}

/// Where there is a list of origins, a browser's page must come from one of them, or from the gateway's own address.
pub fn check_origin(headers: &HeaderMap, host: Option<&HeaderValue>, origins: &[String]) -> Result<(), Failure> {
    let Some(origin) = headers.get(ORIGIN).filter(|_| !origins.is_empty()) else { return Ok(()) };
    let is_own = || {
        let url = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        let authority = url.filter(|(scheme, _)| matches!(*scheme, "http" | "https")).map(|(_, authority)| authority);
        authority.zip(host).is_some_and(|(own, host)| host.as_bytes().eq_ignore_ascii_case(own.as_bytes()))
    };
    if cors::is_listed(origin, origins) || is_own() {
        return Ok(());
    }
    Err(Failure::new(Kind::OriginNotAllowed, "pages of this origin may not open WebSockets here"))
}

/// The address that the client called.
pub fn host(parts: &Parts) -> Option<HeaderValue> {
    parts.headers.get(HOST).cloned().or_else(|| authority(&parts.uri))
}

/// The address in a request's target, which over HTTP/2 takes the place of `Host`.
pub fn authority(uri: &Uri) -> Option<HeaderValue> {
    uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
}

/// Turns a client's headers, which hop-by-hop ones have left already, into the gateway's own handshake.
pub fn ask(headers: &mut HeaderMap) -> Asked {
    for name in &OWN {
        names::remove(headers, name);
    }
    let key = generate_key();
    let asked = Asked { accept: derive_accept_key(key.as_bytes()), protocols: protocols(headers).unwrap_or_default() };
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
    headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::try_from(key).expect("base64 is visible ASCII"));
    asked
}

/// The sub-protocol that the upstream chose, if its acceptance is sound (RFC 6455, section 4.1).
pub fn verify(asked: &Asked, headers: &HeaderMap) -> Result<Option<HeaderValue>, Failure> {
    let wrong = |why: &'static str| {
        Err(Failure::new(Kind::UpstreamBroken, "the upstream's answer to the WebSocket handshake is malformed")
            .because(why))
    };
    if !lists(headers, &UPGRADE, WEBSOCKET) || !lists(headers, &CONNECTION, "upgrade") {
        return wrong("it switches to another protocol than `websocket`");
    }
    if only(headers, &SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes) != Some(asked.accept.as_bytes()) {
        return wrong("its Sec-WebSocket-Accept does not fit the key");
    }
    if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return wrong("it uses an extension that was not offered");
    }
    if !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        return Ok(None);
    }
    match only(headers, &SEC_WEBSOCKET_PROTOCOL) {
        Some(chosen) if asked.protocols.iter().any(|offered| offered.as_bytes() == chosen.as_bytes()) => {
            Ok(Some(chosen.clone()))
        }
        _ => wrong("it chose a sub-protocol that was not offered"),
    }
}

impl Opening {
    /// Over HTTP/2 any status of success opens the socket, so an upstream's that does not switch cannot be passed on.
    pub fn check_refusal(&self, status: StatusCode) -> Result<(), Failure> {
        if self.accept.is_none() && status.is_success() {
            let what = "the upstream answered the WebSocket handshake without switching to a WebSocket";
            return Err(Failure::new(Kind::UpstreamBroken, what).because(status));
        }
        Ok(())
    }

    /// The answer to the client: the upstream's headers, which hop-by-hop ones have left already, and the gateway's own.
    ///
    /// `offered` is what the client asks for besides its key. Browsers end a socket whose server chooses none of the
    /// sub-protocols they offered; where one of those was only a proxy key, the upstream need not have been shown a
    /// choice that it knows, so the gateway then takes the first for itself.
    pub fn answer(&self, mut headers: HeaderMap, chosen: Option<HeaderValue>, offered: &Offered) -> Response<()> {
        for name in OWN.iter().chain([&SEC_WEBSOCKET_PROTOCOL]) {
            names::remove(&mut headers, name);
        }
        let chosen = chosen.filter(|chosen| offered.protocols.iter().any(|name| name.as_bytes() == chosen.as_bytes()));
        let own = || offered.protocols.first().filter(|_| offered.carries_key).and_then(|name| name.parse().ok());
        if let Some(chosen) = chosen.or_else(own) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, chosen);
        }
        let mut reply = Response::new(());
        if let Some(accept) = &self.accept {
            *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept.clone());
        }
        *reply.headers_mut() = headers;
        reply
    }
}

/// What a client offers in `Sec-WebSocket-Protocol`, its proxy key left out.
#[derive(Debug)]
pub struct Offered {
    pub protocols: Vec<String>,
    /// The proxy key was one of them.
    pub carries_key: bool,
}

impl Offered {
    pub fn new(headers: &HeaderMap, carries_key: bool) -> Self {
        Self { protocols: protocols(headers).unwrap_or_default(), carries_key }
    }
}

/// What an answer of 426 must say (RFC 9110, section 15.5.22, and RFC 6455, section 4.4).
pub fn require_upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
    headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
}

/// Whether a list names a token.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

/// The value of a header that is there just once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The sub-protocols, in order; `None` where one is no token.
fn protocols(headers: &HeaderMap) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        for item in value.to_str().ok()?.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let is_token = item.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
            if !is_token {
                return None;
            }
            all.push(item.to_owned());
        }
    }
    Some(all)
}
