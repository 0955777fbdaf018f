//! One version configured for one channel (or as the router), shared by all workers.
//!
//! It exists only if the plugin was instantiated and configured, declared a sound profile, and did so twice alike. It
//! keeps spare instances: built on the loader thread, taken by workers, never built by them. It survives configuration
//! generations in which neither the version nor the channel changed.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::back_off::{BackOff, Weight};
use super::check::Profile;
use super::engine::{Engine, Ticking};
use super::instance::{Fault, Instance};
use super::load::Version;
use super::log::Speaker;
use super::role::Role;
use crate::config::{Channel, Sandbox};
use crate::error::{Failure, Kind};

/// How long an exchange waits for an instance.
const WAIT: Duration = Duration::from_secs(5);

pub struct Deployed<R: Role = Channel> {
    pub version: Arc<Version<R>>,
    /// What it is configured for.
    pub subject: Arc<R>,
    pub profile: Profile,
    pub sandbox: Sandbox,
    engine: Arc<Engine>,
    speaker: Arc<Speaker>,
    back_off: BackOff,
    /// Of building instances.
    build_back_off: BackOff,
    supply: Mutex<Supply<R>>,
}

type Delivery<R> = Result<Instance<R>, Arc<str>>;

struct Supply<R: Role> {
    spares: Vec<Instance<R>>,
    /// Ordered from the loader and not yet delivered.
    ordered: usize,
    waiting: VecDeque<oneshot::Sender<Delivery<R>>>,
    /// Why the last one could not be built, and until when no other is tried. Live instances go on meanwhile.
    failed: Option<(Duration, Arc<str>)>,
}

impl<R: Role> Deployed<R> {
    /// Builds two instances on this thread, and orders the other spares. The error says why the version cannot serve
    /// this channel.
    pub fn new(
        engine: &Arc<Engine>,
        version: Arc<Version<R>>,
        subject: Arc<R>,
        sandbox: Sandbox,
    ) -> Result<Arc<Self>, String> {
        let speaker = Arc::new(Speaker::new(&version.name, subject.channel_id(), &version.hash));
        let build = || build(engine, &version, &*subject, &speaker, &sandbox).map_err(|fault| fault.to_string());
        let (first, profile) = build()?;
        let (second, again) = build()?;
        if profile != again {
            return Err(DIFFERS.into());
        }
        let supply = Mutex::new(Supply { spares: vec![first, second], ..Supply::default() });
        let engine = engine.clone();
        let (back_off, build_back_off) = <(BackOff, BackOff)>::default();
        let deployed =
            Arc::new(Self { version, subject, profile, sandbox, engine, speaker, back_off, build_back_off, supply });
        deployed.order(&mut deployed.supply());
        Ok(deployed)
    }

    /// How long the plugin will not be asked, since it keeps failing, and why.
    pub fn backing_off(&self) -> Option<(Duration, &'static str)> {
        self.back_off.remaining(|| self.engine.now())
    }

    /// Instances that wait to be taken.
    pub fn spares_ready(&self) -> usize {
        self.supply().spares.len()
    }

