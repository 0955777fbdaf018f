//! The built-in pages: what they show, to whom, and that they take nothing from the providers.

use std::time::Duration;

use aiproxy_host::digest::{hex, sha256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::support::client::open;
use crate::support::{Answer, Conf, Gateway, KEY, Raw, Upstream, ask, ask::request, get, post, reply, stream};

const PAGES: [&str; 4] = ["/healthz", "/readyz", "/stats", "/dashboard"];

async fn page(gateway: &Gateway, path: &str) -> Answer {
    ask(gateway.address, "GET", path, &[]).await
}

#[tokio::test]
async fn health_and_readiness_are_told_without_a_proxy_key() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1")).await;
    let health = page(&gateway, "/healthz").await;
    assert_eq!((health.status.as_u16(), health.json()), (200, json!({"status": "ok"})));
    let ready = page(&gateway, "/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.json()), (200, json!({"status": "ready", "generation": 1})));
}

#[tokio::test]
async fn a_gateway_that_drains_is_not_ready() {
    let gateway = Gateway::with_workers(Conf::new("http://127.0.0.1:1"), 1).await;
    let mut late = Raw::connect(gateway.address).await;
    late.write("GET /readyz HTTP/1.1\r\n").await;
    // The one worker has read those bytes when it has served others that came later.
    for _ in 0..3 {
        assert_eq!(page(&gateway, "/readyz").await.status, 200);
    }
    gateway.stop();
    let draining = async {
        while !gateway.shared.draining.load(std::sync::atomic::Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), draining).await.expect("it begins to stop");
    late.write("host: h\r\n\r\n").await;
    let reply = late.read_to_close().await;
    assert!(reply.starts_with("HTTP/1.1 503 ") && reply.contains(r#"{"status":"stopping"}"#), "{reply}");
}

#[tokio::test]
async fn every_page_has_its_type_is_never_cached_and_carries_a_request_id() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1")).await;
    for path in PAGES {
        let reply = page(&gateway, path).await;
        let expected = if path == "/dashboard" { "text/html; charset=utf-8" } else { "application/json" };
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, Some(expected)), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(reply.header("x-aiproxy-request-id").is_some(), "{path}");
    }
}

#[tokio::test]
async fn head_of_a_page_is_its_head_and_a_query_changes_nothing() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1")).await;
    for path in PAGES {
        let head = ask(gateway.address, "HEAD", path, &[]).await;
        assert_eq!((head.status.as_u16(), head.body.len()), (200, 0), "{path}");
        assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 0, "{path}");
        assert_eq!(page(&gateway, &format!("{path}?a=b")).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn every_other_method_and_path_is_the_providers() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    for path in [
        "/",
        "/stats/",
        "//stats",
        "/Stats",
        "/%73tats",
        "/healthz/x",
        "/v1/stats",
        "/readyz.json",
        "/dashboard/",
        "/x/../stats",
    ] {
        let reply = get(gateway.address, path).await;
        assert_eq!((reply.status.as_u16(), reply.echoed_line()), (200, format!("GET {path}").as_str()));
    }
    for path in PAGES {
        // A form is posted to the dashboard to sign in.
        let methods = ["PUT", "DELETE", "OPTIONS", "PATCH", "POST"];
        for method in &methods[..if path == "/dashboard" { 4 } else { 5 }] {
            let reply = ask(gateway.address, method, path, &[("x-api-key", KEY)]).await;
            assert_eq!((reply.status.as_u16(), reply.echoed_line()), (200, format!("{method} {path}").as_str()));
        }
    }
}

#[tokio::test]
async fn statistics_have_every_field_of_the_service_before() {
    let upstream = Upstream::echo().await;
    let mut other = crate::support::channel(&upstream.url());
    (other["name"], other["status"]) = (json!("另一个"), json!("disabled"));
    let gateway = Gateway::start(Conf::new(&upstream.url()).channel("other", other)).await;
    get(gateway.address, "/x").await;
    let stats = gateway.until("it is counted", |stats| stats["total_requests"] == 1).await;
    assert_eq!((&stats["service"], &stats["version"]), (&json!("aiproxy-host"), &json!(env!("CARGO_PKG_VERSION"))));
    for number in ["uptime_seconds", "total_requests", "successful_requests", "failed_requests", "timestamp"] {
        assert!(stats[number].is_u64(), "{number}: {stats:#}");
    }
    assert_eq!(stats["success_rate"], 100.0);
    let sockets = &stats["protocol_stats"];
    assert_eq!(sockets["http_requests"], 1);
    assert_eq!((&sockets["websocket_requests"], &sockets["websocket_connections"]), (&json!(0), &json!(0)));
    assert_eq!(sockets["websocket_connection_rate"], 0.0);
    let channels = json!({
        "c": {"name": "C", "requests": 1, "status": "active"},
        "other": {"name": "另一个", "requests": 0, "status": "disabled"},
    });
    assert_eq!(stats["channel_stats"], channels);
    assert!(stats["avg_response_time"].as_f64().is_some_and(|seconds| seconds > 0.0 && seconds < 10.0), "{stats:#}");
    assert_eq!(stats["api_keys_count"], 1);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for time in ["last_request_time", "timestamp"] {
        assert!(stats[time].as_u64().is_some_and(|time| now - time <= 60), "{time}: {stats:#}");
    }
}

#[tokio::test]
async fn statistics_name_plugins_and_files_with_version_state_and_last_error() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1")).await;
    let stats = gateway.stats().await;
    let hash = |bytes: &[u8]| hex(&sha256(bytes));
    let puppet = hash(crate::support::guests::puppet());
    let plugin = json!({
        "name": "puppet", "version": puppet, "source": "file", "state": "active", "last_error": null, "channels": ["c"],
        "loaded_at": stats["plugins"][0]["loaded_at"], "calls": 0, "calls_by_outcome": {}, "call_seconds": null,
        "last_failure": null, "interface": "0.1.0", "trial": null, "pin": null, "versions": [{
            "version": puppet, "accepted_at": stats["plugins"][0]["loaded_at"], "interface": "0.1.0",
            "bytes": crate::support::guests::puppet().len(), "source": "file", "serves": true, "on_trial": false,
        }],
    });
    assert_eq!(stats["plugins"], json!([plugin]));
    assert!(stats["plugins"][0]["loaded_at"].is_u64());
    let version = |name: &str| hash(&std::fs::read(gateway.conf.conf().join(name)).unwrap());
    let file = |name: &str, version: String| json!({"name": name, "version": version, "state": "active", "last_error": null, "warnings": []});
    let names = ["channels_config.json", "api_keys.json", "gateway.json"];
    let mut files: Vec<_> = names.map(|name| file(name, version(name))).into();
    files.push(file("puppet.wasm", puppet.clone()));
    assert_eq!(stats["files"], Value::from(files));

    gateway.conf.plugin("puppet", b"not a component");
    gateway.conf.write_file("api_keys.json", "[{]");
    gateway.reload();
    let shown = |stats: &Value, name: &str| {
        let files = stats["files"].as_array().unwrap();
        files.iter().find(|file| file["name"] == name).unwrap_or(&Value::Null).clone()
    };
    let stats = gateway
        .until("both are refused", |stats| {
            ["puppet.wasm", "api_keys.json"].iter().all(|name| shown(stats, name)["state"] == "refused")
        })
        .await;
    assert_eq!((&stats["plugins"][0]["state"], &stats["plugins"][0]["version"]), (&json!("refused"), &json!(puppet)));
    for name in ["puppet.wasm", "api_keys.json"] {
        assert!(shown(&stats, name)["last_error"].as_str().is_some_and(|error| error.len() > 10), "{stats:#}");
    }
    assert_eq!(stats["generation"], 1, "nothing that serves has changed");
}

