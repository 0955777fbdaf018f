//! Where usage stands in replies whose format several providers share.
//!
//! An alternative is tried only if the one before is absent, so one set serves a family of formats: for OpenAI's, chat
//! (`usage.prompt_tokens`), responses (`usage.input_tokens`) and the stream of responses (`response.usage…` in its last
//! event). Chunks that carry `usage: null` have none of the pointers and count for nothing.

use crate::{Fold, Meter};

/// A quantity of which the last value counts; each alternative is a list of pointers whose values are added.
#[must_use]
pub fn last(name: &str, alternatives: &[&[&str]]) -> Meter {
    meter(name, alternatives, Fold::Last, None)
}

/// As [`last`], within an id; the ids' values are added up.
#[must_use]
pub fn last_by(group: &str, name: &str, alternatives: &[&[&str]]) -> Meter {
    meter(name, alternatives, Fold::Last, Some(group))
}

/// A quantity that comes in increments.
#[must_use]
pub fn sum(name: &str, alternatives: &[&[&str]]) -> Meter {
    meter(name, alternatives, Fold::Sum, None)
}

fn meter(name: &str, alternatives: &[&[&str]], fold: Fold, group: Option<&str>) -> Meter {
    Meter {
        name: name.to_owned(),
        alternatives: alternatives.iter().map(|alternative| owned(alternative)).collect(),
        fold,
        group: group.map(str::to_owned),
    }
}

fn owned(pointers: &[&str]) -> Vec<String> {
    pointers.iter().map(|&pointer| pointer.to_owned()).collect()
}

/// Chat, completions, embeddings, rerank, responses and images in OpenAI's format.
#[must_use]
pub fn openai() -> Vec<Meter> {
    vec![
        last(
            "input",
            &[
                &["/usage/prompt_tokens"],
                &["/usage/input_tokens"],
                &["/response/usage/input_tokens"],
                // Rerank and some embeddings know only a total, which is all input.
                &["/usage/total_tokens"],
            ],
        ),
        last("output", &[&["/usage/completion_tokens"], &["/usage/output_tokens"], &["/response/usage/output_tokens"]]),
        last(
            "cached-input",
            &[
                &["/usage/prompt_tokens_details/cached_tokens"],
                &["/usage/input_tokens_details/cached_tokens"],
                &["/response/usage/input_tokens_details/cached_tokens"],
                // DeepSeek.
                &["/usage/prompt_cache_hit_tokens"],
            ],
        ),
        last(
            "reasoning",
            &[
                &["/usage/completion_tokens_details/reasoning_tokens"],
                &["/usage/output_tokens_details/reasoning_tokens"],
                &["/response/usage/output_tokens_details/reasoning_tokens"],
            ],
        ),
        // Transcriptions that are billed by time.
        last("seconds", &[&["/usage/seconds"]]),
    ]
}

/// Messages in Anthropic's format, whose `input_tokens` leave out what the cache had a part in.
#[must_use]
pub fn anthropic() -> Vec<Meter> {
    vec![
        last(
            "input",
            &[
                &["/usage/input_tokens", "/usage/cache_read_input_tokens", "/usage/cache_creation_input_tokens"],
                &[
                    "/message/usage/input_tokens",
                    "/message/usage/cache_read_input_tokens",
                    "/message/usage/cache_creation_input_tokens",
                ],
            ],
        ),
        last("output", &[&["/usage/output_tokens"], &["/message/usage/output_tokens"]]),
        last("cached-input", &[&["/usage/cache_read_input_tokens"], &["/message/usage/cache_read_input_tokens"]]),
    ]
}

/// A socket with OpenAI's realtime events: `response.done` carries the usage of one response, and
/// `conversation.item.input_audio_transcription.completed` that of the model that wrote down what it heard.
#[must_use]
pub fn realtime() -> Vec<Meter> {
    let by_response = |name, alternatives| last_by("/response/id", name, alternatives);
    let by_item = |name, alternatives| last_by("/item_id", name, alternatives);
    vec![
        by_response("input", &[&["/response/usage/input_tokens"]]),
        by_response("output", &[&["/response/usage/output_tokens"]]),
        by_response(
            "cached-input",
            // OpenAI's spelling, then DashScope's.
            &[
                &["/response/usage/input_token_details/cached_tokens"],
                &["/response/usage/input_tokens_details/cached_tokens"],
            ],
        ),
        // DashScope's models for speech, which are billed by what they say.
        by_response("characters", &[&["/response/usage/characters"]]),
        by_item("input", &[&["/usage/input_tokens"]]),
        by_item("output", &[&["/usage/output_tokens"]]),
        by_item("seconds", &[&["/usage/seconds"]]),
    ]
}
