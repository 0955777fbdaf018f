//! One worker's share of a deployed plugin: the instance that answers its exchanges, one after the other.
//!
//! A call never waits inside, so one live instance is enough for a worker. It is replaced by a spare when it is worn,
//! and the old one serves until a spare is ready; after a fault it is thrown away at once.

use std::cell::RefCell;
use std::sync::Arc;

use super::bindings::Candidate;
use super::bindings::types::{Caller, Request};
use super::check::{self, Decision, Route};
use super::deployed::Deployed;
use super::instance::{Fault, Instance};
use super::role::Role;
use crate::config::{Channel, Router, Sandbox};
use crate::error::{Failure, Kind};

pub struct Instances<R: Role = Channel> {
    deployed: Arc<Deployed<R>>,
    live: RefCell<Option<Instance<R>>>,
}

impl<R: Role> Instances<R> {
    pub fn new(deployed: Arc<Deployed<R>>) -> Self {
        Self { deployed, live: RefCell::new(None) }
    }

    /// Calls an instance. Needs a tokio runtime with a timer, for the wait until one is ready; the call itself is over
    /// when it returns, within the sandbox's deadline.
    async fn call<T>(&self, call: impl FnOnce(&mut Instance<R>, &Sandbox) -> Result<T, Fault>) -> Result<T, Failure> {
        let deployed = &self.deployed;
        if let Some((left, reason)) = deployed.backing_off() {
            let seconds = u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
            let message = format!("{} keeps failing and is not asked for a while: {reason}.", R::WHOSE);
            return Err(Failure::new(Kind::PluginBackOff, message).retry_after(seconds));
        }
        let mut instance = self.instance().await?;
        let outcome = {
            let _ticking = deployed.ticking();
            call(&mut instance, &deployed.sandbox)
        };
        match outcome {
            Ok(answer) => {
                deployed.answered();
                self.keep(instance);
                Ok(answer)
            }
            Err(fault) => {
                deployed.failed(&fault);
                deployed.discard(instance);
                Err(fault.failure(R::WHOSE))
            }
        }
    }

    async fn instance(&self) -> Result<Instance<R>, Failure> {
        let live = self.live.take();
        match live {
            None => self.deployed.take().await,
            Some(worn) if worn.is_worn(&self.deployed.sandbox) => match self.deployed.take_ready() {
                Some(spare) => {
                    self.deployed.discard(worn);
                    Ok(spare)
                }
                None => Ok(worn),
            },
            Some(live) => Ok(live),
        }
    }

    fn keep(&self, instance: Instance<R>) {
        if self.deployed.sandbox.fresh {
            return self.deployed.discard(instance);
        }
        // Where several exchanges of this worker waited for an instance at one time, each got one.
        if let Some(surplus) = self.live.replace(Some(instance)) {
            self.deployed.give_back(surplus);
        }
    }
}

impl Instances<Channel> {
    /// Asks a channel's plugin about a request.
    pub async fn decide(&self, request: &Request, caller: &Caller, request_id: &str) -> Result<Decision, Failure> {
        let call = |instance: &mut Instance, sandbox: &Sandbox| instance.decide(request, caller, request_id, sandbox);
        let answer = self.call(call).await?;
        check::decision(answer, &self.deployed.subject, &self.deployed.profile)
    }
}

impl Instances<Router> {
    /// Asks the router about the order of these candidates.
    pub async fn route(
        &self,
        request: &Request,
        caller: &Caller,
        candidates: &[Candidate],
        request_id: &str,
    ) -> Result<Route, Failure> {
        let call = |instance: &mut Instance<Router>, sandbox: &Sandbox| {
            instance.route(request, caller, candidates, request_id, sandbox)
        };
        check::route(self.call(call).await?, candidates)
    }
}

impl<R: Role> Drop for Instances<R> {
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            self.deployed.give_back(live);
        }
    }
}
