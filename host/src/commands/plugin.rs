//! `aiproxy-host plugin …`: the tools of those who write plugins, and of those who deploy them.
//!
//! The former run the gateway's own code: a file is loaded, configured, asked and checked exactly as `serve` does it. What they
//! print is for people, as lines with a label, or with `--json` for machines.

mod check;
mod new;
mod parts;
mod replay;
mod rollback;
mod run;
mod setup;

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tracing::Level;

use crate::cli::PluginCommand;
use crate::commands::say;
use crate::plugin::{Engine, EngineOptions, Said};
use crate::telemetry;

/// As much as a plugin's file may have.
const FILE_BYTES_MAX: u64 = 256 << 20;

pub fn run(command: &PluginCommand) -> anyhow::Result<ExitCode> {
    let _log = telemetry::init(Level::WARN)?;
    match command {
        PluginCommand::New(options) => new::run(options),
        PluginCommand::Check(options) => check::run(options),
        PluginCommand::Run(options) => run::run(options),
        PluginCommand::Replay(options) => Ok(replay::run(options)),
        PluginCommand::Rollback(options) => rollback::roll_back(options).map(|()| ExitCode::SUCCESS),
        PluginCommand::Unpin(options) => rollback::unpin(options).map(|()| ExitCode::SUCCESS),
    }
}

fn engine() -> anyhow::Result<Arc<Engine>> {
    Engine::new(EngineOptions { pool_instances: 16, spares: 1, ..EngineOptions::default() })
}

/// A plugin's name is that of its file.
fn name_of(file: &Path) -> String {
    file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

fn read_plugin(file: &Path) -> anyhow::Result<Vec<u8>> {
    read(std::fs::File::open(file), FILE_BYTES_MAX).with_context(|| format!("{} cannot be read", file.display()))
}

/// `-` is stdin.
fn read_text(file: &Path, bytes_max: u64) -> anyhow::Result<String> {
    let bytes = if file == Path::new("-") {
        read(Ok(std::io::stdin().lock()), bytes_max).context("stdin cannot be read")?
    } else {
        read(std::fs::File::open(file), bytes_max).with_context(|| format!("{} cannot be read", file.display()))?
    };
    String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", file.display()))
}

fn read(opened: std::io::Result<impl Read>, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    opened?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        bail!("it is larger than {} MiB", bytes_max >> 20);
    }
    Ok(bytes)
}

/// Labels and texts, each label in front of its first text only.
#[derive(Default)]
struct Lines(Vec<(&'static str, String)>);

impl Lines {
    fn add_said(&mut self, said: &[Said]) {
        for Said { level, message } in said {
            self.add("said", format!("{level}: {message}"));
        }
    }

    fn add(&mut self, label: &'static str, text: impl Into<String>) {
        self.0.push((label, text.into()));
    }

    fn say(&self) {
        let mut last = "";
        for (label, text) in &self.0 {
            let shown = if *label == last { "" } else { label };
            say(format!("{shown:<10} {text}"));
            last = label;
        }
    }
}

fn milliseconds(duration: Duration) -> String {
    let us = duration.as_secs_f64() * 1e6;
    if us < 1000.0 { format!("{us:.1} µs") } else { format!("{:.1} ms", us / 1000.0) }
}

fn microseconds(duration: Duration) -> Value {
    json!((duration.as_secs_f64() * 1e7).round() / 10.0)
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Of at least one.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

fn say_said(said: &[Said]) {
    for Said { level, message } in said {
        eprintln!("{level}: {message}");
    }
}

fn said(said: &[Said]) -> Value {
    said.iter().map(|said| json!({"level": said.level, "message": said.message})).collect()
}
