//! The immutable set an exchange runs on, and how a new one is made.
//!
//! A [`Generation`] is configuration and plugin versions that fit together: every active channel's plugin was loaded,
//! configured and checked. The [`Loader`] makes them. Each file has its own last good version: what is broken stays out,
//! with its reason in [`Status`], and what is good goes in; so a broken plugin never holds back a revoked key.
//! Swapping is somebody else's: [`watch`].

mod conf;
mod plugins;
mod renewal;
pub mod watch;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Serialize;

use crate::config::problem::{Problem, Severity};
use crate::config::{Channel, Config, Gateway, Sandbox};
use crate::plugin::{Deployed, Engine, Version};

use conf::Conf;
use plugins::Plugins;

/// One immutable set.
pub struct Generation {
    /// Counts from 1.
    pub number: u64,
    pub config: Config,
    /// By id, in file order.
    pub channels: IndexMap<String, ChannelState>,
}

/// A channel, and what decides for it.
#[derive(Clone)]
pub struct ChannelState {
    pub channel: Arc<Channel>,
    /// Why it cannot serve, where it cannot: only a disabled channel has no plugin.
    pub deployed: Result<Arc<Deployed>, String>,
}

impl ChannelState {
    pub fn status(&self) -> &'static str {
        let Channel { active, key_missing, is_keyless, .. } = &*self.channel;
        match (active, key_missing) {
            (false, _) => "disabled",
            (true, Some(_)) if !is_keyless => "unavailable",
            (true, _) => "active",
        }
    }
}

/// What is loaded from where, and what is wrong.
#[derive(Debug, Clone, Default)]
pub struct Status {
    pub plugins: Vec<PluginStatus>,
    pub files: Vec<FileStatus>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// What is in the file serves.
    Active,
    /// What is in the file does not serve; the last good version does, if there was one.
    Refused,
    /// Optional, and not there.
    Absent,
}

/// A plugin.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PluginStatus {
    pub name: String,
    /// SHA-256 of the component that serves.
    pub version: Option<String>,
    /// `file`, or `embedded` for a default plugin out of the binary.
    pub source: Option<&'static str>,
    pub state: State,
    pub last_error: Option<String>,
    /// When the version that serves was accepted, Unix time in seconds.
    pub loaded_at: Option<u64>,
    /// Ids of the channels it decides for.
    pub channels: Vec<String>,
}

/// A file of the configuration, or of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FileStatus {
    pub name: String,
    /// SHA-256 of the content that serves.
    pub version: Option<String>,
    pub state: State,
    pub last_error: Option<String>,
    /// What the content that serves has, without being refused for it.
    pub warnings: Vec<String>,
}

/// How closely a scan looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// At files whose size, time or identity changed.
    Changed,
    /// At the bytes of every file.
    All,
}

/// Where a loader reads.
#[derive(Debug, Clone)]
pub struct Folders {
    pub conf: PathBuf,
    pub plugins: PathBuf,
}

/// A plugin that does not work for a channel.
struct Misfit {
    plugin: String,
    channel: String,
    reason: String,
}

/// What a start found wrong.
#[derive(Debug)]
pub struct Refused {
    pub problems: Vec<Problem>,
    /// Of plugins: file, reason.
    pub plugins: Vec<(String, String)>,
}

/// Makes generations from what is in the folders. Blocking: it compiles.
pub struct Loader {
    engine: Arc<Engine>,
    folders: Folders,
    conf: Conf,
    plugins: Plugins,
    current: Option<Arc<Generation>>,
}

type Channels = IndexMap<String, ChannelState>;

impl Loader {
    pub fn new(engine: Arc<Engine>, folders: Folders) -> Self {
        let (conf, plugins) = (Conf::new(&folders.conf), Plugins::new(&folders.plugins));
        Self { engine, folders, conf, plugins, current: None }
    }

