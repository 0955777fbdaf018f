//! What a plugin answered, looked at like a stranger's input.
//!
//! A [`Plan`] exists only if every part of it can be acted on: nothing downstream looks again. Messages say what was
//! wrong and are safe to show to the client: control characters escaped, length bounded, and a plugin knows no secret.

mod names;
mod profile;
mod route;
#[cfg(test)]
pub mod sample;

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, StatusCode};

use super::bindings::{Answer, types};
use super::log::escaped;
use crate::config::{Channel, Endpoint};
use crate::error::{Failure, Kind};
use crate::path::climbs;

pub use self::names::visible_header;
use self::names::{editable_header, is_token, pointer, query_name};
pub use self::profile::Profile;
pub use self::route::{Route, route};

/// What the `http` crate takes, less some room for a base path and a credential.
const TARGET_BYTES_MAX: usize = 60 << 10;
const EDITS_MAX: usize = 64;
const HEADER_VALUE_BYTES_MAX: usize = 8 << 10;
const JSON_BYTES_MAX: usize = 256 << 10;
const CREDENTIALS_MAX: usize = 8;
const MODEL_BYTES_MAX: usize = 256;
const CODE_BYTES_MAX: usize = 64;
const MESSAGE_BYTES_MAX: usize = 1024;

/// What is to be done with a request.
#[derive(Debug)]
pub enum Decision {
    Send(Plan),
    /// Not for this channel: ask the next.
    Decline,
    /// Final, with the plugin's own status and code.
    Refuse(Failure),
}

/// How to send a request upstream; checked, and good for any number of equal requests.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// None: the channel's own address for the request's transport.
    pub endpoint: Option<Arc<Endpoint>>,
    /// Begins with `/`; goes behind the endpoint's base path. With `query` it is a valid request target.
    pub path: String,
    pub query: Option<String>,
    pub headers: Vec<HeaderEdit>,
    pub body: Vec<BodyEdit>,
    pub credentials: Vec<Credential>,
    pub model: Option<String>,
    /// An index into [`Profile::meters`].
    pub meters: Option<usize>,
}

#[derive(Debug, PartialEq)]
pub enum HeaderEdit {
    Set(HeaderName, HeaderValue),
    SetIfAbsent(HeaderName, HeaderValue),
    Remove(HeaderName),
}

/// A valid RFC 6901 pointer, and valid JSON text.
#[derive(Debug, PartialEq)]
pub enum BodyEdit {
    Set { pointer: String, json: String },
    SetIfAbsent { pointer: String, json: String },
    Remove { pointer: String },
}

/// Where to put which secret of the channel.
#[derive(Debug, PartialEq)]
pub struct Credential {
    /// A name in [`Channel::secrets`]; `key` may be absent there, which [`Channel::key_missing`] explains.
    pub secret: String,
    pub place: Placement,
}

#[derive(Debug, PartialEq)]
pub enum Placement {
    /// `Authorization: <scheme> <secret>`
    Authorization(String),
    Header(HeaderName),
    /// A parameter's name that needs no encoding.
    Query(String),
}

/// Checks an answer of `channel`'s plugin.
pub fn decision(answer: Answer, channel: &Channel, profile: &Profile) -> Result<Decision, Failure> {
    match answer {
        Answer::Send(plan) => self::plan(plan, channel, profile).map(Decision::Send),
        Answer::Decline => Ok(Decision::Decline),
        Answer::Refuse(refusal) => self::refusal(refusal).map(Decision::Refuse),
    }
}

