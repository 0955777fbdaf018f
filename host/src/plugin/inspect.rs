//! A plugin's file taken apart for its author: what it is, what is in it, and all that keeps it from being loaded.
//!
//! [`super::load`] stops at the first reason. This goes on as far as it can, and says beside each what to change. The
//! sections are read without a compiler, so that something is told of a component that is not valid, too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use wasmparser::{KnownCustom, Parser, Payload, ProducersSectionReader};

use super::engine::Engine;
use super::load::kind::Kind;
use super::load::mismatch::{self, Mismatch};
use super::load::{self, AnyVersion, CUT_OFF, imports};
use super::log::escaped;
use crate::config::{Channel, Router};
use crate::digest::{hex, sha256};

/// Of imports, exports and producers each; a component has some thirty.
const NAMES_MAX: usize = 256;
const NAME_BYTES_MAX: usize = 200;

pub struct Inspection {
    pub kind: Kind,
    pub bytes: usize,
    /// SHA-256, in hexadecimal.
    pub hash: String,
    pub contents: Contents,
    pub faults: Vec<Fault>,
    /// The time it took to compile, on the compiler threads.
    pub compiling: Option<Duration>,
    /// If there is no fault.
    pub version: Option<AnyVersion>,
}

/// What a component's own sections name.
#[derive(Debug, Default)]
pub struct Contents {
    pub exports: Vec<String>,
    pub imports: Vec<String>,
    /// The toolchain, of the component and all that is in it.
    pub producers: BTreeSet<Producer>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Producer {
    /// `language`, `sdk` or `processed-by`.
    pub field: String,
    pub name: String,
    pub version: String,
}

/// One reason why the file is no plugin.
pub enum Fault {
    /// With what to change, in one text.
    Unsound(String),
    Import {
        name: String,
        remedy: &'static str,
    },
    Mismatch(Box<Mismatch>),
}

/// Looks at a file's bytes; compiles, if it is a component.
pub fn inspect(engine: &Arc<Engine>, name: &str, bytes: &[u8]) -> Inspection {
    let (kind, hash) = (Kind::of(bytes), hex(&sha256(bytes)));
    let mut inspection = Inspection {
        kind,
        bytes: bytes.len(),
        hash: hash.clone(),
        contents: Contents::default(),
        faults: Vec::new(),
        compiling: None,
        version: None,
    };
    if let Some(fault) = kind.fault(bytes) {
        inspection.faults.push(Fault::Unsound(fault.to_owned()));
        return inspection;
    }
    inspection.contents = contents(bytes);
    let began = Instant::now();
    let compiled = match load::component(engine, bytes, &hash) {
        Ok(compiled) => compiled,
        Err(error) => {
            if error.0.starts_with(CUT_OFF) {
                inspection.kind = Kind::CutOff;
            }
            inspection.faults.push(Fault::Unsound(error.0));
            return inspection;
        }
    };
    inspection.compiling = Some(began.elapsed());
    let ty = compiled.0.component_type();
    let names = ty.imports(compiled.0.engine()).map(|(name, _)| name);
    let refused = names.filter(|name| !imports::is_offered(name)).take(NAMES_MAX);
    inspection.faults.extend(refused.map(|name| Fault::Import { name: shown(name), remedy: imports::remedy(name) }));
    // What exports only a router is meant as one.
    let as_channels = load::look_at_exports::<Channel>(&compiled.0);
    let is_router = as_channels.is_err() && load::look_at_exports::<Router>(&compiled.0).is_ok();
    if let Err(error) = as_channels
        && !is_router
    {
        inspection.faults.push(Fault::Unsound(error.0));
    }
    if let Err(mismatch) = mismatch::look(&compiled.0) {
        inspection.faults.push(Fault::Mismatch(mismatch));
    }
    if inspection.faults.is_empty() {
        let linked = if is_router {
            load::linked(engine, name, hash, bytes.len(), compiled).map(|version| AnyVersion::Router(Arc::new(version)))
        } else {
            load::linked(engine, name, hash, bytes.len(), compiled)
                .map(|version| AnyVersion::Channel(Arc::new(version)))
        };
        match linked {
            Ok(version) => inspection.version = Some(version),
            Err(error) => inspection.faults.push(Fault::Unsound(error.0)),
        }
    }
    inspection
}

/// As far as the sections can be read.
fn contents(bytes: &[u8]) -> Contents {
    let mut contents = Contents::default();
    // How many modules and components the reader is inside of.
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentImportSection(section)) if depth == 0 => {
                let names = section.into_iter().map_while(Result::ok).map(|import| shown(import.name.name));
                contents.imports.extend(names.take(NAMES_MAX - contents.imports.len()));
            }
            Ok(Payload::ComponentExportSection(section)) if depth == 0 => {
                let names = section.into_iter().map_while(Result::ok).map(|export| shown(export.name.name));
                contents.exports.extend(names.take(NAMES_MAX - contents.exports.len()));
            }
            Ok(Payload::CustomSection(section)) => {
                if let KnownCustom::Producers(producers) = section.as_known() {
                    contents.add(producers);
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    contents
}

impl Contents {
    fn add(&mut self, section: ProducersSectionReader<'_>) {
        for field in section.into_iter().map_while(Result::ok) {
            for value in field.values.into_iter().map_while(Result::ok) {
                if self.producers.len() >= NAMES_MAX {
                    return;
                }
                let (field, name, version) = (shown(field.name), shown(value.name), shown(value.version));
                self.producers.insert(Producer { field, name, version });
            }
        }
    }
}

fn shown(name: &str) -> String {
    escaped(name, NAME_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;
    use crate::plugin::rehearsal::Rehearsal;
    use crate::plugin::tests::{channel, engine, sandbox};
    use crate::plugin::{dummies, guests};

    #[test]
    fn a_plugin_is_told_with_its_interfaces_and_its_toolchain() {
        let found = inspect(engine(), "puppet", guests::puppet());
        assert_eq!((found.kind, found.bytes), (Kind::Component, guests::puppet().len()));
        assert!(found.faults.is_empty() && found.version.is_some() && found.compiling.is_some());
        assert_eq!(found.contents.exports, ["aiproxy:plugin/channel@0.1.0"]);
        assert!(found.contents.imports.contains(&"aiproxy:plugin/log@0.1.0".to_owned()), "{:?}", found.contents);
        let rust = |producer: &Producer| producer.field == "language" && producer.name == "Rust";
        assert!(found.contents.producers.iter().any(rust), "{:?}", found.contents);
    }

    #[test]
    fn a_router_is_taken_as_one() {
        let found = inspect(engine(), "marshal", guests::marshal());
        assert!(found.faults.is_empty(), "{:?}", found.contents);
        assert!(matches!(found.version, Some(AnyVersion::Router(_))));
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let wit = dummies::WIT
            .replace("decide: func(request: request, caller: caller)", "decide: func(request: request)")
            .replace("import log; export channel;", "import log; import outside; import elsewhere; export channel;")
            + "interface outside { shout: func(); } interface elsewhere { run: func(); }";
        let found = inspect(engine(), "p", &dummies::component(&wit, "channel-plugin"));
        let imports: Vec<&str> = found
            .faults
            .iter()
            .filter_map(|fault| if let Fault::Import { name, .. } = fault { Some(name.as_str()) } else { None })
            .collect();
        assert_eq!(imports, ["aiproxy:plugin/outside@0.1.0", "aiproxy:plugin/elsewhere@0.1.0"]);
        assert!(matches!(found.faults.last(), Some(Fault::Mismatch(it)) if it.function == "decide"));
        assert!(found.version.is_none());
    }

    #[test]
    fn a_component_that_was_cut_off_still_tells_what_can_be_read() {
        let whole = guests::puppet();
        let found = inspect(engine(), "p", &whole[..whole.len() - 1]);
        assert_eq!((found.kind, found.faults.len()), (Kind::CutOff, 1));
        assert!(!found.contents.imports.is_empty());
    }

    proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 64 }))]

        #[test]
        fn no_file_makes_the_inspection_panic(
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..20),
            end in proptest::option::of(any::<proptest::sample::Index>()),
        ) {
            // Small: what is not found at once is compiled.
            let mut bytes = dummies::with_parts("");
            for (index, byte) in changes {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            if let Some(end) = end {
                bytes.truncate(end.index(bytes.len() + 1));
            }
            let found = inspect(engine(), "p", &bytes);
            prop_assert!(found.version.is_some() == found.faults.is_empty());
            if let Some(AnyVersion::Channel(version)) = found.version {
                // Its functions trap, or whatever has become of them.
                let _ = Rehearsal::new(engine(), version, channel(&serde_json::json!({})), &sandbox());
            }
        }

        #[test]
        fn no_bytes_make_the_inspection_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut component = b"\0asm\x0d\0\x01\0".to_vec();
            component.extend(bytes);
            inspect(engine(), "p", &component);
        }
    }
}
