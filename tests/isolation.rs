//! A plugin that misbehaves again and again costs its own channel, and nobody else's time.
//!
//! The same clients ask another channel the same number of times, first while all is quiet, then beside the trouble.
//! Machines are noisy, so a few rounds may fail; where all do, the failure says their figures.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::support::{Conf, Gateway, Raw, Upstream, channel, soon};

const CLIENTS: usize = 4;
const REQUESTS_A_CLIENT: usize = 500;
const ROUNDS: usize = 6;
/// Below that the clock of a busy machine tells nothing.
const FLOOR: Duration = Duration::from_millis(2);

const QUIET: &str = "sk-quiet-0123456789";
const TROUBLE: &str = "sk-trouble-0123456789";

/// Two channels, of which one is served by the plugin `trouble`, a puppet with these settings.
async fn gateway(upstream: &Upstream, settings: &Value, quiet_isolation: &str) -> Gateway {
    let mut trouble = channel(&upstream.url());
    (trouble["plugin"], trouble["settings"]) = (json!("trouble"), settings.clone());
    let keys = json!([
        {"proxy_key": QUIET, "id": "quiet", "channel": "c"},
        {"proxy_key": TROUBLE, "id": "trouble", "channel": "trouble"},
    ]);
    let conf = Conf::new(&upstream.url()).channel("trouble", trouble).keys(keys);
    let conf = conf.gateway("plugin_sandbox", json!({"puppet": {"isolation": quiet_isolation}}));
    conf.plugin("trouble", crate::support::guests::puppet());
    Gateway::start(conf).await
}

async fn get(client: &mut Raw, key: &str, path: &str) -> u16 {
    client.write(format!("GET {path} HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {key}\r\n\r\n")).await;
    client.reply().await.status()
}

/// How long 99 of 100 requests to the quiet channel take at most.
async fn p99(address: SocketAddr) -> Duration {
    let clients = (0..CLIENTS).map(|_| async move {
        let mut client = Raw::connect(address).await;
        let mut took = Vec::with_capacity(REQUESTS_A_CLIENT);
        for _ in 0..REQUESTS_A_CLIENT {
            let begun = Instant::now();
            assert_eq!(get(&mut client, QUIET, "/x").await, 200);
            took.push(begun.elapsed());
        }
        took
    });
    let mut took = futures_util::future::join_all(clients).await.concat();
    took.sort();
    took[took.len() * 99 / 100]
}

/// Clients that hammer the channel in trouble until dropped.
struct Hammer(Vec<tokio::task::JoinHandle<()>>);

impl Hammer {
    fn start(address: SocketAddr, path: &'static str) -> Self {
        let hammer = || async move {
            let mut client = Raw::connect(address).await;
            loop {
                let status = get(&mut client, TROUBLE, path).await;
                assert!(matches!(status, 502 | 503), "{status}");
                // Two of them, a thousand a second each at most: what they cost is the plugin's doing, not theirs.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        Self((0..2).map(|_| tokio::spawn(hammer())).collect())
    }
}

impl Drop for Hammer {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Fails if in no round the quiet channel's p99 stays within twice what it is without the trouble.
async fn stays_quiet(gateway: &Gateway, path: &'static str) {
    let mut figures = Vec::new();
    p99(gateway.address).await;
    for _ in 0..ROUNDS {
        let quiet = p99(gateway.address).await;
        let hammer = Hammer::start(gateway.address, path);
        let beside = p99(gateway.address).await;
        drop(hammer);
        figures.push((quiet, beside));
        if beside <= 2 * quiet.max(FLOOR) {
            println!("{path}: p99 {beside:?} beside the trouble, {quiet:?} without");
            return;
        }
    }
    panic!("the other channel's p99 without and beside the trouble at {path}: {figures:?}");
}

#[tokio::test]
async fn a_plugin_that_loops_on_one_path_takes_no_time_from_other_channels() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, &json!({}), "pooled").await;
    stays_quiet(&gateway, "/puppet/loop").await;
}

#[tokio::test]
async fn a_plugin_that_traps_each_time_takes_no_time_from_other_channels() {
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream, &json!({}), "pooled").await;
    stays_quiet(&gateway, "/puppet/trap").await;
}

/// The thread that builds instances is everybody's: the quiet channel wants a new one for each of its exchanges.
#[tokio::test]
async fn a_plugin_that_can_never_be_built_again_takes_no_time_from_other_channels() {
    let upstream = Upstream::echo().await;
    let later = SystemTime::now() + Duration::from_secs(5);
    let later_ms = later.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let gateway = gateway(&upstream, &json!({"configure": "loop-later", "later_ms": later_ms}), "fresh").await;
    let mut client = Raw::connect(gateway.address).await;
    assert_eq!(get(&mut client, TROUBLE, "/x").await, 200, "until then it could be built");
    // Each trap takes an instance, and those that are left were built before. The answer between keeps the pauses away
    // that traps in a row begin.
    soon("the last instance's end", async {
        while get(&mut client, TROUBLE, "/puppet/trap").await != 503 && get(&mut client, TROUBLE, "/x").await != 503 {}
    })
    .await;
    stays_quiet(&gateway, "/x").await;
}
