//! Opening a WebSocket: what a handshake must be, who is let in, and what an upstream's refusal looks like.

use http::Response;
use serde_json::json;
use tokio_tungstenite::tungstenite::Error;

use crate::support::sockets::{self, SocketUpstream, UPGRADE, connect, dial};
use crate::support::{Answer, Gateway, KEY, Raw, RawUpstream, Upstream, ask, channel, reply, request, whole};

/// The reply to a handshake that is refused.
async fn refused(gateway: &Gateway, headers: &[(&str, &str)]) -> Answer {
    let mut all = vec![
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("x-api-key", KEY),
    ];
    all.retain(|(name, _)| !headers.iter().any(|(other, _)| other == name));
    all.extend(headers.iter().filter(|(_, value)| !value.is_empty()));
    ask(gateway.address, "GET", "/", &all).await
}

async fn echoing() -> (SocketUpstream, Gateway) {
    let upstream = SocketUpstream::echo().await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    (upstream, gateway)
}

#[tokio::test]
async fn an_unsound_handshake_is_refused_with_its_reason_and_reaches_no_upstream() {
    let (upstream, gateway) = echoing().await;
    for (headers, status, reason) in [
        (vec![("sec-websocket-version", "8")], 426, "Sec-WebSocket-Version"),
        (vec![("sec-websocket-version", "")], 426, "Sec-WebSocket-Version"),
        (vec![("upgrade", "")], 426, "reverse proxy"),
        (vec![("upgrade", "h2c")], 426, "reverse proxy"),
        (vec![("connection", "keep-alive")], 400, "Connection"),
        (vec![("sec-websocket-key", "")], 400, "Sec-WebSocket-Key"),
        (vec![("sec-websocket-key", "c2hvcnQ=")], 400, "16 bytes"),
        (vec![("sec-websocket-key", "not base64 at all!!!!!!!")], 400, "16 bytes"),
        (vec![("sec-websocket-protocol", "a b, c")], 400, "Sec-WebSocket-Protocol"),
    ] {
        let answer = refused(&gateway, &headers).await;
        assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|text| text.contains(reason)), "{answer:?}");
        if status == 426 {
            assert_eq!(
                (answer.header("sec-websocket-version"), answer.header("upgrade")),
                (Some("13"), Some("websocket"))
            );
        }
    }
    let [connection, upgrade, version, key] = UPGRADE;
    for (line, last, reason) in [
        ("POST /", "x-nothing: 1", "GET"),
        ("GET /", "content-length: 3", "body"),
        ("GET /", "transfer-encoding: chunked", "body"),
        ("GET /", "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==", "exactly one"),
    ] {
        let mut raw = Raw::connect(gateway.address).await;
        raw.write(request(line, &[connection, upgrade, version, key, last])).await;
        let answer = raw.reply().await;
        assert!(answer.status() == 400 && answer.body().contains(reason), "{answer:?}");
    }
    assert!(upstream.handshakes().is_empty());
}

#[tokio::test]
async fn tokens_are_found_in_lists_and_in_any_case() {
    let (_upstream, gateway) = echoing().await;
    let mut raw = Raw::connect(gateway.address).await;
    let fields = ["connection: keep-alive, uPgRaDe", "upgrade: foo, WebSocket", UPGRADE[2], UPGRADE[3]];
    raw.write(request("GET /", &fields)).await;
    let head = raw.bare_reply().await;
    assert_eq!(head.status(), 101);
    // RFC 6455, section 1.3.
    assert_eq!(head.values("sec-websocket-accept"), ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]);
    assert_eq!(head.values("connection"), ["Upgrade"]);
}

#[tokio::test]
async fn a_channel_without_websockets_answers_400_and_one_beside_it_serves() {
    let upstream = SocketUpstream::echo().await;
    let conf = sockets::conf(&upstream.url())
        .set("supports_websocket", false)
        .channel("second", {
            let mut second = channel(&upstream.url());
            second["supports_websocket"] = json!(true);
            second
        })
        .keys(json!([
            {"proxy_key": KEY, "id": "first", "channel": "c"},
            {"proxy_key": "sk-both-0123456789", "id": "both", "channels": ["c", "second"]},
        ]));
    let gateway = Gateway::start(conf).await;
    let answer = refused(&gateway, &[]).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (400, "websocket_not_supported".to_owned()));
    let (mut socket, _) = dial(gateway.address, "/", &[("x-api-key", "sk-both-0123456789")]).await.expect("accepted");
    socket.say("hello").await;
    assert_eq!(socket.hear().await, "hello");
}

