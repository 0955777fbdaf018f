//! Names that a plugin may use: headers, tokens, pointers.

use http::HeaderName;

use super::shown;
use crate::json::Pointer;

const NAME_BYTES_MAX: usize = 128;

/// What the host alone decides: framing, the connection (RFC 9110, 7.6.1) and where a request goes.
const HOST_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-version",
];
const HOST_PREFIXES: &[&str] = &["proxy-", "x-aiproxy-", "x-forwarded-"];

/// What shows who somebody is: never shown to a plugin. The API key headers carry proxy keys.
const CREDENTIAL_HEADERS: &[&str] =
    &["authorization", "cookie", "set-cookie", "x-api-key", "api-key", "x-goog-api-key", "x-amz-security-token"];

/// A header that a plan may set, remove or put a credential into.
pub fn editable_header(name: &str) -> Result<HeaderName, String> {
    let header = header(name)?;
    if HOST_HEADERS.contains(&name) || HOST_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(format!("the header {} is the gateway's own business", shown(name)));
    }
    Ok(header)
}

/// A header that a profile may ask to see.
pub fn visible_header(name: &str) -> Result<HeaderName, String> {
    let header = header(name)?;
    if CREDENTIAL_HEADERS.contains(&name) || name.starts_with("proxy-") {
        return Err(format!("the header {} carries credentials, which no plugin is shown", shown(name)));
    }
    Ok(header)
}

fn header(name: &str) -> Result<HeaderName, String> {
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("a header name has {} bytes, more than {NAME_BYTES_MAX}", name.len()));
    }
    HeaderName::from_lowercase(name.as_bytes()).map_err(|_| format!("not a header name in lower case: {}", shown(name)))
}

/// RFC 9110, 5.6.2.
pub fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A query parameter's name that is the same encoded and decoded.
pub fn query_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
}

/// One that the host can look up.
pub fn pointer(text: &str) -> Result<(), String> {
    match Pointer::parse(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("not a JSON pointer (RFC 6901): {}: {error}", shown(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_those_of_rfc_6901() {
        for good in ["", "/", "/a", "/a/0", "/a~0b~1c", "/ä/ "] {
            assert_eq!(pointer(good), Ok(()), "{good}");
        }
        for bad in ["a", "/~", "/~2", "/a~"] {
            assert!(pointer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_hosts_own_headers_and_credentials_are_out_of_reach() {
        let own = ["host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"];
        for name in own.into_iter().chain(["proxy-authorization", "x-aiproxy-request-id", "x-forwarded-for"]) {
            assert!(editable_header(name).unwrap_err().contains(name));
        }
        for name in ["Upper", "", "a b", "a\r\nb", "a:b", "é"] {
            assert!(editable_header(name).is_err(), "{name:?}");
            assert!(visible_header(name).is_err(), "{name:?}");
        }
        for name in ["authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization"] {
            assert!(visible_header(name).unwrap_err().contains(name));
        }
        assert!(editable_header("authorization").is_ok());
        assert!(visible_header("host").is_ok());
    }
}
