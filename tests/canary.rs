//! A new version of a plugin serves a share of a channel's exchanges first, and is withdrawn if it does worse.

use aiproxy_host::digest::{hex, sha256};
use aiproxy_host::generation::requests::Wish;
use serde_json::{Value, json};

use crate::support::loaded::{plugin, version};
use crate::support::{Conf, Gateway, Upstream, channel, get, reply};

fn hash(letter: u8) -> String {
    hex(&sha256(&version(letter)))
}

/// The puppet in version A, on a channel that compares for so many minutes.
fn conf(upstream: &Upstream, minutes: f64) -> Conf {
    let conf = Conf::new(&upstream.url()).set("canary", json!({"percent": 50, "minutes": minutes}));
    conf.plugin("puppet", &version(b'A'));
    conf
}

/// Fails where version B sent the request.
async fn failing_b() -> Upstream {
    Upstream::start(|request| {
        let is_b = request.headers()["x-puppet-mark"] == "MARK-BBBBBBBBBBBB";
        async move { if is_b { reply(500, "B") } else { reply(200, "A") } }
    })
    .await
}

async fn on_trial(gateway: &Gateway, letter: u8) {
    let hash = hash(letter);
    gateway.until("a trial", |stats| plugin(stats, "puppet")["trial"] == *hash).await;
}

/// Asks until `/stats` shows what is waited for.
async fn asking_until(gateway: &Gateway, what: &str, shows: impl Fn(&Value) -> bool) -> Value {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_mins(1);
    loop {
        for _ in 0..20 {
            get(gateway.address, "/x").await;
        }
        let stats = gateway.stats().await;
        if shows(&stats) {
            return stats;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}: {stats:#}");
    }
}

#[tokio::test]
async fn a_version_that_does_as_well_serves_its_share_and_then_all() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(conf(&upstream, 0.01)).await;
    gateway.conf.plugin("puppet", &version(b'B'));
    on_trial(&gateway, b'B').await;
    let mut marks = std::collections::HashSet::new();
    while marks.len() < 2 {
        marks.insert(gateway.mark().await);
    }
    let trial = gateway.stats().await["channel_stats"]["c"]["trial"].clone();
    assert_eq!((&trial["version"], &trial["percent"]), (&json!(hash(b'B')), &json!(50)), "{trial}");
    let promoted = |stats: &Value| plugin(stats, "puppet")["version"] == *hash(b'B');
    let stats = asking_until(&gateway, "the new version is promoted", promoted).await;
    assert!(plugin(&stats, "puppet")["trial"].is_null() && stats["channel_stats"]["c"]["trial"].is_null());
    assert!(stats["events"].to_string().contains("has passed its trial"), "{}", stats["events"]);
    for _ in 0..20 {
        assert_eq!(gateway.mark().await, "MARK-BBBBBBBBBBBB");
    }
}

#[tokio::test]
async fn a_version_whose_requests_fail_upstream_is_withdrawn_by_itself_before_the_window_ends() {
    let upstream = failing_b().await;
    let gateway = Gateway::start(conf(&upstream, 600.0)).await;
    gateway.conf.plugin("puppet", &version(b'B'));
    on_trial(&gateway, b'B').await;
    let withdrawn = |stats: &Value| plugin(stats, "puppet")["last_error"].is_string();
    let stats = asking_until(&gateway, "the new version is withdrawn", withdrawn).await;
    let shown = plugin(&stats, "puppet");
    assert_eq!((&shown["version"], &shown["pin"]["version"]), (&json!(hash(b'A')), &json!(hash(b'A'))));
    assert!(shown["last_error"].as_str().is_some_and(|error| error.contains("upstream errors")), "{shown}");
    assert!(stats["events"].to_string().contains("was withdrawn from its trial"), "{}", stats["events"]);
    for _ in 0..20 {
        assert_eq!(get(gateway.address, "/x").await.status, 200);
    }
}

