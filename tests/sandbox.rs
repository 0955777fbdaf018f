//! Every setting of a plugin's own sandbox counts, and for that plugin alone: beside it stands another with the same
//! component and without the setting.

use serde_json::{Value, json};

use crate::support::{Conf, Gateway, Raw, RawUpstream, Upstream, channel, guests, soon};

const PLAIN: &str = "sk-plain-0123456789";
const BOUND: &str = "sk-bound-0123456789";

/// A channel of the puppet's under a generous sandbox, and one of the plugin `bound`, which is the same with its own.
async fn gateway(upstream_url: &str, own: Value, settings: Value) -> Gateway {
    let keys = json!([
        {"proxy_key": PLAIN, "id": "plain", "channel": "c"},
        {"proxy_key": BOUND, "id": "bound", "channel": "bound"},
    ]);
    let mut bound = channel(upstream_url);
    (bound["plugin"], bound["settings"]) = (json!("bound"), settings.clone());
    let generous = json!({"deadline_ms": 10_000, "configure_deadline_ms": 20_000});
    let conf = Conf::new(upstream_url)
        .settings(settings)
        .channel("bound", bound)
        .keys(keys)
        .gateway("sandbox", generous)
        .gateway("plugin_sandbox", json!({"bound": own}));
    conf.plugin("bound", guests::puppet());
    Gateway::with_workers(conf, 1).await
}

async fn code(client: &mut Raw, key: &str, path: &str) -> String {
    let reply = ask(client, key, path).await;
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    body["error"]["code"].as_str().unwrap_or_default().to_owned()
}

async fn ask(client: &mut Raw, key: &str, path: &str) -> crate::support::Message {
    client.write(format!("GET {path} HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {key}\r\n\r\n")).await;
    client.reply().await
}

/// Both asked the same: the plain one serves, the bound one fails like this.
async fn only_the_bound_one_fails(own: Value, path: &str, expected: &str) {
    let upstream = RawUpstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let gateway = gateway(&upstream.url(), own, json!({})).await;
    let mut client = Raw::connect(gateway.address).await;
    assert_eq!(code(&mut client, PLAIN, path).await, "");
    assert_eq!(code(&mut client, BOUND, path).await, expected);
}

/// How many calls the instance that answers has had, call by call.
async fn calls(gateway: &Gateway, key: &str) -> Vec<u32> {
    let mut client = Raw::connect(gateway.address).await;
    let mut seen = Vec::new();
    for _ in 0..40 {
        let reply = ask(&mut client, key, "/x").await.body();
        let calls = reply.lines().find_map(|line| line.strip_prefix("x-puppet-saw-calls: "));
        seen.push(calls.and_then(|calls| calls.parse().ok()).unwrap_or_else(|| panic!("{reply}")));
    }
    seen
}

#[tokio::test]
async fn a_deadline_of_its_own() {
    only_the_bound_one_fails(json!({"deadline_ms": 20}), "/puppet/compute-400", "plugin_deadline_exceeded").await;
}

#[tokio::test]
async fn memory_of_its_own() {
    only_the_bound_one_fails(json!({"memory_bytes_max": 4 << 20}), "/puppet/grow", "plugin_memory_exceeded").await;
}

#[tokio::test]
async fn a_deadline_of_its_own_for_configure() {
    let mut gateway = gateway("http://127.0.0.1:1", json!({"configure_deadline_ms": 20}), json!({})).await;
    let slow = json!({"configure": "compute-400"});
    gateway.conf.write_channels(|channels| channels["c"]["settings"] = slow.clone());
    gateway.reload();
    gateway.mended("channels_config.json").await;
    gateway.conf.write_channels(|channels| channels["bound"]["settings"] = slow);
    gateway.refuses("channels_config.json", "longer than 20 ms").await;
}

#[tokio::test]
async fn calls_until_an_instance_is_replaced() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream.url(), json!({"calls_max": 3}), json!({})).await;
    let plain: Vec<u32> = (1..=40).collect();
    assert_eq!(calls(&gateway, PLAIN).await, plain);
    let bound = calls(&gateway, BOUND).await;
    // The worn one serves until a spare is ready.
    assert!(bound.starts_with(&[1, 2, 3]) && bound[3..].contains(&1), "{bound:?}");
}

#[tokio::test]
async fn isolation() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream.url(), json!({"isolation": "fresh"}), json!({})).await;
    let plain: Vec<u32> = (1..=40).collect();
    assert_eq!((calls(&gateway, PLAIN).await, calls(&gateway, BOUND).await), (plain, vec![1; 40]));
}

#[tokio::test]
async fn spare_instances() {
    let gateway = gateway("http://127.0.0.1:1", json!({"spare_instances": 7}), json!({})).await;
    let generation = gateway.shared.current.load_full();
    let deployed = |id: &str| generation.channels[id].deployed.clone().expect("it serves");
    soon("seven spare instances", async {
        while deployed("bound").spares_ready() < 7 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(deployed("c").spares_ready() < 7);
}

#[tokio::test]
async fn the_back_off() {
    let own = json!({"deadline_ms": 10, "back_off_ms": 50_000, "back_off_max_ms": 50_000});
    let gateway = gateway("http://127.0.0.1:1", own, json!({})).await;
    let mut client = Raw::connect(gateway.address).await;
    assert_eq!(code(&mut client, BOUND, "/puppet/loop").await, "plugin_deadline_exceeded");
    let refused = ask(&mut client, BOUND, "/x").await;
    let seconds: u32 = refused.values("retry-after").concat().parse().expect("seconds");
    // The plain one's would be a second at most.
    assert!((2..=50).contains(&seconds), "{seconds}");
}
