//! Which channel serves, and how: joins `classify` and `decide` for each candidate.
//!
//! In the built-in order the candidates are asked one after the other, until one sends. With a router all of them are asked
//! first, and it orders those that did not decline; one that fails costs nothing but its word: that exchange goes by the
//! built-in order.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use http::Method;
use http::request::Parts;

use crate::error::{Failure, Kind};
use crate::exchange::capture::Capture;
use crate::exchange::classify::{self, Fields};
use crate::exchange::decide::{self, Contender, Decided, Refusals};
use crate::exchange::identify::{Form, Identified};
use crate::exchange::plan::Answer;
use crate::exchange::settle::Settle;
use crate::exchange::source::Source;
use crate::exchange::view::{View, WorkerChannel, WorkerRouter};
use crate::exchange::worker::Worker;
use crate::plugin::{Caller, Candidate, Presented, Profile, Request as Record, Route, Transport};
use crate::stats::Level;

/// What is known of a request by the time that plugins are asked about it.
pub struct Asked<'a> {
    pub parts: &'a Parts,
    pub transport: Transport,
    pub source: &'a Source,
    pub identified: &'a Identified,
}

/// A candidate that did not decline.
struct Planned {
    contender: Contender,
    answer: Rc<Answer>,
    /// That the request names, as its plugin was told.
    model: Option<String>,
}

/// Whether some plugin that may be asked wants to know what the body says.
pub fn reads_body(view: &View, candidates: &[Rc<WorkerChannel>]) -> bool {
    let has_fields = |channel: &Rc<WorkerChannel>| channel.plugins().any(|plugin| plugin.fields.is_some());
    let router = view.router.as_ref().filter(|_| candidates.len() > 1);
    candidates.iter().any(has_fields) || router.is_some_and(|router| router.fields.is_some())
}

/// The channel that serves.
pub async fn choose(
    worker: &Rc<Worker>,
    view: &View,
    candidates: Vec<Rc<WorkerChannel>>,
    asked: &Asked<'_>,
    settle: &mut Settle,
) -> Result<Decided, Failure> {
    let candidates = decide::order(worker, candidates);
    match &view.router {
        // In a box: most requests have one candidate, and the exchange's future is moved about.
        Some(router) if candidates.len() > 1 => Box::pin(routed(worker, router, candidates, asked, settle)).await,
        _ => in_order(worker, candidates, asked, settle).await,
    }
}

async fn in_order(
    worker: &Worker,
    candidates: Vec<Rc<WorkerChannel>>,
    asked: &Asked<'_>,
    settle: &mut Settle,
) -> Result<Decided, Failure> {
    let mut refusals = Refusals::default();
    for candidate in candidates {
        match ask(worker, candidate, asked, settle).await {
            Ok(Some(planned)) => {
                if let Some(decided) = taken(planned, &mut refusals, settle)? {
                    return Ok(decided);
                }
            }
            Ok(None) => {}
            Err(failure) if decide::was_not_asked(&failure) => refusals.add(failure),
            Err(failure) => return Err(failure),
        }
    }
    Err(refusals.into_failure())
}

async fn routed(
    worker: &Rc<Worker>,
    router: &Rc<WorkerRouter>,
    candidates: Vec<Rc<WorkerChannel>>,
    asked: &Asked<'_>,
    settle: &mut Settle,
) -> Result<Decided, Failure> {
    let mut refusals = Refusals::default();
    let mut planned = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        match ask(worker, candidate, asked, settle).await {
            Ok(Some(plan)) if matches!(*plan.answer, Answer::KeyMissing(_)) => {
                taken(plan, &mut refusals, settle)?;
            }
            Ok(Some(plan)) => planned.push(Some(plan)),
            Ok(None) => {}
            // There are others, whose plugins are well.
            Err(failure) => refusals.add(failure),
        }
    }
    if planned.is_empty() {
        return Err(refusals.into_failure());
    }
    let order = match route(router, &planned, asked, settle).await {
        // Its word, whatever the others could not do.
        Ok(Route::Order(order)) if order.is_empty() => return Err(Refusals::default().into_failure()),
        Ok(Route::Order(order)) => order,
        Ok(Route::Refuse(failure)) => return Err(failure),
        Err(failure) => {
            fell_back(worker, router, &failure, settle);
            (0..planned.len()).collect()
        }
    };
    for position in order {
        let Some(planned) = planned[position].take() else { continue };
        // Others were asked after it.
        settle.channel(planned.contender.channel.clone(), Some(planned.contender.plugin.clone()));
        if let Some(decided) = taken(planned, &mut refusals, settle)? {
            return Ok(decided);
        }
    }
    Err(refusals.into_failure())
}

