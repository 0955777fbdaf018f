//! What a viewer is told who may not look, and how a token becomes a cookie.
//!
//! A browser shows the token once, by a form or in the query, and then keeps a digest of it. Everything here works without
//! scripts. Nothing of what a viewer sent is ever shown again.

use std::borrow::Cow;

use http::Uri;
use http::header::HeaderValue;
use percent_encoding::percent_decode;

use crate::config::AdminToken;
use crate::error::{Failure, Kind};
use crate::exchange::cookies;

use super::access::Refusal;
use super::policy;

const PAGE: &str = include_str!("sign_in.html");
/// Where the form leads, and what it leads to.
pub const PATH: &str = "/dashboard";
const FIELD: &[u8] = b"token";
const COOKIE_AGE_S: u32 = 30 * 24 * 60 * 60;

impl Refusal {
    /// In the one error format.
    pub fn failure(self) -> Failure {
        let (kind, message) = match self {
            Self::Missing => (
                Kind::AdminTokenRequired,
                "this page needs the admin token, which is `admin.token` in the gateway's conf/gateway.json; send it as \
                 `Authorization: Bearer <token>`, or open /dashboard in a browser",
            ),
            Self::Wrong => (
                Kind::AdminTokenWrong,
                "this is not the admin token, which is `admin.token` in the gateway's conf/gateway.json",
            ),
            Self::NotSet => (
                Kind::AdminTokenRequired,
                "no admin token is set, so that only viewers on the gateway's machine itself may see this page; write \
                 `\"admin\": {\"token\": \"…\"}` into the gateway's conf/gateway.json, at least 16 random characters",
            ),
        };
        Failure::new(kind, message)
    }

    /// As a page, with a form where a token could help.
    pub fn html(self) -> String {
        let note = match self {
            Self::Missing => {
                "<p>Statistics and dashboard need the admin token.</p>\n<p lang=\"zh\">查看统计和仪表盘需要管理令牌。</p>"
            }
            Self::Wrong => {
                "<p class=\"bad\" role=\"alert\">That is not the admin token. Please try again.</p>\n\
                 <p class=\"bad\" lang=\"zh\">管理令牌不正确，请重试。</p>"
            }
            Self::NotSet => {
                "<p class=\"bad\">No admin token is set on this gateway, so its pages can be seen only on its own \
                 machine.</p>\n<p class=\"bad\" lang=\"zh\">此网关没有设置管理令牌，因此只有在网关本机上才能查看这些页面。</p>"
            }
        };
        let page = PAGE.replace("{{note}}", note);
        match (self, page.split_once("<!--form-->"), page.split_once("<!--/form-->")) {
            (Self::NotSet, Some((before, _)), Some((_, after))) => format!("{before}{after}"),
            _ => page,
        }
    }
}

/// `Secure` where the gateway's own port speaks TLS: elsewhere a browser would not keep it.
pub fn cookie(token: &AdminToken, is_tls: bool) -> HeaderValue {
    let (name, value, secure) = (cookies::ADMIN, token.cookie(), if is_tls { "; Secure" } else { "" });
    let text = format!("{name}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={COOKIE_AGE_S}{secure}");
    HeaderValue::try_from(text).expect("hexadecimal digits and attributes are visible ASCII")
}

/// The token in a form as browsers send it. White space around it was pasted along.
pub fn form_token(form: &[u8]) -> Option<Vec<u8>> {
    let value = parameters(form).find_map(|(name, value)| (name == FIELD).then_some(value))?;
    let spaced: Vec<u8> = value.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let decoded: Cow<'_, [u8]> = percent_decode(&spaced).into();
    Some(decoded.trim_ascii().to_vec())
}

/// The token in a target's query, where people write it, and a `+` is one.
pub fn query_token(uri: &Uri) -> Option<Vec<u8>> {
    let value = parameters(uri.query()?.as_bytes()).find_map(|(name, value)| (name == FIELD).then_some(value))?;
    let decoded: Cow<'_, [u8]> = percent_decode(value).into();
    Some(decoded.into_owned())
}

/// Path and query without the token.
pub fn without_token(uri: &Uri) -> String {
    let is_token = |pair: &&str| pair.split('=').next().is_some_and(|name| name.as_bytes() == FIELD);
    let rest: Vec<_> = uri.query().unwrap_or_default().split('&').filter(|pair| !is_token(pair)).collect();
    let rest = rest.join("&");
    if rest.is_empty() { uri.path().to_owned() } else { format!("{}?{rest}", uri.path()) }
}

fn parameters(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query.split(|byte| *byte == b'&').map(|pair| {
        let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        (&pair[..end], pair.get(end + 1..).unwrap_or_default())
    })
}

/// The page with the form has no script at all.
pub fn policy() -> HeaderValue {
    policy::only(&format!("style-src 'sha256-{}'; form-action 'self'", policy::hash(PAGE, "style")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_gives_its_token_as_it_was_typed() {
        for (form, expected) in [
            ("token=abc", Some("abc")),
            ("a=b&token=%61%2Bc%3D&token=later", Some("a+c=")),
            ("token=++abc%0D%0A", Some("abc")),
            ("token=a%zz", Some("a%zz")),
            ("token=", Some("")),
            ("token", Some("")),
            ("tokens=abc", None),
            ("{\"token\": \"abc\"}", None),
            ("", None),
        ] {
            assert_eq!(form_token(form.as_bytes()).as_deref(), expected.map(str::as_bytes), "{form}");
        }
    }

    #[test]
    fn a_query_gives_its_token_and_the_rest() {
        for (target, token, rest) in [
            ("/dashboard", None, "/dashboard"),
            ("/dashboard?token=a+b", Some("a+b"), "/dashboard"),
            ("/dashboard?a=1&token=%61&b=%2F&token=c", Some("a"), "/dashboard?a=1&b=%2F"),
            ("/dashboard?tokens=a", None, "/dashboard?tokens=a"),
        ] {
            let uri = Uri::from_static(target);
            assert_eq!(query_token(&uri).as_deref(), token.map(str::as_bytes), "{target}");
            assert_eq!(without_token(&uri), rest);
        }
    }

    #[test]
    fn a_page_without_a_token_to_show_has_no_form() {
        for refusal in [Refusal::Missing, Refusal::Wrong] {
            assert!(refusal.html().contains("<form method=\"post\" action=\"/dashboard\">"), "{refusal:?}");
        }
        let html = Refusal::NotSet.html();
        assert!(
            !html.contains("<form") && html.contains("Where is the token?") && html.ends_with("</html>\n"),
            "{html}"
        );
        assert!(!html.contains("{{"), "{html}");
    }
}
