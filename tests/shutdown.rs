//! Signals: SIGHUP reloads, SIGTERM and SIGINT drain.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use hyper::body::Frame;
use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;

use crate::support::client::whole;
use crate::support::process::command;
use crate::support::{Conf, Http2, KEY, Process, Raw, Upstream, get, http2, reply, request, send, soon, stream};

type Feed = UnboundedSender<Result<Frame<Bytes>, std::io::Error>>;

/// A process with a streamed exchange under way, of which the client has read the beginning.
async fn mid_stream(change: impl FnOnce(Conf) -> Conf) -> (Process, Feed, Raw, Upstream) {
    let (feed, body) = stream();
    let body = Arc::new(Mutex::new(Some(body)));
    let upstream = Upstream::start(move |_| {
        let body = body.lock().expect("no panic").take();
        async move { body.map_or_else(|| reply(200, "ok"), Response::new) }
    })
    .await;
    let process = Process::start(change(Conf::new(&upstream.url()))).await;
    let mut client = Raw::connect(process.address).await;
    client.write(request("GET /stream", &[])).await;
    feed.send(Ok(Frame::data("first".into()))).expect("the reply is wanted");
    client.read_until("first").await;
    (process, feed, client, upstream)
}

async fn refuses_connections(process: &Process) {
    soon("the listener to close", async {
        while TcpStream::connect(process.address).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_stop_lets_exchanges_finish_closes_idle_connections_at_once_and_ends_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut process, feed, mut client, _upstream) = mid_stream(|conf| conf).await;
        let mut idle = Raw::connect(process.address).await;
        assert_eq!(idle.ask("GET /", &[]).await.status(), 200);
        let mut silent = Raw::connect(process.address).await;
        process.signal(signal);
        idle.closed().await;
        silent.closed().await;
        refuses_connections(&process).await;
        feed.send(Ok(Frame::data("last".into()))).expect("the reply is wanted");
        drop(feed);
        let rest = client.read_until("0\r\n\r\n").await;
        assert!(rest.contains("last"), "{rest}");
        client.closed().await;
        assert_eq!(process.ended().await.code(), Some(0));
    }
}

