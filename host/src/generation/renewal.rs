//! The certificate of a running gateway, which is renewed by replacing its files.
//!
//! Nobody replaces two files at once: while they do not fit each other, or one is half written, the last good pair
//! serves on. Which files they are says the gateway.json that serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::certificate::{Certificate, CertificateBytes, CertificateFault};
use crate::config::problem::{Problem, Severity};
use crate::digest::hex;
use crate::generation::conf::Fingerprint;
use crate::generation::{Depth, FileStatus, State};

#[derive(Default)]
pub struct Renewal {
    serving: Option<Arc<Certificate>>,
    /// Of the two files.
    fingerprints: [Option<Fingerprint>; 2],
    /// What was read last, good or bad.
    seen: Option<[u8; 32]>,
    error: Option<String>,
}

impl Renewal {
    pub fn serving(&self) -> Option<&Arc<Certificate>> {
        self.serving.as_ref()
    }

    /// This is what gateway.json says; as long as it names the same files, what has become of them counts.
    pub fn follow(&mut self, certificate: Option<&Arc<Certificate>>) {
        let files = |certificate: &Arc<Certificate>| certificate.files.clone();
        if self.serving.as_ref().map(files) != certificate.map(files) {
            *self = Self { serving: certificate.cloned(), ..Self::default() };
        }
    }

    /// Takes what the files hold now, where it is new and sound.
    pub fn scan(&mut self, depth: Depth) {
        let Some(serving) = self.serving.clone() else { return };
        let fingerprints = [&serving.files.cert, &serving.files.key].map(|path| Fingerprint::of(path));
        if depth == Depth::Changed && self.seen.is_some() && fingerprints == self.fingerprints {
            return;
        }
        self.fingerprints = fingerprints;
        let bytes = match CertificateBytes::read(&serving.files) {
            Ok(bytes) => bytes,
            Err(fault) => {
                self.seen = None;
                return self.refuse(&serving, fault);
            }
        };
        let digest = bytes.digest();
        if self.seen.replace(digest) == Some(digest) {
            return;
        }
        match Certificate::new(&serving.files, &bytes) {
            Ok(certificate) => {
                self.error = None;
                if certificate != *serving {
                    tracing::info!(cert = %serving.files.cert.display(), "a new certificate serves new connections");
                    self.serving = Some(Arc::new(certificate));
                }
            }
            Err(fault) => self.refuse(&serving, fault),
        }
    }

    fn refuse(&mut self, serving: &Certificate, fault: CertificateFault) {
        let CertificateFault { which, what, remedy } = fault;
        let file = serving.files.path(which).to_owned();
        let problem = Problem {
            severity: Severity::Error,
            file,
            place: String::new(),
            position: None,
            what,
            remedy: remedy.to_owned(),
        };
        let error = problem.to_string();
        if self.error.as_ref() != Some(&error) {
            tracing::error!("{error}; the last good certificate and its key serve on");
        }
        self.error = Some(error);
    }

    /// Where changes are to be expected.
    pub fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let files = self.serving.iter().flat_map(|serving| [&serving.files.cert, &serving.files.key]);
        files.filter_map(|file| file.parent().map(Path::to_owned))
    }

    /// One entry for the pair, under the certificate's name: a hash of the key is nobody's business.
    pub fn status(&self) -> Option<FileStatus> {
        let serving = self.serving.as_ref()?;
        Some(FileStatus {
            name: serving.files.cert.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            version: Some(hex(&serving.digest)),
            state: if self.error.is_some() { State::Refused } else { State::Active },
            last_error: self.error.clone(),
            warnings: Vec::new(),
        })
    }
}
