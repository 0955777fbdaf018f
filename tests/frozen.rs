//! What was once promised to plugins is kept: the interface 0.1.0 never changes, and a component that was built against it
//! serves in every later gateway.

use std::fs;
use std::path::{Path, PathBuf};

use aiproxy_host::digest::{hex, sha256};
use serde_json::json;

use crate::support::{Conf, Gateway, KEY, UPSTREAM_KEY, Upstream, call, post};

/// The files that stay as they are, by their SHA-256. A test that fails here has found a change that must not be: what
/// shall be otherwise is a version of its own, served beside this one.
const FROZEN: &[(&str, &str)] = &[
    ("wit/frozen/plugin-0.1.0.wit", "af94b2506672e6fad618a58016c233871abd539267711dfab23ad5ff95755221"),
    ("tests/frozen/channel-0.1.0.wasm", "7be78000a8afa89c6395ed3e0d6534ba1b0d6b1014e6eca9d187061eb3c5bbac"),
    ("tests/frozen/router-0.1.0.wasm", "33d17c6d92a507e7a5dc274a656f52e85a797f9dcce1697b6125607fc6b7b17c"),
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the host's folder is in the workspace").join(name)
}

fn read(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn text(name: &str) -> String {
    String::from_utf8(read(name)).expect("it is text")
}

/// What a WIT file says, word by word, without its comments. (WIT has no strings, in which `//` would be none.)
fn said(wit: &str) -> Vec<&str> {
    wit.lines().flat_map(|line| line.split("//").next().unwrap_or_default().split_whitespace()).collect()
}

#[test]
fn what_is_frozen_is_as_it_was() {
    for (name, hash) in FROZEN {
        assert_eq!(hex(&sha256(&read(name))), *hash, "{name} is frozen");
    }
}

#[test]
fn the_interface_says_what_its_frozen_copy_says() {
    let interface = text("wit/plugin.wit");
    let said_now = said(&interface);
    assert!(said_now.starts_with(&["package"]), "{said_now:?}");
    if said_now[1] == "aiproxy:plugin@0.1.0;" {
        assert_eq!(
            said_now,
            said(&text("wit/frozen/plugin-0.1.0.wit")),
            "0.1.0 is frozen: a change is another version"
        );
    }
}

#[test]
fn the_sdk_builds_against_the_gateways_own_interface() {
    assert_eq!(text("plugins/sdk/wit/plugin.wit"), text("wit/plugin.wit"), "cp wit/plugin.wit plugins/sdk/wit/");
}

#[tokio::test]
async fn a_channel_plugin_built_against_0_1_0_serves() {
    let upstream = Upstream::echo().await;
    let settings = json!({"prefix": "/api/v3/", "models": ["small"], "_note": "frozen"});
    let conf = Conf::new(&upstream.url()).set("plugin", "frozen").settings(settings);
    conf.plugin("frozen", &read("tests/frozen/channel-0.1.0.wasm"));
    let gateway = Gateway::start(conf).await;

    let bearer = format!("Bearer {KEY}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("x-tenant", "acme")];
    let reply = call(gateway.address, "POST", "/v1/chat/completions?x=%2F", &headers, r#"{"model": "small"}"#).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.echoed_line(), "POST /api/v3/chat/completions?x=%2F");
    assert_eq!(reply.echoed("authorization"), [format!("Bearer {UPSTREAM_KEY}")]);
    assert_eq!(reply.echoed("x-client"), ["tester"]);
    assert_eq!((reply.echoed("x-tenant"), reply.echoed("x-organization")), (vec![], vec!["acme"]));
    let body: serde_json::Value = serde_json::from_str(reply.echoed_body()).expect("it was JSON and still is");
    assert_eq!(body, json!({"model": "small", "user": "tester"}));

    let reply = post(gateway.address, "/v1/chat/completions", r#"{"model": "large"}"#).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (404, "model_not_found"));
    let reply = post(gateway.address, "/v2/chat/completions", r#"{"model": "small"}"#).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (404, "no_channel_for_request"));
}

#[tokio::test]
async fn a_router_built_against_0_1_0_serves() {
    let upstream = Upstream::echo().await;
    let keys = json!([{"proxy_key": KEY, "id": "tester", "channels": ["low", "c"]}]);
    let mut low = crate::support::channel(&upstream.url());
    (low["priority"], low["settings"]) = (json!(-1), json!({"plan": {"path": "/low"}}));
    let conf = Conf::new(&upstream.url()).channel("low", low).keys(keys).gateway("router", json!({"plugin": "frozen"}));
    conf.plugin("frozen", &read("tests/frozen/router-0.1.0.wasm"));
    let gateway = Gateway::start(conf).await;
    let reply = post(gateway.address, "/v1/x", "{}").await;
    assert_eq!((reply.status.as_u16(), reply.echoed_line()), (200, "POST /v1/x"));
    assert_eq!(gateway.stats().await["router"]["fallbacks"], 0);
}
