//! `aiproxy-host serve`: load, bind, run.
//!
//! Nothing listens before everything is loaded: a gateway that answers is a gateway that is ready.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::sync::watch;
use tracing::Level;

use crate::cli::{Serve, Sources};
use crate::config;
use crate::exchange::capture::Captures;
use crate::exchange::worker::Shared;
use crate::generation::kept::Kept;
use crate::generation::watch::Watcher;
use crate::generation::{Folders, Generation, Loader, Refused};
use crate::plugin::{Engine, EngineOptions};
use crate::server::{self, Parts};
use crate::shutdown::{self, Commands};
use crate::state::StateFolder;
use crate::stats::{self, Registry, Statistics};
use crate::telemetry;
use crate::upstream::Tls;

/// A gateway that has loaded everything and is ready to be bound.
pub struct Gateway {
    parts: Parts,
    _watcher: Watcher,
    /// Before the state folder, into which it writes at its end.
    _statistics: Statistics,
    _state: StateFolder,
}

pub fn run(options: &Serve) -> anyhow::Result<()> {
    let _log = telemetry::init(Level::INFO)?;
    let gateway = Gateway::load(&options.sources, &options.state, options.workers.count())?;
    let listener = bind(options.listen)?;
    // Before the announcement: whoever waits for it may send a signal at once.
    let commands = shutdown::signals()?;
    announce(&listener, &gateway)?;
    gateway.run(listener, commands)
}

/// One line on stdout, and nothing before it: scripts wait for it.
pub fn announce(listener: &TcpListener, gateway: &Gateway) -> anyhow::Result<()> {
    let generation = gateway.parts.shared.current.load();
    let scheme = if generation.config.gateway.tls.is_some() { "https" } else { "http" };
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on {scheme}://{}", listener.local_addr()?)?;
    stdout.flush()?;
    tracing::info!(
        workers = gateway.parts.workers,
        channels = generation.channels.len(),
        proxy_keys = generation.config.keys.by_digest.len(),
        "ready"
    );
    Ok(())
}

pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address}; is another program there? name another with --listen"))
}

/// The first generation of what is in the folders; prints what is wrong with them to stderr.
pub fn load(
    loader: &mut Loader,
    sources: &Sources,
    configured: impl FnOnce(&config::Gateway),
) -> anyhow::Result<Arc<Generation>> {
    if !sources.conf.join("channels_config.json").exists() && !sources.conf.join("api_keys.json").exists() {
        bail!(
            "there is no configuration in {}; `aiproxy-host init DIR` writes one to start from, `--conf` names another folder",
            sources.conf.display()
        );
    }
    match loader.first(configured) {
        Ok((generation, warnings)) => {
            for problem in warnings {
                tracing::warn!("{problem}");
            }
            Ok(generation)
        }
        Err(Refused { problems, plugins }) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            for (file, reason) in plugins {
                eprintln!("error: {file}: {reason}");
            }
            bail!("the configuration is not sound; mend the errors above (`aiproxy-host check` shows them again)")
        }
    }
}

impl Gateway {
    /// Loads everything; nothing runs yet but the watcher.
    pub fn load(sources: &Sources, state: &Path, workers: usize) -> anyhow::Result<Self> {
        let state = StateFolder::open(state)?;
        let engine =
            Engine::new(EngineOptions { cache: Some(state.compiled()), spares: workers, ..EngineOptions::default() })?;
        let folders = Folders { conf: sources.conf.clone(), plugins: sources.plugins.clone() };
        let mut loader = Loader::new(engine, folders, Kept::new(Some(&state.versions())));
        let generation = load(&mut loader, sources, |settings| telemetry::apply(&settings.log))?;
        let settings = &generation.config.gateway;
        let tls = Tls::new(settings.trusted_ca.as_deref())?;
        let access_log = telemetry::access_log(&settings.access_log, settings.access_log_rotation)?;
        let registry = Arc::new(Registry::new(workers));
        registry.log_requests(settings.statistics.request_log_days);
        let statistics = Statistics::start(registry.clone(), Some(state.statistics()))?;
        let started = format!("version {} began to serve", env!("CARGO_PKG_VERSION"));
        registry.events.add(stats::Level::Info, "start", "gateway", &started, 1);
        let mut shared = Shared::new(generation, loader.status(), registry, statistics.asker())?;
        shared.captures = Captures::into(state.captures());
        let shared = Arc::new(shared);
        let (swap, swapped) = watch::channel(1);
        let watcher = Watcher::start(loader, state.requests(), shared.clone(), swap)?;
        let reload = Box::new(watcher.reloader());
        let parts = Parts { shared, tls, access_log, swapped, reload, workers };
        Ok(Self { parts, _watcher: watcher, _statistics: statistics, _state: state })
    }

    /// What a test looks at.
    pub fn shared(&self) -> Arc<Shared> {
        self.parts.shared.clone()
    }

    /// Serves until a command stops it.
    pub fn run(self, listener: TcpListener, commands: Commands) -> anyhow::Result<()> {
        let ended = server::run(listener, &self.parts, commands);
        self.parts.shared.captures.finish();
        ended
    }
}
