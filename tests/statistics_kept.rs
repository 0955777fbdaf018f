//! That statistics survive: a restart, a kill in the middle of a write, a file that is broken.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Child;

use rusqlite::Connection;
use serde_json::Value;

use crate::support::process::command;
use crate::support::{Conf, Gateway, Upstream, get, soon};

/// The real binary on a configuration that outlives it.
struct Run {
    address: SocketAddr,
    child: Child,
}

impl Run {
    async fn start(conf: &Conf) -> Self {
        let mut child = command(conf, &conf.state()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).unwrap();
            line
        });
        let line = line.await.unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line:?}"));
        Self { address: address.parse().unwrap(), child }
    }

    async fn stats(&self) -> Value {
        get(self.address, "/stats").await.json()
    }

    /// SIGKILL: nothing more is written.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn database(state: &Path) -> Connection {
    Connection::open(state.join("statistics.sqlite")).unwrap()
}

/// How many exchanges the file knows of; none before the first write.
fn written(state: &Path) -> u64 {
    let sum = "SELECT coalesce(sum(requests), 0) FROM total";
    match database(state).query_row(sum, [], |row| row.get(0)) {
        Ok(requests) => requests,
        Err(error) if error.to_string().contains("no such table") => 0,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_restart_in_order_loses_nothing() {
    let upstream = Upstream::echo().await;
    let conf = Conf::new(&upstream.url());
    conf.write();
    let state = conf.state();
    for run in 1..=2_u64 {
        let mut child = Run::start(&conf).await;
        get(child.address, "/v1/x").await;
        let shown = child.stats().await;
        assert_eq!((&shown["total_requests"], &shown["channel_stats"]["c"]["requests"]), (&run.into(), &run.into()));
        assert_eq!(shown["window"]["totals"]["requests"], run);
        let pid = rustix::process::Pid::from_child(&child.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.child.wait().unwrap();
        assert_eq!(written(&state), run);
    }
}

#[tokio::test]
async fn kills_in_the_middle_of_writes_leave_a_sound_file_and_lose_only_the_last_seconds() {
    let upstream = Upstream::echo().await;
    let conf = Conf::new(&upstream.url());
    conf.write();
    let state = conf.state();
    let (mut kept, mut random) = (0, 0x2545_f491_4f6c_dd1d_u64);
    for round in 0..20 {
        let run = Run::start(&conf).await;
        let before = run.stats().await["total_requests"].as_u64().unwrap();
        assert!(before >= kept, "round {round}: {before} of at least {kept} were there");
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // A moment of its own each time: some before the first write, some while one is under way.
        let requests = 1 + random % 40;
        for number in 0..requests {
            get(run.address, &format!("/v1/{number}")).await;
        }
        if round % 4 == 0 {
            soon("what was counted is written", async {
                while written(&state) < before + requests {
                    get(run.address, "/v1/more").await;
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            })
            .await;
        }
        run.kill();
        let fault: String = database(&state).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(fault, "ok", "round {round}");
        kept = written(&state);
    }
    assert!(kept > 0);
}

#[tokio::test]
async fn a_broken_file_is_kept_aside_and_said_and_the_gateway_serves() {
    let upstream = Upstream::echo().await;
    let conf = Conf::new(&upstream.url());
    let folder = conf.state();
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("statistics.sqlite"), "rubbish ".repeat(1000)).unwrap();
    let gateway = Gateway::start(conf).await;
    assert_eq!(get(gateway.address, "/x").await.status, 200);
    let is_ok = |stats: &Value| stats["statistics"]["persistence"] == "ok" && stats["total_requests"] == 1;
    let stats = gateway.until("it is written", is_ok).await;
    let events = stats["events"].as_array().unwrap();
    assert!(
        events
            .iter()
            .any(|event| event["kind"] == "statistics" && event["message"].as_str().unwrap().contains("is kept as")),
        "{events:#?}"
    );
    let aside =
        std::fs::read_dir(&folder).unwrap().flatten().find(|it| it.file_name().to_string_lossy().contains(".broken-"));
    assert_eq!(std::fs::read_to_string(aside.unwrap().path()).unwrap(), "rubbish ".repeat(1000));
}

#[tokio::test]
async fn the_request_log_is_off_and_can_be_switched_on_while_running() {
    let upstream = Upstream::echo().await;
    let mut gateway = Gateway::start(Conf::new(&upstream.url())).await;
    get(gateway.address, "/v1/before").await;
    gateway.conf.write_file("gateway.json", r#"{"statistics": {"request_log_days": 7}}"#);
    gateway.reload();
    gateway.until("it is reloaded", |stats| stats["generation"] == 2).await;
    get(gateway.address, "/v1/after?secret=hush").await;
    let state = gateway.conf.state();
    gateway.stop();
    gateway.ended().await;
    let database = database(&state);
    let mut rows = database.prepare("SELECT proxy_key, channel, endpoint, status, outcome FROM request").unwrap();
    let rows: Vec<(String, String, String, u16, String)> = rows
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let expected = ("tester".into(), "c".into(), "GET /v1/after".into(), 200, "complete".into());
    assert_eq!(rows, [expected]);
    let dump = std::fs::read(state.join("statistics.sqlite")).unwrap();
    assert!(!String::from_utf8_lossy(&dump).contains("hush"), "queries may hold credentials");
}

#[tokio::test]
async fn reloads_are_told_as_events_and_stay_over_a_restart() {
    let upstream = Upstream::echo().await;
    let conf = Conf::new(&upstream.url());
    conf.write();
    let run = Run::start(&conf).await;
    conf.write_file("api_keys.json", "{ broken");
    let is_told = async || {
        let stats = run.stats().await;
        let events = stats["events"].as_array().unwrap().clone();
        events.iter().any(|event| event["subject"] == "api_keys.json" && event["level"] == "error")
    };
    soon("the refusal is told", async {
        while !is_told().await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    soon("it is written", async {
        let count = || database(&conf.state()).query_row("SELECT count(*) FROM event", [], |row| row.get(0));
        while count().unwrap_or(0_u64) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    run.kill();
    conf.write();
    let run = Run::start(&conf).await;
    let stats = run.stats().await;
    assert!(stats["events"].as_array().unwrap().iter().any(|event| event["subject"] == "api_keys.json"), "{stats:#}");
}
