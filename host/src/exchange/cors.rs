//! Browsers (the Fetch standard's CORS protocol): preflights for configured origins, and the headers on every reply.
//!
//! With configured origins it is the gateway that says who may read: a provider's own word on that is taken out, and
//! what other origins get carries none. Without configured origins all of it is the provider's business.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};

/// What a provider's reply may say to browsers.
const PROVIDERS_WORD: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

/// A browser's request from an allowed origin.
pub struct Allowed {
    origin: HeaderValue,
}

/// `None` unless the request carries an `Origin` that is configured.
pub fn allowed(headers: &HeaderMap, origins: &[String]) -> Option<Allowed> {
    if origins.is_empty() {
        return None;
    }
    let origin = headers.get(header::ORIGIN)?;
    is_listed(origin, origins).then(|| Allowed { origin: origin.clone() })
}

pub fn is_listed(origin: &HeaderValue, origins: &[String]) -> bool {
    origins.iter().any(|listed| listed == "*" || listed.as_bytes() == origin.as_bytes())
}

pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl Allowed {
    /// The answer to a preflight: whatever was asked for, for ten minutes.
    pub fn preflight<B: Default>(&self, asked: &HeaderMap) -> Response<B> {
        let mut reply = Response::new(B::default());
        *reply.status_mut() = StatusCode::NO_CONTENT;
        let copied: [(HeaderName, HeaderName); 2] = [
            (header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_ALLOW_METHODS),
            (header::ACCESS_CONTROL_REQUEST_HEADERS, header::ACCESS_CONTROL_ALLOW_HEADERS),
        ];
        for (question, answer) in copied {
            if let Some(value) = asked.get(question) {
                reply.headers_mut().insert(answer, value.clone());
            }
        }
        reply.headers_mut().insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        self.admit(reply.headers_mut());
        headers_vary(reply.headers_mut());
        reply
    }

    /// What lets the browser's page read the reply.
    fn admit(&self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    }
}

/// Makes a reply say what holds for the origin that asked, in place of what the provider says.
pub fn decorate(allowed: Option<&Allowed>, headers: &mut HeaderMap) {
    for name in PROVIDERS_WORD {
        headers.remove(name);
    }
    if let Some(allowed) = allowed {
        allowed.admit(headers);
    }
    headers_vary(headers);
}

/// Also where no origin was named: a cache must not give that reply to a page.
fn headers_vary(headers: &mut HeaderMap) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}
