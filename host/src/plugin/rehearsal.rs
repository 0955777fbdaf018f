//! A version in rehearsal: configured and asked on the caller's thread, by the tools of those who write plugins.
//!
//! Sandbox, limits and checks are those of the gateway. What is left out belongs to serving: spare instances, the back-off
//! (every call is made) and the log (lines are handed to the caller). A fault costs the instance, and the next call gets
//! another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bindings::types::{Caller, Request};
use super::check::{self, Decision, Profile};
use super::deployed::{self, DIFFERS};
use super::engine::Engine;
use super::instance::Instance;
use super::load::Version;
use super::log::{Said, Speaker};
use super::role::Role;
use crate::config::{Channel, Sandbox};
use crate::error::Failure;

/// How often a version is configured before its profile is believed.
pub const BUILDS: usize = 5;

pub struct Rehearsal<R: Role = Channel> {
    pub version: Arc<Version<R>>,
    /// What it is configured for.
    pub subject: Arc<R>,
    pub configured: Configured,
    sandbox: Sandbox,
    engine: Arc<Engine>,
    speaker: Arc<Speaker>,
    live: Option<Instance<R>>,
}

/// What came of configuring a version.
#[derive(Debug)]
pub struct Configured {
    pub profile: Profile,
    /// Instantiating and configuring, one after the other.
    pub builds: Vec<Duration>,
    /// Of an instance that has been configured.
    pub memory_bytes: usize,
    /// While the first one was configured.
    pub said: Vec<Said>,
}

/// What came of one call.
pub struct Tried {
    pub decision: Result<Decision, Failure>,
    /// Of the call alone.
    pub took: Duration,
    /// Of the instance, afterwards; none where it is gone.
    pub memory_bytes: Option<usize>,
}

/// Why a version cannot be configured, and what it said before.
#[derive(Debug)]
pub struct Refused {
    pub reason: String,
    pub said: Vec<Said>,
}

impl<R: Role> Rehearsal<R> {
    /// Configures the version [`BUILDS`] times.
    pub fn new(
        engine: &Arc<Engine>,
        version: Arc<Version<R>>,
        subject: Arc<R>,
        sandbox: &Sandbox,
    ) -> Result<Self, Refused> {
        let sandbox = sandbox.for_component(version.bytes);
        let speaker = Arc::new(Speaker::heard(&version.name, subject.channel_id(), &version.hash));
        let mut builds = Vec::with_capacity(BUILDS);
        let mut built: Option<(Instance<R>, Profile)> = None;
        let mut said = Vec::new();
        for _ in 0..BUILDS {
            let began = Instant::now();
            let outcome = deployed::build(engine, &version, &*subject, &speaker, &sandbox);
            builds.push(began.elapsed());
            // The others say the same again; what the last one says is worth hearing if it is refused.
            let heard = speaker.take_heard();
            if built.is_none() || outcome.is_err() {
                said = heard;
            }
            let (instance, profile) = match outcome {
                Ok(built) => built,
                Err(fault) => return Err(Refused { reason: fault.to_string(), said }),
            };
            if built.as_ref().is_some_and(|(_, first)| *first != profile) {
                return Err(Refused { reason: DIFFERS.to_owned(), said });
            }
            built.get_or_insert((instance, profile));
        }
        let (instance, profile) = built.expect("at least one was built");
        let configured = Configured { memory_bytes: instance.memory_bytes(), profile, builds, said };
        Ok(Self { version, subject, configured, sandbox, engine: engine.clone(), speaker, live: Some(instance) })
    }
}

