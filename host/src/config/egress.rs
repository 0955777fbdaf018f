//! The way out: an egress proxy from the channel's `proxy`, or from the environment's usual variables.
//!
//! The variables mean what they mean to curl and Go: the lower-case form goes before the upper-case one, `ALL_PROXY`
//! is asked last, `NO_PROXY` lists exceptions, and the loopback is always one. Only the environment has exceptions:
//! a channel that names its proxy uses it.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;

use super::expand::Env;
use super::{EgressProxy, Endpoint, ProxyKind, Secret, url};

/// Reads `http://[user:password@]host[:port]`, or the same with `socks5://`.
pub(super) fn parse(text: &str) -> Result<EgressProxy, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let (kind, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (ProxyKind::Http, 80),
        // curl's name for SOCKS 5 with names resolved by the proxy, which is the only way here.
        "socks5" | "socks5h" => (ProxyKind::Socks5, 1080),
        _ => return Err("must begin with http:// or socks5://".to_owned()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (login, authority) = match rest.rsplit_once('@') {
        Some((login, authority)) => (Some(self::login(login)?), authority),
        None => (None, rest),
    };
    if authority.contains(['/', '?', '#']) {
        return Err("must end after the port".to_owned());
    }
    let (host, port) = url::host_and_port(authority)?;
    Ok(EgressProxy { kind, host, port: port.unwrap_or(default_port), login })
}

fn login(text: &str) -> Result<(String, Secret), String> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decoded = |part| percent_decode_str(part).decode_utf8().map_err(|_| "has a user or password that is not UTF-8");
    let (user, password) = (decoded(user)?, decoded(password)?);
    // RFC 1929 gives one octet to each length.
    if user.is_empty() || user.len() > 255 || password.len() > 255 {
        return Err("must have a user and a password of at most 255 bytes".to_owned());
    }
    if user.contains(char::is_control) || password.contains(char::is_control) {
        return Err("must not have control characters in its user or password".to_owned());
    }
    Ok((user.into_owned(), Secret::new(&password)))
}

