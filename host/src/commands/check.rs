//! `aiproxy-host check`: everything that `serve` would find wrong, at once, on stdout.

use anyhow::bail;
use tracing::Level;

use crate::cli::Check;
use crate::commands::say;
use crate::config::problem::Problem;
use crate::generation::kept::Kept;
use crate::generation::{Folders, Loader, Refused};
use crate::plugin::{Engine, EngineOptions};
use crate::state;
use crate::telemetry;

pub fn run(options: &Check) -> anyhow::Result<()> {
    // What a plugin prints while it is configured, a panic's text among it, is in the log only.
    let _log = telemetry::init(Level::WARN)?;
    let engine = Engine::new(EngineOptions::default())?;
    let folders = Folders { conf: options.sources.conf.clone(), plugins: options.sources.plugins.clone() };
    let mut loader = Loader::new(engine, folders, Kept::read_only(&state::versions(&options.state.folder)));
    match loader.first(|_| {}) {
        Ok((generation, warnings)) => {
            print(&warnings);
            for (id, state) in &generation.channels {
                match &state.deployed {
                    Ok(deployed) => {
                        let version = &deployed.version;
                        let (name, hash) = (&version.name, version.short_hash());
                        say(format!("channel {id}: {}, plugin {name} {hash}", state.status()));
                    }
                    Err(reason) => say(format!("channel {id}: {reason}")),
                }
            }
            if let Some(router) = &generation.router {
                say(format!("router: plugin {} {}", router.version.name, router.version.short_hash()));
            }
            let refused: Vec<_> = loader.status().plugins.into_iter().filter(|it| it.last_error.is_some()).collect();
            for plugin in &refused {
                let reason = plugin.last_error.as_deref().unwrap_or_default();
                say(format!("error: plugin {}: {reason}; an earlier version would serve", plugin.name));
            }
            if !refused.is_empty() {
                bail!("what is in the plugins folder is not sound");
            }
            let keys = generation.config.keys.by_digest.len();
            say(format!("ok: {} channels, {keys} proxy keys", generation.channels.len()));
            Ok(())
        }
        Err(Refused { problems, plugins }) => {
            print(&problems);
            for (file, reason) in plugins {
                say(format!("error: {file}: {reason}"));
            }
            bail!("the configuration is not sound")
        }
    }
}

fn print(problems: &[Problem]) {
    for problem in problems {
        say(problem);
    }
}
