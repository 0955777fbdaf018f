//! What two parties could read differently goes no further, in either direction.

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde_json::json;

use crate::http::{OK, answering, gateway};
use crate::support::{Conf, Gateway, Http2, KEY, Raw, RawUpstream, Upstream, http2, reply, request, soon, stream};

#[tokio::test]
async fn no_trailer_carries_a_credential_or_framing_upstream() {
    let (upstream, gateway, mut client) = answering(OK).await;
    let names = "trailer: x-check, authorization, x-api-key, connection, upgrade, x-forwarded-for, content-length";
    let trailers = format!(
        "x-check: 7\r\nauthorization: Bearer {KEY}\r\nx-api-key: {KEY}\r\nconnection: close\r\nupgrade: x\r\nx-forwarded-for: 1\r\ncontent-length: 9\r\n"
    );
    client
        .write(request("POST /", &[names, "transfer-encoding: chunked"]) + "1\r\na\r\n0\r\n" + &trailers + "\r\n")
        .await;
    assert_eq!(client.reply().await.status(), 200);
    assert_eq!(upstream.last().body(), "1\r\na\r\n0\r\nx-check: 7\r\n\r\n");
    drop(gateway);
}

#[tokio::test]
async fn what_two_parties_could_read_differently_is_refused_and_the_connection_closed() {
    let (upstream, gateway, _client) = answering(OK).await;
    let key = format!("authorization: Bearer {KEY}\r\n");
    let smuggled = request("GET /smuggled", &[]);
    for head in [
        format!("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n{key}\r\n"),
        format!("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n{key}\r\n"),
        format!("GET / HTTP/1.1\r\n{key}\r\n"),
        format!("POST / HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        format!(
            "POST / HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!(
            "POST / HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!("POST / HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.0\r\nhost: a\r\n{key}transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n{key}\r\n"),
        format!("GET http://b/ HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        format!("GET http://u@a/ HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        format!("OPTIONS * HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        format!("POST / HTTP/1.1\r\nhost: a\r\n{key}content-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        format!("POST / HTTP/1.1\r\nhost: a\r\n{key}content-length: +2\r\n\r\nab"),
        format!("POST / HTTP/1.1\r\nhost: a\r\n{key}content-length: 2, 2\r\n\r\nab"),
        format!("POST / HTTP/1.1\r\nhost: a\r\n{key}content-length: 0x2\r\n\r\nab"),
        format!("POST / HTTP/1.1\r\nhost: a\r\n{key}content-length: 99999999999999999999\r\n\r\nab"),
        format!("GET / HTTP/1.1\r\nhost: a\r\n{key}x-a: b\r\n c\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost : a\r\n{key}\r\n"),
        format!("POST / HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding : chunked\r\n\r\n0\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: a\r\n{key}x-a: b\0c\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: a\r\n{key}x-a: b\rx-b: c\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: a\r\n{key}\0x-a: b\r\n\r\n"),
        format!("GET /a b HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        format!("GET / HTTP/1.1 \r\nhost: a\r\n{key}\r\n"),
        format!("GET / HTTP/3.0\r\nhost: a\r\n{key}\r\n"),
        format!("GET / HTTP/1.1\r\n: a\r\nhost: a\r\n{key}\r\n"),
    ] {
        let mut client = Raw::connect(gateway.address).await;
        client.write(format!("{head}{smuggled}")).await;
        let reply = client.reply().await;
        assert_eq!(reply.status(), 400, "{head:?} got {}", reply.head());
        assert!(reply.body().contains("\"malformed_request\""), "{head:?} got {}", reply.body());
        assert!(reply.has("x-aiproxy-request-id"), "{head:?} got {}", reply.head());
        client.closed().await;
    }
    assert_eq!(upstream.accepted(), 0, "nothing of it went upstream");
}

#[tokio::test]
async fn built_in_paths_and_preflights_are_no_way_around_a_refusal() {
    let upstream = RawUpstream::answering(OK).await;
    let conf = Conf::new(&upstream.url()).gateway("cors_origins", json!(["https://page.test"]));
    let gateway = Gateway::start(conf).await;
    let smuggled = request("GET /healthz", &[]);
    let preflight = "origin: https://page.test\r\naccess-control-request-method: POST\r\n";
    for (method, path, fields) in
        [("GET", "/healthz", ""), ("HEAD", "/stats", ""), ("GET", "/dashboard", ""), ("OPTIONS", "/x", preflight)]
    {
        for (target, hosts) in [
            (path.to_owned(), "host: a\r\nhost: b\r\n"),
            (path.to_owned(), ""),
            (format!("http://b{path}"), "host: a\r\n"),
            (path.to_owned(), "host: a\r\ntransfer-encoding: gzip, chunked\r\n"),
        ] {
            let mut client = Raw::connect(gateway.address).await;
            let head = format!("{method} {target} HTTP/1.1\r\n{hosts}{fields}\r\n");
            let body = if hosts.contains("chunked") { "0\r\n\r\n" } else { "" };
            client.write(format!("{head}{body}{smuggled}")).await;
            let all = soon("the refusal and the end", client.read_to_close()).await;
            assert!(all.starts_with("HTTP/1.1 400 "), "{head:?} got {all}");
            assert!(!all.contains("HTTP/1.1 200"), "{head:?} got {all}");
        }
        let mut client = Raw::connect(gateway.address).await;
        client.write(format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{fields}connection: close\r\n\r\n")).await;
        let all = soon("the reply", client.read_to_close()).await;
        assert!(all.starts_with("HTTP/1.1 20"), "{method} {path} got {all}");
    }
}

#[tokio::test]
async fn what_is_only_unusual_reaches_the_upstream_in_exactly_one_framing() {
    let (upstream, gateway, _client) = answering(OK).await;
    let key = format!("authorization: Bearer {KEY}\r\n");
    let cases = [
        // (a head and its body, the upstream's framing, the body there, whether the connection ends)
        (
            format!(
                "POST / HTTP/1.1\r\nhost: a\r\n{key}content-length: 30\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
            ),
            "transfer-encoding",
            "1\r\na\r\n0\r\n\r\n",
            true,
        ),
        (
            format!(
                "POST / HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: chunked\r\ncontent-length: 30\r\n\r\n1\r\na\r\n0\r\n\r\n"
            ),
            "transfer-encoding",
            "1\r\na\r\n0\r\n\r\n",
            true,
        ),
        (
            format!(
                "POST / HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: chunked\r\ncontent-length: -1\r\n\r\n1\r\na\r\n0\r\n\r\n"
            ),
            "transfer-encoding",
            "1\r\na\r\n0\r\n\r\n",
            true,
        ),
        (
            format!("POST / HTTP/1.1\r\nhost: a\r\n{key}content-length: 2\r\ncontent-length: 2\r\n\r\nab"),
            "content-length",
            "ab",
            false,
        ),
        (
            format!("POST / HTTP/1.1\nhost: a\n{}content-length: 2\n\nab", key.replace('\r', "")),
            "content-length",
            "ab",
            false,
        ),
        (
            format!(
                "POST / HTTP/1.1\r\nhost: a\r\n{key}Transfer-Encoding: CHUNKED\r\n\r\n1;ext=\"\\n\"\r\na\r\n0;x\r\n\r\n"
            ),
            "transfer-encoding",
            "1\r\na\r\n0\r\n\r\n",
            false,
        ),
        (
            format!("GET /with-a-body HTTP/1.1\r\nhost: a\r\n{key}content-length: 2\r\n\r\nab"),
            "content-length",
            "ab",
            false,
        ),
        (
            format!(
                "GET /with-chunks HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
            ),
            "transfer-encoding",
            "1\r\na\r\n0\r\n\r\n",
            false,
        ),
        (
            format!("GET http://A:80/absolute HTTP/1.1\r\nhost: a:80\r\n{key}content-length: 1\r\n\r\na"),
            "content-length",
            "a",
            false,
        ),
        (format!("\r\nPOST / HTTP/1.1\r\nhost: a\r\n{key}content-length: 1\r\n\r\na"), "content-length", "a", false),
    ];
    for (sent, framing, body, ends) in cases {
        let before = upstream.requests().len();
        let mut client = Raw::connect(gateway.address).await;
        client.write(format!("{sent}{}", request("GET /next", &["connection: close"]))).await;
        assert_eq!(client.reply().await.status(), 200, "{sent:?}");
        if !ends {
            assert_eq!(client.reply().await.status(), 200, "the next request after {sent:?}");
        }
        client.closed().await;
        let seen = &upstream.requests()[before..];
        assert_eq!(seen.len(), if ends { 1 } else { 2 }, "{sent:?}");
        let framings = seen[0].values("content-length").len() + seen[0].values("transfer-encoding").len();
        assert_eq!((framings, seen[0].has(framing)), (1, true), "{sent:?} became {}", seen[0].head());
        assert_eq!(seen[0].body(), body, "{sent:?}");
        assert!(seen[0].line().contains(" /"), "origin form: {}", seen[0].line());
    }
}

#[tokio::test]
async fn a_body_that_is_malformed_on_its_way_ends_upstream_as_incomplete() {
    for body in ["1\r\na\r\nzz\r\n", "1\r\nabc\r\n0\r\n\r\n", "1\r\na\r\n-1\r\n", "1\r\na\r\nfffffffffffffffff\r\n"] {
        let upstream = RawUpstream::start_recording(|mut raw, _, recorder| async move {
            let head = raw.next_head().await.unwrap_or_default();
            let body = raw.read_to_close().await.into_bytes();
            recorder.note(crate::support::Message { head, body });
        })
        .await;
        let gateway = gateway(&upstream.url()).await;
        let mut client = Raw::connect(gateway.address).await;
        client.write(request("POST /", &["transfer-encoding: chunked"]) + body + &request("GET /smuggled", &[])).await;
        upstream.recorded(1).await;
        assert!(!upstream.last().body().contains("0\r\n\r\n"), "{body:?} became {:?}", upstream.last().body());
        let rest = soon("the connection's end", client.read_to_close()).await;
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400 "), "{body:?} got {rest}");
        assert_eq!(rest.matches("HTTP/1.1").count(), usize::from(!rest.is_empty()), "{rest}");
        assert_eq!(upstream.requests().len(), 1, "{body:?}");
    }
}

#[tokio::test]
async fn the_body_of_a_refused_request_is_never_taken_for_a_request() {
    let (upstream, gateway, _client) = answering(OK).await;
    let inner = request("GET /smuggled", &[]);
    for fields in [
        vec!["x-api-key: another-key-0123".to_owned()],
        vec!["upgrade: websocket".into(), "connection: upgrade".into()],
    ] {
        for head_first in [false, true] {
            let mut client = Raw::connect(gateway.address).await;
            let length = format!("content-length: {}", inner.len());
            let mut lines: Vec<&str> = fields.iter().map(String::as_str).collect();
            lines.push(&length);
            let head = request("POST /", &lines);
            if head_first {
                client.write(head).await;
                assert_eq!(client.reply().await.status(), 400);
                let _ = tokio::io::AsyncWriteExt::write_all(&mut client.0, inner.as_bytes()).await;
            } else {
                client.write(head + &inner).await;
                assert_eq!(client.reply().await.status(), 400);
            }
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut client.0).await;
            client.closed().await;
        }
    }
    assert_eq!(upstream.accepted(), 0, "nothing of it went upstream");
}

#[tokio::test]
async fn bytes_behind_a_reply_are_never_taken_for_the_next_reply() {
    let poison = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    for reply in [
        format!("{OK}{poison}"),
        format!("HTTP/1.1 204 No Content\r\n\r\n{poison}"),
        format!("HTTP/1.1 204 No Content\r\ncontent-length: 45\r\n\r\n{poison}"),
        format!("HTTP/1.1 304 Not Modified\r\ncontent-length: 45\r\n\r\n{poison}"),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{poison}"),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n{poison}"),
    ] {
        let (_upstream, _gateway, mut client) = answering(&reply).await;
        // Pipelined, so that the next request is there at once.
        client.write(request("GET /", &[]).repeat(3) + &request("GET /", &["connection: close"])).await;
        let all = soon("the replies", client.read_to_close()).await;
        assert!(!all.contains("poison"), "{reply:?} gave {all:?}");
        assert_eq!(all.matches("HTTP/1.1 ").count(), 4, "{all:?}");
    }
}

#[tokio::test]
async fn replies_in_no_certain_framing_are_broken() {
    for reply in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx : y\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx: y\0\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/0.9 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let (_upstream, _gateway, mut client) = answering(reply).await;
        let reply = client.ask("GET /", &[]).await;
        assert_eq!(reply.status(), 502, "{reply:?}");
        assert!(reply.body().contains("\"upstream_broken\""), "{reply:?}");
    }
}

#[tokio::test]
async fn http_2_heads_that_name_two_authorities_are_refused() {
    let (upstream, gateway, _client) = answering(OK).await;
    let client = Http2::connect(gateway.address).await;
    let mut request = http2::request("GET", "/", "");
    request.headers_mut().insert("host", HeaderValue::from_static("other.test"));
    let reply = client.send(request).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "malformed_request"));
    let mut request = http2::request("GET", "/", "");
    request.headers_mut().insert("host", HeaderValue::from_static("gateway.test"));
    assert_eq!(client.send(request).await.text(), "ok");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_compressed_reply_and_its_length_pass_untouched() {
    let upstream = Upstream::start(|_| async {
        let mut reply = reply(200, &b"\x1f\x8b\x08 not really"[..]);
        reply.headers_mut().insert("content-encoding", HeaderValue::from_static("gzip"));
        reply
    })
    .await;
    let gateway = gateway(&upstream.url()).await;
    let client = Http2::connect(gateway.address).await;
    let mut request = http2::request("GET", "/", "");
    request.headers_mut().insert("accept-encoding", HeaderValue::from_static("gzip"));
    let reply = client.open(request).await.expect("the gateway answers");
    assert_eq!(reply.headers()["content-encoding"], "gzip");
    assert_eq!(reply.headers()["content-length"], "14");
    assert_eq!(&reply.into_body().collect().await.expect("a whole reply").to_bytes()[..], b"\x1f\x8b\x08 not really");
}

