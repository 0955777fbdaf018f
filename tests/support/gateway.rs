//! A gateway in this process: the library's own `load` and `run`, stopped and joined when dropped.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use aiproxy_host::cli::Sources;
use aiproxy_host::commands::serve;
use aiproxy_host::exchange::worker::Shared;
use aiproxy_host::shutdown::{self, Handle};
use serde_json::Value;

use super::{Conf, TlsClient, compiled};

pub struct Gateway {
    pub address: SocketAddr,
    pub conf: Conf,
    pub shared: Arc<Shared>,
    /// How to look at the statistics where plain HTTP is not spoken.
    pub tls: Option<TlsClient>,
    handle: Handle,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Gateway {
    /// Writes the configuration and starts a gateway with two workers on it.
    pub async fn start(conf: Conf) -> Self {
        Self::with_workers(conf, 2).await
    }

    pub async fn with_workers(conf: Conf, workers: usize) -> Self {
        conf.write();
        let sources = Sources { conf: conf.conf(), plugins: conf.plugins() };
        let state = conf.state();
        // Loading compiles: an upstream of the same test, on this thread, shall go on meanwhile.
        let loaded = tokio::task::spawn_blocking(move || {
            compiled::lend(&state);
            let gateway = serve::Gateway::load(&sources, &state, workers);
            compiled::keep(&state);
            gateway
        });
        let gateway = loaded.await.expect("loading does not panic").expect("the configuration is sound");
        let shared = gateway.shared();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (handle, commands) = shutdown::channel();
        let thread = std::thread::spawn(move || gateway.run(listener, commands));
        Self { address, conf, shared, tls: None, handle, thread: Some(thread) }
    }

    /// Another gateway on the same folders, once this one has [ended](Self::ended).
    pub async fn restart(mut self) -> Self {
        let placeholder = Conf::new("http://127.0.0.1:1");
        let conf = std::mem::replace(&mut self.conf, placeholder);
        Self::start(conf).await
    }

    /// As SIGHUP does.
    pub fn reload(&self) {
        self.handle.reload();
    }

    /// As SIGTERM does; returns at once.
    pub fn stop(&self) {
        self.handle.stop();
    }

    /// Waits until every worker has ended.
    pub async fn ended(&mut self) {
        if let Some(thread) = self.thread.take() {
            let joined = tokio::task::spawn_blocking(move || thread.join());
            joined.await.expect("joining does not panic").expect("the gateway does not panic").expect("it ends well");
        }
    }

    /// `/stats`, as JSON.
    pub async fn stats(&self) -> Value {
        let reply = match &self.tls {
            Some(client) => client.get(self.address, "/stats").await,
            None => super::get(self.address, "/stats").await,
        };
        serde_json::from_slice(&reply.body).expect("statistics are JSON")
    }

    /// Waits until `/stats` shows what is waited for; fails after half a minute with what it shows instead.
    pub async fn until(&self, what: &str, shows: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let stats = self.stats().await;
            if shows(&stats) {
                return stats;
            }
            assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}: {stats:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Twice: a test that fails shall not wait for the drain time.
        self.handle.stop();
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
