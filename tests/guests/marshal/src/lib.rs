//! A router that does what a test tells it to in `settings.behaviour`.
//!
//! `reverse`: the candidates backwards. `tell`: a refusal that says, as JSON, what was seen. `trap`, `loop`, `sleep`, `eat`,
//! `exit`, `huge`, `many`, `unknown`, `forged`, `twice`, `none`, `refuse`, `refuse-with-200`, `refuse-forged` and, while it is
//! configured, `fail`. Otherwise the order that a request header `x-order` asks
//! for, its ids separated by commas, or the candidates as they come.

pub mod bindings;

use std::cell::RefCell;

use serde_json::{Value, json};

use bindings::aiproxy::plugin::types::{Caller, Profile, Refusal, Request, Reuse};
use bindings::exports::aiproxy::plugin::router::{Candidate, Guest};

thread_local! {
    static BEHAVIOUR: RefCell<String> = const { RefCell::new(String::new()) };
}

pub struct Marshal;

impl Guest for Marshal {
    fn configure(settings: String) -> Result<Profile, String> {
        let settings: Value = serde_json::from_str(&settings).map_err(|error| format!("settings: {error}"))?;
        let behaviour = settings["behaviour"].as_str().unwrap_or_default();
        if behaviour == "fail" {
            return Err("the marshal has lost the way".into());
        }
        BEHAVIOUR.set(behaviour.to_owned());
        Ok(Profile {
            headers: vec!["x-order".into()],
            reads_model: true,
            body: Vec::new(),
            socket_model: Vec::new(),
            meters: Vec::new(),
            reuse: Reuse::Never,
        })
    }

    fn route(request: Request, caller: Caller, candidates: Vec<Candidate>) -> Result<Vec<String>, Refusal> {
        let ids = || candidates.iter().map(|candidate| candidate.channel.clone());
        let refuse = |code: &str, message: String| Err(Refusal { status: 429, code: code.into(), message });
        match BEHAVIOUR.with_borrow(String::clone).as_str() {
            "reverse" => Ok(ids().rev().collect()),
            "tell" => refuse("told", told(&request, &caller, &candidates).to_string()),
            "trap" => panic!("the marshal stumbles"),
            "loop" => loop {
                std::hint::black_box(());
            },
            "sleep" => {
                std::thread::sleep(std::time::Duration::from_hours(1));
                Ok(Vec::new())
            }
            "eat" => {
                let mut eaten = Vec::new();
                loop {
                    eaten.push(std::hint::black_box("x".repeat(1 << 20)));
                }
            }
            "exit" => std::process::exit(3),
            "huge" => Ok(vec!["x".repeat(2 << 20)]),
            "many" => Ok(std::iter::repeat_n(String::new(), 20_000).collect()),
            "unknown" => Ok(vec!["elsewhere".into()]),
            "forged" => Ok(vec![format!("a\r\nforged: \u{1b}[2J{}", "x".repeat(100_000))]),
            "refuse-with-200" => Err(Refusal { status: 200, code: "fine".into(), message: "fine".into() }),
            "refuse-forged" => refuse("a\r\nforged: 1", "no".into()),
            "twice" => Ok(ids().chain(ids()).collect()),
            "none" => Ok(Vec::new()),
            "refuse" => refuse("all_full", "come back later".into()),
            _ => match request.headers.first() {
                Some((_, order)) => Ok(order.split(',').map(str::to_owned).collect()),
                None => Ok(ids().collect()),
            },
        }
    }
}

fn told(request: &Request, caller: &Caller, candidates: &[Candidate]) -> Value {
    let candidate = |candidate: &Candidate| {
        let signals: Vec<&str> = candidate.signals.iter().map(|(name, _)| name.as_str()).collect();
        json!([candidate.channel, candidate.priority, candidate.weight, candidate.available, signals])
    };
    json!({
        "model": request.model,
        "path": request.path,
        "caller": caller.id,
        "candidates": candidates.iter().map(candidate).collect::<Vec<_>>(),
    })
}
