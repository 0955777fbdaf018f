//! `aiproxy-host plugin rollback` and `unpin`: on the gateway that runs on the state folder, or for its next start.

use std::time::Duration;

use anyhow::bail;

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
    let answer = match StateFolder::try_open(state)? {
        Some(folder) => wish.fulfil_offline(&mut Kept::new(Some(&folder.versions()))),
        None => match requests::ask(&state::requests(state), wish, PATIENCE)? {
            Some(answer) => answer,
            None => bail!("the gateway that uses {} has not answered within a minute", state.display()),
        },
    };
    if !answer.done {
        bail!("{}", answer.message);
    }
    say(answer.message);
    Ok(())
}
