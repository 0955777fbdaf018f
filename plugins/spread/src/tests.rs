//! Who goes where.

use aiproxy_plugin_sdk::testing::{caller, candidate, configure_router, request};

use super::*;

fn router(settings: &str) -> Spread {
    configure_router(settings).expect("these settings are right").0
}

fn order(router: &Spread, id: &str, candidates: &[Candidate]) -> Vec<String> {
    router.route(request("POST", "/v1/x"), caller(id), candidates.to_vec()).expect("it never refuses")
}

fn abc() -> [Candidate; 3] {
    ["a", "b", "c"].map(candidate)
}

/// How many of a thousand callers have each of `a`, `b` and `c` first.
fn firsts(router: &Spread, candidates: &[Candidate]) -> [usize; 3] {
    let firsts: Vec<String> = (0..1000).map(|n| order(router, &format!("caller-{n}"), candidates).remove(0)).collect();
    ["a", "b", "c"].map(|channel| firsts.iter().filter(|first| *first == channel).count())
}

#[test]
fn callers_are_spread_as_the_percentages_say() {
    let [a, b, c] = firsts(&router(r#"{"percent": {"b": 10, "a": 89.5, "c": 0.5}}"#), &abc());
    assert!((870..920).contains(&a) && (75..125).contains(&b) && c < 20, "{a} {b} {c}");
    assert_eq!(firsts(&router(r#"{"percent": {"a": 100}}"#), &abc()), [1000, 0, 0]);
    assert_eq!(firsts(&router(r#"{"percent": {"a": 0, "b": 100}}"#), &abc()), [0, 1000, 0]);
}

#[test]
fn a_caller_keeps_its_channel_whatever_instance_answers_and_another_salt_draws_anew() {
    let settings = r#"{"percent": {"a": 50, "b": 50}}"#;
    let (one, two) = (router(settings), router(settings));
    let salted = router(r#"{"percent": {"a": 50, "b": 50}, "salt": "2"}"#);
    let ids: Vec<String> = (0..100).map(|n| format!("caller-{n}")).collect();
    let mut moved = 0;
    for id in &ids {
        let first = order(&one, id, &abc());
        assert_eq!(first, order(&one, id, &abc()));
        assert_eq!(first, order(&two, id, &abc()));
        moved += usize::from(first != order(&salted, id, &abc()));
    }
    assert!((25..75).contains(&moved), "{moved}");
}

#[test]
fn the_points_of_callers_never_change() {
    for (salt, id, expected) in
        [("", "alice", 12.2779), ("", "", 14.8383), ("2", "alice", 13.9732), ("", "用户", 31.8504)]
    {
        let point = point::of(salt, id);
        assert!((point - expected).abs() < 1e-3, "{salt} {id} {point}");
    }
}

#[test]
fn a_larger_part_moves_only_those_that_it_takes_in() {
    let (before, after) = (router(r#"{"percent": {"a": 10, "b": 90}}"#), router(r#"{"percent": {"a": 30, "b": 70}}"#));
    for n in 0..1000 {
        let id = format!("caller-{n}");
        if order(&before, &id, &abc())[0] == "a" {
            assert_eq!(order(&after, &id, &abc())[0], "a");
        }
    }
}

#[test]
fn without_stickiness_the_same_caller_is_spread_evenly() {
    let router = router(r#"{"percent": {"a": 90, "b": 10}, "sticky": false}"#);
    let firsts: Vec<String> = (0..200).map(|_| order(&router, "alice", &abc()).remove(0)).collect();
    let to_b = firsts.iter().filter(|first| *first == "b").count();
    assert!((17..=23).contains(&to_b), "{to_b} of 200");
    // Not in a lump either.
    assert!(firsts.chunks(40).all(|some| some.iter().any(|first| first == "b")));
}

#[test]
fn the_others_follow_by_availability_and_priority() {
    let router = router(r#"{"percent": {"c": 100}}"#);
    let [a, b, c] = abc();
    let high = Candidate { priority: 5, ..b.clone() };
    assert_eq!(order(&router, "alice", &[a.clone(), high, c.clone()]), ["c", "b", "a"]);
    let down = Candidate { available: false, priority: 5, ..b.clone() };
    assert_eq!(order(&router, "alice", &[down, a.clone(), c.clone()]), ["c", "a", "b"]);
    // The chosen one itself is not available, or not there.
    let down = Candidate { available: false, ..c };
    assert_eq!(order(&router, "alice", &[down, a.clone(), b.clone()]), ["a", "b", "c"]);
    assert_eq!(order(&router, "alice", &[b, a]), ["b", "a"]);
}

#[test]
fn the_rest_goes_to_channels_whose_part_is_not_said() {
    let [a, b, c] = firsts(&router(r#"{"percent": {"a": 10, "b": 0}}"#), &abc());
    assert!((75..125).contains(&a) && b == 0 && c == 1000 - a, "{a} {b} {c}");
    // To the best of them; and as the gateway would order them where nothing is said.
    let preferred = [candidate("a"), Candidate { priority: 1, ..candidate("b") }, candidate("c")];
    assert_eq!(firsts(&router("{}"), &preferred), [0, 1000, 0]);
    // Nobody is left for the rest: the usual order.
    let [a, b, _] = firsts(&router(r#"{"percent": {"a": 10, "b": 10}}"#), &abc()[..2]);
    assert!((860..940).contains(&a) && a + b == 1000, "{a} {b}");
}

#[test]
fn what_is_wrong_with_the_settings_is_said_with_its_name() {
    for (settings, expected) in [
        (r#"{"percents": {}}"#, "settings: unknown setting `percents`; did you mean `percent`?"),
        (r#"{"percent": 5}"#, "settings.percent: expected an object, found a number"),
        (r#"{"percent": {"a": 101}}"#, "settings.percent.a: expected a percentage from 0 to 100"),
        (r#"{"percent": {"a": -1}}"#, "settings.percent.a: expected a percentage from 0 to 100"),
        (r#"{"percent": {"a": "9"}}"#, "settings.percent.a: expected a number, found a string"),
        (r#"{"percent": {"a": 60, "b": 40.5}}"#, "settings.percent: the percentages come to more than 100 together"),
        (r#"{"sticky": "no"}"#, "settings.sticky: expected true or false, found a string"),
    ] {
        let error = configure_router::<Spread>(settings).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    // Ten tenths are a whole, also in binary.
    let parts: Vec<String> = (0..30).map(|n| format!("\"c{n}\": {}", if n < 29 { 3.3 } else { 4.3 })).collect();
    router(&format!("{{\"percent\": {{{}}}}}", parts.join(", ")));
}
