//! One decision: a line of a capture file.
//!
//! Each line says all that is needed to repeat it, what `configure` was told included: files are rotated and lines may be
//! dropped, so that none can rely on another.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::Answer;
use super::files::LINE_BYTES_MAX;
use super::head::Head;
use super::suspects::Suspects;
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
    answer: Answer,
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

/// The line, with its end; none of the suspect values is in it, but where the channel's settings have it. None: they
/// are too many to look for, or it is too long to be kept.
pub fn line(
    mut head: Head,
    mut answer: Answer,
    mut suspects: Suspects,
    channel: &Channel,
    version: &Version,
    request_id: &str,
) -> serde_json::Result<Option<Vec<u8>>> {
    head.conceal_parameters(&mut suspects);
    let text_bytes = head.text_bytes() + answer.text_bytes();
    // A line that is too long to be kept would take the longest.
    if text_bytes > LINE_BYTES_MAX || suspects.are_too_many_for(text_bytes) {
        return Ok(None);
    }
    head.conceal(&suspects);
    answer.conceal(&suspects);
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
        request: head.to_json(),
        answer,
    };
    let mut line = serde_json::to_vec(&line)?;
    line.push(b'\n');
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};
    use serde_json::json;

    use super::*;

    fn valid() -> String {
        json!({
            "time": "2026-01-01T00:00:00.000Z",
            "request_id": "r",
            "channel": {"id": "c", "name": "C", "settings": {"a": 1}, "endpoints": ["e"], "secrets": []},
            "plugin": {"name": "p", "version": "00"},
            "request": {"path": "/v1/x", "query": "a=1", "headers": [["x-a", "1"]], "model": null, "body": {"/a": "1"}},
            "answer": {"send": {
                "endpoint": null, "path": "/x", "query": null, "headers": [{"remove": "x-a"}],
                "body": [{"set-if-absent": ["/user", "1"]}],
                "credentials": [{"secret": "key", "place": {"authorization": "Bearer"}}], "model": null, "meters": 0,
            }},
        })
        .to_string()
    }

    #[test]
    fn a_line_is_read_whole() {
        let entry = Entry::read(&valid()).unwrap();
        assert_eq!(entry.configured.settings.as_deref(), Some("{\"a\":1}"));
        assert_eq!((entry.head.path.as_str(), entry.head.model), ("/v1/x", Some(None)));
        assert!(matches!(entry.answer, Answer::Send(plan) if plan.meters == Some(0)));
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "\\PC{0,100}") {
            let _ = Entry::read(&text);
        }

        #[test]
        fn no_damage_makes_reading_panic(
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), "[ -~é]"), 1..5),
            end in any::<proptest::sample::Index>(),
            is_cut in any::<bool>(),
        ) {
            let mut line: Vec<char> = valid().chars().collect();
            for (index, text) in changes {
                let index = index.index(line.len());
                line[index] = text.chars().next().unwrap();
            }
            if is_cut {
                line.truncate(end.index(line.len()));
            }
            let _ = Entry::read(&line.into_iter().collect::<String>());
        }
    }
}
