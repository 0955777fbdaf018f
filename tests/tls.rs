//! The gateway's own port speaks TLS with a certificate that is renewed while it runs.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Frame;
use rustix::process::Signal;
use rustls::HandshakeKind;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::binary::{aiproxy, run};
use crate::support::client::whole;
use crate::support::loaded::file;
use crate::support::{
    Body, Conf, Gateway, KEY, Process, Raw, TestCa, TlsClient, Upstream, get, request, soon, stream, upstream,
};

const CERT: &str = "cert.pem";

/// A CA and a configuration with a certificate of it, in a folder beside the configuration's.
fn certified(upstream: &str) -> (TestCa, Conf) {
    let (ca, conf) = (TestCa::new(), Conf::new(upstream));
    std::fs::create_dir(certificates(&conf)).expect("a folder");
    let (cert, key) = ca.pair();
    write(&conf, CERT, &cert);
    write(&conf, "key.pem", &key);
    let conf = conf.gateway("tls", tls());
    (ca, conf)
}

fn tls() -> Value {
    json!({"cert": "../certificates/cert.pem", "key": "../certificates/key.pem"})
}

fn certificates(conf: &Conf) -> PathBuf {
    conf.folder().join("certificates")
}

/// As certbot does it: a link there is swapped for one to a new file elsewhere.
fn write(conf: &Conf, name: &str, pem: &str) {
    let (path, aside) = (certificates(conf).join(name), certificates(conf).join("aside"));
    let target = conf.folder().join(hash(pem));
    std::fs::write(&target, pem).expect("a file can be written");
    std::os::unix::fs::symlink(&target, &aside).expect("a link");
    std::fs::rename(&aside, &path).expect("a link can be renamed");
}

fn hash(pem: &str) -> String {
    aiproxy_host::digest::hex(&aiproxy_host::digest::sha256(pem.as_bytes()))
}

fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM").to_vec()
}

async fn start(ca: &TestCa, conf: Conf) -> Gateway {
    let mut gateway = Gateway::start(conf).await;
    gateway.tls = Some(ca.client(&[]));
    gateway
}

/// A client of HTTP/1.1 or HTTP/2, sending over TLS.
async fn sent(
    ca: &TestCa,
    gateway: &Gateway,
    is_http2: bool,
    request: Request<Body>,
) -> Response<hyper::body::Incoming> {
    let reply = if is_http2 {
        ca.client(&["h2", "http/1.1"]).http2(gateway.address).await.open(request).await
    } else {
        ca.client(&["http/1.1"]).http1(gateway.address).await.send_request(request).await
    };
    reply.expect("the gateway answers")
}

fn post(body: Body) -> Request<Body> {
    let request = Request::post("https://gateway.test/path").header("host", "gateway.test");
    request.header("authorization", format!("Bearer {KEY}")).body(body).expect("a request")
}

