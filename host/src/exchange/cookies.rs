//! A request's cookies: the gateway's own is taken out, and what HTTP/2 has split is joined.
//!
//! A browser that is signed in to the dashboard sends that cookie with whatever it asks of the gateway. No provider shall
//! see it; every other cookie passes as it is, byte for byte.

use http::header::{COOKIE, HeaderMap, HeaderValue};

use crate::exchange::names;

/// The gateway's own.
pub const ADMIN: &str = "aiproxy_admin";

/// Each value that the gateway's own cookie has here, without quotes.
pub fn admin_values(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(COOKIE).iter().flat_map(crumbs).filter(|crumb| is_admin(crumb)).map(|crumb| {
        let value = crumb.splitn(2, |byte| *byte == b'=').nth(1).unwrap_or_default().trim_ascii();
        value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
    })
}

/// Takes the gateway's own out.
pub fn remove_admin(headers: &mut HeaderMap) {
    if !names::has(headers, &COOKIE) || !headers.get_all(COOKIE).iter().flat_map(crumbs).any(is_admin) {
        return;
    }
    let kept: Vec<HeaderValue> = headers.get_all(COOKIE).iter().filter_map(without_admin).collect();
    headers.remove(COOKIE);
    for value in kept {
        headers.append(COOKIE, value);
    }
}

/// HTTP/2 splits `Cookie` into crumbs, which HTTP/1 does not know (RFC 9113, section 8.2.3).
pub fn join(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1 {
        let joined = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).expect("joined values are a value");
        headers.insert(COOKIE, joined);
    }
}

fn crumbs(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b';')
}

fn is_admin(crumb: &[u8]) -> bool {
    crumb.split(|byte| *byte == b'=').next().is_some_and(|name| name.trim_ascii() == ADMIN.as_bytes())
}

/// `None` when nothing else is in it.
fn without_admin(value: &HeaderValue) -> Option<HeaderValue> {
    if !crumbs(value).any(is_admin) {
        return Some(value.clone());
    }
    let kept = crumbs(value).filter(|crumb| !is_admin(crumb)).collect::<Vec<_>>().join(&b';');
    // The space belonged to the separator before.
    let kept = kept.trim_ascii_start();
    (!kept.is_empty()).then(|| HeaderValue::from_bytes(kept).expect("parts of a value are a value"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (COOKIE, value.parse().unwrap())).collect()
    }

    fn kept(values: &[&str]) -> Vec<String> {
        let mut headers = headers(values);
        remove_admin(&mut headers);
        headers.get_all(COOKIE).iter().map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap()).collect()
    }

    #[test]
    fn the_gateways_cookie_is_cut_out_wherever_it_stands() {
        for (value, expected) in [
            ("aiproxy_admin=x", ""),
            ("aiproxy_admin=\"x\"", ""),
            (" aiproxy_admin = x ;", ""),
            ("aiproxy_admin", ""),
            ("aiproxy_admin=x; a=1", "a=1"),
            ("a=1; aiproxy_admin=x", "a=1"),
            ("a=1; aiproxy_admin=x; b=2", "a=1; b=2"),
            ("a=1;aiproxy_admin=x;b=2", "a=1;b=2"),
            ("aiproxy_admin=x; a=1; aiproxy_admin=y; b=\"2 =\"", "a=1; b=\"2 =\""),
        ] {
            assert_eq!(kept(&[value]).concat(), expected, "{value}");
        }
        assert_eq!(kept(&["a=1", "aiproxy_admin=x", "b=2; aiproxy_admin=x"]), ["a=1", "b=2"]);
    }

    #[test]
    fn other_cookies_pass_byte_for_byte() {
        for value in ["", ";", " a = 1 ;; b", "xaiproxy_admin=1; aiproxy_admin2=2; a=aiproxy_admin", "ключ=值"] {
            assert_eq!(kept(&[value]), [value]);
        }
    }

    #[test]
    fn every_value_of_the_gateways_cookie_is_found() {
        let headers = headers(&["a=1; aiproxy_admin=x", "aiproxy_admin = \"y=\" ; aiproxy_admin"]);
        assert_eq!(admin_values(&headers).collect::<Vec<_>>(), [&b"x"[..], b"y=", b""]);
    }

    proptest! {
        #[test]
        fn nothing_of_it_is_left_and_the_others_stay_in_order(
            crumbs in prop::collection::vec("(aiproxy_admin=[0-9a-f]{0,4})|([a-c]=[0-9 ,\"]{0,4}[0-9])", 1..8),
            split in 0_usize..8,
        ) {
            let (first, second) = crumbs.split_at(split.min(crumbs.len()));
            let values: Vec<String> = [first, second].iter().filter(|part| !part.is_empty()).map(|part| part.join("; ")).collect();
            let left = kept(&values.iter().map(String::as_str).collect::<Vec<_>>());
            let expected: Vec<_> = crumbs.iter().filter(|crumb| !crumb.starts_with("aiproxy_admin=")).cloned().collect();
            prop_assert_eq!(left.join("; "), expected.join("; "));
        }
    }
}
