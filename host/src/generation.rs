//! The immutable set an exchange runs on, and how a new one is made.
//!
//! A [`Generation`] is configuration and plugin versions that fit together: every active channel's plugin was loaded,
//! configured and checked. The [`Loader`] makes them. Each file has its own last good version: what is broken stays out,
//! with its reason in [`Status`], and what is good goes in; so a broken plugin never holds back a revoked key.
//! Swapping is somebody else's: [`watch`].

mod assemble;
mod conf;
pub mod kept;
mod plugins;
mod renewal;
pub mod requests;
mod status;
mod trial;
pub mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::config::problem::{Problem, Severity};
use crate::config::{Channel, Config, Gateway, Router};
use crate::plugin::{Deployed, Engine};
use crate::stats::Level;

use assemble::{Assembled, Misfit};
use conf::Conf;
use kept::Kept;
use plugins::{Needed, Plugins};
use trial::Verdict;

pub use status::{FileStatus, PluginStatus, State, Status, VersionStatus};
pub use trial::{Arm, Counts, Trial};

/// One immutable set.
pub struct Generation {
    /// Counts from 1.
    pub number: u64,
    pub config: Config,
    /// By id, in file order.
    pub channels: IndexMap<String, ChannelState>,
    pub router: Option<Arc<Deployed<Router>>>,
}

/// A channel, and what decides for it.
#[derive(Clone)]
pub struct ChannelState {
    pub channel: Arc<Channel>,
    /// Why it cannot serve, where it cannot: only a disabled channel has no plugin.
    pub deployed: Result<Arc<Deployed>, String>,
    /// A new version beside it.
    pub trial: Option<Arc<Trial>>,
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

/// What serves after a rollback, pinned.
pub struct RolledBack {
    pub version: String,
    /// Why a restart would forget that.
    pub forgotten: Option<String>,
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
    /// `kept`: where earlier versions of plugins are.
    pub fn new(engine: Arc<Engine>, folders: Folders, kept: Kept) -> Self {
        let (conf, plugins) = (Conf::new(&folders.conf), Plugins::new(&folders.plugins, kept));
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
        let gateway = self.conf.newest_gateway();
        configured(&gateway);
        let mut broken: Vec<(String, String)> = Vec::new();
        let mut assembled = Assembled::default();
        // Plugins are looked at even beside a broken file, as long as it is known which ones there should be.
        if let Some(wanted) = self.conf.parsed_channels() {
            let needed = Needed::by(&wanted, gateway.router.as_ref());
            let failures = self.plugins.scan(&self.engine, &needed, Depth::All).failures;
            broken.extend(failures.into_iter().map(|(name, reason)| (self.plugins.label(&name), reason)));
            assembled = loop {
                let standings = self.plugins.standings();
                let askable =
                    wanted.values().filter(|channel| !channel.active || standings.contains_key(&channel.plugin));
                let mut assembled = self.assemble(askable, &standings, &gateway);
                // A version that is held to, or that served before, serves where a new one does not work.
                let is_any_refused = assembled.misfits.iter().any(|Misfit { plugin, of, reason }| {
                    self.plugins.refuse_candidate(plugin, &format!("does not work for {of}: {reason}"))
                });
                if is_any_refused {
                    continue;
                }
                broken.extend(assembled.misfits.drain(..).map(|Misfit { plugin, of, reason }| {
                    (self.plugins.label(&plugin), format!("does not work for {of}: {reason}"))
                }));
                break assembled;
            };
        } else {
            // Which ones are meant cannot be told: those that are there shall at least load.
            let named = Needed::named(self.plugins.names_in_folder(), gateway.router.as_ref());
            let failures = self.plugins.scan(&self.engine, &named, Depth::All).failures;
            broken.extend(failures.into_iter().map(|(name, reason)| (self.plugins.label(&name), reason)));
        }
        match config {
            Some(config) if broken.is_empty() => {
                // Only now: what a refused start would have accepted changes no history.
                let needed = self.needed();
                self.plugins.accept_candidates(&needed, |plugin| assembled.is_on_trial(plugin));
                problems.retain(|problem| problem.severity == Severity::Warning);
                let Assembled { channels, router, .. } = assembled;
                let generation = Arc::new(Generation { number: 1, config, channels, router });
                self.current = Some(generation.clone());
                Ok((generation, problems))
            }
            _ => Err(Refused { problems, plugins: broken }),
        }
    }

    /// Looks at the files again; `None` when nothing that serves changed.
    pub fn rescan(&mut self, depth: Depth) -> Option<Arc<Generation>> {
        let has_new_conf = self.conf.scan(depth);
        // The plugins of a refused channels file are looked for too: it may have been refused for lack of one.
        let named = self.needed().with(Needed::by(&self.conf.refused_channels(), None));
        let has_new_plugins = self.plugins.scan(&self.engine, &named, depth).has_news;
        if has_new_conf || has_new_plugins || depth == Depth::All {
            // What did not fit the old may fit the new.
            self.conf.reconsider();
            self.plugins.reconsider();
        }
        self.renew()
    }

    /// What the newest files need.
    fn needed(&self) -> Needed {
        Needed::by(&self.conf.newest_channels(), self.conf.newest_gateway().router.as_ref())
    }