/// What the environment says.
pub(super) struct Environment {
    /// With the name of the variable that said so.
    https: Option<(&'static str, String)>,
    http: Option<(&'static str, String)>,
    except: Vec<Exception>,
}

impl Environment {
    pub fn read(env: Env<'_>) -> Self {
        let first = |names: &[&'static str]| {
            let found = |name: &&'static str| env(name).map(|value| (*name, value.trim().to_owned()));
            names.iter().filter_map(found).find(|(_, value)| !value.is_empty())
        };
        let except = first(&["no_proxy", "NO_PROXY"]).map(|(_, list)| list).unwrap_or_default();
        Self {
            https: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            http: first(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
            except: except.split([',', ' ']).filter_map(Exception::parse).collect(),
        }
    }

    /// The error names the variable.
    pub fn proxy_for(&self, endpoint: &Endpoint) -> Result<Option<EgressProxy>, String> {
        let chosen = if endpoint.tls { &self.https } else { &self.http };
        let Some((variable, text)) = chosen else { return Ok(None) };
        if is_loopback(&endpoint.host) || self.except.iter().any(|exception| exception.covers(endpoint)) {
            return Ok(None);
        }
        parse(text).map(Some).map_err(|why| format!("goes through the environment variable {variable}, which {why}"))
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// One entry of `NO_PROXY`.
enum Exception {
    Everything,
    Network(IpAddr, u8),
    /// A name and all names below it.
    Name(String, Option<u16>),
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_ascii_lowercase();
        if entry.is_empty() {
            return None;
        }
        if entry == "*" {
            return Some(Self::Everything);
        }
        if let Some((address, length)) = entry.split_once('/') {
            return Some(Self::Network(address.parse().ok()?, length.parse().ok()?));
        }
        if let Ok(address) = entry.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Some(Self::Network(address, 128));
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (entry.as_str(), None),
        };
        let name = name.trim_start_matches('*').trim_start_matches('.').trim_matches(['[', ']']);
        (!name.is_empty()).then(|| Self::Name(name.to_owned(), port))
    }

    fn covers(&self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Everything => true,
            Self::Network(network, length) => {
                endpoint.host.parse().is_ok_and(|address| is_in_network(address, *network, *length))
            }
            Self::Name(name, port) => {
                let below = endpoint.host.strip_suffix(name.as_str());
                below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                    && port.is_none_or(|port| port == endpoint.port)
            }
        }
    }
}

fn is_in_network(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let (address, network, bits) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    let host_bits = bits - u32::from(length).min(bits);
    // A shift by all bits would overflow: a network of length 0 holds every address.
    host_bits == 128 || (address ^ network) >> host_bits == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        let url::Url { tls, host, port, base_path, authority } = url::parse(text, url::HTTP).unwrap();
        Endpoint { tls, host, port, base_path, authority, proxy: None }
    }

    #[test]
    fn proxies_are_taken_apart() {
        let proxy = parse("http://us%3Aer:p%40ss@proxy.example:3128/").unwrap();
        assert_eq!(proxy.login, Some(("us:er".to_owned(), Secret::new("p@ss"))));
        assert_eq!(format!("{proxy:?}"), "Http://proxy.example:3128");
        assert_eq!(format!("{:?}", parse("socks5h://[::1]").unwrap()), "Socks5://::1:1080");
        assert_eq!(format!("{:?}", parse("proxy.example:8080").unwrap()), "Http://proxy.example:8080");
        for (text, expected) in [
            ("https://a", "must begin with http:// or socks5://"),
            ("http://a/b", "must end after the port"),
            ("http://:p@a", "must have a user and a password of at most 255 bytes"),
            ("http://u:a%0d@a", "must not have control characters in its user or password"),
            ("http://u:%ff@a", "has a user or password that is not UTF-8"),
            ("http://a:x", "must have a port from 1 to 65535"),
        ] {
            assert_eq!(parse(text), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn the_environment_chooses_by_scheme_and_case_and_knows_exceptions() {
        let env = |name: &str| {
            let value = match name {
                "https_proxy" => "http://lower:1",
                "HTTPS_PROXY" => "http://upper:1",
                "ALL_PROXY" => "socks5://all:1",
                "NO_PROXY" => ".corp.example, *.b.example,10.0.0.0/8, 192.0.2.1 ,c.example:8443,fd00::/8,,x/y",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let environment = Environment::read(&env);
        for (target, expected) in [
            ("https://a.example", Some("Http://lower:1")),
            ("http://a.example", Some("Socks5://all:1")),
            ("https://corp.example", None),
            ("https://x.corp.example", None),
            ("https://notcorp.example", Some("Http://lower:1")),
            ("https://x.b.example", None),
            ("https://10.1.2.3", None),
            ("https://11.1.2.3", Some("Http://lower:1")),
            ("https://192.0.2.1", None),
            ("https://192.0.2.2", Some("Http://lower:1")),
            ("https://c.example:8443", None),
            ("https://c.example", Some("Http://lower:1")),
            ("https://[fd12::1]", None),
            ("http://localhost:9", None),
            ("http://127.0.0.2:9", None),
            ("http://[::1]:9", None),
        ] {
            let proxy = environment.proxy_for(&endpoint(target)).unwrap().map(|proxy| format!("{proxy:?}"));
            assert_eq!(proxy.as_deref(), expected, "{target}");
        }
    }

    #[test]
    fn a_broken_variable_is_named_where_it_would_be_used() {
        let environment = Environment::read(&|name| (name == "HTTP_PROXY").then(|| "ftp://x".to_owned()));
        assert!(environment.proxy_for(&endpoint("https://a.example")).unwrap().is_none());
        assert_eq!(
            environment.proxy_for(&endpoint("http://a.example")).unwrap_err(),
            "goes through the environment variable HTTP_PROXY, which must begin with http:// or socks5://"
        );
        let all = Environment::read(&|name| Some(if name == "no_proxy" { "*" } else { "http://p" }.to_owned()));
        assert!(all.proxy_for(&endpoint("https://a.example")).unwrap().is_none());
    }
}