#[tokio::test]
async fn sockets_go_to_the_channels_websocket_url() {
    let (http, sockets) = (Upstream::echo().await, SocketUpstream::echo().await);
    let conf = crate::support::Conf::new(&http.url()).set("websocket_url", format!("ws://{}/base", sockets.address));
    let gateway = Gateway::start(conf).await;
    connect(gateway.address, "/live?a=b").await;
    assert_eq!(sockets.handshakes()[0].uri().to_string(), "/base/live?a=b");
}

#[tokio::test]
async fn every_form_of_a_key_opens_a_socket_and_none_is_passed_on() {
    let (upstream, gateway) = echoing().await;
    let bearer = format!("bearer {KEY}");
    let subprotocol = format!("realtime, openai-insecure-api-key.{KEY}, openai-beta.realtime-v1");
    let query = format!("/?key={KEY}&model=m");
    for (path, headers, presented) in [
        ("/", vec![("authorization", bearer.as_str())], "authorization bearer"),
        ("/", vec![("x-goog-api-key", KEY)], "header x-goog-api-key"),
        (query.as_str(), vec![], "query key"),
    ] {
        dial(gateway.address, path, &headers).await.expect("accepted");
        let handshake = upstream.handshakes().pop().expect("one came");
        assert_eq!(handshake.headers()["x-puppet-saw-presented"], presented);
        assert!(!format!("{handshake:?}").contains(KEY));
    }
    let refused = dial(gateway.address, "/", &[("sec-websocket-protocol", &subprotocol)]).await;
    // The library's client wants one of those that it offered.
    let reply = refused.expect("the gateway takes one for the browser").1;
    assert_eq!(reply.headers()["sec-websocket-protocol"], "realtime");
    let handshake = upstream.handshakes().pop().expect("one came");
    assert_eq!(handshake.headers()["x-puppet-saw-presented"], "subprotocol");
    assert_eq!(handshake.headers()["sec-websocket-protocol"], "realtime, openai-beta.realtime-v1");
    assert!(!format!("{handshake:?}").contains(KEY));
}

fn refusal(error: Error) -> Response<Option<Vec<u8>>> {
    match error {
        Error::Http(reply) => *reply,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused_before_anybody_is_asked() {
    let (upstream, gateway) = echoing().await;
    for (headers, status) in [
        (vec![], 401),
        (vec![("x-api-key", "sk-nobody-0123456789")], 403),
        (vec![("sec-websocket-protocol", "realtime, openai-insecure-api-key.sk-nobody-0123456789")], 403),
        (vec![("x-api-key", KEY), ("sec-websocket-protocol", "openai-insecure-api-key.sk-other-0123456789")], 400),
    ] {
        let reply = refusal(dial(gateway.address, "/", &headers).await.map(|_| ()).expect_err("refused"));
        assert_eq!(reply.status(), status, "{headers:?}");
        assert!(!format!("{reply:?}").contains("sk-nobody-0123456789"));
    }
    assert!(upstream.handshakes().is_empty());
    let protocols = &gateway.stats().await["protocol_stats"];
    assert_eq!((&protocols["websocket_requests"], &protocols["http_requests"]), (&json!(4), &json!(0)));
    assert_eq!(protocols["websocket_connections"], 0);
}

#[tokio::test]
async fn sub_protocols_are_negotiated_end_to_end() {
    let upstream = SocketUpstream::choosing(Some("chosen"), |mut socket| async move {
        let _ = socket.closed().await;
    })
    .await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    let key = ("x-api-key", KEY);
    let offers = [key, ("sec-websocket-protocol", "first, chosen")];
    let (_, reply) = dial(gateway.address, "/", &offers).await.expect("accepted");
    assert_eq!(reply.headers()["sec-websocket-protocol"], "chosen");
    let answer = refused(&gateway, &[("sec-websocket-protocol", "other")]).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (502, "upstream_broken".to_owned()));
}

#[tokio::test]
async fn an_upstreams_refusal_reaches_the_client_whole() {
    let upstream = Upstream::start(|_| async {
        let mut refused = reply(401, "");
        let text = format!("{{\"error\":\"no such key\",\"padding\":\"{}\"}}", "x".repeat(200_000));
        *refused.body_mut() = whole(text);
        refused.headers_mut().insert("x-request-id", "r-1".parse().expect("a value"));
        refused
    })
    .await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    let answer = refused(&gateway, &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-request-id")), (401, Some("r-1")));
    assert!(answer.text().starts_with("{\"error\":\"no such key\"") && answer.body.len() > 200_000);
    // The client's connection is as good as before.
    let mut raw = Raw::connect(gateway.address).await;
    for _ in 0..2 {
        raw.write(request("GET /", &UPGRADE)).await;
        assert_eq!(raw.reply().await.status(), 401);
    }
    let stats = gateway.stats().await;
    assert_eq!(stats["protocol_stats"]["websocket_requests"], 3);
    assert_eq!(stats["protocol_stats"]["websocket_connections"], 0);
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_502_and_a_silent_one_504() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = closed.local_addr().expect("an address");
    drop(closed);
    let gateway = Gateway::start(sockets::conf(&format!("http://{address}"))).await;
    let answer = refused(&gateway, &[]).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (502, "upstream_unreachable".to_owned()));

    let silent = RawUpstream::start(|mut raw, _| async move {
        raw.next().await;
        std::future::pending::<()>().await;
    })
    .await;
    let gateway = Gateway::start(sockets::conf(&silent.url()).set("first_byte_timeout_ms", 100)).await;
    let answer = refused(&gateway, &[]).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (504, "upstream_first_byte_timeout".to_owned()));
}

