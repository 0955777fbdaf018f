//! `gateway.json`: what concerns the process rather than a provider or a client.
//!
//! Types and ranges are in the file's mirror; here stand the checks that need two fields or the file system.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::admin;
use super::certificate::{Certificate, CertificateFault, CertificateFiles, Which};
use super::document::{self, Node};
use super::expand::Env;
use super::file::{
    AccessLogFile, Format, GatewayFile, Isolation, Level, LimitsFile, LogFile, RotationFile, RouterFile, SandboxFile,
    StatisticsFile, TlsFile, WebSocketFile, schema,
};
use super::load::Part;
use super::name::{NAME_RULE, is_name};
use super::problem::{Problems, Spot, member};
use super::{
    AccessLog, Admin, Gateway, Limits, Log, LogFormat, Rotation, Router, Sandbox, Statistics, WebSocket, shape, url,
};

/// Reads the file's bytes; relative paths in it start at its folder.
pub fn read(bytes: &[u8], file: &Path, env: Env<'_>) -> Part<Gateway> {
    reread(bytes, file, env, None)
}

/// The same for a running gateway: a certificate that serves is not read again, since it has its own last good version,
/// for which no other change of this file shall wait.
pub fn reread(bytes: &[u8], file: &Path, env: Env<'_>, serving: Option<&Arc<Certificate>>) -> Part<Gateway> {
    let mut problems = Problems::of(file);
    let folder = file.parent().unwrap_or(Path::new(""));
    let value =
        document::parse(bytes, &mut problems).and_then(|root| gateway(&root, folder, env, serving, &mut problems));
    Part::new(value, problems)
}

