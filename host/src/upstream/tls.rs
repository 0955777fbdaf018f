//! The TLS side of every upstream connection: one client configuration for the process.
//!
//! It is shared by all workers so that sessions are resumed whichever worker connects. Certificates are always
//! verified, against the web's roots and the operator's own; there is deliberately no switch that turns this off.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::Endpoint;
use crate::error::{Failure, Kind};
use crate::upstream::connect::Alpn;

pub struct Tls {
    connector: TlsConnector,
    /// Without HTTP/2.
    http1_connector: TlsConnector,
}

impl Tls {
    /// Trusts the web's roots and those in the PEM file, if there is one. An unreadable file, or one without a
    /// certificate, is an error that names it.
    pub fn new(trusted_ca: Option<&Path>) -> anyhow::Result<Arc<Self>> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = trusted_ca {
            add_roots(&mut roots, path).with_context(|| format!("trusted CA file {}", path.display()))?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1_connector = TlsConnector::from(Arc::new(config.clone()));
        config.alpn_protocols.insert(0, b"h2".to_vec());
        Ok(Arc::new(Self { connector: TlsConnector::from(Arc::new(config)), http1_connector }))
    }

    /// Shakes hands with the server, which must prove to be the one that `endpoint.authority` names.
    pub(super) async fn wrap<S>(&self, endpoint: &Endpoint, stream: S, alpn: Alpn) -> Result<TlsStream<S>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let failed = |cause: String| {
            Failure::new(Kind::UpstreamTls, "no secure connection to the upstream could be made")
                .because(format!("TLS with {}: {cause}", endpoint.authority))
        };
        let host = host_of(&endpoint.authority);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
        let connector = match alpn {
            Alpn::Any => &self.connector,
            Alpn::Http1 => &self.http1_connector,
        };
        connector.connect(name, stream).await.map_err(|error| failed(error.to_string()))
    }
}

fn add_roots(roots: &mut RootCertStore, path: &Path) -> anyhow::Result<()> {
    let mut added = 0;
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
        added += 1;
    }
    if added == 0 {
        bail!("holds no certificate (expected PEM blocks `BEGIN CERTIFICATE`)");
    }
    Ok(())
}

/// An authority without its port and without the brackets of an IPv6 address.
fn host_of(authority: &str) -> &str {
    if let Some(bracketed) = authority.strip_prefix('[') {
        return bracketed.split(']').next().unwrap_or(bracketed);
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_checked_against_the_host_without_port_and_brackets() {
        assert_eq!(host_of("api.example.com"), "api.example.com");
        assert_eq!(host_of("api.example.com:8443"), "api.example.com");
        assert_eq!(host_of("127.0.0.1:8443"), "127.0.0.1");
        assert_eq!(host_of("[::1]:8443"), "::1");
        assert_eq!(host_of("[::1]"), "::1");
    }

    #[test]
    fn a_ca_file_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("ca.pem");
        std::fs::write(&empty, "nothing here").unwrap();
        for path in [empty, folder.path().join("missing.pem")] {
            let error = format!("{:#}", Tls::new(Some(&path)).err().expect("refused"));
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }
}