fn plan(plan: types::Plan, channel: &Channel, profile: &Profile) -> Result<Plan, Failure> {
    if let Some((name, _)) = plan.options.first() {
        let message = format!("The plugin's plan names an option that this gateway does not know: {}.", shown(name));
        return Err(Failure::new(Kind::PluginOption, message));
    }
    let endpoint = plan.endpoint.map(|name| endpoint(&name, channel)).transpose()?;
    target(&plan.path, plan.query.as_deref())?;
    at_most("header edits", plan.headers.len(), EDITS_MAX)?;
    at_most("body edits", plan.body.len(), EDITS_MAX)?;
    at_most("credentials", plan.credentials.len(), CREDENTIALS_MAX)?;
    let headers = plan.headers.iter().map(header_edit).collect::<Result<_, _>>()?;
    let body = plan.body.into_iter().map(body_edit).collect::<Result<_, _>>()?;
    let credentials = plan.credentials.into_iter().map(|c| credential(c, channel)).collect::<Result<_, _>>()?;
    if let Some(model) = &plan.model {
        bounded("model", model, MODEL_BYTES_MAX)?;
        if model.chars().any(char::is_control) {
            return Err(invalid(format!("the model holds a control character: {}", shown(model))));
        }
    }
    let meters = plan.meters.map(|index| meters(index, profile)).transpose()?;
    Ok(Plan { endpoint, path: plan.path, query: plan.query, headers, body, credentials, model: plan.model, meters })
}

fn endpoint(name: &str, channel: &Channel) -> Result<Arc<Endpoint>, Failure> {
    channel.endpoints.get(name).cloned().ok_or_else(|| {
        let message = format!("The plugin's plan names an endpoint that the channel does not have: {}.", shown(name));
        Failure::new(Kind::PluginEndpoint, message)
    })
}

/// Whatever the gateway accepts from a client may go upstream again, and nothing else: no control byte, no space, nothing
/// that ends the path, no dot segments that climb above the endpoint's base path. (Those that do not are none of the
/// gateway's business, and neither is a first empty segment behind a base path; without one, `exchange/plan.rs` looks.)
fn target(path: &str, query: Option<&str>) -> Result<(), Failure> {
    bounded("path", path, TARGET_BYTES_MAX)?;
    if !path.starts_with('/') {
        return Err(invalid(format!("the path does not begin with \"/\": {}", shown(path))));
    }
    unbroken("path", path, "?#")?;
    if climbs(path) {
        return Err(invalid(format!("the path has dot segments that climb above its root: {}", shown(path))));
    }
    let mut target = path.to_owned();
    if let Some(query) = query {
        bounded("query", query, TARGET_BYTES_MAX)?;
        unbroken("query", query, "#")?;
        target.push('?');
        target.push_str(query);
    }
    match PathAndQuery::try_from(target) {
        Ok(_) => Ok(()),
        Err(_) => Err(invalid(format!("the path or the query must be percent-encoded: {}", shown(path)))),
    }
}

fn unbroken(part: &str, text: &str, ends: &str) -> Result<(), Failure> {
    match text.chars().find(|&c| c.is_control() || c == ' ' || ends.contains(c)) {
        None => Ok(()),
        Some(c) => Err(invalid(format!("the {part} holds {c:?}: {}", shown(text)))),
    }
}

fn header_edit(edit: &types::HeaderEdit) -> Result<HeaderEdit, Failure> {
    let header = |(name, value): &types::Field| -> Result<_, Failure> {
        let name = editable_header(name).map_err(invalid)?;
        bounded("value of a header", value, HEADER_VALUE_BYTES_MAX)?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            invalid(format!("the header {name:?} has a value with control characters: {}", shown(value)))
        })?;
        Ok((name, value))
    };
    Ok(match edit {
        types::HeaderEdit::Set(field) => header(field).map(|(name, value)| HeaderEdit::Set(name, value))?,
        types::HeaderEdit::SetIfAbsent(field) => {
            header(field).map(|(name, value)| HeaderEdit::SetIfAbsent(name, value))?
        }
        types::HeaderEdit::Remove(name) => HeaderEdit::Remove(editable_header(name).map_err(invalid)?),
    })
}

