use std::sync::Arc;

use super::super::engine::EngineOptions;
use super::super::guests;
use super::*;

fn engine() -> Arc<Engine> {
    Engine::new(EngineOptions { pool_instances: 4, ..EngineOptions::default() }).unwrap()
}

fn refusal(bytes: &[u8]) -> String {
    engine().load("p", bytes).err().expect("a refusal").to_string()
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[test]
fn what_is_no_component_is_refused_with_advice() {
    let core = wat::parse_str("(module)").unwrap();
    let cases: [(&[u8], &str); 7] = [
        (b"", "the file is empty"),
        (b"\0as", "cut off"),
        (b"\0asm\x0d\0\x01", "cut off"),
        (b"\0asm\x0d\0\x01\0", "cut off"),
        (b"#!/bin/sh", "not a WebAssembly file"),
        (b"\0asm\x0e\0\x01\0", "unknown binary version"),
        (&core, "wasm-tools component new"),
    ];
    for (bytes, reason) in cases {
        let refusal = refusal(bytes);
        assert!(refusal.contains(reason), "{bytes:?}: {refusal}");
    }
}

#[test]
fn a_file_that_was_cut_off_anywhere_is_refused() {
    let whole = guests::puppet();
    for part in [9, 100, whole.len() / 2, whole.len() - 1] {
        let refusal = refusal(&whole[..part]);
        assert!(refusal.contains("cut off"), "{part}: {refusal}");
    }
}

#[test]
fn imports_that_are_not_given_are_all_named_with_a_hint() {
    let refusal = refusal(&component(
        r#"(component
            (import "wasi:http/outgoing-handler@0.2.6" (instance))
            (import "aiproxy:plugin/log@0.2.0" (instance))
            (import "wasi:clocks/monotonic-clock@0.2.0" (instance))
            (import "wasi:cli/stdout@0.3.0" (instance)))"#,
    ));
    for part in ["wasi:http/outgoing-handler@0.2.6", "aiproxy:plugin/log@0.2.0", "--disable http", "build for WASI 0.2"]
    {
        assert!(refusal.contains(part), "{refusal}");
    }
    assert!(!refusal.contains("monotonic-clock"), "{refusal}");
}

#[test]
fn the_interfaces_version_is_read_from_the_exports_name() {
    let exporting =
        |name: &str| refusal(&component(&format!("(component (instance $i) (export \"{name}\" (instance $i)))")));
    let cases = [
        ("aiproxy:plugin/channel@0.2.0", "exports aiproxy:plugin/channel@0.2.0, this gateway speaks"),
        ("aiproxy:plugin/channel", "has no version"),
        ("aiproxy:plugin/router@0.1.0", "this is a router"),
        ("wasi:cli/run@0.2.0", "only wasi:cli/run@0.2.0"),
        ("aiproxy:plugin/channel@0.1.0", "the function configure of aiproxy:plugin/channel@0.1.0 does not fit"),
    ];
    for (name, reason) in cases {
        let refusal = exporting(name);
        assert!(refusal.contains(reason), "{name}: {refusal}");
    }
    let nothing = refusal(&component("(component (core module))"));
    assert!(nothing.contains("exports nothing"), "{nothing}");
}

#[test]
fn asynchronous_exports_are_refused() {
    let refusal = refusal(&component(
        r#"(component
            (core module $m (func (export "f") (result i32) unreachable)
                (func (export "cb") (param i32 i32 i32) (result i32) unreachable))
            (core instance $i (instantiate $m))
            (func $f async (canon lift (core func $i "f") async (callback (func $i "cb"))))
            (export "decide" (func $f)))"#,
    ));
    assert!(refusal.contains("asynchronous"), "{refusal}");
}

#[test]
fn a_version_is_named_by_its_hash_and_taken_from_the_cache_the_second_time() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("compiled");
    let options = || EngineOptions { cache: Some(cache.clone()), pool_instances: 4, ..EngineOptions::default() };
    let first = Engine::new(options()).unwrap().load("p", guests::puppet()).unwrap();
    assert_eq!(first.hash, crate::digest::hex(&crate::digest::sha256(guests::puppet())));
    let entries = || std::fs::read_dir(&cache).unwrap().map(|e| e.unwrap().metadata().unwrap().modified().unwrap());
    let written: Vec<_> = entries().collect();
    assert_eq!(written.len(), 1);
    Engine::new(options()).unwrap().load("p", guests::puppet()).unwrap();
    assert_eq!(entries().collect::<Vec<_>>(), written, "nothing was compiled again");
}

#[test]
fn compiled_code_fits_both_engines() {
    let engine = engine();
    assert!(engine.pooled().is_some());
    let version = engine.load("p", guests::puppet()).unwrap();
    assert!(version.pooled().is_some());
    assert!(version.on_demand(&engine).is_ok());
}

#[test]
fn a_router_is_no_channels_plugin_and_the_other_way_round() {
    let engine = engine();
    assert!(engine.load_as::<Router>("m", guests::marshal()).is_ok());
    assert!(refusal(guests::marshal()).contains("this is a router"));
    let other = engine.load_as::<Router>("p", guests::puppet()).err().unwrap().to_string();
    assert!(other.contains("this is a channel's plugin"), "{other}");
}
