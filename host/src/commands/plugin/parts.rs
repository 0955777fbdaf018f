//! An answer as lines, part by part: for people, and to compare two of them.

use crate::exchange::capture::{Answer, BodyEdit, Credential, HeaderEdit, Place};
use crate::plugin::escaped;

/// Of one line that is printed.
const LINE_BYTES_MAX: usize = 2000;

/// A part's name and its lines, without control characters; a part that says nothing is left out.
pub type Part = (&'static str, Vec<String>);

pub fn parts(answer: &Answer) -> Vec<Part> {
    let plan = match answer {
        Answer::Decline => {
            return vec![("answer", vec!["decline: not for this channel, the next is asked".to_owned()])];
        }
        Answer::Refuse(refusal) => {
            let first = format!("refuse: the client gets {}, {}", refusal.status, refusal.code);
            return vec![("answer", vec![first, shown(&refusal.message)])];
        }
        Answer::Fail(failed) => {
            let first = format!("none that the gateway acts on: the client gets {}", failed.code);
            return vec![("answer", vec![first, shown(&failed.message)])];
        }
        Answer::Send(plan) => plan,
    };
    let one = |text: &str| vec![shown(text)];
    let mut parts = vec![("answer", one("send"))];
    if let Some(endpoint) = &plan.endpoint {
        parts.push(("endpoint", one(endpoint)));
    }
    parts.push(("path", one(&plan.path)));
    if let Some(query) = &plan.query {
        parts.push(("query", one(query)));
    }
    parts.push(("headers", plan.headers.iter().map(header).collect()));
    parts.push(("body", plan.body.iter().map(body).collect()));
    parts.push(("secrets", plan.credentials.iter().map(credential).collect()));
    if let Some(model) = &plan.model {
        parts.push(("model", one(model)));
    }
    if let Some(meters) = plan.meters {
        parts.push(("meters", vec![format!("set {meters} of the profile")]));
    }
    parts.retain(|(_, lines)| !lines.is_empty());
    parts
}

fn header(edit: &HeaderEdit) -> String {
    shown(&match edit {
        HeaderEdit::Set(name, value) => format!("set {name}: {value}"),
        HeaderEdit::SetIfAbsent(name, value) => format!("set if absent {name}: {value}"),
        HeaderEdit::Remove(name) => format!("remove {name}"),
    })
}

fn body(edit: &BodyEdit) -> String {
    shown(&match edit {
        BodyEdit::Set(pointer, json) => format!("set {pointer} = {json}"),
        BodyEdit::SetIfAbsent(pointer, json) => format!("set if absent {pointer} = {json}"),
        BodyEdit::Remove(pointer) => format!("remove {pointer}"),
    })
}

fn credential(credential: &Credential) -> String {
    let place = match &credential.place {
        Place::Authorization(scheme) => format!("authorization: {scheme} ***"),
        Place::Header(name) => format!("header {name}: ***"),
        Place::Query(name) => format!("query parameter {name}=***"),
    };
    shown(&format!("{} → {place}", credential.secret))
}

fn shown(text: &str) -> String {
    escaped(text, usize::MAX)
}

/// A line short enough to be printed.
pub fn cut(line: &str) -> String {
    escaped(line, LINE_BYTES_MAX)
}

/// The parts that differ: what was, what would be. Lines that are the same at both ends are left out.
pub fn changes(old: &Answer, new: &Answer) -> Vec<(&'static str, Vec<String>, Vec<String>)> {
    let (old, new) = (parts(old), parts(new));
    let lines = |parts: &[Part], name: &str| {
        parts.iter().find(|(own, _)| *own == name).map(|(_, lines)| lines.clone()).unwrap_or_default()
    };
    let mut names: Vec<&'static str> = old.iter().chain(&new).map(|(name, _)| *name).collect();
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(*name));
    let difference = |name: &'static str| {
        let (mut old, mut new) = (lines(&old, name), lines(&new, name));
        if old == new {
            return None;
        }
        let head = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
        old.drain(..head);
        new.drain(..head);
        let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
        old.truncate(old.len() - tail);
        new.truncate(new.len() - tail);
        Some((name, old, new))
    };
    names.into_iter().filter_map(difference).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::capture::{Plan, Refusal};

    fn plan(headers: &[&str], query: Option<&str>) -> Answer {
        Answer::Send(Plan {
            endpoint: None,
            path: "/v1/chat".into(),
            query: query.map(str::to_owned),
            headers: headers.iter().map(|name| HeaderEdit::Set((*name).into(), "1\n".into())).collect(),
            body: vec![BodyEdit::SetIfAbsent("/user".into(), "\"x\"".into())],
            credentials: vec![Credential { secret: "key".into(), place: Place::Authorization("Bearer".into()) }],
            model: None,
            meters: Some(0),
        })
    }

    #[test]
    fn only_what_differs_is_told() {
        let changes = changes(&plan(&["a", "b", "d"], None), &plan(&["a", "c", "d"], Some("q=1")));
        assert_eq!(
            changes,
            [
                ("headers", vec!["set b: 1\\n".to_owned()], vec!["set c: 1\\n".to_owned()]),
                ("query", vec![], vec!["q=1".to_owned()]),
            ]
        );
        assert!(super::changes(&plan(&["a"], None), &plan(&["a"], None)).is_empty());
    }

    #[test]
    fn answers_of_another_kind_differ_in_all_their_parts() {
        let refusal = Refusal { status: 404, code: "model_not_found".into(), message: "no".into() };
        let changes = changes(&Answer::Refuse(refusal), &plan(&[], None));
        let names: Vec<_> = changes.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names, ["answer", "path", "body", "secrets", "meters"]);
    }
}
