//! Configuration reloads by itself, and each file keeps its own last good version.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::loaded::{file, needy};
use crate::support::{Conf, Gateway, KEY, Upstream, get, reply, soon};

const ANOTHER: &str = "sk-another-0123456789";
const CHANNELS: &str = "channels_config.json";
const KEYS: &str = "api_keys.json";

async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::echo().await;
    (Gateway::start(Conf::new(&upstream.url())).await, upstream)
}

fn keys(keys: &[&str]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| json!({"proxy_key": key, "channel": "c"})).collect();
    json!(keys).to_string()
}

#[tokio::test]
async fn a_key_that_is_added_works_and_one_that_is_revoked_or_disabled_is_403() {
    let (gateway, _upstream) = gateway().await;
    assert_eq!(gateway.status_for(ANOTHER).await, 403);
    gateway.conf.write_file(KEYS, &keys(&[KEY, ANOTHER]));
    gateway.answers(ANOTHER, 200).await;
    gateway.conf.write_file(KEYS, &keys(&[ANOTHER]));
    gateway.answers(KEY, 403).await;
    assert_eq!(gateway.status_for(ANOTHER).await, 200);
    let disabled = json!([{"proxy_key": ANOTHER, "channel": "c", "status": "inactive"}]).to_string();
    gateway.conf.write_file(KEYS, &disabled);
    gateway.answers(ANOTHER, 403).await;
}

#[tokio::test]
async fn a_channel_that_is_changed_added_removed_or_disabled_is_so_for_the_next_request() {
    let (mut gateway, upstream) = gateway().await;
    let other = Upstream::start(|_| async { reply(201, "other") }).await;
    gateway.conf.write_channels(|channels| channels["c"]["base_url"] = json!(other.url()));
    gateway.answers(KEY, 201).await;
    gateway.conf.write_file(KEYS, &json!([{"proxy_key": ANOTHER, "channels": ["d", "c"]}]).to_string());
    gateway.answers(ANOTHER, 201).await;
    let stats = gateway.stats().await;
    let warnings = &file(&stats, KEYS)["warnings"];
    assert!(warnings.to_string().contains("channel that does not exist"), "{warnings}");
    gateway.conf.write_channels(|channels| channels["d"] = crate::support::channel(&upstream.url()));
    gateway.answers(ANOTHER, 200).await;
    assert_eq!(file(&gateway.stats().await, KEYS)["warnings"], json!([]));
    gateway.conf.write_channels(|channels| channels["d"]["status"] = json!("inactive"));
    gateway.until("the channel is disabled", |stats| stats["channel_stats"]["d"]["status"] == "disabled").await;
    gateway.conf.write_channels(|channels| *channels = json!({"d": channels["d"]}));
    gateway.answers(ANOTHER, 503).await;
}

#[tokio::test]
async fn nothing_else_that_is_broken_holds_back_a_revoked_key() {
    let (gateway, _upstream) = gateway().await;
    gateway.conf.plugin("puppet", b"broken");
    gateway.conf.write_file(CHANNELS, "{\"channels\": {");
    gateway.conf.write_file("gateway.json", "[]");
    gateway.conf.write_file(KEYS, &keys(&[ANOTHER]));
    gateway.answers(KEY, 403).await;
    assert_eq!(gateway.status_for(ANOTHER).await, 200);
    for name in ["puppet.wasm", CHANNELS, "gateway.json"] {
        gateway.refuses(name, "").await;
    }
}

#[tokio::test]
async fn a_broken_file_serves_on_as_it_was_is_shown_with_its_place_and_can_be_mended() {
    let (mut gateway, upstream) = gateway().await;
    let first = gateway.shared.current.load_full();
    let keys_before = std::fs::read_to_string(gateway.conf.conf().join(KEYS)).expect("a file");
    for (name, broken, place) in [
        (KEYS, "[\n{\"proxy_key\": 7}]", "api_keys.json:2"),
        (KEYS, "[", "api_keys.json:1"),
        (CHANNELS, "{\"channels\": {\n\"c\": {\"base_urk\": \"http://x\"}}}", "base_url"),
        ("gateway.json", "{\"limits\":\n {\"in_flight_max\": -1}}", "gateway.json:2"),
    ] {
        gateway.conf.write_file(name, broken);
        gateway.refuses(name, place).await;
    }
    assert_eq!(get(gateway.address, "/").await.status, 200);
    gateway.conf.write_file(KEYS, &keys_before);
    gateway.mended(KEYS).await;
    gateway.conf.write_channels(|_| {});
    gateway.mended(CHANNELS).await;
    gateway.conf.write_file("gateway.json", "{\"access_log\": \"off\"}");
    gateway.mended("gateway.json").await;
    assert_eq!(first.config, gateway.shared.current.load().config, "the same bytes mean the same");
    gateway.conf.write_file(CHANNELS, "");
    gateway.refuses(CHANNELS, "").await;
    let url = upstream.url() + "/prefix";
    gateway.conf.write_channels(|channels| channels["c"]["base_url"] = json!(url));
    gateway.mended(CHANNELS).await;
    assert_eq!(get(gateway.address, "/x").await.echoed_line(), "GET /prefix/x");
}