fn body_edit(edit: types::BodyEdit) -> Result<BodyEdit, Failure> {
    let value = |(at, json): types::Field| -> Result<_, Failure> {
        pointer(&at).map_err(invalid)?;
        bounded("value of a body edit", &json, JSON_BYTES_MAX)?;
        serde_json::from_str::<serde::de::IgnoredAny>(&json)
            .map_err(|e| invalid(format!("the body edit at {} is not valid JSON: {e}", shown(&at))))?;
        Ok((at, json))
    };
    Ok(match edit {
        types::BodyEdit::Set(field) => value(field).map(|(pointer, json)| BodyEdit::Set { pointer, json })?,
        types::BodyEdit::SetIfAbsent(field) => {
            value(field).map(|(pointer, json)| BodyEdit::SetIfAbsent { pointer, json })?
        }
        types::BodyEdit::Remove(at) => {
            pointer(&at).map_err(invalid)?;
            if at.is_empty() {
                return Err(invalid("a body edit removes the whole document"));
            }
            BodyEdit::Remove { pointer: at }
        }
    })
}

fn credential(credential: types::Credential, channel: &Channel) -> Result<Credential, Failure> {
    let secret = credential.secret;
    if secret != "key" && !channel.secrets.contains_key(&secret) {
        let message =
            format!("The plugin's plan asks for a secret that the channel does not have: {}.", shown(&secret));
        return Err(Failure::new(Kind::PluginSecret, message));
    }
    let place = match credential.place {
        types::Placement::Authorization(scheme) if is_token(&scheme) => Placement::Authorization(scheme),
        types::Placement::Authorization(scheme) => {
            return Err(invalid(format!("the authorization scheme is not a token: {}", shown(&scheme))));
        }
        types::Placement::Header(name) => Placement::Header(editable_header(&name).map_err(invalid)?),
        types::Placement::Query(name) if query_name(&name) => Placement::Query(name),
        types::Placement::Query(name) => {
            return Err(invalid(format!("a credential's query parameter has an invalid name: {}", shown(&name))));
        }
        types::Placement::Signed(signature) => {
            let scheme = shown(&signature.scheme);
            let message =
                format!("The plugin's plan asks for a signing scheme that this gateway does not know: {scheme}.");
            return Err(Failure::new(Kind::PluginSigning, message));
        }
    };
    Ok(Credential { secret, place })
}

fn meters(index: u32, profile: &Profile) -> Result<usize, Failure> {
    let sets = profile.meters.len();
    let index = index as usize;
    if index < sets {
        Ok(index)
    } else {
        Err(invalid(format!("the plan names meters {index}, the profile has {sets}")))
    }
}

fn refusal(refusal: types::Refusal) -> Result<Failure, Failure> {
    let status = match refusal.status {
        400..=599 => StatusCode::from_u16(refusal.status).expect("a status of three digits"),
        other => return Err(invalid(format!("a refusal has the status {other}, not one from 400 to 599"))),
    };
    let code = refusal.code;
    bounded("refusal's code", &code, CODE_BYTES_MAX)?;
    if code.is_empty() || !code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        return Err(invalid(format!("a refusal's code is not of [a-z0-9_]: {}", shown(&code))));
    }
    let mut failure = Failure::new(Kind::PluginRefused, escaped(&refusal.message, MESSAGE_BYTES_MAX));
    failure.refusal = Some((status, code));
    Ok(failure)
}

fn invalid(what: impl AsRef<str>) -> Failure {
    Failure::new(Kind::PluginAnswer, format!("The plugin's answer is invalid: {}.", what.as_ref()))
}

fn bounded(what: &str, text: &str, bytes_max: usize) -> Result<(), Failure> {
    if text.len() <= bytes_max {
        return Ok(());
    }
    Err(invalid(format!("the {what} has {} bytes, more than {bytes_max}", text.len())))
}

fn at_most(what: &str, count: usize, max: usize) -> Result<(), Failure> {
    if count <= max { Ok(()) } else { Err(invalid(format!("{count} {what}, more than {max}"))) }
}

/// A stranger's text inside a message.
fn shown(text: &str) -> String {
    format!("\"{}\"", escaped(text, 80))
}

#[cfg(test)]
mod tests;
