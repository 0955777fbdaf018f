//! From a file's bytes to a version that can be deployed; or to a reason, in words that help who made the file.
//!
//! What cannot be seen here shows at instantiation or in `configure`: see [`super::deployed`].

mod found;
pub mod imports;
pub mod interface;
pub mod kind;
pub mod mismatch;

use std::sync::{Arc, OnceLock};

use wasmtime::component::Component;

use self::kind::Kind;
use super::artifact::Artifact;
use super::engine::{Allocation, Engine};
use super::log::escaped;
use super::role::Role;
use crate::config::{Channel, Router};
use crate::digest::{hex, sha256};

/// The version of `aiproxy:plugin/channel` that this host speaks.
const INTERFACE: &str = "0.1.0";
/// How a reason begins for a component whose end is missing.
pub const CUT_OFF: &str = "the file was cut off, or is being written";

/// Why a file is not a plugin.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub(super) String);

/// One accepted content of a plugin's file.
pub struct Version<R: Role = Channel> {
    /// The plugin's name.
    pub name: String,
    /// SHA-256 of the component, in hexadecimal.
    pub hash: String,
    /// Its size.
    pub bytes: usize,
    /// The version of the plugin interface that it speaks.
    pub interface: &'static str,
    pooled: Option<R::Pre>,
    /// Made when the pool has no room, from the pooled one's code.
    on_demand: OnceLock<Result<R::Pre, String>>,
}

impl<R: Role> Version<R> {
    /// Enough of the hash to tell versions apart in a log.
    pub fn short_hash(&self) -> &str {
        &self.hash[..12]
    }

    pub(super) fn pooled(&self) -> Option<&R::Pre> {
        self.pooled.as_ref()
    }

    pub(super) fn on_demand(&self, engine: &Engine) -> Result<&R::Pre, String> {
        let made = self.on_demand.get_or_init(|| {
            let pooled = self.pooled.as_ref().expect("a version without a pooled form has the other");
            Artifact::of(R::instance_pre(pooled).component())
                .and_then(|artifact| artifact.take_over(&engine.on_demand().engine))
                .and_then(|component| link::<R>(engine.on_demand(), &component))
                .map_err(|error| format!("{error:#}"))
        });
        made.as_ref().map_err(Clone::clone)
    }
}

/// A version of whatever role.
#[derive(Clone)]
pub enum AnyVersion {
    Channel(Arc<Version>),
    Router(Arc<Version<Router>>),
}

impl AnyVersion {
    pub fn hash(&self) -> &str {
        match self {
            Self::Channel(version) => &version.hash,
            Self::Router(version) => &version.hash,
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::Channel(version) => version.bytes,
            Self::Router(version) => version.bytes,
        }
    }

    pub fn interface(&self) -> &'static str {
        match self {
            Self::Channel(version) => version.interface,
            Self::Router(version) => version.interface,
        }
    }
}

/// See [`Engine::load`].
pub fn load<R: Role>(engine: &Engine, name: &str, bytes: &[u8]) -> Result<Version<R>, LoadError> {
    if let Some(fault) = Kind::of(bytes).fault(bytes) {
        return Err(LoadError(fault.into()));
    }
    let hash = hex(&sha256(bytes));
    let compiled = component(engine, bytes, &hash)?;
    look_at_imports(&compiled.0)?;
    look_at_exports::<R>(&compiled.0)?;
    mismatch::look(&compiled.0).map_err(|mismatch| LoadError(mismatch.to_string()))?;
    linked(engine, name, hash, bytes.len(), compiled)
}

/// The last step, for a component that has been looked at.
pub(super) fn linked<R: Role>(
    engine: &Engine,
    name: &str,
    hash: String,
    bytes: usize,
    compiled: Compiled,
) -> Result<Version<R>, LoadError> {
    let (component, is_pooled) = compiled;
    let allocation = if is_pooled { engine.pooled().expect("it was loaded there") } else { engine.on_demand() };
    let pre = link::<R>(allocation, &component)
        .map_err(|error| LoadError(format!("the component does not fit the interface: {}", one_line(&error))))?;
    let (pooled, on_demand) = if is_pooled { (Some(pre), OnceLock::new()) } else { (None, OnceLock::from(Ok(pre))) };
    Ok(Version { name: name.to_owned(), hash, bytes, interface: INTERFACE, pooled, on_demand })
}

fn link<R: Role>(allocation: &Allocation, component: &Component) -> wasmtime::Result<R::Pre> {
    R::link(allocation.linker.instantiate_pre(component)?)
}