#[tokio::test]
async fn a_body_that_upstream_sends_to_a_head_request_is_never_taken_for_the_next_reply() {
    let poison = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{poison}", poison.len());
    let (_upstream, _gateway, mut client) = answering(&reply).await;
    client.write(request("HEAD /", &[]).repeat(3) + &request("HEAD /", &["connection: close"])).await;
    let all = soon("the replies", client.read_to_close()).await;
    assert!(!all.contains("poison") && !all.contains("content-length: 6\r\n"), "{all}");
    assert_eq!(all.matches("HTTP/1.1 ").count(), 4, "{all:?}");
}

#[tokio::test]
async fn an_error_to_a_head_request_has_no_body_and_the_connection_serves_on() {
    let (_upstream, _gateway, mut client) = answering(OK).await;
    client.write("HEAD / HTTP/1.1\r\nhost: a\r\nx-api-key: sk-nobody-0123\r\n\r\n").await;
    assert_eq!(client.bare_reply().await.status(), 403);
    assert_eq!(client.ask("GET /", &[]).await.body(), "ok");
}

#[tokio::test]
async fn a_malformed_head_behind_a_good_request_is_refused_after_that_one_s_reply() {
    let (upstream, _gateway, mut client) = answering(OK).await;
    client.write(request("GET /1", &[]) + "GET /2 HTTP/1.1\r\nhost : a\r\n\r\n" + &request("GET /3", &[])).await;
    assert_eq!(client.reply().await.body(), "ok");
    let refused = client.reply().await;
    assert_eq!(refused.status(), 400);
    assert!(refused.body().contains("\"malformed_request\""), "{}", refused.body());
    client.closed().await;
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn trailers_pass_up_also_where_a_plugin_has_the_body_read() {
    let upstream = RawUpstream::answering(OK).await;
    let conf = Conf::new(&upstream.url()).settings(json!({"profile": {"reads_model": true}}));
    let gateway = Gateway::start(conf).await;
    let mut client = Raw::connect(gateway.address).await;
    let head = request("POST /", &["trailer: x-check", "transfer-encoding: chunked"]);
    client.write(head + "e\r\n{\"model\": \"m\"}\r\n0\r\nx-check: 7\r\nx-api-key: k\r\n\r\n").await;
    assert_eq!(client.reply().await.body(), "ok");
    assert_eq!(upstream.last().values("x-puppet-saw-model"), ["m"]);
    assert_eq!(upstream.last().body(), "E\r\n{\"model\": \"m\"}\r\n0\r\nx-check: 7\r\n\r\n");
    assert!(!upstream.last().has("content-length"));
}

#[tokio::test]
async fn an_http_2_body_shorter_or_longer_than_its_length_is_no_whole_request_upstream() {
    for length in ["10", "2"] {
        let upstream = RawUpstream::start_recording(|mut raw, _, recorder| async move {
            if let Some(message) = raw.next().await {
                recorder.note(message);
                raw.write(OK).await;
            }
        })
        .await;
        let gateway = gateway(&upstream.url()).await;
        let client = Http2::connect(gateway.address).await;
        let (sender, body) = stream();
        let request = Request::post("http://gateway.test/x").header("x-api-key", KEY).header("content-length", length);
        sender.send(Ok(Frame::data(Bytes::from("abc")))).expect("the body is wanted");
        drop(sender);
        let reply = soon("an end", client.open(request.body(body).expect("a request"))).await;
        assert!(reply.map_or(true, |reply| reply.status() == 400), "length {length}");
        assert!(upstream.requests().is_empty(), "length {length}: {:?}", upstream.requests());
    }
}

#[tokio::test]
async fn an_endless_reply_head_is_broken() {
    let upstream = RawUpstream::start(|mut raw, _| async move {
        raw.next().await;
        let _ = tokio::io::AsyncWriteExt::write_all(&mut raw.0, b"HTTP/1.1 200 OK\r\n").await;
        while tokio::io::AsyncWriteExt::write_all(&mut raw.0, b"x-more: and more\r\n").await.is_ok() {}
    })
    .await;
    let gateway = gateway(&upstream.url()).await;
    let reply = Raw::connect(gateway.address).await.ask("GET /", &[]).await;
    assert_eq!(reply.status(), 502);
    assert!(reply.body().contains("\"upstream_broken\""), "{}", reply.body());
}
