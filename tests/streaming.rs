//! Replies and requests stream, with back-pressure, and break where they broke.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::{
    Conf, Gateway, Http2, KEY, Process, Raw, RawUpstream, Upstream, get, http2, request, soon, stream,
};

const MIB: usize = 1 << 20;
/// What may be under way between two ends that do not read: buffers of the gateway and of the system, on two connections.
const IN_FLIGHT_BYTES_MAX: usize = 24 * MIB;

/// An upstream that notes in the channel what it read of every connection, and `None` at its end; it never answers but
/// with what `reply` says at once after a head.
async fn listening(reply: &'static str) -> (UnboundedReceiver<Option<Vec<u8>>>, RawUpstream) {
    let (note, notes) = unbounded_channel();
    let upstream = RawUpstream::start(move |mut raw, _| {
        let note = note.clone();
        async move {
            let Some(head) = raw.next_head().await else { return };
            let _ = note.send(Some(head));
            let _ = raw.0.write_all(reply.as_bytes()).await;
            let mut piece = vec![0; 64 << 10];
            while let Ok(count @ 1..) = raw.0.read(&mut piece).await {
                let _ = note.send(Some(piece[..count].to_vec()));
            }
            let _ = note.send(None);
        }
    })
    .await;
    (notes, upstream)
}

/// Reads notes until their end has come.
async fn noted(notes: &mut UnboundedReceiver<Option<Vec<u8>>>, end: &str) {
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        seen.extend(soon(end, notes.recv()).await.flatten().expect("the upstream's connection stands"));
    }
}

#[tokio::test]
async fn a_byte_of_a_reply_is_at_the_client_before_the_upstream_sends_the_next() {
    for is_http2 in [false, true] {
        let (feed, body) = stream();
        let body = Arc::new(Mutex::new(Some(body)));
        let upstream = Upstream::start(move |_| {
            let body = body.lock().expect("no panic").take().expect("one request");
            async move { Response::builder().header("content-type", "text/event-stream").body(body).expect("a reply") }
        })
        .await;
        let gateway = Gateway::start(Conf::new(&upstream.url())).await;
        let mut reply = if is_http2 {
            Http2::connect(gateway.address).await.open(http2::request("POST", "/", "{}")).await.expect("a reply")
        } else {
            let request = http::Request::post("/").header("x-api-key", KEY).header("host", "gateway.test");
            let request = request.body(http_body_util::Full::default()).expect("a request");
            soon("the head before any byte", crate::support::client::open(gateway.address, request)).await
        };
        assert_eq!(reply.headers()["content-type"], "text/event-stream");
        for event in ["d", "ata: 1\n\n", "data: 2\n\n"] {
            feed.send(Ok(Frame::data(Bytes::from(event)))).expect("the reply is wanted");
            let frame = soon(event, reply.body_mut().frame()).await.expect("a frame").expect("not broken");
            assert_eq!(frame.into_data().expect("data"), event);
        }
        drop(feed);
        let rest = soon("the end", reply.into_body().collect()).await.expect("not broken");
        assert!(rest.to_bytes().is_empty(), "nothing more was sent");
    }
}

#[tokio::test]
async fn a_request_streams_up_while_the_client_still_sends() {
    let (mut notes, upstream) = listening("").await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let mut client = Raw::connect(gateway.address).await;
    client.write(request("POST /", &["transfer-encoding: chunked", "content-type: application/json"])).await;
    noted(&mut notes, "\r\n\r\n").await;
    for chunk in ["3\r\nabc\r\n", "4\r\ndefg\r\n", "0\r\n\r\n"] {
        client.write(chunk).await;
        noted(&mut notes, chunk).await;
    }

    let mut client = Raw::connect(gateway.address).await;
    client.write(request("POST /", &["content-length: 7"])).await;
    noted(&mut notes, "\r\n\r\n").await;
    for piece in ["abc", "defg"] {
        client.write(piece).await;
        noted(&mut notes, piece).await;
    }
}

