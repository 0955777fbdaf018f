//! Which channel serves this request, and how: asks the plugins of the key's channels, in order, until one sends.
//!
//! Order: higher `priority` first; within a priority, channels with a `weight` in weighted random order, then those
//! without one as the key lists them. A channel that cannot serve now (disabled, no plugin or one that backs off, no
//! upstream key) is passed over while another may; its reason is what the client is told when none does.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::ProxyKey;
use crate::error::{Failure, Kind};
use crate::exchange::plan::{Answer, Prepared};
use crate::exchange::reuse::Record;
use crate::exchange::view::{WorkerChannel, WorkerPlugin, WorkerTrial};
use crate::exchange::worker::Worker;
use crate::generation::Arm;
use crate::plugin::{Caller, Decision, Request, Reuse, Transport};

/// A candidate, with the version of its plugin that is asked.
pub struct Contender {
    pub channel: Rc<WorkerChannel>,
    pub plugin: Rc<WorkerPlugin>,
    /// Where the channel compares two versions: what is counted for this one.
    pub arm: Option<Arc<Arm>>,
}

/// The channel that serves, and how.
pub struct Decided {
    pub channel: Rc<WorkerChannel>,
    /// The version that decided.
    pub plugin: Rc<WorkerPlugin>,
    pub prepared: Rc<Prepared>,
}

/// What the candidates could not do, kept for the reply.
#[derive(Default)]
pub struct Refusals {
    first: Option<Failure>,
}

impl Refusals {
    pub fn add(&mut self, failure: Failure) {
        self.first.get_or_insert(failure);
    }

    /// The reply when no candidate is left.
    pub fn into_failure(self) -> Failure {
        self.first.unwrap_or_else(|| {
            Failure::new(
                Kind::NoRoute,
                "no channel of this proxy key serves this request; check the path and the model",
            )
        })
    }
}

/// The candidates in the order in which they are asked.
pub fn order(worker: &Worker, mut candidates: Vec<Rc<WorkerChannel>>) -> Vec<Rc<WorkerChannel>> {
    if candidates.len() < 2 {
        return candidates;
    }
    // A weighted draw without replacement is a sort by `random^(1/weight)`; without a weight the draw is 0.
    let draw = |weight: u32| {
        let random = (worker.random_below(1 << 53) as f64 + 1.0) / (1_u64 << 53) as f64;
        if weight == 0 { 0.0 } else { random.powf(1.0 / f64::from(weight)) }
    };
    let mut drawn: Vec<_> = candidates
        .drain(..)
        .map(|candidate| (candidate.channel.priority, draw(candidate.channel.weight), candidate))
        .collect();
    drawn.sort_by(|(left_priority, left_draw, _), (right_priority, right_draw, _)| {
        right_priority.cmp(left_priority).then(right_draw.total_cmp(left_draw))
    });
    drawn.into_iter().map(|(_, _, candidate)| candidate).collect()
}

/// Why this channel cannot be asked at the moment; or its plugin, of the version that serves.
pub fn usable(candidate: &WorkerChannel, transport: Transport) -> Result<&Rc<WorkerPlugin>, Failure> {
    if !candidate.channel.active {
        return Err(Failure::new(Kind::ChannelDisabled, "this channel is disabled"));
    }
    if transport == Transport::Websocket && !candidate.channel.supports_websocket {
        return Err(Failure::new(Kind::WebSocketUnsupported, "WebSockets are not supported on this channel"));
    }
    candidate.plugin.as_ref().map_err(|reason| {
        Failure::new(Kind::ChannelUnavailable, "this channel has no working plugin at the moment").because(reason)
    })
}

/// Whether the plugin never saw the request, so that it is nobody's answer and the next candidate may be asked.
pub fn was_not_asked(failure: &Failure) -> bool {
    matches!(
        failure.kind,
        Kind::PluginBackOff
            | Kind::PluginBusy
            | Kind::ChannelDisabled
            | Kind::ChannelUnavailable
            | Kind::WebSocketUnsupported
    )
}