    /// See [`Engine::ticking`].
    pub(super) fn ticking(&self) -> Ticking<'_> {
        self.engine.ticking()
    }

    /// A call was answered.
    pub(super) fn answered(&self) {
        self.back_off.answered();
    }

    /// A call was broken off.
    pub(super) fn failed(&self, fault: &Fault) {
        let weight = if matches!(fault, Fault::Deadline(_)) { Weight::Heavy } else { Weight::Light };
        let lengths = (self.sandbox.back_off, self.sandbox.back_off_max);
        if let Some(pause) = self.back_off.fault(self.engine.now(), weight, fault.reason(), lengths) {
            let pause_ms = pause.as_millis() as u64;
            tracing::warn!(target: "plugin", plugin = self.speaker.plugin, channel = self.speaker.channel,
                version = self.speaker.version, pause_ms, "not asked for a while: {fault}");
        }
    }

    /// A spare instance, if one is ready.
    pub(super) fn take_ready(self: &Arc<Self>) -> Option<Instance<R>> {
        let mut supply = self.supply();
        let spare = supply.spares.pop();
        self.order(&mut supply);
        spare
    }

    /// An instance, as soon as there is one.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Instance<R>, Failure> {
        let delivery = {
            let mut supply = self.supply();
            if let Some(spare) = supply.spares.pop() {
                self.order(&mut supply);
                return Ok(spare);
            }
            if let Some(reason) = self.build_failure(&mut supply) {
                return Err(busy::<R>(&reason));
            }
            let (promise, delivery) = oneshot::channel();
            supply.waiting.push_back(promise);
            self.order(&mut supply);
            delivery
        };
        match tokio::time::timeout(WAIT, delivery).await {
            Ok(Ok(Ok(instance))) => Ok(instance),
            Ok(Ok(Err(cause))) => Err(busy::<R>(&cause)),
            Ok(Err(_)) | Err(_) => Err(busy::<R>("no instance was ready in time")),
        }
    }

    /// Takes back an instance that is still good.
    pub(super) fn give_back(&self, instance: Instance<R>) {
        let mut supply = self.supply();
        match supply.deliver(Ok(instance)) {
            Err(Ok(instance)) if supply.spares.len() < self.spares() => supply.spares.push(instance),
            Err(Ok(instance)) => self.engine.discard(instance),
            _ => {}
        }
    }

    /// Drops an instance, elsewhere.
    pub(super) fn discard(&self, instance: Instance<R>) {
        self.engine.discard(instance);
    }

    /// Builds an ordered instance: on the loader thread, which all plugins share. So what was ordered before one could
    /// not be built is left out after it: each might take a `configure_deadline` again. Nobody waits then.
    pub(super) fn build(self: &Arc<Self>) {
        {
            let mut supply = self.supply();
            if self.build_failure(&mut supply).is_some() {
                supply.ordered -= 1;
                return;
            }
        }
        let began = self.engine.now();
        let build_one = AssertUnwindSafe(|| self.build_one());
        let delivery = catch_unwind(build_one).unwrap_or_else(|_| Err("the host panicked while building it".into()));
        self.built(delivery, began);
    }

    fn build_one(&self) -> Result<Instance<R>, String> {
        let built = build(&self.engine, &self.version, &*self.subject, &self.speaker, &self.sandbox);
        match built {
            Ok((instance, profile)) if profile == self.profile => Ok(instance),
            Ok(_) => Err(DIFFERS.into()),
            Err(fault) => Err(fault.to_string()),
        }
    }

    fn built(&self, delivery: Result<Instance<R>, String>, began: Duration) {
        let mut supply = self.supply();
        supply.ordered -= 1;
        match delivery {
            Ok(instance) => {
                if let Err(Ok(instance)) = supply.deliver(Ok(instance)) {
                    supply.spares.push(instance);
                }
            }
            Err(reason) => {
                let pause = self.build_pause(began);
                tracing::warn!(target: "plugin", plugin = self.speaker.plugin, channel = self.speaker.channel,
                    version = self.speaker.version, reason, pause_ms = pause.as_millis() as u64,
                    "a further instance could not be built");
                let reason: Arc<str> = reason.into();
                supply.failed = Some((self.engine.now() + pause, reason.clone()));
                for waiting in supply.waiting.drain(..) {
                    let _ = waiting.send(Err(reason.clone()));
                }
            }
        }
    }

    /// How long no instance is tried after one that could not be built. It could be built once, so it may be again: but
    /// not as fast as requests come, and each time less often, since a try holds the thread that builds for all plugins.
    fn build_pause(&self, began: Duration) -> Duration {
        let now = self.engine.now();
        // Longer than the try took, else the next failure would not count as one that follows.
        let shortest = self.sandbox.back_off.max(now.saturating_sub(began) * 2);
        let lengths = (shortest, self.sandbox.back_off_max);
        self.build_back_off.fault(now, Weight::Heavy, "it is not ready", lengths).unwrap_or(shortest)
    }

    /// Orders what is missing.
    fn order(self: &Arc<Self>, supply: &mut Supply<R>) {
        if self.build_failure(supply).is_some() {
            return;
        }
        supply.waiting.retain(|waiting| !waiting.is_closed());
        let wanted = self.spares() + supply.waiting.len();
        while supply.spares.len() + supply.ordered < wanted {
            supply.ordered += 1;
            self.engine.order(Arc::downgrade(self));
        }
    }

    fn build_failure(&self, supply: &mut Supply<R>) -> Option<Arc<str>> {
        supply.failed.take_if(|(until, _)| *until <= self.engine.now());
        supply.failed.as_ref().map(|(_, reason)| reason.clone())
    }

    /// How many instances are kept ready.
    fn spares(&self) -> usize {
        self.sandbox.spare_instances.unwrap_or_else(|| self.engine.spares())
    }

    fn supply(&self) -> MutexGuard<'_, Supply<R>> {
        self.supply.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Role> Default for Supply<R> {
    fn default() -> Self {
        Self { spares: Vec::new(), ordered: 0, waiting: VecDeque::new(), failed: None }
    }
}

