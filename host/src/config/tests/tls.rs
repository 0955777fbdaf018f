//! Every fault of `tls`, with its exact text, and every form of key that is taken.

use std::path::{Path, PathBuf};

use super::super::load::gateway;
use super::{env, lines};

/// Files in a folder of their own.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// A certificate and its key, as PEM.
fn pair() -> (String, String) {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

/// The places are lines of this text.
fn text(cert: &Path, key: &Path) -> String {
    format!("{{\"tls\": {{\n\"cert\": {:?},\n\"key\": {:?}}}}}", cert.display().to_string(), key.display().to_string())
}

#[test]
fn every_fault_of_the_two_files_is_told_with_its_place_and_remedy_and_nothing_of_them() {
    const UNREADABLE: &str =
        "give the path of a PEM file, relative to the folder of gateway.json, that the gateway may read";
    const CHAIN: &str = "write the whole chain there as PEM, the server's own certificate first";
    const KEY: &str = "write the key there as PEM: PKCS #8, PKCS #1 or SEC 1, not encrypted";
    let files = Files::new();
    let ((cert_pem, key_pem), (_, other_pem)) = (pair(), pair());
    let (cert, key) = (files.write("cert.pem", &cert_pem), files.write("key.pem", &key_pem));
    let missing = files.0.path().join("missing.pem");
    let half_cert = files.write("half_cert.pem", &cert_pem[..200]);
    let half_key = files.write("half_key.pem", &key_pem[..80]);
    let odd_cert =
        files.write("odd_cert.pem", &cert_pem.replace("BEGIN CERTIFICATE-----", "BEGIN CERTIFICATE----- MARKER"));
    let encrypted = files.write("encrypted.pem", &key_pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
    let no_certificate = files.write("no.pem", "-----BEGIN CERTIFICATE-----\nMARK\n-----END CERTIFICATE-----\n");
    let no_key = files.write("no_key.pem", &key_pem.replacen("MIG", "MARKMIG", 1).replace('\n', "\n\n"));
    let other = files.write("other.pem", &other_pem);
    for (cert, key, expected) in [
        (&missing, &key, format!("2:9: tls.cert: names a file that cannot be read (entity not found); {UNREADABLE}")),
        (&cert, &missing, format!("3:8: tls.key: names a file that cannot be read (entity not found); {UNREADABLE}")),
        (&files.0.path().to_owned(), &key, format!("2:9: tls.cert: names a file that is not a regular file; {UNREADABLE}")),
        (&key, &key, format!("2:9: tls.cert: names a file that holds no PEM certificate; {CHAIN}")),
        (&half_cert, &key, format!("2:9: tls.cert: names a file that holds a certificate that is broken; {CHAIN}")),
        (&odd_cert, &key, format!("2:9: tls.cert: names a file that holds a certificate that is broken; {CHAIN}")),
        (&no_certificate, &key, format!("2:9: tls.cert: names a file that holds a certificate that is broken; {CHAIN}")),
        (&cert, &cert, format!("3:8: tls.key: names a file that holds no PEM private key; {KEY}")),
        (&cert, &encrypted, format!("3:8: tls.key: names a file that holds no PEM private key; {KEY}")),
        (&cert, &half_key, format!("3:8: tls.key: names a file that holds a private key that is broken; {KEY}")),
        (&cert, &no_key, format!("3:8: tls.key: names a file that holds a private key that is broken or of an unknown kind; {KEY}")),
        (&cert, &other, "3:8: tls.key: names a file that holds a private key that is not the certificate's; write the key there that the first certificate of `cert` was made for".to_owned()),
    ] {
        let part = gateway(text(cert, key).as_bytes(), Path::new("g.json"), &env);
        assert_eq!(lines(&part), [format!("error: g.json:{expected}")]);
        assert!(part.value.is_none(), "{expected}");
    }
}

#[test]
fn both_files_are_needed_and_nothing_else() {
    let missing = "is missing; write the path of a PEM file, relative to this file's folder";
    for (text, expected) in [
        (r#"{"tls": {}}"#, vec![format!("1:9: tls.cert: {missing}"), format!("1:9: tls.key: {missing}")]),
        (r#"{"tls": {"cert": "Cargo.toml"}}"#, vec![format!("1:9: tls.key: {missing}")]),
        (r#"{"tls": {"key": "Cargo.toml", "cert": null}}"#, vec![format!("1:39: tls.cert: {missing}")]),
        (r#"{"tls": true}"#, vec!["1:9: tls: must be an object, not a boolean; write it in curly brackets".to_owned()]),
    ] {
        let part = gateway(text.as_bytes(), Path::new("g.json"), &env);
        let expected: Vec<_> = expected.iter().map(|line| format!("error: g.json:{line}")).collect();
        assert_eq!(lines(&part), expected, "{text}");
        assert!(part.value.is_none(), "{text}");
    }
}

#[test]
fn one_file_may_hold_both_and_a_key_may_be_written_as_sec_1() {
    let files = Files::new();
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let both = files.write("both.pem", &(signing_key.serialize_pem() + &cert.pem()));
    // Inside PKCS #8 (RFC 5208) stands SEC 1 (RFC 5915), at its end.
    let pkcs8 = signing_key.serialize_der();
    let start = pkcs8.windows(5).position(|bytes| bytes == [0x02, 0x01, 0x01, 0x04, 0x20]).unwrap() - 2;
    let sec1 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &pkcs8[start..]);
    let sec1 =
        files.write("sec1.pem", &format!("-----BEGIN EC PRIVATE KEY-----\n{sec1}\n-----END EC PRIVATE KEY-----\n"));
    for key in [&both, &sec1] {
        let part = gateway(text(&both, key).as_bytes(), Path::new("g.json"), &env);
        assert!(part.problems.is_empty(), "{:?}", lines(&part));
        let certificate = part.value.unwrap().tls.expect("TLS");
        assert_eq!((&certificate.files.cert, &certificate.files.key), (&both, key));
        assert!(!format!("{certificate:?}").contains("PRIVATE"), "{certificate:?}");
    }
}
