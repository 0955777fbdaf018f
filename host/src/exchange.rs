//! One exchange: the only file that knows the order of the stages.
//!
//! `identify` → `classify` → `decide` (for each candidate: `choose`) → `forward` → `relay` → `settle`. Each stage is a file that takes a value and
//! gives one; none imports another. [`serve`] never fails: what goes wrong becomes a reply in the one error format.

pub mod capture;
pub mod choose;
pub mod classify;
pub mod cookies;
pub mod cors;
pub mod decide;
pub mod explain;
pub mod forward;
pub mod handshake;
pub mod head;
pub mod identify;
pub mod names;
pub mod plan;
pub mod relay;
pub mod reuse;
pub mod settle;
pub mod sockets;
mod source;
pub mod trace;
mod usage;
pub mod view;
pub mod worker;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;

use crate::config::{Limits, UsageSource};
use crate::error::{Failure, Kind};
use crate::exchange::choose::{Asked, choose};
use crate::exchange::classify::{Held, ReadLimits};
use crate::exchange::decide::Decided;
use crate::exchange::handshake::Offered;
use crate::exchange::identify::{Form, Identified};
use crate::exchange::plan::Prepared;
use crate::exchange::relay::websocket::{Accepted, Observer};
use crate::exchange::relay::{Filtered, Reply};
use crate::exchange::settle::Settle;
use crate::exchange::source::Source;
use crate::exchange::trace::TraceId;
use crate::exchange::view::{View, WorkerChannel};
use crate::exchange::worker::{Counted, Worker};
use crate::json::Query;
use crate::meter::{MessageMeter, Meter};
use crate::plugin::Transport;
use crate::upstream::{ReplyBody, Tunnel, Upgrade, Uploaded};

/// What the connection knows of the client.
#[derive(Debug, Clone)]
pub struct Client {
    pub peer: IpAddr,
    /// The address as text, written once for all requests of the connection; an IPv4 address never as an IPv6 one.
    pub address: HeaderValue,
    pub is_tls: bool,
}

impl Client {
    pub fn new(address: IpAddr, is_tls: bool) -> Self {
        let text = address.to_canonical().to_string();
        Self { peer: address, address: HeaderValue::try_from(text).expect("an address is visible ASCII"), is_tls }
    }
}

/// Answers one request.
pub async fn serve(worker: Rc<Worker>, client: Client, request: Request<Incoming>) -> Response<Reply> {
    let view = worker.view();
    let checked = head::check(&request, &view.generation.config.gateway.limits);
    let (parts, body) = request.into_parts();
    let origins = &view.generation.config.gateway.cors_origins;
    let browser = cors::allowed(&parts.headers, origins);
    let mut settle = Settle::begin(worker.clone(), parts.method.clone(), parts.uri.clone(), client.address.clone());
    settle.trace_id = TraceId::of(&parts.headers);
    let mut reply = match &browser {
        Some(allowed) if checked.is_ok() && cors::is_preflight(&parts.method, &parts.headers) => {
            let reply = allowed.preflight::<Option<Bytes>>(&parts.headers).map(Reply::Whole);
            settle.preflight(reply.status());
            return identified(reply, &settle.request_id);
        }
        _ => {
            let request_id = settle.request_id;
            let outcome = match checked {
                Ok(()) => run(&worker, &view, &client, parts, body, &mut settle).await,
                Err(failure) => Err(failure),
            };
            let reply = match outcome {
                Ok(Forwarded::Reply(reply, meter, filter)) => relay::relay(reply, settle, meter, filter),
                Ok(Forwarded::Socket(socket)) => socket.relay(worker.clone(), view.clone(), settle),
                Err(failure) => {
                    let reply = failure_reply(&failure, &request_id);
                    settle.failed(failure);
                    reply
                }
            };
            identified(reply, &request_id)
        }
    };
    if !origins.is_empty() {
        cors::decorate(browser.as_ref(), reply.headers_mut());
    }
    reply
}

