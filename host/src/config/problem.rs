//! What is wrong with a configuration, where, and what to do about it.
//!
//! Invariant: a problem quotes the names of fields, files and environment variables, never a value: any value may be a
//! key that stands in the wrong place, and problems go to the log, to `/stats` and to the terminal.

use std::fmt;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but something in it will not do what its author hopes.
    Warning,
}

/// Both count from 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// One thing that is wrong. `Display` prints it as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// As the operator named it.
    pub file: PathBuf,
    /// The JSON path, such as `channels.bailian.base_url`; empty for the file as a whole.
    pub place: String,
    /// Where in the file, if it could be read.
    pub position: Option<Position>,
    pub what: String,
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.severity == Severity::Error { "error" } else { "warning" };
        write!(f, "{severity}: {}", self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.place.is_empty() {
            write!(f, ": {}", self.place)?;
        }
        write!(f, ": {}; {}", self.what, self.remedy)
    }
}

/// A spot in a file: its JSON path and position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    pub place: String,
    pub position: Option<Position>,
}

/// The problems of one file, as they are found.
pub(super) struct Problems<'a> {
    file: &'a Path,
    found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub fn of(file: &'a Path) -> Self {
        Self { file, found: Vec::new() }
    }

    pub fn error(&mut self, spot: &Spot, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, spot, what.into(), remedy.into());
    }

    pub fn warning(&mut self, spot: &Spot, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, spot, what.into(), remedy.into());
    }

    fn add(&mut self, severity: Severity, spot: &Spot, what: String, remedy: String) {
        let Spot { place, position } = spot.clone();
        self.found.push(Problem { severity, file: self.file.to_owned(), place, position, what, remedy });
    }

    pub fn has_errors(&self) -> bool {
        self.found.iter().any(|problem| problem.severity == Severity::Error)
    }

    pub fn into_vec(self) -> Vec<Problem> {
        self.found
    }
}

/// The path of a member. A name that is not plain is quoted; an endless one is cut, so that a line stays a line.
pub(super) fn member(place: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let name = if plain { shown(name) } else { format!("\"{}\"", shown(name)) };
    if place.is_empty() { name } else { format!("{place}.{name}") }
}

/// A name as a message may carry it: no control characters, at most 64 characters.
pub(super) fn shown(name: &str) -> String {
    let cut = name.char_indices().nth(64).map_or(name.len(), |(at, _)| at);
    let mut shown: String = name[..cut].chars().flat_map(escaped).collect();
    if cut < name.len() {
        shown.push('…');
    }
    shown
}

/// Letters of every language stay readable; what could move a terminal's cursor does not.
fn escaped(c: char) -> Vec<char> {
    let invisible =
        c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if invisible { c.escape_unicode().collect() } else { vec![c] }
}

/// The known name that a misspelt one was probably meant to be.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_with_file_position_path_fault_and_remedy() {
        let mut problems = Problems::of(Path::new("conf/x.json"));
        let spot = Spot { place: member("channels", "a\nb"), position: Some(Position { line: 3, column: 7 }) };
        problems.error(&spot, "is odd", "make it even");
        problems.warning(&Spot { place: String::new(), position: None }, "is empty", "fill it");
        let lines: Vec<_> = problems.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(lines[0], "error: conf/x.json:3:7: channels.\"a\\u{a}b\": is odd; make it even");
        assert_eq!(lines[1], "warning: conf/x.json: is empty; fill it");
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(member("", &"x".repeat(100)).chars().count(), 65);
    }
}
