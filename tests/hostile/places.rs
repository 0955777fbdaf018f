//! Where a request can be led: nowhere but below the base path of the endpoint's own address.

use serde_json::{Value, json};

use super::{OK, ask, code, text};
use crate::support::{Conf, Gateway, KEY, Raw, RawUpstream, channel};

/// Paths of a plan that lead elsewhere, on a server that reads them that way.
const ELSEWHERE: &[&str] = &[
    "/..",
    "/../x",
    "/a/../../x",
    "/a/./../../x",
    "/%2e%2e/x",
    "/%2E./x",
    "/%252e%252e/x",
    "/..%2fx",
    "/a/..%2F..%2fx",
    "/..\\x",
    "/..%5cx",
    "/a\\..\\..\\x",
    "/..;a=1/x",
    "http://elsewhere.example/x",
    "elsewhere.example",
    "\\\\elsewhere.example\\x",
    "?x",
    "#x",
    "*",
    "",
    "/x?y",
    "/x#y",
    "/x y",
];

/// A network-path reference, where no base path stands before it.
const ANOTHER_AUTHORITY: &[&str] = &["//elsewhere.example/x", "/\\elsewhere.example/x", "///elsewhere.example"];

/// Such as stay where they are: sent as they are.
const HARMLESS: &[&str] = &[
    "/",
    "/a/../x",
    "/a/%2e%2e/x",
    "/a//b",
    "/...",
    "/a..b/..c",
    "/v1/models/org%2Fname:generate",
    "/@elsewhere.example/x",
    "/http://elsewhere.example/",
];

fn key(number: usize) -> String {
    format!("sk-number-{number}-0123456789")
}

/// A channel for each path that the puppet is to answer with, behind this base path.
async fn gateway(upstream: &RawUpstream, base_path: &str, paths: &[&str]) -> Gateway {
    let mut conf = Conf::new(&upstream.url());
    let mut keys = vec![json!({"proxy_key": KEY, "id": "tester", "channel": "c"})];
    for (number, path) in paths.iter().enumerate() {
        let mut own = channel(&format!("{}{base_path}", upstream.url()));
        own["settings"] = json!({"quiet": true, "plan": {"path": path}});
        let id = format!("c{number}");
        conf = conf.channel(&id, own);
        keys.push(json!({"proxy_key": key(number), "id": format!("k{number}"), "channel": id}));
    }
    Gateway::start(conf.keys(Value::from(keys))).await
}

async fn refuses_all(base_path: &str, paths: &[&str]) {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = gateway(&upstream, base_path, paths).await;
    let mut client = Raw::connect(gateway.address).await;
    for (number, path) in paths.iter().enumerate() {
        let reply = ask(&mut client, &key(number), "/x").await;
        assert_eq!((reply.status(), code(&reply).as_str()), (502, "plugin_answer_invalid"), "{path:?}");
        assert!(text(&reply).contains("path"), "{path:?}: {}", reply.body());
        assert_eq!(ask(&mut client, KEY, "/after").await.status(), 200, "the same connection after {path:?}");
    }
    assert_eq!(upstream.requests().len(), paths.len(), "nothing else reached the upstream");
}

#[tokio::test]
async fn a_plans_path_cannot_climb_out_of_the_base_path() {
    refuses_all("/base/path", ELSEWHERE).await;
    refuses_all("", ELSEWHERE).await;
}

#[tokio::test]
async fn a_plan_cannot_make_a_target_that_begins_like_another_authority() {
    refuses_all("", ANOTHER_AUTHORITY).await;
}

#[tokio::test]
async fn a_harmless_path_is_sent_as_it_is_to_the_configured_authority() {
    let upstream = RawUpstream::answering(OK).await;
    for (base_path, paths) in [("", HARMLESS), ("/base", HARMLESS), ("/base", ANOTHER_AUTHORITY)] {
        let gateway = gateway(&upstream, base_path, paths).await;
        let mut client = Raw::connect(gateway.address).await;
        for (number, path) in paths.iter().enumerate() {
            assert_eq!(ask(&mut client, &key(number), "/x").await.status(), 200, "{path}");
            let sent = upstream.last();
            assert_eq!(sent.line(), format!("GET {base_path}{path} HTTP/1.1"));
            assert_eq!(sent.values("host"), [upstream.address.to_string()], "{path}");
        }
    }
}

#[tokio::test]
async fn a_clients_own_path_goes_on_as_it_came_unless_it_climbs() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::start(Conf::new(&upstream.url()).settings(json!({"quiet": true}))).await;
    let mut client = Raw::connect(gateway.address).await;
    for path in HARMLESS.iter().chain(&["//v1/chat/completions", "///", "/a/../b/%2e%2E/c"]) {
        assert_eq!(ask(&mut client, KEY, path).await.status(), 200, "{path}");
        assert_eq!(upstream.last().line(), format!("GET {path} HTTP/1.1"));
    }
    let served = upstream.requests().len();
    for path in ["/../x", "/a/../../x", "/%2e%2e/x", "/..%2fx", "/..\\x", "/../stats"] {
        let mut client = Raw::connect(gateway.address).await;
        let reply = ask(&mut client, KEY, path).await;
        assert_eq!((reply.status(), code(&reply).as_str()), (400, "malformed_request"), "{path}");
        client.closed().await;
    }
    assert_eq!(upstream.requests().len(), served);
}
