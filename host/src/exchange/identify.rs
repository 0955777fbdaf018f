//! Whose proxy key is this?
//!
//! Takes every credential out of the request, whatever comes of it: nothing after this stage can pass a proxy key on. The key is
//! compared as a SHA-256 digest, the digest in constant time, so that timing tells nothing about a key's characters.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::uri::{PathAndQuery, Uri};
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;

use crate::config::{Keys, ProxyKey};
use crate::digest::sha256;
use crate::error::{Failure, Kind};
use crate::exchange::names;

/// Headers that may carry a proxy key as they are.
static KEY_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];
/// The query parameter that may.
const KEY_PARAMETER: &str = "key";
/// What begins a WebSocket sub-protocol that carries one: browsers can send nothing else of their own.
const KEY_SUBPROTOCOL: &str = "openai-insecure-api-key.";
/// What begins an `Authorization` that is the provider's and the client's alone: one of Google's ephemeral tokens.
const EPHEMERAL_TOKEN: &[u8] = b"token auth_tokens/";

/// How the client showed its proxy key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Bearer,
    Header(&'static str),
    Query(&'static str),
    Subprotocol,
}

#[derive(Debug)]
pub struct Identified {
    pub key: Arc<ProxyKey>,
    pub form: Form,
    /// Of the key, to find it again in another generation.
    pub digest: [u8; 32],
    /// Its length.
    pub key_bytes: usize,
}

/// Removes all credentials from `headers` and `uri`; the form of the first that was there.
///
/// One stays beside a proxy key: an ephemeral token that Google gave to the client itself. Where the channel's own key
/// goes into that header, it replaces it.
pub fn strip(headers: &mut HeaderMap, uri: &mut Uri) -> Option<Form> {
    let authorization = names::remove(headers, &AUTHORIZATION);
    let (token, authorization) = match authorization {
        Some(value) if is_token(&value) => (Some(value), None),
        other => (None, other),
    };
    let mut form = authorization.map(|_| Form::Bearer);
    for name in &KEY_HEADERS {
        let removed = names::remove(headers, name).map(|_| Form::Header(name.as_str()));
        form = form.or(removed);
    }
    if let Some(without) = without_key_parameter(uri) {
        *uri = without;
        form = form.or(Some(Form::Query(KEY_PARAMETER)));
    }
    if strip_subprotocols(headers) {
        form = form.or(Some(Form::Subprotocol));
    }
    if let Some(token) = token.filter(|_| form.is_some()) {
        headers.insert(AUTHORIZATION, token);
    }
    form
}

/// Takes the sub-protocols that carry a key out of their list; true if there were any.
fn strip_subprotocols(headers: &mut HeaderMap) -> bool {
    if !names::has(headers, &SEC_WEBSOCKET_PROTOCOL) {
        return false;
    }
    let carries_key = |item: &&[u8]| subprotocol_key(item).is_some();
    if !subprotocols(headers).any(|item| carries_key(&item)) {
        return false;
    }
    let kept = subprotocols(headers).filter(|item| !carries_key(item)).collect::<Vec<_>>().join(&b", "[..]);
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if !kept.is_empty() {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_bytes(&kept).expect("parts of values are a value"));
    }
    true
}

/// Finds the key and removes all credentials from `headers` and `uri`.
pub fn identify(headers: &mut HeaderMap, uri: &mut Uri, keys: &Keys) -> Result<Identified, Failure> {
    let shown = shown(headers, uri);
    strip(headers, uri);
    let (form, digest, key_bytes) = shown?;
    let known = keys.by_digest.get_key_value(&digest).filter(|(known, _)| bool::from(known.ct_eq(&digest)));
    let Some((_, key)) = known else {
        return Err(Failure::new(Kind::KeyUnknown, "this proxy key is not known here"));
    };
    if !key.active {
        return Err(Failure::new(Kind::KeyDisabled, "this proxy key is disabled"));
    }
    Ok(Identified { key: key.clone(), form, digest, key_bytes })
}