/// And whether it is in the pooled engine.
pub(super) type Compiled = (Component, bool);

/// Compiled code in the pooled engine, if it fits there (true), else in the other (false).
pub(super) fn component(engine: &Engine, bytes: &[u8], hash: &str) -> Result<Compiled, LoadError> {
    let settings = &engine.on_demand().engine;
    let kept = engine.cache().and_then(|cache| cache.fetch(settings, hash));
    if let Some(component) = kept.and_then(|artifact| take_over(engine, &artifact).ok()) {
        return Ok(component);
    }
    let artifact = engine.compile(|| Artifact::compile(settings, bytes)).map_err(|error| {
        let error = one_line(&error);
        if ["unexpected end", "unexpected-eof", "out of bounds (bound"].iter().any(|sign| error.contains(sign)) {
            return LoadError(format!("{CUT_OFF}: {error}"));
        }
        if error.contains("async") {
            let advice = "asynchronous functions and WASI 0.3 are not offered: build for WASI 0.2";
            return LoadError(format!("{advice} ({error})"));
        }
        LoadError(format!("the component is not valid: {error}"))
    })?;
    if let Some(Err(error)) = engine.cache().map(|cache| cache.keep(settings, hash, &artifact)) {
        tracing::warn!(%error, "a compiled component could not be kept");
    }
    take_over(engine, &artifact)
        .map_err(|error| LoadError(format!("the component cannot be used: {}", one_line(&error))))
}

fn take_over(engine: &Engine, artifact: &Artifact) -> wasmtime::Result<Compiled> {
    if let Some(Ok(component)) = engine.pooled().map(|pooled| artifact.take_over(&pooled.engine)) {
        return Ok((component, true));
    }
    artifact.take_over(&engine.on_demand().engine).map(|component| (component, false))
}

/// Everything must be importable; what is not is named, all of it.
fn look_at_imports(component: &Component) -> Result<(), LoadError> {
    let ty = component.component_type();
    let names = ty.imports(component.engine()).map(|(name, _)| name);
    let unknown: Vec<&str> = names.filter(|name| !imports::is_offered(name)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let mut reason =
        format!("the component imports what plugins are not given: {}", escaped(&unknown.join(", "), 1000));
    let mut remedies: Vec<&str> = unknown.iter().map(|name| imports::remedy(name)).collect();
    remedies.sort_unstable();
    remedies.dedup();
    for remedy in remedies {
        reason.extend([". ", remedy]);
    }
    Err(LoadError(reason))
}

/// The interface's version stands in the export's own name. Other exports are no matter: toolchains add theirs.
pub(super) fn look_at_exports<R: Role>(component: &Component) -> Result<(), LoadError> {
    let ty = component.component_type();
    let exports: Vec<&str> = ty.exports(component.engine()).map(|(name, _)| name).collect();
    let versions = |of: &str| -> Vec<&str> {
        exports.iter().filter_map(|name| name.strip_prefix(of)).filter(|v| v.is_empty() || v.starts_with('@')).collect()
    };
    let wanted = R::INTERFACE;
    let found = versions(wanted);
    if found.contains(&format!("@{INTERFACE}").as_str()) {
        return Ok(());
    }
    let is_another = |role: &str| role != wanted && !versions(role).is_empty();
    Err(LoadError(match found.first() {
        Some(&"") => format!("the export {wanted} has no version: this gateway speaks {wanted}@{INTERFACE}"),
        Some(version) => {
            let version = escaped(version, 80);
            format!("the component exports {wanted}{version}, this gateway speaks {wanted}@{INTERFACE}")
        }
        None if is_another(Router::INTERFACE) => {
            let router = Router::INTERFACE;
            format!("this is a router (it exports {router} only): a channel's plugin exports {wanted}@{INTERFACE}")
        }
        None if is_another(Channel::INTERFACE) => {
            let channel = Channel::INTERFACE;
            format!("this is a channel's plugin (it exports {channel} only): a router exports {wanted}@{INTERFACE}")
        }
        None if exports.is_empty() => {
            format!("the component exports nothing (or was cut off): a plugin exports {wanted}@{INTERFACE}")
        }
        None => {
            let names = escaped(&exports.join(", "), 300);
            format!("the component does not export {wanted}@{INTERFACE}, only {names}")
        }
    }))
}

/// An error and its causes.
pub(super) fn one_line(error: &wasmtime::Error) -> String {
    escaped(&format!("{error:#}"), 1000)
}

#[cfg(test)]
mod tests;
