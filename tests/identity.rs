//! Proxy keys: every form is accepted, none travels on, and what is wrong with one is said.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::{Answer, Conf, Gateway, KEY, UPSTREAM_KEY, Upstream, ask, channel};

const CREDENTIAL_HEADERS: [&str; 3] = ["x-api-key", "api-key", "x-goog-api-key"];

/// GET with these headers and nothing else.
async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(address, "GET", path, headers).await
}

/// Status and code of a refusal.
async fn refusal(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let reply = get(gateway.address, path, headers).await;
    (reply.status.as_u16(), reply.code())
}

#[tokio::test]
async fn every_form_opens_the_channel_and_is_told_to_the_plugin_and_removed() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let bearers =
        [format!("Bearer {KEY}"), format!("bearer {KEY}"), format!("BEARER   {KEY} "), format!("bEaReR {KEY}")];
    let mut forms: Vec<(&str, &str, String, &str)> = Vec::new();
    forms.extend(
        bearers.iter().map(|value| ("authorization", value.as_str(), "/x?a=%2F&b".into(), "authorization bearer")),
    );
    forms.push(("x-api-key", KEY, "/x?a=%2F&b".into(), "header x-api-key"));
    forms.push(("api-key", KEY, "/x?a=%2F&b".into(), "header api-key"));
    forms.push(("x-goog-api-key", KEY, "/x?a=%2F&b".into(), "header x-goog-api-key"));
    forms.push(("x-other", "1", format!("/x?a=%2F&key={KEY}&b"), "query key"));
    forms.push(("x-other", "1", format!("/x?key={}&a=%2F&b", KEY.replace('-', "%2D")), "query key"));
    for (name, value, path, presented) in forms {
        let reply = get(gateway.address, &path, &[(name, value)]).await;
        assert_eq!(reply.status, 200, "{name} {path}: {reply:?}");
        assert_eq!(reply.echoed("x-puppet-saw-presented"), [presented], "{name}: {value}");
        assert_eq!(reply.echoed("x-puppet-saw-query"), ["a=%2F&b"]);
        assert_eq!(reply.echoed("x-puppet-saw-caller"), ["tester"]);
        assert_eq!(reply.echoed_line(), "GET /x?a=%2F&b");
        assert_eq!(reply.echoed("authorization"), [format!("Bearer {UPSTREAM_KEY}")]);
        for header in CREDENTIAL_HEADERS {
            assert!(reply.echoed(header).is_empty(), "{header} went upstream");
        }
        assert!(!reply.text().contains(KEY) && !reply.text().contains("%2Dtest"), "{}", reply.text());
    }
}

#[tokio::test]
async fn a_key_parameter_whose_name_is_percent_encoded_is_one_all_the_same() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    for name in ["k%65y", "%6B%65%79", "%6bey"] {
        let reply = get(gateway.address, &format!("/x?a=%2F&{name}={KEY}&b"), &[]).await;
        assert_eq!(reply.status, 200, "{name}: {reply:?}");
        assert_eq!(reply.echoed_line(), "GET /x?a=%2F&b", "{name}");
        assert_eq!(reply.echoed("x-puppet-saw-query"), ["a=%2F&b"], "{name}");
        let beside = format!("/x?{name}=sk-another-1");
        assert_eq!(refusal(&gateway, &beside, &[("x-api-key", KEY)]).await, (400, "proxy_keys_differ".to_owned()));
    }
    let reply = get(gateway.address, "/x?k%2565y=1", &[("x-api-key", KEY)]).await;
    assert_eq!(reply.echoed_line(), "GET /x?k%2565y=1", "encoded twice it is another name");
}

#[tokio::test]
async fn a_credential_in_the_query_never_has_another_of_its_name_beside_it() {
    let upstream = Upstream::echo().await;
    let settings = json!({"plan": {"credentials": [["key", "query", "api-version.token"]]}});
    let gateway = Gateway::start(Conf::new(&upstream.url()).settings(settings)).await;
    let theirs = "api-version.token=theirs&a=%2F&api%2dversion%2Etoken=theirs&b&api-version.token";
    for (query, kept) in [(theirs, "a=%2F&b&"), ("api%2Dversion.token=theirs", ""), ("a=1&&b", "a=1&&b&"), ("", "")] {
        let reply = get(gateway.address, &format!("/x?{query}"), &[("x-api-key", KEY)]).await;
        let expected = format!("GET /x?{kept}api-version.token={UPSTREAM_KEY}");
        assert_eq!(reply.echoed_line(), expected, "{query}");
    }
}

#[tokio::test]
async fn a_query_of_nothing_but_the_key_leaves_no_question_mark() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let reply = get(gateway.address, &format!("/x?key={KEY}"), &[]).await;
    assert_eq!((reply.echoed_line(), reply.echoed("x-puppet-saw-query")), ("GET /x", vec!["none"]));
}

