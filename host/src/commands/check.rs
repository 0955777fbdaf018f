//! `aiproxy-host check`: everything that `serve` would find wrong, at once, on stdout.

use anyhow::bail;
use tracing::Level;

use crate::cli::Check;
use crate::config::problem::Problem;
use crate::generation::{Folders, Loader, Refused};
use crate::plugin::{Engine, EngineOptions};
use crate::telemetry;

pub fn run(options: &Check) -> anyhow::Result<()> {
    // What a plugin prints while it is configured, a panic's text among it, is in the log only.
    telemetry::init(Level::WARN);
    let engine = Engine::new(EngineOptions::default())?;
    let folders = Folders { conf: options.sources.conf.clone(), plugins: options.sources.plugins.clone() };
    let mut loader = Loader::new(engine, folders);
    match loader.first(|_| {}) {
        Ok((generation, warnings)) => {
            print(&warnings);
            for (id, state) in &generation.channels {
                match &state.deployed {
                    Ok(deployed) => {
                        let version = &deployed.version;
                        println!("channel {id}: {}, plugin {} {}", state.status(), version.name, version.short_hash());
                    }
                    Err(reason) => println!("channel {id}: {reason}"),
                }
            }
            println!(
                "ok: {} channels, {} proxy keys",
                generation.channels.len(),
                generation.config.keys.by_digest.len()
            );
            Ok(())
        }
        Err(Refused { problems, plugins }) => {
            print(&problems);
            for (file, reason) in plugins {
                println!("error: {file}: {reason}");
            }
            bail!("the configuration is not sound")
        }
    }
}

fn print(problems: &[Problem]) {
    for problem in problems {
        println!("{problem}");
    }
}
