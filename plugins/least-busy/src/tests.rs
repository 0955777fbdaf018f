//! Which channel comes first.

use aiproxy_plugin_sdk::testing::{caller, candidate, configure_router, request};

use super::*;

fn channel(id: &str, in_flight: f64, latency_ms: f64, error_rate: f64) -> Candidate {
    let signals = [("in-flight", in_flight), ("latency-ms", latency_ms), ("error-rate", error_rate)];
    Candidate { signals: signals.map(|(name, value)| (name.to_owned(), value)).to_vec(), ..candidate(id) }
}

fn router(settings: &str) -> LeastBusy {
    configure_router(settings).expect("these settings are right").0
}

fn ask(router: &LeastBusy, candidates: &[Candidate]) -> Vec<String> {
    router.route(request("POST", "/v1/x"), caller("alice"), candidates.to_vec()).expect("it never refuses")
}

fn order(settings: &str, candidates: &[Candidate]) -> Vec<String> {
    ask(&router(settings), candidates)
}

#[test]
fn availability_then_priority_come_before_any_load() {
    let candidates = [
        Candidate { available: false, priority: 9, ..channel("down", 0.0, 1.0, 0.0) },
        channel("idle", 0.0, 1.0, 0.0),
        Candidate { priority: 1, ..channel("preferred", 90.0, 9000.0, 1.0) },
    ];
    assert_eq!(order("{}", &candidates), ["preferred", "idle", "down"]);
}

#[test]
fn every_candidate_stays_as_a_fallback() {
    assert_eq!(order("{}", &[]), [] as [&str; 0]);
    let mut all = order("{}", &[candidate("a"), channel("b", 1.0, 1.0, 1.0), candidate("c")]);
    all.sort();
    assert_eq!(all, ["a", "b", "c"]);
}

#[test]
fn the_least_load_comes_first_and_each_signal_counts() {
    for (settings, worse) in [
        ("{}", channel("worse", 2.0, 500.0, 0.0)),
        ("{}", channel("worse", 1.0, 600.0, 0.0)),
        ("{}", channel("worse", 1.0, 500.0, 0.1)),
        // A second of latency is one request under way, a tenth of errors another.
        ("{}", channel("worse", 0.0, 2000.0, 0.0)),
        ("{}", channel("worse", 0.0, 500.0, 0.2)),
        (r#"{"latency": 0}"#, channel("worse", 2.0, 1.0, 0.0)),
        (r#"{"errors": 0, "latency": 4}"#, channel("worse", 1.0, 600.0, 0.0)),
    ] {
        let better = channel("better", 1.0, 500.0, 0.0);
        assert_eq!(order(settings, &[worse.clone(), better]), ["better", "worse"], "{settings} {worse:?}");
    }
    // What counts for nothing decides nothing: they stay as they came.
    let settings = r#"{"in_flight": 0, "latency": 0, "errors": 0}"#;
    assert_eq!(order(settings, &[channel("a", 9.0, 9.0, 1.0), channel("b", 0.0, 1.0, 0.0)]), ["a", "b"]);
}

#[test]
fn a_weight_is_a_share_of_the_requests_under_way() {
    let weighted = |id, weight, in_flight| Candidate { weight, ..channel(id, in_flight, 100.0, 0.0) };
    let (big, small) = (weighted("big", 90, 7.0), weighted("small", 10, 0.0));
    assert_eq!(order("{}", &[small.clone(), big]), ["big", "small"]);
    assert_eq!(order("{}", &[small.clone(), weighted("big", 90, 9.0)]), ["small", "big"]);
    // As in the gateway's own order, those without a weight come last where others have one.
    assert_eq!(order("{}", &[weighted("none", 0, 0.0), small]), ["small", "none"]);
}

#[test]
fn a_channel_of_which_nothing_is_known_is_as_good_as_the_best_and_wins_a_draw() {
    let known = [channel("slow", 0.0, 900.0, 0.0), channel("fast", 0.0, 100.0, 0.0)];
    let new = Candidate { signals: vec![("in-flight".into(), 0.0)], ..candidate("new") };
    assert_eq!(order("{}", &[&known[..], &[new]].concat()), ["new", "fast", "slow"]);
    // But it is not flooded: what it has under way counts.
    let tried = Candidate { signals: vec![("in-flight".into(), 1.0)], ..candidate("new") };
    assert_eq!(order("{}", &[&known[..], &[tried]].concat()), ["fast", "slow", "new"]);
}

#[test]
fn a_signal_that_is_no_number_is_unknown() {
    for value in [f64::NAN, f64::INFINITY, -1.0] {
        let odd = channel("odd", 0.0, value, 0.0);
        assert_eq!(order("{}", &[channel("a", 0.0, 100.0, 0.0), odd]), ["odd", "a"], "{value}");
    }
}

#[test]
fn a_channel_that_had_a_bad_moment_gets_its_turn_now_and_then() {
    let router = router(r#"{"look_around_every": 10}"#);
    let bad = channel("bad", 0.0, 100.0, 1.0);
    let candidates = [bad, channel("good", 0.0, 100.0, 0.0), Candidate { priority: -1, ..candidate("spare") }];
    let firsts: Vec<String> = (0..100).map(|_| ask(&router, &candidates).remove(0)).collect();
    assert_eq!(firsts.iter().filter(|first| *first == "bad").count(), 5, "every second of ten turns");
    assert!(!firsts.contains(&"spare".to_owned()), "a lower priority has no turns");
    let never = self::router(r#"{"look_around_every": 0}"#);
    assert!((0..100).all(|_| ask(&never, &candidates)[0] == "good"));
}

#[test]
fn a_channel_without_a_weight_has_no_turns_beside_those_that_have_one() {
    let weighted = |id, weight| Candidate { weight, ..channel(id, 0.0, 100.0, 0.0) };
    let firsts = |settings: &str, candidates: &[Candidate]| {
        let router = router(settings);
        (0..60).map(|_| ask(&router, candidates).remove(0)).collect::<Vec<_>>()
    };
    let mixed = [weighted("a", 1), weighted("b", 1), weighted("spare", 0)];
    let turns = firsts(r#"{"look_around_every": 1}"#, &mixed);
    assert!(!turns.contains(&"spare".to_owned()), "it is a last resort");
    assert_eq!(turns.iter().filter(|first| *first == "b").count(), 30, "the others share the turns");
    for (settings, candidates) in [
        (r#"{"look_around_every": 1}"#, [weighted("a", 0), weighted("b", 0), weighted("spare", 0)]),
        // Weights are shares of the requests under way: where those do not count, it has no last place either.
        (r#"{"look_around_every": 1, "in_flight": 0}"#, mixed),
    ] {
        let turns = firsts(settings, &candidates);
        assert_eq!(turns.iter().filter(|first| *first == "spare").count(), 20, "{settings}");
    }
}

#[test]
fn what_is_wrong_with_the_settings_is_said_with_its_name() {
    for (settings, expected) in [
        (r#"{"latncy": 1}"#, "settings: unknown setting `latncy`; did you mean `latency`? (known: "),
        (r#"{"errors": "x"}"#, "settings.errors: expected a number, found a string"),
        (r#"{"errors": -1}"#, "settings.errors: expected a number from 0 to 1000000"),
        (r#"{"look_around_every": 0.5}"#, "settings.look_around_every: expected a whole number from 0 to 4294967295"),
    ] {
        let error = configure_router::<LeastBusy>(settings).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}
