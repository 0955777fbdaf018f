//! What a plugin wants to see, and where usage stands in replies.

use crate::{Fold, Meter, Profile, Reuse};

impl Default for Profile {
    /// No header, no body, no meters, nothing reused: `Profile { reads_model: true, ..Profile::default() }`.
    fn default() -> Self {
        Self {
            headers: Vec::new(),
            reads_model: false,
            body: Vec::new(),
            socket_model: Vec::new(),
            meters: Vec::new(),
            reuse: Reuse::Never,
        }
    }
}

impl Meter {
    /// A quantity of which the last value counts: one number in a body, or a stream that tells the usage so far.
    ///
    /// Each alternative is a list of JSON pointers whose values are added; the first alternative that is there counts.
    pub fn last(name: &str, alternatives: &[&[&str]]) -> Self {
        meter(name, alternatives, Fold::Last)
    }

    /// A quantity that comes in increments, which are added. Alternatives as in [`Meter::last`].
    pub fn sum(name: &str, alternatives: &[&[&str]]) -> Self {
        meter(name, alternatives, Fold::Sum)
    }

    /// Folds within the id at this pointer (a response, a task), and adds the ids up.
    pub fn grouped_by(self, pointer: &str) -> Self {
        Self { group: Some(pointer.to_owned()), ..self }
    }
}

fn meter(name: &str, alternatives: &[&[&str]], fold: Fold) -> Meter {
    Meter {
        name: name.to_owned(),
        alternatives: alternatives.iter().map(|alternative| owned(alternative)).collect(),
        fold,
        group: None,
    }
}

fn owned(pointers: &[&str]) -> Vec<String> {
    pointers.iter().map(|&pointer| pointer.to_owned()).collect()
}
