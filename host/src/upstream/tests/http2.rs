//! HTTP/2 by ALPN: shared connections, their limit of streams, their end.

use http_body_util::StreamBody;

use super::*;
use crate::upstream::pool::LocalExecutor;

type Reply = Response<std::pin::Pin<Box<dyn http_body::Body<Data = Bytes, Error = Infallible>>>>;

/// An HTTP/2 server with TLS; `streams_max` of them on a connection.
async fn serve<F>(ca: &TestCa, streams_max: u32, answer: impl Fn(Request<Incoming>, usize) -> F + 'static) -> Server
where
    F: Future<Output = Reply> + 'static,
{
    let acceptor = ca.acceptor(&[b"h2", b"http/1.1"]);
    let answer = Rc::new(answer);
    Server::raw(move |stream, number| {
        let (acceptor, answer) = (acceptor.clone(), Rc::clone(&answer));
        async move {
            let stream = acceptor.accept(stream).await.unwrap();
            let service = service_fn(move |request| {
                let reply = answer(request, number);
                async move { Ok::<_, Infallible>(reply.await) }
            });
            let mut builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
            let _ = builder.max_concurrent_streams(streams_max).serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await
}

fn endpoint(server: &Server) -> Arc<Endpoint> {
    server.endpoint_with(|endpoint| {
        endpoint.tls = true;
        endpoint.authority = format!("localhost:{}", endpoint.port);
    })
}

fn full(text: &str) -> Reply {
    Response::new(Box::pin(Full::new(Bytes::copy_from_slice(text.as_bytes()))))
}

#[test]
fn requests_at_one_time_share_one_connection() {
    run(async {
        let ca = TestCa::new();
        let together = Rc::new(tokio::sync::Barrier::new(8));
        let server = serve(&ca, 100, move |request, _| {
            let together = Rc::clone(&together);
            async move {
                assert_eq!(request.uri().authority().unwrap().host(), "localhost");
                assert!(!request.headers().contains_key("host"));
                together.wait().await;
                full(request.uri().path())
            }
        })
        .await;
        let (upstream, endpoint) = (ca.upstream(), endpoint(&server));
        let replies = (0..8).map(|number| {
            let (upstream, endpoint) = (Rc::clone(&upstream), Arc::clone(&endpoint));
            async move {
                let reply = upstream.send(&endpoint, &patient(), get(&format!("/{number}"))).await.unwrap();
                assert_eq!(text(reply).await, format!("/{number}"));
            }
        });
        all(replies).await;
        assert_eq!(server.accepted.get(), 1);
        assert_eq!(upstream.idle_connections(), 1);
    });
}

#[test]
fn at_the_limit_of_streams_another_connection_is_opened() {
    run(async {
        let ca = TestCa::new();
        let release = Rc::new(tokio::sync::Semaphore::new(0));
        let held = Rc::clone(&release);
        let server = serve(&ca, 2, move |request, number| {
            let held = Rc::clone(&held);
            async move {
                if request.uri().path() == "/held" {
                    let _permit = held.acquire().await.unwrap();
                }
                full(&number.to_string())
            }
        })
        .await;
        let (upstream, endpoint) = (ca.upstream(), endpoint(&server));
        // The first exchange lets the upstream's settings come in.
        assert_eq!(text(upstream.send(&endpoint, &patient(), get("/")).await.unwrap()).await, "0");
        let replies =
            (0..5).map(|_| async { text(upstream.send(&endpoint, &patient(), get("/held")).await.unwrap()).await });
        let watch = async {
            until(|| server.accepted.get() == 3).await;
            release.add_permits(1);
        };
        let (mut numbers, ()) = tokio::join!(all(replies), watch);
        numbers.sort();
        assert_eq!(numbers, ["0", "0", "1", "1", "2"]);
    });
}

#[test]
fn a_connection_that_is_shut_down_is_replaced_and_no_request_is_lost() {
    run(async {
        let ca = TestCa::new();
        let acceptor = ca.acceptor(&[b"h2"]);
        // Each connection is shut down gracefully (GOAWAY) after three requests, as nginx does after a thousand.
        let server = Server::raw(move |stream, _| {
            let acceptor = acceptor.clone();
            async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let served = Rc::new(Cell::new(0));
                let counted = Rc::clone(&served);
                let service = service_fn(move |_| {
                    counted.set(counted.get() + 1);
                    async { Ok::<_, Infallible>(full("ok")) }
                });
                let connection = hyper::server::conn::http2::Builder::new(LocalExecutor)
                    .serve_connection(TokioIo::new(stream), service);
                let mut connection = std::pin::pin!(connection);
                let mut is_closing = false;
                let _ = std::future::poll_fn(|cx| {
                    let polled = connection.as_mut().poll(cx);
                    if served.get() >= 3 && !is_closing {
                        is_closing = true;
                        connection.as_mut().graceful_shutdown();
                        return connection.as_mut().poll(cx);
                    }
                    polled
                })
                .await;
            }
        })
        .await;
        let (upstream, endpoint) = (ca.upstream(), endpoint(&server));
        for _ in 0..5 {
            let replies = (0..4).map(|_| async {
                let reply = upstream.send(&endpoint, &patient(), request(Method::POST, "/", "body")).await.unwrap();
                assert_eq!(text(reply).await, "ok");
            });
            all(replies).await;
        }
        assert!(server.accepted.get() >= 2, "{}", server.accepted.get());
    });
}

#[test]
fn trailers_pass_and_an_early_drop_resets_the_stream_alone() {
    run(async {
        let ca = TestCa::new();
        let dropped = Rc::new(Cell::new(false));
        let seen = Rc::clone(&dropped);
        let server = serve(&ca, 100, move |request, _| {
            let seen = Rc::clone(&seen);
            async move {
                if request.uri().path() == "/endless" {
                    let on_drop = OnDrop(seen);
                    let endless = futures_util::stream::unfold(on_drop, |on_drop| async {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        Some((Ok::<_, Infallible>(http_body::Frame::data(Bytes::from_static(b"."))), on_drop))
                    });
                    return Reply::new(Box::pin(StreamBody::new(endless)));
                }
                let trailers = http::HeaderMap::from_iter([("x-end".parse().unwrap(), "1".parse().unwrap())]);
                Reply::new(Box::pin(Full::from("t").with_trailers(std::future::ready(Some(Ok(trailers))))))
            }
        })
        .await;
        let (upstream, endpoint) = (ca.upstream(), endpoint(&server));
        let mut endless = upstream.send(&endpoint, &patient(), get("/endless")).await.unwrap();
        endless.body_mut().frame().await.unwrap().unwrap();
        drop(endless);
        until(|| dropped.get()).await;

        let reply = upstream.send(&endpoint, &patient(), get("/trailers")).await.unwrap();
        let collected = reply.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["x-end"], "1");
        assert_eq!(server.accepted.get(), 1);
    });
}

#[test]
fn a_stream_reset_without_an_error_is_still_not_a_whole_reply() {
    run(async {
        let ca = TestCa::new();
        let acceptor = ca.acceptor(&[b"h2"]);
        let server = Server::raw(move |stream, _| {
            let acceptor = acceptor.clone();
            async move {
                let mut connection = h2::server::handshake(acceptor.accept(stream).await.unwrap()).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    body.send_data(Bytes::from_static(b"half"), false).unwrap();
                    if request.uri().path() == "/whole" {
                        body.send_data(Bytes::new(), true).unwrap();
                    } else {
                        tokio::task::spawn_local(async move {
                            tokio::time::sleep(Duration::from_millis(10)).await;
                            body.send_reset(h2::Reason::NO_ERROR);
                        });
                    }
                }
            }
        })
        .await;
        let (upstream, endpoint) = (ca.upstream(), endpoint(&server));
        let reply = upstream.send(&endpoint, &patient(), get("/cut")).await.unwrap();
        assert_eq!(body_failure(reply).await.kind, Kind::UpstreamBroken);
        let reply = upstream.send(&endpoint, &patient(), get("/whole")).await.unwrap();
        assert_eq!(text(reply).await, "half");
        assert_eq!(server.accepted.get(), 1);
    });
}

struct OnDrop(Rc<Cell<bool>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.set(true);
    }
}
