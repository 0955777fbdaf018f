//! One worker's share of a deployed plugin: the instance that answers its exchanges, one after the other.
//!
//! A call never waits inside, so one live instance is enough for a worker. It is replaced by a spare when it is worn,
//! and the old one serves until a spare is ready; after a fault it is thrown away at once.

use std::cell::RefCell;
use std::sync::Arc;

use super::bindings::types::{Caller, Request};
use super::check::{self, Decision};
use super::deployed::Deployed;
use super::instance::{Fault, Instance};
use crate::error::{Failure, Kind};

pub struct Instances {
    deployed: Arc<Deployed>,
    live: RefCell<Option<Instance>>,
}

impl Instances {
    pub fn new(deployed: Arc<Deployed>) -> Self {
        Self { deployed, live: RefCell::new(None) }
    }

    /// Asks the plugin. Needs a tokio runtime with a timer, for the wait until an instance is ready; the call itself
    /// is over when it returns, within the sandbox's deadline.
    pub async fn decide(&self, request: &Request, caller: &Caller, request_id: &str) -> Result<Decision, Failure> {
        let deployed = &self.deployed;
        if let Some(left) = deployed.backing_off() {
            let seconds = u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
            let message = "The channel's plugin has failed and is not asked for a while.";
            return Err(Failure::new(Kind::PluginBackOff, message).retry_after(seconds));
        }
        let mut instance = self.instance().await?;
        let decided = {
            let _ticking = deployed.ticking();
            instance.decide(request, caller, request_id, &deployed.sandbox)
        };
        match decided {
            Ok(answer) => {
                self.keep(instance);
                check::decision(answer, &deployed.channel, &deployed.profile)
            }
            Err(fault) => {
                if matches!(fault, Fault::Deadline(_)) {
                    deployed.back_off();
                }
                deployed.discard(instance);
                Err(fault.failure())
            }
        }
    }

    async fn instance(&self) -> Result<Instance, Failure> {
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

    fn keep(&self, instance: Instance) {
        if self.deployed.sandbox.fresh {
            return self.deployed.discard(instance);
        }
        // Where several exchanges of this worker waited for an instance at one time, each got one.
        if let Some(surplus) = self.live.replace(Some(instance)) {
            self.deployed.give_back(surplus);
        }
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            self.deployed.give_back(live);
        }
    }
}