/// The first form shown, and digest and length of the one key that all forms must agree on.
fn shown(headers: &HeaderMap, uri: &Uri) -> Result<(Form, [u8; 32], usize), Failure> {
    let mut found: Option<(Form, Cow<'_, [u8]>)> = None;
    let mut note = |form: Form, value: Cow<'_, [u8]>| match &found {
        Some((_, first)) if **first != *value => {
            Err(Failure::new(Kind::KeysDiffer, "the request carries two proxy keys that differ; send one"))
        }
        Some(_) => Ok(()),
        None if well_formed(&value) => {
            found = Some((form, Cow::Owned(value.into_owned())));
            Ok(())
        }
        None => Err(Failure::new(Kind::KeyMalformed, "the proxy key is empty or holds characters that no key has")),
    };
    let mut foreign_scheme = false;
    for value in headers.get_all(AUTHORIZATION) {
        match bearer(value) {
            Some(key) => note(Form::Bearer, Cow::Borrowed(key))?,
            None => foreign_scheme = true,
        }
    }
    for name in KEY_HEADERS.iter().filter(|name| names::has(headers, name)) {
        for value in headers.get_all(name) {
            note(Form::Header(name.as_str()), Cow::Borrowed(value.as_bytes().trim_ascii()))?;
        }
    }
    for (name, value) in parameters(uri.query().unwrap_or_default()) {
        if is_key(name) {
            note(Form::Query(KEY_PARAMETER), percent_decode_str(value).into())?;
        }
    }
    if names::has(headers, &SEC_WEBSOCKET_PROTOCOL) {
        for key in subprotocols(headers).filter_map(subprotocol_key) {
            note(Form::Subprotocol, Cow::Borrowed(key))?;
        }
    }
    match found {
        Some((form, key)) => Ok((form, sha256(&key), key.len())),
        None if foreign_scheme => Err(Failure::new(
            Kind::KeyMalformed,
            "the Authorization header does not hold a proxy key; send `Authorization: Bearer <proxy key>`",
        )),
        None => Err(Failure::new(
            Kind::KeyMissing,
            "no proxy key; send it as `Authorization: Bearer <proxy key>`, `x-api-key`, `api-key`, `x-goog-api-key` or \
             `?key=`, or in a WebSocket's handshake as the sub-protocol `openai-insecure-api-key.<proxy key>`",
        )),
    }
}

/// What an `Authorization` of this scheme holds.
pub fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, rest) = value.as_bytes().split_at_checked(6)?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer") && rest.first().is_none_or(|next| *next == b' ');
    is_bearer.then(|| rest.trim_ascii())
}

fn is_token(authorization: &HeaderValue) -> bool {
    authorization.as_bytes().get(..EPHEMERAL_TOKEN.len()).is_some_and(|it| it.eq_ignore_ascii_case(EPHEMERAL_TOKEN))
}

fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lists = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

fn subprotocol_key(item: &[u8]) -> Option<&[u8]> {
    let (prefix, key) = item.split_at_checked(KEY_SUBPROTOCOL.len())?;
    prefix.eq_ignore_ascii_case(KEY_SUBPROTOCOL.as_bytes()).then_some(key)
}

fn well_formed(key: &[u8]) -> bool {
    !key.is_empty() && key.iter().all(u8::is_ascii_graphic)
}

/// Names and values as they are written.
pub fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// A provider decodes names, so one that is encoded counts too.
fn is_key(name: &str) -> bool {
    percent_decode_str(name).eq(KEY_PARAMETER.bytes())
}

