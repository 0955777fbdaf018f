//! The certificate of the gateway's own port, and its key: from two PEM files to what a handshake needs.
//!
//! What is wrong is told as a predicate of the file ("holds no PEM certificate"), so that it can be said of the field in
//! gateway.json that names the file and of the file itself. No message quotes the files, nor what is wrong with their
//! PEM: the parser's own texts do.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::load;
use crate::digest::sha256;

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl CertificateFiles {
    pub fn path(&self, which: Which) -> &Path {
        match which {
            Which::Cert => &self.cert,
            Which::Key => &self.key,
        }
    }
}

/// One of the two files, by the name of its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Cert,
    Key,
}

impl Which {
    pub fn field(self) -> &'static str {
        match self {
            Self::Cert => "cert",
            Self::Key => "key",
        }
    }
}

/// What the two files hold.
pub struct CertificateBytes {
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// A certificate and the key that belongs to it.
pub struct Certificate {
    pub files: CertificateFiles,
    /// SHA-256 of the file `cert`.
    pub digest: [u8; 32],
    pub(super) pair_digest: [u8; 32],
    /// Serves handshakes; sessions are resumed only with the certificate that they began with.
    pub server: Arc<ServerConfig>,
}

/// Why two files are no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFault {
    pub which: Which,
    /// Of the file.
    pub what: String,
    pub remedy: &'static str,
}

impl CertificateBytes {
    pub fn read(files: &CertificateFiles) -> Result<Self, CertificateFault> {
        let read = |which: Which| {
            load::regular(files.path(which)).map_err(|error| {
                // The kind alone: the rest of the system's text says nothing more.
                let what = match error.kind() {
                    ErrorKind::InvalidInput => "is not a regular file".to_owned(),
                    kind => format!("cannot be read ({kind})"),
                };
                let remedy =
                    "give the path of a PEM file, relative to the folder of gateway.json, that the gateway may read";
                CertificateFault { which, what, remedy }
            })
        };
        Ok(Self { cert: read(Which::Cert)?, key: read(Which::Key)? })
    }

    pub fn digest(&self) -> [u8; 32] {
        sha256(&[sha256(&self.cert), sha256(&self.key)].concat())
    }
}

impl Certificate {
    pub fn load(files: &CertificateFiles) -> Result<Self, CertificateFault> {
        Self::new(files, &CertificateBytes::read(files)?)
    }

    pub fn new(files: &CertificateFiles, bytes: &CertificateBytes) -> Result<Self, CertificateFault> {
        let provider = Arc::new(default_provider());
        let certified = certified_key(bytes, &provider)?;
        let unusable = |_| fault(Which::Cert, "cannot be served", "write another certificate");
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Workers share it, and so a session is resumed whichever worker it comes to.
        server.ticketer = Ticketer::new().map_err(unusable)?;
        Ok(Self {
            files: files.clone(),
            digest: sha256(&bytes.cert),
            pair_digest: bytes.digest(),
            server: Arc::new(server),
        })
    }
}

/// The same files with the same content.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files && self.pair_digest == other.pair_digest
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.files).finish()
    }
}

fn fault(which: Which, what: &str, remedy: &'static str) -> CertificateFault {
    CertificateFault { which, what: what.to_owned(), remedy }
}

fn certified_key(bytes: &CertificateBytes, provider: &CryptoProvider) -> Result<CertifiedKey, CertificateFault> {
    const CHAIN: &str = "write the whole chain there as PEM, the server's own certificate first";
    const KEY: &str = "write the key there as PEM: PKCS #8, PKCS #1 or SEC 1, not encrypted";
    let broken_chain = || fault(Which::Cert, "holds a certificate that is broken", CHAIN);
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&bytes.cert).collect::<Result<_, _>>().map_err(|_| broken_chain())?;
    let own = chain.first().ok_or_else(|| fault(Which::Cert, "holds no PEM certificate", CHAIN))?;
    ParsedCertificate::try_from(own).map_err(|_| broken_chain())?;
    let key = PrivateKeyDer::from_pem_slice(&bytes.key).map_err(|error| match error {
        PemError::NoItemsFound => fault(Which::Key, "holds no PEM private key", KEY),
        _ => fault(Which::Key, "holds a private key that is broken", KEY),
    })?;
    let signing = provider.key_provider.load_private_key(key);
    let signing =
        signing.map_err(|_| fault(Which::Key, "holds a private key that is broken or of an unknown kind", KEY))?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|_| {
        let remedy = "write the key there that the first certificate of `cert` was made for";
        fault(Which::Key, "holds a private key that is not the certificate's", remedy)
    })?;
    Ok(certified)
}