    /// Where changes are to be expected; other ones after a change of gateway.json.
    pub fn folders(&self) -> impl Iterator<Item = PathBuf> {
        [self.folders.conf.clone(), self.folders.plugins.clone()].into_iter().chain(self.conf.folders())
    }

    /// The first generation: everything must be right. The problems beside it are warnings. `configured` is called
    /// before any plugin is looked at, so that what they say is logged as gateway.json wants it.
    pub fn first(&mut self, configured: impl FnOnce(&Gateway)) -> Result<(Arc<Generation>, Vec<Problem>), Refused> {
        let (config, mut problems) = self.conf.first();
        configured(&self.conf.newest_gateway());
        let mut broken: Vec<(String, String)> = Vec::new();
        let mut channels = Channels::new();
        // Plugins are looked at even beside a broken file, as long as it is known which ones there should be.
        if let Some(wanted) = self.conf.parsed_channels() {
            let failures = self.plugins.scan(&self.engine, &needed(&wanted), Depth::All).failures;
            broken.extend(failures.into_iter().map(|(name, reason)| (self.plugins.label(&name), reason)));
            let versions = self.plugins.candidates();
            let askable = wanted.values().filter(|channel| !channel.active || versions.contains_key(&channel.plugin));
            let (states, misfits) = self.assemble(askable, &versions, &self.conf.newest_gateway());
            broken.extend(misfits.into_iter().map(|misfit| {
                let reason = format!("does not work for channel {}: {}", misfit.channel, misfit.reason);
                (self.plugins.label(&misfit.plugin), reason)
            }));
            channels = states;
            self.plugins.accept_candidates(&needed(&wanted));
        } else {
            // Which ones are meant cannot be told: those that are there shall at least load.
            let failures = self.plugins.scan(&self.engine, &self.plugins.names_in_folder(), Depth::All).failures;
            broken.extend(failures.into_iter().map(|(name, reason)| (self.plugins.label(&name), reason)));
        }
        match config {
            Some(config) if broken.is_empty() => {
                problems.retain(|problem| problem.severity == Severity::Warning);
                let generation = Arc::new(Generation { number: 1, config, channels });
                self.current = Some(generation.clone());
                Ok((generation, problems))
            }
            _ => Err(Refused { problems, plugins: broken }),
        }
    }

    /// Looks at the files again; `None` when nothing that serves changed.
    pub fn rescan(&mut self, depth: Depth) -> Option<Arc<Generation>> {
        let current = self.current.clone()?;
        let has_new_conf = self.conf.scan(depth);
        let wanted = self.conf.newest_channels();
        // The plugins of a refused channels file are looked for too: it may have been refused for lack of one.
        let named: HashSet<_> = needed(&wanted).union(&needed(&self.conf.refused_channels())).cloned().collect();
        let has_new_plugins = self.plugins.scan(&self.engine, &named, depth).has_news;
        if has_new_conf || has_new_plugins || depth == Depth::All {
            // What did not fit the old may fit the new.
            self.conf.reconsider();
            self.plugins.reconsider();
        }
        let states = self.fitting();
        let config = self.conf.combined()?;
        let refused = needed(&self.conf.refused_channels());
        let is_used = |name: &str| states.values().any(|state| state.channel.plugin == name) || refused.contains(name);
        self.plugins.retain(is_used);
        if config == current.config && same_states(&states, &current.channels) {
            return None;
        }
        let generation = Arc::new(Generation { number: current.number + 1, config, channels: states });
        tracing::info!(generation = generation.number, "a new generation serves");
        self.current = Some(generation.clone());
        Some(generation)
    }