#[tokio::test]
async fn a_deleted_file_keeps_its_last_good_version_and_says_so() {
    let (gateway, _upstream) = gateway().await;
    for name in [KEYS, CHANNELS, "gateway.json"] {
        let path = gateway.conf.conf().join(name);
        let bytes = std::fs::read_to_string(&path).expect("a file");
        gateway.conf.write_file(name, "broken");
        gateway.refuses(name, "").await;
        std::fs::remove_file(&path).expect("the file is there");
        let gone = gateway.refuses(name, "is gone").await;
        assert!(gone["version"].is_string(), "{gone}");
        assert_eq!(gateway.status_for(KEY).await, 200, "without {name}");
        gateway.conf.write_file(name, &bytes);
        gateway.mended(name).await;
    }
}

#[tokio::test]
async fn settings_that_the_plugin_refuses_leave_all_channels_as_they_were() {
    let (mut gateway, _upstream) = gateway().await;
    gateway.conf.write_channels(|channels| {
        channels["c"]["settings"] = json!({"configure": "fail"});
        channels["c"]["base_url"] = json!("http://127.0.0.1:1");
    });
    gateway.refuses(CHANNELS, "channel c: plugin puppet").await;
    let refused = gateway.refuses(CHANNELS, "the strings are tangled").await;
    assert!(refused["version"].is_string());
    assert_eq!(gateway.status_for(KEY).await, 200);
    gateway.conf.write_file(KEYS, &keys(&[ANOTHER]));
    gateway.answers(KEY, 403).await;
    gateway.refuses(CHANNELS, "the strings are tangled").await;
    gateway.conf.write_channels(|channels| channels["c"]["settings"] = json!({"plan": {"path": "/planned"}}));
    gateway.mended(CHANNELS).await;
    gateway.answers(ANOTHER, 502).await;
}

#[tokio::test]
async fn a_new_version_that_new_channels_do_not_fit_is_refused_and_the_channels_are_not() {
    let (mut gateway, _upstream) = gateway().await;
    let other = Upstream::start(|_| async { reply(201, "other") }).await;
    gateway.conf.plugin("puppet", &needy());
    gateway.conf.write_channels(|channels| channels["c"]["base_url"] = json!(other.url()));
    gateway.answers(KEY, 201).await;
    gateway.refuses("puppet.wasm", "wants the setting").await;
    gateway.mended(CHANNELS).await;
}

#[tokio::test]
async fn sandbox_limits_that_a_plugin_cannot_live_with_are_refused() {
    let (gateway, _upstream) = gateway().await;
    let limits = |deadline: u32| {
        json!({"access_log": "off", "sandbox": {"memory_bytes_max": 1 << 20, "deadline_ms": deadline}}).to_string()
    };
    gateway.conf.write_file("gateway.json", &limits(11));
    gateway.refuses("gateway.json", "puppet").await;
    assert_eq!(gateway.status_for(KEY).await, 200);
    gateway.conf.write_file(KEYS, &keys(&[ANOTHER]));
    gateway.answers(KEY, 403).await;
    assert_eq!(gateway.status_for(ANOTHER).await, 200);
    gateway.conf.write_file("gateway.json", "{\"access_log\": \"off\"}");
    gateway.mended("gateway.json").await;
}

