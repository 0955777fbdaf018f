//! `aiproxy-host plugin …`: what those who write plugins need, and those who deploy them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Make a folder with a plugin to start from: sources, a test, the interface, and how to build it.
    New(New),
    /// Say what a file is, what is in it, and what keeps the gateway from taking it; exit code 1 if something does.
    Check(CheckFile),
    /// Ask a plugin about one request: the plan, times, memory, and what it says; exit code 1 if it fails.
    Run(Run),
    /// Ask a plugin about captured requests, and show every decision that would change; exit code 1 if one does, 2 if
    /// something could not be read.
    Replay(Replay),
    /// Bring an earlier version of a plugin back, and hold the plugin to it until its file gets new content.
    Rollback(Rollback),
    /// Have a plugin's file count again after a rollback.
    Unpin(PluginOfGateway),
}

/// A plugin of a gateway.
#[derive(Debug, Args)]
pub struct PluginOfGateway {
    pub name: String,
    /// State folder of the gateway, which may be running.
    #[arg(long, value_name = "DIR", env = "AIPROXY_STATE", default_value = "state")]
    pub state: PathBuf,
}

#[derive(Debug, Args)]
pub struct Rollback {
    #[command(flatten)]
    pub plugin: PluginOfGateway,
    /// The beginning of a version's hash; by default, the version that was accepted before the one that serves.
    pub version: Option<String>,
}

#[derive(Debug, Args)]
pub struct New {
    /// The plugin's name: letters, digits, `_` and `-`, beginning with a letter.
    pub name: String,
    /// rust, c, js, python or go.
    #[arg(long, value_name = "LANGUAGE")]
    pub lang: String,
    /// The folder to make; by default one of the plugin's name, here.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// What a plugin is configured with, and what it may use.
#[derive(Debug, Clone, Default, Args)]
pub struct Setup {
    /// The channel's settings: a JSON object, or `@FILE`.
    #[arg(long, value_name = "JSON|@FILE")]
    pub settings: Option<String>,
    /// A folder of the gateway's configuration; what `--settings` does not say is as there.
    #[arg(long, value_name = "DIR")]
    pub conf: Option<PathBuf>,
    #[command(flatten)]
    pub sandbox: SandboxArgs,
}

#[derive(Debug, Clone, Default, Args)]
pub struct SandboxArgs {
    /// CPU time for one decision, in milliseconds; by default as in the configuration, or 10 (50 for 1 MiB and more).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub deadline_ms: Option<u32>,
    /// Memory of one instance, in bytes; by default as in the configuration, or 67108864 (64 MiB).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1_048_576..=4_294_967_296))]
    pub memory_bytes: Option<u64>,
}

/// Which of the configuration's channels is meant.
#[derive(Debug, Clone, Default, Args)]
pub struct ChannelArg {
    /// A channel of `--conf`, whose settings, endpoints and secrets' names the plugin is told.
    #[arg(long, value_name = "ID", requires = "conf")]
    pub channel: Option<String>,
}

#[derive(Debug, Args)]
pub struct CheckFile {
    /// The plugin: a `.wasm` file.
    pub file: PathBuf,
    #[command(flatten)]
    pub setup: Setup,
    #[command(flatten)]
    pub channel: ChannelArg,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Run {
    /// The plugin: a `.wasm` file.
    pub file: PathBuf,
    /// The request's head as JSON: written by hand, printed by `explain --json`, or a line of a capture; `-` reads stdin.
    pub request: PathBuf,
    #[command(flatten)]
    pub setup: Setup,
    #[command(flatten)]
    pub channel: ChannelArg,
    /// How often it is asked.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub calls: u32,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Replay {
    /// The candidate: a `.wasm` file.
    pub file: PathBuf,
    /// What the gateway recorded: `captures/CHANNEL.jsonl` in its state folder; `-` reads stdin.
    pub capture: PathBuf,
    #[command(flatten)]
    pub setup: Setup,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
