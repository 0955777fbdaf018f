//! What breaks a call off, at every point of it, and answers that cannot be read.

use serde_json::{Value, json};

use super::guest::{Place, guest};
use super::{OK, ask, bounds, code};
use crate::support::{Conf, Gateway, KEY, Raw, RawUpstream, channel, soon};

const DEADLINE: &str = "plugin_deadline_exceeded";
const TRAPPED: &str = "plugin_trapped";
const MEMORY: &str = "plugin_memory_exceeded";
const WAITED: &str = "plugin_tried_to_wait";
const ANSWER: &str = "plugin_answer_invalid";
/// The exchange is served.
const SERVED: &str = "";

type Case = (&'static str, Place, &'static str, &'static str);

/// Loops, recursion and re-entrance, wherever the host is inside the guest.
const CALLS: &[Case] = &[
    ("loop", Place::Decide, "(loop $l (br $l))", DEADLINE),
    ("loop-in-realloc", Place::Realloc, "(loop $l (br $l))", DEADLINE),
    ("loop-after", Place::After, "(loop $l (br $l))", DEADLINE),
    ("trap", Place::Decide, "unreachable", TRAPPED),
    ("trap-in-realloc", Place::Realloc, "unreachable", TRAPPED),
    ("trap-after", Place::After, "unreachable", TRAPPED),
    ("recursion", Place::Decide, "(drop (call $deep (i32.const 0)))", TRAPPED),
    ("recursion-in-realloc", Place::Realloc, "(drop (call $deep (i32.const 0)))", TRAPPED),
    ("recursion-through-the-host", Place::Decide, "(drop (call $deep_and_talking (i32.const 0)))", TRAPPED),
    ("host-from-realloc", Place::Realloc, "(call $log (i32.const 2) (i32.const 8) (i32.const 1))", TRAPPED),
    ("host-after", Place::After, "(call $log (i32.const 2) (i32.const 8) (i32.const 1))", TRAPPED),
];

/// Memory and tables. A refusal that the guest bears with is none of the host's business.
const GROWTH: &[Case] = &[
    (
        "many-small-growths",
        Place::Decide,
        "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable",
        MEMORY,
    ),
    (
        "many-small-growths-of-a-table",
        Place::Decide,
        "(loop $l (br_if $l (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable",
        MEMORY,
    ),
    (
        "one-huge-growth-of-a-table",
        Place::Decide,
        "(drop (table.grow $table (ref.null func) (i32.const -2))) unreachable",
        MEMORY,
    ),
    ("one-huge-growth", Place::Decide, "(drop (memory.grow (i32.const 65000))) unreachable", MEMORY),
    ("growth-in-realloc", Place::Realloc, "(drop (memory.grow (i32.const 65000))) unreachable", MEMORY),
    ("growth-that-is-borne", Place::Decide, "(drop (memory.grow (i32.const 65000)))", SERVED),
    ("growth-without-end", Place::Decide, "(loop $l (drop (memory.grow (i32.const 1))) (br $l))", DEADLINE),
];

/// What the imports are called with.
const IMPORTS: &[Case] = &[
    ("clock", Place::Decide, "(loop $l (drop (call $now)) (br $l))", DEADLINE),
    ("random", Place::Decide, "(loop $l (drop (call $random)) (br $l))", DEADLINE),
    ("random-gigabytes", Place::Decide, "(call $random_bytes (i64.const 0x40000000) (i32.const 64))", TRAPPED),
    ("insecure-gigabytes", Place::Decide, "(call $insecure_bytes (i64.const -1) (i32.const 64))", TRAPPED),
    ("some-random-bytes", Place::Decide, "(call $random_bytes (i64.const 4096) (i32.const 64))", SERVED),
    ("pollables", Place::Decide, "(loop $l (drop (call $subscribe (i64.const 1))) (br $l))", TRAPPED),
    ("streams", Place::Decide, "(loop $l (drop (call $stdout)) (br $l))", TRAPPED),
    (
        "waiting",
        Place::Decide,
        "(i32.store (i32.const 64) (call $subscribe (i64.const 1000000000)))
         (call $poll (i32.const 64) (i32.const 1) (i32.const 72))",
        WAITED,
    ),
    // One that is ready, forty thousand times.
    (
        "polling-thousands",
        Place::Decide,
        "(i32.store (i32.const 64) (call $subscribe (i64.const 0)))
         (loop $l
            (i32.store (i32.add (i32.const 131072) (global.get $next)) (i32.load (i32.const 64)))
            (global.set $next (i32.add (global.get $next) (i32.const 4)))
            (br_if $l (i32.lt_u (global.get $next) (i32.const 200000))))
         (global.set $next (i32.const 2000000))
         (call $poll (i32.const 135168) (i32.const 40000) (i32.const 72))",
        SERVED,
    ),
    ("polling-nothing", Place::Decide, "(call $poll (i32.const 64) (i32.const 0) (i32.const 72))", TRAPPED),
    ("polling-what-is-not", Place::Decide, "(call $poll (i32.const 131072) (i32.const 100) (i32.const 72))", TRAPPED),
    ("polling-a-million", Place::Decide, "(call $poll (i32.const 0) (i32.const 1000000) (i32.const 72))", TRAPPED),
    ("zeroes", Place::Decide, "(call $write_zeroes (call $stdout) (i64.const 0x10000000000) (i32.const 64))", TRAPPED),
    (
        "a-huge-line",
        Place::Decide,
        "(call $fill) (call $log (i32.const 2) (i32.const 131072) (i32.const 900000))",
        SERVED,
    ),
    (
        "a-line-beyond-bounds",
        Place::Decide,
        "(call $fill) (call $log (i32.const 2) (i32.const 131072) (i32.const 3000000))",
        TRAPPED,
    ),
    (
        "a-write-beyond-bounds",
        Place::Decide,
        "(call $write (call $stderr) (i32.const 131072) (i32.const 3000000) (i32.const 64))",
        TRAPPED,
    ),
    ("a-line-from-nowhere", Place::Decide, "(call $log (i32.const 2) (i32.const -8) (i32.const 100))", TRAPPED),
    (
        "a-line-that-is-no-text",
        Place::Decide,
        "(i32.store (i32.const 64) (i32.const -1)) (call $log (i32.const 2) (i32.const 64) (i32.const 4))",
        TRAPPED,
    ),
    ("an-unknown-level", Place::Decide, "(call $log (i32.const 9) (i32.const 8) (i32.const 1))", TRAPPED),
];

/// Answers against the canonical ABI, and such as are too much to be read.
const ANSWERS: &[Case] = &[
    ("answer-outside", Place::Decide, "(return (i32.const -8))", ANSWER),
    ("answer-across-the-end", Place::Decide, "(return (i32.const 4194300))", ANSWER),
    ("answer-misaligned", Place::Decide, "(return (i32.const 1025))", ANSWER),
    ("unknown-answer", Place::Decide, "(i32.store8 (i32.const 1024) (i32.const 7))", ANSWER),
    ("unknown-option", Place::Decide, "(i32.store8 (i32.const 1028) (i32.const 2))", ANSWER),
    ("text-outside", Place::Decide, "(i32.store (i32.const 1040) (i32.const -16))", ANSWER),
    ("text-across-the-end", Place::Decide, "(i32.store (i32.const 1044) (i32.const 4194304))", ANSWER),
    ("text-around-the-world", Place::Decide, "(i32.store (i32.const 1044) (i32.const -1))", ANSWER),
    (
        "text-that-is-none",
        Place::Decide,
        "(i32.store16 (i32.const 8) (i32.const 0xc32f)) (i32.store (i32.const 1044) (i32.const 2))",
        ANSWER,
    ),
    (
        "list-outside",
        Place::Decide,
        "(i32.store (i32.const 1060) (i32.const -16)) (i32.store (i32.const 1064) (i32.const 2))",
        ANSWER,
    ),
    (
        "list-across-the-end",
        Place::Decide,
        "(i32.store (i32.const 1060) (i32.const 131072)) (i32.store (i32.const 1064) (i32.const 300000))",
        ANSWER,
    ),
    (
        "list-that-overflows",
        Place::Decide,
        "(i32.store (i32.const 1060) (i32.const 131072)) (i32.store (i32.const 1064) (i32.const 0x40000000))",
        ANSWER,
    ),
    (
        "list-misaligned",
        Place::Decide,
        "(i32.store (i32.const 1060) (i32.const 131073)) (i32.store (i32.const 1064) (i32.const 1))",
        ANSWER,
    ),
    ("empty-list-from-nowhere", Place::Decide, "(i32.store (i32.const 1060) (i32.const -4))", ANSWER),
    (
        "unknown-edit",
        Place::Decide,
        "(call $fill) (i32.store (i32.const 1060) (i32.const 131072)) (i32.store (i32.const 1064) (i32.const 1))",
        ANSWER,
    ),
    (
        "ten-thousand-empty-edits",
        Place::Decide,
        "(i32.store (i32.const 1060) (i32.const 131072)) (i32.store (i32.const 1064) (i32.const 10000))",
        ANSWER,
    ),
    (
        "empty-edits-beyond-bounds",
        Place::Decide,
        "(i32.store (i32.const 1060) (i32.const 131072)) (i32.store (i32.const 1064) (i32.const 150000))",
        ANSWER,
    ),
    (
        "ten-thousand-empty-options",
        Place::Decide,
        "(i32.store (i32.const 1104) (i32.const 131072)) (i32.store (i32.const 1108) (i32.const 10000))",
        "plugin_option_unknown",
    ),
    (
        "huge-path",
        Place::Decide,
        "(call $fill) (i32.store (i32.const 1040) (i32.const 131072)) (i32.store (i32.const 1044) (i32.const 900000))",
        ANSWER,
    ),
    (
        "path-beyond-bounds",
        Place::Decide,
        "(call $fill) (i32.store (i32.const 1040) (i32.const 131072)) (i32.store (i32.const 1044) (i32.const 3000000))",
        ANSWER,
    ),
    ("realloc-outside", Place::Realloc, "(return (i32.const -16))", ANSWER),
    ("realloc-across-the-end", Place::Realloc, "(return (i32.const 4194303))", ANSWER),
    ("realloc-misaligned", Place::Realloc, "(return (i32.const 4097))", ANSWER),
    ("realloc-always-the-same", Place::Realloc, "(return (i32.const 8192))", SERVED),
];

/// One gateway for all cases, each a channel with a plugin and a key of its own.
async fn each_costs_its_exchange_alone(cases: &[Case]) {
    let upstream = RawUpstream::answering(OK).await;
    let key = |number: usize| format!("sk-number-{number}-0123456789");
    let mut conf = Conf::new(&upstream.url()).gateway("sandbox", bounds());
    let mut keys = vec![json!({"proxy_key": KEY, "id": "tester", "channel": "c"})];
    for (number, (name, place, piece, _)) in cases.iter().enumerate() {
        conf.plugin(name, &guest(*place, piece));
        let mut own = channel(&upstream.url());
        own["plugin"] = json!(name);
        conf = conf.channel(name, own);
        keys.push(json!({"proxy_key": key(number), "id": name, "channel": name}));
    }
    let gateway = Gateway::with_workers(conf.keys(Value::from(keys)), 1).await;
    let mut client = Raw::connect(gateway.address).await;
    for (number, (name, _, _, expected)) in cases.iter().enumerate() {
        let armed = ask(&mut client, &key(number), "/arm").await;
        assert_eq!(armed.status(), 200, "{name}: {}", armed.body());
        let hit = ask(&mut client, &key(number), "/a/request").await;
        let status = if *expected == SERVED { 200 } else { 502 };
        assert_eq!((hit.status(), code(&hit).as_str()), (status, *expected), "{name}: {}", hit.body());
        assert!(!hit.has("connection"), "{name}: {}", hit.head());
        let other = ask(&mut client, KEY, "/another/channel").await;
        assert_eq!(other.status(), 200, "the same connection after {name}: {}", other.body());
        if *expected == SERVED {
            continue;
        }
        soon(name, async {
            loop {
                let next = ask(&mut client, &key(number), "/a/request").await;
                if next.status() == 200 {
                    break;
                }
                assert_eq!(code(&next), "plugin_backing_off", "{name} serves the next, but for a pause");
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_guest_that_loops_recurs_or_enters_again_costs_one_exchange() {
    each_costs_its_exchange_alone(CALLS).await;
}

#[tokio::test]
async fn a_guest_that_grows_costs_one_exchange() {
    each_costs_its_exchange_alone(GROWTH).await;
}

#[tokio::test]
async fn a_guest_that_abuses_its_imports_costs_one_exchange() {
    each_costs_its_exchange_alone(IMPORTS).await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_costs_one_exchange() {
    each_costs_its_exchange_alone(ANSWERS).await;
}

#[tokio::test]
async fn a_growth_that_was_borne_is_not_why_a_later_call_fails() {
    let upstream = RawUpstream::answering(OK).await;
    let gateway = Gateway::with_workers(Conf::new(&upstream.url()).gateway("sandbox", bounds()), 1).await;
    let mut client = Raw::connect(gateway.address).await;
    assert_eq!(ask(&mut client, KEY, "/puppet/ask-for-too-much").await.status(), 200);
    assert_eq!(code(&ask(&mut client, KEY, "/puppet/trap").await), TRAPPED);
}
