//! Arbitrary answers for the property tests: mostly sound, so that some pass, and hostile in any part.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use indexmap::IndexMap;
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;

pub use super::decision;
use crate::config::{Channel, Endpoint, Secret, Timeouts, UsageSource};
pub use crate::plugin::bindings::{Answer, types};

/// With an endpoint `batch` behind a base path, and the secrets `key` and `other`.
pub fn channel() -> Channel {
    let endpoint = |host: &str, base_path: &str| {
        Arc::new(Endpoint {
            tls: true,
            host: host.into(),
            port: 443,
            base_path: base_path.into(),
            authority: host.into(),
            proxy: None,
        })
    };
    let second = Duration::from_secs(1);
    let secret = |name: &str, text: &str| (name.to_owned(), Secret::new(text));
    Channel {
        id: "c".into(),
        name: "C".into(),
        active: true,
        key_missing: None,
        is_keyless: false,
        plugin: "c".into(),
        settings: "{}".into(),
        http: endpoint("api.example", ""),
        websocket: endpoint("sockets.example", "/realtime"),
        endpoints: IndexMap::from([("batch".into(), endpoint("batch.example", "/batch/v1"))]),
        secrets: IndexMap::from([secret("key", "upstream/key+1"), secret("other", "another~key=2&%")]),
        supports_websocket: true,
        priority: 0,
        weight: 1,
        timeouts: Timeouts { connect: second, first_byte: second, idle: second },
        usage: UsageSource::Read,
        canary: None,
        capture: false,
    }
}

pub fn profile_of_two_sets() -> super::Profile {
    super::Profile {
        headers: vec![],
        reads_model: false,
        body: vec![],
        socket_model: vec![],
        meters: vec![vec![], vec![]],
        reuse: types::Reuse::Never,
    }
}

/// What has broken some program before.
const HOSTILE: &[&str] = &[
    "",
    "\0",
    "\r\n",
    "x\r\nx-smuggled: 1",
    "\u{7f}",
    "\u{85}",
    "\u{202e}",
    "\u{2028}",
    "é模型😀",
    " ",
    "\t",
    "a b",
    "..",
    "/..",
    "/../x",
    "/%2e%2E/x",
    "/..;/x",
    "/a/..%252f..%5cx",
    "//elsewhere.example/x",
    "/\\elsewhere.example/x",
    "http://elsewhere.example/x",
    "*",
    "/%",
    "/%zz",
    "?",
    "#",
    "&key=mine",
    "k%65y=mine",
    "host",
    "Host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "x-forwarded-for",
    "x-aiproxy-request-id",
    "proxy-authorization",
    "authorization",
    "cookie",
    ":path",
    "{",
    "\"\\ud800\"",
    "/~",
];

const HEADERS: &[&str] =
    &["x-a", "x-b", "authorization", "x-api-key", "accept-encoding", "content-type", "cookie", "user-agent"];
const QUERY_NAMES: &[&str] = &["key", "a", "api-key", "x.y"];

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(HOSTILE).prop_map(str::to_owned),
        3 => any::<String>(),
        2 => (select(HOSTILE), any::<String>(), select(HOSTILE)).prop_map(|(a, b, c)| format!("{a}{b}{c}")),
        1 => (select(HOSTILE), 0..80_000_usize).prop_map(|(text, count)| text.repeat(count / text.len().max(1))),
    ]
}

/// One of a hundred is hostile, where a plan has some ten such parts.
fn mostly(sound: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop_oneof![24 => sound, 1 => hostile()]
}

fn named(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    mostly(select(names).prop_map(str::to_owned))
}

fn path() -> impl Strategy<Value = String> {
    mostly(prop_oneof![
        3 => "/[a-z0-9/._~%:@-]{0,30}",
        1 => "(/(\\.|\\.\\.|%2e|%2F|a|;|\\\\|){0,3}){1,5}",
    ])
}

fn query() -> impl Strategy<Value = String> {
    let pair = prop_oneof!["[a-z%0-9]{0,5}=[a-z%0-9+?/]{0,8}", "key=[a-z]{0,3}", "k%65y", "[ -~]{0,3}"];
    mostly(vec(pair, 0..4).prop_map(|pairs| pairs.join("&")))
}

fn header_edit() -> impl Strategy<Value = types::HeaderEdit> {
    let field = || (named(HEADERS), mostly("[ -~é\t]{0,20}".boxed()));
    prop_oneof![
        field().prop_map(types::HeaderEdit::Set),
        field().prop_map(types::HeaderEdit::SetIfAbsent),
        named(HEADERS).prop_map(types::HeaderEdit::Remove),
    ]
}