impl Default for Gateway {
    /// What holds without the file.
    fn default() -> Self {
        let file = GatewayFile::default();
        Self {
            limits: file.limits.into(),
            websocket: file.websocket.into(),
            sandbox: file.sandbox.into(),
            plugin_sandbox: std::collections::HashMap::new(),
            router: None,
            tls: None,
            trusted_ca: None,
            cors_origins: file.cors_origins,
            admin: Admin::default(),
            access_log: AccessLog::Stdout,
            access_log_rotation: file.access_log_rotation.into(),
            log: file.log.into(),
            statistics: file.statistics.into(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        LimitsFile::default().into()
    }
}

impl Default for WebSocket {
    fn default() -> Self {
        WebSocketFile::default().into()
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        SandboxFile::default().into()
    }
}

fn gateway(
    root: &Node,
    folder: &Path,
    env: Env<'_>,
    serving: Option<&Arc<Certificate>>,
    problems: &mut Problems<'_>,
) -> Option<Gateway> {
    let mut sound = shape::sound(root, &schema::<GatewayFile>(), "", problems)?;
    inherit_sandbox(&mut sound);
    let file: GatewayFile = serde_json::from_value(sound).ok()?;
    let mut reader = Reader { root, folder, problems };
    let limits: Limits = file.limits.into();
    if limits.inspect_bytes_max > limits.inspect_budget_bytes {
        let what = "is larger than limits.inspect_budget_bytes, the bound for all bodies together";
        let spot = reader.spot(&["limits", "inspect_bytes_max"]);
        reader.problems.error(&spot, what, "raise the budget, or lower this");
    }
    let websocket: WebSocket = file.websocket.into();
    if websocket.message_bytes_max > websocket.message_budget_bytes {
        let what = "is larger than websocket.message_budget_bytes, the bound for all messages together";
        let spot = reader.spot(&["websocket", "message_bytes_max"]);
        reader.problems.error(&spot, what, "raise the budget, or lower this");
    }
    for name in file.plugin_sandbox.keys().filter(|name| !is_name(name)) {
        let spot = reader.spot(&["plugin_sandbox", name]);
        reader.problems.error(&spot, "is not the name of a plugin", NAME_RULE);
    }
    Some(Gateway {
        limits,
        websocket,
        sandbox: file.sandbox.into(),
        plugin_sandbox: file.plugin_sandbox.into_iter().map(|(name, sandbox)| (name, sandbox.into())).collect(),
        router: file.router.and_then(|router| reader.router(router)),
        tls: file.tls.and_then(|tls| reader.certificate(tls, serving)),
        trusted_ca: file.trusted_ca.map(|path| reader.trusted_ca(&path)),
        cors_origins: reader.cors_origins(file.cors_origins),
        admin: admin::read(&file.admin, &reader.spot(&["admin", "token"]), env, reader.problems),
        access_log: reader.access_log(&file.access_log),
        access_log_rotation: file.access_log_rotation.into(),
        log: file.log.into(),
        statistics: file.statistics.into(),
    })
}

/// What a plugin's own sandbox leaves out is as in `sandbox`.
fn inherit_sandbox(file: &mut Value) {
    let common = file.get("sandbox").and_then(Value::as_object).cloned().unwrap_or_default();
    let plugins = file.get_mut("plugin_sandbox").and_then(Value::as_object_mut);
    for own in plugins.into_iter().flat_map(|plugins| plugins.values_mut()).filter_map(Value::as_object_mut) {
        for (field, value) in &common {
            own.entry(field.clone()).or_insert_with(|| value.clone());
        }
    }
}

struct Reader<'a, 'f> {
    root: &'a Node,
    folder: &'a Path,
    problems: &'a mut Problems<'f>,
}

impl Reader<'_, '_> {
    fn spot(&self, path: &[&str]) -> Spot {
        let mut node = self.root;
        let mut place = String::new();
        for name in path {
            node = node.member(name).unwrap_or(node);
            place = member(&place, name);
        }
        Spot { place, position: Some(node.position) }
    }

    fn router(&mut self, file: RouterFile) -> Option<Arc<Router>> {
        let Some(plugin) = file.plugin else {
            let remedy = "write the name of a router plugin, such as \"least-busy\"";
            self.problems.error(&self.spot(&["router", "plugin"]), "is missing", remedy);
            return None;
        };
        if !is_name(&plugin) {
            self.problems.error(&self.spot(&["router", "plugin"]), "is not the name of a plugin", NAME_RULE);
        }
        let settings = Value::Object(file.settings.unwrap_or_default()).to_string();
        Some(Arc::new(Router { plugin, settings }))
    }

    fn certificate(&mut self, file: TlsFile, serving: Option<&Arc<Certificate>>) -> Option<Arc<Certificate>> {
        let mut path = |which: Which, text: Option<String>| {
            if text.is_none() {
                let spot = self.spot(&["tls", which.field()]);
                self.problems.error(
                    &spot,
                    "is missing",
                    "write the path of a PEM file, relative to this file's folder",
                );
            }
            text.map(|text| self.folder.join(text))
        };
        let (cert, key) = (path(Which::Cert, file.cert), path(Which::Key, file.key));
        let files = CertificateFiles { cert: cert?, key: key? };
        if let Some(serving) = serving.filter(|serving| serving.files == files) {
            return Some(serving.clone());
        }
        let certificate = Certificate::load(&files).map_err(|CertificateFault { which, what, remedy }| {
            self.problems.error(&self.spot(&["tls", which.field()]), format!("names a file that {what}"), remedy);
        });
        certificate.ok().map(Arc::new)
    }

    fn trusted_ca(&mut self, text: &str) -> PathBuf {
        let path = self.folder.join(text);
        let fault = match std::fs::read(&path) {
            Ok(bytes) if memchr::memmem::find(&bytes, b"-----BEGIN CERTIFICATE-----").is_some() => return path,
            Ok(_) => "names a file without a PEM certificate".to_owned(),
            Err(fault) => format!("names a file that cannot be read ({})", fault.kind()),
        };
        let remedy = "give the path of a PEM file, relative to this file's folder";
        self.problems.error(&self.spot(&["trusted_ca"]), fault, remedy);
        path
    }

    fn cors_origins(&mut self, origins: Vec<String>) -> Vec<String> {
        let list = self.spot(&["cors_origins"]);
        for (index, origin) in origins.iter().enumerate().filter(|(_, origin)| *origin != "*") {
            let exact = url::parse(origin, url::HTTP).is_ok_and(|url| {
                let scheme = if url.tls { "https" } else { "http" };
                *origin == format!("{scheme}://{}", url.authority)
            });
            if !exact {
                let spot = Spot { place: format!("{}[{index}]", list.place), position: list.position };
                let remedy = "write it like https://chat.example.com: lower case, no path, no default port; or *";
                self.problems.error(&spot, "is not an origin as browsers send it", remedy);
            }
        }
        origins
    }

    fn access_log(&mut self, AccessLogFile(text): &AccessLogFile) -> AccessLog {
        let spot = self.spot(&["access_log"]);
        match text.as_str() {
            "off" => AccessLog::Off,
            "stdout" => AccessLog::Stdout,
            path if path.contains('/') && !path.ends_with('/') => {
                let path = self.folder.join(path);
                if !path.parent().is_some_and(Path::is_dir) {
                    self.problems.error(&spot, "names a file in a folder that does not exist", "create the folder");
                }
                AccessLog::File(path)
            }
            _ => {
                let remedy = "write \"stdout\", \"off\", or a path with a `/`, such as \"./access.log\"";
                self.problems.error(&spot, "is neither a known word nor a file's path", remedy);
                AccessLog::Stdout
            }
        }
    }
}

impl From<LimitsFile> for Limits {
    fn from(file: LimitsFile) -> Self {
        Self {
            connections_max: file.connections_max as usize,
            in_flight_max: file.in_flight_max as usize,
            header_bytes_max: file.header_bytes_max as usize,
            header_count_max: file.header_count_max as usize,
            head_timeout: Duration::from_millis(file.head_timeout_ms.into()),
            keep_alive: Duration::from_millis(file.keep_alive_ms.into()),
            inspect_bytes_max: file.inspect_bytes_max as usize,
            inspect_budget_bytes: usize::try_from(file.inspect_budget_bytes).unwrap_or(usize::MAX),
            drain: Duration::from_millis(file.drain_ms.into()),
        }
    }
}

impl From<WebSocketFile> for WebSocket {
    fn from(file: WebSocketFile) -> Self {
        Self {
            message_bytes_max: file.message_bytes_max as usize,
            message_budget_bytes: usize::try_from(file.message_budget_bytes).unwrap_or(usize::MAX),
            idle_timeout: Duration::from_millis(file.idle_timeout_ms.into()),
            ping_interval: Duration::from_millis(file.ping_interval_ms.into()),
            close_when_disabled: file.close_when_disabled,
        }
    }
}

impl From<SandboxFile> for Sandbox {
    fn from(file: SandboxFile) -> Self {
        Self {
            memory_bytes_max: usize::try_from(file.memory_bytes_max).unwrap_or(usize::MAX),
            deadline: file.deadline_ms.map(|ms| Duration::from_millis(ms.into())),
            configure_deadline: Duration::from_millis(file.configure_deadline_ms.into()),
            calls_max: file.calls_max,
            fresh: file.isolation == Isolation::Fresh,
            spare_instances: file.spare_instances.map(|count| count as usize),
            back_off: Duration::from_millis(file.back_off_ms.into()),
            back_off_max: Duration::from_millis(file.back_off_max_ms.into()),
        }
    }
}

impl From<StatisticsFile> for Statistics {
    fn from(file: StatisticsFile) -> Self {
        Self { request_log_days: file.request_log_days }
    }
}

impl From<RotationFile> for Option<Rotation> {
    fn from(RotationFile { bytes_max, files_kept }: RotationFile) -> Self {
        (bytes_max > 0).then_some(Rotation { bytes_max, files_kept })
    }
}

impl From<LogFile> for Log {
    fn from(file: LogFile) -> Self {
        let level = match file.level {
            Level::Error => tracing::Level::ERROR,
            Level::Warn => tracing::Level::WARN,
            Level::Info => tracing::Level::INFO,
            Level::Debug => tracing::Level::DEBUG,
            Level::Trace => tracing::Level::TRACE,
        };
        let format = match file.format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        };
        Self { level, format }
    }
}
