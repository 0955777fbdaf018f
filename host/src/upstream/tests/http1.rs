//! HTTP/1: keeping connections, healing them, framing, cancelling, uploads.

use super::*;

#[test]
fn a_connection_serves_again_after_every_kind_of_reply_without_a_body() {
    run(async {
        let server = Server::http(|request| async move {
            let status = match request.uri().path() {
                "/none" => 204,
                "/same" => 304,
                _ => 200,
            };
            Response::builder()
                .status(status)
                .body(if status == 200 { Full::from("text") } else { Full::default() })
                .unwrap()
        })
        .await;
        let (upstream, endpoint) = (upstream(), server.endpoint());
        let requests =
            [get("/"), request(Method::HEAD, "/", ""), get("/none"), get("/same"), request(Method::POST, "/", "up")];
        for request in requests {
            let reply = upstream.send(&endpoint, &patient(), request).await.unwrap();
            let is_text = reply.status() == 200 && reply.headers().contains_key("content-length");
            let body = reply.into_body();
            if http_body::Body::is_end_stream(&body) {
                assert_eq!(upstream.idle_connections(), 1, "given back with the head");
            } else {
                assert!(is_text);
                assert_eq!(body.collect().await.unwrap().to_bytes(), "text");
            }
        }
        assert_eq!((server.accepted.get(), upstream.idle_connections()), (1, 1));
    });
}

#[test]
fn a_connection_is_given_back_with_the_last_byte_of_a_known_length() {
    run(async {
        let server = Server::http(|_| async { Response::new(Full::from("text")) }).await;
        let upstream = upstream();
        let mut reply = upstream.send(&server.endpoint(), &patient(), get("/")).await.unwrap();
        reply.body_mut().frame().await.unwrap().unwrap();
        // hyper's server asks no further.
        assert_eq!(upstream.idle_connections(), 1);
    });
}

#[test]
fn equal_endpoints_share_connections_and_idle_ones_are_bounded() {
    run(async {
        let server = Server::http(|_| async { Response::new(Full::from("text")) }).await;
        let upstream = Upstream::new(Tls::new(None).unwrap(), Limits { idle_connections_max: 2, ..Limits::default() });
        let at_once = (0..4).map(|_| async {
            // As after a change of the configuration: an equal endpoint in another place.
            upstream.send(&server.endpoint(), &patient(), get("/")).await.unwrap()
        });
        for reply in all(at_once).await {
            text(reply).await;
        }
        assert_eq!((server.accepted.get(), upstream.idle_connections()), (4, 2));
        text(upstream.send(&server.endpoint(), &patient(), get("/")).await.unwrap()).await;
        assert_eq!(server.accepted.get(), 4);
    });
}

#[test]
fn an_idle_connection_that_the_upstream_closes_leaves_the_pool() {
    run(async {
        let server = Server::script(&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]).await;
        let upstream = upstream();
        text(upstream.send(&server.endpoint(), &patient(), get("/")).await.unwrap()).await;
        until(|| upstream.idle_connections() == 0).await;
        text(upstream.send(&server.endpoint(), &patient(), get("/")).await.unwrap()).await;
        assert_eq!(server.accepted.get(), 2);
    });
}

/// A server in a thread of its own, which closes a connection without this runtime's noticing.
fn closing_server(reply: &'static str) -> (Server, std::sync::mpsc::Receiver<()>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (closed, when_closed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let _ = stream.write_all(reply.as_bytes());
            drop(stream);
            if closed.send(()).is_err() {
                return;
            }
        }
    });
    (Server { address, accepted: Rc::default(), closed: Rc::default() }, when_closed)
}

#[test]
fn a_request_on_a_connection_closed_this_moment_is_healed_on_a_fresh_one() {
    run(async {
        let (server, when_closed) = closing_server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let (upstream, endpoint) = (upstream(), server.endpoint());
        for round in 0..6 {
            let method = if round % 2 == 0 { Method::POST } else { Method::GET };
            let reply = upstream.send(&endpoint, &patient(), request(method, "/", "")).await;
            assert_eq!(text(reply.unwrap()).await, "ok");
            // Blocking on purpose: the event loop must not see the close before the next request is sent.
            when_closed.recv().unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
    });
}

#[test]
fn a_request_that_may_have_been_processed_is_not_sent_again() {
    run(async {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&heard);
        let server = Server::raw(move |mut stream, _| {
            let seen = Rc::clone(&seen);
            async move {
                read_head(&mut stream).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                let again = read_head(&mut stream).await.unwrap_or_default();
                seen.borrow_mut().push(again.split(' ').next().unwrap().to_owned());
            }
        })
        .await;
        let (upstream, endpoint) = (upstream(), server.endpoint());
        text(upstream.send(&endpoint, &patient(), get("/")).await.unwrap()).await;
        let failure = upstream.send(&endpoint, &patient(), request(Method::POST, "/", "")).await.err().expect("broken");
        assert_eq!(failure.kind, Kind::UpstreamBroken);
        assert_eq!(*heard.borrow(), ["POST"]);

        // A GET has no consequences, and goes out again.
        text(upstream.send(&endpoint, &patient(), get("/")).await.unwrap()).await;
        text(upstream.send(&endpoint, &patient(), get("/")).await.unwrap()).await;
        assert_eq!(*heard.borrow(), ["POST", "GET"]);
    });
}