    /// A generation of the newest that fits together; `None` when that is what serves.
    fn renew(&mut self) -> Option<Arc<Generation>> {
        let current = self.current.clone()?;
        let assembled = self.fitting();
        let config = self.conf.combined()?;
        let refused = Needed::by(&self.conf.refused_channels(), None);
        let Assembled { channels, router, .. } = assembled;
        let is_used = |name: &str| {
            channels.values().any(|state| state.channel.plugin == name)
                || router.as_ref().is_some_and(|router| router.version.name == name)
                || refused.contains(name)
        };
        self.plugins.retain(is_used);
        if config == current.config
            && same_states(&channels, &current.channels)
            && is_same(router.as_ref(), current.router.as_ref())
        {
            return None;
        }
        let generation = Arc::new(Generation { number: current.number + 1, config, channels, router });
        tracing::info!(generation = generation.number, "a new generation serves");
        self.current = Some(generation.clone());
        Some(generation)
    }

    /// The newest channels, settings and plugin versions that fit together. What does not fit is refused: first a new
    /// plugin version, then a new channels file, then a new gateway.json; what served before serves on. Each refusal
    /// takes a candidate away, so this ends, at the latest with what serves now.
    fn fitting(&mut self) -> Assembled {
        loop {
            let standings = self.plugins.standings();
            let channels = self.conf.newest_channels();
            let gateway = self.conf.newest_gateway();
            let mut assembled = self.assemble(channels.values(), &standings, &gateway);
            let Some(Misfit { plugin, of, reason }) = assembled.misfits.drain(..).next() else {
                let needed = Needed::by(&channels, gateway.router.as_ref());
                self.plugins.accept_candidates(&needed, |plugin| assembled.is_on_trial(plugin));
                self.conf.accept();
                return assembled;
            };
            if self.plugins.refuse_candidate(&plugin, &format!("does not work for {of}: {reason}")) {
                continue;
            }
            let reason = format!("{of}: plugin {plugin}: {reason}");
            if self.conf.refuse_channels(&reason) {
                // What did not work for the refused channels may work for these.
                self.plugins.reconsider();
            } else if self.conf.refuse_gateway(&reason) {
                self.plugins.reconsider();
                self.conf.reconsider_channels();
            } else {
                // Nothing new is left that could be at fault: what served until now cannot be built again.
                tracing::error!("{reason}; what served before serves on");
                let current = self.current.as_ref();
                return Assembled {
                    channels: current.map(|current| current.channels.clone()).unwrap_or_default(),
                    router: current.and_then(|current| current.router.clone()),
                    misfits: Vec::new(),
                };
            }
        }
    }

    /// Whether some channel compares two versions now.
    pub fn has_trials(&self) -> bool {
        self.current.iter().flat_map(|current| current.channels.values()).any(|state| state.trial.is_some())
    }

    /// Ends the trials that have come to a conclusion; a generation where that changes what serves.
    pub fn judge_trials(&mut self) -> Option<Arc<Generation>> {
        let current = self.current.clone()?;
        let mut is_any_over = false;
        for (id, state) in &current.channels {
            let Some(trial) = &state.trial else { continue };
            match trial.verdict() {
                Verdict::GoesOn => continue,
                Verdict::Promote => self.plugins.passed(&state.channel.plugin, id),
                Verdict::Withdraw(why) => self.plugins.withdraw(&state.channel.plugin, id, &why),
            }
            is_any_over = true;
        }
        if is_any_over { self.renew() } else { None }
    }

    /// Brings an earlier version of a plugin back and holds it to that: the one whose hash begins so, or the one that was
    /// accepted before the one that serves. Gives the version that serves then; where it does not work, nothing changes.
    pub fn roll_back(
        &mut self,
        plugin: &str,
        version: Option<&str>,
        reason: &str,
    ) -> (Result<RolledBack, String>, Option<Arc<Generation>>) {
        let needed = self.needed();
        let target = match self.plugins.bring_back(&self.engine, &needed, plugin, version) {
            Ok(target) => target,
            Err(error) => return (Err(error), None),
        };
        let generation = self.renew();
        let brought_back = self.plugins.brought_back(plugin, &target, reason);
        (brought_back.map(|forgotten| RolledBack { version: target, forgotten }), generation)
    }

    /// The plugin's file counts again, from the next scan on; false if there was no pin.
    pub fn unpin(&mut self, plugin: &str) -> Result<bool, String> {
        self.plugins.unpin(plugin)
    }

    /// What people should see, since it was asked for last: plugin, message.
    pub fn take_news(&mut self) -> Vec<(Level, String, String)> {
        self.plugins.take_news()
    }

    pub fn status(&self) -> Status {
        let channels = self.current.as_ref().map(|current| &current.channels);
        let users = |plugin: &str| {
            let states = channels.into_iter().flat_map(IndexMap::values);
            states.filter(|state| state.channel.plugin == plugin).map(|state| state.channel.id.clone()).collect()
        };
        let mut files = self.conf.status();
        files.extend(self.plugins.file_status());
        let router = self.current.as_ref().and_then(|current| current.router.as_ref());
        let router = router.map(|router| router.version.name.clone());
        Status { router, plugins: self.plugins.status(users), files }
    }
}

/// Whether both are the very same, or neither is there.
fn is_same<T>(left: Option<&Arc<T>>, right: Option<&Arc<T>>) -> bool {
    left.map(Arc::as_ptr) == right.map(Arc::as_ptr)
}

fn same_states(left: &Channels, right: &Channels) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).all(|((left_id, left), (right_id, right))| {
            let same_plugin = match (&left.deployed, &right.deployed) {
                (Ok(left), Ok(right)) => Arc::ptr_eq(left, right),
                (Err(_), Err(_)) => true,
                _ => false,
            };
            let same_trial = is_same(left.trial.as_ref(), right.trial.as_ref());
            left_id == right_id && same_plugin && same_trial && left.channel == right.channel
        })
}
