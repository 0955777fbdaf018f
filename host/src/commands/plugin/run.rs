//! `aiproxy-host plugin run`: asks a plugin about one request, as often as wanted.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::{Value, json};

use super::parts::{cut, parts};
use super::setup::Given;
use super::{
    Lines, engine, mebibytes, microseconds, milliseconds, name_of, percentile, read_plugin, read_text, said, say_said,
};
use crate::cli::Run;
use crate::commands::say;
use crate::config::Channel;
use crate::error::{Failure, Kind};
use crate::exchange::capture::{Answer, Entry, Head, Shown};
use crate::exchange::plan;
use crate::plugin::rehearsal::{Refused, Rehearsal, Tried};
use crate::plugin::{Caller, Request, Said};

const REQUEST_BYTES_MAX: u64 = 32 << 20;

/// What is asked, and of which channel.
struct Question {
    head: Head,
    channel: Arc<Channel>,
    /// Nothing is known of the channel.
    is_bare: bool,
    notes: Vec<String>,
}

/// What came of all calls.
struct Outcome {
    answer: Answer,
    /// For who runs the gateway, where there is no answer.
    cause: Option<String>,
    first: Duration,
    /// In order of their length.
    later: Vec<Duration>,
    memory_bytes: Option<usize>,
    said: Vec<Said>,
    /// The first call whose answer was another one.
    changed_at: Option<u32>,
}

