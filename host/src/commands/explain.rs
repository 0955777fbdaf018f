//! `aiproxy-host explain`: what would become of a request, and why, without sending anything.
//!
//! Runs the exchange's own stages on the real configuration and plugins, up to the point where something would be sent.
//! Secrets are masked; with `--json`, the head that plugins are asked about is printed instead. The proxy key is named by its id, so that it need not be typed into a shell's history.

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Uri};
use tokio::runtime::LocalOptions;
use tracing::Level;

use crate::cli::Explain;
use crate::commands::say;
use crate::commands::serve;
use crate::config::{Endpoint, ProxyKey};
use crate::exchange::classify;
use crate::exchange::explain::{Routed, Story, Verdict, explain};
use crate::exchange::identify::{self, Form};
use crate::exchange::plan::without_credentials;
use crate::exchange::worker::{Shared, Worker};
use crate::generation::kept::{Kept, short};
use crate::generation::{Folders, Generation, Loader, Status};
use crate::plugin::{BodyEdit, Engine, EngineOptions, HeaderEdit, Placement, Transport};
use crate::state;
use crate::stats::{Asker, Registry};
use crate::telemetry;
use crate::upstream::{Limits, Tls, Upstream};

/// Stands for a secret in what is printed.
const MASK: &str = "***";

pub fn run(options: &Explain) -> anyhow::Result<()> {
    let _log = telemetry::init(Level::WARN)?;
    let (mut parts, form) = request(options)?;
    let body = options.model.as_ref().map(|model| Bytes::from(serde_json::json!({ "model": model }).to_string()));
    if body.is_some() {
        parts.headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    }
    let engine = Engine::new(EngineOptions::default())?;
    let folders = Folders { conf: options.sources.conf.clone(), plugins: options.sources.plugins.clone() };
    let mut loader = Loader::new(engine, folders, Kept::read_only(&state::versions(&options.state.folder)));
    let generation = serve::load(&mut loader, &options.sources, |_| {})?;
    let key = key_by_id(&generation, &options.key)?;
    let status = loader.status();
    let shared = Arc::new(Shared::new(generation, status.clone(), Arc::new(Registry::new(1)), Asker::nobody())?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let story = runtime.block_on(async {
        let tls = Tls::new(shared.current.load().config.gateway.trusted_ca.as_deref())?;
        let worker = Worker::new(shared, 0, Upstream::new(tls, Limits::default()), None);
        anyhow::Ok(explain(&worker, key.clone(), form, &parts, body).await)
    })?;
    if options.json {
        let head = story.head.as_ref().context("no channel's plugin was asked; without --json it is said why")?;
        say(format!("{:#}", head.to_json()));
        return Ok(());
    }
    for (label, text) in told(&story, &key, &parts, &status) {
        say(format!("{label:<10} {text}"));
    }
    Ok(())
}

/// The request, and the form in which its key would be shown: that of the first credential given, which is not kept.
fn request(options: &Explain) -> anyhow::Result<(Parts, Form)> {
    let uri: Uri = options.path.parse().with_context(|| format!("{:?} is not a path", options.path))?;
    if !uri.path().starts_with('/') || uri.authority().is_some() {
        bail!("{:?} is not a path; it begins with `/`", options.path);
    }
    let method = Method::from_bytes(options.method.as_bytes())
        .with_context(|| format!("{:?} is not a method; use e.g. POST", options.method))?;
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri) = (method, uri);
    for header in &options.headers {
        let (name, value) = header.split_once(':').ok_or_else(|| anyhow!("{header:?} is not `name: value`"))?;
        let name: HeaderName = name.trim().parse().with_context(|| format!("{name:?} is not a header name"))?;
        let value: HeaderValue = value.trim().parse().with_context(|| format!("the value of {name} cannot be sent"))?;
        parts.headers.append(name, value);
    }
    let form = identify::strip(&mut parts.headers, &mut parts.uri);
    Ok((parts, form.unwrap_or(Form::Bearer)))
}

fn key_by_id(generation: &Generation, id: &str) -> anyhow::Result<Arc<ProxyKey>> {
    let keys = &generation.config.keys.by_digest;
    keys.values().find(|key| key.id == id).cloned().ok_or_else(|| {
        let mut ids: Vec<_> = keys.values().map(|key| key.id.as_str()).collect();
        ids.sort_unstable();
        anyhow!("there is no proxy key with this id; there are: {}", ids.join(", "))
    })
}

