//! HTTP semantics pass through.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use hyper::body::Frame;
use serde_json::json;

use crate::support::{
    Conf, Gateway, Http2, KEY, Raw, RawUpstream, UPSTREAM_KEY, Upstream, http2, reply, request, soon, stream,
};

pub const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A gateway whose plugin adds as little as it can.
pub async fn gateway(upstream_url: &str) -> Gateway {
    Gateway::start(Conf::new(upstream_url).settings(json!({"quiet": true}))).await
}

pub async fn answering(reply: &str) -> (RawUpstream, Gateway, Raw) {
    let upstream = RawUpstream::answering(reply).await;
    let gateway = gateway(&upstream.url()).await;
    let client = Raw::connect(gateway.address).await;
    (upstream, gateway, client)
}

#[tokio::test]
async fn methods_paths_and_queries_pass_untouched() {
    let (upstream, _gateway, mut client) = answering(OK).await;
    for line in [
        "GET /a%2Fb//c;d=1/%E4",
        "get /lower-case-is-another-method",
        "PROPFIND /x?a=%2F&b=%20+&&c&=",
        "M-SEARCH /a/b/%2e%2e/..;/x?",
        "DELETE /x?http://elsewhere.example/?y",
        "OPTIONS //elsewhere.example/x",
        "PATCH /|{}\"^?|{}^'",
        "PUT /ä/%00",
    ] {
        assert_eq!(client.ask(line, &[]).await.status(), 200, "{line}");
        assert_eq!(upstream.last().line(), format!("{line} HTTP/1.1"));
    }
    assert_eq!(upstream.accepted(), 1, "one connection serves them all");
}

#[tokio::test]
async fn request_headers_pass_with_duplicates_in_order_and_bytes_as_they_were() {
    let (upstream, _gateway, mut client) = answering(OK).await;
    let mut bytes =
        request("GET /", &["X-Twice: 1", "x-other: o", "x-twice: 2", "x-empty:", "cookie: a=b"]).into_bytes();
    bytes.truncate(bytes.len() - 2);
    bytes.extend_from_slice(b"x-latin: \xe4\xff\r\n\r\n");
    client.write(bytes).await;
    client.reply().await;
    let seen = upstream.last();
    assert_eq!(seen.values("x-twice"), ["1", "2"]);
    assert_eq!((seen.values("x-empty"), seen.values("cookie")), (vec![String::new()], vec!["a=b".to_owned()]));
    assert!(seen.head.windows(11).any(|window| window == b"x-latin: \xe4\xff"), "{}", seen.head());
}