/// Writes until a write has to wait for long, or everything is out; how many bytes went.
async fn write_until_blocked(raw: &mut Raw, total: usize) -> usize {
    let piece = vec![b'x'; 64 << 10];
    let mut written = 0;
    while written < total {
        // Too short a wait only makes the test see less.
        match tokio::time::timeout(Duration::from_millis(300), raw.0.write(&piece)).await {
            Ok(Ok(count)) => written += count,
            Ok(Err(_)) | Err(_) => break,
        }
    }
    written
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_upstream_back_and_gets_all_in_the_end() {
    const TOTAL: usize = 64 * MIB;
    let (tell, mut told) = unbounded_channel();
    let upstream = RawUpstream::start(move |mut raw, _| {
        let tell = tell.clone();
        async move {
            raw.next().await;
            raw.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {TOTAL}\r\n\r\n")).await;
            let written = write_until_blocked(&mut raw, TOTAL).await;
            let _ = tell.send(written);
            let rest = vec![b'x'; TOTAL - written];
            let _ = raw.0.write_all(&rest).await;
        }
    })
    .await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let mut client = Raw::connect(gateway.address).await;
    client.write(request("GET /", &[])).await;
    let written = soon("the upstream to block", told.recv()).await.expect("the upstream writes");
    assert!(written < IN_FLIGHT_BYTES_MAX, "{written} bytes went to a client that reads nothing");
    assert_eq!(client.reply().await.body.len(), TOTAL);
}

#[tokio::test]
async fn an_upstream_that_does_not_read_holds_the_client_back_and_gets_all_in_the_end() {
    const TOTAL: usize = 64 * MIB;
    let (go, gone) = tokio::sync::watch::channel(false);
    let upstream = RawUpstream::start(move |mut raw, _| {
        let mut gone = gone.clone();
        async move {
            let head = raw.next_head().await.unwrap_or_default();
            let _ = gone.wait_for(|go| *go).await;
            let mut piece = vec![0; 256 << 10];
            let mut total = 0;
            while total < TOTAL {
                match raw.0.read(&mut piece).await {
                    Ok(count @ 1..) => total += count,
                    Ok(0) | Err(_) => return,
                }
            }
            drop(head);
            let text = total.to_string();
            raw.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())).await;
        }
    })
    .await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let mut client = Raw::connect(gateway.address).await;
    client.write(request("POST /", &[&format!("content-length: {TOTAL}")])).await;
    let written = write_until_blocked(&mut client, TOTAL).await;
    assert!(written < IN_FLIGHT_BYTES_MAX, "{written} bytes were taken for an upstream that reads nothing");
    go.send(true).expect("the upstream waits");
    client.write(vec![b'x'; TOTAL - written]).await;
    assert_eq!(client.reply().await.body(), TOTAL.to_string());
}

#[tokio::test]
async fn the_upstream_sees_at_once_that_the_client_has_gone() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    for reply in ["", head] {
        for is_http2 in [false, true] {
            let (mut notes, upstream) = listening(reply).await;
            let gateway = Gateway::start(Conf::new(&upstream.url())).await;
            if is_http2 {
                let client = Http2::connect(gateway.address).await;
                let asked = tokio::spawn(async move {
                    let mut reply = client.open(http2::request("GET", "/", "")).await.expect("a reply");
                    let first = reply.body_mut().frame().await;
                    (client, reply, first)
                });
                noted(&mut notes, "\r\n\r\n").await;
                if reply.is_empty() {
                    // Resets the stream; the connection stands.
                    asked.abort();
                } else {
                    let (client, reply, first) = soon("the first bytes", asked).await.expect("no panic");
                    assert!(first.is_some());
                    drop(reply);
                    drop(client);
                }
            } else {
                let mut client = Raw::connect(gateway.address).await;
                client.write(request("GET /", &[])).await;
                noted(&mut notes, "\r\n\r\n").await;
                if !reply.is_empty() {
                    client.read_until("first").await;
                }
                drop(client);
            }
            let gone = soon("the upstream's connection to close", notes.recv()).await;
            assert_eq!(gone, Some(None), "reply {reply:?}, HTTP/2 {is_http2}");
        }
    }
}

#[tokio::test]
async fn a_client_that_breaks_its_upload_off_is_not_a_whole_request_upstream() {
    for (framing, sent) in [("content-length: 10", "abc"), ("transfer-encoding: chunked", "3\r\nabc\r\n")] {
        let (mut notes, upstream) = listening("").await;
        let gateway = Gateway::start(Conf::new(&upstream.url())).await;
        let mut client = Raw::connect(gateway.address).await;
        client.write(request("POST /", &[framing]) + sent).await;
        noted(&mut notes, sent).await;
        drop(client);
        assert_eq!(soon("the upstream's connection to close", notes.recv()).await, Some(None), "{framing}");
    }
}

