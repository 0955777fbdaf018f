//! One version configured for one channel, shared by all workers.
//!
//! It exists only if the plugin was instantiated and configured, declared a sound profile, and did so twice alike. It
//! keeps spare instances: built on the loader thread, taken by workers, never built by them. It survives configuration
//! generations in which neither the version nor the channel changed.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::back_off::BackOff;
use super::check::Profile;
use super::engine::{Engine, Ticking};
use super::instance::{Fault, Instance};
use super::load::Version;
use super::log::Speaker;
use crate::config::{Channel, Sandbox};
use crate::error::{Failure, Kind};

/// How long an exchange waits for an instance.
const WAIT: Duration = Duration::from_secs(5);

pub struct Deployed {
    pub version: Arc<Version>,
    pub channel: Arc<Channel>,
    pub profile: Profile,
    pub sandbox: Sandbox,
    engine: Arc<Engine>,
    speaker: Arc<Speaker>,
    back_off: BackOff,
    supply: Mutex<Supply>,
}

type Delivery = Result<Instance, Arc<str>>;

#[derive(Default)]
struct Supply {
    spares: Vec<Instance>,
    /// Ordered from the loader and not yet delivered.
    ordered: usize,
    waiting: VecDeque<oneshot::Sender<Delivery>>,
    /// Why the last one could not be built, and until when no other is tried. Live instances go on meanwhile.
    failed: Option<(Duration, Arc<str>)>,
}

impl Deployed {
    /// Builds two instances on this thread, and orders the other spares. The error says why the version cannot serve
    /// this channel.
    pub fn new(
        engine: &Arc<Engine>,
        version: Arc<Version>,
        channel: Arc<Channel>,
        sandbox: Sandbox,
    ) -> Result<Arc<Self>, String> {
        let speaker = Arc::new(Speaker::new(&version.name, &channel.id, &version.hash));
        let build = || build(engine, &version, &channel, &speaker, &sandbox).map_err(|fault| fault.to_string());
        let (first, profile) = build()?;
        let (second, again) = build()?;
        if profile != again {
            return Err(DIFFERS.into());
        }
        let supply = Mutex::new(Supply { spares: vec![first, second], ..Supply::default() });
        let engine = engine.clone();
        let back_off = BackOff::default();
        let deployed = Arc::new(Self { version, channel, profile, sandbox, engine, speaker, back_off, supply });
        deployed.order(&mut deployed.supply());
        Ok(deployed)
    }

    /// How long the plugin will not be asked, after a breach of its deadline.
    pub fn backing_off(&self) -> Option<Duration> {
        self.back_off.remaining(|| self.engine.now())
    }

