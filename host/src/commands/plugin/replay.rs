//! `aiproxy-host plugin replay`: asks a candidate what was asked before, and shows every decision that would change.
//!
//! Equal changes are told once, with their number: a capture holds thousands of requests, and few kinds of them. Where the
//! candidate asks for something that was not recorded, nothing is claimed.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use indexmap::IndexMap;
use serde_json::{Value, json};

use super::parts::{changes, cut};
use super::run::judged;
use super::setup::Given;
use super::{engine, name_of, read_plugin, read_text, say_said};
use crate::cli::Replay;
use crate::commands::say;
use crate::exchange::capture::{Answer, Configured, Entry, Failed, Head};
use crate::plugin::rehearsal::{Refused, Rehearsal};
use crate::plugin::{Engine, Version};

/// A file and its predecessor, put together, have a quarter of it.
const CAPTURE_BYTES_MAX: u64 = 64 << 20;
/// Of each kind of trouble, so many lines are named.
const NAMED_MAX: usize = 10;

/// Any error, whatever it is: a script has to tell "would change" from "could not be told".
const ERROR: u8 = 2;

pub fn run(options: &Replay) -> ExitCode {
    let outcome = replay(options).and_then(|outcome| {
        if options.json {
            say(format!("{:#}", outcome.json()));
        } else {
            outcome.say();
        }
        outcome.code()
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(ERROR)
    })
}

/// What is compared for equality: equal changes are told once.
#[derive(PartialEq, Eq, Hash)]
struct Change {
    channel: String,
    request: String,
    old: Answer,
    new: Answer,
}

#[derive(Default)]
struct Outcome {
    /// In order of their first line, with the numbers of their lines.
    changes: IndexMap<Change, Vec<usize>>,
    /// By reason.
    unjudged: IndexMap<String, Vec<usize>>,
    /// Lines that could not be read, and why.
    unreadable: Vec<(usize, String)>,
    judged: usize,
}

/// The candidate, deployed for each channel as that was when a decision was captured.
struct Candidate<'a> {
    engine: Arc<Engine>,
    version: Arc<Version>,
    given: &'a Given,
    rehearsals: HashMap<Configured, Rehearsal>,
}

fn replay(options: &Replay) -> anyhow::Result<Outcome> {
    let name = name_of(&options.file);
    let given = Given::read(&options.setup, &name)?;
    let bytes = read_plugin(&options.file)?;
    let text = read_text(&options.capture, CAPTURE_BYTES_MAX)?;
    let engine = engine()?;
    let version = engine.load(&name, &bytes).map_err(|error| anyhow!("{}: {error}", options.file.display()))?;
    let mut candidate = Candidate { engine, version, given: &given, rehearsals: HashMap::new() };
    let mut outcome = Outcome::default();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = index + 1;
        match Entry::read(line) {
            Ok(entry) => candidate.ask(entry, number, &mut outcome)?,
            Err(why) => outcome.unreadable.push((number, why)),
        }
    }
    Ok(outcome)
}

