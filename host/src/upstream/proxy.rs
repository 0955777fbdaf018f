//! Tunnels through an egress proxy: HTTP `CONNECT` (RFC 9110 section 9.3.6) and SOCKS5 (RFC 1928, RFC 1929).
//!
//! Both are given the upstream's name, so that it is resolved where the way out is. The tunnel is made before TLS, so
//! the proxy sees names and sizes and nothing else. Written here because each is a page, and the crates that offer
//! them bring a client of their own. No `Digest`, no GSSAPI, no TLS to the proxy.

use std::io;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::config::{EgressProxy, ProxyKind};
use crate::error::{Failure, Kind};

/// A proxy's answer to `CONNECT` may have a head of at most this size.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Makes `io`, a connection to the proxy, a connection to `host:port`.
pub(super) async fn tunnel<S>(io: &mut S, proxy: &EgressProxy, host: &str, port: u16) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let login = proxy.login.as_ref().map(|(user, password)| (user.as_str(), password.reveal()));
    let opened = match proxy.kind {
        ProxyKind::Http => connect(io, login, host, port).await,
        ProxyKind::Socks5 => socks5(io, login, host, port).await,
    };
    opened.map_err(|error| match error {
        Error::Refused(answer) => {
            Failure::new(Kind::UpstreamUnreachable, format!("the egress proxy refused the upstream: {answer}"))
                .because(format!("{proxy:?} for {host}:{port}"))
        }
        Error::Io(error) => Failure::new(Kind::UpstreamUnreachable, "the egress proxy broke the connection off")
            .because(format!("{proxy:?} for {host}:{port}: {error}")),
    })
}

enum Error {
    /// What the proxy answered, in words for the client.
    Refused(String),
    Io(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn refused<T>(answer: impl Into<String>) -> Result<T, Error> {
    Err(Error::Refused(answer.into()))
}

async fn connect<S>(io: &mut S, login: Option<(&str, &str)>, host: &str, port: u16) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some((user, password)) = login {
        head.push_str("Proxy-Authorization: Basic ");
        BASE64.encode_string(format!("{user}:{password}"), &mut head);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    io.write_all(head.as_bytes()).await?;
    io.flush().await?;

    let mut answer = Vec::with_capacity(512);
    let end = loop {
        if let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") {
            break end + 4;
        }
        if answer.len() > HEAD_BYTES_MAX {
            return refused("its answer has an overlong head");
        }
        if io.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    };
    let status = status_of(&answer);
    if !matches!(status, Some(200..=299)) {
        return refused(
            status.map_or_else(|| "its answer is not HTTP".to_owned(), |status| format!("status {status}")),
        );
    }
    // The upstream speaks only when spoken to, so bytes behind the head would be the proxy's own invention.
    if answer.len() > end { refused("its answer has a body") } else { Ok(()) }
}

/// The status of an HTTP/1 reply's first line.
fn status_of(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let code = rest.get(2..5)?;
    if rest[1] != b' ' || rest.get(5).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(code).ok()?.parse().ok()
}

async fn socks5<S>(io: &mut S, login: Option<(&str, &str)>, host: &str, port: u16) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    const VERSION: u8 = 5;
    const NO_LOGIN: u8 = 0;
    const LOGIN: u8 = 2;

    io.write_all(if login.is_some() { &[VERSION, 2, NO_LOGIN, LOGIN] } else { &[VERSION, 1, NO_LOGIN] }).await?;
    io.flush().await?;
    let mut chosen = [0; 2];
    io.read_exact(&mut chosen).await?;
    match (chosen, login) {
        ([VERSION, NO_LOGIN], _) => {}
        ([VERSION, LOGIN], Some((user, password))) => socks5_login(io, user, password).await?,
        ([VERSION, _], _) => return refused("it accepts none of the offered ways to log in"),
        _ => return refused("it does not speak SOCKS5"),
    }

    let mut request = vec![VERSION, 1, 0];
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            request.push(1);
            request.extend_from_slice(&address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            request.push(4);
            request.extend_from_slice(&address.octets());
        }
        Err(_) => {
            request.push(3);
            push_counted(&mut request, host)?;
        }
    }
    request.extend_from_slice(&port.to_be_bytes());
    io.write_all(&request).await?;
    io.flush().await?;

    let mut reply = [0; 4];
    io.read_exact(&mut reply).await?;
    if reply[0] != VERSION {
        return refused("it does not speak SOCKS5");
    }
    if reply[1] != 0 {
        return refused(socks5_reply(reply[1]));
    }
    let bound_bytes = match reply[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(io.read_u8().await?),
        _ => return refused("its answer has an address of an unknown kind"),
    };
    let mut bound = [0; 255 + 2];
    io.read_exact(&mut bound[..bound_bytes + 2]).await?;
    Ok(())
}

async fn socks5_login<S>(io: &mut S, user: &str, password: &str) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut login = vec![1];
    push_counted(&mut login, user)?;
    push_counted(&mut login, password)?;
    io.write_all(&login).await?;
    io.flush().await?;
    let mut answer = [0; 2];
    io.read_exact(&mut answer).await?;
    if answer[1] == 0 { Ok(()) } else { refused("it does not accept the login") }
}