/// The version that this exchange is for: during a trial, the new one for its share of them.
pub fn contender(worker: &Worker, channel: Rc<WorkerChannel>, settled: Rc<WorkerPlugin>) -> Contender {
    let (plugin, arm) = match &channel.trial {
        None => (settled, None),
        Some(WorkerTrial { trial, plugin }) if worker.random_below(100) < u64::from(trial.percent) => {
            (plugin.clone(), Some(trial.new.clone()))
        }
        Some(WorkerTrial { trial, .. }) => (settled, Some(trial.old.clone())),
    };
    Contender { channel, plugin, arm }
}

impl Contender {
    /// Counts what the plugin did, where versions are compared. What then comes of a plan, the exchange's end tells.
    pub fn note(&self, answer: &Result<Rc<Answer>, Failure>) {
        let Some(arm) = &self.arm else { return };
        match answer.as_deref() {
            Ok(Answer::Send(_)) => {}
            Ok(Answer::Decline | Answer::Refuse(_)) => arm.refused(),
            // The plan asks for a secret that the channel does not have, or there is none.
            Ok(Answer::KeyMissing(_)) | Err(_) => arm.plugin_failed(),
        }
    }
}

/// Asks one candidate's plugin, or takes the answer it gave to an equal request.
pub async fn ask(
    contender: &Contender,
    request: Request,
    key: &ProxyKey,
    request_id: &str,
    spent: &mut Duration,
) -> Result<Rc<Answer>, Failure> {
    let Contender { channel: candidate, plugin, .. } = contender;
    let caller = || Caller { id: key.id.clone(), tags: key.tags.clone() };
    let reuse = plugin.deployed.profile.reuse;
    if reuse == Reuse::Never {
        let decision = call(plugin, &request, &caller(), request_id, spent).await?;
        return Answer::from_decision(decision, &candidate.channel, &request).map(Rc::new);
    }
    let record = Record { caller: (reuse == Reuse::SameCaller).then(caller), request };
    if let Some(answer) = plugin.answers.borrow_mut().find(&record) {
        return Ok(answer);
    }
    let decision = call(plugin, &record.request, &caller(), request_id, spent).await?;
    let answer = Rc::new(Answer::from_decision(decision, &candidate.channel, &record.request)?);
    plugin.answers.borrow_mut().keep(record, answer.clone());
    Ok(answer)
}

/// In a box: the exchange's future, which is moved about, then has no room for what a reused answer does not need.
fn call<'a>(
    plugin: &'a WorkerPlugin,
    request: &'a Request,
    caller: &'a Caller,
    request_id: &'a str,
    spent: &'a mut Duration,
) -> impl Future<Output = Result<Decision, Failure>> + 'a {
    Box::pin(async move {
        let began = Instant::now();
        let decision = plugin.instances.decide(request, caller, request_id).await;
        let took = began.elapsed();
        *spent += took;
        plugin.calls.note(took, decision.as_ref().err());
        decision
    })
}

/// What an answer means for the exchange: serve, or ask the next candidate (`None`), or end.
pub fn judge(contender: &Contender, answer: &Answer, refusals: &mut Refusals) -> Result<Option<Decided>, Failure> {
    match answer {
        Answer::Send(prepared) => {
            let Contender { channel, plugin, .. } = contender;
            Ok(Some(Decided { channel: channel.clone(), plugin: plugin.clone(), prepared: prepared.clone() }))
        }
        Answer::Decline => Ok(None),
        Answer::Refuse(failure) => Err(failure.clone()),
        Answer::KeyMissing(reason) => {
            refusals.add(
                Failure::new(Kind::ChannelUnavailable, "this channel has no upstream key at the moment")
                    .because(reason),
            );
            Ok(None)
        }
    }
}
