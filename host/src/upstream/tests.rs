//! Promises of the upstream side, against real servers on loopback.
//!
//! A [`Server`] answers with a closure, through hyper or on the bare socket where the peer has to misbehave. Tests wait
//! for what a peer sees, and where a timeout is the promise, it is short and what must not happen takes for ever.

mod http1;
mod http2;
mod timeouts;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalOptions;
use tokio_rustls::TlsAcceptor;

use crate::config::{EgressProxy, Endpoint, ProxyKind, Secret, Timeouts};
use crate::error::{Failure, Kind};
use crate::upstream::{Limits, ReplyBody, RequestBody, Tls, Upstream};

/// Runs a test on a worker's kind of runtime; a test that hangs fails.
fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), test).await.expect("the test hangs") });
}

/// A listener on loopback and what it has seen.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    accepted: Rc<Cell<usize>>,
    /// Connections of which the peer's end was seen.
    closed: Rc<Cell<usize>>,
}

impl Server {
    /// Calls `serve` for every connection; when that returns, the connection is closed.
    async fn raw<F>(serve: impl Fn(TcpStream, usize) -> F + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, accepted: Rc::default(), closed: Rc::default() };
        let seen = server.clone();
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = seen.accepted.get();
                seen.accepted.set(number + 1);
                let connection = serve(stream, number);
                let closed = Rc::clone(&seen.closed);
                tokio::task::spawn_local(async move {
                    connection.await;
                    closed.set(closed.get() + 1);
                });
            }
        });
        server
    }

    /// An HTTP/1 server that answers with a closure.
    async fn http<F>(answer: impl Fn(Request<Incoming>) -> F + 'static) -> Self
    where
        F: Future<Output = Response<Full<Bytes>>> + 'static,
    {
        let answer = Rc::new(answer);
        Self::raw(move |stream, _| {
            let answer = Rc::clone(&answer);
            async move {
                let service = service_fn(move |request| {
                    let reply = answer(request);
                    async move { Ok::<_, Infallible>(reply.await) }
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await
    }

    /// Answers every request's head on the bare socket with the next of `replies`, then closes.
    async fn script(replies: &'static [&'static str]) -> Self {
        Self::raw(move |mut stream, _| async move {
            for reply in replies {
                if read_head(&mut stream).await.is_none() {
                    return;
                }
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
        })
        .await
    }

    fn endpoint(&self) -> Arc<Endpoint> {
        self.endpoint_with(|_| {})
    }

    fn endpoint_with(&self, change: impl FnOnce(&mut Endpoint)) -> Arc<Endpoint> {
        let mut endpoint = Endpoint {
            tls: false,
            host: self.address.ip().to_string(),
            port: self.address.port(),
            base_path: String::new(),
            authority: "provider.example".into(),
            proxy: None,
        };
        change(&mut endpoint);
        Arc::new(endpoint)
    }
}

/// A request's head as text; `None` at the end of the stream.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Waits, letting the other tasks run, until something is so.
async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Runs all of them at one time.
async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in running.iter_mut().filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(ready) = future.as_mut().poll(cx) {
                *output = Some(ready);
            }
        }
        if running.iter().all(|(_, output)| output.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

fn upstream() -> Rc<Upstream> {
    Upstream::new(Tls::new(None).unwrap(), Limits::default())
}

/// Timeouts that no test reaches.
fn patient() -> Timeouts {
    let long = Duration::from_hours(1);
    Timeouts { connect: long, first_byte: long, idle: long }
}

fn get(path: &str) -> Request<RequestBody> {
    request(Method::GET, path, "")
}

fn request(method: Method, path: &str, body: &'static str) -> Request<RequestBody> {
    Request::builder()
        .method(method)
        .uri(path)
        .body(RequestBody::complete(Bytes::from_static(body.as_bytes()), None))
        .unwrap()
}

async fn text(reply: Response<ReplyBody>) -> String {
    String::from_utf8(reply.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// What is told when the reply, whose head must come, breaks.
async fn body_failure(reply: Response<ReplyBody>) -> Failure {
    reply.into_body().collect().await.expect_err("the body must not end cleanly")
}

/// A CA of the test's own, and a certificate of it for `localhost`.
struct TestCa {
    folder: tempfile::TempDir,
    chain: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl TestCa {
    fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let ca = parameters.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(parameters, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        Self { folder, chain: leaf.der().clone(), key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }

    fn acceptor(&self, protocols: &[&[u8]]) -> TlsAcceptor {
        let mut config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![self.chain.clone()], self.key.clone_key())
                .unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    fn upstream(&self) -> Rc<Upstream> {
        Upstream::new(Tls::new(Some(&self.folder.path().join("ca.pem"))).unwrap(), Limits::default())
    }
}

/// An egress proxy of either kind, that leads everything to `target` and keeps what it was told.
async fn egress(kind: ProxyKind, target: SocketAddr, told: Rc<RefCell<Vec<u8>>>) -> Server {
    Server::raw(move |mut stream, _| {
        let told = Rc::clone(&told);
        async move {
            if kind == ProxyKind::Http {
                let head = read_head(&mut stream).await.unwrap();
                told.borrow_mut().extend(head.bytes());
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            } else {
                let mut greeting = [0; 4];
                stream.read_exact(&mut greeting).await.unwrap();
                stream.write_all(&[5, 2]).await.unwrap();
                let mut login = [0; 1 + 3 + 7];
                stream.read_exact(&mut login).await.unwrap();
                stream.write_all(&[1, 0]).await.unwrap();
                let mut request = [0; 4 + 1 + 20 + 2];
                stream.read_exact(&mut request).await.unwrap();
                stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
                told.borrow_mut().extend(login.iter().chain(&request));
            }
            let mut onward = TcpStream::connect(target).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
        }
    })
    .await
}

#[test]
fn an_egress_proxy_is_told_the_upstreams_name_and_carries_the_exchange() {
    run(async {
        let server = Server::http(|_| async { Response::new(Full::from("through")) }).await;
        for kind in [ProxyKind::Http, ProxyKind::Socks5] {
            let told = Rc::new(RefCell::new(Vec::new()));
            let proxy = egress(kind, server.address, Rc::clone(&told)).await;
            let endpoint = server.endpoint_with(|endpoint| {
                endpoint.host = "far-away.example.com".into();
                let login = Some(("me".to_owned(), Secret::new("secret")));
                let (host, port) = ("127.0.0.1".to_owned(), proxy.address.port());
                endpoint.proxy = Some(EgressProxy { kind, host, port, login });
            });
            let upstream = upstream();
            for _ in 0..2 {
                let reply = upstream.send(&endpoint, &patient(), get("/")).await.unwrap();
                assert_eq!(text(reply).await, "through");
            }
            assert_eq!(proxy.accepted.get(), 1, "the tunnel is kept alive");
            let told = String::from_utf8_lossy(&told.borrow()).into_owned();
            assert!(told.contains("far-away.example.com"), "{told}");
            assert!(
                told.contains(if kind == ProxyKind::Http { "Basic bWU6c2VjcmV0" } else { "\x02me\x06secret" }),
                "{told}"
            );
        }
    });
}

#[test]
fn a_proxy_that_refuses_is_told_apart() {
    run(async {
        let proxy = Server::script(&["HTTP/1.1 403 Forbidden\r\n\r\n"]).await;
        let endpoint = proxy.endpoint_with(|endpoint| {
            let (host, port) = ("127.0.0.1".to_owned(), proxy.address.port());
            endpoint.proxy = Some(EgressProxy { kind: ProxyKind::Http, host, port, login: None });
        });
        let failure = upstream().send(&endpoint, &patient(), get("/")).await.err().expect("refused");
        assert_eq!(failure.kind, Kind::UpstreamUnreachable);
        assert!(failure.message.contains("403"), "{failure}");
    });
}

#[test]
fn certificates_are_verified() {
    run(async {
        let ca = TestCa::new();
        let acceptor = ca.acceptor(&[b"http/1.1"]);
        let server = Server::raw(move |stream, _| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service =
                    service_fn(|_| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("secret"))) });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await;
        let right = server.endpoint_with(|endpoint| {
            endpoint.tls = true;
            endpoint.authority = format!("localhost:{}", endpoint.port);
        });
        let wrong_name = server.endpoint_with(|endpoint| {
            endpoint.tls = true;
            endpoint.authority = "other.example".into();
        });
        let trusting = ca.upstream();
        for _ in 0..2 {
            assert_eq!(text(trusting.send(&right, &patient(), get("/")).await.unwrap()).await, "secret");
        }
        assert_eq!(server.accepted.get(), 1, "TLS connections are kept alive");

        for (upstream, endpoint) in [(upstream(), &right), (trusting, &wrong_name)] {
            let failure = upstream.send(endpoint, &patient(), get("/")).await.err().expect("refused");
            assert_eq!(failure.kind, Kind::UpstreamTls);
            assert!(failure.cause.as_deref().unwrap().contains("certificate"), "{failure}");
            assert!(!failure.message.contains("localhost") && !failure.message.contains("127.0.0.1"), "{failure}");
        }
    });
}

#[test]
fn nobody_listening_is_unreachable_and_names_no_address_to_the_client() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let gone = Server { address, accepted: Rc::default(), closed: Rc::default() };
        let failure = upstream().send(&gone.endpoint(), &patient(), get("/")).await.err().expect("refused");
        assert_eq!(failure.kind, Kind::UpstreamUnreachable);
        assert!(!failure.message.contains("127"), "{failure}");
        assert!(failure.cause.unwrap().contains("127.0.0.1"));
    });
}