impl Rehearsal<Channel> {
    /// Asks as the gateway would, and looks at the answer as the gateway does. An error is what the exchange would get.
    pub fn decide(&mut self, request: &Request, caller: &Caller) -> Tried {
        let mut instance = match self.instance() {
            Ok(instance) => instance,
            Err(failure) => return Tried { decision: Err(failure), took: Duration::ZERO, memory_bytes: None },
        };
        let (answer, took) = {
            let _ticking = self.engine.ticking();
            let began = Instant::now();
            let answer = instance.decide(request, caller, "rehearsal", &self.sandbox);
            (answer, began.elapsed())
        };
        let memory_bytes = Some(instance.memory_bytes());
        match answer {
            Ok(answer) => {
                self.live = (!self.sandbox.fresh && !instance.is_worn(&self.sandbox)).then_some(instance);
                let decision = check::decision(answer, &self.subject, &self.configured.profile);
                Tried { decision, took, memory_bytes }
            }
            Err(fault) => Tried { decision: Err(fault.failure(Channel::WHOSE)), took, memory_bytes },
        }
    }

    /// What it said in calls since this was asked last.
    pub fn take_said(&self) -> Vec<Said> {
        self.speaker.take_heard()
    }

    fn instance(&mut self) -> Result<Instance, Failure> {
        if let Some(live) = self.live.take() {
            return Ok(live);
        }
        deployed::build(&self.engine, &self.version, &*self.subject, &self.speaker, &self.sandbox)
            .map(|(instance, _)| instance)
            .map_err(|fault| fault.failure(Channel::WHOSE))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::error::Kind;
    use crate::plugin::tests::{channel, engine, puppet, request, sandbox};

    fn rehearsal(settings: &Value) -> Result<Rehearsal, Refused> {
        Rehearsal::new(engine(), puppet(), channel(settings), &sandbox())
    }

    fn caller() -> Caller {
        Caller { id: "tester".into(), tags: Vec::new() }
    }

    #[test]
    fn a_version_is_configured_several_times_and_then_asked() {
        let mut rehearsal = rehearsal(&json!({"profile": {"headers": ["x-a"]}})).unwrap();
        assert_eq!((rehearsal.configured.builds.len(), rehearsal.configured.profile.headers.len()), (BUILDS, 1));
        assert!(rehearsal.configured.memory_bytes > 0);
        let tried = rehearsal.decide(&request("/fine"), &caller());
        assert!(matches!(tried.decision, Ok(Decision::Send(_))));
        assert!(tried.memory_bytes.is_some_and(|bytes| bytes >= rehearsal.configured.memory_bytes));
    }

    #[test]
    fn what_it_says_is_handed_out_and_not_logged() {
        let mut rehearsal = rehearsal(&json!({"configure": "print-line"})).unwrap();
        let messages = |said: Vec<Said>| said.into_iter().map(|said| said.message).collect::<Vec<_>>();
        assert_eq!(
            messages(rehearsal.configured.said.clone()),
            ["a line on stdout", "half a line on stderr"],
            "of one instance"
        );
        rehearsal.decide(&request("/puppet/log"), &caller());
        let said = messages(rehearsal.take_said());
        assert_eq!(said[0], r"a line for the log\nwith\u{1b}[31m colours");
        let refused = self::rehearsal(&json!({"configure": "trap"})).err().unwrap();
        assert!(messages(refused.said).concat().contains("strings are cut"));
    }

    #[test]
    fn a_fault_costs_one_call() {
        let mut rehearsal = rehearsal(&json!({})).unwrap();
        for (path, kind) in [("/puppet/trap", Kind::PluginTrapped), ("/puppet/loop", Kind::PluginDeadline)] {
            assert_eq!(rehearsal.decide(&request(path), &caller()).decision.err().unwrap().kind, kind);
            assert!(rehearsal.decide(&request("/fine"), &caller()).decision.is_ok(), "no back-off");
        }
        assert_eq!(
            rehearsal.decide(&request("/puppet/host-header"), &caller()).decision.err().unwrap().kind,
            Kind::PluginAnswer
        );
    }

    #[test]
    fn a_profile_that_changes_is_refused() {
        assert!(rehearsal(&json!({"configure": "random-profile"})).err().unwrap().reason.contains("another profile"));
    }
}
