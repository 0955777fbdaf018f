//! What is loaded from where, and what is wrong: for `/stats`, the metrics and the dashboard.

use schemars::JsonSchema;
use serde::Serialize;

use super::kept::{KeptVersion, Pin};

/// What is loaded from where, and what is wrong.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Name of the router's plugin.
    pub router: Option<String>,
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
    /// `file`, `embedded` for a default plugin out of the binary, or `kept` for an earlier version that was brought back.
    pub source: Option<&'static str>,
    /// The version of the WIT package `aiproxy:plugin` that it speaks.
    pub interface: Option<&'static str>,
    pub state: State,
    pub last_error: Option<String>,
    /// When the version that serves was accepted, Unix time in seconds.
    pub loaded_at: Option<u64>,
    /// Ids of the channels it decides for.
    pub channels: Vec<String>,
    /// SHA-256 of a newer version that serves a share of the exchanges of some channel.
    pub trial: Option<String>,
    /// Set by a rollback, or because a version on trial did worse.
    pub pin: Option<Pin>,
    /// Those that were accepted and can be brought back, newest first.
    pub versions: Vec<VersionStatus>,
}

/// A version in a plugin's history.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct VersionStatus {
    #[serde(flatten)]
    pub kept: KeptVersion,
    pub serves: bool,
    pub on_trial: bool,
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
