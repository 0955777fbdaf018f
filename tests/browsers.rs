//! Browsers: pages of configured origins may call and read everything, pages of other origins nothing.

use serde_json::json;

use crate::support::{Answer, Conf, Gateway, KEY, Upstream, ask, reply};

const ORIGIN: &str = "https://chat.example.com";

async fn gateway(upstream: &Upstream, origins: serde_json::Value) -> Gateway {
    Gateway::start(Conf::new(&upstream.url()).gateway("cors_origins", origins)).await
}

async fn preflight(gateway: &Gateway, origin: &str) -> Answer {
    let asked = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,x-custom"),
    ];
    ask(gateway.address, "OPTIONS", "/v1/chat/completions", &asked).await
}

fn cors_headers(reply: &Answer) -> Vec<&str> {
    reply.headers.keys().map(http::HeaderName::as_str).filter(|name| name.starts_with("access-control-")).collect()
}

fn varies_by_origin(reply: &Answer) -> bool {
    reply.headers.get_all("vary").iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"origin"))
}

#[tokio::test]
async fn a_preflight_of_a_configured_origin_is_answered_without_a_key_or_the_provider() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, json!(["https://other.example.com", ORIGIN])).await;
    let reply = preflight(&gateway, ORIGIN).await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (204, 0));
    assert_eq!(reply.header("access-control-allow-origin"), Some(ORIGIN));
    assert_eq!(reply.header("access-control-allow-methods"), Some("POST"));
    assert_eq!(reply.header("access-control-allow-headers"), Some("authorization,x-custom"));
    assert_eq!(reply.header("access-control-max-age"), Some("600"));
    assert_eq!(reply.header("access-control-allow-credentials"), None, "keys travel in headers, never in cookies");
    assert!(varies_by_origin(&reply) && reply.header("x-aiproxy-request-id").is_some());
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn a_page_of_a_configured_origin_may_read_successes_and_errors() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, json!([ORIGIN])).await;
    for (key, status) in [(KEY, 200), ("sk-nobody-knows", 403)] {
        let reply = ask(gateway.address, "GET", "/x", &[("origin", ORIGIN), ("x-api-key", key)]).await;
        assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin")), (status, Some(ORIGIN)));
        assert_eq!(reply.header("access-control-expose-headers"), Some("*"));
        assert!(varies_by_origin(&reply), "{reply:?}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_told_nothing() {
    let upstream = Upstream::start(|_| async {
        let mut reply = reply(200, "fine");
        reply.headers_mut().insert("access-control-allow-origin", "*".parse().unwrap());
        reply
    })
    .await;
    let gateway = gateway(&upstream, json!([ORIGIN])).await;
    let near =
        ["https://chat.example.com.evil.example", "http://chat.example.com", "https://chat.example.com:444", "null"];
    for origin in near {
        let reply = preflight(&gateway, origin).await;
        assert_eq!((reply.status.as_u16(), cors_headers(&reply)), (401, vec![]), "{origin}");
        let reply = ask(gateway.address, "GET", "/x", &[("origin", origin), ("x-api-key", KEY)]).await;
        assert_eq!(
            (reply.status.as_u16(), cors_headers(&reply)),
            (200, vec![]),
            "{origin}: the provider's word counts not"
        );
        assert!(varies_by_origin(&reply), "a cache must not give one origin's reply to another: {reply:?}");
    }
    let reply = ask(gateway.address, "GET", "/x", &[("x-api-key", KEY)]).await;
    assert_eq!((reply.status.as_u16(), varies_by_origin(&reply)), (200, true), "nor what was asked without an origin");
}

#[tokio::test]
async fn the_providers_own_cors_headers_are_replaced_for_a_configured_origin() {
    let upstream = Upstream::start(|_| async {
        let mut reply = reply(200, "fine");
        reply.headers_mut().insert("access-control-allow-origin", "https://theirs.example.com".parse().unwrap());
        reply.headers_mut().insert("access-control-allow-credentials", "true".parse().unwrap());
        reply.headers_mut().insert("vary", "Accept-Encoding".parse().unwrap());
        reply
    })
    .await;
    let gateway = gateway(&upstream, json!([ORIGIN])).await;
    let reply = ask(gateway.address, "GET", "/x", &[("origin", ORIGIN), ("x-api-key", KEY)]).await;
    let origins: Vec<&[u8]> =
        reply.headers.get_all("access-control-allow-origin").iter().map(http::HeaderValue::as_bytes).collect();
    assert_eq!((origins, reply.header("access-control-allow-credentials")), (vec![ORIGIN.as_bytes()], None));
    let vary: Vec<_> = reply.headers.get_all("vary").iter().collect();
    assert_eq!(vary, ["Accept-Encoding", "Origin"]);
}

#[tokio::test]
async fn a_star_allows_every_origin() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, json!(["*"])).await;
    let reply = preflight(&gateway, "https://anything.example").await;
    let allowed = reply.header("access-control-allow-origin");
    assert_eq!((reply.status.as_u16(), allowed), (204, Some("https://anything.example")));
}

#[tokio::test]
async fn options_that_are_no_preflight_go_to_the_provider() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, json!([ORIGIN])).await;
    let reply = ask(gateway.address, "OPTIONS", "/x", &[("origin", ORIGIN), ("x-api-key", KEY)]).await;
    assert_eq!((reply.status.as_u16(), reply.echoed_line()), (200, "OPTIONS /x"));
}

#[tokio::test]
async fn without_configured_origins_preflights_and_cors_headers_are_the_providers() {
    let upstream = Upstream::start(|request| async move {
        let mut reply = reply(200, request.method().to_string());
        reply.headers_mut().insert("access-control-allow-origin", "https://theirs.example.com".parse().unwrap());
        reply
    })
    .await;
    let gateway = gateway(&upstream, json!([])).await;
    let asked = [("origin", ORIGIN), ("access-control-request-method", "POST"), ("x-api-key", KEY)];
    let reply = ask(gateway.address, "OPTIONS", "/x", &asked).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "OPTIONS"));
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://theirs.example.com"));
    assert!(!varies_by_origin(&reply));
    assert_eq!(preflight(&gateway, ORIGIN).await.status, 401, "without a key it is refused like any other request");
}