type Lines = Vec<(&'static str, String)>;

fn told(story: &Story, key: &ProxyKey, parts: &Parts, status: &Status) -> Lines {
    let mut lines: Lines = vec![("request", format!("{} {}", parts.method, parts.uri))];
    let tags = if key.tags.is_empty() { String::new() } else { format!(" (tags: {})", key.tags.join(", ")) };
    let state = if key.active { "" } else { ", disabled: every request gets 403" };
    lines.push(("key", format!("{}{tags}{state}", key.id)));
    for (candidate, verdict) in &story.asked {
        let id = &candidate.channel.id;
        lines.push((
            "asked",
            match verdict {
                Verdict::Sends => format!("{id}: sends"),
                Verdict::Declined => format!("{id}: declines, the next channel is asked"),
                Verdict::Unusable(failure) => format!("{id}: passed over: {failure}"),
                Verdict::Fails(failure) => format!("{id}: the client gets {}: {failure}", failure.status().as_u16()),
            },
        ));
    }
    if let Some(routed) = &story.routed {
        let router = status.router.as_deref().unwrap_or_default();
        let said = match routed {
            Routed::Order(ids) if ids.is_empty() => "leaves all out".to_owned(),
            Routed::Order(ids) => {
                format!("has them tried in this order, as long as nothing is known of them: {}", ids.join(", "))
            }
            Routed::Refused(failure) => format!("the client gets {}: {failure}", failure.status().as_u16()),
            Routed::Failed(failure) => format!("fails, the built-in order holds: {failure}"),
        };
        lines.push(("router", format!("{router}: {said}")));
    }
    let Some(decided) = &story.decided else {
        if !story.asked.iter().any(|(_, verdict)| matches!(verdict, Verdict::Fails(_))) {
            lines.push(("result", "no channel of this key serves the request; nothing is sent".to_owned()));
        }
        return lines;
    };
    let (channel, prepared) = (&decided.channel.channel, &decided.prepared);
    lines.push(("channel", format!("{} ({})", channel.id, channel.name)));
    if let Some(plugin) = status.plugins.iter().find(|plugin| plugin.name == channel.plugin) {
        let version = plugin.version.as_deref().unwrap_or_default();
        let source = plugin.source.unwrap_or_default();
        lines.push(("plugin", format!("{} {} ({source})", plugin.name, short(version))));
    }
    let plan = &prepared.plan;
    let mut query = plan.query.as_deref().map_or_else(String::new, |query| {
        let query = without_credentials(query, &plan.credentials);
        format!("?{query}")
    });
    for credential in &plan.credentials {
        if let Placement::Query(name) = &credential.place {
            let separator = match query.as_str() {
                "" => "?",
                "?" => "",
                _ => "&",
            };
            query.extend([separator, name, "=", MASK]);
        }
    }
    let address = address(&prepared.endpoint, classify::transport(parts));
    lines.push(("upstream", format!("{} {address}{}{query}", parts.method, plan.path)));
    lines.push(("host", prepared.endpoint.authority.clone()));
    if let Some(proxy) = &prepared.endpoint.proxy {
        lines.push(("proxy", format!("{proxy:?}")));
    }
    if let Some(model) = plan.model.as_ref().or(story.model.as_ref()) {
        lines.push(("model", model.clone()));
    }
    lines.push(("headers", "- every credential of the client, hop-by-hop headers".to_owned()));
    lines.push(("", "+ x-forwarded-for, x-forwarded-proto, x-forwarded-host".to_owned()));
    lines.extend(plan.headers.iter().map(|edit| ("", header_edit(edit))));
    for credential in &plan.credentials {
        let place = match &credential.place {
            Placement::Authorization(scheme) => format!("+ {AUTHORIZATION}: {scheme} {MASK}"),
            Placement::Header(name) => format!("+ {name}: {MASK}"),
            Placement::Query(name) => format!("+ query parameter {name}={MASK}"),
        };
        lines.push(("", format!("{place} (secret `{}`)", credential.secret)));
    }
    if plan.body.is_empty() {
        lines.push(("body", "unchanged".to_owned()));
    }
    for (index, edit) in plan.body.iter().enumerate() {
        lines.push((if index == 0 { "body" } else { "" }, body_edit(edit)));
    }
    let timeouts = &channel.timeouts;
    lines.push((
        "timeouts",
        format!("connect {:?}, first byte {:?}, idle {:?}", timeouts.connect, timeouts.first_byte, timeouts.idle),
    ));
    lines
}

fn address(endpoint: &Endpoint, transport: Transport) -> String {
    let scheme = match (transport, endpoint.tls) {
        (Transport::Http, false) => "http",
        (Transport::Http, true) => "https",
        (Transport::Websocket, false) => "ws",
        (Transport::Websocket, true) => "wss",
    };
    let host = if endpoint.host.contains(':') { format!("[{}]", endpoint.host) } else { endpoint.host.clone() };
    let port = match (endpoint.tls, endpoint.port) {
        (true, 443) | (false, 80) => String::new(),
        (_, port) => format!(":{port}"),
    };
    format!("{scheme}://{host}{port}{}", endpoint.base_path)
}

fn header_edit(edit: &HeaderEdit) -> String {
    let shown = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    match edit {
        HeaderEdit::Set(name, value) => format!("= {name}: {}", shown(value)),
        HeaderEdit::SetIfAbsent(name, value) => format!("= {name}: {} (where the client sends none)", shown(value)),
        HeaderEdit::Remove(name) => format!("- {name}"),
    }
}

fn body_edit(edit: &BodyEdit) -> String {
    match edit {
        BodyEdit::Set { pointer, json } => format!("{pointer} = {json}"),
        BodyEdit::SetIfAbsent { pointer, json } => format!("{pointer} = {json} (where the client sends none)"),
        BodyEdit::Remove { pointer } => format!("{pointer} removed"),
    }
}
