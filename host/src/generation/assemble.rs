//! Puts channels, plugin versions and settings together: what fits is deployed, what does not is named.

use std::collections::HashMap;
use std::sync::Arc;

use super::plugins::{Part, Standing};
use super::{ChannelState, Channels, Loader, Trial};
use crate::config::{Channel, Gateway, Router, Sandbox};
use crate::plugin::{AnyVersion, Deployed, Version};

/// A plugin that does not work for what names it.
pub struct Misfit {
    pub plugin: String,
    /// `channel ID`, or `the router`.
    pub of: String,
    pub reason: String,
}

/// What a generation is made of, beside its configuration.
#[derive(Default)]
pub struct Assembled {
    pub channels: Channels,
    pub router: Option<Arc<Deployed<Router>>>,
    pub misfits: Vec<Misfit>,
}

impl Assembled {
    pub fn is_on_trial(&self, plugin: &str) -> bool {
        self.channels.values().any(|state| state.trial.is_some() && state.channel.plugin == plugin)
    }
}

impl Loader {
    /// Deploys every active channel's plugin and the router, keeping what is deployed already and has not changed.
    pub(super) fn assemble<'a>(
        &self,
        channels: impl Iterator<Item = &'a Arc<Channel>>,
        standings: &HashMap<String, Standing>,
        gateway: &Gateway,
    ) -> Assembled {
        let mut assembled = Assembled::default();
        for channel in channels {
            let served = match standings.get(&channel.plugin) {
                _ if !channel.active => Err("the channel is disabled".to_owned()),
                None => Err(self.plugins.why_missing(&channel.plugin, Part::Channel)),
                Some(standing) => self.served(channel, standing, sandbox(gateway, &channel.plugin)),
            };
            let (deployed, trial) = match served {
                Ok((deployed, trial)) => (Ok(deployed), trial),
                Err(reason) => (Err(reason), None),
            };
            if let (true, Err(reason)) = (channel.active, &deployed) {
                let (plugin, of) = (channel.plugin.clone(), format!("channel {}", channel.id));
                assembled.misfits.push(Misfit { plugin, of, reason: reason.clone() });
            }
            let state = ChannelState { channel: channel.clone(), deployed, trial };
            assembled.channels.insert(channel.id.clone(), state);
        }
        if let Some(router) = &gateway.router {
            match self.router(router, standings.get(&router.plugin), sandbox(gateway, &router.plugin)) {
                Ok(deployed) => assembled.router = Some(deployed),
                Err(reason) => {
                    let (plugin, of) = (router.plugin.clone(), "the router".to_owned());
                    assembled.misfits.push(Misfit { plugin, of, reason });
                }
            }
        }
        assembled
    }

    /// The version that serves a channel, and the one that is on trial there.
    fn served(
        &self,
        channel: &Arc<Channel>,
        standing: &Standing,
        sandbox: &Sandbox,
    ) -> Result<(Arc<Deployed>, Option<Arc<Trial>>), String> {
        let AnyVersion::Channel(newest) = &standing.newest else {
            return Err("it is the router: a plugin is one of the two".to_owned());
        };
        let newest = self.deployed(channel, newest, sandbox)?;
        let (Some(canary), Some(AnyVersion::Channel(settled))) = (channel.canary, &standing.settled) else {
            return Ok((newest, None));
        };
        if settled.hash == newest.version.hash || !standing.is_tried || standing.passed.contains(&channel.id) {
            return Ok((newest, None));
        }
        // Where the version before does not work for a changed channel, there is nothing to compare with.
        let Ok(settled) = self.deployed(channel, settled, sandbox) else { return Ok((newest, None)) };
        let trial = self.states(&channel.id).find_map(|state| state.trial.as_ref());
        let trial = trial.filter(|trial| Arc::ptr_eq(&trial.deployed, &newest));
        Ok((settled, Some(trial.cloned().unwrap_or_else(|| Arc::new(Trial::new(newest, canary))))))
    }

    /// As it serves now.
    fn states(&self, channel: &str) -> impl Iterator<Item = &ChannelState> {
        self.current.iter().filter_map(move |current| current.channels.get(channel))
    }

    fn deployed(
        &self,
        channel: &Arc<Channel>,
        version: &Arc<Version>,
        sandbox: &Sandbox,
    ) -> Result<Arc<Deployed>, String> {
        let sandbox = sandbox.for_component(version.bytes);
        let kept = self
            .states(&channel.id)
            .flat_map(|state| state.deployed.iter().chain(state.trial.iter().map(|trial| &trial.deployed)))
            .find(|deployed| {
                deployed.version.hash == version.hash && deployed.subject == *channel && deployed.sandbox == sandbox
            });
        match kept {
            Some(deployed) => Ok(deployed.clone()),
            None => Deployed::new(&self.engine, version.clone(), channel.clone(), sandbox),
        }
    }

    fn router(
        &self,
        router: &Arc<Router>,
        standing: Option<&Standing>,
        sandbox: &Sandbox,
    ) -> Result<Arc<Deployed<Router>>, String> {
        let version = match standing.map(|standing| &standing.newest) {
            None => return Err(self.plugins.why_missing(&router.plugin, Part::Router)),
            Some(AnyVersion::Channel(_)) => return Err("a channel uses it too: a plugin is one of the two".to_owned()),
            Some(AnyVersion::Router(version)) => version,
        };
        let sandbox = sandbox.for_component(version.bytes);
        let kept = self.current.as_ref().and_then(|current| current.router.as_ref()).filter(|deployed| {
            deployed.version.hash == version.hash && deployed.subject == *router && deployed.sandbox == sandbox
        });
        match kept {
            Some(deployed) => Ok(deployed.clone()),
            None => Deployed::new(&self.engine, version.clone(), router.clone(), sandbox),
        }
    }
}

fn sandbox<'a>(gateway: &'a Gateway, plugin: &str) -> &'a Sandbox {
    gateway.plugin_sandbox.get(plugin).unwrap_or(&gateway.sandbox)
}
