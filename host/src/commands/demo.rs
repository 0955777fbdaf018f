//! `aiproxy-host demo`: the gateway in front of an embedded upstream, to try it without a provider.
//!
//! Everything but the provider is real: the configuration goes through files in a temporary folder, the proxy keys and
//! upstream keys are drawn anew for each run, and the requests travel over loopback sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;
use tracing::Level;

use crate::cli::{Demo, Sources};
use crate::commands::say;
use crate::commands::serve::{self, Gateway};
use crate::config::init::random_key;
use crate::demo;
use crate::{shutdown, telemetry};

/// The proxy keys of a demo.
struct ProxyKeys {
    bailian: String,
    gemini: String,
}

/// The files of the certificate that the gateway shows.
struct Certificate {
    cert: PathBuf,
    key: PathBuf,
}

pub fn run(options: &Demo) -> anyhow::Result<()> {
    // The terminal is for the lines to paste.
    let _log = telemetry::init(Level::WARN)?;
    let upstream_keys = demo::Keys { bailian: random_key("sk-upstream-")?, gemini: random_key("AIza-upstream-")? };
    let proxy_keys = ProxyKeys { bailian: random_key("sk-aiproxy-")?, gemini: random_key("sk-aiproxy-")? };
    let upstream = start_upstream(upstream_keys.clone())?;
    let folder =
        tempfile::Builder::new().prefix("aiproxy-demo-").tempdir().context("no temporary folder can be made")?;
    let certificate = certificate(options)?;
    write_conf(folder.path(), upstream, &upstream_keys, &proxy_keys, certificate.as_ref())?;
    let sources = Sources { conf: folder.path().join("conf"), plugins: folder.path().join("plugins") };
    let gateway = Gateway::load(&sources, &folder.path().join("state"), options.workers.count())?;
    let listener = serve::bind(options.listen)?;
    let address = reachable(listener.local_addr()?);
    let commands = shutdown::signals()?;
    serve::announce(&listener, &gateway)?;
    say(instructions(address, certificate.as_ref(), upstream, &proxy_keys));
    gateway.run(listener, commands)
}

/// The address by which this machine calls itself, where the port is open on all of them: by that one, statistics need no
/// token.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}

/// On a thread of its own, for as long as the process lives.
fn start_upstream(keys: demo::Keys) -> anyhow::Result<SocketAddr> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0)))?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("demo-upstream".into()).spawn(move || {
        let served = runtime.block_on(demo::serve(listener, keys, std::future::pending()));
        if let Err(error) = served {
            tracing::error!(%error, "the demo upstream ended");
        }
    })?;
    Ok(address)
}

/// What the options say of a certificate. The configuration is in a folder of its own, so the paths are made absolute.
fn certificate(options: &Demo) -> anyhow::Result<Option<Certificate>> {
    let absolute =
        |path: &Path| std::path::absolute(path).with_context(|| format!("{} is no path to a file", path.display()));
    match (&options.tls_cert, &options.tls_key) {
        (Some(cert), Some(key)) => Ok(Some(Certificate { cert: absolute(cert)?, key: absolute(key)? })),
        _ => Ok(None),
    }
}

fn write_conf(
    folder: &Path,
    upstream: SocketAddr,
    keys: &demo::Keys,
    proxy_keys: &ProxyKeys,
    certificate: Option<&Certificate>,
) -> anyhow::Result<()> {
    let base_url = format!("http://{upstream}");
    // Loopback never goes through an egress proxy, whatever the environment says.
    let channel = |name: &str, key: &str| {
        json!({
            "name": name, "api_key": key, "base_url": base_url, "proxy": "direct", "supports_websocket": true,
        })
    };
    let channels = json!({"channels": {
        "bailian": channel("阿里云百炼 (demo)", &keys.bailian),
        "gemini": channel("Google Gemini (demo)", &keys.gemini),
    }});
    let key = |key: &str, channel: &str| json!({"proxy_key": key, "id": format!("demo-{channel}"), "channel": channel});
    let keys = json!([key(&proxy_keys.bailian, "bailian"), key(&proxy_keys.gemini, "gemini")]);
    let conf = folder.join("conf");
    std::fs::create_dir(&conf)?;
    std::fs::create_dir(folder.join("plugins"))?;
    std::fs::write(conf.join("channels_config.json"), channels.to_string())?;
    std::fs::write(conf.join("api_keys.json"), keys.to_string())?;
    // The exchanges are on the dashboard.
    let mut settings = json!({"access_log": "off", "log": {"level": "warn"}});
    if let Some(Certificate { cert, key }) = certificate {
        settings["tls"] = json!({"cert": cert, "key": key});
    }
    std::fs::write(conf.join("gateway.json"), settings.to_string())?;
    Ok(())
}

/// With a certificate, the lines say so, and trust it as it is: a demo's is mostly one that signs itself.
fn instructions(
    gateway: SocketAddr,
    certificate: Option<&Certificate>,
    upstream: SocketAddr,
    keys: &ProxyKeys,
) -> String {
    let ProxyKeys { bailian, gemini } = keys;
    let (http, ws, curl, trust) = match certificate {
        None => ("http", "ws", "curl", String::new()),
        Some(Certificate { cert, .. }) => ("https", "wss", "curl -k", format!("SSL_CERT_FILE='{}' ", cert.display())),
    };
    format!(
        r#"proxy key for bailian: {bailian}
proxy key for gemini: {gemini}

The demo upstream at http://{upstream} plays both providers. Paste into another terminal:

# a chat through the bailian plugin
{curl} {http}://{gateway}/v1/chat/completions -H 'Authorization: Bearer {bailian}' -H 'Content-Type: application/json' \
  -d '{{"model":"qwen-plus","messages":[{{"role":"user","content":"Hello"}}]}}'

# the same, streamed
{curl} -N {http}://{gateway}/v1/chat/completions -H 'Authorization: Bearer {bailian}' -H 'Content-Type: application/json' \
  -d '{{"model":"qwen-plus","stream":true,"messages":[{{"role":"user","content":"Hello"}}]}}'

# Gemini's own API, streamed
{curl} -N '{http}://{gateway}/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse' -H 'x-goog-api-key: {gemini}' \
  -H 'Content-Type: application/json' -d '{{"contents":[{{"parts":[{{"text":"Hello"}}]}}]}}'

# what a rate limit looks like
{curl} -i {http}://{gateway}/v1/chat/completions -H 'Authorization: Bearer {bailian}' -H 'Content-Type: application/json' \
  -d '{{"model":"status-429","messages":[{{"role":"user","content":"Hello"}}]}}'

# a WebSocket: type {{"type":"response.create"}} and watch the answer come in; websocat takes the same URL
{trust}python3 -m websockets '{ws}://{gateway}/api-ws/v1/realtime?model=qwen-omni-turbo-realtime&key={bailian}'

# statistics; {http}://{gateway}/dashboard shows them in a browser
{curl} {http}://{gateway}/stats

Ctrl-C stops."#
    )
}