#[tokio::test]
async fn a_foreign_credential_beside_the_key_is_removed_too() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url()).settings(json!({"plan": {"credentials": []}}))).await;
    let reply = get(gateway.address, "/x", &[("authorization", "Basic c2VjcmV0"), ("x-api-key", KEY)]).await;
    assert_eq!((reply.status.as_u16(), reply.echoed("authorization")), (200, vec![]));
}

#[tokio::test]
async fn the_same_key_in_several_forms_is_one_key() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let bearer = format!("Bearer {KEY}");
    let everywhere =
        [("x-goog-api-key", KEY), ("authorization", bearer.as_str()), ("x-api-key", KEY), ("api-key", KEY)];
    let reply = get(gateway.address, &format!("/x?key={KEY}&key={KEY}"), &everywhere).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.echoed("x-puppet-saw-presented"), ["authorization bearer"]);
    assert!(!reply.text().contains(KEY), "{}", reply.text());
}

#[tokio::test]
async fn two_keys_that_differ_are_refused_even_if_both_are_known() {
    let upstream = Upstream::echo().await;
    let keys = json!([{"proxy_key": KEY, "id": "a", "channel": "c"}, {"proxy_key": "sk-another-1", "id": "b", "channel": "c"}]);
    let gateway = Gateway::start(Conf::new(&upstream.url()).keys(keys)).await;
    let bearer = format!("Bearer {KEY}");
    let bearer = ("authorization", bearer.as_str());
    let differ = (400, "proxy_keys_differ".to_owned());
    assert_eq!(refusal(&gateway, "/x", &[bearer, ("x-api-key", "sk-another-1")]).await, differ);
    assert_eq!(refusal(&gateway, "/x", &[bearer, ("authorization", "Bearer sk-another-1")]).await, differ);
    assert_eq!(refusal(&gateway, "/x?key=sk-another-1", &[bearer]).await, differ);
    assert_eq!(refusal(&gateway, &format!("/x?key=sk-another-1&key={KEY}"), &[]).await, differ);
    assert_eq!(refusal(&gateway, "/x", &[("api-key", KEY), ("x-goog-api-key", "sk-another-1")]).await, differ);
    assert_eq!(upstream.accepted(), 0, "nothing is sent for a refused key");
}

#[tokio::test]
async fn a_missing_or_malformed_key_is_401_and_an_unknown_or_disabled_one_403() {
    let upstream = Upstream::echo().await;
    let keys = json!([
        {"proxy_key": KEY, "id": "tester", "channel": "c"},
        {"proxy_key": "sk-disabled-1", "id": "off", "channel": "c", "status": "disabled"},
        {"proxy_key": "sk-inactive-1", "id": "idle", "channel": "c", "status": "inactive"},
    ]);
    let gateway = Gateway::start(Conf::new(&upstream.url()).keys(keys)).await;
    let missing = (401, "proxy_key_missing".to_owned());
    assert_eq!(refusal(&gateway, "/x", &[]).await, missing);
    assert_eq!(refusal(&gateway, "/x?Key=sk-test&keys=1", &[("cookie", "key=sk")]).await, missing);
    let malformed = (401, "proxy_key_malformed".to_owned());
    for value in ["Bearer", "Bearer ", "Basic dTpw", "sk-test-0123456789", "Bearersk-test-0123456789", "Bearer a b"] {
        assert_eq!(refusal(&gateway, "/x", &[("authorization", value)]).await, malformed, "{value:?}");
    }
    assert_eq!(refusal(&gateway, "/x?key=", &[]).await, malformed);
    assert_eq!(refusal(&gateway, "/x?key=a%00b", &[]).await, malformed);
    assert_eq!(refusal(&gateway, "/x", &[("x-api-key", "")]).await, malformed);
    let unknown = (403, "proxy_key_unknown".to_owned());
    for key in ["sk-nobody-knows", "SK-TEST-0123456789", "sk-test-012345678", "sk-test-01234567890"] {
        assert_eq!(refusal(&gateway, "/x", &[("x-api-key", key)]).await, unknown, "{key}");
    }
    let disabled = (403, "proxy_key_disabled".to_owned());
    assert_eq!(refusal(&gateway, "/x", &[("x-api-key", "sk-disabled-1")]).await, disabled);
    assert_eq!(refusal(&gateway, "/x", &[("x-api-key", "sk-inactive-1")]).await, disabled);
    assert_eq!(upstream.accepted(), 0, "nothing is sent for a refused key");
}

#[tokio::test]
async fn a_401_names_the_scheme_to_use() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1")).await;
    assert_eq!(get(gateway.address, "/x", &[]).await.header("www-authenticate"), Some("Bearer"));
}

#[tokio::test]
async fn a_disabled_channel_is_503() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url()).set("status", "disabled")).await;
    assert_eq!(refusal(&gateway, "/x", &[("x-api-key", KEY)]).await, (503, "channel_disabled".to_owned()));
    assert_eq!(upstream.accepted(), 0);
}

/// Upstream keys that are not there.
fn not_keys() -> [Value; 4] {
    [json!("${AIPROXY_TEST_NEVER_SET}"), json!("YOUR_API_KEY_HERE"), json!(""), Value::Null]
}

