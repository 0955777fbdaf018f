//! A plugin's answer as JSON, after the gateway has looked at it: what it would do, not what was said.
//!
//! `"decline"`, `{"send": {…}}`, `{"refuse": {…}}`, or `{"fail": {…}}` where the gateway does not act on it. The words are
//! those of the WIT.

use std::sync::Arc;

use http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::config::{Channel, Endpoint};
use crate::error::Failure;
use crate::exchange::plan;
use crate::plugin;

use super::suspects::Suspects;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    Send(Plan),
    Decline,
    Refuse(Refusal),
    /// What the exchange got in place of an answer.
    Fail(Failed),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// By its name; none: the channel's URL.
    pub endpoint: Option<String>,
    pub path: String,
    pub query: Option<String>,
    pub headers: Vec<HeaderEdit>,
    pub body: Vec<BodyEdit>,
    pub credentials: Vec<Credential>,
    pub model: Option<String>,
    pub meters: Option<usize>,
}

/// Name and value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderEdit {
    Set(String, String),
    SetIfAbsent(String, String),
    Remove(String),
}

/// Pointer and JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyEdit {
    Set(String, String),
    SetIfAbsent(String, String),
    Remove(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Credential {
    /// The secret's name.
    pub secret: String,
    pub place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// By scheme.
    Authorization(String),
    Header(String),
    Query(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Refusal {
    pub status: u16,
    pub code: String,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Failed {
    /// As in the reply's error.
    pub code: String,
    pub message: String,
}

impl Failed {
    /// The gateway did not keep the plan, since it had no upstream key for it.
    pub const KEY_MISSING: &str = "upstream_key_missing";

    pub fn of(failure: &Failure) -> Self {
        Self { code: failure.code().to_owned(), message: failure.message.to_string() }
    }
}

impl Answer {
    /// What came of asking the plugin of this channel.
    pub fn of(answer: Result<&plan::Answer, &Failure>, channel: &Channel) -> Self {
        match answer {
            Ok(plan::Answer::Send(prepared)) => Self::Send(plan(&prepared.plan, channel)),
            Ok(plan::Answer::Decline) => Self::Decline,
            Ok(plan::Answer::Refuse(failure)) => Self::Refuse(Refusal {
                status: failure.status().as_u16(),
                code: failure.code().to_owned(),
                message: failure.message.to_string(),
            }),
            Ok(plan::Answer::KeyMissing(_)) => Self::Fail(Failed {
                code: Failed::KEY_MISSING.to_owned(),
                message: "this channel has no upstream key at the moment".to_owned(),
            }),
            Err(failure) => Self::Fail(Failed::of(failure)),
        }
    }
}

impl Answer {
    /// Without these values, wherever a plugin has put them. Names that the configuration gives stay, and so does what the
    /// answer is: that is how it is read again.
    pub fn conceal(&mut self, suspects: &Suspects) {
        self.each_text(&mut |text| {
            if let Some(masked) = suspects.masked(text) {
                *text = masked;
            }
        });
    }

    /// Of all texts that a plugin chose.
    pub fn text_bytes(&mut self) -> usize {
        let mut bytes = 0;
        self.each_text(&mut |text| bytes += text.len());
        bytes
    }

    fn each_text(&mut self, visit: &mut dyn FnMut(&mut String)) {
        match self {
            Self::Send(plan) => plan.each_text(visit),
            Self::Decline => {}
            Self::Refuse(Refusal { status: _, code, message }) => {
                visit(code);
                visit(message);
            }
            Self::Fail(Failed { code: _, message }) => visit(message),
        }
    }
}

impl Plan {
    fn each_text(&mut self, visit: &mut dyn FnMut(&mut String)) {
        let Self { endpoint: _, path, query, headers, body, credentials, model, meters: _ } = self;
        visit(path);
        query.iter_mut().chain(model).for_each(&mut *visit);
        for edit in headers {
            match edit {
                HeaderEdit::Set(name, value) | HeaderEdit::SetIfAbsent(name, value) => {
                    visit(name);
                    visit(value);
                }
                HeaderEdit::Remove(name) => visit(name),
            }
        }
        for edit in body {
            match edit {
                BodyEdit::Set(pointer, json) | BodyEdit::SetIfAbsent(pointer, json) => {
                    visit(pointer);
                    visit(json);
                }
                BodyEdit::Remove(pointer) => visit(pointer),
            }
        }
        for Credential { secret: _, place } in credentials {
            let (Place::Authorization(name) | Place::Header(name) | Place::Query(name)) = place;
            visit(name);
        }
    }
}

fn plan(plan: &plugin::Plan, channel: &Channel) -> Plan {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = plan.headers.iter().map(|edit| match edit {
        plugin::HeaderEdit::Set(name, value) => HeaderEdit::Set(name.to_string(), text(value)),
        plugin::HeaderEdit::SetIfAbsent(name, value) => HeaderEdit::SetIfAbsent(name.to_string(), text(value)),
        plugin::HeaderEdit::Remove(name) => HeaderEdit::Remove(name.to_string()),
    });
    let body = plan.body.iter().map(|edit| match edit {
        plugin::BodyEdit::Set { pointer, json } => BodyEdit::Set(pointer.clone(), json.clone()),
        plugin::BodyEdit::SetIfAbsent { pointer, json } => BodyEdit::SetIfAbsent(pointer.clone(), json.clone()),
        plugin::BodyEdit::Remove { pointer } => BodyEdit::Remove(pointer.clone()),
    });
    let credentials = plan.credentials.iter().map(|credential| Credential {
        secret: credential.secret.clone(),
        place: match &credential.place {
            plugin::Placement::Authorization(scheme) => Place::Authorization(scheme.clone()),
            plugin::Placement::Header(name) => Place::Header(name.to_string()),
            plugin::Placement::Query(name) => Place::Query(name.clone()),
        },
    });
    // Two names may stand for equal addresses: the plan holds the very one that was named.
    let name = |endpoint: &Arc<Endpoint>| {
        let named = channel.endpoints.iter().find(|(_, own)| Arc::ptr_eq(own, endpoint));
        named.map(|(name, _)| name.clone())
    };
    Plan {
        endpoint: plan.endpoint.as_ref().and_then(name),
        path: plan.path.clone(),
        query: plan.query.clone(),
        headers: headers.collect(),
        body: body.collect(),
        credentials: credentials.collect(),
        model: plan.model.clone(),
        meters: plan.meters,
    }
}
