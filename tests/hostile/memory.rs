//! What stays in a guest's memory: what it keeps itself, where instances are pooled, and never a credential.

use serde_json::json;

use super::{OK, text};
use crate::support::{Conf, Gateway, KEY, Raw, RawUpstream, UPSTREAM_KEY, sockets};

const OTHER_SECRET: &str = "other-secret-kqzjwx";
const ADMIN_TOKEN: &str = "admin-token-wqkzjxvq";
/// Something that the plugin is shown, and keeps.
const SHOWN: &str = "shown-to-the-plugin-xkqj";

/// So that a search does not find its own needle, see the puppet.
fn disguised(text: &str) -> Vec<u8> {
    text.bytes().rev().map(|byte| byte ^ 0x55).collect()
}

/// A gateway with one worker, and so with one instance where they are pooled.
async fn gateway(upstream: &RawUpstream, isolation: &str) -> Gateway {
    let credentials =
        json!([["key", "authorization", "Bearer"], ["key", "query", "key"], ["other", "header", "x-other"],]);
    let search: Vec<_> = [UPSTREAM_KEY, OTHER_SECRET, KEY, ADMIN_TOKEN, SHOWN].map(disguised).into();
    let headers = json!(["user-agent", "host", "origin", "x-shown", "sec-websocket-protocol", "content-type"]);
    let settings = json!({
        "profile": {"headers": headers, "reads_model": true, "body": ["/a"]},
        "plan": {"credentials": credentials},
        "search": search,
    });
    let conf = sockets::conf(&upstream.url()).settings(settings).set("secrets", json!({"other": OTHER_SECRET}));
    let sandbox = json!({"isolation": isolation, "deadline_ms": 10_000, "spare_instances": 2});
    let conf = conf.gateway("sandbox", sandbox).gateway("admin", json!({"token": ADMIN_TOKEN}));
    Gateway::with_workers(conf, 1).await
}

/// What the puppet tells.
async fn told(client: &mut Raw, path: &str) -> String {
    client.write(format!("GET /puppet/{path} HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {KEY}\r\n\r\n")).await;
    let reply = client.reply().await;
    assert_eq!(reply.status(), 418, "{}", reply.body());
    text(&reply)
}

/// Shows the keys in every way there is.
async fn show_keys(gateway: &Gateway, client: &mut Raw) {
    let body = r#"{"model": "m", "a": "b"}"#;
    let length = body.len();
    for (target, fields) in [
        ("/x", format!("authorization: Bearer {KEY}\r\n")),
        ("/x", format!("x-api-key: {KEY}\r\n")),
        ("/x", format!("api-key: {KEY}\r\n")),
        ("/x", format!("x-goog-api-key: {KEY}\r\n")),
        (&format!("/x?a=1&key={KEY}"), String::new()),
        ("/x", format!("x-api-key: {KEY}\r\ncookie: aiproxy_admin={ADMIN_TOKEN}\r\n")),
        ("/x", format!("x-api-key: {KEY}\r\nproxy-authorization: Bearer {ADMIN_TOKEN}\r\n")),
    ] {
        let head = "host: gateway.test\r\ncontent-type: application/json\r\nx-shown: ".to_owned() + SHOWN;
        client
            .write(format!("POST {target} HTTP/1.1\r\n{head}\r\n{fields}content-length: {length}\r\n\r\n{body}"))
            .await;
        assert_eq!(client.reply().await.status(), 200, "{target} {fields}");
    }
    let page = format!("GET /stats HTTP/1.1\r\nhost: gateway.test\r\nauthorization: Bearer {ADMIN_TOKEN}\r\n\r\n");
    client.write(page).await;
    assert_eq!(client.reply().await.status(), 200);
    // The upstream refuses the handshake, but the plugin is asked about it.
    let mut socket = Raw::connect(gateway.address).await;
    let offered = format!("sec-websocket-protocol: openai-insecure-api-key.{KEY}, realtime");
    let upgrade = sockets::UPGRADE.join("\r\n");
    socket.write(format!("GET /x HTTP/1.1\r\nhost: gateway.test\r\n{upgrade}\r\n{offered}\r\n\r\n")).await;
    assert_eq!(socket.reply().await.status(), 200, "the upstream's refusal");
}

#[tokio::test]
async fn no_credential_is_ever_in_a_guests_memory() {
    let upstream = RawUpstream::answering(OK).await;
    for isolation in ["pooled", "fresh"] {
        let gateway = gateway(&upstream, isolation).await;
        let mut client = Raw::connect(gateway.address).await;
        show_keys(&gateway, &mut client).await;
        // What a pooled instance keeps is there, and shows that the search finds something.
        assert_eq!(client.ask(&format!("GET /puppet/remember/{SHOWN}"), &[]).await.status(), 200);
        let expected = if isolation == "pooled" { "4" } else { "" };
        assert_eq!(told(&mut client, "search").await, expected, "{isolation}");
    }
}

#[tokio::test]
async fn a_pooled_instance_keeps_what_it_was_told_and_a_fresh_one_has_never_been_told_anything() {
    let upstream = RawUpstream::answering(OK).await;
    for (isolation, kept) in [("pooled", "one,two"), ("fresh", "")] {
        let gateway = gateway(&upstream, isolation).await;
        let mut client = Raw::connect(gateway.address).await;
        for word in ["one", "two"] {
            assert_eq!(client.ask(&format!("GET /puppet/remember/{word}"), &[]).await.status(), 200);
        }
        assert_eq!(told(&mut client, "recall").await, kept, "{isolation}");
    }
}

#[tokio::test]
async fn two_channels_of_one_plugin_share_no_memory() {
    let upstream = RawUpstream::answering(OK).await;
    let other = "sk-other-0123456789";
    let keys = json!([
        {"proxy_key": KEY, "id": "tester", "channel": "c"},
        {"proxy_key": other, "id": "other", "channel": "other"},
    ]);
    let conf = Conf::new(&upstream.url()).channel("other", crate::support::channel(&upstream.url())).keys(keys);
    let gateway = Gateway::with_workers(conf, 1).await;
    let mut client = Raw::connect(gateway.address).await;
    assert_eq!(super::ask(&mut client, other, "/puppet/remember/theirs").await.status(), 200);
    assert_eq!(told(&mut client, "recall").await, "");
    let theirs = super::ask(&mut client, other, "/puppet/recall").await;
    assert_eq!(text(&theirs), "theirs");
}