/// Total, successful, failed, and those of the channel `c`.
fn counts(stats: &Value) -> [u64; 4] {
    let number = |value: &Value| value.as_u64().unwrap();
    let total = number(&stats["total_requests"]);
    [
        total,
        number(&stats["successful_requests"]),
        number(&stats["failed_requests"]),
        number(&stats["channel_stats"]["c"]["requests"]),
    ]
}

#[tokio::test]
async fn every_exchange_is_counted_exactly_once_whatever_becomes_of_it() {
    let (sender, body) = stream();
    let body = std::sync::Arc::new(std::sync::Mutex::new(Some(body)));
    let upstream = Upstream::start(move |request| {
        let path = request.uri().path().to_owned();
        let streamed = (path == "/stream").then(|| body.lock().unwrap().take().expect("one such request"));
        async move {
            match (path.as_str(), streamed) {
                (_, Some(body)) => http::Response::new(body),
                ("/fails", _) => reply(500, "no"),
                ("/never", _) => std::future::pending().await,
                _ => reply(200, "yes"),
            }
        }
    })
    .await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    assert_eq!(counts(&gateway.stats().await), [0, 0, 0, 0]);
    assert_eq!(gateway.stats().await["last_request_time"], Value::Null);
    let counted = async |expected: [u64; 4]| {
        let stats = gateway.until(&format!("{expected:?}"), |stats| counts(stats)[0] >= expected[0]).await;
        assert_eq!(counts(&stats), expected);
    };
    get(gateway.address, "/x").await;
    counted([1, 1, 0, 1]).await;
    post(gateway.address, "/fails", "{}").await;
    counted([2, 1, 1, 2]).await;
    get(gateway.address, "/puppet/trap").await;
    counted([3, 1, 2, 3]).await;
    ask(gateway.address, "GET", "/x", &[]).await;
    counted([4, 1, 3, 3]).await;
    // The client goes before the reply's head …
    let mut raw = Raw::connect(gateway.address).await;
    let seen = upstream.accepted();
    raw.write(format!("GET /never HTTP/1.1\r\nhost: h\r\nx-api-key: {KEY}\r\n\r\n")).await;
    gateway.until("it is under way", |stats| stats["in_flight"] == 1).await;
    drop(raw);
    counted([5, 1, 4, 4]).await;
    assert!(upstream.accepted() >= seen);
    // … and in the middle of it.
    sender.send(Ok(hyper::body::Frame::data("some".into()))).unwrap();
    let request = request("GET", "/stream", &[("x-api-key", KEY), ("host", "h")], "");
    let mut reply = open(gateway.address, request).await;
    reply.frame().await.unwrap().unwrap();
    drop(reply);
    counted([6, 1, 5, 5]).await;
    let stats = gateway.until("all are done", |stats| stats["in_flight"] == 0).await;
    assert_eq!(stats["success_rate"], 16.67);
    assert_eq!(counts(&stats), [6, 1, 5, 5]);
}