#[tokio::test]
async fn a_version_that_fails_by_itself_is_withdrawn_and_stays_so_after_a_restart() {
    let upstream = Upstream::echo().await;
    let conf = conf(&upstream, 600.0).settings(json!({"behaviour_of": {"MARK-BBBBBBBBBBBB": "trap"}}));
    let mut gateway = Gateway::start(conf).await;
    gateway.conf.plugin("puppet", &version(b'B'));
    on_trial(&gateway, b'B').await;
    let withdrawn = |stats: &Value| plugin(stats, "puppet")["last_error"].is_string();
    let stats = asking_until(&gateway, "the new version is withdrawn", withdrawn).await;
    assert!(plugin(&stats, "puppet")["last_error"].to_string().contains("plugin failures"));
    gateway.stop();
    gateway.ended().await;
    let gateway = gateway.restart().await;
    assert_eq!(gateway.mark().await, "MARK-AAAAAAAAAAAA");
    assert!(plugin(&gateway.stats().await, "puppet")["trial"].is_null());
}

#[tokio::test]
async fn a_restart_during_a_trial_begins_it_anew() {
    let upstream = Upstream::echo().await;
    let mut gateway = Gateway::start(conf(&upstream, 600.0)).await;
    gateway.conf.plugin("puppet", &version(b'B'));
    on_trial(&gateway, b'B').await;
    gateway.stop();
    gateway.ended().await;
    let gateway = gateway.restart().await;
    let stats = gateway.stats().await;
    assert_eq!(plugin(&stats, "puppet")["version"], hash(b'A'));
    assert_eq!(plugin(&stats, "puppet")["trial"], hash(b'B'));
}

#[tokio::test]
async fn with_few_exchanges_the_trial_goes_on_and_a_newer_version_takes_its_place() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(conf(&upstream, 0.01)).await;
    gateway.conf.plugin("puppet", &version(b'B'));
    on_trial(&gateway, b'B').await;
    // The window of 0.6 seconds is long over when a third version has come.
    gateway.conf.plugin("puppet", &version(b'C'));
    on_trial(&gateway, b'C').await;
    gateway.conf.plugin("puppet", &version(b'A'));
    let ended = |stats: &Value| plugin(stats, "puppet")["trial"].is_null();
    let stats = gateway.until("the trial is given up", ended).await;
    assert_eq!(plugin(&stats, "puppet")["version"], hash(b'A'));
}

#[tokio::test]
async fn channels_without_a_canary_have_the_new_version_at_once() {
    let upstream = Upstream::echo().await;
    let keys = json!([
        {"proxy_key": crate::support::KEY, "id": "tester", "channel": "c"},
        {"proxy_key": "sk-other-0123456789", "id": "other", "channel": "other"},
    ]);
    let conf = conf(&upstream, 600.0).channel("other", channel(&upstream.url())).keys(keys);
    let gateway = Gateway::start(conf).await;
    gateway.conf.plugin("puppet", &version(b'B'));
    on_trial(&gateway, b'B').await;
    let request = http::Request::get("/").header("x-api-key", "sk-other-0123456789");
    let request = request.body(http_body_util::Full::default()).expect("a request");
    let reply = crate::support::send(gateway.address, request).await;
    assert_eq!(reply.echoed("x-puppet-mark"), ["MARK-BBBBBBBBBBBB"]);
    assert!(gateway.stats().await["channel_stats"]["other"]["trial"].is_null());
}

