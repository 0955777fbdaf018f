//! What a router answered.

use std::collections::HashSet;

use super::{refusal, shown};
use crate::error::{Failure, Kind};
use crate::plugin::bindings::{Candidate, types};

/// The order of attempts, or none at all.
#[derive(Debug)]
pub enum Route {
    /// Positions in the list of candidates, best first, each once; those left out are not tried.
    Order(Vec<usize>),
    /// Final, with the router's own status and code.
    Refuse(Failure),
}

/// The failure says what makes the answer useless.
pub fn route(answer: Result<Vec<String>, types::Refusal>, candidates: &[Candidate]) -> Result<Route, Failure> {
    let ids = match answer {
        Ok(ids) => ids,
        Err(refused) => return refusal(refused).map(Route::Refuse),
    };
    let invalid = |what: &str, id: &str| {
        Failure::new(Kind::PluginAnswer, format!("the router's answer is invalid: it names {} {what}", shown(id)))
    };
    let mut seen = HashSet::new();
    let mut order = Vec::with_capacity(candidates.len());
    for id in &ids {
        let position = candidates.iter().position(|candidate| candidate.channel == *id);
        let position = position.ok_or_else(|| invalid("which is no candidate", id))?;
        if !seen.insert(position) {
            return Err(invalid("twice", id));
        }
        order.push(position);
    }
    Ok(Route::Order(order))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::super::sample;
    use super::*;

    fn candidates() -> Vec<Candidate> {
        let candidate =
            |id: &str| Candidate { channel: id.into(), priority: 0, weight: 0, available: true, signals: Vec::new() };
        ["a", "b", "c"].map(candidate).into()
    }

    fn ordered(ids: &[&str]) -> Result<Vec<usize>, Failure> {
        match route(Ok(ids.iter().map(|id| (*id).to_owned()).collect()), &candidates())? {
            Route::Order(order) => Ok(order),
            Route::Refuse(failure) => panic!("{failure}"),
        }
    }

    #[test]
    fn candidates_may_be_ordered_and_left_out() {
        assert_eq!(ordered(&["c", "a"]).unwrap(), [2, 0]);
        assert_eq!(ordered(&[]).unwrap(), [0_usize; 0]);
    }

    #[test]
    fn others_and_repetitions_are_refused_by_name() {
        for (ids, named) in [(["a", "x\n"], r#""x\n" which is no candidate"#), (["b", "b"], "\"b\" twice")] {
            let failure = ordered(&ids).unwrap_err();
            assert_eq!(failure.kind, Kind::PluginAnswer);
            assert!(failure.message.contains(named), "{failure}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_an_order_of_candidates_or_a_failure_that_can_be_shown(answer in sample::route()) {
            match route(answer, &candidates()) {
                Ok(Route::Order(order)) => {
                    prop_assert!(order.len() <= 3 && order.iter().all(|position| *position < 3));
                }
                Ok(Route::Refuse(failure)) | Err(failure) => {
                    prop_assert!(sample::is_harmless(&failure.message), "{}", failure);
                }
            }
        }
    }
}
