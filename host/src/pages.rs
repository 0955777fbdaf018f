//! The built-in routes: `/healthz`, `/readyz`, `/stats`, `/dashboard`.
//!
//! Taken exactly, for GET and HEAD only; every other path is the provider's. None of them needs a proxy key, so none
//! shows a secret: proxy keys appear as a count, plugins and files with their versions and last errors.

mod stats;

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};

use crate::exchange::relay::{self, Reply};
use crate::exchange::worker::Worker;

const DASHBOARD: &str = include_str!("pages/dashboard.html");
/// The dashboard loads nothing from elsewhere.
const DASHBOARD_POLICY: &str =
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:";

/// `None` when the path is not built in.
pub fn answer<B>(worker: &Worker, request: &Request<B>) -> Option<Response<Reply>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return None;
    }
    let (status, content_type, body) = match request.uri().path() {
        "/healthz" => (StatusCode::OK, "application/json", Bytes::from_static(b"{\"status\":\"ok\"}")),
        "/readyz" if worker.shared.draining.load(Ordering::Relaxed) => {
            (StatusCode::SERVICE_UNAVAILABLE, "application/json", Bytes::from_static(b"{\"status\":\"stopping\"}"))
        }
        "/readyz" => {
            let ready = serde_json::json!({"status": "ready", "generation": worker.view().generation.number});
            (StatusCode::OK, "application/json", ready.to_string().into())
        }
        "/stats" => (StatusCode::OK, "application/json", stats::json(&worker.shared).into()),
        "/dashboard" => (StatusCode::OK, "text/html; charset=utf-8", Bytes::from_static(DASHBOARD.as_bytes())),
        _ => return None,
    };
    let mut reply = Response::new(Reply::Whole(Some(body)));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if content_type.starts_with("text/html") {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(DASHBOARD_POLICY));
    }
    relay::with_request_id(&mut reply, &worker.next_request_id());
    Some(reply)
}
