//! `aiproxy-host plugin check`: what a file is, what is in it, and what to change if the gateway would refuse it.

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::setup::Given;
use super::{Lines, engine, mebibytes, microseconds, milliseconds, name_of, percentile, read_plugin, said};
use crate::cli::CheckFile;
use crate::commands::say;
use crate::plugin::inspect::{Fault, Inspection, Producer, inspect};
use crate::plugin::rehearsal::{Configured, Refused, Rehearsal};
use crate::plugin::{AnyVersion, Kind, Profile, REMEDY, Reuse, is_offered};

pub fn run(options: &CheckFile) -> anyhow::Result<ExitCode> {
    let name = name_of(&options.file);
    let given = Given::read(&options.setup, &name)?;
    let channel = given.channel(options.channel.channel.as_deref())?;
    let bytes = read_plugin(&options.file)?;
    let engine = engine()?;
    let inspection = inspect(&engine, &name, &bytes);
    let rehearsal = inspection.version.clone().map(|version| match version {
        AnyVersion::Channel(version) => {
            let sandbox = given.sandbox(&channel.plugin);
            Rehearsal::new(&engine, version, channel, &sandbox).map(|rehearsal| rehearsal.configured)
        }
        AnyVersion::Router(version) => {
            let router = given.router();
            let sandbox = given.sandbox(&router.plugin);
            Rehearsal::new(&engine, version, router, &sandbox).map(|rehearsal| rehearsal.configured)
        }
    });
    if options.json {
        say(format!("{:#}", json(&inspection, rehearsal.as_ref())));
    } else {
        lines(options, &inspection, rehearsal.as_ref()).say();
        say(match &rehearsal {
            Some(Ok(_)) => "ok: the gateway takes this file",
            Some(Err(_)) => "error: the file is sound, but cannot be configured with these settings",
            None => "error: the gateway refuses this file",
        });
    }
    Ok(if matches!(rehearsal, Some(Ok(_))) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Outcome<'a> = Option<&'a Result<Configured, Refused>>;

fn lines(options: &CheckFile, inspection: &Inspection, rehearsal: Outcome<'_>) -> Lines {
    let mut lines = Lines::default();
    lines.add("file", options.file.display().to_string());
    lines.add("kind", format!("{}, {} bytes", kind(inspection.kind), inspection.bytes));
    lines.add("sha-256", inspection.hash.as_str());
    for export in &inspection.contents.exports {
        lines.add("exports", export.as_str());
    }
    for import in imports(&inspection.contents.imports) {
        lines.add("imports", import);
    }
    for Producer { field, name, version } in &inspection.contents.producers {
        lines.add("toolchain", format!("{field}: {name} {version}").trim_end());
    }
    if let Some(took) = inspection.compiling {
        lines.add("compile", milliseconds(took));
    }
    for fault in &inspection.faults {
        match fault {
            Fault::Unsound(text) => lines.add("fault", text.as_str()),
            Fault::Import { name, remedy } => {
                lines.add("fault", format!("imports what plugins are not given: {name}"));
                lines.add("remedy", *remedy);
            }
            Fault::Mismatch(mismatch) => {
                let direction = if mismatch.is_import { "the imported function" } else { "the function" };
                lines.add("fault", format!("{direction} {} of {} does not fit", mismatch.function, mismatch.interface));
                lines.add("expected", mismatch.expected.as_str());
                lines.add("found", mismatch.found.as_deref().unwrap_or("none"));
                lines.add("because", mismatch.difference.as_str());
                if let Some((expected, found)) = &mismatch.definitions {
                    lines.add("expected", expected.as_str());
                    lines.add("found", found.as_str());
                }
                lines.add("remedy", REMEDY);
            }
        }
    }
    match rehearsal {
        None => {}
        Some(Err(Refused { reason, said })) => {
            lines.add("configure", format!("refused: {reason}"));
            lines.add_said(said);
        }
        Some(Ok(configured)) => {
            let mut builds = configured.builds.clone();
            builds.sort_unstable();
            let (first, median) = (milliseconds(configured.builds[0]), milliseconds(percentile(&builds, 50)));
            lines.add(
                "configure",
                format!("accepted {} times, the same profile each time; first {first}, median {median}", builds.len()),
            );
            lines.add("memory", format!("{} after configure", mebibytes(configured.memory_bytes)));
            for line in profile(&configured.profile) {
                lines.add("profile", line);
            }
            lines.add_said(&configured.said);
        }
    }
    lines
}

/// By name, but for what all toolchains bring along.
fn imports(all: &[String]) -> Vec<String> {
    let is_wasi = |name: &&String| name.starts_with("wasi:") && is_offered(name);
    let mut lines: Vec<_> = all.iter().filter(|name| !is_wasi(name)).cloned().collect();
    let wasi: Vec<_> = all.iter().filter(is_wasi).collect();
    if !wasi.is_empty() {
        let packages: BTreeSet<_> = wasi.iter().filter_map(|name| name.split('/').next()).collect();
        let packages = packages.into_iter().collect::<Vec<_>>().join(", ");
        lines.push(format!("{} interfaces of WASI 0.2, which answer empty or denied: {packages}", wasi.len()));
    }
    lines
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Component => "a component",
        Kind::CoreModule => "a core WebAssembly module",
        Kind::CutOff => "a component that was cut off",
        Kind::Empty => "an empty file",
        Kind::UnknownVersion => "WebAssembly of an unknown version",
        Kind::NotWasm => "not WebAssembly",
    }
}

/// A profile in words.
fn profile(profile: &Profile) -> Vec<String> {
    let list = |names: Vec<&str>| names.join(", ");
    let mut lines = Vec::new();
    lines.push(match profile.headers.as_slice() {
        [] => "is shown no header".to_owned(),
        headers => format!("is shown the headers {}", list(headers.iter().map(http::HeaderName::as_str).collect())),
    });
    let pointers = list(profile.body.iter().map(String::as_str).collect());
    lines.push(match (profile.reads_model, pointers.as_str()) {
        (false, "") => "has no request body read".to_owned(),
        (true, "") => "has the request body read for its model".to_owned(),
        (false, pointers) => format!("has the request body read for {pointers}"),
        (true, pointers) => format!("has the request body read for its model and {pointers}"),
    });
    if !profile.socket_model.is_empty() {
        let pointers = list(profile.socket_model.iter().map(String::as_str).collect());
        lines.push(format!("finds the model of a WebSocket at {pointers}"));
    }
    if profile.meters.is_empty() {
        lines.push("meters no usage".to_owned());
    }
    for (index, set) in profile.meters.iter().enumerate() {
        let names = list(set.iter().map(|meter| meter.name.as_str()).collect());
        lines.push(format!("meters usage, set {index}: {names}"));
    }
    lines.push(
        match profile.reuse {
            Reuse::Never => "is asked for every request",
            Reuse::SameCaller => "may be answered for from memory, for an equal request of the same caller",
            Reuse::AnyCaller => "may be answered for from memory, for an equal request of anybody",
        }
        .to_owned(),
    );
    lines
}

fn json(inspection: &Inspection, rehearsal: Outcome<'_>) -> Value {
    let faults = inspection.faults.iter().map(|fault| match fault {
        Fault::Unsound(what) => json!({"what": what}),
        Fault::Import { name, remedy } => json!({"what": "import", "import": name, "remedy": remedy}),
        Fault::Mismatch(mismatch) => json!({
            "what": "mismatch",
            "interface": mismatch.interface,
            "function": mismatch.function,
            "is_import": mismatch.is_import,
            "expected": mismatch.expected,
            "found": mismatch.found,
            "difference": mismatch.difference,
            "types": mismatch.definitions.as_ref().map(|(expected, found)| json!({"expected": expected, "found": found})),
            "remedy": REMEDY,
        }),
    });
    let mut json = json!({
        "ok": matches!(rehearsal, Some(Ok(_))),
        "kind": inspection.kind,
        "bytes": inspection.bytes,
        "sha256": inspection.hash,
        "exports": inspection.contents.exports,
        "imports": inspection.contents.imports,
        "toolchain": inspection.contents.producers,
        "compile_us": inspection.compiling.map(microseconds),
        "faults": faults.collect::<Vec<_>>(),
    });
    match rehearsal {
        None => {}
        Some(Err(Refused { reason, said: lines })) => {
            json["configure"] = json!({"ok": false, "reason": reason});
            json["said"] = said(lines);
        }
        Some(Ok(configured)) => {
            let builds: Vec<_> = configured.builds.iter().copied().map(microseconds).collect();
            json["configure"] = json!({"ok": true, "us": builds, "memory_bytes": configured.memory_bytes});
            json["profile"] = profile_json(&configured.profile);
            json["said"] = said(&configured.said);
        }
    }
    json
}

fn profile_json(profile: &Profile) -> Value {
    let meters = |set: &Vec<crate::plugin::Meter>| set.iter().map(|meter| meter.name.clone()).collect::<Vec<_>>();
    json!({
        "headers": profile.headers.iter().map(http::HeaderName::as_str).collect::<Vec<_>>(),
        "reads-model": profile.reads_model,
        "body": profile.body,
        "socket-model": profile.socket_model,
        "meters": profile.meters.iter().map(meters).collect::<Vec<_>>(),
        "reuse": match profile.reuse {
            Reuse::Never => "never",
            Reuse::SameCaller => "same-caller",
            Reuse::AnyCaller => "any-caller",
        },
    })
}
