//! A router plugin chooses among the channels of a key that has several; one that fails costs nothing.

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::binary;
use crate::support::{Answer, Conf, Gateway, KEY, Upstream, channel, guests, reply, send};

/// Four channels `a` to `d` (the last is disabled) on upstreams that answer with their names, and the marshal as router.
async fn gateway(behaviour: &str) -> (Gateway, Vec<Upstream>) {
    let (conf, upstreams) = conf(behaviour).await;
    (Gateway::start(conf).await, upstreams)
}

async fn conf(behaviour: &str) -> (Conf, Vec<Upstream>) {
    let mut upstreams = Vec::new();
    let mut channels = json!({});
    for (name, priority) in [("a", 3), ("b", 2), ("c", 1), ("d", 0)] {
        let upstream = Upstream::start(move |_| async move { reply(200, name) }).await;
        channels[name] = channel(&upstream.url());
        channels[name]["priority"] = json!(priority);
        upstreams.push(upstream);
    }
    channels["d"]["status"] = json!("disabled");
    let conf = Conf::new("http://127.0.0.1:1")
        .channels(channels)
        .keys(json!([
            {"proxy_key": KEY, "id": "tester", "channels": ["a", "b", "c", "d"]},
            {"proxy_key": "sk-single-0123456789", "id": "single", "channel": "b"},
        ]))
        .gateway("router", json!({"plugin": "marshal", "settings": {"behaviour": behaviour}}));
    conf.plugin("marshal", guests::marshal());
    (conf, upstreams)
}