#[tokio::test]
async fn an_unsound_acceptance_is_502() {
    for lines in [
        "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: bm90IHRoaXMgb25l\r\n",
        "upgrade: websocket\r\nconnection: upgrade\r\n",
        "upgrade: h2c\r\nconnection: upgrade\r\n",
        "",
    ] {
        let upstream = RawUpstream::answering(format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n")).await;
        let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
        let answer = refused(&gateway, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (502, "upstream_broken".to_owned()), "{lines}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_kept_out_where_origins_are_listed() {
    let upstream = SocketUpstream::echo().await;
    let conf = sockets::conf(&upstream.url()).gateway("cors_origins", json!(["https://chat.example.com"]));
    let gateway = Gateway::start(conf).await;
    let own = format!("http://{}", gateway.address);
    for origin in ["https://chat.example.com", own.as_str(), ""] {
        let headers = [("x-api-key", KEY), ("origin", origin)];
        let headers = if origin.is_empty() { &headers[..1] } else { &headers[..] };
        assert!(dial(gateway.address, "/", headers).await.is_ok(), "{origin}");
    }
    let scheme = format!("evil://{}", gateway.address);
    for origin in ["https://evil.example.com", "null", "http://chat.example.com", &scheme] {
        let answer = refused(&gateway, &[("origin", origin)]).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (403, "origin_not_allowed".to_owned()), "{origin}");
    }
}

#[tokio::test]
async fn an_ephemeral_token_goes_to_the_provider_and_no_proxy_key_in_its_place() {
    let upstream = SocketUpstream::echo().await;
    let settings = json!({"plan": {"credentials": []}});
    let gateway = Gateway::start(sockets::conf(&upstream.url()).settings(settings)).await;
    let misplaced = format!("Token {KEY}");
    for (token, expected) in [("Token auth_tokens/abc", Some("Token auth_tokens/abc")), (misplaced.as_str(), None)] {
        dial(gateway.address, "/", &[("x-goog-api-key", KEY), ("authorization", token)]).await.expect("accepted");
        let handshake = upstream.handshakes().pop().expect("one came");
        let passed = handshake.headers().get("authorization").map(|value| value.to_str().expect("text").to_owned());
        assert_eq!(passed.as_deref(), expected);
        assert!(!format!("{handshake:?}").contains(KEY));
    }
}

#[tokio::test]
async fn a_plan_that_edits_a_body_is_the_plugins_fault() {
    let upstream = SocketUpstream::echo().await;
    let settings = json!({"plan": {"body": [["set", "/a", "1"]]}});
    let gateway = Gateway::start(sockets::conf(&upstream.url()).settings(settings)).await;
    let answer = refused(&gateway, &[]).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (502, "plugin_answer_invalid".to_owned()));
}
