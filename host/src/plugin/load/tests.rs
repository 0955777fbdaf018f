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

mod arbitrary {
    //! Files of any content are refused with a reason, or are components that are then configured or not: nothing panics.

    use std::sync::OnceLock;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::super::super::check::sample::is_harmless;
    use super::super::super::tests::{channel, engine, sandbox};
    use super::*;
    use crate::plugin::Deployed;

    /// A component with all that a plugin has, but small, so that it compiles at once.
    fn small() -> &'static [u8] {
        static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
        BYTES.get_or_init(|| {
            component(
                r#"(component
                    (import "aiproxy:plugin/log@0.1.0" (instance $log
                        (type $level' (enum "trace" "debug" "info" "warn" "error"))
                        (export "level" (type $level (eq $level')))
                        (export "log" (func (param "level" $level) (param "message" string)))))
                    (core module $m
                        (memory (export "memory") 1)
                        (table 4 funcref)
                        (data (i32.const 8) "some text")
                        (func $f (export "f") (result i32) (i32.const 8))
                        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
                        (elem (i32.const 0) $f))
                    (core instance $i (instantiate $m))
                    (func $f (result string)
                        (canon lift (core func $i "f") (memory $i "memory") (realloc (func $i "realloc"))))
                    (instance $c (export "configure" (func $f)) (export "decide" (func $f)))
                    (export "aiproxy:plugin/channel@0.1.0" (instance $c)))"#,
            )
        })
    }

    /// What becomes of a file: refused, or refused by its channel, or it serves.
    fn take(bytes: &[u8]) -> Result<(), TestCaseError> {
        let refused = match engine().load("p", bytes) {
            Err(refused) => refused.to_string(),
            Ok(version) => match Deployed::new(engine(), version, channel(&serde_json::json!({})), sandbox()) {
                Err(refused) => refused,
                Ok(_) => return Ok(()),
            },
        };
        prop_assert!(!refused.is_empty() && is_harmless(&refused), "{}", refused);
        Ok(())
    }

    #[derive(Debug, Clone)]
    enum Damage {
        Set(Index, u8),
        Flip(Index, u8),
        Remove(Index, Index),
        Repeat(Index, Index),
        Insert(Index, Vec<u8>),
    }

    fn damage() -> impl Strategy<Value = Damage> {
        prop_oneof![
            3 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
            3 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
            1 => any::<(Index, Index)>().prop_map(|(from, to)| Damage::Remove(from, to)),
            1 => any::<(Index, Index)>().prop_map(|(from, to)| Damage::Repeat(from, to)),
            1 => (any::<Index>(), any::<Vec<u8>>()).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        ]
    }

    fn damaged(bytes: &[u8], damages: &[Damage]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for damage in damages {
            let length = bytes.len().max(1);
            let ordered = |a: &Index, b: &Index| {
                let (a, b) = (a.index(length), b.index(length));
                a.min(b)..a.max(b)
            };
            match damage {
                Damage::Set(at, byte) => bytes[at.index(length)] = *byte,
                Damage::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
                Damage::Remove(from, to) if ordered(from, to).len() < length / 2 => {
                    drop(bytes.drain(ordered(from, to)));
                }
                Damage::Remove(..) => {}
                Damage::Repeat(from, to) => {
                    let again = bytes[ordered(from, to)].to_vec();
                    bytes.splice(ordered(from, to).end..ordered(from, to).end, again);
                }
                Damage::Insert(at, more) => {
                    drop(bytes.splice(at.index(length)..at.index(length), more.iter().copied()));
                }
            }
        }
        bytes
    }

    #[test]
    fn the_undamaged_one_is_found_to_be_of_another_shape() {
        let refused = engine().load("p", small()).err().unwrap().to_string();
        assert!(refused.contains("does not fit"), "{refused}");
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_refused(bytes in any::<Vec<u8>>(), magic in 0..4_usize) {
            let magic: &[u8] = [&b""[..], b"\0asm", b"\0asm\x0d\0\x01\0", b"\0asm\x01\0\0\0"][magic];
            let bytes = [magic, &bytes].concat();
            take(&bytes)?;
        }

        #[test]
        fn a_damaged_component_is_refused_or_harmless(damages in proptest::collection::vec(damage(), 1..4)) {
            take(&damaged(small(), &damages))?;
        }
    }

    proptest! {
        // Compiling such a one takes a while.
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 32, ..ProptestConfig::default() })]

        #[test]
        fn a_damaged_plugin_of_a_toolchain_is_refused_or_harmless(
            damages in proptest::collection::vec(damage(), 1..3),
        ) {
            take(&damaged(include_bytes!("../../../../tests/frozen/channel-0.1.0.wasm"), &damages))?;
        }
    }
}