#[tokio::test]
async fn a_reply_that_begins_while_stopping_says_that_its_connection_ends() {
    let (go, gone) = tokio::sync::watch::channel(false);
    let (arrive, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::start(move |_| {
        let (mut gone, arrive) = (gone.clone(), arrive.clone());
        async move {
            let _ = arrive.send(());
            let _ = gone.wait_for(|go| *go).await;
            reply(200, "ok")
        }
    })
    .await;
    let mut process = Process::start(Conf::new(&upstream.url())).await;
    let mut client = Raw::connect(process.address).await;
    client.write(request("GET /", &[])).await;
    soon("the request at the upstream", arrived.recv()).await;
    process.signal(Signal::TERM);
    refuses_connections(&process).await;
    go.send(true).expect("the upstream waits");
    let reply = client.reply().await;
    assert_eq!((reply.status(), reply.values("connection")), (200, vec!["close".to_owned()]));
    client.closed().await;
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn after_the_drain_time_connections_are_cut_and_the_end_is_still_0() {
    let (mut process, feed, mut client, _upstream) =
        mid_stream(|conf| conf.gateway("limits", json!({"drain_ms": 200}))).await;
    process.signal(Signal::TERM);
    let rest = soon("the cut", client.read_to_close()).await;
    assert!(!rest.contains("0\r\n\r\n"), "cut is not complete: {rest}");
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(process.log().contains("drain time"), "{}", process.log());
    drop(feed);
}

#[tokio::test]
async fn a_stop_lets_an_http_2_stream_finish_and_takes_no_further_one() {
    let (feed, body) = stream();
    let body = Arc::new(Mutex::new(Some(body)));
    let upstream = Upstream::start(move |_| {
        let body = body.lock().expect("no panic").take().expect("one request");
        async move { Response::new(body) }
    })
    .await;
    let mut process = Process::start(Conf::new(&upstream.url())).await;
    let client = Http2::connect(process.address).await;
    let idle = Http2::connect(process.address).await;
    assert_eq!(idle.send(http2::request("GET", "/healthz", "")).await.status, 200);
    let reply = client.open(http2::request("GET", "/", "")).await.expect("a head");
    process.signal(Signal::TERM);
    idle.closed().await;
    refuses_connections(&process).await;
    feed.send(Ok(Frame::data("last".into()))).expect("the reply is wanted");
    drop(feed);
    assert_eq!(soon("the reply", whole(reply)).await.text(), "last");
    client.closed().await;
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_stop_does_not_wait() {
    let (mut process, feed, mut client, _upstream) = mid_stream(|conf| conf).await;
    process.signal(Signal::TERM);
    refuses_connections(&process).await;
    process.signal(Signal::TERM);
    let rest = soon("the cut", client.read_to_close()).await;
    assert!(!rest.contains("0\r\n\r\n"), "cut is not complete: {rest}");
    assert_eq!(process.ended().await.code(), Some(0));
    drop(feed);
}

#[tokio::test]
async fn a_signal_right_after_the_first_line_is_not_lost() {
    let mut process = Process::start(Conf::new("http://127.0.0.1:1")).await;
    process.signal(Signal::HUP);
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_hangup_reloads_now() {
    let upstream = Upstream::echo().await;
    let process = Process::start(Conf::new(&upstream.url())).await;
    let another = "sk-another-0123456789";
    process.conf.write_file("api_keys.json", &json!([{"proxy_key": another, "channel": "c"}]).to_string());
    process.signal(Signal::HUP);
    let asked = async |key: &str| {
        let request = http::Request::get("/").header("x-api-key", key);
        send(process.address, request.body(http_body_util::Full::default()).expect("a request")).await.status.as_u16()
    };
    soon("the new key to work", async {
        while asked(another).await != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(asked(KEY).await, 403, "the old one went with the same generation");
}

#[tokio::test]
async fn a_stop_under_load_loses_no_exchange_that_had_begun() {
    let seen: Arc<Mutex<HashSet<String>>> = Arc::default();
    let (arrive, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let upstream = Upstream::start({
        let seen = seen.clone();
        move |request| {
            let path = request.uri().path().to_owned();
            seen.lock().expect("no panic").insert(path.clone());
            let _ = arrive.send(());
            async move {
                tokio::task::yield_now().await;
                reply(200, path)
            }
        }
    })
    .await;
    let mut process = Process::start(Conf::new(&upstream.url()).settings(json!({"quiet": true}))).await;
    let address = process.address;
    let clients: Vec<_> = (0..16)
        .map(|client| {
            tokio::spawn(async move {
                let mut served = Vec::new();
                for number in 0.. {
                    // Half of them on one connection, half on a new one for each.
                    let path = format!("/{client}/{number}");
                    let Ok(stream) = TcpStream::connect(address).await else { break };
                    let mut raw = Raw(stream);
                    for again in 0..if client % 2 == 0 { 1 } else { 8 } {
                        let path = format!("{path}/{again}");
                        let head = request(&format!("GET {path}"), &[]);
                        if tokio::io::AsyncWriteExt::write_all(&mut raw.0, head.as_bytes()).await.is_err() {
                            break;
                        }
                        let Some(message) = raw.next().await else { break };
                        assert_eq!((message.status(), message.body()), (200, path.clone()));
                        served.push(path);
                    }
                }
                served
            })
        })
        .collect();
    for _ in 0..200 {
        soon("load", arrived.recv()).await;
    }
    process.signal(Signal::INT);
    let mut served = HashSet::new();
    for client in clients {
        served.extend(soon("a client to end", client).await.expect("no panic"));
    }
    assert_eq!(process.ended().await.code(), Some(0));
    let seen = seen.lock().expect("no panic");
    let lost: Vec<_> = seen.difference(&served).collect();
    assert!(lost.is_empty(), "the upstream had these, and no client its reply: {lost:?}");
    assert!(served.len() >= 150, "{}", served.len());
}

#[tokio::test]
async fn the_access_log_is_whole_at_the_end() {
    let upstream = Upstream::echo().await;
    let conf = Conf::new(&upstream.url());
    let path = conf.folder().join("access.log");
    let mut process = Process::start(conf.gateway("access_log", path.to_string_lossy().into_owned())).await;
    for number in 0..20 {
        assert_eq!(get(process.address, &format!("/{number}")).await.status, 200);
    }
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(0));
    let log = std::fs::read_to_string(path).expect("a log");
    let paths: HashSet<String> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a whole line")["path"].to_string())
        .collect();
    assert_eq!((log.lines().count(), paths.len()), (20, 20), "{log}");
}

#[tokio::test]
async fn a_state_folder_in_use_is_refused_with_a_reason() {
    let process = Process::start(Conf::new("http://127.0.0.1:1")).await;
    let second = Conf::new("http://127.0.0.1:1");
    second.write();
    let mut second_command = command(&second, &process.conf.state());
    let status = tokio::task::spawn_blocking(move || second_command.status().expect("the binary runs"));
    assert_eq!(soon("the refusal", status).await.expect("no panic").code(), Some(1));
    let log = std::fs::read_to_string(second.folder().join("stderr.log")).expect("a log");
    assert!(log.contains("in use by another aiproxy-host") && log.contains("--state"), "{log}");
    assert_eq!(get(process.address, "/healthz").await.status, 200, "the first goes on");
}

#[tokio::test]
async fn an_access_log_that_nobody_reads_does_not_hold_up_the_end() {
    let upstream = Upstream::start(|_| async { reply(200, "ok") }).await;
    let mut process = Process::start(Conf::new(&upstream.url()).gateway("access_log", "stdout")).await;
    // Far more than a pipe takes in, and nobody reads this one.
    let long = "x".repeat(4000);
    for _ in 0..100 {
        assert_eq!(get(process.address, &format!("/{long}")).await.status, 200);
    }
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(process.log().contains("the access log"), "{}", process.log());
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_nothing_up() {
    let conf = Conf::new("http://127.0.0.1:1");
    conf.write();
    let mut command = command(&conf, &conf.state());
    let (unread, stderr) = std::io::pipe().expect("a pipe");
    let mut child = command.stderr(stderr).stdout(std::process::Stdio::piped()).spawn().expect("the binary runs");
    drop(command);
    let mut stdout = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    let address = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stdout, &mut line).expect("an announcement");
        line.trim().rsplit('/').next().expect("an address").parse().expect("an address")
    });
    let address: std::net::SocketAddr = soon("the announcement", address).await.expect("no panic");
    // Each of these is a warning with a cause: far more than a pipe takes in.
    for _ in 0..600 {
        assert_eq!(get(address, "/x").await.status, 502);
    }
    assert_eq!(get(address, "/healthz").await.status, 200);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).expect("the process takes signals");
    let ended = tokio::task::spawn_blocking(move || child.wait().expect("an end"));
    assert_eq!(soon("the end", ended).await.expect("no panic").code(), Some(0));
    drop(unread);
}