#[tokio::test]
async fn a_reply_that_breaks_off_upstream_ends_broken_at_the_client() {
    for reply in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\nnonsense\r\n",
    ] {
        let upstream = RawUpstream::start(move |mut raw, _| async move {
            raw.next().await;
            raw.write(reply).await;
        })
        .await;
        let gateway = Gateway::start(Conf::new(&upstream.url())).await;
        let mut client = Raw::connect(gateway.address).await;
        client.write(request("GET /", &[]).repeat(2)).await;
        let all = soon("the connection's end", client.read_to_close()).await;
        assert!(all.contains("first") && !all.contains("0\r\n\r\n"), "{reply:?} became {all:?}");
        assert_eq!(all.matches("HTTP/1.1").count(), 1, "the connection ends there");

        let client = Http2::connect(gateway.address).await;
        let reply = client.open(http2::request("GET", "/", "")).await.expect("a head");
        soon("the stream's end", reply.into_body().collect()).await.expect_err("the stream is reset");
    }
}

#[tokio::test]
async fn an_upstream_that_goes_before_its_head_is_broken() {
    for bytes in ["", "HTTP/1.1 200 OK\r\ncontent-le"] {
        let upstream = RawUpstream::start(move |mut raw, _| async move {
            raw.next().await;
            raw.write(bytes).await;
        })
        .await;
        let gateway = Gateway::start(Conf::new(&upstream.url())).await;
        let reply = get(gateway.address, "/").await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (502, "upstream_broken"));
        assert_eq!(upstream.accepted(), 1, "on a fresh connection there is nothing to heal");
    }
}

#[tokio::test]
async fn an_early_reply_passes_while_the_request_is_still_coming() {
    let upstream = RawUpstream::start(|mut raw, _| async move {
        raw.next_head().await;
        raw.write("HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 4\r\n\r\nmuch").await;
        let _ = raw.0.shutdown().await;
        raw.read_to_close().await;
    })
    .await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let mut client = Raw::connect(gateway.address).await;
    client.write(request("POST /", &["content-length: 100000000"]) + "the beginning").await;
    let reply = client.reply().await;
    assert_eq!((reply.status(), reply.body().as_str()), (413, "much"));
}

#[tokio::test]
async fn an_error_is_read_by_a_client_that_still_sends() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1")).await;
    let body = vec![b'x'; 4 * MIB];
    let head =
        format!("POST / HTTP/1.1\r\nhost: a\r\nx-api-key: sk-nobody-0123\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut client = Raw::connect(gateway.address).await;
    client.write(head).await;
    client.write(body).await;
    let reply = client.reply().await;
    assert_eq!(reply.status(), 403);
    assert!(reply.body().contains("proxy_key_unknown"), "{}", reply.body());
}

#[tokio::test]
async fn a_reply_s_memory_does_not_grow_with_its_length_nor_a_request_s() {
    const TOTAL: usize = 64 * MIB;
    let upstream = RawUpstream::start(|mut raw, _| async move {
        while raw.next_head().await.is_some() {
            let mut piece = vec![0; 256 << 10];
            let mut left = TOTAL;
            while left > 0 {
                let limit = left.min(piece.len());
                let Ok(count @ 1..) = raw.0.read(&mut piece[..limit]).await else { return };
                left -= count;
            }
            raw.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {TOTAL}\r\n\r\n")).await;
            for _ in 0..TOTAL / piece.len() {
                if raw.0.write_all(&piece).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let gateway = Process::start(Conf::new(&upstream.url()).settings(json!({"quiet": true}))).await;
    let before = gateway.memory_peak_bytes();
    let mut client = Raw::connect(gateway.address).await;
    client.write(request("POST /", &[&format!("content-length: {TOTAL}")])).await;
    let piece = vec![0; 256 << 10];
    for _ in 0..TOTAL / piece.len() {
        client.write(&piece).await;
    }
    client.bare_reply().await;
    let read = AtomicUsize::new(0);
    let mut piece = piece;
    while read.load(Ordering::Relaxed) < TOTAL {
        let count = soon("the reply's bytes", client.0.read(&mut piece)).await.expect("not broken");
        assert!(count > 0, "the reply is whole");
        read.fetch_add(count, Ordering::Relaxed);
    }
    let grown = gateway.memory_peak_bytes() - before;
    assert!(grown < 16 * MIB, "{grown} bytes more for 64 MiB each way");
}
