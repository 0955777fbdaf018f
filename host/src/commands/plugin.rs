//! `aiproxy-host plugin …`: what authors and operators do with plugins.

mod rollback;

use crate::cli::PluginCommand;

pub fn run(command: &PluginCommand) -> anyhow::Result<()> {
    match command {
        PluginCommand::Rollback(options) => rollback::roll_back(options),
        PluginCommand::Unpin(options) => rollback::unpin(options),
    }
}
