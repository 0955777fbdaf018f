//! What a plugin declared when it was configured.

use std::sync::Arc;

use http::HeaderName;

use super::names::{pointer, visible_header};
use super::shown;
use crate::meter::{CompiledMeters, Fold, MeterSpec};
use crate::plugin::bindings::types;

const HEADERS_MAX: usize = 64;
const POINTERS_MAX: usize = 16;
const METER_SETS_MAX: usize = 16;
const METERS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 16;
const METER_NAMES: &[&str] = &["input", "output", "cached-input", "reasoning", "characters", "seconds", "images"];

/// Checked; every instance of a version on a channel declares the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Request headers to show.
    pub headers: Vec<HeaderName>,
    pub reads_model: bool,
    /// Pointers into the request body, as many as `request.body` then has entries.
    pub body: Vec<String>,
    pub socket_model: Vec<String>,
    /// A plan names one set by its index.
    pub meters: Vec<Vec<types::Meter>>,
    pub reuse: types::Reuse,
}

impl Profile {
    /// The message says what was wrong, for the operator.
    pub fn check(declared: types::Profile) -> Result<Self, String> {
        let types::Profile { headers, reads_model, body, socket_model, meters, reuse } = declared;
        at_most("headers", headers.len(), HEADERS_MAX)?;
        let headers = headers.iter().map(|name| visible_header(name)).collect::<Result<_, _>>()?;
        pointers("body", &body, POINTERS_MAX)?;
        pointers("socket-model", &socket_model, POINTERS_MAX)?;
        at_most("sets of meters", meters.len(), METER_SETS_MAX)?;
        for set in &meters {
            at_most("meters in a set", set.len(), METERS_MAX)?;
            set.iter().try_for_each(meter)?;
        }
        Ok(Self { headers, reads_model, body, socket_model, meters, reuse })
    }

    /// The sets of meters, ready for replies.
    pub fn compiled_meters(&self) -> Vec<Arc<CompiledMeters>> {
        self.meters.iter().map(|set| compiled(set)).collect()
    }
}

fn compiled(set: &[types::Meter]) -> Arc<CompiledMeters> {
    let specs: Vec<_> = set
        .iter()
        .map(|meter| MeterSpec {
            name: meter.name.clone(),
            alternatives: meter.alternatives.clone(),
            fold: match meter.fold {
                types::Fold::Last => Fold::Last,
                types::Fold::Sum => Fold::Sum,
            },
            group: meter.group.clone(),
        })
        .collect();
    Arc::new(CompiledMeters::compile(&specs).expect("a profile's pointers are checked"))
}

fn meter(meter: &types::Meter) -> Result<(), String> {
    let name = &meter.name;
    let own = |rest: &str| {
        !rest.is_empty()
            && rest.len() <= 62
            && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if !METER_NAMES.contains(&name.as_str()) && !name.strip_prefix("x-").is_some_and(own) {
        return Err(format!("a meter has an unknown name: {} (one of one's own begins with \"x-\")", shown(name)));
    }
    at_most("alternatives of a meter", meter.alternatives.len(), ALTERNATIVES_MAX)?;
    meter.alternatives.iter().try_for_each(|alternative| pointers("meter's alternative", alternative, POINTERS_MAX))?;
    meter.group.as_deref().map_or(Ok(()), pointer)
}

fn pointers(what: &str, list: &[String], max: usize) -> Result<(), String> {
    at_most(&format!("pointers in {what}"), list.len(), max)?;
    list.iter().try_for_each(|text| pointer(text))
}

fn at_most(what: &str, count: usize, max: usize) -> Result<(), String> {
    if count <= max { Ok(()) } else { Err(format!("{count} {what}, more than {max}")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    use super::super::sample;
    use super::*;

    fn declared() -> types::Profile {
        types::Profile {
            headers: vec!["user-agent".into()],
            reads_model: true,
            body: vec!["/stream".into()],
            socket_model: vec!["/model".into()],
            meters: vec![vec![types::Meter {
                name: "input".into(),
                alternatives: vec![vec!["/usage/input".into()]],
                fold: types::Fold::Last,
                group: Some("/id".into()),
            }]],
            reuse: types::Reuse::AnyCaller,
        }
    }

    #[test]
    fn a_sound_profile_is_taken_as_it_is() {
        let profile = Profile::check(declared()).unwrap();
        assert_eq!(profile.headers, ["user-agent"]);
        assert!(profile.reads_model);
    }

    #[test]
    fn every_unsound_part_is_named() {
        type Spoil = fn(&mut types::Profile);
        let cases: [(Spoil, &str); 8] = [
            (|p| p.headers.push("cookie".into()), "\"cookie\" carries credentials"),
            (|p| p.headers.push("X-Up\n".into()), r#""X-Up\n""#),
            (|p| p.headers = vec!["x-a".into(); 65], "65 headers"),
            (|p| p.body = vec!["/a".into(); 17], "17 pointers in body"),
            (|p| p.body.push("a".into()), "RFC 6901"),
            (|p| p.meters[0][0].name = "inputs".into(), "\"inputs\""),
            (|p| p.meters[0][0].group = Some("id".into()), "RFC 6901"),
            (|p| p.meters = vec![Vec::new(); 17], "17 sets of meters"),
        ];
        for (spoil, reason) in cases {
            let mut profile = declared();
            spoil(&mut profile);
            let message = Profile::check(profile).unwrap_err();
            assert!(message.contains(reason), "{message}");
        }
    }

    proptest! {
        #[test]
        fn a_declaration_is_a_usable_profile_or_a_message_that_can_be_shown(declared in sample::profile()) {
            match Profile::check(declared) {
                Ok(profile) => {
                    prop_assert_eq!(profile.compiled_meters().len(), profile.meters.len());
                    prop_assert!(profile.headers.iter().all(|name| visible_header(name.as_str()).is_ok()));
                    prop_assert!(profile.body.iter().chain(&profile.socket_model).all(|text| pointer(text).is_ok()));
                }
                Err(message) => prop_assert!(sample::is_harmless(&message), "{}", message),
            }
        }
    }
}