/// What came of sending the request upstream.
#[expect(clippy::large_enum_variant, reason = "most are the large one, and each is taken apart at once")]
enum Forwarded {
    Reply(Response<ReplyBody>, Option<Meter>, Option<Box<Filtered>>),
    Socket(Box<Socket>),
}

/// A WebSocket that the upstream has accepted.
struct Socket {
    answer: Response<()>,
    tunnel: Tunnel,
    meter: Option<MessageMeter>,
    /// Where to look for the model, where it is not known.
    model: Option<Arc<Query>>,
    key_digest: [u8; 32],
}

impl Socket {
    fn relay(self, worker: Rc<Worker>, view: Rc<View>, settle: Settle) -> Response<Reply> {
        let Self { answer, tunnel, meter, model, key_digest } = self;
        let observer = Observer::new(settle, meter, model);
        answer.map(|()| Reply::Switch(Box::new(Accepted { worker, view, tunnel, observer, key_digest })))
    }
}

async fn run(
    worker: &Rc<Worker>,
    view: &View,
    client: &Client,
    mut parts: Parts,
    body: Incoming,
    settle: &mut Settle,
) -> Result<Forwarded, Failure> {
    let transport = classify::transport(&parts);
    if transport == Transport::Websocket {
        settle.websocket();
    }
    let config = &view.generation.config;
    let limits = &config.gateway.limits;
    let place = Counted::new(&worker.shared, |shared| &shared.in_flight, limits.in_flight_max).ok_or_else(|| {
        Failure::new(Kind::TooManyExchanges, "the gateway serves as many requests as it may; try again").retry_after(1)
    })?;
    settle.place(place);

    let identified = identify::identify(&mut parts.headers, &mut parts.uri, &config.keys)?;
    settle.key(identified.key.clone());

    let candidates: Vec<_> = view.channels_of(&identified.key).cloned().collect();
    if transport == Transport::Websocket {
        // In a box: the exchange's future, which is moved about, then has no room for what most requests do not need.
        return Box::pin(open_socket(worker, view, client, parts, candidates, identified, settle)).await;
    }
    let mut source = Source::Open(body);
    let read_limits = read_limits(limits);
    if choose::reads_body(view, &candidates) {
        source = settle.waits(source.read_if_telling(&parts, read_limits, worker)).await?;
    }

    let asked = Asked { parts: &parts, transport, source: &source, identified: &identified };
    let Decided { channel, plugin, prepared } = choose(worker, view, candidates, &asked, settle).await?;

    let may_ask_usage = channel.channel.usage == UsageSource::Ask && usage::may_be_asked_for(&prepared, &parts);
    if may_ask_usage {
        source = settle.waits(Box::pin(source.read_if_telling(&parts, read_limits, worker))).await?;
    }
    make_upstreams(&mut parts, client, &prepared);
    if !prepared.plan.body.is_empty() {
        // In a box: few plans edit bodies, and the exchange's future is moved about.
        source = settle.waits(Box::pin(source.edited(&prepared, read_limits, worker))).await?;
    }
    let asked_usage = may_ask_usage && Box::pin(usage::ask(&mut source)).await;
    let (mut body, reservation) = source.into_request_body();
    settle.attempt(body.count(), prepared.plan.meters.is_some());
    let is_head = parts.method == Method::HEAD;
    let mut reply =
        forward::send(&worker.upstream, &prepared, &channel.channel.timeouts, parts.method, parts.headers, body)
            .await?;
    // By now the body is on its way, or no longer wanted.
    drop(reservation);
    forward::clean_reply(&mut reply, is_head)?;
    settle.replied(reply.status());
    let meter = plugin.meter(&prepared.plan, reply.headers());
    let is_filtered = asked_usage && meter.as_ref().is_some_and(Meter::reads_events);
    Ok(Forwarded::Reply(reply, meter, is_filtered.then(Box::default)))
}

