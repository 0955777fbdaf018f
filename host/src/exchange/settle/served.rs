//! The channel of an exchange's record: the whole of it, or of a socket that stays for hours only what the record needs.

use std::rc::Rc;
use std::sync::Arc;

use crate::exchange::view::{WorkerChannel, WorkerPlugin};
use crate::stats::Signals;

/// The channel that serves, or that was the last to be asked.
pub enum Served {
    /// With the version of its plugin that decided.
    Whole(Rc<WorkerChannel>, Option<Rc<WorkerPlugin>>),
    /// What the record needs of it: a socket may stay for hours, and shall not keep the instances of a plugin that has
    /// been replaced.
    Named { id: String, signals: Arc<Signals>, plugin: Option<(String, String)> },
}

impl Served {
    pub fn id(&self) -> &str {
        match self {
            Self::Whole(channel, _) => &channel.channel.id,
            Self::Named { id, .. } => id,
        }
    }

    pub fn signals(&self) -> &Arc<Signals> {
        match self {
            Self::Whole(channel, _) => &channel.signals,
            Self::Named { signals, .. } => signals,
        }
    }

    /// The plugin's name, and the version's short hash.
    pub fn plugin(&self) -> Option<(&str, &str)> {
        match self {
            Self::Whole(_, plugin) => {
                let version = &plugin.as_ref()?.deployed.version;
                Some((&version.name, version.short_hash()))
            }
            Self::Named { plugin, .. } => plugin.as_ref().map(|(name, hash)| (name.as_str(), hash.as_str())),
        }
    }

    pub fn named(&self) -> Self {
        let plugin = self.plugin().map(|(name, hash)| (name.to_owned(), hash.to_owned()));
        Self::Named { id: self.id().to_owned(), signals: self.signals().clone(), plugin }
    }
}