fn pointer() -> impl Strategy<Value = String> {
    mostly(crate::json::sample::pointer())
}

fn body_edit() -> impl Strategy<Value = types::BodyEdit> {
    let field = || (pointer(), mostly(crate::json::sample::json()));
    prop_oneof![
        field().prop_map(types::BodyEdit::Set),
        field().prop_map(types::BodyEdit::SetIfAbsent),
        pointer().prop_map(types::BodyEdit::Remove),
    ]
}

fn credential() -> impl Strategy<Value = types::Credential> {
    let signature = hostile().prop_map(|scheme| types::Signature { scheme, parameters: Vec::new() });
    let place = prop_oneof![
        8 => named(&["Bearer", "Token"]).prop_map(types::Placement::Authorization),
        8 => named(HEADERS).prop_map(types::Placement::Header),
        8 => named(QUERY_NAMES).prop_map(types::Placement::Query),
        1 => signature.prop_map(types::Placement::Signed),
    ];
    (named(&["key", "other"]), place).prop_map(|(secret, place)| types::Credential { secret, place })
}

/// A plan for [`channel`] and [`profile_of_two_sets`].
pub fn plan() -> impl Strategy<Value = types::Plan> {
    let edits = (
        prop_oneof![20 => vec(header_edit(), 0..5), 1 => vec(header_edit(), 60..70)],
        prop_oneof![20 => vec(body_edit(), 0..2), 1 => vec(body_edit(), 60..70)],
        prop_oneof![20 => vec(credential(), 0..4), 1 => vec(credential(), 8..10)],
    );
    let rest = (
        weighted(0.2, mostly(Just("batch".to_owned()))),
        weighted(0.5, mostly("[a-z0-9.-]{0,12}".boxed())),
        weighted(0.3, 0..3_u32),
        prop_oneof![30 => Just(Vec::new()), 1 => vec((hostile(), hostile()), 1..3)],
    );
    (path(), proptest::option::of(query()), edits, rest).prop_map(
        |(path, query, (headers, body, credentials), (endpoint, model, meters, options))| types::Plan {
            endpoint,
            path,
            query,
            headers,
            body,
            credentials,
            model,
            meters,
            options,
        },
    )
}

pub fn refusal() -> impl Strategy<Value = types::Refusal> {
    (prop_oneof![400..600_u16, any::<u16>()], mostly("[a-z_0-9]{1,20}".boxed()), hostile())
        .prop_map(|(status, code, message)| types::Refusal { status, code, message })
}

pub fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        20 => plan().prop_map(Answer::Send),
        1 => Just(Answer::Decline),
        4 => refusal().prop_map(Answer::Refuse),
    ]
}

pub fn profile() -> impl Strategy<Value = types::Profile> {
    let meter = || {
        let alternatives = vec(vec(pointer(), 0..3), 0..3);
        let fold = prop_oneof![Just(types::Fold::Last), Just(types::Fold::Sum)];
        (named(&["input", "output", "x-own"]), alternatives, fold, weighted(0.3, pointer()))
            .prop_map(|(name, alternatives, fold, group)| types::Meter { name, alternatives, fold, group })
    };
    let headers = prop_oneof![20 => vec(named(&["user-agent", "x-a", "host"]), 0..4), 1 => vec(hostile(), 60..70)];
    let meters = prop_oneof![20 => vec(vec(meter(), 0..3), 0..3), 1 => vec(vec(meter(), 30..35), 0..20)];
    let reuse = select(&[types::Reuse::Never, types::Reuse::SameCaller, types::Reuse::AnyCaller][..]);
    (headers, any::<bool>(), vec(pointer(), 0..4), vec(pointer(), 0..18), meters, reuse).prop_map(
        |(headers, reads_model, body, socket_model, meters, reuse)| types::Profile {
            headers,
            reads_model,
            body,
            socket_model,
            meters,
            reuse,
        },
    )
}

/// What a router may answer about candidates `a`, `b` and `c`.
pub fn route() -> impl Strategy<Value = Result<Vec<String>, types::Refusal>> {
    prop_oneof![4 => vec(named(&["a", "b", "c"]), 0..5).prop_map(Ok), 1 => refusal().prop_map(Err)]
}

/// Whether a text may be shown to a client and written to a log: bounded, one line, read as it is written.
pub fn is_harmless(message: &str) -> bool {
    let forges = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}');
    message.len() <= 4000 && !message.contains(forges)
}

/// Whether the gateway alone may set this header.
pub fn is_hosts_own(name: &HeaderName) -> bool {
    super::editable_header(name.as_str()).is_err()
}