/// The URI with every `key` parameter cut out and every other byte kept; `None` when there is none.
fn without_key_parameter(uri: &Uri) -> Option<Uri> {
    let query = uri.query()?;
    if !parameters(query).any(|(name, _)| is_key(name)) {
        return None;
    }
    let mut kept = uri.path().to_owned();
    let mut separator = '?';
    for pair in query.split('&').filter(|pair| !pair.split('=').next().is_some_and(is_key)) {
        kept.push(separator);
        kept.push_str(pair);
        separator = '&';
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(kept).expect("a part of a valid URI is valid"));
    Some(Uri::from_parts(parts).expect("only the query became shorter"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let key = |id: &str, active| {
            Arc::new(ProxyKey {
                id: id.into(),
                active,
                channels: vec!["c".into()],
                tags: Vec::new(),
                description: None,
            })
        };
        let by_digest = [("sk-good", key("good", true)), ("sk-off", key("off", false))]
            .into_iter()
            .map(|(secret, key)| (sha256(secret.as_bytes()), key))
            .collect();
        Keys { by_digest }
    }

    /// What comes of a request with these headers and URI: the key's id and form or the failure's code, then the URI.
    fn outcome(headers: &[(&'static str, &str)], uri: &str) -> (Result<(String, Form), String>, String) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let mut uri: Uri = uri.parse().unwrap();
        let result = identify(&mut map, &mut uri, &keys());
        assert!(map.is_empty(), "a credential was left in {map:?}");
        (result.map(|found| (found.key.id.clone(), found.form)).map_err(|f| f.code().to_owned()), uri.to_string())
    }

    #[test]
    fn every_form_is_accepted_and_removed() {
        let good = |form| Ok(("good".to_owned(), form));
        assert_eq!(outcome(&[("authorization", "bEaReR  sk-good ")], "/x").0, good(Form::Bearer));
        assert_eq!(outcome(&[("x-api-key", "sk-good")], "/x").0, good(Form::Header("x-api-key")));
        assert_eq!(outcome(&[("api-key", "sk-good")], "/x").0, good(Form::Header("api-key")));
        assert_eq!(outcome(&[("x-goog-api-key", "sk-good")], "/x").0, good(Form::Header("x-goog-api-key")));
        assert_eq!(outcome(&[], "/x?a=%2f&key=sk%2Dgood&b"), (good(Form::Query("key")), "/x?a=%2f&b".to_owned()));
        assert_eq!(outcome(&[], "/x?key=sk-good").1, "/x");
    }

    #[test]
    fn a_browsers_key_is_taken_out_of_the_sub_protocols_and_the_others_stay() {
        let stripped = |list: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in list {
                headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(value));
            }
            let identified = identify(&mut headers, &mut "/x".parse().unwrap(), &keys());
            let rest = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().map(|value| value.to_str().unwrap().to_owned());
            (identified.map(|found| found.form).map_err(|f| f.code().to_owned()), rest.collect::<Vec<_>>())
        };
        let kept = vec!["realtime, openai-beta.realtime-v1".to_owned()];
        let lists = ["realtime, openai-insecure-api-key.sk-good ,openai-beta.realtime-v1"];
        assert_eq!(stripped(&lists), (Ok(Form::Subprotocol), kept));
        assert_eq!(stripped(&["OpenAI-Insecure-Api-Key.sk-good"]), (Ok(Form::Subprotocol), vec![]));
        let two = ["openai-insecure-api-key.sk-good", "a", "openai-insecure-api-key.sk-good"];
        assert_eq!(stripped(&two), (Ok(Form::Subprotocol), vec!["a".to_owned()]));
        let differ = ["openai-insecure-api-key.sk-good, openai-insecure-api-key.sk-off"];
        assert_eq!(stripped(&differ), (Err("proxy_keys_differ".to_owned()), vec![]));
        assert_eq!(stripped(&["openai-insecure-api-key.", "a"]).0, Err("proxy_key_malformed".to_owned()));
        assert_eq!(stripped(&["a, b"]), (Err("proxy_key_missing".to_owned()), vec!["a, b".to_owned()]));
    }

    #[test]
    fn an_ephemeral_token_passes_beside_a_proxy_key_and_never_without_one() {
        let left = |fields: &[(&'static str, &'static str)]| {
            let mut headers: HeaderMap =
                fields.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect();
            let _ = identify(&mut headers, &mut "/x".parse().unwrap(), &keys());
            headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned())
        };
        let token = ("authorization", "Token auth_tokens/abc");
        assert_eq!(left(&[token, ("x-goog-api-key", "sk-good")]), Some("Token auth_tokens/abc".to_owned()));
        assert_eq!(left(&[token]), None);
        assert_eq!(left(&[("authorization", "Token sk-good"), ("x-goog-api-key", "sk-good")]), None);
        assert_eq!(left(&[("authorization", "Basic eDp5"), ("x-goog-api-key", "sk-good")]), None);
        assert_eq!(left(&[("authorization", "Bearer sk-good"), ("x-goog-api-key", "sk-good")]), None);
    }

    #[test]
    fn the_same_key_twice_is_one_key_and_different_ones_are_refused() {
        let twice = [("authorization", "Bearer sk-good"), ("x-api-key", "sk-good")];
        assert_eq!(outcome(&twice, "/x?key=sk-good").0, Ok(("good".to_owned(), Form::Bearer)));
        let differ = [("authorization", "Bearer sk-good"), ("x-api-key", "sk-off")];
        assert_eq!(outcome(&differ, "/x").0, Err("proxy_keys_differ".to_owned()));
        assert_eq!(outcome(&twice[..1], "/x?key=other").0, Err("proxy_keys_differ".to_owned()));
    }

    #[test]
    fn what_is_not_a_known_key_is_told_apart() {
        let code = |headers: &[(&'static str, &str)], uri| outcome(headers, uri).0.unwrap_err();
        assert_eq!(code(&[], "/x"), "proxy_key_missing");
        assert_eq!(code(&[("authorization", "Bearer")], "/x"), "proxy_key_malformed");
        assert_eq!(code(&[("authorization", "Basic c2s6Z29vZA==")], "/x"), "proxy_key_malformed");
        assert_eq!(code(&[("authorization", "Bearersk-good")], "/x"), "proxy_key_malformed");
        assert_eq!(code(&[("x-api-key", "sk good")], "/x"), "proxy_key_malformed");
        assert_eq!(code(&[], "/x?key="), "proxy_key_malformed");
        assert_eq!(code(&[("api-key", "sk-nobody")], "/x"), "proxy_key_unknown");
        assert_eq!(code(&[("api-key", "sk-off")], "/x"), "proxy_key_disabled");
    }
}
