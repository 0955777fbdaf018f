//! `aiproxy-host plugin rollback` and `unpin`: on the gateway that runs on the state folder, or for its next start.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::cli::{PluginOfGateway, Rollback};
use crate::commands::say;
use crate::generation::kept::Kept;
use crate::generation::requests::{self, Wish};
use crate::state::{self, StateFolder};

/// Compiling a large component takes seconds, where its compiled code was thrown away.
const PATIENCE: Duration = Duration::from_mins(1);

pub fn roll_back(options: &Rollback) -> anyhow::Result<()> {
    let Rollback { plugin: PluginOfGateway { name, state }, version } = options;
    ask(&Wish::Rollback { plugin: name.clone(), version: version.clone() }, state)
}

pub fn unpin(PluginOfGateway { name, state }: &PluginOfGateway) -> anyhow::Result<()> {
    ask(&Wish::Unpin { plugin: name.clone() }, state)
}

fn ask(wish: &Wish, state: &std::path::Path) -> anyhow::Result<()> {
    if !state.is_dir() {
        bail!("there is no state folder {}; name the gateway's with --state", state.display());
    }
    let deadline = Instant::now() + PATIENCE;
    let answer = loop {
        if let Some(folder) = StateFolder::try_open(state)? {
            break wish.fulfil_offline(&mut Kept::new(Some(&folder.versions())));
        }
        let asked = requests::ask(&state::requests(state), wish, deadline.saturating_duration_since(Instant::now()));
        if let Some(answer) = asked.with_context(|| format!("cannot ask in {}", state::requests(state).display()))? {
            break answer;
        }
        if Instant::now() >= deadline {
            let folder = state.display();
            bail!("the gateway that uses {folder} has not answered within a minute; the request is withdrawn");
        }
    };
    if !answer.done {
        bail!("{}", answer.message);
    }
    say(answer.message);
    Ok(())
}
