//! The built-in routes: `/healthz`, `/readyz`, `/stats`, `/metrics`, `/dashboard`, and commands below `/admin/plugins/`.
//!
//! Taken exactly, for GET and HEAD only, and POST of the form that signs in and of commands; everything else is the
//! provider's. The first two are for everybody, the others for whom [`access`] admits, commands for the admin token alone. None of them needs a proxy key, and none shows a secret:
//! proxy keys appear as a count, plugins and files with their versions and last errors. No page of another origin may read,
//! embed or frame any of them, whatever `cors_origins` says of the providers' paths.

mod access;
mod admin;
mod dashboard;
mod metrics;
mod policy;
mod process;
mod sign_in;
mod stats;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
    REFERRER_POLICY, SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use crate::config::{AdminToken, Gateway};
use crate::error::{Failure, Kind};
use crate::exchange::relay::{self, Reply};
use crate::exchange::worker::Worker;
use crate::exchange::{self, Client};
use access::{Refusal, Verdict, Viewer};

/// What is posted is small.
const BODY_BYTES_MAX: usize = 4096;
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A built-in route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    Health,
    Ready,
    Stats,
    Metrics,
    Dashboard,
    /// The form on the page of a viewer who may not look.
    SignIn,
    /// A command about a plugin.
    Command,
}

impl Page {
    /// `None`: it is the provider's. Asked about every request.
    pub fn of(method: &Method, path: &str) -> Option<Self> {
        if method == Method::GET || method == Method::HEAD {
            match path {
                "/healthz" => Some(Self::Health),
                "/readyz" => Some(Self::Ready),
                "/stats" => Some(Self::Stats),
                "/metrics" => Some(Self::Metrics),
                sign_in::PATH => Some(Self::Dashboard),
                _ => None,
            }
        } else if method == Method::POST && path == sign_in::PATH {
            Some(Self::SignIn)
        } else if method == Method::POST && path.starts_with(admin::PATH) {
            Some(Self::Command)
        } else {
            None
        }
    }
}

/// Answers a request for this page, whose head is sound.
pub async fn answer(page: Page, worker: &Worker, client: &Client, request: Request<Incoming>) -> Response<Reply> {
    let view = worker.view();
    let gateway = &view.generation.config.gateway;
    let request_id = worker.next_request_id();
    let mut reply = match page {
        Page::Health => said(StatusCode::OK, JSON, Bytes::from_static(b"{\"status\":\"ok\"}")),
        Page::Ready => readiness(worker),
        Page::SignIn => sign_in(gateway, client, request, &request_id).await,
        Page::Command => admin::answer(worker, gateway, request, &request_id).await,
        Page::Stats | Page::Metrics | Page::Dashboard => {
            guarded(page, worker, gateway, client, &request, &request_id).await
        }
    };
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    relay::with_request_id(&mut reply, &request_id);
    reply
}

fn readiness(worker: &Worker) -> Response<Reply> {
    if worker.shared.draining.load(Ordering::Relaxed) {
        return said(StatusCode::SERVICE_UNAVAILABLE, JSON, Bytes::from_static(b"{\"status\":\"stopping\"}"));
    }
    let ready = serde_json::json!({"status": "ready", "generation": worker.view().generation.number});
    said(StatusCode::OK, JSON, ready.to_string())
}

/// A page that is not for everybody.
async fn guarded<B>(
    page: Page,
    worker: &Worker,
    gateway: &Gateway,
    client: &Client,
    request: &Request<B>,
    request_id: &str,
) -> Response<Reply> {
    let (uri, headers) = (request.uri(), request.headers());
    let query_token = if page == Page::Dashboard { sign_in::query_token(uri) } else { None };
    let viewer = Viewer {
        peer: client.peer,
        is_tls: client.is_tls,
        version: request.version(),
        uri,
        headers,
        query_token: query_token.as_deref(),
    };
    match access::judge(&viewer, &gateway.admin) {
        Verdict::SignedIn(token) => signed_in(token, client, &sign_in::without_token(uri)),
        Verdict::Refused(refusal) => refused(refusal, page == Page::Dashboard || accepts_html(headers), request_id),
        Verdict::Admitted if page == Page::Dashboard => {
            let mut reply = said(StatusCode::OK, HTML, dashboard::html());
            reply.headers_mut().insert(CONTENT_SECURITY_POLICY, dashboard::policy());
            reply
        }
        Verdict::Admitted => {
            let shown = if page == Page::Metrics {
                metrics::text(&worker.shared).await.map(|text| (metrics::CONTENT_TYPE, text))
            } else {
                stats::json(&worker.shared, uri).await.map(|json| (JSON, json))
            };
            match shown {
                Ok((content_type, text)) => said(StatusCode::OK, content_type, text),
                Err(failure) => exchange::failure_reply(&failure, request_id),
            }
        }
    }
}

/// The form: with the right token a cookie, and on to the dashboard.
async fn sign_in(gateway: &Gateway, client: &Client, request: Request<Incoming>, request_id: &str) -> Response<Reply> {
    let Some(token) = &gateway.admin.token else { return refused(Refusal::NotSet, true, request_id) };
    let form = match read_body(request.into_body(), gateway.limits.head_timeout).await {
        Ok(form) => form,
        Err(failure) => return exchange::failure_reply(&failure, request_id),
    };
    match sign_in::form_token(&form) {
        Some(shown) if token.is(&shown) => signed_in(token, client, sign_in::PATH),
        Some(_) => refused(Refusal::Wrong, true, request_id),
        None => refused(Refusal::Missing, true, request_id),
    }
}

/// To the page itself, so that the token is in no history and a reload sends no form again.
fn signed_in(token: &AdminToken, client: &Client, location: &str) -> Response<Reply> {
    let mut reply = Response::new(Reply::Whole(None));
    *reply.status_mut() = StatusCode::SEE_OTHER;
    let location = HeaderValue::try_from(location).expect("a part of a valid URI is a value");
    reply.headers_mut().insert(LOCATION, location);
    reply.headers_mut().insert(SET_COOKIE, sign_in::cookie(token, client.is_tls));
    reply
}

fn refused(refusal: Refusal, as_html: bool, request_id: &str) -> Response<Reply> {
    let failure = refusal.failure();
    if !as_html {
        return exchange::failure_reply(&failure, request_id);
    }
    let mut reply = said(failure.status(), HTML, refusal.html());
    reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    reply.headers_mut().insert(CONTENT_SECURITY_POLICY, sign_in::policy());
    reply
}

/// Of a form, or a command.
async fn read_body(body: Incoming, patience: Duration) -> Result<Bytes, Failure> {
    match tokio::time::timeout(patience, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Failure::new(Kind::BodyTooLarge, "what is sent here has at most 4096 bytes"))
        }
        Ok(Err(error)) => Err(Failure::new(Kind::BodyBroken, "the body broke off or is malformed").because(error)),
        Err(_) => Err(Failure::new(Kind::BodyBroken, "the body stopped coming, or comes too slowly")),
    }
}

fn said(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Reply> {
    let mut reply = Response::new(Reply::Whole(Some(body.into())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let is_html = |item: &[u8]| item.trim_ascii().to_ascii_lowercase().starts_with(b"text/html");
    headers.get_all(ACCEPT).iter().any(|list| list.as_bytes().split(|byte| *byte == b',').any(is_html))
}