/// Waits until a new connection is shown this certificate.
async fn shows(client: &TlsClient, address: std::net::SocketAddr, certificate: &str) {
    soon("another certificate", async {
        while client.certificate(address).await != der(certificate) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_client_chooses_http_2_or_http_1_1_and_upstream_is_told_of_https() {
    let upstream = Upstream::echo().await;
    let (ca, conf) = certified(&upstream.url());
    let gateway = start(&ca, conf).await;
    for (offered, agreed) in
        [(&["h2", "http/1.1"][..], Some(&b"h2"[..])), (&["http/1.1"], Some(b"http/1.1")), (&[], None)]
    {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let stream = ca.client_of(offered, &[version]).connect(gateway.address).await.expect("a handshake");
            assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
        }
        let client = ca.client(offered);
        let reply = if agreed == Some(b"h2") {
            client.http2(gateway.address).await.send(post(upstream::whole("a body"))).await
        } else {
            client.get(gateway.address, "/path").await
        };
        assert_eq!((reply.status.as_u16(), reply.echoed("x-forwarded-proto")), (200, vec!["https"]), "{reply:?}");
        assert_eq!(reply.echoed("x-forwarded-for"), ["127.0.0.1"]);
    }
    assert!(ca.client(&["spdy/3"]).connect(gateway.address).await.is_err(), "nothing in common");
}

#[tokio::test]
async fn bodies_stream_both_ways_and_arrive_whole() {
    let long: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    for is_http2 in [false, true] {
        let (feed, body) = stream();
        let body = Arc::new(Mutex::new(Some(body)));
        let upstream = Upstream::start(move |request| {
            let body = body.lock().expect("no panic").take().expect("one request");
            async move {
                let asked = request.into_body().collect().await.expect("a whole body").to_bytes();
                Response::builder().header("x-bytes", asked.len()).body(body).expect("a reply")
            }
        })
        .await;
        let (ca, conf) = certified(&upstream.url());
        let gateway = start(&ca, conf).await;
        let mut reply = sent(&ca, &gateway, is_http2, post(upstream::whole(long.clone()))).await;
        assert_eq!(reply.headers()["x-bytes"], long.len().to_string());
        feed.send(Ok(Frame::data("first".into()))).expect("the reply is wanted");
        let first = soon("the first piece", reply.body_mut().frame()).await.expect("a frame").expect("no error");
        assert_eq!(first.into_data().expect("data"), "first");
        feed.send(Ok(Frame::data(long.clone().into()))).expect("the reply is wanted");
        drop(feed);
        assert!(whole(reply).await.body == long, "the rest has come, byte by byte");
    }
}

#[tokio::test]
async fn plain_http_is_told_to_use_https() {
    let (ca, conf) = certified("http://127.0.0.1:1");
    let gateway = start(&ca, conf).await;
    let refused = get(gateway.address, "/healthz").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (400, "malformed_request"));
    assert!(refused.text().contains("this port speaks TLS: use https://"), "{refused:?}");
    let mut http2 = Raw::connect(gateway.address).await;
    http2.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(http2.reply().await.status(), 400);
}

#[tokio::test]
async fn what_only_looks_like_a_handshake_is_closed() {
    let (ca, conf) = certified("http://127.0.0.1:1");
    let gateway = start(&ca, conf).await;
    for garbage in
        [&b"\x16\x03\x01\x00\x10garbage garbage!"[..], b"\x16\xff\xff\xff\xff\xff\xff", b"\x16GET / HTTP/1.1\r\n\r\n"]
    {
        let mut client = Raw::connect(gateway.address).await;
        client.write(garbage).await;
        // An alert may come before.
        let rest = soon("the close", client.read_to_close()).await;
        assert!(!rest.contains("HTTP"), "{rest}");
    }
    assert_eq!(gateway.tls.as_ref().expect("TLS").get(gateway.address, "/healthz").await.status, 200);
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_handshake_or_its_head_is_dropped() {
    let (ca, conf) = certified("http://127.0.0.1:1");
    let gateway = start(&ca, conf.gateway("limits", json!({"head_timeout_ms": 100}))).await;
    let mut silent = Raw::connect(gateway.address).await;
    let mut stuck = Raw::connect(gateway.address).await;
    stuck.write([0x16, 3, 1]).await;
    silent.closed().await;
    stuck.closed().await;
    let mut shaken = ca.client(&[]).connect(gateway.address).await.expect("a handshake");
    let mut rest = Vec::new();
    let _ = soon("the close", shaken.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn a_stop_closes_an_unfinished_handshake_at_once_and_lets_a_reply_finish() {
    let (feed, body) = stream();
    let body = Arc::new(Mutex::new(Some(body)));
    let upstream = Upstream::start(move |_| {
        let body = body.lock().expect("no panic").take().expect("one request");
        async move { Response::new(body) }
    })
    .await;
    let (ca, conf) = certified(&upstream.url());
    let patient = json!({"head_timeout_ms": 600_000, "drain_ms": 600_000});
    let mut gateway = start(&ca, conf.gateway("limits", patient)).await;
    let mut silent = Raw::connect(gateway.address).await;
    let mut stuck = Raw::connect(gateway.address).await;
    stuck.write([0x16, 3, 1, 0]).await;
    let reply = sent(&ca, &gateway, false, post(upstream::whole(""))).await;
    soon("all three", async {
        while gateway.shared.connections.load(Ordering::Relaxed) < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    gateway.stop();
    silent.closed().await;
    stuck.closed().await;
    feed.send(Ok(Frame::data("last".into()))).expect("the reply is wanted");
    drop(feed);
    assert_eq!(soon("the reply", whole(reply)).await.text(), "last");
    soon("the gateway's end", gateway.ended()).await;
}

#[tokio::test]
async fn a_connection_for_which_there_is_no_place_is_closed() {
    let (ca, conf) = certified("http://127.0.0.1:1");
    let gateway = start(&ca, conf.gateway("limits", json!({"connections_max": 1}))).await;
    let client = ca.client(&[]);
    let held = client.connect(gateway.address).await.expect("a handshake");
    Raw::connect(gateway.address).await.closed().await;
    drop(held);
    soon("a place", async { while client.connect(gateway.address).await.is_err() {} }).await;
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let upstream = Upstream::echo().await;
    let (ca, conf) = certified(&upstream.url());
    let gateway = start(&ca, conf).await;
    let (http1, http2) = (ca.client(&["http/1.1"]), ca.client(&["h2"]));
    let mut old_http1 = http1.http1(gateway.address).await;
    let old_http2 = http2.http2(gateway.address).await;
    let (cert, key) = ca.pair();
    // Both orders are in use.
    write(&gateway.conf, "key.pem", &key);
    write(&gateway.conf, CERT, &cert);
    shows(&http1, gateway.address, &cert).await;
    gateway.mended(CERT).await;
    let reply = old_http1.send_request(post(upstream::whole("x"))).await.expect("a reply");
    assert_eq!(reply.status(), 200);
    assert_eq!(old_http2.send(post(upstream::whole("x"))).await.status, 200);
}

#[tokio::test]
async fn a_pair_that_does_not_fit_leaves_the_old_one_until_it_does() {
    let (ca, conf) = certified("http://127.0.0.1:1");
    let old = std::fs::read_to_string(certificates(&conf).join(CERT)).expect("a file");
    let gateway = start(&ca, conf).await;
    let client = ca.client(&[]);
    assert_eq!(file(&gateway.mended(CERT).await, CERT)["version"], hash(&old));
    let (cert, key) = ca.pair();
    write(&gateway.conf, CERT, &cert);
    let refused = gateway.refuses(CERT, "key.pem: holds a private key that is not the certificate's").await;
    assert_eq!(refused["version"], hash(&old));
    assert_eq!(client.certificate(gateway.address).await, der(&old));
    // No other change waits for it.
    let limits = json!({"access_log": "off", "tls": tls(), "limits": {"in_flight_max": 7}});
    gateway.conf.write_file("gateway.json", &limits.to_string());
    soon("the new limit", async {
        while gateway.shared.current.load().config.gateway.limits.in_flight_max != 7 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    gateway.refuses(CERT, "not the certificate's").await;
    write(&gateway.conf, "key.pem", &key[..60]);
    gateway.refuses(CERT, "key.pem: holds a private key that is broken").await;
    std::fs::remove_file(certificates(&gateway.conf).join(CERT)).expect("a file");
    gateway.refuses(CERT, "cert.pem: cannot be read").await;
    assert_eq!(client.certificate(gateway.address).await, der(&old));
    write(&gateway.conf, "key.pem", &key);
    write(&gateway.conf, CERT, &cert);
    let mended = gateway.mended(CERT).await;
    assert_eq!(file(&mended, CERT)["version"], hash(&cert));
    assert_eq!(client.certificate(gateway.address).await, der(&cert));
}

#[tokio::test]
async fn sessions_are_resumed_by_every_worker_until_the_certificate_changes() {
    let (ca, conf) = certified("http://127.0.0.1:1");
    let gateway = start(&ca, conf).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = ca.client_of(&[], &[version]);
        let shaken = async || client.connect(gateway.address).await.expect("a handshake");
        // Tickets come with the first reply.
        assert_eq!(client.get(gateway.address, "/healthz").await.status, 200);
        // Both are open at one time, and so on two workers.
        for stream in [shaken().await, shaken().await] {
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        }
        assert_eq!(client.get(gateway.address, "/healthz").await.status, 200);
        let (cert, key) = ca.pair();
        write(&gateway.conf, CERT, &cert);
        write(&gateway.conf, "key.pem", &key);
        shows(&ca.client(&[]), gateway.address, &cert).await;
        let kind = shaken().await.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Full), "not by a certificate that may have been stolen");
    }
}

#[tokio::test]
async fn tls_is_switched_on_and_off_while_running() {
    let upstream = Upstream::echo().await;
    let (ca, conf) = certified(&upstream.url());
    let mut gateway = Gateway::start(conf.gateway("tls", Value::Null)).await;
    let mut old = Raw::connect(gateway.address).await;
    assert_eq!(old.ask("GET /", &[]).await.status(), 200);
    let on = |tls: Value| json!({"access_log": "off", "tls": tls}).to_string();
    let missing = json!({"cert": "../certificates/missing.pem", "key": "../certificates/key.pem"});
    gateway.conf.write_file("gateway.json", &on(missing));
    gateway.refuses("gateway.json", "tls.cert: names a file that cannot be read").await;
    // What was wrong is mended elsewhere.
    std::fs::copy(certificates(&gateway.conf).join(CERT), certificates(&gateway.conf).join("missing.pem"))
        .expect("a copy");
    gateway.reload();
    let client = ca.client(&[]);
    soon("TLS", async { while client.connect(gateway.address).await.is_err() {} }).await;
    assert_eq!(get(gateway.address, "/").await.status, 400);
    assert_eq!(old.ask("GET /", &[]).await.status(), 200, "an open connection stays what it is");
    gateway.tls = Some(client.clone());
    gateway.mended("missing.pem").await;
    gateway.conf.write_file("gateway.json", &on(Value::Null));
    soon("plain HTTP", async { while get(gateway.address, "/").await.status != 200 {} }).await;
    gateway.tls = None;
    assert_eq!(*file(&gateway.stats().await, "missing.pem"), Value::Null);
}

#[tokio::test]
async fn the_first_line_says_https_and_a_hangup_looks_again_and_each_fault_is_logged_once() {
    let (ca, conf) = certified("http://127.0.0.1:1");
    let process = Process::start(conf).await;
    assert_eq!(process.url, format!("https://{}", process.address));
    let client = ca.client(&[]);
    let (cert, key) = ca.pair();
    write(&process.conf, CERT, &cert);
    let logged = |what: &str| process.log().matches(what).count();
    let says = async |what: &str| {
        while logged(what) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the fault", says("not the certificate's")).await;
    process.signal(Signal::HUP);
    // A second fault in the same file, so that it is known that the first was looked at again.
    write(&process.conf, "key.pem", "nothing");
    soon("another fault", says("holds no PEM private key")).await;
    write(&process.conf, "key.pem", &key);
    process.signal(Signal::HUP);
    shows(&client, process.address, &cert).await;
    assert_eq!((logged("not the certificate's"), logged("holds no PEM private key")), (1, 1), "{}", process.log());
    assert!(!process.log().contains("PRIVATE KEY"), "{}", process.log());
}

#[tokio::test]
async fn a_broken_pair_is_an_error_at_a_start_and_for_check() {
    let (_, conf) = certified("http://127.0.0.1:1");
    let (_, other) = TestCa::new().pair();
    write(&conf, "key.pem", &other);
    conf.write();
    for subcommand in ["check", "serve"] {
        let mut command = aiproxy(&[subcommand, "--conf"]);
        command.arg(conf.conf()).arg("--plugins").arg(conf.plugins());
        if subcommand == "serve" {
            command.args(["--listen", "127.0.0.1:0", "--state"]).arg(conf.state());
        }
        let ran = run(command).await;
        assert_ne!(ran.code, Some(0), "{ran:?}");
        let said = ran.stdout + &ran.stderr;
        assert!(
            said.contains("tls.key: names a file that holds a private key that is not the certificate's"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_and_the_end_is_said_and_not_cut() {
    let upstream = Upstream::echo().await;
    let (ca, conf) = certified(&upstream.url());
    let gateway = start(&ca, conf).await;
    let mut stream = ca.client(&[]).connect(gateway.address).await.expect("a handshake");
    // Two requests in one piece, and the end: both are answered, and the connection is closed as it should be.
    let both = request("GET /one", &[]) + &request("GET /two", &["connection: close"]);
    stream.write_all(both.as_bytes()).await.expect("the gateway reads");
    let mut reply = Vec::new();
    let ended = soon("both replies", stream.read_to_end(&mut reply)).await;
    ended.expect("TLS is closed with a word, not cut");
    let reply = String::from_utf8_lossy(&reply);
    assert!(reply.contains("GET /one") && reply.contains("GET /two"), "{reply}");
}
