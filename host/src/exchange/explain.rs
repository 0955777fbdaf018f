//! The stages up to `decide` for a request that is not sent, and what each candidate said.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;

use crate::config::ProxyKey;
use crate::error::Failure;
use crate::exchange::capture::Head;
use crate::exchange::choose::{Asked, ask_router, record};
use crate::exchange::classify::{self, Held};
use crate::exchange::decide::{self, Contender, Decided, Refusals};
use crate::exchange::identify::{Form, Identified};
use crate::exchange::plan::Answer;
use crate::exchange::source::Source;
use crate::exchange::view::WorkerChannel;
use crate::exchange::worker::Worker;
use crate::plugin::{Caller, Route};

/// What one candidate said.
pub enum Verdict {
    Sends,
    Declined,
    /// Cannot serve now.
    Unusable(Failure),
    /// Ends the exchange with this reply.
    Fails(Failure),
}

pub struct Story {
    pub asked: Vec<(Rc<WorkerChannel>, Verdict)>,
    /// Where there is a router, and something to order.
    pub routed: Option<Routed>,
    pub decided: Option<Decided>,
    pub model: Option<String>,
    /// With what all that were asked were shown; none where nobody was.
    pub head: Option<Head>,
}

/// What the router said.
pub enum Routed {
    /// Ids, best first.
    Order(Vec<String>),
    Refused(Failure),
    /// The built-in order holds.
    Failed(Failure),
}

/// Asks the key's channels as an exchange would: in order, or all of them and then the router.
pub async fn explain(worker: &Rc<Worker>, key: Arc<ProxyKey>, form: Form, parts: &Parts, body: Option<Bytes>) -> Story {
    let view = worker.view();
    let candidates: Vec<_> = view.channels_of(&key).cloned().collect();
    let source = Source::Held(Held::complete(body.unwrap_or_default(), &worker.shared));
    let identified = Identified { key, form, digest: [0; 32], key_bytes: 0 };
    let asked = Asked { parts, transport: classify::transport(parts), source: &source, identified: &identified };
    let router = view.router.as_ref().filter(|_| candidates.len() > 1);
    let mut story = Story { asked: Vec::new(), routed: None, decided: None, model: None, head: None };
    // With a router: those that did not decline.
    let mut planned = Vec::new();
    for candidate in decide::order(worker, candidates) {
        let (verdict, decided) = ask(&candidate, &asked, &mut story).await;
        let is_refusal = matches!(&verdict, Verdict::Fails(failure) if failure.refusal.is_some());
        let ends = matches!(verdict, Verdict::Sends | Verdict::Fails(_));
        story.asked.push((candidate.clone(), verdict));
        if router.is_some() {
            if decided.is_some() || is_refusal {
                planned.push((candidate, decided));
            }
        } else if ends {
            story.decided = decided;
            break;
        }
    }
    if let Some(router) = router.filter(|_| !planned.is_empty()) {
        let channels: Vec<_> = planned.iter().map(|(channel, _)| &**channel).collect();
        let (first, said) = match ask_router(router, &channels, &asked, "explain").await {
            Ok(Route::Order(order)) => {
                let ids = order.iter().map(|position| channels[*position].channel.id.clone());
                (order.first().copied(), Routed::Order(ids.collect()))
            }
            Ok(Route::Refuse(failure)) => (None, Routed::Refused(failure)),
            Err(failure) => (Some(0), Routed::Failed(failure)),
        };
        story.routed = Some(said);
        story.decided = first.and_then(|position| planned.swap_remove(position).1);
    }
    story
}

async fn ask(candidate: &Rc<WorkerChannel>, asked: &Asked<'_>, story: &mut Story) -> (Verdict, Option<Decided>) {
    let Asked { parts, transport, identified, .. } = *asked;
    let plugin = match decide::usable(candidate, transport) {
        Ok(plugin) => plugin.clone(),
        Err(failure) => return (Verdict::Unusable(failure), None),
    };
    let contender = Contender { channel: candidate.clone(), plugin, arm: None };
    let plugin = &contender.plugin;
    let profile = &plugin.deployed.profile;
    let record = record(asked, profile, plugin.fields.as_ref()).await;
    story.model.clone_from(&record.model);
    if let Some(head) = &mut story.head {
        head.add(&record, profile);
    } else {
        let caller = Caller { id: identified.key.id.clone(), tags: identified.key.tags.clone() };
        story.head = Some(Head::of(&record, &parts.headers, profile, caller).0);
    }
    let mut spent = Duration::ZERO;
    let answer = match decide::ask(&contender, record, &identified.key, "explain", &mut spent).await {
        Ok(answer) => answer,
        Err(failure) if decide::was_not_asked(&failure) => return (Verdict::Unusable(failure), None),
        Err(failure) => return (Verdict::Fails(failure), None),
    };
    let mut refusals = Refusals::default();
    match decide::judge(&contender, &answer, &mut refusals) {
        Ok(Some(decided)) => (Verdict::Sends, Some(decided)),
        Ok(None) if matches!(*answer, Answer::Decline) => (Verdict::Declined, None),
        Ok(None) => (Verdict::Unusable(refusals.into_failure()), None),
        Err(failure) => (Verdict::Fails(failure), None),
    }
}