#[tokio::test]
async fn reply_headers_pass_with_duplicates_in_order_and_bytes_as_they_were() {
    let upstream = RawUpstream::answering(
        &b"HTTP/1.1 299 Odd\r\nset-cookie: a=1\r\nx-latin: \xe4\xff\r\nset-cookie: b=2\r\nx-request-id: theirs\r\ndate: then\r\ncontent-length: 0\r\n\r\n"[..],
    )
    .await;
    let gateway = gateway(&upstream.url()).await;
    let reply = Raw::connect(gateway.address).await.ask("GET /", &[]).await;
    assert_eq!(reply.status(), 299);
    assert_eq!(reply.values("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(
        (reply.values("x-request-id"), reply.values("date")),
        (vec!["theirs".to_owned()], vec!["then".to_owned()])
    );
    assert!(reply.head.windows(11).any(|window| window == b"x-latin: \xe4\xff"), "{}", reply.head());
}

#[tokio::test]
async fn hop_by_hop_headers_and_those_that_connection_names_go_no_further_either_way() {
    let hop_by_hop = [
        "connection: x-secret, keep-alive, upgrade, http2-settings",
        "connection: X-Other ,,",
        "x-secret: 1",
        "x-other: 2",
        "keep-alive: timeout=5",
        "proxy-connection: keep-alive",
        "proxy-authenticate: Basic",
        "proxy-authorization: Basic eA==",
        "upgrade: h2c",
        "http2-settings: AAMAAABkAAQAAP__",
        "te: gzip, trailers",
        "x-stays: 3",
    ];
    let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{}\r\n\r\nok", hop_by_hop.join("\r\n"));
    let (upstream, _gateway, mut client) = answering(&reply).await;
    let reply = client.ask("GET /", &hop_by_hop).await;
    for (side, message) in [("request", upstream.last()), ("reply", reply)] {
        for field in &hop_by_hop[..11] {
            let name = field.split(':').next().unwrap_or_default();
            let may_stay = side == "request" && name == "te";
            assert!(may_stay || !message.has(name), "{side}: {name} in {}", message.head());
        }
        assert_eq!(message.values("x-stays"), ["3"], "{side}");
    }
    assert_eq!(upstream.last().values("te"), ["trailers"], "without which trailers do not pass");
}

#[tokio::test]
async fn bytes_beyond_ascii_do_not_hide_what_connection_and_te_say() {
    let fields = &b"connection: \xe4, x-secret ,\xff\r\nx-secret: 1\r\nte: \xe4, Trailers\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"[..];
    let upstream =
        RawUpstream::answering([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", fields, b"\r\nok"].concat()).await;
    let gateway = gateway(&upstream.url()).await;
    let mut client = Raw::connect(gateway.address).await;
    let head = request("GET /", &[]);
    client.write([&head.as_bytes()[..head.len() - 2], fields, b"\r\n"].concat()).await;
    let reply = client.reply().await;
    for (side, message) in [("request", upstream.last()), ("reply", reply)] {
        for name in ["connection", "x-secret", "http2-settings"] {
            assert!(!message.has(name), "{side}: {name} in {}", message.head());
        }
    }
    assert_eq!(upstream.last().values("te"), ["trailers"]);
}

#[tokio::test]
async fn a_client_cannot_make_the_gateway_drop_what_the_gateway_adds() {
    let (upstream, _gateway, mut client) = answering(OK).await;
    let trick =
        "connection: authorization, host, content-length, x-forwarded-for, x-forwarded-host, x-puppet-mark, te, close";
    client.write(request("POST /", &[trick, "content-length: 3"]) + "abc").await;
    assert_eq!(client.reply().await.status(), 200);
    let seen = upstream.last();
    assert_eq!(seen.values("authorization"), [format!("Bearer {UPSTREAM_KEY}")]);
    assert_eq!(seen.values("host"), [upstream.address.to_string()]);
    assert_eq!((seen.values("content-length"), seen.body()), (vec!["3".to_owned()], "abc".to_owned()));
    assert!(
        seen.has("x-forwarded-for") && seen.has("x-forwarded-host") && seen.has("x-puppet-mark"),
        "{}",
        seen.head()
    );
}

#[tokio::test]
async fn forwarded_headers_tell_of_the_client_and_no_client_makes_them_up() {
    let (upstream, _gateway, mut client) = answering(OK).await;
    client.ask("GET /", &[]).await;
    assert_eq!(upstream.last().values("x-forwarded-for"), ["127.0.0.1"]);
    let claims = [
        "x-forwarded-for: 192.0.2.1, 192.0.2.2",
        "x-forwarded-for: 192.0.2.3",
        "x-forwarded-proto: gopher",
        "x-forwarded-host: made.up",
        "x-forwarded-host: twice.made.up",
    ];
    client.ask("GET /", &claims).await;
    let seen = upstream.last();
    assert_eq!(seen.values("x-forwarded-for"), ["192.0.2.1, 192.0.2.2, 192.0.2.3, 127.0.0.1"]);
    assert_eq!(seen.values("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.values("x-forwarded-host"), ["gateway.test"]);
}

#[tokio::test]
async fn the_gateway_answers_an_expectation_itself_and_does_not_pass_it_on() {
    let (upstream, _gateway, mut client) = answering(OK).await;
    client.write(request("POST /", &["expect: 100-continue", "content-length: 3"])).await;
    let interim = client.bare_reply().await;
    assert_eq!(interim.line(), "HTTP/1.1 100 Continue");
    client.write("abc").await;
    assert_eq!(client.reply().await.body(), "ok");
    assert!(!upstream.last().has("expect"), "{}", upstream.last().head());
    assert_eq!(upstream.last().body(), "abc");
}

#[tokio::test]
async fn what_a_provider_says_of_its_other_addresses_goes_no_further() {
    let (_upstream, gateway, mut client) =
        answering("HTTP/1.1 200 OK\r\nalt-svc: h3=\":443\"; ma=86400\r\ncontent-length: 2\r\n\r\nok").await;
    let reply = client.ask("GET /", &[]).await;
    assert!(!reply.has("alt-svc"), "{}", reply.head());
    let reply = Http2::connect(gateway.address).await.send(http2::request("GET", "/", "")).await;
    assert_eq!((reply.text(), reply.header("alt-svc")), ("ok", None));
}

#[tokio::test]
async fn a_head_reply_keeps_its_length_and_the_connection_serves_on() {
    let (upstream, _gateway, mut client) = answering("HTTP/1.1 200 OK\r\ncontent-length: 12345\r\n\r\n").await;
    for _ in 0..2 {
        client.write(request("HEAD /", &[])).await;
        let reply = client.bare_reply().await;
        assert_eq!((reply.status(), reply.values("content-length")), (200, vec!["12345".to_owned()]));
    }
    assert_eq!(upstream.accepted(), 1, "the upstream's connection serves on too");
}

#[tokio::test]
async fn a_head_reply_without_a_length_is_given_none() {
    let (_upstream, _gateway, mut client) =
        answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: x/y\r\n\r\n").await;
    for _ in 0..2 {
        client.write(request("HEAD /", &[])).await;
        let reply = client.bare_reply().await;
        assert!(!reply.has("content-length"), "{}", reply.head());
        assert_eq!(reply.values("content-type"), ["x/y"]);
    }
}

#[tokio::test]
async fn replies_without_a_body_leave_both_connections_in_use() {
    for head in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\ncontent-length: 500\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n",
        "HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ] {
        let (upstream, _gateway, mut client) = answering(head).await;
        for _ in 0..2 {
            client.write(request("GET /", &[])).await;
            assert_eq!(client.bare_reply().await.line(), head.lines().next().unwrap_or_default());
        }
        assert_eq!(upstream.accepted(), 1, "{head}");
    }
}

#[tokio::test]
async fn trailers_pass_up_and_down() {
    let reply =
        "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 42\r\n\r\n";
    let (upstream, _gateway, mut client) = answering(reply).await;
    let head = request("POST /", &["te: trailers", "trailer: x-check", "transfer-encoding: chunked"]);
    client.write(head + "3\r\nabc\r\n0\r\nx-check: 7\r\n\r\n").await;
    let reply = client.reply().await;
    assert_eq!(reply.body(), "2\r\nok\r\n0\r\nx-sum: 42\r\n\r\n");
    assert_eq!(upstream.last().body(), "3\r\nabc\r\n0\r\nx-check: 7\r\n\r\n");
}

#[tokio::test]
async fn interim_replies_of_the_upstream_are_swallowed() {
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let (_upstream, _gateway, mut client) = answering(&format!("{early}{OK}")).await;
    for _ in 0..2 {
        let reply = client.ask("GET /", &[]).await;
        assert_eq!((reply.status(), reply.body().as_str()), (200, "ok"));
        assert!(!reply.has("link"));
    }
}

#[tokio::test]
async fn an_upstream_that_switches_protocols_unasked_is_broken() {
    let (_upstream, _gateway, mut client) =
        answering("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nanything").await;
    let reply = client.ask("GET /", &["connection: upgrade", "upgrade: x"]).await;
    assert_eq!(reply.status(), 502, "{}", reply.head());
    assert!(reply.body().contains("upstream_broken"));
}

#[tokio::test]
async fn an_upstream_that_closes_after_its_reply_does_not_close_the_clients_connection() {
    let upstream = RawUpstream::start(|mut raw, _| async move {
        raw.next().await;
        raw.write("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end").await;
    })
    .await;
    let gateway = gateway(&upstream.url()).await;
    let mut client = Raw::connect(gateway.address).await;
    for exchange in 1..=3 {
        let reply = client.ask("GET /", &[]).await;
        assert_eq!(reply.body(), "D\r\nuntil the end\r\n0\r\n\r\n");
        assert_eq!(upstream.accepted(), exchange);
    }
}

#[tokio::test]
async fn http_1_0_clients_are_served_with_and_without_keep_alive() {
    let (_upstream, gateway, mut client) =
        answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
    let head = format!("GET / HTTP/1.0\r\nauthorization: Bearer {KEY}\r\n");
    client.write(format!("{head}\r\n")).await;
    let reply = soon("the reply", client.read_to_close()).await;
    assert!(reply.starts_with("HTTP/1.0 200 OK") && reply.ends_with("\r\n\r\nok"), "{reply}");
    assert!(!reply.contains("chunked"), "{reply}");

    let (_upstream, _other, mut client) = answering(OK).await;
    for _ in 0..2 {
        client.write(format!("{head}connection: keep-alive\r\n\r\n")).await;
        assert_eq!(client.reply().await.body(), "ok");
    }
    drop(gateway);
}

#[tokio::test]
async fn an_http_1_0_reply_that_breaks_off_is_not_complete_for_the_client() {
    let upstream = RawUpstream::start(|mut raw, number| async move {
        raw.next().await;
        raw.write("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\nhalf").await;
        if number > 0 {
            // Says no more and does not close.
            let _ = raw.read_to_close().await;
        }
    })
    .await;
    let conf = Conf::new(&upstream.url()).settings(json!({"quiet": true})).set("idle_timeout_ms", 200);
    let gateway = Gateway::start(conf).await;
    let mut client = Raw::connect(gateway.address).await;
    let whole = client.ask("GET /", &[]).await;
    assert_eq!((whole.line().as_str(), whole.body().as_str()), ("HTTP/1.1 200 OK", "4\r\nhalf\r\n0\r\n\r\n"));
    client.write(request("GET /", &[])).await;
    let cut = soon("the break", client.read_to_close()).await;
    assert!(cut.starts_with("HTTP/1.1 200 OK") && cut.contains("half"), "{cut}");
    assert!(cut.contains("transfer-encoding: chunked") && !cut.contains("0\r\n\r\n"), "cut is not complete: {cut}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_one_after_the_other_and_in_order() {
    let upstream = Upstream::start(|request| async move { reply(200, request.uri().path().to_owned()) }).await;
    let gateway = gateway(&upstream.url()).await;
    let mut client = Raw::connect(gateway.address).await;
    let post = request("POST /2", &["content-length: 3"]) + "abc";
    client
        .write(request("GET /1", &[]) + &post + &request("GET /3", &["connection: close"]) + &request("GET /4", &[]))
        .await;
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.reply().await.body(), path);
    }
    client.closed().await;
}

#[tokio::test]
async fn http_2_clients_are_served_many_streams_at_one_time() {
    let (release, released) = tokio::sync::watch::channel(false);
    let upstream = Upstream::start(move |request| {
        let mut released = released.clone();
        async move {
            if request.uri().path() != "/quick" {
                let _ = released.wait_for(|released| *released).await;
            }
            reply(200, format!("{} {:?}", request.uri(), request.version()))
        }
    })
    .await;
    let gateway = gateway(&upstream.url()).await;
    let client = Http2::connect(gateway.address).await;
    let waiting: Vec<_> = (0..10)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.send(http2::request("POST", &format!("/{number}?q"), "body")).await })
        })
        .collect();
    assert_eq!(soon("the quick one", client.send(http2::request("GET", "/quick", ""))).await.text(), "/quick HTTP/1.1");
    release.send(true).expect("the upstream waits");
    for (number, reply) in waiting.into_iter().enumerate() {
        let reply = soon("a reply", reply).await.expect("no panic");
        assert_eq!((reply.status.as_u16(), reply.text()), (200, format!("/{number}?q HTTP/1.1").as_str()));
        assert!(reply.header("x-aiproxy-request-id").is_some());
    }
}