/// A handshake: the upstream's comes first, and only when it has succeeded does the client get its own.
async fn open_socket(
    worker: &Rc<Worker>,
    view: &View,
    client: &Client,
    mut parts: Parts,
    candidates: Vec<Rc<WorkerChannel>>,
    identified: Identified,
    settle: &mut Settle,
) -> Result<Forwarded, Failure> {
    let opening = handshake::check(&parts)?;
    let origins = &view.generation.config.gateway.cors_origins;
    handshake::check_origin(&parts.headers, handshake::host(&parts).as_ref(), origins)?;
    let offered = Offered::new(&parts.headers, identified.form == Form::Subprotocol);

    let source = Source::Held(Held::complete(Bytes::new(), &worker.shared));
    let asked = Asked { parts: &parts, transport: Transport::Websocket, source: &source, identified: &identified };
    let Decided { channel, plugin, prepared } = choose(worker, view, candidates, &asked, settle).await?;

    make_upstreams(&mut parts, client, &prepared);
    let asked = handshake::ask(&mut parts.headers);
    settle.attempt(Uploaded::default(), prepared.plan.meters.is_some());
    let sent = forward::open(&worker.upstream, &prepared, &channel.channel.timeouts, parts.headers).await?;
    match sent {
        Upgrade::Refused(mut reply) => {
            forward::clean_reply(&mut reply, false)?;
            opening.check_refusal(reply.status())?;
            settle.replied(reply.status());
            let meter = plugin.meter(&prepared.plan, reply.headers());
            Ok(Forwarded::Reply(reply, meter, None))
        }
        Upgrade::Switched(mut headers, tunnel) => {
            let chosen = handshake::verify(&asked, &headers)?;
            // hyper would say `close` beside `Upgrade`, which not every client understands.
            if worker.shared.draining.load(Ordering::Relaxed) {
                return Err(Failure::new(Kind::Stopping, "the gateway is being stopped; try again").retry_after(1));
            }
            forward::clean_switch(&mut headers);
            let answer = opening.answer(headers, chosen, &offered);
            settle.replied(answer.status());
            let meter = plugin.socket_meter(&prepared.plan);
            let is_model_known = prepared.plan.model.is_some();
            let model = plugin.socket_model.clone().filter(|_| !is_model_known);
            let key_digest = identified.digest;
            Ok(Forwarded::Socket(Box::new(Socket { answer, tunnel, meter, model, key_digest })))
        }
    }
}

/// Turns the client's headers into what the upstream gets: hop-by-hop headers and the gateway's own cookie out, edits in,
/// the credential last.
fn make_upstreams(parts: &mut Parts, client: &Client, prepared: &Prepared) {
    let host = names::remove(&mut parts.headers, &header::HOST).or_else(|| handshake::authority(&parts.uri));
    forward::clean_request(&mut parts.headers);
    names::remove(&mut parts.headers, &header::EXPECT);
    cookies::remove_admin(&mut parts.headers);
    if parts.version == Version::HTTP_2 {
        cookies::join(&mut parts.headers);
    }
    forward::add_forwarded(&mut parts.headers, &client.address, host, client.is_tls);
    prepared.edit_headers(&mut parts.headers);
}

fn read_limits(limits: &Limits) -> ReadLimits {
    ReadLimits {
        bytes_max: limits.inspect_bytes_max,
        budget_bytes: limits.inspect_budget_bytes,
        idle: limits.keep_alive,
    }
}

/// The one error format (see [`Failure::to_json`]).
pub fn failure_reply(failure: &Failure, request_id: &str) -> Response<Reply> {
    let mut reply = Response::new(Reply::Whole(Some(failure.to_json(request_id).into())));
    *reply.status_mut() = failure.status();
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = failure.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if failure.status() == http::StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if failure.kind == Kind::WebSocketUpgradeRequired {
        handshake::require_upgrade(headers);
    }
    if failure.kind.closes_connection() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

fn identified(mut reply: Response<Reply>, request_id: &str) -> Response<Reply> {
    relay::with_request_id(&mut reply, request_id);
    reply
}
