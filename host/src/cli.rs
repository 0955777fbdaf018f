//! Flags and subcommands: what they are called, not what they do.

mod plugin;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::plugin::{
    ChannelArg, CheckFile, New, PluginCommand, PluginOfGateway, Replay, Rollback, Run, SandboxArgs, Setup,
};

/// A gateway in front of AI providers whose routing logic is sandboxed, hot-swappable WebAssembly components.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: Serve,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve (the default).
    Serve(Serve),
    /// Try it without any provider: an embedded upstream, the gateway in front of it, and curl lines to paste.
    Demo(Demo),
    /// Write a configuration to start from, with freshly drawn proxy keys, and the default plugins.
    Init(Init),
    /// Load everything as `serve` would and print every problem; exit code 1 if there is an error.
    Check(Check),
    /// Print what would become of a request, without sending anything.
    Explain(Explain),
    /// Write plugins and deploy them: start one, check it, ask it, compare it with what was answered before, go back.
    #[command(subcommand)]
    Plugin(PluginCommand),
}

#[derive(Debug, Clone, Args)]
pub struct Sources {
    /// Folder of `channels_config.json`, `api_keys.json` and, optionally, `gateway.json`.
    #[arg(long, value_name = "DIR", env = "AIPROXY_CONF", default_value = "conf")]
    pub conf: PathBuf,
    /// Folder of plugins; a file `NAME.wasm` takes the place of the default plugin NAME.
    #[arg(long, value_name = "DIR", env = "AIPROXY_PLUGINS", default_value = "plugins")]
    pub plugins: PathBuf,
}

#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    pub sources: Sources,
    /// Folder that the gateway keeps for itself (compiled plugins); made where it is missing.
    #[arg(long, value_name = "DIR", env = "AIPROXY_STATE", default_value = "state")]
    pub state: PathBuf,
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", env = "AIPROXY_LISTEN", default_value = "0.0.0.0:8001")]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub workers: Workers,
}

#[derive(Debug, Clone, Args)]
pub struct Workers {
    // A request id has two hexadecimal digits for the thread, and the acceptor is one more.
    /// Worker threads; by default one for each core.
    #[arg(long, value_name = "N", env = "AIPROXY_WORKERS", value_parser = clap::value_parser!(u16).range(1..=255))]
    pub workers: Option<u16>,
}

impl Workers {
    pub fn count(&self) -> usize {
        self.workers.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from).min(255), usize::from)
    }
}

#[derive(Debug, Args)]
pub struct Demo {
    /// Address and port of the gateway.
    #[arg(long, value_name = "ADDR", env = "AIPROXY_LISTEN", default_value = "127.0.0.1:8001")]
    pub listen: SocketAddr,
    /// Speak TLS, with this certificate chain (PEM); some SDKs open WebSockets only so.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    #[command(flatten)]
    pub workers: Workers,
}

/// The state folder of a gateway, to be looked at.
#[derive(Debug, Clone, Args)]
pub struct StateOption {
    /// State folder of the gateway; a plugin that is pinned there is looked at in that version.
    #[arg(long = "state", value_name = "DIR", env = "AIPROXY_STATE", default_value = "state")]
    pub folder: PathBuf,
}

#[derive(Debug, Args)]
pub struct Init {
    /// Folder to write `conf` and `plugins` into; existing files are kept.
    pub dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub sources: Sources,
    #[command(flatten)]
    pub state: StateOption,
}

#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    pub sources: Sources,
    #[command(flatten)]
    pub state: StateOption,
    /// The proxy key's id (never the key itself).
    #[arg(long, value_name = "ID")]
    pub key: String,
    /// The model that the request's body would name.
    #[arg(long)]
    pub model: Option<String>,
    /// A request header; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Print the request's head instead, as JSON: what `plugin run` reads.
    #[arg(long)]
    pub json: bool,
    pub method: String,
    /// Path, with the query if there is one.
    pub path: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_workers_than_request_ids_can_tell_apart() {
        let workers = |count: &str| {
            Cli::try_parse_from(["aiproxy-host", "--workers", count]).map(|cli| cli.serve.workers.count()).ok()
        };
        assert_eq!((workers("255"), workers("1")), (Some(255), Some(1)));
        assert_eq!((workers("256"), workers("0")), (None, None));
    }

    #[test]
    fn a_certificate_is_named_with_its_key_or_not_at_all() {
        let is_taken = |options: &[&str]| Cli::try_parse_from(["aiproxy-host", "demo"].iter().chain(options)).is_ok();
        assert!(is_taken(&[]) && is_taken(&["--tls-cert", "a.pem", "--tls-key", "b.pem"]));
        assert!(!is_taken(&["--tls-cert", "a.pem"]) && !is_taken(&["--tls-key", "b.pem"]));
    }
}