pub fn run(options: &Run) -> anyhow::Result<ExitCode> {
    let name = name_of(&options.file);
    let given = Given::read(&options.setup, &name)?;
    let mut question = question(options, &given)?;
    let bytes = read_plugin(&options.file)?;
    let engine = engine()?;
    let version = engine.load(&name, &bytes).map_err(|error| anyhow!("{}: {error}", options.file.display()))?;
    let rehearsal =
        Rehearsal::new(&engine, version, question.channel.clone(), &given.sandbox(&question.channel.plugin));
    let mut rehearsal = rehearsal.map_err(|Refused { reason, said }| {
        say_said(&said);
        anyhow!("{}: does not work with these settings: {reason}", options.file.display())
    })?;
    let Shown { request, unknown } = question.head.shown(&rehearsal.configured.profile);
    question.notes.extend(unknown.into_iter().map(|what| format!("not told, so the plugin is shown none: {what}")));
    if question.head.streaming && !request.streaming {
        let note = "`streaming` is not shown: this plugin does not have the body read, so only `accept` could tell it";
        question.notes.push(note.to_owned());
    }
    let outcome = ask(&mut rehearsal, &request, &question.head.caller, options.calls);
    if question.is_bare && outcome.names_what_is_not_there() {
        let note = "this channel has no endpoints, and no secret but `key`: name the channel with --conf and --channel";
        question.notes.push(note.to_owned());
    }
    if options.json {
        say(format!("{:#}", outcome.json(&question, &rehearsal)));
    } else {
        outcome.lines(&question, &rehearsal).say();
    }
    Ok(if matches!(outcome.answer, Answer::Fail(_)) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn question(options: &Run, given: &Given) -> anyhow::Result<Question> {
    let place = options.request.display();
    let text = read_text(&options.request, REQUEST_BYTES_MAX)?;
    let json: Value = serde_json::from_str(&text).with_context(|| format!("{place}: not valid JSON"))?;
    let id = options.channel.channel.as_deref();
    if json.get("request").is_some() && json.get("answer").is_some() {
        let entry = Entry::read(&text).map_err(|error| anyhow!("{place}: {error}"))?;
        let channel = if id.is_some() { given.channel(id)? } else { given.channel_of(&entry.configured)? };
        return Ok(Question { head: entry.head, channel, is_bare: false, notes: Vec::new() });
    }
    let (head, notes) = Head::read(&json).map_err(|error| anyhow!("{place}: {error}"))?;
    Ok(Question { head, channel: given.channel(id)?, is_bare: id.is_none(), notes })
}

fn ask(rehearsal: &mut Rehearsal, request: &Request, caller: &Caller, calls: u32) -> Outcome {
    let Tried { decision, took, memory_bytes } = rehearsal.decide(request, caller);
    let judged = judged(decision, &rehearsal.subject, request);
    let cause = judged.as_ref().err().and_then(|failure| failure.cause.clone());
    let mut outcome = Outcome {
        answer: Answer::of(judged.as_ref(), &rehearsal.subject),
        cause,
        first: took,
        later: Vec::new(),
        memory_bytes,
        said: rehearsal.take_said(),
        changed_at: None,
    };
    // Each failure costs an instance, and its time says nothing of calls that succeed.
    let calls = if matches!(outcome.answer, Answer::Fail(_)) { 1 } else { calls };
    outcome.later.reserve(calls as usize - 1);
    for call in 2..=calls {
        let Tried { decision, took, memory_bytes } = rehearsal.decide(request, caller);
        outcome.later.push(took);
        outcome.memory_bytes = memory_bytes.or(outcome.memory_bytes);
        let judged = self::judged(decision, &rehearsal.subject, request);
        if outcome.changed_at.is_none() && Answer::of(judged.as_ref(), &rehearsal.subject) != outcome.answer {
            outcome.changed_at = Some(call);
        }
    }
    outcome.later.sort_unstable();
    outcome
}

/// A decision as the gateway takes it: joined with the channel, where it can be.
pub fn judged(
    decision: Result<crate::plugin::Decision, Failure>,
    channel: &Channel,
    request: &Request,
) -> Result<plan::Answer, Failure> {
    plan::Answer::from_decision(decision?, channel, request)
}

impl Outcome {
    fn names_what_is_not_there(&self) -> bool {
        let absent = [Kind::PluginEndpoint, Kind::PluginSecret].map(|kind| kind.facts().code);
        matches!(&self.answer, Answer::Fail(failed) if absent.contains(&failed.code.as_str()))
    }

    fn lines(&self, question: &Question, rehearsal: &Rehearsal) -> Lines {
        let head = &question.head;
        let mut lines = Lines::default();
        lines.add("plugin", format!("{} {}", rehearsal.version.name, rehearsal.version.short_hash()));
        let query = head.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        lines.add("request", cut(&format!("{} {}{query}", head.method, head.path)));
        question.notes.iter().for_each(|note| lines.add("note", note.as_str()));
        for (part, texts) in parts(&self.answer) {
            for text in texts {
                lines.add(part, cut(&text));
            }
        }
        self.cause.iter().for_each(|cause| lines.add("cause", cut(cause)));
        lines.add("build", format!("{} to instantiate and configure", milliseconds(rehearsal.configured.builds[0])));
        lines.add("first call", milliseconds(self.first));
        if !self.later.is_empty() {
            let (median, p99) = (percentile(&self.later, 50), percentile(&self.later, 99));
            let (median, p99) = (milliseconds(median), milliseconds(p99));
            lines.add("later", format!("{} calls: median {median}, p99 {p99}", self.later.len()));
        }
        let configured = mebibytes(rehearsal.configured.memory_bytes);
        let called = self.memory_bytes.map(|bytes| format!(", {} after the calls", mebibytes(bytes)));
        lines.add("memory", format!("{configured} after configure{}", called.unwrap_or_default()));
        lines.add_said(&rehearsal.configured.said);
        lines.add_said(&self.said);
        if let Some(call) = self.changed_at {
            lines.add("warning", format!("call {call} was answered otherwise than the first, for the same request"));
        }
        lines
    }

    fn json(&self, question: &Question, rehearsal: &Rehearsal) -> Value {
        let later = (!self.later.is_empty()).then(|| {
            let (median, p99) = (percentile(&self.later, 50), percentile(&self.later, 99));
            json!({"calls": self.later.len(), "median": microseconds(median), "p99": microseconds(p99)})
        });
        let lines: Vec<_> = rehearsal.configured.said.iter().chain(&self.said).cloned().collect();
        json!({
            "plugin": {"name": rehearsal.version.name, "version": rehearsal.version.hash},
            "request": question.head.to_json(),
            "notes": question.notes,
            "answer": self.answer,
            "cause": self.cause,
            "us": {"build": microseconds(rehearsal.configured.builds[0]), "first": microseconds(self.first), "later": later},
            "memory_bytes": {"configured": rehearsal.configured.memory_bytes, "called": self.memory_bytes},
            "said": said(&lines),
            "changed_at": self.changed_at,
        })
    }
}
