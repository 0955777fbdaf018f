//! Which plugins a configuration names, and what for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use indexmap::IndexMap;

use crate::config::{Channel, Router};

/// What a plugin is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Channel,
    Router,
}

/// The plugins that a configuration names.
#[derive(Debug, Clone, Default)]
pub struct Needed {
    parts: HashMap<String, Part>,
    /// Those of which some channel compares versions.
    canaries: HashSet<String>,
}

/// One of them.
pub struct Wanted<'a> {
    pub name: &'a str,
    pub part: Part,
    pub is_canary: bool,
}

impl Needed {
    /// By active channels, and as the router.
    pub fn by(channels: &IndexMap<String, Arc<Channel>>, router: Option<&Arc<Router>>) -> Self {
        let active = || channels.values().filter(|channel| channel.active);
        // A plugin that is both is a channel's: deploying the router then says what is wrong.
        let parts = router.map(|router| (router.plugin.clone(), Part::Router)).into_iter();
        let parts = parts.chain(active().map(|channel| (channel.plugin.clone(), Part::Channel))).collect();
        let canaries = active().filter(|channel| channel.canary.is_some()).map(|channel| channel.plugin.clone());
        Self { parts, canaries: canaries.collect() }
    }

    /// These, for channels; but one as the router.
    pub fn named(names: HashSet<String>, router: Option<&Arc<Router>>) -> Self {
        let part = |name: &str| {
            if router.is_some_and(|router| router.plugin == name) { Part::Router } else { Part::Channel }
        };
        let parts = names.into_iter().map(|name| (name.clone(), part(&name))).collect();
        Self { parts, canaries: HashSet::new() }
    }

    /// All that either names.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        for (name, part) in other.parts {
            self.parts.entry(name).or_insert(part);
        }
        self.canaries.extend(other.canaries);
        self
    }

    pub fn contains(&self, name: &str) -> bool {
        self.parts.contains_key(name)
    }

    pub fn wanted(&self) -> impl Iterator<Item = Wanted<'_>> {
        self.parts.iter().map(|(name, part)| Wanted { name, part: *part, is_canary: self.canaries.contains(name) })
    }
}
