//! Flags → configuration → listener → run → exit code; nothing else.

use std::process::ExitCode;

use aiproxy_host::cli::{Cli, Command};
use aiproxy_host::commands;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => done(commands::serve::run(&cli.serve)),
        Some(Command::Serve(serve)) => done(commands::serve::run(&serve)),
        Some(Command::Demo(demo)) => done(commands::demo::run(&demo)),
        Some(Command::Init(init)) => done(commands::init::run(&init)),
        Some(Command::Check(check)) => done(commands::check::run(&check)),
        Some(Command::Explain(explain)) => done(commands::explain::run(&explain)),
        Some(Command::Plugin(plugin)) => commands::plugin::run(&plugin),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn done(result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}