impl<R: Role> Supply<R> {
    /// To the first that still waits; back if nobody does.
    fn deliver(&mut self, mut delivery: Delivery<R>) -> Result<(), Delivery<R>> {
        while let Some(waiting) = self.waiting.pop_front() {
            match waiting.send(delivery) {
                Ok(()) => return Ok(()),
                Err(returned) => delivery = returned,
            }
        }
        Err(delivery)
    }
}

fn busy<R: Role>(cause: &str) -> Failure {
    Failure::new(Kind::PluginBusy, format!("{} is not ready.", R::WHOSE)).because(cause)
}

impl<R: Role> Drop for Deployed<R> {
    fn drop(&mut self) {
        let spares = std::mem::take(&mut self.supply().spares);
        for instance in spares {
            self.engine.discard(instance);
        }
    }
}

pub(super) const DIFFERS: &str = "another instance declared another profile: every one must declare the same";

/// In the pool, or beside it while it is full.
pub(super) fn build<R: Role>(
    engine: &Engine,
    version: &Version<R>,
    subject: &R,
    speaker: &Arc<Speaker>,
    sandbox: &Sandbox,
) -> Result<(Instance<R>, Profile), Fault> {
    let _ticking = engine.ticking();
    let in_pool = version.pooled().map(|pre| Instance::build(pre, subject, speaker, sandbox));
    match in_pool {
        Some(Ok(built)) => Ok(built),
        Some(Err(fault)) if !matches!(fault, Fault::PoolEmpty) => Err(fault),
        _ => {
            let pre = version.on_demand(engine).map_err(Fault::Unfit)?;
            Instance::build(pre, subject, speaker, sandbox)
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

    #[test]
    fn as_many_instances_are_kept_ready_as_the_sandbox_says() {
        for count in [1, 5] {
            let deployed = deploy(&json!({}), Sandbox { spare_instances: Some(count), ..sandbox() }).unwrap();
            // The two that were built to be compared, or as many as are wanted.
            let wanted = count.max(2);
            let begun = std::time::Instant::now();
            while deployed.supply().spares.len() < wanted || deployed.supply().ordered > 0 {
                assert!(begun.elapsed() < Duration::from_secs(30), "in vain: {wanted}");
                std::thread::yield_now();
            }
            assert_eq!(deployed.supply().spares.len(), wanted);
        }
    }

    #[test]
    fn the_pause_after_a_fault_is_as_long_as_the_sandbox_says_and_doubles_up_to_its_bound() {
        let second = Duration::from_secs(1);
        let sandbox = Sandbox { back_off: 2 * second, back_off_max: 7 * second, ..sandbox() };
        let deployed = deploy(&json!({}), sandbox).unwrap();
        let pauses: Vec<_> = (0..3)
            .map(|_| {
                deployed.failed(&Fault::Deadline(second));
                let (left, _) = deployed.backing_off().expect("a pause");
                deployed.back_off.expire(deployed.engine.now());
                left.as_secs_f64().round()
            })
            .collect();
        assert_eq!(pauses, [2.0, 4.0, 7.0]);
    }

    #[test]
    fn what_can_never_be_built_again_is_tried_less_and_less_often() {
        let second = Duration::from_secs(1);
        let sandbox = Sandbox { back_off: second, back_off_max: 5 * second, ..sandbox() };
        let deployed = deploy(&json!({}), sandbox).unwrap();
        let pauses: Vec<_> = (0..4)
            .map(|_| {
                deployed.supply().ordered = 1;
                deployed.built(Err("it was broken".into()), deployed.engine.now());
                let (until, _) = deployed.supply().failed.take().expect("a pause");
                let pause = until.saturating_sub(deployed.engine.now());
                deployed.build_back_off.expire(deployed.engine.now());
                pause.as_secs_f64().round()
            })
            .collect();
        assert_eq!(pauses, [1.0, 2.0, 4.0, 5.0]);
    }
}
