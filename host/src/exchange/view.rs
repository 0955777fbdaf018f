//! A generation as one worker runs it: its plugins' instances, their reusable answers, what to look for in bodies.
//!
//! Made anew at a worker's first request after a swap; what did not change lives on in it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::config::{Channel, ProxyKey, Router};
use crate::exchange::classify::Fields;
use crate::exchange::reuse::Answers;
use crate::generation::{ChannelState, Generation, Trial};
use crate::json::{Pointer, Query};
use crate::meter::{CompiledMeters, MessageMeter, Meter};
use crate::plugin::{Deployed, Instances, Plan, Profile};
use crate::stats::{PluginCallCounters, Registry, Signals, WorkerCounters};

/// A model's name in a WebSocket's message that is longer counts as absent.
const MODEL_BYTES_MAX: usize = 256;

/// A generation as this worker runs it.
pub struct View {
    pub generation: Arc<Generation>,
    channels: HashMap<String, Rc<WorkerChannel>>,
    pub router: Option<Rc<WorkerRouter>>,
}

/// A channel on this worker.
pub struct WorkerChannel {
    pub channel: Arc<Channel>,
    /// How it is doing, over all workers.
    pub signals: Arc<Signals>,
    /// Why it cannot serve, where it cannot.
    pub plugin: Result<Rc<WorkerPlugin>, String>,
    /// A new version that serves a share of the exchanges.
    pub trial: Option<WorkerTrial>,
}

pub struct WorkerTrial {
    pub trial: Arc<Trial>,
    pub plugin: Rc<WorkerPlugin>,
}

/// A deployed plugin on this worker; it lives on in the next generation where nothing about it changed.
pub struct WorkerPlugin {
    pub deployed: Arc<Deployed>,
    pub instances: Instances,
    pub answers: RefCell<Answers>,
    pub calls: Arc<PluginCallCounters>,
    /// What to look for in a request's body; `None` where the profile asks for nothing there.
    pub fields: Option<Fields>,
    /// Where a WebSocket's client names its model; `None` where the profile does not say.
    pub socket_model: Option<Arc<Query>>,
    /// The profile's sets of meters.
    meters: Vec<Arc<CompiledMeters>>,
}

/// The router on this worker.
pub struct WorkerRouter {
    pub deployed: Arc<Deployed<Router>>,
    pub instances: Instances<Router>,
    pub calls: Arc<PluginCallCounters>,
    /// As a plugin's.
    pub fields: Option<Fields>,
}

impl View {
    pub fn new(
        generation: Arc<Generation>,
        stats: &Registry,
        counters: &WorkerCounters,
        previous: Option<&Self>,
    ) -> Self {
        let channels = generation
            .channels
            .iter()
            .map(|(id, state)| (id.clone(), Rc::new(WorkerChannel::new(state, stats, counters, previous))))
            .collect();
        let router = generation.router.as_ref().map(|deployed| {
            let kept = previous.and_then(|view| view.router.as_ref());
            let kept = kept.filter(|router| Arc::ptr_eq(&router.deployed, deployed));
            kept.cloned().unwrap_or_else(|| Rc::new(WorkerRouter::new(deployed, counters)))
        });
        Self { generation, channels, router }
    }

    pub fn channel(&self, id: &str) -> Option<&Rc<WorkerChannel>> {
        self.channels.get(id)
    }

    /// The channels of a key, as listed there.
    pub fn channels_of<'a>(&'a self, key: &'a ProxyKey) -> impl Iterator<Item = &'a Rc<WorkerChannel>> {
        key.channels.iter().filter_map(|id| self.channel(id))
    }
}

impl WorkerChannel {
    fn new(state: &ChannelState, registry: &Registry, counters: &WorkerCounters, previous: Option<&View>) -> Self {
        let before = previous.and_then(|view| view.channel(&state.channel.id));
        let plugin = |deployed: &Arc<Deployed>| {
            let mut known = before.into_iter().flat_map(|before| before.plugins());
            let kept = known.find(|plugin| Arc::ptr_eq(&plugin.deployed, deployed));
            kept.cloned().unwrap_or_else(|| Rc::new(WorkerPlugin::new(deployed, counters)))
        };
        Self {
            channel: state.channel.clone(),
            signals: registry.signals(&state.channel.id),
            plugin: state.deployed.as_ref().map(&plugin).map_err(Clone::clone),
            trial: state
                .trial
                .as_ref()
                .map(|trial| WorkerTrial { trial: trial.clone(), plugin: plugin(&trial.deployed) }),
        }
    }

    /// Those that may be asked: one, or two during a trial.
    pub fn plugins(&self) -> impl Iterator<Item = &Rc<WorkerPlugin>> {
        self.plugin.iter().chain(self.trial.iter().map(|trial| &trial.plugin))
    }
}

impl WorkerPlugin {
    fn new(deployed: &Arc<Deployed>, counters: &WorkerCounters) -> Self {
        Self {
            deployed: deployed.clone(),
            instances: Instances::new(deployed.clone()),
            answers: RefCell::default(),
            calls: counters.plugin(&deployed.version.name),
            fields: Fields::new(&deployed.profile),
            socket_model: socket_model(&deployed.profile),
            meters: deployed.profile.compiled_meters(),
        }
    }

    /// Meters a reply with these headers, if the plan asks for it and the reply can be read.
    pub fn meter(&self, plan: &Plan, headers: &HeaderMap) -> Option<Meter> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let set = self.meters.get(plan.meters?)?.clone();
        Meter::new(set, text(CONTENT_TYPE), text(CONTENT_ENCODING))
    }

    /// Meters the messages of a WebSocket, if the plan asks for it.
    pub fn socket_meter(&self, plan: &Plan) -> Option<MessageMeter> {
        Some(MessageMeter::new(self.meters.get(plan.meters?)?.clone()))
    }
}

impl WorkerRouter {
    fn new(deployed: &Arc<Deployed<Router>>, counters: &WorkerCounters) -> Self {
        Self {
            deployed: deployed.clone(),
            instances: Instances::new(deployed.clone()),
            calls: counters.plugin(&deployed.version.name),
            fields: Fields::new(&deployed.profile),
        }
    }
}

fn socket_model(profile: &Profile) -> Option<Arc<Query>> {
    let pointers: Vec<_> = profile
        .socket_model
        .iter()
        .map(|text| Pointer::parse(text).expect("a profile's pointers are checked"))
        .collect();
    (!pointers.is_empty()).then(|| Arc::new(Query::new(&pointers, MODEL_BYTES_MAX)))
}