/// A string behind its length in one byte.
fn push_counted(to: &mut Vec<u8>, text: &str) -> Result<(), Error> {
    let Ok(length @ 1..) = u8::try_from(text.len()) else {
        return refused("a name or login of 0 or of over 255 bytes cannot be told to a SOCKS5 proxy");
    };
    to.push(length);
    to.extend_from_slice(text.as_bytes());
    Ok(())
}

/// RFC 1928 section 6.
fn socks5_reply(code: u8) -> String {
    let meaning = match code {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "unassigned",
    };
    format!("reply {code} ({meaning})")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Secret;

    fn proxy(kind: ProxyKind, login: bool) -> EgressProxy {
        let login = login.then(|| ("me".to_owned(), Secret::new("pass word")));
        EgressProxy { kind, host: "proxy.example".into(), port: 3128, login }
    }

    /// What the proxy is told, and what comes of its answers.
    fn talk(proxy: &EgressProxy, host: &str, script: &[(usize, &[u8])]) -> (Vec<u8>, Result<(), Failure>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut near, mut far) = tokio::io::duplex(64 * 1024);
            let peer = async {
                let mut heard = Vec::new();
                for (bytes, answer) in script {
                    let mut piece = vec![0; *bytes];
                    far.read_exact(&mut piece).await.unwrap();
                    heard.extend(piece);
                    far.write_all(answer).await.unwrap();
                }
                drop(far);
                heard
            };
            let (heard, result) = tokio::join!(peer, tunnel(&mut near, proxy, host, 443));
            (heard, result)
        })
    }

    #[test]
    fn connect_names_the_upstream_and_logs_in() {
        let expected = "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\
                        Proxy-Authorization: Basic bWU6cGFzcyB3b3Jk\r\n\r\n";
        let answer = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";
        let (heard, result) = talk(&proxy(ProxyKind::Http, true), "api.example", &[(expected.len(), answer)]);
        assert_eq!(String::from_utf8(heard).unwrap(), expected);
        result.unwrap();

        let expected = "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n";
        let (heard, _) = talk(&proxy(ProxyKind::Http, false), "::1", &[(expected.len(), answer)]);
        assert_eq!(String::from_utf8(heard).unwrap(), expected);
    }

    #[test]
    fn a_refusal_names_the_status_and_no_login() {
        let answer: &[u8] = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
        let failure = talk(&proxy(ProxyKind::Http, true), "api.example", &[(50, answer)]).1.unwrap_err();
        assert_eq!(failure.kind, Kind::UpstreamUnreachable);
        assert!(failure.message.contains("407"), "{failure}");
        assert!(!failure.to_string().contains("pass word"), "{failure}");
        assert!(!failure.message.contains("example"), "{failure}");
    }

    #[test]
    fn socks5_lets_the_proxy_resolve_the_name() {
        let request = b"\x05\x01\x00\x03\x0bapi.example\x01\xbb";
        let script: &[(usize, &[u8])] = &[(3, b"\x05\x00"), (request.len(), b"\x05\x00\x00\x01\x7f\0\0\x01\x12\x34")];
        let (heard, result) = talk(&proxy(ProxyKind::Socks5, false), "api.example", script);
        assert_eq!(heard, [&b"\x05\x01\x00"[..], request].concat());
        result.unwrap();
    }

    #[test]
    fn socks5_logs_in_when_asked() {
        let login = b"\x01\x02me\x09pass word";
        let request = b"\x05\x01\x00\x01\x7f\x00\x00\x01\x01\xbb";
        let script: &[(usize, &[u8])] =
            &[(4, b"\x05\x02"), (login.len(), b"\x01\x00"), (request.len(), b"\x05\x00\x00\x03\x01x\x12\x34")];
        let (heard, result) = talk(&proxy(ProxyKind::Socks5, true), "127.0.0.1", script);
        assert_eq!(heard, [&b"\x05\x02\x00\x02"[..], login, request].concat());
        result.unwrap();

        let script: &[(usize, &[u8])] = &[(4, b"\x05\x02"), (login.len(), b"\x01\x01")];
        let failure = talk(&proxy(ProxyKind::Socks5, true), "127.0.0.1", script).1.unwrap_err();
        assert!(failure.message.contains("login"), "{failure}");
    }

    #[test]
    fn socks5_refusals_are_named() {
        let script: &[(usize, &[u8])] = &[(3, b"\x05\x00"), (10, b"\x05\x05\x00\x01\0\0\0\0\0\0")];
        let failure = talk(&proxy(ProxyKind::Socks5, false), "127.0.0.1", script).1.unwrap_err();
        assert!(failure.message.contains("connection refused"), "{failure}");
    }

    proptest! {
        #[test]
        fn no_answer_of_a_proxy_panics(answer in proptest::collection::vec(any::<u8>(), 0..600), socks in any::<bool>()) {
            let kind = if socks { ProxyKind::Socks5 } else { ProxyKind::Http };
            let _ = talk(&proxy(kind, true), "127.0.0.1", &[(4, &answer)]);
        }
    }
}
