//! Browsers (the Fetch standard's CORS protocol): preflights for configured origins, and the headers on every reply.
//!
//! Without configured origins nothing is added and a preflight is an ordinary request.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};

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
    let is_listed = origins.iter().any(|listed| listed == "*" || listed.as_bytes() == origin.as_bytes());
    is_listed.then(|| Allowed { origin: origin.clone() })
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
        self.decorate(reply.headers_mut());
        reply
    }

    /// What lets the browser's page read the reply.
    pub fn decorate(&self, headers: &mut HeaderMap) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}
