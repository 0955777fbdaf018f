//! The values of settings, checked as they are read: one that exists makes sense.

use std::fmt;

use aiproxy_plugin_sdk::{Credential, Placement};
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// Headers that are not for settings to change, and whose they are.
const RESERVED: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What stands before every resource: empty, or a path without a trailing slash.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Prefix(pub String);

impl Default for Prefix {
    fn default() -> Self {
        Self("/v1".to_owned())
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let prefix = text.trim_end_matches('/');
        let is_path = prefix.is_empty() || prefix.starts_with('/');
        if !is_path || prefix.bytes().any(|byte| byte <= b' ' || byte == 0x7f || b"?#".contains(&byte)) {
            return Err(format!("expected an empty text or a path such as `/v1`, found `{prefix}`"));
        }
        Ok(Self(prefix.to_owned()))
    }
}

/// The provider's name for a model.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Model(pub String);

impl TryFrom<String> for Model {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() { Err("expected the provider's name for the model") } else { Ok(Self(text)) }
    }
}

/// A JSON pointer into a request's body.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Pointer(pub String);

impl TryFrom<String> for Pointer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with('/') && text.len() > 1 {
            return Ok(Self(text));
        }
        Err(format!("`{text}` is no JSON pointer; write `/{}`", text.trim_start_matches('/')))
    }
}

/// The name of a header that settings may change, in lower case.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct HeaderName(pub String);

impl TryFrom<String> for HeaderName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Token(name) = Token::try_from(text)?;
        let name = name.to_ascii_lowercase();
        if RESERVED.contains(&name.as_str()) {
            let remedy = if name == "authorization" { "; say in `key` where the key goes" } else { "" };
            return Err(format!("the header `{name}` is the gateway's own business{remedy}"));
        }
        Ok(Self(name))
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct HeaderValue(pub String);

impl TryFrom<String> for HeaderValue {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return Err("a header's value cannot have control characters");
        }
        Ok(Self(text))
    }
}

/// A token (RFC 9110, 5.6.2): the name of a header, an authorization scheme, here also of a query parameter.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Token(String);

impl TryFrom<String> for Token {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_token) {
            return Err(format!("`{text}` is no name: expected letters, digits, `-`, `_` or `.`"));
        }
        Ok(Self(text))
    }
}

/// The name of a header for the key: `authorization` is one, for a provider that wants the bare key in it.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct KeyHeader(String);

impl TryFrom<String> for KeyHeader {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_bare = text.eq_ignore_ascii_case("authorization");
        if is_bare { Ok(Self("authorization".to_owned())) } else { Ok(Self(HeaderName::try_from(text)?.0)) }
    }
}

/// Where the key goes; nowhere for a provider without keys.
#[derive(Debug)]
pub struct Key(pub Option<Credential>);

impl Default for Key {
    fn default() -> Self {
        Self(Some(Credential::bearer()))
    }
}

const PLACES: &[&str] = &["authorization", "header", "query"];
const FORMS: &str = r#""none", {"authorization": "Bearer"}, {"header": "api-key"} or {"query": "key"}"#;

/// By hand rather than as a derived enum: whoever writes `"bearer"` is to read all that can be written instead.
impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(FORMS)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Key, E> {
        if text == "none" { Ok(Key(None)) } else { Err(E::custom(format!("found \"{text}\"; write {FORMS}"))) }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Key, A::Error> {
        let mut place = None;
        let mut count = 0;
        while let Some(form) = map.next_key::<String>()? {
            place = Some(match form.as_str() {
                "authorization" => Placement::Authorization(map.next_value::<Token>()?.0),
                "header" => Placement::Header(map.next_value::<KeyHeader>()?.0),
                "query" => Placement::Query(map.next_value::<Token>()?.0),
                comment if comment.starts_with('_') => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                unknown => return Err(A::Error::unknown_field(unknown, PLACES)),
            });
            count += 1;
        }
        match (place, count) {
            (Some(place), 1) => Ok(Key(Some(Credential::key(place)))),
            _ => Err(A::Error::custom(format!("expected exactly one place; write {FORMS}"))),
        }
    }
}