#[tokio::test]
async fn limits_hold_for_new_requests_as_soon_as_they_are_reloaded() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let upstream = Upstream::start(move |_| {
        let mut gone = gone.clone();
        async move {
            let _ = gone.wait_for(|go| *go).await;
            reply(200, "ok")
        }
    })
    .await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let address = gateway.address;
    let held = tokio::spawn(async move { get(address, "/held").await.status.as_u16() });
    gateway.until("an exchange is under way", |stats| stats["in_flight"] == 1).await;
    gateway.conf.write_file("gateway.json", &json!({"access_log": "off", "limits": {"in_flight_max": 1}}).to_string());
    gateway.until("the new limit", |stats| stats["generation"] == 2).await;
    let refused = soon("a refusal", get(gateway.address, "/")).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (503, "too_many_exchanges"));
    go.send(true).expect("the upstream waits");
    assert_eq!(soon("the held exchange", held).await.expect("no panic"), 200);
}

/// A folder as Kubernetes mounts it: files are links into `..data`, itself a link to a folder with the content.
fn mount(conf: &Path, version: &str, files: &[(&str, String)]) {
    let content = conf.join(version);
    std::fs::create_dir(&content).expect("a folder");
    for (name, text) in files {
        std::fs::write(content.join(name), text).expect("a file can be written");
    }
    std::os::unix::fs::symlink(version, conf.join("..data_tmp")).expect("a link");
    std::fs::rename(conf.join("..data_tmp"), conf.join("..data")).expect("a rename");
}

#[tokio::test]
async fn a_swapped_link_to_the_folder_of_the_files_is_noticed() {
    let (gateway, upstream) = gateway().await;
    let conf = gateway.conf.conf();
    let channels = |suffix: &str| {
        let channel = crate::support::channel(&(upstream.url() + suffix));
        json!({"channels": {"c": channel}}).to_string()
    };
    mount(&conf, "..1", &[(KEYS, keys(&[KEY])), (CHANNELS, channels(""))]);
    for name in [KEYS, CHANNELS] {
        std::os::unix::fs::symlink(format!("..data/{name}"), conf.join("link")).expect("a link");
        std::fs::rename(conf.join("link"), conf.join(name)).expect("a rename");
    }
    gateway.until("the mount", |stats| stats["generation"] == 2).await;
    mount(&conf, "..2", &[(KEYS, keys(&[KEY, ANOTHER])), (CHANNELS, channels("/two"))]);
    std::fs::remove_dir_all(conf.join("..1")).expect("the old content is there");
    gateway.answers(ANOTHER, 200).await;
    assert_eq!(get(gateway.address, "/").await.echoed_line(), "GET /two/");
}

#[tokio::test]
async fn a_file_overwritten_in_place_is_read_when_it_is_whole() {
    let (gateway, _upstream) = gateway().await;
    let path = gateway.conf.conf().join(KEYS);
    std::fs::write(&path, keys(&[KEY, ANOTHER])).expect("a file can be written");
    gateway.answers(ANOTHER, 200).await;
    // As a slow `cp` does: what is there in between is refused at most.
    let text = keys(&[KEY]);
    std::fs::write(&path, &text[..20]).expect("a file can be written");
    gateway.refuses(KEYS, "").await;
    assert_eq!(gateway.status_for(ANOTHER).await, 200);
    std::fs::write(&path, &text).expect("a file can be written");
    gateway.mended(KEYS).await;
    gateway.answers(ANOTHER, 403).await;
}

#[tokio::test]
async fn what_changes_without_an_event_is_noticed_within_seconds() {
    let (gateway, _upstream) = gateway().await;
    let (link, target) = (gateway.conf.conf().join("link"), gateway.conf.folder().join("elsewhere.json"));
    std::fs::write(&target, keys(&[KEY, ANOTHER])).expect("a file can be written");
    std::os::unix::fs::symlink(&target, &link).expect("a link");
    std::fs::rename(&link, gateway.conf.conf().join(KEYS)).expect("a rename");
    gateway.answers(ANOTHER, 200).await;
    // Nothing happens in the folder that is watched.
    std::fs::write(&target, keys(&[ANOTHER])).expect("a file can be written");
    gateway.answers(KEY, 403).await;
}

#[tokio::test]
async fn a_file_that_may_be_missing_is_absent_again_when_its_broken_one_is_removed() {
    let conf = Conf::new("http://127.0.0.1:1").gateway_absent();
    let gateway = Gateway::start(conf).await;
    assert_eq!(file(&gateway.stats().await, "gateway.json")["state"], "absent");
    gateway.conf.write_file("gateway.json", "{");
    gateway.refuses("gateway.json", "gateway.json:1").await;
    std::fs::remove_file(gateway.conf.conf().join("gateway.json")).expect("the file is there");
    gateway.until("it is absent", |stats| file(stats, "gateway.json")["state"] == "absent").await;
}