/// What the candidate's plugin says; `None` where it declined.
async fn ask(
    worker: &Worker,
    candidate: Rc<WorkerChannel>,
    asked: &Asked<'_>,
    settle: &mut Settle,
) -> Result<Option<Planned>, Failure> {
    let settled = match decide::usable(&candidate, asked.transport) {
        Ok(settled) => settled.clone(),
        Err(failure) => {
            settle.channel(candidate, None);
            return Err(failure);
        }
    };
    let contender = decide::contender(worker, candidate, settled);
    settle.channel(contender.channel.clone(), Some(contender.plugin.clone()));
    let plugin = &contender.plugin;
    let record = record(asked, &plugin.deployed.profile, plugin.fields.as_ref()).await;
    let model = record.model.clone();
    let request_id = settle.request_id;
    let key = &asked.identified.key;
    let capture = Capture::begin(&contender, &record, &asked.parts.headers, asked.identified);
    let answer = decide::ask(&contender, record, key, &request_id, &mut settle.plugin).await;
    if let Some(capture) = capture {
        capture.end(&worker.shared.captures, &contender, &answer, &request_id);
    }
    contender.note(&answer);
    let answer = answer?;
    Ok((!matches!(*answer, Answer::Decline)).then_some(Planned { contender, answer, model }))
}

/// What the answer means for the exchange: it serves, or the next one is looked at (`None`), or all is over.
fn taken(planned: Planned, refusals: &mut Refusals, settle: &mut Settle) -> Result<Option<Decided>, Failure> {
    let Planned { contender, answer, model } = planned;
    let decided = decide::judge(&contender, &answer, refusals)?;
    if let Some(decided) = &decided {
        settle.planned_by(&contender);
        settle.model(decided.prepared.plan.model.clone().or(model));
    }
    Ok(decided)
}

async fn route(
    router: &WorkerRouter,
    planned: &[Option<Planned>],
    asked: &Asked<'_>,
    settle: &mut Settle,
) -> Result<Route, Failure> {
    let channels: Vec<_> = planned.iter().flatten().map(|planned| &*planned.contender.channel).collect();
    let began = Instant::now();
    let answer = ask_router(router, &channels, asked, &settle.request_id).await;
    let took = began.elapsed();
    settle.plugin += took;
    router.calls.note(took, answer.as_ref().err());
    answer
}

/// In which order the router would have these tried.
pub async fn ask_router(
    router: &WorkerRouter,
    channels: &[&WorkerChannel],
    asked: &Asked<'_>,
    request_id: &str,
) -> Result<Route, Failure> {
    let key = &asked.identified.key;
    let caller = Caller { id: key.id.clone(), tags: key.tags.clone() };
    let candidates: Vec<_> = channels.iter().map(|channel| candidate(channel)).collect();
    let record = record(asked, &router.deployed.profile, router.fields.as_ref()).await;
    router.instances.route(&record, &caller, &candidates, request_id).await
}

/// As the router sees it.
fn candidate(worker_channel: &WorkerChannel) -> Candidate {
    let WorkerChannel { channel, signals, .. } = worker_channel;
    let mut told = vec![("in-flight".to_owned(), signals.in_flight() as f64)];
    if let Some(seconds) = signals.latency_seconds() {
        told.push(("latency-ms".to_owned(), seconds * 1e3));
        told.push(("error-rate".to_owned(), signals.error_rate()));
    }
    Candidate {
        channel: channel.id.clone(),
        priority: channel.priority,
        weight: channel.weight,
        available: true,
        signals: told,
    }
}

fn fell_back(worker: &Worker, router: &WorkerRouter, failure: &Failure, settle: &Settle) {
    let stats = &worker.shared.stats;
    stats.router_fallbacks.fetch_add(1, Relaxed);
    let plugin = &router.deployed.version.name;
    // While it backs off, and while none is ready, every exchange comes here.
    if !decide::was_not_asked(failure) {
        let request_id = &*settle.request_id;
        tracing::warn!(request_id, plugin, "the router failed, the built-in order holds for this exchange: {failure}");
    }
    let message = match failure.kind {
        Kind::PluginBackOff => "the router is not asked for a while; the built-in order holds".to_owned(),
        _ => format!("{}; the built-in order held", failure.message.trim_end_matches('.')),
    };
    stats.events.add(Level::Error, "plugin", plugin, &message, 1);
}

/// What a plugin with this profile is shown of the request.
pub async fn record(asked: &Asked<'_>, profile: &Profile, fields: Option<&Fields>) -> Record {
    let Asked { parts, transport, source, identified } = *asked;
    let facts = match fields {
        Some(fields) => classify::facts(&parts.headers, source.held(), profile, fields).await,
        None => classify::Facts { streaming: classify::accepts_events(&parts.headers), ..classify::Facts::default() },
    };
    let headers = profile
        .headers
        .iter()
        .flat_map(|name| parts.headers.get_all(name).iter().map(move |value| (name, value)))
        .filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), std::str::from_utf8(value.as_bytes()).ok()?.to_owned()))
        })
        .collect();
    Record {
        transport,
        // Over HTTP/2 a WebSocket is opened by CONNECT, which is the same to a plugin.
        method: if parts.method == Method::CONNECT { "GET" } else { parts.method.as_str() }.to_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        presented: match identified.form {
            Form::Bearer => Presented::Authorization("bearer".to_owned()),
            Form::Header(name) => Presented::Header(name.to_owned()),
            Form::Query(name) => Presented::Query(name.to_owned()),
            Form::Subprotocol => Presented::Subprotocol,
        },
        headers,
        model: facts.model,
        streaming: facts.streaming,
        body: facts.body,
    }
}