async fn ask(gateway: &Gateway, key: &str, path: &str, order: Option<&str>) -> Answer {
    let mut request = Request::post(path).header("x-api-key", key).header("content-type", "application/json");
    if let Some(order) = order {
        request = request.header("x-order", order);
    }
    send(gateway.address, request.body(Full::from(r#"{"model": "m-1"}"#)).expect("a request")).await
}

async fn fallbacks(gateway: &Gateway) -> u64 {
    gateway.stats().await["router"]["fallbacks"].as_u64().expect("a count")
}

#[tokio::test]
async fn the_first_in_its_order_serves() {
    let (gateway, _upstreams) = gateway("").await;
    for (order, served) in [("b,a", "b"), ("c", "c"), ("c,b,a", "c"), ("a,c", "a")] {
        assert_eq!(ask(&gateway, KEY, "/x", Some(order)).await.text(), served, "{order}");
    }
    assert_eq!(ask(&gateway, KEY, "/x", None).await.text(), "a", "they come in the built-in order");
    assert_eq!(fallbacks(&gateway).await, 0);
}

#[tokio::test]
async fn a_candidate_that_declined_is_none_and_a_refusal_counts_where_it_would_serve() {
    let (mut conf, _upstreams) = conf("reverse").await;
    conf.write_channels(|channels| {
        channels["c"]["settings"] = json!({"behaviour": "decline"});
        channels["a"]["settings"] = json!({"behaviour": "refuse/451/gone/it is gone"});
    });
    let gateway = Gateway::start(conf).await;
    assert_eq!(ask(&gateway, KEY, "/x", None).await.text(), "b");
}

#[tokio::test]
async fn a_refusing_plugin_that_comes_first_ends_the_exchange() {
    let (mut conf, _upstreams) = conf("").await;
    conf.write_channels(|channels| channels["a"]["settings"] = json!({"behaviour": "refuse/451/gone/it is gone"}));
    let gateway = Gateway::start(conf).await;
    assert_eq!(ask(&gateway, KEY, "/x", Some("a,b")).await.code(), "gone");
    assert_eq!(ask(&gateway, KEY, "/x", Some("b,a")).await.text(), "b");
}

#[tokio::test]
async fn a_candidate_whose_plugin_fails_is_passed_over() {
    let (mut conf, _upstreams) = conf("").await;
    conf.write_channels(|channels| channels["a"]["settings"] = json!({"behaviour": "trap"}));
    let gateway = Gateway::start(conf).await;
    assert_eq!(ask(&gateway, KEY, "/x", None).await.text(), "b");
}

#[tokio::test]
async fn it_sees_the_request_the_caller_and_the_candidates_with_their_signals() {
    let (gateway, _upstreams) = gateway("tell").await;
    let told = |reply: Answer| {
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (429, "told"));
        serde_json::from_str::<Value>(reply.json()["error"]["message"].as_str().expect("text")).expect("JSON")
    };
    let expected = |signals: &[&str]| {
        json!({"model": "m-1", "path": "/v1/x", "caller": "tester", "candidates": [
            ["a", 3, 0, true, ["in-flight"]],
            ["b", 2, 0, true, signals],
            ["c", 1, 0, true, ["in-flight"]],
        ]})
    };
    assert_eq!(told(ask(&gateway, KEY, "/v1/x", None).await), expected(&["in-flight"]));
    assert_eq!(ask(&gateway, "sk-single-0123456789", "/x", None).await.text(), "b", "one channel needs no router");
    gateway.until("the exchange has ended", |stats| stats["channel_stats"]["b"]["requests"] == 1).await;
    let all = ["in-flight", "latency-ms", "error-rate"];
    assert_eq!(told(ask(&gateway, KEY, "/v1/x", None).await), expected(&all));
}

#[tokio::test]
async fn its_refusal_is_the_reply_and_without_any_channel_it_is_404() {
    let (refusing, _upstreams) = gateway("refuse").await;
    let reply = ask(&refusing, KEY, "/x", None).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (429, "all_full"));
    let (emptying, _upstreams) = gateway("none").await;
    assert_eq!(ask(&emptying, KEY, "/x", None).await.code(), "no_channel_for_request");
}

#[tokio::test]
async fn when_it_fails_the_built_in_order_holds_and_that_is_counted_and_shown() {
    for (behaviour, said) in [
        ("trap", "it trapped"),
        ("exit", "it trapped"),
        ("loop", "too long"),
        ("sleep", "it tried to wait"),
        ("eat", "more memory than it may have"),
        ("huge", "its answer is invalid"),
        ("many", "which is no candidate"),
        ("unknown", "\"elsewhere\" which is no candidate"),
        ("forged", r"\r\nforged: \u{1b}[2Jxxx"),
        ("twice", "twice"),
        ("refuse-with-200", "status 200"),
        ("refuse-forged", r"\r\nforged: 1"),
    ] {
        let (conf, _upstreams) = conf(behaviour).await;
        // Little memory, and for what is to end otherwise than by a deadline time enough on a busy machine.
        let deadline_ms = if behaviour == "loop" { 10 } else { 5000 };
        let sandbox = json!({"memory_bytes_max": 8 << 20, "deadline_ms": deadline_ms});
        let gateway = Gateway::start(conf.gateway("sandbox", sandbox)).await;
        for asked in 1..=3 {
            assert_eq!(ask(&gateway, KEY, "/x", None).await.text(), "a", "{behaviour}");
            assert_eq!(fallbacks(&gateway).await, asked, "{behaviour}");
        }
        let stats = gateway.stats().await;
        let events = stats["events"].as_array().expect("events");
        let is_it = |event: &&Value| event["subject"] == "marshal" && event["kind"] == "plugin";
        let shown: Vec<_> = events.iter().filter(is_it).filter_map(|event| event["message"].as_str()).collect();
        assert!(shown.iter().any(|message| message.contains(said)), "{behaviour}: {shown:?}");
        assert!(
            shown.iter().all(|message| !message.contains(char::is_control) && message.len() < 500),
            "{behaviour}: {shown:?}"
        );
    }
}

#[tokio::test]
async fn a_router_that_cannot_be_configured_is_refused_and_the_old_one_serves_on() {
    let (gateway, _upstreams) = gateway("reverse").await;
    assert_eq!(ask(&gateway, KEY, "/x", None).await.text(), "c");
    let with = |router: Value| json!({"access_log": "off", "router": router}).to_string();
    for (router, reason) in [
        (json!({"plugin": "marshal", "settings": {"behaviour": "fail"}}), "the marshal has lost the way"),
        (json!({"plugin": "nowhere"}), "there is no file"),
        (json!({"plugin": "puppet"}), "a plugin is one of the two"),
    ] {
        gateway.conf.write_file("gateway.json", &with(router));
        gateway.refuses("gateway.json", reason).await;
        assert_eq!(ask(&gateway, KEY, "/x", None).await.text(), "c");
    }
    gateway.conf.write_file("gateway.json", &with(Value::Null));
    gateway.until("there is no router", |stats| stats["router"].is_null()).await;
    assert_eq!(ask(&gateway, KEY, "/x", None).await.text(), "a");
}

#[tokio::test]
async fn check_names_it_and_explain_tells_its_order() {
    let (conf, _upstreams) = conf("reverse").await;
    conf.write();
    let command = |name: &str, arguments: &[&str]| {
        let mut command = binary::aiproxy(&[name]);
        command.arg("--conf").arg(conf.conf()).arg("--plugins").arg(conf.plugins());
        command.args(arguments);
        binary::run(command)
    };
    let ran = command("check", &[]).await;
    assert!(ran.stdout.contains("router: plugin marshal "), "{ran:?}");
    let ran = command("explain", &["--key", "tester", "POST", "/x"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for text in
        ["a: sends", "c: sends", "router     marshal: has them tried in this order", "c, b, a", "channel    c (C)"]
    {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
}

/// The routers inside the binary.
mod embedded {
    use super::*;

    async fn gateway(router: Value) -> (Gateway, Vec<Upstream>) {
        let (conf, upstreams) = conf("").await;
        (Gateway::start(conf.gateway("router", router)).await, upstreams)
    }

    #[tokio::test]
    async fn least_busy_leads_away_from_a_channel_at_work() {
        let (feed, body) = crate::support::stream();
        let body = std::sync::Arc::new(std::sync::Mutex::new(Some(body)));
        let busy = Upstream::start(move |_| {
            let body = body.lock().expect("no panic").take();
            async move { body.map_or_else(|| reply(200, "busy"), http::Response::new) }
        })
        .await;
        let idle = Upstream::start(|_| async { reply(200, "idle") }).await;
        let channels = json!({"busy": channel(&busy.url()), "idle": channel(&idle.url())});
        let keys = json!([{"proxy_key": KEY, "id": "tester", "channels": ["busy", "idle"]}]);
        let conf = Conf::new("http://127.0.0.1:1").channels(channels).keys(keys);
        let gateway = Gateway::start(conf.gateway("router", json!({"plugin": "least-busy"}))).await;
        let mut streaming = crate::support::Raw::connect(gateway.address).await;
        streaming.write(crate::support::request("GET /x", &[])).await;
        feed.send(Ok(hyper::body::Frame::data("begun".into()))).expect("the reply is wanted");
        streaming.read_until("begun").await;
        for _ in 0..5 {
            assert_eq!(ask(&gateway, KEY, "/x", None).await.text(), "idle");
        }
    }

    #[tokio::test]
    async fn spread_gives_the_same_caller_the_same_channel() {
        for (percent, served) in [(json!({"c": 100}), "c"), (json!({"b": 100, "c": 0}), "b")] {
            let router = json!({"plugin": "spread", "settings": {"percent": percent}});
            let (gateway, _upstreams) = gateway(router).await;
            for _ in 0..5 {
                assert_eq!(ask(&gateway, KEY, "/x", None).await.text(), served);
            }
        }
    }

    #[tokio::test]
    async fn settings_that_it_does_not_take_are_said_with_their_place() {
        let (gateway, _upstreams) = gateway(json!({"plugin": "spread"})).await;
        let router = json!({"plugin": "spread", "settings": {"percent": {"a": 60, "b": 60}}});
        gateway.conf.write_file("gateway.json", &json!({"access_log": "off", "router": router}).to_string());
        gateway.refuses("gateway.json", "settings.percent").await;
    }
}
