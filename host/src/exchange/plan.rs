//! A plan joined with its channel's configuration: all that can be worked out once and used for many exchanges.
//!
//! Not a stage: the value that `decide` gives and `forward` takes. It holds the upstream key in ready-made header
//! values, marked sensitive, and therefore has no `Debug`.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::config::{Channel, Endpoint, Secret};
use crate::error::{Failure, Kind};
use crate::json::{Pointer, edit};
use crate::path::begins_with_authority;
use crate::plugin::{BodyEdit, Credential, Decision, HeaderEdit, Placement, Plan, Request, Transport};

/// All but the unreserved characters, which are not to be encoded (RFC 3986, 2.3): keys are full of them, and not every
/// server decodes what it compares.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What became of asking a plugin, in a form that can be kept.
pub enum Answer {
    Send(Rc<Prepared>),
    Decline,
    Refuse(Failure),
    /// The plan asks for the upstream key, and the channel has none: the reason is for the operator.
    KeyMissing(String),
}

/// A plan ready to be applied.
pub struct Prepared {
    pub plan: Plan,
    pub endpoint: Arc<Endpoint>,
    pub target: PathAndQuery,
    pub body_edits: Vec<edit::BodyEdit>,
    /// The reply shall come uncompressed.
    pub asks_identity: bool,
    /// Credential headers, set after every edit.
    pub credentials: Vec<(HeaderName, HeaderValue)>,
}

impl Answer {
    /// `request` is what the plugin was asked about.
    pub fn from_decision(decision: Decision, channel: &Channel, request: &Request) -> Result<Self, Failure> {
        match decision {
            Decision::Send(plan) => prepare(plan, channel, request),
            Decision::Decline => Ok(Self::Decline),
            Decision::Refuse(failure) => Ok(Self::Refuse(failure)),
        }
    }
}

fn prepare(plan: Plan, channel: &Channel, request: &Request) -> Result<Answer, Failure> {
    let transport = request.transport;
    let own = match transport {
        Transport::Http => &channel.http,
        Transport::Websocket => &channel.websocket,
    };
    let endpoint = plan.endpoint.as_ref().unwrap_or(own).clone();
    if transport == Transport::Websocket && !plan.body.is_empty() {
        return Err(Failure::new(
            Kind::PluginAnswer,
            "the plugin's plan edits the body of a WebSocket's handshake, which has none",
        ));
    }
    let mut target = format!("{}{}", endpoint.base_path, plan.path);
    // A client's own `//v1/…` (its base URL ends in a slash) goes on as it came, a plugin makes none.
    if begins_with_authority(&target) && plan.path != request.path {
        return Err(Failure::new(
            Kind::PluginAnswer,
            "the plugin's plan has a path that begins with two slashes, which some servers take for another host",
        ));
    }
    let mut separator = "?";
    if let Some(query) = &plan.query {
        let query = without_credentials(query, &plan.credentials);
        target.push('?');
        target.push_str(&query);
        separator = if query.is_empty() { "" } else { "&" };
    }
    let mut credentials = Vec::with_capacity(plan.credentials.len());
    for credential in &plan.credentials {
        let Some(secret) = channel.secrets.get(&credential.secret) else {
            return match &channel.key_missing {
                Some(reason) => Ok(Answer::KeyMissing(reason.clone())),
                None => Err(Failure::new(
                    Kind::PluginSecret,
                    format!("the plugin's plan names a secret {:?} that the channel does not have", credential.secret),
                )),
            };
        };
        match &credential.place {
            Placement::Authorization(scheme) => {
                credentials.push((AUTHORIZATION, sensitive(&format!("{scheme} {}", secret.reveal()), channel)?));
            }
            Placement::Header(name) => credentials.push((name.clone(), sensitive(secret.reveal(), channel)?)),
            Placement::Query(name) => {
                target.push_str(separator);
                separator = "&";
                target.push_str(name);
                target.push('=');
                target.extend(encoded(secret));
            }
        }
    }
    let target = PathAndQuery::try_from(target)
        .map_err(|_| Failure::new(Kind::PluginAnswer, "the plugin's plan has a path or query that no URI can have"))?;
    let body_edits = plan.body.iter().map(body_edit).collect();
    let asks_identity = transport == Transport::Http && asks_identity(&plan);
    Ok(Answer::Send(Rc::new(Prepared { plan, endpoint, target, body_edits, asks_identity, credentials })))
}

/// Meters read only what is not compressed, and a compressed stream arrives in lumps. A plan that says itself how the
/// reply may be encoded has thought of that.
fn asks_identity(plan: &Plan) -> bool {
    let names_coding = |edit: &HeaderEdit| match edit {
        HeaderEdit::Set(name, _) | HeaderEdit::SetIfAbsent(name, _) | HeaderEdit::Remove(name) => {
            name == ACCEPT_ENCODING
        }
    };
    plan.meters.is_some() && !plan.headers.iter().any(names_coding)
}

/// The query without the parameters that credentials take the place of, however they are spelt; all else as it was.
pub fn without_credentials<'a>(query: &'a str, credentials: &[Credential]) -> Cow<'a, str> {
    let placed = || {
        credentials.iter().filter_map(|credential| match &credential.place {
            Placement::Query(name) => Some(name),
            Placement::Authorization(_) | Placement::Header(_) => None,
        })
    };
    let is_replaced = |pair: &&str| {
        let name = percent_decode_str(pair.split('=').next().unwrap_or_default());
        placed().any(|placed| name.clone().eq(placed.bytes()))
    };
    if placed().next().is_none() || !query.split('&').any(|pair| is_replaced(&pair)) {
        return query.into();
    }
    query.split('&').filter(|pair| !is_replaced(pair)).collect::<Vec<_>>().join("&").into()
}

fn body_edit(edit: &BodyEdit) -> edit::BodyEdit {
    let parsed = |pointer: &str| Pointer::parse(pointer).expect("a plan's pointers are checked");
    match edit {
        BodyEdit::Set { pointer, json } => edit::BodyEdit::Set { pointer: parsed(pointer), value: json.clone() },
        BodyEdit::SetIfAbsent { pointer, json } => {
            edit::BodyEdit::SetIfAbsent { pointer: parsed(pointer), value: json.clone() }
        }
        BodyEdit::Remove { pointer } => edit::BodyEdit::Remove { pointer: parsed(pointer) },
    }
}

fn encoded(secret: &Secret) -> impl Iterator<Item = &str> {
    utf8_percent_encode(secret.reveal(), QUERY_VALUE)
}

fn sensitive(value: &str, channel: &Channel) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        Failure::new(Kind::ChannelUnavailable, "this channel's upstream key cannot be sent in a header")
            .because(format!("a secret of channel {} holds characters that no header can carry", channel.id))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl Prepared {
    /// The client's headers become the upstream's: edits in the plugin's order, then credentials.
    pub fn edit_headers(&self, headers: &mut http::HeaderMap) {
        if self.asks_identity {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        for edit in &self.plan.headers {
            match edit {
                HeaderEdit::Set(name, value) => {
                    headers.insert(name, value.clone());
                }
                HeaderEdit::SetIfAbsent(name, value) => {
                    headers.entry(name).or_insert_with(|| value.clone());
                }
                HeaderEdit::Remove(name) => {
                    headers.remove(name);
                }
            }
        }
        for (name, value) in &self.credentials {
            headers.insert(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests;
