//! Where DashScope's replies say what was used, by the path a request is sent to.

use aiproxy_plugin_sdk::{Meter, Request};
use shared::meters::{anthropic, openai, realtime};

const COMPATIBLE: u32 = 0;
const ANTHROPIC: u32 = 1;
const NATIVE: u32 = 2;
const INFERENCE_SOCKET: u32 = 3;
const REALTIME_SOCKET: u32 = 4;

/// The sets, in the order of the constants above.
pub fn meters() -> Vec<Vec<Meter>> {
    vec![openai(), anthropic(), native(), inference_socket(), realtime()]
}

/// The set for a request; none where no usage is reported.
pub fn of(request: &Request, path: &str) -> Option<u32> {
    let begins = |prefix| path.starts_with(prefix);
    if request.is_websocket() {
        return Some(if begins("/api-ws/v1/realtime") { REALTIME_SOCKET } else { INFERENCE_SOCKET });
    }
    // The result of an asynchronous task comes with its usage when it is fetched.
    if begins("/api/v1/tasks/") {
        return Some(NATIVE);
    }
    // A stored response carries its usage again when it is read.
    if request.method != "POST" {
        return None;
    }
    if begins("/compatible-mode/") || begins("/compatible-api/") {
        Some(COMPATIBLE)
    } else if begins("/apps/anthropic/") {
        // Counting tokens uses none.
        (!path.ends_with("/count_tokens")).then_some(ANTHROPIC)
    } else if begins("/api/v1/services/") || begins("/api/v1/apps/") {
        Some(NATIVE)
    } else {
        None
    }
}

/// Every event of a stream has the usage so far.
fn native() -> Vec<Meter> {
    vec![
        Meter::last(
            "input",
            &[
                &["/usage/input_tokens"],
                &["/usage/prompt_tokens"],
                // An application reports by model.
                &["/usage/models/0/input_tokens", "/usage/models/1/input_tokens", "/usage/models/2/input_tokens"],
                // Embeddings and rerank know only a total, which is all input.
                &["/usage/total_tokens"],
            ],
        ),
        Meter::last(
            "output",
            &[
                &["/usage/output_tokens"],
                &["/usage/completion_tokens"],
                &["/usage/models/0/output_tokens", "/usage/models/1/output_tokens", "/usage/models/2/output_tokens"],
            ],
        ),
        Meter::last(
            "cached-input",
            &[&["/usage/prompt_tokens_details/cached_tokens"], &["/usage/input_tokens_details/cached_tokens"]],
        ),
        Meter::last(
            "reasoning",
            &[
                &["/usage/output_tokens_details/reasoning_tokens"],
                &["/usage/completion_tokens_details/reasoning_tokens"],
            ],
        ),
        Meter::last("images", &[&["/usage/image_count"]]),
        Meter::last("seconds", &[&["/usage/video_duration"], &["/usage/duration"], &["/usage/seconds"]]),
        Meter::last("characters", &[&["/usage/characters"]]),
    ]
}

/// One socket carries many tasks, one after the other.
fn inference_socket() -> Vec<Meter> {
    let by_task = |name, alternatives| Meter::last(name, alternatives).grouped_by("/header/task_id");
    vec![
        by_task("input", &[&["/payload/usage/input_tokens"]]),
        by_task("output", &[&["/payload/usage/output_tokens"]]),
        by_task("characters", &[&["/payload/usage/characters"]]),
        by_task("seconds", &[&["/payload/usage/duration"]]),
    ]
}