#[test]
fn a_dropped_exchange_is_cancelled_upstream_before_and_in_the_reply() {
    run(async {
        let server = Server::raw(|mut stream, number| async move {
            read_head(&mut stream).await.unwrap();
            if number == 1 {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n.\r\n").await.unwrap();
            }
            assert!(read_head(&mut stream).await.is_none());
        })
        .await;
        let (upstream, endpoint) = (upstream(), server.endpoint());
        {
            let timeouts = patient();
            let mut waiting = Box::pin(upstream.send(&endpoint, &timeouts, get("/")));
            tokio::select! {
                _ = &mut waiting => panic!("nothing was answered"),
                () = until(|| server.accepted.get() == 1) => {}
            }
        }
        until(|| server.closed.get() == 1).await;

        let mut reply = upstream.send(&endpoint, &patient(), get("/")).await.unwrap();
        reply.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(server.closed.get(), 1);
        drop(reply);
        until(|| server.closed.get() == 2).await;
        assert_eq!(upstream.idle_connections(), 0);
    });
}

#[test]
fn a_reply_cut_short_is_an_error_and_one_without_a_length_ends_with_its_connection() {
    run(async {
        let heads = [
            (&["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"], false),
            (&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"], false),
            (&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf"], false),
            (&["HTTP/1.1 200 OK\r\n\r\nall"], true),
        ];
        for (script, is_whole) in heads {
            let server = Server::script(script).await;
            let upstream = upstream();
            let reply = upstream.send(&server.endpoint(), &patient(), get("/")).await.unwrap();
            if is_whole {
                assert_eq!(text(reply).await, "all");
            } else {
                assert_eq!(body_failure(reply).await.kind, Kind::UpstreamBroken, "{script:?}");
            }
            assert_eq!(upstream.idle_connections(), 0);
        }
    });
}

#[test]
fn no_reply_and_a_malformed_one_are_broken() {
    run(async {
        for script in [&[""], &["SMTP hello\r\n\r\n"], &["HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]] {
            let server = Server::script(script).await;
            let failure = upstream().send(&server.endpoint(), &patient(), get("/")).await.err().expect("no reply");
            assert_eq!(failure.kind, Kind::UpstreamBroken, "{script:?}");
            assert_eq!(server.accepted.get(), 1);
        }
    });
}

#[test]
fn trailers_and_a_head_of_many_kilobytes_pass() {
    run(async {
        let long = "x".repeat(100_000);
        let reply = format!(
            "HTTP/1.1 200 OK\r\nTrailer: x-end\r\nX-Long: {long}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n.\r\n0\r\nx-end: 1\r\n\r\n"
        );
        let server = Server::script(Box::leak(Box::new([&*reply.leak()]))).await;
        let reply = upstream().send(&server.endpoint(), &patient(), get("/")).await.unwrap();
        assert_eq!(reply.headers()["x-long"].len(), 100_000);
        let collected = reply.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["x-end"], "1");
    });
}

#[test]
fn informational_replies_are_swallowed() {
    run(async {
        let server = Server::script(&[
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ])
        .await;
        let reply = upstream().send(&server.endpoint(), &patient(), get("/")).await.unwrap();
        assert_eq!((reply.status().as_u16(), text(reply).await), (200, "ok".to_owned()));
    });
}

/// What goes up for a request, head and body, as bytes.
async fn written(request: Request<RequestBody>) -> String {
    let heard = Rc::new(RefCell::new(String::new()));
    let seen = Rc::clone(&heard);
    let server = Server::raw(move |mut stream, _| {
        let seen = Rc::clone(&seen);
        async move {
            let first = read_head(&mut stream).await.unwrap();
            *seen.borrow_mut() = first;
            stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await.unwrap();
        }
    })
    .await;
    upstream().send(&server.endpoint(), &patient(), request).await.unwrap();
    heard.take()
}

#[test]
fn host_and_framing_are_the_hosts_own_business() {
    run(async {
        let lying = |mut request: Request<RequestBody>| {
            for (name, value) in [("host", "evil.example"), ("content-length", "99"), ("transfer-encoding", "gzip")] {
                request.headers_mut().insert(name, value.parse().unwrap());
            }
            request
        };
        let head = written(lying(request(Method::POST, "/a%20b?c=%2F", "body"))).await;
        assert_eq!(head, "POST /a%20b?c=%2F HTTP/1.1\r\nhost: provider.example\r\ncontent-length: 4\r\n\r\n");
        let head = written(lying(request(Method::POST, "/", ""))).await;
        assert_eq!(head, "POST / HTTP/1.1\r\nhost: provider.example\r\ncontent-length: 0\r\n\r\n");
        let head = written(lying(get("/"))).await;
        assert_eq!(head, "GET / HTTP/1.1\r\nhost: provider.example\r\n\r\n");
    });
}

/// A gateway in small: what comes in goes to `endpoint`, behind `prefix`. What became of it is told to `outcome`.
async fn relay(
    upstream: Rc<Upstream>,
    endpoint: Arc<Endpoint>,
    timeouts: Timeouts,
    outcome: Rc<RefCell<Vec<Result<String, Kind>>>>,
) -> Server {
    Server::http(move |request| {
        let (upstream, endpoint, outcome) = (Rc::clone(&upstream), Arc::clone(&endpoint), Rc::clone(&outcome));
        async move {
            let request = request.map(|body| RequestBody::stream(Bytes::from_static(b"<"), body));
            let outcome_now = match upstream.send(&endpoint, &timeouts, request).await {
                Ok(reply) => Ok(text(reply).await),
                Err(failure) => Err(failure.kind),
            };
            outcome.borrow_mut().push(outcome_now);
            Response::new(Full::default())
        }
    })
    .await
}

#[test]
fn a_clients_body_streams_up_with_its_length_or_chunked() {
    run(async {
        let server = Server::http(|request| async move {
            let length = request.headers().get("content-length").map(|length| length.to_str().unwrap().to_owned());
            let method = request.method().clone();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(Full::from(format!("{method} {length:?} {}", std::str::from_utf8(&body).unwrap())))
        })
        .await;
        let outcome = Rc::default();
        let gateway = relay(upstream(), server.endpoint(), patient(), Rc::clone(&outcome)).await;
        for body in [
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
            "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        ] {
            let mut client = TcpStream::connect(gateway.address).await.unwrap();
            client.write_all(body.as_bytes()).await.unwrap();
            read_head(&mut client).await.unwrap();
        }
        assert_eq!(*outcome.borrow(), [Ok("POST Some(\"5\") <body".to_owned()), Ok("GET None <body".to_owned())]);
        assert_eq!(server.accepted.get(), 1);
    });
}

#[test]
fn a_client_that_breaks_its_body_off_is_not_the_upstreams_fault() {
    run(async {
        let server = Server::raw(|mut stream, _| async move {
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        })
        .await;
        let outcome = Rc::default();
        let gateway = relay(upstream(), server.endpoint(), patient(), Rc::clone(&outcome)).await;
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        client
            .write_all(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\nnonsense")
            .await
            .unwrap();
        until(|| !outcome.borrow().is_empty()).await;
        assert_eq!(*outcome.borrow(), [Err(Kind::BodyBroken)]);
        until(|| server.closed.get() == 1).await;
    });
}

#[test]
fn an_upload_that_moves_is_not_cut_by_the_first_byte_timeout_and_one_that_stops_is_the_clients_fault() {
    run(async {
        let server = Server::http(|request| async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(Full::from(body))
        })
        .await;
        let outcome = Rc::default();
        let timeouts = Timeouts { first_byte: Duration::from_millis(150), ..patient() };
        let gateway = relay(upstream(), server.endpoint(), timeouts, Rc::clone(&outcome)).await;
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n").await.unwrap();
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            client.write_all(b".").await.unwrap();
        }
        until(|| outcome.borrow().len() == 1).await;
        client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n..").await.unwrap();
        until(|| outcome.borrow().len() == 2).await;
        assert_eq!(*outcome.borrow(), [Ok("<.....".to_owned()), Err(Kind::BodyBroken)]);
    });
}

#[test]
fn an_upstream_that_does_not_read_holds_the_client_back() {
    run(async {
        let server = Server::raw(|mut stream, _| async move {
            read_head(&mut stream).await.unwrap();
            std::future::pending::<()>().await;
        })
        .await;
        let gateway = relay(upstream(), server.endpoint(), patient(), Rc::default()).await;
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n").await.unwrap();
        let mut sent = 0;
        let piece = vec![0; 64 * 1024];
        // The kernels' buffers are the only ones that fill up: far less than what the client would send.
        while let Ok(written) = tokio::time::timeout(Duration::from_millis(300), client.write(&piece)).await {
            sent += written.unwrap();
            assert!(sent < 64 * 1024 * 1024, "{sent} bytes were taken");
        }
    });
}
