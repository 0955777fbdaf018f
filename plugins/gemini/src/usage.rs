//! Where the Gemini API's replies say what was used.

use aiproxy_plugin_sdk::{Meter, Request};
use shared::meters::openai;

use crate::route::{Api, verb};

const OPENAI: u32 = 0;
const NATIVE: u32 = 1;
const LIVE: u32 = 2;

/// The sets, in the order of the constants above.
pub fn meters() -> Vec<Vec<Meter>> {
    vec![openai(), native(), live()]
}

/// The set for a request; none where no usage is reported.
pub fn of(request: &Request, path: &str) -> Option<u32> {
    if request.is_websocket() {
        return Some(LIVE);
    }
    if request.method != "POST" {
        return None;
    }
    match Api::of(path) {
        Api::OpenAi => Some(OPENAI),
        // Counting tokens uses none.
        Api::Native => verb(path).filter(|verb| *verb != "countTokens").map(|_| NATIVE),
        Api::Constrained => None,
    }
}

const INPUT: &[&[&str]] = &[&["/usageMetadata/promptTokenCount", "/usageMetadata/toolUsePromptTokenCount"]];
const CACHED: &[&[&str]] = &[&["/usageMetadata/cachedContentTokenCount"]];
const REASONING: &[&[&str]] = &[&["/usageMetadata/thoughtsTokenCount"]];

/// Every event of a stream has the usage so far; what the model thought is billed as output.
fn native() -> Vec<Meter> {
    vec![
        Meter::last("input", INPUT),
        Meter::last("output", &[&["/usageMetadata/candidatesTokenCount", "/usageMetadata/thoughtsTokenCount"]]),
        Meter::last("cached-input", CACHED),
        Meter::last("reasoning", REASONING),
    ]
}

/// A turn of a Live session is billed by itself, the session so far as its input: so turns are added.
fn live() -> Vec<Meter> {
    vec![
        Meter::sum("input", INPUT),
        Meter::sum("output", &[&["/usageMetadata/responseTokenCount", "/usageMetadata/thoughtsTokenCount"]]),
        Meter::sum("cached-input", CACHED),
        Meter::sum("reasoning", REASONING),
    ]
}
