//! The channel that a plugin in rehearsal is configured for, and its sandbox.
//!
//! No secret is needed: a plugin is told names, and a plan is checked against names. In place of each stands a word, so
//! that a plan for a channel whose key is not set in this shell can be shown as well.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use indexmap::IndexMap;
use serde_json::Value;

use super::read_text;
use crate::cli::{SandboxArgs, Setup};
use crate::config::load::{self, Channels, Part};
use crate::config::problem::Problem;
use crate::config::{Channel, Endpoint, Gateway, Router, Sandbox, Secret, Timeouts, UsageSource};
use crate::exchange::capture::Configured;

const SETTINGS_BYTES_MAX: u64 = 32 << 20;
/// The channel's id where none is named.
const ID: &str = "rehearsal";

/// What the flags say, read once.
pub struct Given {
    settings: Option<String>,
    conf: Option<Conf>,
    sandbox: SandboxArgs,
    /// Of the file.
    plugin: String,
}

struct Conf {
    channels: Channels,
    gateway: Gateway,
}

impl Given {
    /// For the plugin of this name.
    pub fn read(setup: &Setup, plugin: &str) -> anyhow::Result<Self> {
        let settings = setup.settings.as_deref().map(settings).transpose()?;
        let conf = setup.conf.as_deref().map(Conf::read).transpose()?;
        Ok(Self { settings, conf, sandbox: setup.sandbox.clone(), plugin: plugin.to_owned() })
    }

    /// The channel of the configuration with this id; without one, a channel that has a key and nothing else.
    pub fn channel(&self, id: Option<&str>) -> anyhow::Result<Arc<Channel>> {
        let Some(id) = id else {
            let settings = self.settings.as_deref().unwrap_or("{}");
            return Ok(Arc::new(channel(ID, ID, &self.plugin, settings, &[], &[])));
        };
        let conf =
            self.conf.as_ref().ok_or_else(|| anyhow!("a channel is named without the configuration it is in"))?;
        let found = conf.channels.by_id.get(id).ok_or_else(|| {
            let known: Vec<_> = conf.channels.by_id.keys().map(String::as_str).collect();
            anyhow!("there is no channel {id:?} in the configuration; there are: {}", known.join(", "))
        })?;
        let settings = self.settings.as_deref().unwrap_or(&found.settings);
        let (endpoints, secrets) = (found.endpoints.keys().cloned(), found.secrets.keys().cloned());
        let (endpoints, secrets) = (endpoints.collect::<Vec<_>>(), secrets.collect::<Vec<_>>());
        Ok(Arc::new(channel(id, &found.name, &found.plugin, settings, &endpoints, &secrets)))
    }

    /// The channel of a captured decision, with what the flags say in place of what was recorded.
    pub fn channel_of(&self, recorded: &Configured) -> anyhow::Result<Arc<Channel>> {
        if self.conf.is_some() {
            return self.channel(Some(&recorded.id));
        }
        let settings = self.settings.as_deref().or(recorded.settings.as_deref());
        let settings =
            settings.context("the settings were too long to be captured: name them with --settings or --conf")?;
        let Configured { id, name, endpoints, secrets, .. } = recorded;
        Ok(Arc::new(channel(id, name, &self.plugin, settings, endpoints, secrets)))
    }

    /// As the router of the configuration, or with no settings but the flag's.
    pub fn router(&self) -> Arc<Router> {
        let own = self.conf.as_ref().and_then(|conf| conf.gateway.router.as_ref());
        let settings = self.settings.as_deref().or(own.map(|router| router.settings.as_str())).unwrap_or("{}");
        let plugin = own.map_or(&self.plugin, |router| &router.plugin);
        Arc::new(Router { plugin: plugin.clone(), settings: settings.to_owned() })
    }

    /// Of the plugin of this name, whatever the file is called.
    pub fn sandbox(&self, plugin: &str) -> Sandbox {
        let mut sandbox = match &self.conf {
            Some(conf) => conf.gateway.plugin_sandbox.get(plugin).unwrap_or(&conf.gateway.sandbox).clone(),
            None => Sandbox::default(),
        };
        if let Some(ms) = self.sandbox.deadline_ms {
            sandbox.deadline = Some(Duration::from_millis(ms.into()));
        }
        if let Some(bytes) = self.sandbox.memory_bytes {
            sandbox.memory_bytes_max = usize::try_from(bytes).unwrap_or(usize::MAX);
        }
        sandbox
    }
}

impl Conf {
    /// The proxy keys are not looked at: no tool needs them.
    fn read(folder: &Path) -> anyhow::Result<Self> {
        let files = load::Sources::under(folder);
        let env = |name: &str| std::env::var(name).ok();
        let bytes = load::bytes(&files.channels).map_err(|problem| anyhow!("{problem}"))?;
        let bytes = bytes.ok_or_else(|| anyhow!("{}", load::missing(&files.channels)))?;
        let channels = sound(load::channels(&bytes, &files.channels, &env))?;
        let gateway = match load::bytes(&files.gateway).map_err(|problem| anyhow!("{problem}"))? {
            Some(bytes) => sound(load::gateway(&bytes, &files.gateway, &env))?,
            None => Gateway::default(),
        };
        Ok(Self { channels, gateway })
    }
}

/// Warnings are for `check`; here they would be in the way.
fn sound<T>(part: Part<T>) -> anyhow::Result<T> {
    part.value.ok_or_else(|| {
        let lines: Vec<String> = part.problems.iter().map(Problem::to_string).collect();
        anyhow!("the configuration is not sound:\n{}", lines.join("\n"))
    })
}

/// The text itself, or what is in the file that it names.
fn settings(text: &str) -> anyhow::Result<String> {
    let (text, place) = match text.strip_prefix('@') {
        Some(file) => (read_text(Path::new(file), SETTINGS_BYTES_MAX)?, file.to_owned()),
        None => (text.to_owned(), "--settings".to_owned()),
    };
    match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(members)) => Ok(Value::Object(members).to_string()),
        Ok(_) => bail!("{place}: expected a JSON object"),
        Err(error) => bail!("{place}: not valid JSON: {error}"),
    }
}

/// A channel that leads nowhere.
fn channel(id: &str, name: &str, plugin: &str, settings: &str, endpoints: &[String], secrets: &[String]) -> Channel {
    // One for each name: a plan's endpoint is told by which of them it holds.
    let nowhere = || {
        let host = "unset.invalid".to_owned();
        Arc::new(Endpoint {
            tls: true,
            authority: host.clone(),
            host,
            port: 443,
            base_path: String::new(),
            proxy: None,
        })
    };
    let none = Duration::ZERO;
    let secrets = secrets.iter().map(String::as_str).filter(|name| *name != "key");
    Channel {
        id: id.to_owned(),
        name: name.to_owned(),
        active: true,
        key_missing: None,
        is_keyless: false,
        plugin: plugin.to_owned(),
        settings: settings.to_owned(),
        http: nowhere(),
        websocket: nowhere(),
        endpoints: endpoints.iter().map(|name| (name.clone(), nowhere())).collect(),
        secrets: std::iter::once("key")
            .chain(secrets)
            .map(|name| (name.to_owned(), Secret::new("placeholder")))
            .collect::<IndexMap<_, _>>(),
        supports_websocket: true,
        priority: 0,
        weight: 0,
        timeouts: Timeouts { connect: none, first_byte: none, idle: none },
        usage: UsageSource::Read,
        canary: None,
        capture: false,
    }
}
