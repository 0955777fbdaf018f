//! The endpoint of a request: method and path with what names one thing among many folded to a placeholder.
//!
//! Paths come from strangers and hold ids: without folding there would be a series for each file, task and model.

use std::fmt::Write;

use http::Method;

/// Longer ones are cut: no provider has such paths.
const BYTES_MAX: usize = 120;
/// What is followed by an id, whatever that looks like.
const COLLECTIONS: [&str; 19] = [
    "assistants",
    "batches",
    "cachedContents",
    "checkpoints",
    "containers",
    "conversations",
    "corpora",
    "deployments",
    "documents",
    "evals",
    "files",
    "jobs",
    "messages",
    "operations",
    "responses",
    "runs",
    "tasks",
    "threads",
    "vector_stores",
];
/// What may follow a collection without being an id.
const VERBS: [&str; 9] =
    ["batches", "cancel", "compact", "content", "count_tokens", "generate", "input_items", "runs", "search"];

/// Appends the endpoint of a request to `out`.
pub fn write(method: &Method, path: &str, model: &str, out: &mut String) {
    let begin = out.len();
    out.push_str(match method.as_str() {
        name @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => name,
        // Over HTTP/2 a WebSocket is opened by CONNECT.
        "CONNECT" => "GET",
        _ => "_OTHER",
    });
    out.push(' ');
    let mut before = "";
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        out.push('/');
        // `models/gemini-2.5-flash:generateContent`: a verb behind a colon is the provider's.
        let (name, verb) = segment.split_once(':').map_or((segment, None), |(name, verb)| (name, Some(verb)));
        let is_verb = |text: &str| VERBS.contains(&text);
        if name.is_empty() {
            // Nothing to fold.
        } else if before == "models" || name == model {
            out.push_str("{model}");
        } else if is_fixed(name) && (!COLLECTIONS.contains(&before) || is_verb(name)) {
            out.push_str(name);
        } else {
            out.push_str("{id}");
        }
        if let Some(verb) = verb {
            let verb = if is_fixed(verb) { verb } else { "{id}" };
            let _ = write!(out, ":{verb}");
        }
        before = segment;
        if out.len() - begin > BYTES_MAX {
            out.truncate(begin + BYTES_MAX);
            out.push('…');
            return;
        }
    }
}

/// Whether a segment is one of an API's words: letters, hyphens and underscores, a version, or `text2image`.
fn is_fixed(segment: &str) -> bool {
    if segment.len() > 32 {
        return false;
    }
    let bytes = segment.as_bytes();
    let mut digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    if let [b'v', b'0'..=b'9', ..] = bytes {
        // `v1`, `v1beta2`, `v1p1beta1`
        digits = digits.saturating_sub(3);
    } else if let Some(at) = bytes.iter().position(|byte| *byte == b'2')
        && at > 0
        && bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic)
    {
        digits -= 1;
    }
    digits == 0 && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoint(method: &str, path: &str, model: &str) -> String {
        let mut out = String::new();
        write(&method.parse().unwrap(), path, model, &mut out);
        out
    }

    #[test]
    fn words_stay_and_ids_and_models_are_folded() {
        for (path, model, expected) in [
            ("/v1/chat/completions", "gpt-4o", "POST /v1/chat/completions"),
            (
                "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
                "",
                "POST /v1beta/models/{model}:streamGenerateContent",
            ),
            ("/v1/models/gpt-4o", "", "POST /v1/models/{model}"),
            ("/v1/models", "", "POST /v1/models"),
            ("/openai/deployments/my-own/chat/completions", "", "POST /openai/deployments/{id}/chat/completions"),
            ("/api/v1/tasks/0f1b4e2c-86a5-4a46-b1e1-7d0e7f7e4a11", "", "POST /api/v1/tasks/{id}"),
            ("/v1/files/file-abc/content", "", "POST /v1/files/{id}/content"),
            (
                "/v1/responses/resp_68af4030592c81938ec0a5fbab4a3e9f/input_items",
                "",
                "POST /v1/responses/{id}/input_items",
            ),
            ("/v1/messages/batches", "", "POST /v1/messages/batches"),
            ("/v1/messages/count_tokens", "", "POST /v1/messages/count_tokens"),
            (
                "/api/v1/services/aigc/text2image/image-synthesis",
                "wanx",
                "POST /api/v1/services/aigc/text2image/image-synthesis",
            ),
            ("/v1/threads/thread_abc/runs/run_1", "", "POST /v1/threads/{id}/runs/{id}"),
            ("/fine-tunes/wanx/x", "wanx", "POST /fine-tunes/{model}/x"),
            ("/", "", "POST /"),
            ("/a//b", "", "POST /a//b"),
            ("/users/12345", "", "POST /users/{id}"),
            ("/x/%E4%BD%A0", "", "POST /x/{id}"),
        ] {
            assert_eq!(endpoint("POST", path, model), expected);
        }
        assert_eq!(endpoint("BREW", "/v1/x", ""), "_OTHER /v1/x");
        assert_eq!(endpoint("CONNECT", "/ws", ""), "GET /ws");
    }

    proptest! {
        #[test]
        fn whatever_the_path_the_endpoint_is_short_and_printable(path in "/\\PC{0,300}", model in "\\PC{0,20}") {
            let endpoint = endpoint("POST", &path, &model);
            prop_assert!(endpoint.len() <= BYTES_MAX + 3);
            prop_assert!(endpoint.chars().all(|letter| letter.is_ascii_graphic() || letter == ' ' || letter == '…'));
        }
    }
}
