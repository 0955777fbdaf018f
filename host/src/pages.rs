//! The built-in routes: `/healthz`, `/readyz`, `/stats`, `/metrics`, `/dashboard`.
//!
//! Taken exactly, for GET and HEAD only; every other path is the provider's. None of them needs a proxy key, so none
//! shows a secret: proxy keys appear as a count, plugins and files with their versions and last errors.

mod metrics;
mod process;
mod stats;

use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};

use crate::digest::sha256;
use crate::error::Failure;
use crate::exchange::failure_reply;
use crate::exchange::relay::{self, Reply};
use crate::exchange::worker::Worker;

const DASHBOARD: &str = include_str!("pages/dashboard.html");

/// Whether this is for [`answer`], and not for a provider.
pub fn is_page<B>(request: &Request<B>) -> bool {
    matches!(request.uri().path(), "/healthz" | "/readyz" | "/stats" | "/metrics" | "/dashboard")
        && (request.method() == Method::GET || request.method() == Method::HEAD)
}

/// What a page shows.
pub async fn answer<B>(worker: &Worker, request: &Request<B>) -> Response<Reply> {
    let (status, content_type, body) = match request.uri().path() {
        "/healthz" => (StatusCode::OK, "application/json", Bytes::from_static(b"{\"status\":\"ok\"}")),
        "/readyz" if worker.shared.draining.load(Ordering::Relaxed) => {
            (StatusCode::SERVICE_UNAVAILABLE, "application/json", Bytes::from_static(b"{\"status\":\"stopping\"}"))
        }
        "/readyz" => {
            let ready = serde_json::json!({"status": "ready", "generation": worker.view().generation.number});
            (StatusCode::OK, "application/json", ready.to_string().into())
        }
        "/stats" => match stats::json(&worker.shared, request.uri()).await {
            Ok(json) => (StatusCode::OK, "application/json", json.into()),
            Err(failure) => return refusal(worker, &failure),
        },
        "/metrics" => match metrics::text(&worker.shared).await {
            Ok(text) => (StatusCode::OK, metrics::CONTENT_TYPE, text.into()),
            Err(failure) => return refusal(worker, &failure),
        },
        _ => (StatusCode::OK, "text/html; charset=utf-8", Bytes::from_static(DASHBOARD.as_bytes())),
    };
    let mut reply = Response::new(Reply::Whole(Some(body)));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if content_type.starts_with("text/html") {
        headers.insert(CONTENT_SECURITY_POLICY, dashboard_policy());
    }
    relay::with_request_id(&mut reply, &worker.next_request_id());
    reply
}

fn refusal(worker: &Worker, failure: &Failure) -> Response<Reply> {
    let request_id = worker.next_request_id();
    let mut reply = failure_reply(failure, &request_id);
    relay::with_request_id(&mut reply, &request_id);
    reply
}

/// The dashboard loads nothing from elsewhere, and of scripts and styles only its own run: those with these hashes.
fn dashboard_policy() -> HeaderValue {
    let hash = |tag: &str| {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let rest = DASHBOARD.split_once(&open).map_or("", |(_, rest)| rest);
        let text = rest.split_once(&close).map_or("", |(text, _)| text);
        STANDARD.encode(sha256(text.as_bytes()))
    };
    let (script, style) = (hash("script"), hash("style"));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("base64 and directives are visible ASCII")
}
