//! Where usage stands in replies whose format several providers share.
//!
//! An alternative is tried only if the one before is absent, so one set serves a family of formats: for OpenAI's, chat
//! (`usage.prompt_tokens`), responses (`usage.input_tokens`) and the stream of responses (`response.usage…` in its last
//! event). Chunks that carry `usage: null` have none of the pointers and count for nothing.

use aiproxy_plugin_sdk::Meter;

/// Chat, completions, embeddings, rerank, responses and images in OpenAI's format.
#[must_use]
pub fn openai() -> Vec<Meter> {
    vec![
        Meter::last(
            "input",
            &[
                &["/usage/prompt_tokens"],
                &["/usage/input_tokens"],
                &["/response/usage/input_tokens"],
                // Rerank and some embeddings know only a total, which is all input.
                &["/usage/total_tokens"],
            ],
        ),
        Meter::last(
            "output",
            &[&["/usage/completion_tokens"], &["/usage/output_tokens"], &["/response/usage/output_tokens"]],
        ),
        Meter::last(
            "cached-input",
            &[
                &["/usage/prompt_tokens_details/cached_tokens"],
                &["/usage/input_tokens_details/cached_tokens"],
                &["/response/usage/input_tokens_details/cached_tokens"],
                // DeepSeek.
                &["/usage/prompt_cache_hit_tokens"],
            ],
        ),
        Meter::last(
            "reasoning",
            &[
                &["/usage/completion_tokens_details/reasoning_tokens"],
                &["/usage/output_tokens_details/reasoning_tokens"],
                &["/response/usage/output_tokens_details/reasoning_tokens"],
            ],
        ),
        // Transcriptions that are billed by time.
        Meter::last("seconds", &[&["/usage/seconds"]]),
    ]
}

/// Messages in Anthropic's format, whose `input_tokens` leave out what the cache had a part in.
#[must_use]
pub fn anthropic() -> Vec<Meter> {
    vec![
        Meter::last(
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
        Meter::last("output", &[&["/usage/output_tokens"], &["/message/usage/output_tokens"]]),
        Meter::last(
            "cached-input",
            &[&["/usage/cache_read_input_tokens"], &["/message/usage/cache_read_input_tokens"]],
        ),
    ]
}

/// A socket with OpenAI's realtime events: `response.done` carries the usage of one response, and
/// `conversation.item.input_audio_transcription.completed` that of the model that wrote down what it heard.
#[must_use]
pub fn realtime() -> Vec<Meter> {
    let by_response = |name, alternatives| Meter::last(name, alternatives).grouped_by("/response/id");
    let by_item = |name, alternatives| Meter::last(name, alternatives).grouped_by("/item_id");
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