#[tokio::test]
async fn http_2_requests_go_up_with_their_host_trailers_and_cookies_as_http_1_wants_them() {
    let (upstream, gateway, _client) = answering(OK).await;
    let client = Http2::connect(gateway.address).await;
    let (sender, body) = stream();
    let request = Request::post("http://gateway.test/x")
        .header("x-api-key", KEY)
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("trailer", "x-check")
        .header("te", "trailers")
        .body(body)
        .expect("a request");
    let trailers = HeaderMap::from_iter([("x-check".parse().expect("a name"), HeaderValue::from_static("7"))]);
    sender.send(Ok(Frame::data(Bytes::from("abc")))).expect("the body is wanted");
    sender.send(Ok(Frame::trailers(trailers))).expect("the body is wanted");
    drop(sender);
    assert_eq!(client.send(request).await.text(), "ok");
    let seen = upstream.last();
    assert_eq!(seen.body(), "3\r\nabc\r\n0\r\nx-check: 7\r\n\r\n");
    assert_eq!(seen.values("cookie"), ["a=1; b=2"], "RFC 9113, section 8.2.3");
    assert_eq!(seen.values("x-forwarded-host"), ["gateway.test"]);
    assert_eq!(seen.values("host"), [upstream.address.to_string()]);
}

#[tokio::test]
async fn http_2_replies_carry_trailers_and_nothing_of_the_connection() {
    let reply = "HTTP/1.1 200 OK\r\nkeep-alive: timeout=9\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 42\r\nconnection: close\r\ntransfer-encoding: chunked\r\ncontent-length: 9\r\n\r\n";
    let (_upstream, gateway, _client) = answering(reply).await;
    let client = Http2::connect(gateway.address).await;
    for _ in 0..2 {
        let reply = client.send(http2::request("GET", "/", "")).await;
        assert_eq!(reply.text(), "ok");
        for name in ["connection", "keep-alive", "transfer-encoding", "x-hop"] {
            assert!(reply.header(name).is_none(), "{name}");
        }
        let trailers = reply.trailers.expect("trailers");
        assert_eq!(
            trailers,
            HeaderMap::from_iter([("x-sum".parse().expect("a name"), HeaderValue::from_static("42"))])
        );
    }
}
