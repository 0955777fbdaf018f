//! The handshakes of the providers' WebSockets: which protocol a path speaks, and the credential that it demands.
//!
//! A refusal is an ordinary reply in the provider's words, with the credential looked at first, as on every other path.
//! What is wrong with a model is said on the open socket, as the providers do.

use std::sync::{Mutex, PoisonError};

use http::Request;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use super::fault::{Fault, Shape};
use super::inference::Inference;
use super::live::Live;
use super::realtime::Realtime;
use super::reply::{Body, Reply};
use super::route::{Call, bearer, expect, only};
use super::session::{Protocol, Session};
use super::{Upstream, text};

const PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
/// Where OpenAI's browser clients put their key.
const KEY_PROTOCOL: &str = "openai-insecure-api-key.";

/// The socket that a connection turns into, once the reply to its handshake has been sent.
#[derive(Default)]
pub struct Slot(Mutex<Option<Session>>);

impl Slot {
    fn fill(&self, session: Session) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }

    pub fn take(&self) -> Option<Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What a path speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Inference,
    Realtime,
    Live,
    /// Live, opened with a token that somebody with a key has made for it.
    LiveConstrained,
}

impl Endpoint {
    pub fn of(path: &str) -> Option<Self> {
        match path.strip_suffix('/').unwrap_or(path) {
            "/api-ws/v1/inference" => return Some(Self::Inference),
            "/api-ws/v1/realtime" => return Some(Self::Realtime),
            _ => {}
        }
        let method = path.strip_prefix("/ws/google.ai.generativelanguage.")?;
        match method.split_once(".GenerativeService.")? {
            ("v1" | "v1beta" | "v1alpha", "BidiGenerateContent") => Some(Self::Live),
            ("v1alpha", "BidiGenerateContentConstrained") => Some(Self::LiveConstrained),
            _ => None,
        }
    }

    fn is_gemini(self) -> bool {
        matches!(self, Self::Live | Self::LiveConstrained)
    }

    fn protocol(self, call: &Call) -> Box<dyn Protocol> {
        match self {
            Self::Inference => Box::<Inference>::default(),
            Self::Realtime => Box::new(Realtime::new(&decoded(call.parameter("model").unwrap_or_default()))),
            Self::Live | Self::LiveConstrained => Box::<Live>::default(),
        }
    }
}

pub fn answer(upstream: &Upstream, slot: &Slot, endpoint: Endpoint, mut request: Request<Incoming>) -> Reply {
    let upgrade = hyper::upgrade::on(&mut request);
    let call = Call::of(&request, text::fresh_uuid());
    let opened = authorize(upstream, endpoint, &call).and_then(|()| {
        let mut reply = create_response_with_body(&request, || Body::Whole(None)).map_err(|_| Fault::Upgrade)?;
        if offers(&call, |name| name == "realtime") {
            reply.headers_mut().insert(PROTOCOL, HeaderValue::from_static("realtime"));
        }
        Ok(reply)
    });
    match opened {
        Ok(reply) => {
            slot.fill(Session::new(upgrade, endpoint.protocol(&call)));
            reply
        }
        Err(fault) => {
            let shape = if endpoint.is_gemini() { Shape::Gemini } else { Shape::DashScope };
            fault.reply(shape, &call.request_id)
        }
    }
}

fn authorize(upstream: &Upstream, endpoint: Endpoint, call: &Call) -> Result<(), Fault> {
    let token = call.parameter("access_token");
    if endpoint == Endpoint::LiveConstrained {
        return authorize_token(call, token);
    }
    let place = if endpoint == Endpoint::Live { "x-goog-api-key" } else { AUTHORIZATION.as_str() };
    only(call, place)?;
    if endpoint == Endpoint::Live {
        expect(call.headers.get(place).map(HeaderValue::as_bytes), &upstream.keys.gemini)?;
    } else {
        expect(bearer(&call.headers), &upstream.keys.bailian)?;
    }
    if token.is_some() {
        return Err(Fault::KeyMisplaced("the query"));
    }
    if offers(call, |name| name.starts_with(KEY_PROTOCOL)) {
        return Err(Fault::KeyMisplaced("a sub-protocol"));
    }
    Ok(())
}

/// A token stands in for a key, so there is no key beside it; any token is good here.
fn authorize_token(call: &Call, in_query: Option<&str>) -> Result<(), Fault> {
    let in_header = call.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    only(call, if in_header.is_some() { AUTHORIZATION.as_str() } else { "x-goog-api-key" })?;
    if call.headers.contains_key("x-goog-api-key") {
        return Err(Fault::KeyMisplaced("the header `x-goog-api-key`"));
    }
    let token = match (in_header, in_query) {
        (None, None) => return Err(Fault::KeyMissing),
        (Some(_), Some(_)) => return Err(Fault::KeyMisplaced("the query")),
        (Some(header), None) => header.strip_prefix("Token ").unwrap_or_default().to_owned(),
        (None, Some(query)) => decoded(query),
    };
    if token.strip_prefix("auth_tokens/").is_some_and(|name| !name.is_empty()) { Ok(()) } else { Err(Fault::KeyWrong) }
}

/// Whether one of the sub-protocols that the client offers is so.
fn offers(call: &Call, is_so: impl Fn(&str) -> bool) -> bool {
    let offers = call.headers.get_all(PROTOCOL).into_iter().filter_map(|value| value.to_str().ok());
    offers.flat_map(|names| names.split(',')).any(|name| is_so(name.trim()))
}

fn decoded(parameter: &str) -> String {
    percent_decode_str(parameter).decode_utf8_lossy().into_owned()
}
