//! Connections to providers: TLS, HTTP/2, healing, timeouts, and who is told what when they fail.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    Answer, Conf, Gateway, Http2, Raw, RawUpstream, TestCa, TlsUpstream, Upstream, get, http2, reply, request, soon,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Tells what it was asked, and how: version, authority, server name.
async fn telling(ca: &TestCa, name: &str, protocols: &[&str]) -> TlsUpstream {
    TlsUpstream::start(ca, name, protocols, |request, server_name| async move {
        let host = request.headers().get("host").and_then(|host| host.to_str().ok().map(str::to_owned));
        let authority = host.or_else(|| request.uri().authority().map(ToString::to_string)).unwrap_or_default();
        let told = format!("{:?} {authority} {server_name}", request.version());
        let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        reply(200, format!("{told} {}", String::from_utf8_lossy(&body)))
    })
    .await
}

fn trusting(ca: &TestCa, upstream: &TlsUpstream, host: &str) -> Conf {
    let path = ca.pem_file().to_string_lossy().into_owned();
    Conf::new(&upstream.url()).set("host", host).gateway("trusted_ca", path)
}

fn failed(reply: &Answer) -> (u16, String) {
    (reply.status.as_u16(), reply.code())
}

#[tokio::test]
async fn tls_upstreams_are_asked_by_the_channels_host_and_verified_by_it() {
    let ca = TestCa::new();
    let upstream = telling(&ca, "provider.example", &["http/1.1"]).await;
    let gateway = Gateway::start(trusting(&ca, &upstream, "provider.example")).await;
    let mut client = Raw::connect(gateway.address).await;
    for _ in 0..3 {
        let reply = client.ask("GET /", &[]).await;
        assert_eq!(reply.body(), "HTTP/1.1 provider.example provider.example ");
    }
    assert_eq!(upstream.accepted(), 1, "the connection is kept");
}

#[tokio::test]
async fn http_2_is_spoken_where_the_upstream_offers_it_and_shared() {
    let ca = TestCa::new();
    let upstream = telling(&ca, "provider.example", &["h2", "http/1.1"]).await;
    let gateway = Gateway::with_workers(trusting(&ca, &upstream, "provider.example"), 1).await;
    let client = Http2::connect(gateway.address).await;
    let asked = (0..8).map(|number| {
        let client = client.clone();
        tokio::spawn(async move { client.send(http2::request("POST", "/", number.to_string())).await })
    });
    for (number, reply) in asked.collect::<Vec<_>>().into_iter().enumerate() {
        let reply = soon("a reply", reply).await.expect("no panic");
        assert_eq!(reply.text(), format!("HTTP/2.0 provider.example provider.example {number}"));
    }
    let mut client = Raw::connect(gateway.address).await;
    client.write(request("POST /", &["transfer-encoding: chunked", "connection: x-hop"]) + "1\r\na\r\n0\r\n\r\n").await;
    assert_eq!(client.reply().await.body(), "HTTP/2.0 provider.example provider.example a");
    assert_eq!(upstream.accepted(), 1, "one connection carries them all");
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_refused_and_nothing_is_sent() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let upstream = telling(&ca, "provider.example", &["h2"]).await;
    for conf in [
        trusting(&other, &upstream, "provider.example"),
        trusting(&ca, &upstream, "elsewhere.example"),
        Conf::new(&upstream.url()),
    ] {
        let gateway = Gateway::start(conf).await;
        let reply = get(gateway.address, "/").await;
        assert_eq!(failed(&reply), (502, "upstream_tls_failed".into()));
        assert!(!reply.text().contains("127.0.0.1") && !reply.text().contains("example"), "{}", reply.text());
    }
}

#[tokio::test]
async fn a_base_path_goes_before_every_path_and_an_endpoint_is_chosen_by_name() {
    let upstream = RawUpstream::answering(OK).await;
    let other = RawUpstream::answering(OK).await;
    let conf = Conf::new(&format!("{}/base/v1", upstream.url())).set("host", "named.example:81");
    let gateway = Gateway::start(conf).await;
    assert_eq!(get(gateway.address, "/x?y").await.text(), "ok");
    assert_eq!(upstream.last().line(), "GET /base/v1/x?y HTTP/1.1");
    assert_eq!(upstream.last().values("host"), ["named.example:81"]);

    let conf = Conf::new(&upstream.url()).set("endpoints", json!({"other": format!("{}/there", other.url())}));
    let gateway = Gateway::start(conf.settings(json!({"plan": {"endpoint": "other"}}))).await;
    assert_eq!(get(gateway.address, "/x").await.text(), "ok");
    assert_eq!(other.last().line(), "GET /there/x HTTP/1.1");
    assert_eq!(other.last().values("host"), [other.address.to_string()]);
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn an_upstream_where_nobody_listens_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    for proxy in ["direct".to_owned(), format!("http://{address}"), format!("socks5://{address}")] {
        let gateway = Gateway::start(Conf::new(&format!("http://{address}")).set("proxy", proxy)).await;
        let reply = get(gateway.address, "/").await;
        assert_eq!(failed(&reply), (502, "upstream_unreachable".into()));
        assert!(!reply.text().contains("127.0.0.1"), "addresses are the operator's: {}", reply.text());
    }
}

