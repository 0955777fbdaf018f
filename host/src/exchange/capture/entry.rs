//! One decision: a line of a capture file.
//!
//! Each line says all that is needed to repeat it, what `configure` was told included: files are rotated and lines may be
//! dropped, so that none can rely on another.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::Answer;
use super::head::Head;
use super::secrecy;
use crate::config::Channel;
use crate::plugin::Version;

/// Longer settings are left out; `replay` then has to be given them.
const SETTINGS_BYTES_MAX: usize = 16 << 10;

/// A line that was read.
#[derive(Debug)]
pub struct Entry {
    pub configured: Configured,
    pub head: Head,
    pub answer: Answer,
}

/// What `configure` was told. Secrets and endpoints by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub struct Configured {
    pub id: String,
    pub name: String,
    /// JSON text of an object; none where it was too long.
    #[serde(default, deserialize_with = "as_text")]
    pub settings: Option<String>,
    pub endpoints: Vec<String>,
    pub secrets: Vec<String>,
}

fn as_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = Option::<Value>::deserialize(deserializer)?;
    Ok(value.map(|value| value.to_string()))
}

#[derive(Deserialize)]
struct Read {
    channel: Configured,
    request: Value,
    answer: Answer,
}

impl Entry {
    /// The error says what is wrong with the line.
    pub fn read(line: &str) -> Result<Self, String> {
        let read: Read = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let (head, _) = Head::read(&read.request)?;
        Ok(Self { configured: read.channel, head, answer: read.answer })
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: &'a str,
    channel: ChannelLine<'a>,
    plugin: PluginLine<'a>,
    request: Value,
    answer: Box<RawValue>,
}

#[derive(Serialize)]
struct ChannelLine<'a> {
    id: &'a str,
    name: &'a str,
    settings: Option<&'a RawValue>,
    endpoints: Vec<&'a str>,
    secrets: Vec<&'a str>,
}

#[derive(Serialize)]
struct PluginLine<'a> {
    name: &'a str,
    version: &'a str,
}

/// The line, with its end; none of the suspect values is in it.
pub fn line(
    head: &Head,
    answer: &Answer,
    mut suspects: Vec<String>,
    channel: &Channel,
    version: &Version,
    request_id: &str,
) -> serde_json::Result<Vec<u8>> {
    let mut request = head.to_json();
    if let Some(query) = &head.query {
        let (masked, mut values) = secrecy::masked(query);
        request["query"] = Value::String(masked);
        suspects.append(&mut values);
    }
    let answer = secrecy::without(serde_json::to_string(answer)?, &suspects);
    let settings = (channel.settings.len() <= SETTINGS_BYTES_MAX).then_some(channel.settings.as_str());
    let line = Line {
        time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        request_id,
        channel: ChannelLine {
            id: &channel.id,
            name: &channel.name,
            settings: settings.map(serde_json::from_str).transpose()?,
            endpoints: channel.endpoints.keys().map(String::as_str).collect(),
            secrets: channel.secrets.keys().map(String::as_str).filter(|name| *name != "key").collect(),
        },
        plugin: PluginLine { name: &version.name, version: &version.hash },
        request,
        answer: RawValue::from_string(answer)?,
    };
    let mut line = serde_json::to_vec(&line)?;
    line.push(b'\n');
    Ok(line)
}
