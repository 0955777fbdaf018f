//! The log of the process: whole lines on stderr, as JSON or for people, from the first to the last.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Conf, Process, get, soon};

const LEVELS: [&str; 5] = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];

/// A process whose upstream cannot be reached, in this format.
async fn started(format: &str) -> Process {
    let log = json!({"level": "info", "format": format});
    Process::start(Conf::new("http://127.0.0.1:1").gateway("log", log)).await
}

/// Everything that one failed exchange and a stop leave, and the exchange's id.
async fn told(mut process: Process) -> (String, String) {
    let reply = get(process.address, "/puppet/print-line").await;
    let id = reply.header("x-aiproxy-request-id").expect("an id").to_owned();
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(0));
    let log = process.log();
    assert!(log.ends_with('\n'), "{log}");
    (log, id)
}

fn is_time(text: &str) -> bool {
    humantime::parse_rfc3339(text).is_ok()
}

#[tokio::test]
async fn as_json_every_line_is_an_object_with_time_level_target_and_message() {
    let (log, id) = told(started("json").await).await;
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for line in &lines {
        assert!(line["timestamp"].as_str().is_some_and(is_time), "{line}");
        assert!(line["level"].as_str().is_some_and(|level| LEVELS.contains(&level)), "{line}");
        assert!(line["target"].is_string() && line["message"].is_string(), "{line}");
    }
    let of_exchange = |line: &&Value| line["request_id"] == id;
    assert!(lines.iter().filter(of_exchange).any(|line| line["target"] == "plugin"), "what the plugin said: {log}");
    assert!(lines.iter().filter(of_exchange).any(|line| line["code"].is_string()), "what became of it: {log}");
    assert!(lines.iter().any(|line| line["message"] == "ready"), "{log}");
    assert!(lines.iter().any(|line| line["message"] == "stopping"), "{log}");
}

#[tokio::test]
async fn as_text_every_line_begins_with_time_and_level_and_names_its_target() {
    let (log, id) = told(started("text").await).await;
    for line in log.lines() {
        assert!(!line.contains('\u{1b}'), "no colours in a file: {line:?}");
        let mut words = line.split_whitespace();
        assert!(words.next().is_some_and(is_time), "{line}");
        assert!(words.next().is_some_and(|level| LEVELS.contains(&level)), "{line}");
        assert!(words.next().is_some_and(|target| target.ends_with(':')), "{line}");
    }
    let of_exchange = log.lines().filter(|line| line.contains(&format!("request_id=\"{id}\"")));
    assert!(of_exchange.clone().any(|line| line.contains(" plugin: ")), "what the plugin said: {log}");
    assert!(of_exchange.clone().any(|line| line.contains(" code=")), "what became of it: {log}");
}

#[tokio::test]
async fn another_format_holds_from_the_reload_on() {
    let process = started("text").await;
    process.conf.write_file("gateway.json", &json!({"access_log": "off", "log": {"format": "json"}}).to_string());
    soon("an event as JSON", async {
        loop {
            get(process.address, "/x").await;
            let log = process.log();
            let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let mut events = whole.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if events.any(|event| event["code"].is_string()) {
                return;
            }
        }
    })
    .await;
}