    /// The newest channels, settings and plugin versions that fit together. What does not fit is refused: first a new
    /// plugin version, then a new channels file, then a new gateway.json; what served before serves on. Each refusal
    /// takes a candidate away, so this ends, at the latest with what serves now.
    fn fitting(&mut self) -> Channels {
        loop {
            let versions = self.plugins.candidates();
            let channels = self.conf.newest_channels();
            let (states, misfits) = self.assemble(channels.values(), &versions, &self.conf.newest_gateway());
            let Some(Misfit { plugin, channel, reason }) = misfits.into_iter().next() else {
                self.plugins.accept_candidates(&needed(&channels));
                self.conf.accept();
                return states;
            };
            if self.plugins.refuse_candidate(&plugin, &format!("does not work for channel {channel}: {reason}")) {
                continue;
            }
            let reason = format!("channel {channel}: plugin {plugin}: {reason}");
            if self.conf.refuse_channels(&reason) {
                // What did not work for the refused channels may work for these.
                self.plugins.reconsider();
            } else if self.conf.refuse_gateway(&reason) {
                self.plugins.reconsider();
                self.conf.reconsider_channels();
            } else {
                // Nothing new is left that could be at fault: what served until now cannot be built again.
                tracing::error!("{reason}; what served before serves on");
                return self.current.as_ref().map(|current| current.channels.clone()).unwrap_or_default();
            }
        }
    }

    /// Deploys every active channel's plugin, keeping what is deployed already and has not changed.
    fn assemble<'a>(
        &self,
        channels: impl Iterator<Item = &'a Arc<Channel>>,
        versions: &HashMap<String, Arc<Version>>,
        gateway: &Gateway,
    ) -> (Channels, Vec<Misfit>) {
        let mut misfits = Vec::new();
        let mut states = Channels::new();
        for channel in channels {
            let deployed = if channel.active {
                let version = versions.get(&channel.plugin);
                let sandbox = gateway.plugin_sandbox.get(&channel.plugin).unwrap_or(&gateway.sandbox);
                version.map_or_else(
                    || Err(self.plugins.why_missing(&channel.plugin)),
                    |version| self.deployed(channel, version, sandbox),
                )
            } else {
                Err("the channel is disabled".to_owned())
            };
            if let (true, Err(reason)) = (channel.active, &deployed) {
                misfits.push(Misfit {
                    plugin: channel.plugin.clone(),
                    channel: channel.id.clone(),
                    reason: reason.clone(),
                });
            }
            states.insert(channel.id.clone(), ChannelState { channel: channel.clone(), deployed });
        }
        (states, misfits)
    }

    fn deployed(
        &self,
        channel: &Arc<Channel>,
        version: &Arc<Version>,
        sandbox: &Sandbox,
    ) -> Result<Arc<Deployed>, String> {
        let kept = self
            .current
            .as_ref()
            .and_then(|current| current.channels.get(&channel.id))
            .and_then(|state| state.deployed.as_ref().ok())
            .filter(|deployed| {
                deployed.version.hash == version.hash && deployed.channel == *channel && deployed.sandbox == *sandbox
            });
        match kept {
            Some(deployed) => Ok(deployed.clone()),
            None => Deployed::new(&self.engine, version.clone(), channel.clone(), sandbox.clone()),
        }
    }

    pub fn status(&self) -> Status {
        let channels = self.current.as_ref().map(|current| &current.channels);
        let users = |plugin: &str| {
            let states = channels.into_iter().flat_map(IndexMap::values);
            states.filter(|state| state.channel.plugin == plugin).map(|state| state.channel.id.clone()).collect()
        };
        let mut files = self.conf.status();
        files.extend(self.plugins.file_status());
        Status { plugins: self.plugins.status(users), files }
    }
}

/// The plugins that active channels name.
fn needed(channels: &IndexMap<String, Arc<Channel>>) -> HashSet<String> {
    channels.values().filter(|channel| channel.active).map(|channel| channel.plugin.clone()).collect()
}

fn same_states(left: &Channels, right: &Channels) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).all(|((left_id, left), (right_id, right))| {
            let same_plugin = match (&left.deployed, &right.deployed) {
                (Ok(left), Ok(right)) => Arc::ptr_eq(left, right),
                (Err(_), Err(_)) => true,
                _ => false,
            };
            left_id == right_id && same_plugin && left.channel == right.channel
        })
}
