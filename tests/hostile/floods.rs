//! A plugin that talks without end fills no log: so many lines a call, so many a second, and what was left out is said.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::guest::{Place, guest};
use super::{ask, bounds, code};
use crate::support::{Conf, KEY, Process, Raw, Upstream, channel, soon};

/// See `host/src/plugin/log.rs`.
const LINES_A_CALL_MAX: usize = 64;
const LINES_A_SECOND_MAX: u64 = 200;

/// `$request` is free to be the stream: its own value is of no use to a flood.
const FLOODS: [(&str, &str); 4] = [
    ("log", "(loop $l (call $log (i32.const 2) (i32.const 8) (i32.const 1)) (br $l))"),
    (
        "stdout",
        "(call $fill) (local.set $request (call $stdout))
         (loop $l (call $write (local.get $request) (i32.const 131072) (i32.const 60000) (i32.const 64)) (br $l))",
    ),
    // One line with a letter, and two hundred that are empty.
    (
        "stderr",
        "(memory.fill (i32.const 131072) (i32.const 10) (i32.const 200)) (i32.store8 (i32.const 131072) (i32.const 98))
         (local.set $request (call $stderr))
         (loop $l (call $write (local.get $request) (i32.const 131072) (i32.const 200) (i32.const 64)) (br $l))",
    ),
    (
        "zeroes",
        "(local.set $request (call $stderr))
         (loop $l (call $write_zeroes (local.get $request) (i64.const 4096) (i32.const 64)) (br $l))",
    ),
];

fn key(name: &str) -> String {
    format!("sk-{name}-0123456789")
}

async fn process() -> (Process, Upstream) {
    let upstream = Upstream::echo().await;
    let mut sandbox = bounds();
    sandbox["deadline_ms"] = json!(50);
    let mut conf = Conf::new(&upstream.url()).gateway("sandbox", sandbox).gateway("log", json!({"format": "json"}));
    let mut keys = vec![json!({"proxy_key": KEY, "id": "tester", "channel": "c"})];
    for (name, piece) in FLOODS {
        conf.plugin(name, &guest(Place::Decide, piece));
        let mut own = channel(&upstream.url());
        own["plugin"] = json!(name);
        conf = conf.channel(name, own);
        keys.push(json!({"proxy_key": key(name), "id": name, "channel": name}));
    }
    (Process::start(conf.keys(Value::from(keys))).await, upstream)
}

/// What these plugins have said, or the gateway for them, in whole lines.
fn said(process: &Process, plugin: &str) -> Vec<Value> {
    let log = process.log();
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "plugin" && line["plugin"] == plugin).collect()
}

#[tokio::test]
async fn a_flood_on_any_way_ends_with_its_call_and_leaves_a_bounded_log() {
    let (process, _upstream) = process().await;
    let mut client = Raw::connect(process.address).await;
    for (name, _) in FLOODS {
        assert_eq!(ask(&mut client, &key(name), "/arm").await.status(), 200);
        let flooded = ask(&mut client, &key(name), "/a/request").await;
        assert_eq!((flooded.status(), code(&flooded).as_str()), (502, "plugin_deadline_exceeded"), "{name}");
        let id = flooded.values("x-aiproxy-request-id").concat();
        let lines = soon(name, async {
            loop {
                let lines: Vec<_> = said(&process, name).into_iter().filter(|line| line["request_id"] == *id).collect();
                let is_end =
                    |line: &Value| line["message"].to_string().contains("more lines of this call were left out");
                if lines.iter().any(is_end) {
                    return lines;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert!(lines.len() <= LINES_A_CALL_MAX + 1, "{name}: {}", lines.len());
        assert!(lines.iter().all(|line| line.to_string().len() < 30_000), "{name}");
        assert_eq!(ask(&mut client, KEY, "/x").await.status(), 200, "the same connection after {name}");
    }
}

#[tokio::test]
async fn many_floods_share_the_lines_of_a_second_and_what_was_left_out_is_said() {
    let (process, _upstream) = process().await;
    let begun = Instant::now();
    let mut client = Raw::connect(process.address).await;
    // A hundred lines each time.
    soon("lines that are left out", async {
        while !said(&process, "puppet").iter().any(|line| line["message"] == "lines were left out: too many") {
            for _ in 0..10 {
                ask(&mut client, KEY, "/puppet/print-much").await;
            }
        }
    })
    .await;
    let lines = said(&process, "puppet");
    let seconds = begun.elapsed().as_secs() + 2;
    assert!(lines.len() as u64 <= (LINES_A_SECOND_MAX + 1) * seconds, "{} lines in {seconds} s", lines.len());
    let dropped = lines.iter().find_map(|line| line["dropped"].as_u64());
    assert!(dropped.is_some_and(|dropped| dropped > 0), "how many is said");
}
