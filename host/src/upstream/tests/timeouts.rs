//! Each wait has its own limit and its own failure.

use super::*;

const SHORT: Duration = Duration::from_millis(60);

#[test]
fn a_peer_that_never_shakes_hands_meets_the_connect_timeout() {
    run(async {
        let server = Server::raw(|mut stream, _| async move {
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        })
        .await;
        let timeouts = Timeouts { connect: SHORT, ..patient() };
        let tls = server.endpoint_with(|endpoint| endpoint.tls = true);
        let proxied = server.endpoint_with(|endpoint| {
            let (host, port) = ("127.0.0.1".to_owned(), server.address.port());
            endpoint.proxy = Some(EgressProxy { kind: ProxyKind::Http, host, port, login: None });
        });
        for endpoint in [tls, proxied] {
            let upstream = upstream();
            // Those who wait for another's attempt wait no longer than their own limit.
            let attempts = [(); 3].map(|()| upstream.send(&endpoint, &timeouts, get("/")));
            for result in all(attempts).await {
                assert_eq!(result.err().expect("no connection").kind, Kind::UpstreamConnectTimeout);
            }
        }
        until(|| server.closed.get() == server.accepted.get()).await;
    });
}

#[test]
fn a_silent_upstream_meets_the_first_byte_timeout_and_is_cancelled() {
    run(async {
        let server = Server::raw(|mut stream, _| async move {
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        })
        .await;
        let timeouts = Timeouts { first_byte: SHORT, ..patient() };
        let failure = upstream().send(&server.endpoint(), &timeouts, get("/")).await.err().expect("no reply");
        assert_eq!(failure.kind, Kind::UpstreamFirstByteTimeout);
        until(|| server.closed.get() == 1).await;
    });
}

#[test]
fn a_reply_that_stops_meets_the_idle_timeout_and_its_connection_is_not_used_again() {
    run(async {
        let server = Server::raw(|mut stream, _| async move {
            read_head(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        })
        .await;
        let upstream = upstream();
        let timeouts = Timeouts { idle: SHORT, ..patient() };
        let reply = upstream.send(&server.endpoint(), &timeouts, get("/")).await.unwrap();
        assert_eq!(body_failure(reply).await.kind, Kind::UpstreamIdleTimeout);
        until(|| server.closed.get() == 1).await;
        assert_eq!(upstream.idle_connections(), 0);
    });
}

#[test]
fn a_reply_that_keeps_coming_may_take_longer_than_the_idle_timeout() {
    run(async {
        let server = Server::raw(|mut stream, _| async move {
            read_head(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n").await.unwrap();
            for _ in 0..8 {
                tokio::time::sleep(SHORT / 2).await;
                stream.write_all(b".").await.unwrap();
            }
        })
        .await;
        let timeouts = Timeouts { idle: SHORT * 3, first_byte: SHORT * 3, ..patient() };
        let reply = upstream().send(&server.endpoint(), &timeouts, get("/")).await.unwrap();
        assert_eq!(text(reply).await, "........");
    });
}

#[test]
fn idle_connections_are_closed_after_a_while_and_with_their_upstream() {
    run(async {
        let server = Server::http(|_| async { Response::new(Full::from("x")) }).await;
        let limits = Limits { idle_max: SHORT, ..Limits::default() };
        let upstream = Upstream::new(Tls::new(None).unwrap(), limits);
        text(upstream.send(&server.endpoint(), &patient(), get("/")).await.unwrap()).await;
        assert_eq!(upstream.idle_connections(), 1);
        until(|| server.closed.get() == 1).await;
        assert_eq!(upstream.idle_connections(), 0);

        let upstream = super::upstream();
        text(upstream.send(&server.endpoint(), &patient(), get("/")).await.unwrap()).await;
        drop(upstream);
        until(|| server.closed.get() == 2).await;
    });
}
