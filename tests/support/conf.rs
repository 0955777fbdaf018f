//! A configuration folder, written and rewritten by tests.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::guests;

/// The proxy key of every test that does not say otherwise; its id is `tester`.
pub const KEY: &str = "sk-test-0123456789";
/// The upstream key of every channel that does not say otherwise.
pub const UPSTREAM_KEY: &str = "upstream-secret-0123456789";

/// A channel `c` served by the puppet, for the proxy key [`KEY`]; the folder goes with the value.
pub struct Conf {
    folder: TempDir,
    channels: Value,
    keys: Value,
    gateway: Value,
}

/// A channel with its usual fields.
pub fn channel(base_url: &str) -> Value {
    json!({"name": "C", "api_key": UPSTREAM_KEY, "base_url": base_url, "plugin": "puppet", "proxy": "direct"})
}

impl Conf {
    /// One channel `c` to `base_url`.
    pub fn new(base_url: &str) -> Self {
        let conf = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            channels: json!({"c": channel(base_url)}),
            keys: json!([{"proxy_key": KEY, "id": "tester", "channel": "c"}]),
            gateway: json!({"access_log": "off"}),
        };
        std::fs::create_dir(conf.conf()).expect("a folder");
        std::fs::create_dir(conf.plugins()).expect("a folder");
        conf.plugin("puppet", guests::puppet());
        conf
    }

    /// Sets a field of the channel `c`.
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.channels["c"][field] = value.into();
        self
    }

    /// The puppet's settings on the channel `c`.
    pub fn settings(self, settings: Value) -> Self {
        self.set("settings", settings)
    }

    /// Adds a channel, or replaces one.
    pub fn channel(mut self, id: &str, channel: Value) -> Self {
        self.channels[id] = channel;
        self
    }

    /// These channels in place of all others.
    pub fn channels(mut self, channels: Value) -> Self {
        self.channels = channels;
        self
    }

    pub fn keys(mut self, keys: Value) -> Self {
        self.keys = keys;
        self
    }

    /// Sets a field of gateway.json.
    pub fn gateway(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.gateway[field] = value.into();
        self
    }

    /// Without gateway.json: its defaults.
    pub fn gateway_absent(mut self) -> Self {
        self.gateway = Value::Null;
        self
    }

    /// Writes the three files, each by a rename.
    pub fn write(&self) {
        self.write_file("channels_config.json", &json!({"channels": self.channels}).to_string());
        self.write_file("api_keys.json", &self.keys.to_string());
        if !self.gateway.is_null() {
            self.write_file("gateway.json", &self.gateway.to_string());
        }
    }

    /// Changes the channels, and replaces their file.
    pub fn write_channels(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.channels);
        self.write_file("channels_config.json", &json!({"channels": self.channels}).to_string());
    }

    /// Replaces one file of the configuration.
    pub fn write_file(&self, name: &str, text: &str) {
        replace(&self.conf().join(name), text.as_bytes());
    }

    /// Replaces a plugin file.
    pub fn plugin(&self, name: &str, bytes: &[u8]) {
        replace(&self.plugins().join(format!("{name}.wasm")), bytes);
    }

    pub fn conf(&self) -> PathBuf {
        self.folder.path().join("conf")
    }

    pub fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// As a careful deployment does it: write aside, then rename.
fn replace(path: &Path, bytes: &[u8]) {
    let aside = path.with_extension("new");
    std::fs::write(&aside, bytes).expect("a file can be written");
    std::fs::rename(&aside, path).expect("a file can be renamed");
}
