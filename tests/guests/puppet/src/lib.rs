//! A channel plugin that does what a test tells it to.
//!
//! What it does in `decide` comes from `settings.behaviour`, or `settings.behaviour_of` (by mark), or else from a request path `/puppet/<behaviour>/<argument>…`;
//! what it does in `configure` comes from `settings.configure`, its profile from `settings.profile`. Otherwise it passes
//! a request through with the channel's key as a bearer, changed as `settings.plan` says, and tells in `x-puppet-saw-…`
//! headers what it was shown (not with `settings.quiet`; not how often, with `settings.uncounted`). Every plan carries
//! [`MARK`], so that a test makes another version of the component by replacing those bytes in the file. The version
//! marked `NEEDSSETTING` wants `settings.needed`.

pub mod bindings;
mod misbehave;
mod recall;
mod settings;

use std::cell::{Cell, RefCell};
use std::hash::BuildHasher;
use std::time::SystemTime;

use serde_json::{Value, json};

use bindings::aiproxy::plugin::types::{
    Caller, Credential, HeaderEdit, Placement, Plan, Presented, Profile, Refusal, Request, Transport,
};
use bindings::exports::aiproxy::plugin::channel::{Answer, ChannelConfig, Guest};

/// Exactly once in the file, and always of this length: read through a black box, or the optimiser would take it apart.
#[used]
static MARK: [u8; 17] = *b"MARK-AAAAAAAAAAAA";

thread_local! {
    static SETTINGS: RefCell<Value> = const { RefCell::new(Value::Null) };
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

pub struct Puppet;

impl Guest for Puppet {
    fn configure(channel: ChannelConfig) -> Result<Profile, String> {
        let settings: Value = serde_json::from_str(&channel.settings).map_err(|e| format!("settings: {e}"))?;
        if *std::hint::black_box(&MARK) == *b"MARK-NEEDSSETTING" && settings["needed"].is_null() {
            return Err("this version wants the setting `needed`".into());
        }
        let mut profile = settings::profile(&settings["profile"]);
        match settings["configure"].as_str() {
            Some("fail") => return Err("the strings are tangled".into()),
            Some("random-profile") => {
                profile.headers.push(format!("x-{:x}", random()));
            }
            Some("fail-often") if !random().is_multiple_of(4) => return Err("not this time".into()),
            Some("loop-later") => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                if now.as_millis() >= u128::from(settings["later_ms"].as_u64().unwrap_or_default()) {
                    misbehave::run("loop");
                }
            }
            Some("nonsense") => profile.headers.push("not a header\r\n".into()),
            Some(behaviour) => misbehave::run(behaviour),
            None => {}
        }
        SETTINGS.set(settings);
        Ok(profile)
    }

    fn decide(request: Request, caller: Caller) -> Answer {
        CALLS.set(CALLS.get() + 1);
        SETTINGS.with_borrow(|settings| decide(settings, &request, &caller))
    }
}

fn decide(settings: &Value, request: &Request, caller: &Caller) -> Answer {
    let mut plan = pass_through(settings, request, caller);
    settings::apply(&settings["plan"], &mut plan);
    let of_version = || settings["behaviour_of"][mark()].as_str();
    let told = settings["behaviour"].as_str().or_else(of_version);
    let Some(behaviour) = told.or_else(|| request.path.strip_prefix("/puppet/")) else {
        return Answer::Send(plan);
    };
    let mut words = behaviour.split('/');
    let name = words.next().unwrap_or_default();
    match name {
        "decline" => return Answer::Decline,
        "remember" => recall::remember(words.next().unwrap_or_default()),
        "recall" => return tells(recall::remembered()),
        "search" => return tells(recall::found(&settings["search"])),
        "refuse" => {
            let mut word = || words.next().unwrap_or_default();
            let status = word().parse().unwrap_or(400);
            return Answer::Refuse(Refusal { status, code: word().into(), message: word().into() });
        }
        _ => {}
    }
    if !misbehave::spoil(name, &mut plan) {
        misbehave::run(name);
    }
    Answer::Send(plan)
}

/// A refusal that says what a test wants to know.
fn tells(message: String) -> Answer {
    Answer::Refuse(Refusal { status: 418, code: "told".into(), message })
}

fn mark() -> String {
    String::from_utf8_lossy(std::hint::black_box(&MARK)).into_owned()
}

/// Seeded by `wasi:random`, in every instance anew.
fn random() -> u64 {
    std::hash::RandomState::new().hash_one(0)
}

fn pass_through(settings: &Value, request: &Request, caller: &Caller) -> Plan {
    let mut headers = vec![HeaderEdit::Set(("x-puppet-mark".into(), mark()))];
    if settings["quiet"] != true {
        let counts = |edit: &HeaderEdit| matches!(edit, HeaderEdit::Set((name, _)) if name == "x-puppet-saw-calls");
        headers.extend(saw(request, caller).into_iter().filter(|edit| settings["uncounted"] != true || !counts(edit)));
    }
    Plan {
        endpoint: None,
        path: request.path.clone(),
        query: request.query.clone(),
        headers,
        body: Vec::new(),
        credentials: vec![Credential { secret: "key".into(), place: Placement::Authorization("Bearer".into()) }],
        model: None,
        meters: None,
        options: Vec::new(),
    }
}

/// What the plugin was shown, as header edits.
fn saw(request: &Request, caller: &Caller) -> Vec<HeaderEdit> {
    let presented = match &request.presented {
        Presented::Authorization(scheme) => format!("authorization {scheme}"),
        Presented::Header(name) => format!("header {name}"),
        Presented::Query(name) => format!("query {name}"),
        Presented::Subprotocol => "subprotocol".into(),
    };
    let transport = match request.transport {
        Transport::Http => "http",
        Transport::Websocket => "websocket",
    };
    let seen = [
        ("transport", transport.into()),
        ("method", request.method.clone()),
        ("path", request.path.clone()),
        ("query", request.query.clone().unwrap_or_else(|| "none".into())),
        ("presented", presented),
        ("headers", json!(request.headers).to_string()),
        ("model", request.model.clone().unwrap_or_else(|| "none".into())),
        ("streaming", request.streaming.to_string()),
        ("body", json!(request.body).to_string()),
        ("caller", caller.id.clone()),
        ("tags", json!(caller.tags).to_string()),
        ("calls", CALLS.get().to_string()),
    ];
    // A client's bytes may be such as no header can carry.
    let safe = |text: String| text.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    seen.into_iter().map(|(name, value)| HeaderEdit::Set((format!("x-puppet-saw-{name}"), safe(value)))).collect()
}