#[tokio::test]
async fn a_channel_without_its_upstream_key_is_503_where_the_plan_asks_for_the_key() {
    let upstream = Upstream::echo().await;
    for api_key in not_keys() {
        let conf = Conf::new(&upstream.url()).set("api_key", api_key.clone());
        let gateway = Gateway::start(conf).await;
        let reply = get(gateway.address, "/x", &[("x-api-key", KEY)]).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (503, "channel_unavailable"), "{api_key}");
        assert!(!reply.text().contains("NEVER_SET"), "why is for the operator: {}", reply.text());
    }
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn a_channel_without_an_upstream_key_serves_where_the_plan_asks_for_none() {
    let upstream = Upstream::echo().await;
    for api_key in not_keys() {
        let conf = Conf::new(&upstream.url()).set("api_key", api_key.clone());
        let gateway = Gateway::start(conf.settings(json!({"plan": {"credentials": []}}))).await;
        let reply = get(gateway.address, "/x", &[("x-api-key", KEY)]).await;
        assert_eq!((reply.status.as_u16(), reply.echoed("authorization")), (200, vec![]), "{api_key}");
    }
}

#[tokio::test]
async fn a_provider_for_which_no_key_was_given_is_not_called_unavailable() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1").set("api_key", Value::Null)).await;
    assert_eq!(gateway.stats().await["channel_stats"]["c"]["status"], "active");
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1").set("api_key", "${AIPROXY_TEST_NEVER_SET}")).await;
    assert_eq!(gateway.stats().await["channel_stats"]["c"]["status"], "unavailable");
}

#[tokio::test]
async fn of_several_channels_the_next_that_can_serve_does() {
    let upstream = Upstream::echo().await;
    let with = |field: &str, value: &str| {
        let mut channel = channel(&upstream.url());
        channel[field] = value.into();
        channel
    };
    let conf = Conf::new(&upstream.url()).set("status", "disabled");
    let conf = conf.channel("keyless", with("api_key", "${AIPROXY_TEST_NEVER_SET}"));
    let conf = conf.channel("good", with("api_key", "the-good-key-0123"));
    let keys = json!([{"proxy_key": KEY, "id": "k", "channels": ["c", "keyless", "good"]}]);
    let gateway = Gateway::start(conf.keys(keys)).await;
    let reply = get(gateway.address, "/x", &[("x-api-key", KEY)]).await;
    assert_eq!(reply.echoed("authorization"), ["Bearer the-good-key-0123"]);
}

/// Channels by id with their priority and weight, each marked by its own key; the key lists them in this order.
async fn gateway_of(channels: &[(&str, i32, u32)], upstream: &Upstream) -> Gateway {
    let mut conf = Conf::new(&upstream.url());
    for (id, priority, weight) in channels {
        let mut channel = channel(&upstream.url());
        channel["api_key"] = json!(format!("key-of-{id}-0123"));
        channel["priority"] = json!(priority);
        channel["weight"] = json!(weight);
        conf = conf.channel(id, channel);
    }
    let ids: Vec<_> = channels.iter().map(|(id, _, _)| id).collect();
    Gateway::with_workers(conf.keys(json!([{"proxy_key": KEY, "id": "k", "channels": ids}])), 1).await
}

/// How often each channel served.
async fn shares(gateway: &Gateway, requests: usize) -> HashMap<String, usize> {
    let mut shares = HashMap::new();
    for _ in 0..requests {
        let reply = get(gateway.address, "/x", &[("x-api-key", KEY)]).await;
        *shares.entry(reply.echoed("authorization").concat()).or_default() += 1;
    }
    shares
}

#[tokio::test]
async fn the_channel_of_the_highest_priority_serves_whatever_the_weights() {
    let upstream = Upstream::echo().await;
    let gateway = gateway_of(&[("low", -1, 9), ("middle", 0, 100), ("high", 5, 0)], &upstream).await;
    assert_eq!(shares(&gateway, 10).await, HashMap::from([("Bearer key-of-high-0123".into(), 10)]));
}

#[tokio::test]
async fn channels_of_equal_priority_and_no_weight_serve_in_the_keys_order() {
    let upstream = Upstream::echo().await;
    let gateway = gateway_of(&[("zulu", 0, 0), ("alpha", 0, 0), ("mike", 0, 0)], &upstream).await;
    assert_eq!(shares(&gateway, 10).await, HashMap::from([("Bearer key-of-zulu-0123".into(), 10)]));
}

#[tokio::test]
async fn weights_share_the_requests_and_a_channel_without_one_comes_last() {
    let upstream = Upstream::echo().await;
    let gateway = gateway_of(&[("none", 0, 0), ("three", 0, 3), ("one", 0, 1)], &upstream).await;
    let shares = shares(&gateway, 120).await;
    assert!(!shares.contains_key("Bearer key-of-none-0123"), "{shares:?}");
    // 90 are expected; the bounds are more than six standard deviations away.
    assert!((60..118).contains(&shares["Bearer key-of-three-0123"]), "{shares:?}");
}
