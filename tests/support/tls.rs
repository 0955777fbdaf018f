//! Upstreams behind TLS, and certificates and clients for a gateway behind TLS, by a CA of the test's own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::client::whole;
use super::{Answer, Body, Http2, http2};

pub struct TestCa {
    folder: tempfile::TempDir,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl TestCa {
    pub fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        let ca = parameters.self_signed(&key).expect("a certificate");
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).expect("a file can be written");
        Self { folder, issuer: rcgen::Issuer::new(parameters, key) }
    }

    /// For `trusted_ca`.
    pub fn pem_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A new certificate and its key for a gateway of this machine, as PEM.
    pub fn pair(&self) -> (String, String) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// A client that trusts this CA and offers these protocols.
    pub fn client(&self, protocols: &[&str]) -> TlsClient {
        self.client_of(protocols, rustls::ALL_VERSIONS)
    }

    /// One that speaks these versions of TLS only.
    pub fn client_of(&self, protocols: &[&str], versions: &[&'static rustls::SupportedProtocolVersion]) -> TlsClient {
        let mut roots = rustls::RootCertStore::empty();
        let pem = std::fs::read(self.pem_file()).expect("the CA's file");
        roots.add(CertificateDer::from_pem_slice(&pem).expect("PEM")).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsClient(TlsConnector::from(Arc::new(config)))
    }

    pub fn acceptor(&self, name: &str, protocols: &[&str]) -> TlsAcceptor {
        let key = rcgen::KeyPair::generate().expect("a key");
        let parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let chain = vec![parameters.signed_by(&key, &self.issuer).expect("a certificate").der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("the key is the certificate's");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Connects to a gateway of this machine; remembers sessions.
#[derive(Clone)]
pub struct TlsClient(TlsConnector);

impl TlsClient {
    pub async fn connect(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        self.0.connect(ServerName::from(address.ip()), stream).await
    }

    /// HTTP/1.1 on a connection of its own.
    pub async fn http1(&self, address: SocketAddr) -> SendRequest<Body> {
        let stream = self.connect(address).await.expect("a handshake");
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.expect("a new connection");
        tokio::spawn(connection);
        sender
    }

    /// HTTP/2 on a connection of its own.
    pub async fn http2(&self, address: SocketAddr) -> Http2 {
        Http2::over(self.connect(address).await.expect("a handshake")).await
    }

    /// GET over HTTP/1.1 with the usual proxy key.
    pub async fn get(&self, address: SocketAddr, path: &str) -> Answer {
        let mut request = http2::request("GET", path, "");
        request.headers_mut().insert("host", address.to_string().parse().expect("a value"));
        *request.uri_mut() = path.parse().expect("a path");
        let mut sender = self.http1(address).await;
        whole(sender.send_request(request).await.expect("the gateway answers")).await
    }

    /// What a new connection is shown.
    pub async fn certificate(&self, address: SocketAddr) -> Vec<u8> {
        let stream = self.connect(address).await.expect("a handshake");
        stream.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec()
    }
}

/// Serves until dropped.
pub struct TlsUpstream {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl TlsUpstream {
    /// The closure is told the server name that the client asked for.
    pub async fn start<F, R>(ca: &TestCa, name: &str, protocols: &[&str], answer: F) -> Self
    where
        F: Fn(Request<Incoming>, String) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let acceptor = ca.acceptor(name, protocols);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let session = stream.get_ref().1;
                    let asked_for = session.server_name().unwrap_or_default().to_owned();
                    let is_http2 = session.alpn_protocol() == Some(b"h2");
                    let service = service_fn(move |request| {
                        let reply = answer(request, asked_for.clone());
                        async move { Ok::<_, Infallible>(reply.await) }
                    });
                    let io = TokioIo::new(stream);
                    if is_http2 {
                        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        let _ = server.serve_connection(io, service).await;
                    } else {
                        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                    }
                });
            }
        });
        Self { address, accepted, task }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for TlsUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}