#[tokio::test]
async fn a_newer_version_that_does_not_fit_leaves_the_trial_as_it_is_and_so_does_a_rollback_that_fails() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(conf(&upstream, 600.0)).await;
    gateway.conf.plugin("puppet", &version(b'B'));
    on_trial(&gateway, b'B').await;
    gateway.conf.plugin("puppet", &crate::support::loaded::needy());
    gateway.refuses("puppet.wasm", "wants the setting `needed`").await;
    assert_eq!(plugin(&gateway.stats().await, "puppet")["trial"], hash(b'B'));
    let wish = Wish::Rollback { plugin: "puppet".into(), version: Some("ffff".into()) };
    let answer = gateway.shared.wisher.get().expect("it watches").ask(wish).await.expect("an answer");
    assert!(!answer.done, "{answer:?}");
    assert_eq!(plugin(&gateway.stats().await, "puppet")["trial"], hash(b'B'));
    // Without a version: what served before the trial, and that is the end of it.
    let wish = Wish::Rollback { plugin: "puppet".into(), version: None };
    let answer = gateway.shared.wisher.get().expect("it watches").ask(wish).await.expect("an answer");
    assert_eq!(answer.version, Some(hash(b'A')), "{answer:?}");
    let stats = gateway.stats().await;
    assert!(plugin(&stats, "puppet")["trial"].is_null() && stats["channel_stats"]["c"]["trial"].is_null());
}

#[tokio::test]
async fn clients_that_lose_patience_with_a_version_count_against_it() {
    let upstream = Upstream::start(|request| {
        let is_b = request.headers()["x-puppet-mark"] == "MARK-BBBBBBBBBBBB";
        async move {
            if is_b {
                std::future::pending::<()>().await;
            }
            reply(200, "A")
        }
    })
    .await;
    let gateway = Gateway::start(conf(&upstream, 600.0)).await;
    gateway.conf.plugin("puppet", &version(b'B'));
    on_trial(&gateway, b'B').await;
    let withdrawn = |stats: &Value| plugin(stats, "puppet")["last_error"].is_string();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_mins(1);
    while !withdrawn(&gateway.stats().await) {
        assert!(tokio::time::Instant::now() < deadline, "{:#}", gateway.stats().await);
        let asked = (0..20).map(|_| async {
            let patience = std::time::Duration::from_millis(300);
            let _ = tokio::time::timeout(patience, get(gateway.address, "/x")).await;
        });
        futures_util::future::join_all(asked).await;
    }
    let stats = gateway.stats().await;
    assert!(plugin(&stats, "puppet")["last_error"].to_string().contains("upstream errors"), "{stats:#}");
}

#[tokio::test]
async fn a_channel_that_is_disabled_or_served_by_another_plugin_for_a_while_promotes_nothing() {
    let upstream = Upstream::echo().await;
    let mut gateway = Gateway::start(conf(&upstream, 600.0)).await;
    gateway.conf.plugin("other", &version(b'O'));
    gateway.conf.plugin("puppet", &version(b'B'));
    on_trial(&gateway, b'B').await;
    let detours: [(&str, Value, Value); 2] =
        [("status", json!("disabled"), json!("active")), ("plugin", json!("other"), json!("puppet"))];
    for (field, away, back) in detours {
        let number = gateway.stats().await["generation"].as_u64();
        gateway.conf.write_channels(|channels| channels["c"][field] = away.clone());
        let changed = gateway.until("the change serves", |stats| stats["generation"].as_u64() > number).await;
        gateway.conf.write_channels(|channels| channels["c"][field] = back.clone());
        let number = changed["generation"].as_u64();
        let stats = gateway.until("it serves again", |stats| stats["generation"].as_u64() > number).await;
        assert_eq!(plugin(&stats, "puppet")["version"], hash(b'A'), "{field}: {stats:#}");
        assert_eq!(plugin(&stats, "puppet")["trial"], hash(b'B'), "{field}");
    }
}

#[tokio::test]
async fn a_version_on_trial_whose_file_is_taken_away_is_called_off() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(conf(&upstream, 600.0)).await;
    gateway.conf.plugin("puppet", &version(b'B'));
    on_trial(&gateway, b'B').await;
    std::fs::remove_file(gateway.conf.plugins().join("puppet.wasm")).expect("it is there");
    let ended = |stats: &Value| plugin(stats, "puppet")["trial"].is_null();
    let stats = gateway.until("the trial is given up", ended).await;
    assert_eq!(plugin(&stats, "puppet")["version"], hash(b'A'));
}