#[tokio::test]
async fn connections_and_exchanges_under_way_are_shown() {
    let upstream = Upstream::start(|_| std::future::pending()).await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let mut raws = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::connect(gateway.address).await;
        raw.write(format!("GET /x HTTP/1.1\r\nhost: h\r\nx-api-key: {KEY}\r\n\r\n")).await;
        raws.push(raw);
    }
    // The one that asks is a connection too.
    gateway.until("three exchanges", |stats| stats["in_flight"] == 3 && stats["connections"] == 4).await;
    drop(raws);
    gateway.until("none", |stats| stats["in_flight"] == 0 && stats["connections"] == 1).await;
}

#[tokio::test]
async fn a_websocket_asked_for_is_counted_as_one() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1")).await;
    let upgrade = [("x-api-key", KEY), ("connection", "Upgrade"), ("upgrade", "websocket")];
    ask(gateway.address, "GET", "/x", &upgrade).await;
    let stats = gateway.until("it is counted", |stats| stats["total_requests"] == 1).await;
    let protocols = &stats["protocol_stats"];
    assert_eq!((&protocols["http_requests"], &protocols["websocket_requests"]), (&json!(0), &json!(1)));
}

#[tokio::test]
async fn the_dashboard_loads_nothing_from_elsewhere_and_says_so() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1")).await;
    let reply = page(&gateway, "/dashboard").await;
    let policy = reply.header("content-security-policy").expect("a policy");
    let html = reply.text();
    assert!(html.starts_with("<!doctype html>") && html.contains("`/stats?"), "it asks for /stats");
    // Names that are no addresses: of SVG, and of the charts' library in its licence.
    let own = html.replace("http://www.w3.org/2000/svg", "").replace("https://github.com/leeoniya/uPlot", "");
    assert!(!own.contains("http://") && !own.contains("https://") && !own.contains("innerHTML"));
    for directive in
        ["default-src 'none'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(directive), "{directive}: {policy}");
    }
    assert!(!policy.contains("unsafe-eval") && !policy.contains('*'), "{policy}");
    // Only the page's own script and style run, by their hashes.
    assert!(!policy.contains("unsafe-inline"), "{policy}");
    for (tag, directive) in [("script", "script-src"), ("style", "style-src")] {
        let text = html.split_once(&format!("<{tag}>")).unwrap().1.split_once(&format!("</{tag}>")).unwrap().0;
        let hash = STANDARD.encode(sha256(text.as_bytes()));
        assert!(policy.contains(&format!("{directive} 'sha256-{hash}'")), "{hash}: {policy}");
    }
}