impl Candidate<'_> {
    /// An error ends it all: the candidate does not work with what `configure` was told.
    fn ask(&mut self, entry: Entry, number: usize, outcome: &mut Outcome) -> anyhow::Result<()> {
        let Entry { configured, head, answer: old } = entry;
        if matches!(&old, Answer::Fail(failed) if failed.code == Failed::KEY_MISSING) {
            let reason = "the channel had no upstream key, so that the plan was not recorded";
            outcome.unjudged.entry(reason.to_owned()).or_default().push(number);
            return Ok(());
        }
        let rehearsal = self.rehearsal(&configured)?;
        let shown = head.shown(&rehearsal.configured.profile);
        if !shown.unknown.is_empty() {
            let reason = format!("the candidate asks for what was not recorded: {}", shown.unknown.join(", "));
            outcome.unjudged.entry(reason).or_default().push(number);
            return Ok(());
        }
        let tried = rehearsal.decide(&shown.request, &head.caller);
        let judged = judged(tried.decision, &rehearsal.subject, &shown.request);
        let new = Answer::of(judged.as_ref(), &rehearsal.subject);
        outcome.judged += 1;
        if new != old {
            let change = Change { channel: configured.id, request: request_line(&head), old, new };
            outcome.changes.entry(change).or_default().push(number);
        }
        Ok(())
    }

    fn rehearsal(&mut self, configured: &Configured) -> anyhow::Result<&mut Rehearsal> {
        if !self.rehearsals.contains_key(configured) {
            let channel = self.given.channel_of(configured)?;
            let sandbox = self.given.sandbox(&channel.plugin);
            let rehearsal = Rehearsal::new(&self.engine, self.version.clone(), channel, &sandbox);
            let rehearsal = rehearsal.map_err(|Refused { reason, said }| {
                say_said(&said);
                anyhow!("the candidate does not work for channel {}: {reason}", configured.id)
            })?;
            self.rehearsals.insert(configured.clone(), rehearsal);
        }
        Ok(self.rehearsals.get_mut(configured).expect("it was put there"))
    }
}

/// What a person tells requests by.
fn request_line(head: &Head) -> String {
    let model = head.model.iter().flatten().next().map_or_else(String::new, |model| format!(" (model {model})"));
    cut(&format!("{} {}{model}", head.method, head.path))
}

impl Outcome {
    fn say(&self) {
        for (Change { channel, request, old, new }, lines) in &self.changes {
            say(format!("{channel}: {request}: {}", numbered(lines)));
            for (part, old, new) in changes(old, new) {
                say(format!("  {part}"));
                for (sign, lines) in [('-', old), ('+', new)] {
                    for line in lines {
                        say(format!("    {sign} {}", cut(&line)));
                    }
                }
            }
        }
        for (reason, lines) in &self.unjudged {
            say(format!("not judged: {reason}: {}", numbered(lines)));
        }
        for (number, why) in self.unreadable.iter().take(NAMED_MAX) {
            say(format!("not readable: line {number}: {why}"));
        }
        if let Some(more) = self.unreadable.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
            say(format!("not readable: {more} more lines"));
        }
        let (changed, unjudged) = (self.changed(), self.unjudged());
        say(format!(
            "{} decisions judged, {changed} would change; {unjudged} not judged, {} lines not readable",
            self.judged,
            self.unreadable.len()
        ));
    }

    fn changed(&self) -> usize {
        self.changes.values().map(Vec::len).sum()
    }

    fn unjudged(&self) -> usize {
        self.unjudged.values().map(Vec::len).sum()
    }

    fn code(&self) -> anyhow::Result<ExitCode> {
        if !self.unreadable.is_empty() {
            bail!("not every line could be read");
        }
        if self.judged == 0 {
            bail!("no decision could be judged");
        }
        Ok(if self.changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn json(&self) -> Value {
        let changes = self.changes.iter().map(|(Change { channel, request, old, new }, lines)| {
            json!({"channel": channel, "request": request, "lines": lines, "old": old, "new": new})
        });
        let unjudged = self.unjudged.iter().map(|(reason, lines)| json!({"reason": reason, "lines": lines}));
        let unreadable = self.unreadable.iter().map(|(number, why)| json!({"line": number, "why": why}));
        json!({
            "judged": self.judged,
            "changed": self.changed(),
            "changes": changes.collect::<Vec<_>>(),
            "unjudged": unjudged.collect::<Vec<_>>(),
            "unreadable": unreadable.collect::<Vec<_>>(),
        })
    }
}

/// `line 3`, or `2 requests, lines 3, 8`.
fn numbered(lines: &[usize]) -> String {
    if let [only] = lines {
        return format!("line {only}");
    }
    let named: Vec<_> = lines.iter().take(NAMED_MAX).map(usize::to_string).collect();
    let more = if lines.len() > NAMED_MAX { ", …" } else { "" };
    format!("{} requests, lines {}{more}", lines.len(), named.join(", "))
}
