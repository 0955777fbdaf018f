//! Plugins are replaced while traffic flows: no exchange fails, none mixes, nothing bad gets in.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use aiproxy_host::exchange::worker::Shared;
use aiproxy_host::generation::Generation;
use aiproxy_host::plugin::Deployed;
use aiproxy_host::plugin::embedded::EMBEDDED;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::loaded::{file, needy, plugin, version};
use crate::support::{Conf, Gateway, KEY, Process, Raw, Upstream, channel, get, guests, reply, request, soon, stream};

/// Of what a swap replaces: gone when nothing runs on it any more.
struct Old {
    generation: Weak<Generation>,
    deployed: Weak<Deployed>,
}

impl Old {
    fn of(shared: &Shared) -> Self {
        let generation = shared.current.load_full();
        Self { deployed: Arc::downgrade(&deployed(&generation, "c")), generation: Arc::downgrade(&generation) }
    }

    fn is_gone(&self) -> bool {
        self.generation.strong_count() == 0 && self.deployed.strong_count() == 0
    }

    async fn gone(&self) {
        soon("an old generation to go", async {
            while !self.is_gone() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

fn deployed(generation: &Generation, id: &str) -> Arc<Deployed> {
    generation.channels[id].deployed.clone().unwrap_or_else(|reason| panic!("{id}: {reason}"))
}

/// Answers with the marks it was asked with: at `/plain` in one piece with the next beat, elsewhere in three, each with
/// a beat of its own. So every connection is always busy, and a swap finds exchanges in every state.
async fn marking(beat: watch::Receiver<u64>) -> Upstream {
    Upstream::start(move |request| {
        let mut beat = beat.clone();
        beat.mark_unchanged();
        async move {
            let marks = request.headers().get_all("x-puppet-mark").iter();
            let marks: Vec<_> = marks.map(|mark| String::from_utf8_lossy(mark.as_bytes()).into_owned()).collect();
            let marks = marks.join(",");
            if request.uri().path() == "/plain" {
                let _ = beat.changed().await;
                return reply(200, marks);
            }
            let (feed, body) = stream();
            tokio::spawn(async move {
                for piece in [&*marks, " streams ", &*marks] {
                    let _ = beat.changed().await;
                    let _ = feed.send(Ok(Frame::data(piece.to_owned().into())));
                }
            });
            Response::new(body)
        }
    })
    .await
}

/// One connection, kept busy until the word; gives the mark of every exchange.
async fn busy(address: SocketAddr, path: &'static str, done: watch::Receiver<bool>) -> Vec<String> {
    let stream = TcpStream::connect(address).await.expect("the gateway listens");
    stream.set_nodelay(true).expect("a socket option");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a new connection");
    tokio::spawn(connection);
    let mut marks = Vec::new();
    while !*done.borrow() {
        let request = Request::post(path).header("host", "gateway.test").header("x-api-key", KEY);
        let request = request.body(Full::new(bytes::Bytes::from("{}"))).expect("a request");
        let reply = sender.send_request(request).await.expect("no exchange fails");
        assert_eq!(reply.status(), 200);
        let body = reply.into_body().collect().await.expect("the reply is whole").to_bytes();
        let text = String::from_utf8(body.into()).expect("text");
        let mark = match path {
            "/plain" => text.clone(),
            _ => text.split_once(" streams ").filter(|(first, last)| first == last).expect("all pieces").0.to_owned(),
        };
        marks.push(mark);
    }
    marks
}

#[tokio::test]
async fn fifty_swaps_and_four_bad_files_under_64_busy_connections_fail_no_exchange_and_leave_nothing_behind() {
    let (beat, beats) = watch::channel(0);
    let pulse = tokio::spawn(async move {
        let mut interval = tokio::time::interval(Duration::from_millis(20));
        loop {
            interval.tick().await;
            beat.send_modify(|count| *count += 1);
        }
    });
    let upstream = marking(beats).await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let (finish, done) = watch::channel(false);
    let mut clients = JoinSet::new();
    for number in 0..64 {
        let path = if number % 2 == 0 { "/plain" } else { "/stream" };
        clients.spawn(busy(gateway.address, path, done.clone()));
    }
    let versions = [version(b'B'), version(b'A')];
    let core_module: &[u8] = b"\0asm\x01\0\0\0";
    let bad: [(&[u8], &str); 4] = [
        (b"", "empty"),
        (&versions[0][..versions[0].len() / 2], ""),
        (core_module, "core WebAssembly module"),
        (&needy(), "wants the setting `needed`"),
    ];
    let mut old = Vec::new();
    for number in 0..50 {
        old.push(Old::of(&gateway.shared));
        let serving = &versions[number % 2];
        gateway.swap_in(serving).await;
        if let Some((bytes, reason)) = (number % 10 == 5).then(|| bad.get(number / 10)).flatten() {
            gateway.conf.plugin("puppet", bytes);
            gateway.reload();
            let refused = gateway.refuses("puppet.wasm", reason).await;
            let hash = aiproxy_host::digest::hex(&aiproxy_host::digest::sha256(serving));
            assert_eq!(refused["version"], hash, "the last good version serves");
            let stats = gateway.stats().await;
            assert_eq!(plugin(&stats, "puppet")["state"], "refused");
            assert_eq!(plugin(&stats, "puppet")["last_error"], refused["last_error"]);
        }
    }
    finish.send(true).expect("the clients run");
    let marks: Vec<_> = soon("the clients", clients.join_all()).await.concat();
    let kinds: HashSet<_> = marks.iter().map(String::as_str).collect();
    assert_eq!(kinds, HashSet::from(["MARK-AAAAAAAAAAAA", "MARK-BBBBBBBBBBBB"]));
    assert!(marks.len() > 64 * 10, "the connections were busy: {}", marks.len());
    for old in &old {
        old.gone().await;
    }
    pulse.abort();
}

#[tokio::test]
async fn swaps_leave_memory_flat() {
    let upstream = Upstream::echo().await;
    let process = Process::start(Conf::new(&upstream.url())).await;
    let versions = [version(b'A'), version(b'B')];
    let swap = async |number: usize| {
        process.conf.plugin("puppet", &versions[number % 2]);
        process.signal(rustix::process::Signal::HUP);
        let mark = ["MARK-AAAAAAAAAAAA", "MARK-BBBBBBBBBBBB"][number % 2];
        soon("the version to serve", async {
            while get(process.address, "/").await.echoed("x-puppet-mark") != [mark] {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    };
    for number in 1..=10 {
        swap(number).await;
    }
    let before = process.memory_peak_bytes();
    for number in 1..=40 {
        swap(number).await;
    }
    let grown = process.memory_peak_bytes() - before;
    assert!(grown < 12 << 20, "{grown} bytes more for 40 further swaps, on {before}");
}

#[tokio::test]
async fn an_exchange_ends_on_the_generation_it_began_on_which_goes_with_it() {
    let (feed, body) = stream();
    let body = Arc::new(Mutex::new(Some(body)));
    let upstream = Upstream::start(move |request| {
        let mark = String::from_utf8_lossy(request.headers()["x-puppet-mark"].as_bytes()).into_owned();
        let body = (request.uri().path() == "/stream").then(|| body.lock().expect("no panic").take()).flatten();
        async move { body.map_or_else(|| reply(200, mark), Response::new) }
    })
    .await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let mut client = Raw::connect(gateway.address).await;
    client.write(request("GET /stream", &[])).await;
    feed.send(Ok(Frame::data("first".into()))).expect("the reply is wanted");
    client.read_until("first").await;
    let began_on = Old::of(&gateway.shared);
    gateway.swap_in(&version(b'B')).await;
    let between = Old::of(&gateway.shared);
    gateway.swap_in(&version(b'C')).await;
    assert_eq!(get(gateway.address, "/").await.text(), "MARK-CCCCCCCCCCCC", "new exchanges run on the new one");
    between.gone().await;
    feed.send(Ok(Frame::data("last".into()))).expect("the reply is still wanted");
    drop(feed);
    client.read_until("0\r\n\r\n").await;
    began_on.gone().await;
}

#[tokio::test]
async fn an_idle_gateway_lets_old_generations_go_too() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1")).await;
    let old = Old::of(&gateway.shared);
    gateway.conf.plugin("puppet", &version(b'B'));
    soon("the new generation", async {
        while gateway.shared.current.load().number == 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    old.gone().await;
}

#[tokio::test]
async fn a_swap_leaves_alone_the_channels_about_which_nothing_changed() {
    let other = json!({"name": "O", "api_key": "other-key-0123", "base_url": "http://127.0.0.1:1", "plugin": "other"});
    let conf = Conf::new("http://127.0.0.1:1").channel("other", other);
    conf.plugin("other", guests::puppet());
    let mut gateway = Gateway::start(conf).await;
    let first = gateway.shared.current.load_full();
    gateway.swap_in(&version(b'B')).await;
    let second = gateway.shared.current.load_full();
    assert!(Arc::ptr_eq(&deployed(&first, "other"), &deployed(&second, "other")));
    assert!(!Arc::ptr_eq(&deployed(&first, "c"), &deployed(&second, "c")));
    gateway.conf.write_channels(|channels| channels["other"]["name"] = json!("Another"));
    gateway.until("the new name", |stats| stats["channel_stats"]["other"]["name"] == "Another").await;
    let third = gateway.shared.current.load_full();
    assert!(Arc::ptr_eq(&deployed(&second, "c"), &deployed(&third, "c")));
    assert!(!Arc::ptr_eq(&deployed(&second, "other"), &deployed(&third, "other")));
}

#[tokio::test]
async fn a_plugin_file_is_noticed_by_itself_also_when_it_is_written_in_place() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    std::fs::write(gateway.conf.plugins().join("puppet.wasm"), version(b'B')).expect("a file can be written");
    gateway.serves("puppet", &version(b'B')).await;
    assert_eq!(gateway.mark().await, "MARK-BBBBBBBBBBBB");
}

#[tokio::test]
async fn the_very_same_good_bytes_mend_a_broken_file_and_change_nothing() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let first = gateway.shared.current.load_full();
    for bad in [&b"no wasm"[..], &needy()] {
        gateway.conf.plugin("puppet", bad);
        gateway.refuses("puppet.wasm", "").await;
        gateway.conf.plugin("puppet", guests::puppet());
        gateway.serves("puppet", guests::puppet()).await;
    }
    assert!(Arc::ptr_eq(&first, &gateway.shared.current.load_full()), "the same generation serves");
}

#[tokio::test]
async fn a_version_that_does_not_fit_is_refused_and_taken_when_the_channels_fit_it() {
    let upstream = Upstream::echo().await;
    let mut gateway = Gateway::start(Conf::new(&upstream.url())).await;
    gateway.conf.plugin("puppet", &needy());
    let refused = gateway.refuses("puppet.wasm", "wants the setting `needed`").await;
    assert!(refused["last_error"].as_str().is_some_and(|reason| reason.contains("channel c")), "{refused}");
    assert_eq!(gateway.mark().await, "MARK-AAAAAAAAAAAA");
    gateway.conf.write_channels(|channels| channels["c"]["settings"] = json!({"needed": 1}));
    gateway.serves("puppet", &needy()).await;
    assert_eq!(gateway.mark().await, "MARK-NEEDSSETTING");
}

#[tokio::test]
async fn channels_that_come_before_the_version_they_need_are_taken_when_it_comes() {
    let upstream = Upstream::echo().await;
    let mut gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let late = json!({"name": "L", "api_key": "late-key-0123", "base_url": upstream.url(), "plugin": "late"});
    gateway.conf.write_channels(|channels| channels["late"] = late);
    gateway.refuses("channels_config.json", "late.wasm").await;
    gateway.conf.plugin("late", &needy());
    gateway.refuses("channels_config.json", "wants the setting").await;
    gateway.refuses("late.wasm", "channels file").await;
    gateway.conf.plugin("late", &version(b'L'));
    gateway.mended("channels_config.json").await;
    let stats = gateway.serves("late", &version(b'L')).await;
    assert_eq!(plugin(&stats, "late")["channels"], json!(["late"]));
}

#[tokio::test]
async fn without_its_file_a_plugin_falls_back_to_the_embedded_one_of_its_name() {
    let upstream = Upstream::echo().await;
    let bailian = |plugin: &str| {
        let mut channel = channel(&upstream.url());
        channel["plugin"] = plugin.into();
        channel
    };
    let embedded = EMBEDDED.iter().find(|(name, _)| *name == "bailian").expect("it is embedded").1;
    let gateway = Gateway::start(Conf::new(&upstream.url()).channel("c", bailian("bailian"))).await;
    let stats = gateway.serves("bailian", embedded).await;
    assert_eq!(plugin(&stats, "bailian")["source"], "embedded");
    assert_eq!(file(&stats, "bailian.wasm"), &Value::Null, "there is no file");
    gateway.conf.plugin("bailian", guests::puppet());
    let stats = gateway.serves("bailian", guests::puppet()).await;
    assert_eq!(
        (&plugin(&stats, "bailian")["source"], gateway.mark().await.as_str()),
        (&json!("file"), "MARK-AAAAAAAAAAAA")
    );
    assert_eq!(file(&stats, "bailian.wasm")["state"], "active");
    std::fs::remove_file(gateway.conf.plugins().join("bailian.wasm")).expect("the file is there");
    let stats = gateway.serves("bailian", embedded).await;
    assert_eq!(plugin(&stats, "bailian")["source"], "embedded");
    assert_eq!(get(gateway.address, "/v1/models").await.echoed("x-puppet-mark"), [""; 0]);
}

#[tokio::test]
async fn a_removed_file_without_an_embedded_plugin_is_said_and_its_last_version_serves() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    std::fs::remove_file(gateway.conf.plugins().join("puppet.wasm")).expect("the file is there");
    gateway.refuses("puppet.wasm", "there is no file").await;
    assert_eq!(gateway.mark().await, "MARK-AAAAAAAAAAAA");
    gateway.conf.plugin("puppet", guests::puppet());
    gateway.serves("puppet", guests::puppet()).await;
}
