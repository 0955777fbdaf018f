//! The URLs that an operator may write: scheme, host, port and a path in front.
//!
//! Narrower than RFC 3986 on purpose: an address that keys are sent to must not be ambiguous. Anything that could hide
//! a secret (`user:password@`, a query) or be lost (a fragment) is refused. What is refused is never quoted.

use std::net::{Ipv4Addr, Ipv6Addr};

#[derive(Debug, PartialEq, Eq, Clone)]
pub(super) struct Url {
    pub tls: bool,
    /// In lower case, without brackets.
    pub host: String,
    pub port: u16,
    /// Empty, or `/…` without a trailing slash.
    pub base_path: String,
    /// Host, and port unless it is the scheme's own.
    pub authority: String,
}

/// Schemes and whether they mean TLS.
pub(super) const HTTP: &[(&str, bool)] = &[("https", true), ("http", false)];
/// `http` too: some configurations give one URL for both.
pub(super) const WEBSOCKET: &[(&str, bool)] = &[("wss", true), ("ws", false), ("https", true), ("http", false)];

pub(super) fn parse(text: &str, schemes: &[(&str, bool)]) -> Result<Url, String> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| expected(schemes))?;
    let (_, tls) =
        *schemes.iter().find(|(name, _)| name.eq_ignore_ascii_case(scheme)).ok_or_else(|| expected(schemes))?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("must not carry a user or password".to_owned());
    }
    let (host, port) = host_and_port(authority)?;
    let base_path = path.trim_end_matches('/');
    check_path(base_path)?;
    let default = if tls { 443 } else { 80 };
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let port = port.unwrap_or(default);
    let authority = if port == default { bracketed } else { format!("{bracketed}:{port}") };
    Ok(Url { tls, host, port, base_path: base_path.to_owned(), authority })
}

fn expected(schemes: &[(&str, bool)]) -> String {
    let (first, second) = (schemes[0].0, schemes[1].0);
    format!("must begin with {first}:// or {second}://")
}

fn check_path(path: &str) -> Result<(), String> {
    if path.contains(['?', '#']) {
        return Err("must not carry a query or a fragment".to_owned());
    }
    // What RFC 3986 calls pchar; `%` is checked for its two digits.
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&b);
    if !path.bytes().all(fits) {
        return Err("has a character in its path that must be percent-encoded".to_owned());
    }
    let broken = |rest: &str| rest.len() < 2 || !rest.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit);
    if path.split('%').skip(1).any(broken) {
        return Err("has a `%` in its path without two hexadecimal digits".to_owned());
    }
    if path.split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
        return Err("has an empty, `.` or `..` segment in its path".to_owned());
    }
    Ok(())
}

/// Splits `host`, `host:port` and `[v6]:port`. The host comes back in lower case and without brackets.
pub(super) fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or("has a `[` without `]`")?;
            let address: Ipv6Addr = address.parse().map_err(|_| "has no valid IPv6 address in brackets")?;
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or(BAD_PORT)?) };
            (address.to_string(), port)
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("must have its IPv6 address in brackets".to_owned()),
            Some((host, port)) => (name(host)?, Some(port)),
            None => (name(text)?, None),
        },
    };
    let port = port.map(|port| match port.parse::<u16>() {
        Ok(number) if number > 0 && port.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
        _ => Err(BAD_PORT.to_owned()),
    });
    Ok((host, port.transpose()?))
}

const BAD_PORT: &str = "must have a port from 1 to 65535";

/// A DNS name (underscores occur in container networks) or an IPv4 address.
fn name(host: &str) -> Result<String, String> {
    if host.is_empty() {
        return Err("has no host".to_owned());
    }
    if !host.is_ascii() {
        return Err("has a host that is not ASCII (write its `xn--` form)".to_owned());
    }
    let labels: Vec<_> = host.strip_suffix('.').unwrap_or(host).split('.').collect();
    let sound = |label: &&str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits can only be an address; `127.1` and `0x7f.1` mean different hosts to different resolvers.
    let last = labels.last().copied().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    if host.len() > 253 || !labels.iter().all(sound) || (numeric && host.parse::<Ipv4Addr>().is_err()) {
        return Err("has no valid host".to_owned());
    }
    Ok(host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, tls, host, port, base_path, authority) in [
            ("https://a.example", true, "a.example", 443, "", "a.example"),
            ("HTTP://A.Example:80/", false, "a.example", 80, "", "a.example"),
            ("http://127.0.0.1:8080/v1/", false, "127.0.0.1", 8080, "/v1", "127.0.0.1:8080"),
            ("https://[2001:DB8::1]:8443/a/b%20c", true, "2001:db8::1", 8443, "/a/b%20c", "[2001:db8::1]:8443"),
            ("https://[::1]", true, "::1", 443, "", "[::1]"),
            ("http://my_service:443", false, "my_service", 443, "", "my_service:443"),
        ] {
            let (host, base_path, authority) = (host.to_owned(), base_path.to_owned(), authority.to_owned());
            assert_eq!(parse(text, HTTP), Ok(Url { tls, host, port, base_path, authority }), "{text}");
        }
        assert!(parse("wss://a", WEBSOCKET).unwrap().tls);
        assert!(!parse("ws://a", WEBSOCKET).unwrap().tls);
    }

    #[test]
    fn what_is_ambiguous_or_unsafe_is_refused() {
        for (text, expected) in [
            ("a.example", "must begin with https:// or http://"),
            ("ftp://a", "must begin with https:// or http://"),
            ("wss://a", "must begin with https:// or http://"),
            ("https://", "has no host"),
            ("https://:443", "has no host"),
            ("https://u:p@a", "must not carry a user or password"),
            ("https://a?k=1", "must not carry a query or a fragment"),
            ("https://a/#x", "must not carry a query or a fragment"),
            ("https://a:0", "must have a port from 1 to 65535"),
            ("https://a:65536", "must have a port from 1 to 65535"),
            ("https://a:+1", "must have a port from 1 to 65535"),
            ("https://a:", "must have a port from 1 to 65535"),
            ("https://[::1]443", "must have a port from 1 to 65535"),
            ("https://::1", "must have its IPv6 address in brackets"),
            ("https://[::1", "has a `[` without `]`"),
            ("https://[1.2.3.4]", "has no valid IPv6 address in brackets"),
            ("https://a b", "has no valid host"),
            ("https://a..b", "has no valid host"),
            ("https://-a", "has no valid host"),
            ("https://127.1", "has no valid host"),
            ("https://1.2.3.256", "has no valid host"),
            ("https://例.com", "has a host that is not ASCII (write its `xn--` form)"),
            ("https://a/b c", "has a character in its path that must be percent-encoded"),
            ("https://a/%2", "has a `%` in its path without two hexadecimal digits"),
            ("https://a/../b", "has an empty, `.` or `..` segment in its path"),
            ("https://a//b", "has an empty, `.` or `..` segment in its path"),
        ] {
            assert_eq!(parse(text, HTTP), Err(expected.to_owned()), "{text}");
        }
    }
}
