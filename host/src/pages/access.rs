//! May this viewer look?
//!
//! Everybody may where the configuration says so, and otherwise who shows the admin token, or is on the machine itself.
//! The last is judged with suspicion: a page from elsewhere may have its name resolve to the loopback (DNS rebinding), and
//! a proxy on this machine stands for somebody else. So the address alone admits nobody: the viewer must also have called
//! the gateway by a name that means the machine itself, and nothing may hint at a proxy or another page.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use http::{Uri, Version};

use crate::config::{Admin, AdminToken};
use crate::exchange::{cookies, identify};

/// What proxies tell of the client that they stand for, beside `x-forwarded-*` and `x-original-*`.
const FORWARDING: [&str; 7] =
    ["forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "cf-connecting-ip", "true-client-ip"];

/// What is known of who asks.
pub struct Viewer<'a> {
    pub peer: IpAddr,
    pub is_tls: bool,
    pub version: Version,
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
    /// A token in the target's query, where the page takes one there.
    pub query_token: Option<&'a [u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    Admitted,
    /// The query's token is this one: it shall become a cookie.
    SignedIn(&'a AdminToken),
    Refused(Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Missing,
    Wrong,
    /// None is configured, so that nobody from elsewhere can be admitted.
    NotSet,
}

pub fn judge<'a>(viewer: &Viewer<'_>, admin: &'a Admin) -> Verdict<'a> {
    if let (Some(token), Some(shown)) = (&admin.token, viewer.query_token)
        && token.is(shown)
    {
        return Verdict::SignedIn(token);
    }
    if admin.public || is_local(viewer) {
        return Verdict::Admitted;
    }
    let Some(token) = &admin.token else { return Verdict::Refused(Refusal::NotSet) };
    let bearers = || viewer.headers.get_all(AUTHORIZATION).iter().filter_map(identify::bearer);
    if bearers().any(|shown| token.is(shown))
        || cookies::admin_values(viewer.headers).any(|shown| token.is_cookie(shown))
    {
        return Verdict::Admitted;
    }
    // A cookie that is not right is one of a former token: no mistake of the viewer's.
    let is_shown = viewer.query_token.is_some() || bearers().next().is_some();
    Verdict::Refused(if is_shown { Refusal::Wrong } else { Refusal::Missing })
}

/// Whether the viewer is on this machine, as far as can be told.
fn is_local(viewer: &Viewer<'_>) -> bool {
    let hosts = || {
        let authority = viewer.uri.authority().map(|authority| authority.as_str().as_bytes());
        viewer.headers.get_all(HOST).iter().map(http::HeaderValue::as_bytes).chain(authority)
    };
    let scheme: &[u8] = if viewer.is_tls { b"https://" } else { b"http://" };
    let is_own = |origin: &[u8]| {
        origin.strip_prefix(scheme).is_some_and(|own| hosts().all(|host| host.eq_ignore_ascii_case(own)))
    };
    viewer.peer.to_canonical().is_loopback()
        // HTTP/1.0 is what nginx speaks to an upstream unless it is told otherwise, and adds nothing to.
        && viewer.version != Version::HTTP_10
        && hosts().next().is_some()
        && hosts().all(is_loopback_host)
        && !is_forwarded(viewer.headers)
        && viewer.headers.get_all(ORIGIN).iter().all(|origin| is_own(origin.as_bytes()))
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    // Some proxies write underscores, and some servers take them for hyphens.
    headers.keys().map(|name| name.as_str().replace('_', "-")).any(|name| {
        name.starts_with("x-forwarded") || name.starts_with("x-original-") || FORWARDING.contains(&name.as_str())
    })
}

/// Whether a `Host` means the machine itself without any name being looked up: `localhost`, a name below it (which browsers
/// never look up), `127.0.0.0/8` in four decimal parts, `[::1]`; with a port or without. Everything else does not.
fn is_loopback_host(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let is_port =
        |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if let Some(bracketed) = host.strip_prefix('[') {
        let Some((address, rest)) = bracketed.split_once(']') else { return false };
        return (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
            && address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback());
    }
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    if !port.is_none_or(is_port) {
        return false;
    }
    if let Ok(address) = name.parse::<Ipv4Addr>() {
        return address.is_loopback();
    }
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    name.split('.').all(is_label) && name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &[u8] = b"admin-0123456789abcdef";
    const LOCAL: &str = "127.0.0.1";
    const FAR: &str = "192.0.2.7";

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    fn admin() -> Admin {
        Admin { token: Some(AdminToken::new(TOKEN)), public: false }
    }

    fn verdict<'a>(peer: &str, fields: &[(&str, &str)], query_token: Option<&[u8]>, admin: &'a Admin) -> Verdict<'a> {
        let (headers, uri) = (headers(fields), Uri::from_static("/stats"));
        let peer = peer.parse().unwrap();
        judge(
            &Viewer { peer, is_tls: false, version: Version::HTTP_11, uri: &uri, headers: &headers, query_token },
            admin,
        )
    }

    fn is_admitted(peer: &str, fields: &[(&str, &str)]) -> bool {
        verdict(peer, fields, None, &admin()) == Verdict::Admitted
    }

    #[test]
    fn only_a_loopback_address_is_the_machine_itself() {
        for (peer, expected) in [
            ("127.0.0.1", true),
            ("127.9.8.7", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("128.0.0.1", false),
            ("10.0.0.1", false),
            ("0.0.0.0", false),
            ("::", false),
            ("::ffff:10.0.0.1", false),
            ("::127.0.0.1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(is_admitted(peer, &[("host", "localhost:8001")]), expected, "{peer}");
        }
    }

    #[test]
    fn only_a_name_of_the_machine_itself_is_local() {
        for host in [
            "localhost",
            "LocalHost:8001",
            "a.localhost",
            "a-b.C_d.localhost:1",
            "127.0.0.1",
            "127.1.2.3:65535",
            "[::1]",
            "[::1]:80",
        ] {
            assert!(is_admitted(LOCAL, &[("host", host)]), "{host}");
        }
        for host in [
            "",
            "gateway.test",
            "localhost.evil.com",
            "127.0.0.1.evil.com",
            "evil-localhost",
            "evil.com:localhost",
            "localhost.",
            ".localhost",
            "a..localhost",
            "localhost:",
            "localhost:65536",
            "localhost:+80",
            "localhost:80:80",
            "localhost:80@evil.com",
            "evil.com@localhost",
            "evil.com/localhost",
            "localhost evil.com",
            "evil.com, localhost",
            "127.1",
            "127.0.0.01",
            "0x7f.0.0.1",
            "2130706433",
            "0.0.0.0",
            "10.0.0.1",
            "[::1",
            "[::1]80",
            "[::1].evil.com",
            "[::]",
            "[::ffff:127.0.0.1]",
            "::1",
        ] {
            assert!(!is_admitted(LOCAL, &[("host", host)]), "{host}");
        }
        assert!(!is_admitted(LOCAL, &[]), "no name at all");
        assert!(!is_admitted(LOCAL, &[("host", "localhost"), ("host", "evil.com")]));
    }

    #[test]
    fn over_http2_the_authority_is_the_name() {
        let admin = admin();
        let judged = |uri: &'static str, fields: &[(&str, &str)]| {
            let (headers, uri) = (headers(fields), Uri::from_static(uri));
            let (peer, version) = (LOCAL.parse().unwrap(), Version::HTTP_2);
            judge(&Viewer { peer, is_tls: true, version, uri: &uri, headers: &headers, query_token: None }, &admin)
        };
        assert_eq!(judged("https://localhost:8001/stats", &[]), Verdict::Admitted);
        assert_eq!(judged("https://localhost:8001/stats", &[("origin", "https://localhost:8001")]), Verdict::Admitted);
        let refused = Verdict::Refused(Refusal::Missing);
        assert_eq!(judged("https://localhost:8001/stats", &[("origin", "http://localhost:8001")]), refused);
        assert_eq!(judged("https://evil.com/stats", &[]), refused);
        assert_eq!(judged("https://evil.com/stats", &[("host", "localhost")]), refused);
        assert_eq!(judged("https://evil.com@localhost/stats", &[]), refused);
    }

    #[test]
    fn what_hints_at_a_proxy_or_another_page_is_not_local() {
        for name in [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-anything",
            "x_forwarded_for",
            "x-real-ip",
            "via",
            "cf-connecting-ip",
            "true-client-ip",
            "x-client-ip",
            "x-cluster-client-ip",
            "x-original-url",
        ] {
            for value in ["127.0.0.1", ""] {
                assert!(!is_admitted(LOCAL, &[("host", "localhost"), (name, value)]), "{name}: {value}");
            }
        }
        for (origin, expected) in [
            ("http://localhost:8001", true),
            ("https://localhost:8001", false),
            ("http://localhost:3000", false),
            ("http://localhost", false),
            ("http://evil.com", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(is_admitted(LOCAL, &[("host", "localhost:8001"), ("origin", origin)]), expected, "{origin}");
        }
        let (headers, uri) = (headers(&[("host", "localhost")]), Uri::from_static("/stats"));
        let (peer, version) = (LOCAL.parse().unwrap(), Version::HTTP_10);
        let viewer = Viewer { peer, is_tls: false, version, uri: &uri, headers: &headers, query_token: None };
        assert_eq!(judge(&viewer, &admin()), Verdict::Refused(Refusal::Missing));
    }

    #[test]
    fn the_token_admits_from_anywhere_and_nothing_else_does() {
        let bearer = "Bearer admin-0123456789abcdef";
        let cookie = format!("a=1; aiproxy_admin={}", AdminToken::new(TOKEN).cookie());
        assert!(is_admitted(FAR, &[("authorization", bearer)]));
        assert!(is_admitted(FAR, &[("authorization", "Basic eDp5"), ("authorization", bearer)]));
        assert!(is_admitted(FAR, &[("cookie", &cookie)]));
        assert_eq!(verdict(FAR, &[], Some(TOKEN), &admin()), Verdict::SignedIn(&AdminToken::new(TOKEN)));
        let refusal = |fields: &[(&str, &str)], token| match verdict(FAR, fields, token, &admin()) {
            Verdict::Refused(refusal) => refusal,
            other => panic!("{fields:?}: {other:?}"),
        };
        assert_eq!(refusal(&[("host", "localhost")], None), Refusal::Missing);
        assert_eq!(refusal(&[("cookie", "aiproxy_admin=admin-0123456789abcdef")], None), Refusal::Missing);
        assert_eq!(refusal(&[("x-api-key", "admin-0123456789abcdef")], None), Refusal::Missing);
        assert_eq!(refusal(&[("authorization", "Bearer admin-0123456789abcdeg")], None), Refusal::Wrong);
        assert_eq!(refusal(&[], Some(b"")), Refusal::Wrong);
    }

    #[test]
    fn without_a_token_only_the_machine_itself_is_admitted_unless_all_are() {
        let none = Admin::default();
        assert_eq!(verdict(LOCAL, &[("host", "localhost")], Some(b"x"), &none), Verdict::Admitted);
        let refused = Verdict::Refused(Refusal::NotSet);
        assert_eq!(verdict(FAR, &[("authorization", "Bearer ")], Some(b""), &none), refused);
        let all = Admin { public: true, ..Admin::default() };
        assert_eq!(
            verdict(FAR, &[("x-forwarded-for", "1.2.3.4"), ("origin", "http://evil.com")], None, &all),
            Verdict::Admitted
        );
    }

    /// Strings near what is accepted.
    fn host_like() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "localhost",
            "LOCALHOST",
            "127",
            "0",
            "1",
            "::1",
            "::",
            ".",
            ":",
            "[",
            "]",
            "80",
            "evil",
            "com",
            "@",
            "/",
            "-",
            " ",
        ]);
        prop_oneof![
            prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat()),
            "[ -~]{0,12}(localhost|127\\.0\\.0\\.1|\\[::1\\])[ -~]{0,12}",
        ]
    }

    proptest! {
        #[test]
        fn no_host_is_local_that_does_not_parse_to_the_loopback(host in host_like()) {
            if is_admitted(LOCAL, &[("host", host.trim())]) {
                let authority: http::uri::Authority = host.trim().parse().unwrap();
                let name = authority.host().to_ascii_lowercase();
                let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
                prop_assert!(address.map_or(name == "localhost" || name.ends_with(".localhost"), |address| address.is_loopback()));
                prop_assert!(!is_admitted(FAR, &[("host", host.trim())]));
                let suffixed = format!("{}.evil.com", host.trim());
                prop_assert!(!is_admitted(LOCAL, &[("host", &suffixed)]), "{}", suffixed);
            }
        }

        #[test]
        fn nothing_is_local_with_a_forwarding_header(
            name in "x-forwarded-[a-z]{0,6}|x-original-[a-z]{0,6}|forwarded|via|x-real-ip|true-client-ip",
            value in "[ -~]{0,20}",
            host in host_like(),
        ) {
            let is_let_in = is_admitted(LOCAL, &[("host", host.trim()), (&name, value.trim())]);
            prop_assert!(!is_let_in);
        }
    }
}
