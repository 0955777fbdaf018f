//! A request finds its channel, and arrives there as the plugin planned it.

use http_body_util::Full;
use serde_json::json;

use crate::support::{Conf, Gateway, UPSTREAM_KEY, Upstream, post};

#[tokio::test]
async fn a_request_goes_upstream_with_the_providers_key_in_place_of_the_proxy_key() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let reply = post(gateway.address, "/v1/chat?x=%2F", r#"{"model": "m"}"#).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.echoed_line(), "POST /v1/chat?x=%2F");
    assert_eq!(reply.echoed("authorization"), [format!("Bearer {UPSTREAM_KEY}")]);
    assert_eq!(reply.echoed_body(), r#"{"model": "m"}"#);
}

#[tokio::test]
async fn the_next_channel_is_asked_when_one_declines_and_404_says_that_all_did() {
    let upstream = Upstream::echo().await;
    let conf = Conf::new(&upstream.url()).settings(json!({"behaviour": "decline"}));
    let mut other = crate::support::channel(&upstream.url());
    other["api_key"] = json!("the-other-key-0123");
    let keys = json!([
        {"proxy_key": crate::support::KEY, "id": "both", "channels": ["c", "other"]},
        {"proxy_key": "sk-only-declining-1", "id": "one", "channel": "c"},
    ]);
    let gateway = Gateway::start(conf.channel("other", other).keys(keys)).await;
    let reply = post(gateway.address, "/x", "{}").await;
    assert_eq!(reply.echoed("authorization"), ["Bearer the-other-key-0123"]);
    let request = ::http::Request::get("/x").header("x-api-key", "sk-only-declining-1");
    let reply = crate::support::send(gateway.address, request.body(Full::default()).unwrap()).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (404, "no_channel_for_request"));
}

#[tokio::test]
async fn a_channel_whose_plugin_is_backing_off_is_passed_over_while_another_serves() {
    let upstream = Upstream::echo().await;
    let conf = Conf::new(&upstream.url()).settings(json!({"behaviour": "loop"}));
    let mut other = crate::support::channel(&upstream.url());
    other["api_key"] = json!("the-other-key-0123");
    let keys = json!([
        {"proxy_key": crate::support::KEY, "id": "both", "channels": ["c", "other"]},
        {"proxy_key": "sk-only-looping-01", "id": "one", "channel": "c"},
    ]);
    let conf = conf.channel("other", other).keys(keys).gateway("sandbox", json!({"back_off_ms": 3_600_000}));
    let gateway = Gateway::start(conf).await;
    let reply = post(gateway.address, "/x", "{}").await;
    assert_eq!(reply.code(), "plugin_deadline_exceeded", "the exchange in whose call it happened pays");
    for _ in 0..4 {
        let reply = post(gateway.address, "/x", "{}").await;
        assert_eq!(reply.echoed("authorization"), ["Bearer the-other-key-0123"]);
    }
    let reply = crate::support::ask(gateway.address, "GET", "/x", &[("x-api-key", "sk-only-looping-01")]).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (502, "plugin_backing_off"));
    assert!(reply.header("retry-after").is_some());
}