/// Accepts and says nothing.
async fn silent() -> (SocketAddr, RawUpstream) {
    let upstream = RawUpstream::start(|mut raw, _| async move {
        raw.read_to_close().await;
    })
    .await;
    (upstream.address, upstream)
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_in_time_is_504() {
    let (address, _silent) = silent().await;
    let tls = Conf::new(&format!("https://{address}"));
    let proxied = Conf::new("http://provider.example").set("proxy", format!("http://{address}"));
    let socks = Conf::new("https://provider.example").set("proxy", format!("socks5://{address}"));
    let asked = [tls, proxied, socks].map(|conf| {
        tokio::spawn(async move {
            let gateway = Gateway::start(conf.set("timeout", 1)).await;
            failed(&get(gateway.address, "/").await)
        })
    });
    for reply in asked {
        assert_eq!(soon("a reply", reply).await.expect("no panic"), (504, "upstream_connect_timeout".into()));
    }
}

#[tokio::test]
async fn an_upstream_that_says_nothing_is_504_and_sees_the_request_cancelled() {
    let (closed, mut closings) = tokio::sync::mpsc::unbounded_channel();
    let upstream = RawUpstream::start(move |mut raw, _| {
        let closed = closed.clone();
        async move {
            raw.read_to_close().await;
            let _ = closed.send(());
        }
    })
    .await;
    let gateway = Gateway::start(Conf::new(&upstream.url()).set("first_byte_timeout_ms", 50)).await;
    assert_eq!(failed(&get(gateway.address, "/").await), (504, "upstream_first_byte_timeout".into()));
    soon("the upstream's connection to close", closings.recv()).await;
}

#[tokio::test]
async fn a_reply_that_stops_coming_breaks_the_clients_stream() {
    for head in ["content-length: 100\r\n\r\nfirst", "transfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n"] {
        let upstream = RawUpstream::start(move |mut raw, _| async move {
            raw.next_head().await;
            raw.write(format!("HTTP/1.1 200 OK\r\n{head}")).await;
            raw.read_to_close().await;
        })
        .await;
        let gateway = Gateway::start(Conf::new(&upstream.url()).set("idle_timeout_ms", 50)).await;
        let mut client = Raw::connect(gateway.address).await;
        client.write(request("GET /", &[])).await;
        let all = soon("the connection's end", client.read_to_close()).await;
        assert!(all.contains("first") && !all.contains("0\r\n\r\n"), "{all}");
        let client = Http2::connect(gateway.address).await;
        let reply = client.open(http2::request("GET", "/", "")).await.expect("a head");
        soon("the stream's end", reply.into_body().collect()).await.expect_err("the stream is reset");
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_upstream_has_closed_is_healed_on_a_fresh_one() {
    let (closed, mut closings) = tokio::sync::mpsc::unbounded_channel();
    let upstream = RawUpstream::start_recording(move |mut raw, _, recorder| {
        let closed = closed.clone();
        async move {
            recorder.note(raw.next().await.unwrap_or_default());
            raw.write(OK).await;
            drop(raw);
            let _ = closed.send(());
        }
    })
    .await;
    let gateway = Gateway::with_workers(Conf::new(&upstream.url()), 1).await;
    let mut client = Raw::connect(gateway.address).await;
    for exchange in 1..=10 {
        client.write(request("POST /", &["content-length: 4"]) + "body").await;
        let reply = client.reply().await;
        assert_eq!((reply.status(), reply.body().as_str()), (200, "ok"), "exchange {exchange}");
        soon("the upstream to close", closings.recv()).await;
        assert_eq!((upstream.accepted(), upstream.last().body().as_str()), (exchange, "body"));
    }
}

#[tokio::test]
async fn a_request_that_was_read_before_the_connection_closed_is_sent_again_only_if_it_is_safe() {
    let upstream = RawUpstream::start_recording(|mut raw, _, recorder| async move {
        recorder.note(raw.next().await.unwrap_or_default());
        raw.write(OK).await;
        if let Some(message) = raw.next().await {
            recorder.note(message);
        }
    })
    .await;
    let gateway = Gateway::with_workers(Conf::new(&upstream.url()), 1).await;
    let mut client = Raw::connect(gateway.address).await;
    assert_eq!(client.ask("GET /1", &[]).await.status(), 200);
    assert_eq!(client.ask("GET /2", &[]).await.status(), 200);
    assert_eq!((upstream.accepted(), upstream.requests().len()), (2, 3), "read once in vain, then served");
    client.write(request("POST /3", &["content-length: 1"]) + "a").await;
    let reply = client.reply().await;
    assert_eq!(reply.status(), 502);
    assert!(reply.body().contains("\"upstream_broken\""), "{}", reply.body());
    assert_eq!((upstream.accepted(), upstream.requests().len()), (2, 4), "it may have been processed");
}

#[tokio::test]
async fn connections_are_used_again_and_one_that_is_busy_is_not_shared() {
    let (release, released) = tokio::sync::watch::channel(false);
    let upstream = Upstream::start(move |request| {
        let mut released = released.clone();
        async move {
            if request.uri().path() == "/held" {
                let _ = released.wait_for(|released| *released).await;
            }
            reply(200, "ok")
        }
    })
    .await;
    let gateway = Gateway::with_workers(Conf::new(&upstream.url()), 1).await;
    for _ in 0..5 {
        assert_eq!(get(gateway.address, "/").await.status, 200);
    }
    assert_eq!(upstream.accepted(), 1);
    let address = gateway.address;
    let held = tokio::spawn(async move { get(address, "/held").await });
    let both = async {
        while upstream.accepted() < 2 {
            assert_eq!(get(address, "/").await.status, 200);
        }
    };
    soon("another connection beside the busy one", both).await;
    release.send(true).expect("the upstream waits");
    assert_eq!(held.await.expect("no panic").status, 200);
    assert_eq!(upstream.accepted(), 2);
}

/// An egress proxy of either kind that leads everything to `target` and notes what it was told.
async fn egress(target: SocketAddr, told: Arc<Mutex<Vec<u8>>>) -> RawUpstream {
    RawUpstream::start(move |mut raw, _| {
        let told = told.clone();
        async move {
            let mut first = [0; 1];
            if raw.0.peek(&mut first).await.is_err() {
                return;
            }
            if first == [5] {
                let mut greeting = [0; 4];
                let mut login = [0; 3 + 2 + 6];
                let mut request = [0; 4 + 1 + 16 + 2];
                raw.0.read_exact(&mut greeting).await.expect("a greeting");
                raw.write([5, 2]).await;
                raw.0.read_exact(&mut login).await.expect("a login");
                raw.write([1, 0]).await;
                raw.0.read_exact(&mut request).await.expect("a request");
                raw.write([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await;
                told.lock().expect("no panic").extend(login.iter().chain(&request));
            } else {
                let head = raw.next_head().await.expect("a request");
                told.lock().expect("no panic").extend(head);
                raw.write("HTTP/1.1 200 Connected\r\n\r\n").await;
            }
            let mut onward = TcpStream::connect(target).await.expect("the target listens");
            let _ = tokio::io::copy_bidirectional(&mut raw.0, &mut onward).await;
            let _ = onward.shutdown().await;
        }
    })
    .await
}

#[tokio::test]
async fn an_egress_proxy_leads_out_and_sees_no_more_than_a_name() {
    let ca = TestCa::new();
    let upstream = telling(&ca, "provider.example", &["http/1.1"]).await;
    for scheme in ["http", "socks5"] {
        let told = Arc::new(Mutex::new(Vec::new()));
        let proxy = egress(upstream.address, told.clone()).await;
        let path = ca.pem_file().to_string_lossy().into_owned();
        let conf = Conf::new("https://provider.example").gateway("trusted_ca", path);
        let conf = conf.set("proxy", format!("{scheme}://me:s%40cret@{}", proxy.address));
        let gateway = Gateway::with_workers(conf, 1).await;
        for _ in 0..2 {
            let reply = get(gateway.address, "/").await;
            assert_eq!(reply.text(), "HTTP/1.1 provider.example provider.example ");
        }
        assert_eq!(proxy.accepted(), 1, "the tunnel is kept");
        let told = String::from_utf8_lossy(&told.lock().expect("no panic")).into_owned();
        assert!(told.contains("provider.example"), "{scheme}: {told:?}");
        let login = if scheme == "http" { "Basic bWU6c0BjcmV0" } else { "\x02me\x06s@cret" };
        assert!(told.contains(login), "{scheme}: {told:?}");
    }
}

#[tokio::test]
async fn an_egress_proxy_that_refuses_is_named_as_such() {
    let proxy = RawUpstream::answering("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").await;
    let conf = Conf::new("https://provider.example").set("proxy", format!("http://{}", proxy.address));
    let gateway = Gateway::start(conf).await;
    let reply = get(gateway.address, "/").await;
    assert_eq!(failed(&reply), (502, "upstream_unreachable".into()));
    assert!(reply.text().contains("407") && !reply.text().contains("provider.example"), "{}", reply.text());
}
