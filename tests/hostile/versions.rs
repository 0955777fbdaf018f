//! Guests that are hostile before they are asked anything: while they are loaded, started or configured. None of them
//! serves, and the version before does.

use serde_json::json;

use super::guest::{Place, guest};
use crate::support::loaded::plugin;
use crate::support::{Conf, Gateway, RawUpstream, get, guests};

fn at_start(body: &str) -> Vec<u8> {
    guest(Place::Parts, &format!("(func $start {body}) (start $start)"))
}

/// A component that only looks like a plugin, with these parts.
fn component(parts: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            {parts}
            (func $f (canon lift (core func $i "f")))
            (instance $c (export "configure" (func $f)) (export "decide" (func $f)))
            (export "aiproxy:plugin/channel@0.1.0" (instance $c)))"#
    );
    wat::parse_str(text).expect("a component")
}

fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let in_configure = |piece: &str| guest(Place::Configure, piece);
    let parts = |piece: &str| guest(Place::Parts, piece);
    let tables = "(table 1000000 funcref)".repeat(3);
    let growing = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";
    vec![
        ("a loop at the start", at_start("(loop $l (br $l))"), "longer than 200 ms"),
        ("a trap at the start", at_start("unreachable"), "it trapped"),
        ("recursion at the start", at_start("(drop (call $deep (i32.const 0)))"), "it trapped"),
        ("growth at the start", at_start(growing), "bytes of memory"),
        ("a call of the host at the start", at_start("(drop (call $random)) unreachable"), "it trapped"),
        ("memory from the start", parts("(memory 1000)"), "bytes of memory"),
        ("tables from the start", parts(&tables), "bytes of memory"),
        ("a table beyond bounds", parts("(table 2000000 funcref)"), ""),
        ("ninety memories", parts(&"(memory 20)".repeat(90)), "bytes of memory"),
        ("a loop in configure", in_configure("(loop $l (br $l))"), "longer than 200 ms"),
        ("a trap in configure", in_configure("unreachable"), "it trapped"),
        ("recursion in configure", in_configure("(drop (call $deep (i32.const 0)))"), "it trapped"),
        ("growth in configure", in_configure(growing), "bytes of memory"),
        (
            "waiting in configure",
            in_configure(
                "(i32.store (i32.const 64) (call $subscribe (i64.const -1)))
                 (call $poll (i32.const 64) (i32.const 1) (i32.const 72))",
            ),
            "tried to wait",
        ),
        ("an unreadable profile", in_configure("(return (i32.const -4))"), "could not be read"),
        ("an unknown reuse", in_configure("(i32.store8 (i32.const 2088) (i32.const 9))"), "could not be read"),
        (
            "a huge profile",
            in_configure(
                "(i32.store (i32.const 2052) (i32.const 131072)) (i32.store (i32.const 2056) (i32.const 9000))",
            ),
            "9000 headers",
        ),
        (
            "a profile beyond bounds",
            in_configure(
                "(i32.store (i32.const 2052) (i32.const 131072)) (i32.store (i32.const 2056) (i32.const 300000))",
            ),
            "could not be read",
        ),
        ("three hundred instances", component(&"(core instance (instantiate $m))".repeat(300)), "does not fit"),
        (
            "three hundred memories",
            component(&format!("(core module $n (memory 0)) {}", "(core instance (instantiate $n))".repeat(200))),
            "",
        ),
        (
            "instances beyond what a component may have",
            component(&"(core instance (instantiate $m))".repeat(2000)),
            "not valid",
        ),
        ("a function of another shape", component(""), "does not fit"),
    ]
}

#[tokio::test]
async fn a_version_that_is_hostile_from_the_start_never_serves_and_the_one_before_does() {
    let upstream = RawUpstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let sandbox = json!({"memory_bytes_max": 16 << 20, "configure_deadline_ms": 200});
    let gateway = Gateway::start(Conf::new(&upstream.url()).gateway("sandbox", sandbox)).await;
    let before = plugin(&gateway.stats().await, "puppet")["version"].clone();
    for (what, bytes, reason) in hostile() {
        gateway.conf.plugin("puppet", &bytes);
        gateway.reload();
        let stats = gateway.until(what, |stats| plugin(stats, "puppet")["last_error"].is_string()).await;
        let entry = plugin(&stats, "puppet");
        let error = entry["last_error"].as_str().unwrap_or_default();
        assert!(error.contains(reason), "{what}: {error}");
        assert!(!error.contains(char::is_control) && error.len() < 2000, "{what}: {error:?}");
        assert_eq!(entry["version"], before, "{what}");
        assert_eq!(get(gateway.address, "/x").await.status, 200, "after {what}");
        // So that the next error is the next file's.
        gateway.swap_in(guests::puppet()).await;
    }
}