    /// See [`Engine::ticking`].
    pub(super) fn ticking(&self) -> Ticking<'_> {
        self.engine.ticking()
    }

    pub(super) fn back_off(&self) {
        self.back_off.open(self.engine.now(), self.sandbox.back_off);
    }

    /// A spare instance, if one is ready.
    pub(super) fn take_ready(self: &Arc<Self>) -> Option<Instance> {
        let mut supply = self.supply();
        let spare = supply.spares.pop();
        self.order(&mut supply);
        spare
    }

    /// An instance, as soon as there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Instance, Failure> {
        let delivery = {
            let mut supply = self.supply();
            if let Some(spare) = supply.spares.pop() {
                self.order(&mut supply);
                return Ok(spare);
            }
            if let Some(reason) = self.failed(&mut supply) {
                return Err(busy(&reason));
            }
            let (promise, delivery) = oneshot::channel();
            supply.waiting.push_back(promise);
            self.order(&mut supply);
            delivery
        };
        match tokio::time::timeout(WAIT, delivery).await {
            Ok(Ok(Ok(instance))) => Ok(instance),
            Ok(Ok(Err(cause))) => Err(busy(&cause)),
            Ok(Err(_)) | Err(_) => Err(busy("no instance was ready in time")),
        }
    }

    /// Takes back an instance that is still good.
    pub(super) fn give_back(&self, instance: Instance) {
        let mut supply = self.supply();
        match supply.deliver(Ok(instance)) {
            Err(Ok(instance)) if supply.spares.len() < self.engine.spares() => supply.spares.push(instance),
            Err(Ok(instance)) => self.engine.discard(instance),
            _ => {}
        }
    }

    /// Drops an instance, elsewhere.
    pub(super) fn discard(&self, instance: Instance) {
        self.engine.discard(instance);
    }

    /// Builds an ordered instance: on the loader thread, which all plugins share. So what was ordered before one could
    /// not be built is left out after it: each might take a `configure_deadline` again. Nobody waits then.
    pub(super) fn build(self: &Arc<Self>) {
        {
            let mut supply = self.supply();
            if self.failed(&mut supply).is_some() {
                supply.ordered -= 1;
                return;
            }
        }
        let build_one = AssertUnwindSafe(|| self.build_one());
        let delivery = catch_unwind(build_one).unwrap_or_else(|_| Err("the host panicked while building it".into()));
        self.built(delivery);
    }

    fn build_one(&self) -> Result<Instance, String> {
        let built = build(&self.engine, &self.version, &self.channel, &self.speaker, &self.sandbox);
        match built {
            Ok((instance, profile)) if profile == self.profile => Ok(instance),
            Ok(_) => Err(DIFFERS.into()),
            Err(fault) => Err(fault.to_string()),
        }
    }

    fn built(&self, delivery: Result<Instance, String>) {
        let mut supply = self.supply();
        supply.ordered -= 1;
        match delivery {
            Ok(instance) => {
                if let Err(Ok(instance)) = supply.deliver(Ok(instance)) {
                    supply.spares.push(instance);
                }
            }
            Err(reason) => {
                tracing::warn!(target: "plugin", plugin = self.speaker.plugin, channel = self.speaker.channel,
                    version = self.speaker.version, reason, "a further instance could not be built");
                let reason: Arc<str> = reason.into();
                // It could be built once, so it may be again: but not as fast as requests come.
                supply.failed = Some((self.engine.now() + self.sandbox.back_off, reason.clone()));
                for waiting in supply.waiting.drain(..) {
                    let _ = waiting.send(Err(reason.clone()));
                }
            }
        }
    }

    /// Orders what is missing.
    fn order(self: &Arc<Self>, supply: &mut Supply) {
        if self.failed(supply).is_some() {
            return;
        }
        supply.waiting.retain(|waiting| !waiting.is_closed());
        let wanted = self.engine.spares() + supply.waiting.len();
        while supply.spares.len() + supply.ordered < wanted {
            supply.ordered += 1;
            self.engine.order(Arc::downgrade(self));
        }
    }

    fn failed(&self, supply: &mut Supply) -> Option<Arc<str>> {
        supply.failed.take_if(|(until, _)| *until <= self.engine.now());
        supply.failed.as_ref().map(|(_, reason)| reason.clone())
    }

    fn supply(&self) -> MutexGuard<'_, Supply> {
        self.supply.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supply {
    /// To the first that still waits; back if nobody does.
    fn deliver(&mut self, mut delivery: Delivery) -> Result<(), Delivery> {
        while let Some(waiting) = self.waiting.pop_front() {
            match waiting.send(delivery) {
                Ok(()) => return Ok(()),
                Err(returned) => delivery = returned,
            }
        }
        Err(delivery)
    }
}

fn busy(cause: &str) -> Failure {
    Failure::new(Kind::PluginBusy, "The channel's plugin is not ready.").because(cause)
}

impl Drop for Deployed {
    fn drop(&mut self) {
        let spares = std::mem::take(&mut self.supply().spares);
        for instance in spares {
            self.engine.discard(instance);
        }
    }
}

const DIFFERS: &str = "another instance declared another profile: every one must declare the same";

/// In the pool, or beside it while it is full.
fn build(
    engine: &Engine,
    version: &Version,
    channel: &Channel,
    speaker: &Arc<Speaker>,
    sandbox: &Sandbox,
) -> Result<(Instance, Profile), Fault> {
    let _ticking = engine.ticking();
    let in_pool = version.pooled().map(|pre| Instance::build(pre, channel, speaker, sandbox));
    match in_pool {
        Some(Ok(built)) => Ok(built),
        Some(Err(fault)) if !matches!(fault, Fault::PoolEmpty) => Err(fault),
        _ => {
            let pre = version.on_demand(engine).map_err(Fault::Unfit)?;
            Instance::build(pre, channel, speaker, sandbox)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{deploy, sandbox};
    use super::*;

    #[test]
    fn what_was_ordered_before_a_failure_is_not_built_after_it() {
        let deployed = deploy(&json!({}), sandbox()).unwrap();
        let begin = |failed| {
            let mut supply = deployed.supply();
            *supply = Supply { ordered: 2, failed, ..Supply::default() };
        };
        let state = || {
            let supply = deployed.supply();
            (supply.spares.len(), supply.ordered)
        };
        begin(Some((deployed.engine.now() + Duration::from_hours(1), "it was broken".into())));
        deployed.build();
        assert_eq!(state(), (0, 1), "skipped while the pause lasts");
        begin(Some((Duration::ZERO, "it was broken".into())));
        deployed.build();
        assert_eq!(state(), (1, 1), "built after it");
    }
}
