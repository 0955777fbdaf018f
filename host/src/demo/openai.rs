//! The OpenAI protocol, as both providers offer it: chat, completions, embeddings, models, files.
//!
//! What differs between the two is in [`Dialect`]; tools, several choices and sampling parameters are ignored.

use http::Method;
use serde_json::{Value, json};

use super::fault::Fault;
use super::reply::{Reply, events, json};
use super::route::{Call, model_of};
use super::text::{self, Conversation};

pub struct Dialect {
    provider: &'static str,
    /// Model names begin with one of these.
    families: &'static [&'static str],
    /// Those that the list shows.
    models: &'static [&'static str],
    /// Of an embedding, unless the request asks for another number.
    dimensions: u64,
}

pub const BAILIAN: Dialect = Dialect {
    provider: "bailian",
    families: super::dashscope::FAMILIES,
    models: super::dashscope::MODELS,
    dimensions: 1024,
};

pub const GEMINI: Dialect = Dialect {
    provider: "gemini",
    families: super::gemini::FAMILIES,
    models: &["models/gemini-2.5-flash", "models/gemini-2.5-pro", "models/gemini-embedding-001"],
    dimensions: 3072,
};

pub fn answer(call: &Call, rest: &str, dialect: &Dialect) -> Result<Reply, Fault> {
    match (&call.method, rest) {
        (&Method::POST, "chat/completions") => chat(&call.json()?, dialect),
        (&Method::POST, "completions") => completion(&call.json()?, dialect),
        (&Method::POST, "embeddings") => embeddings(&call.json()?, dialect),
        (&Method::GET, "models") => {
            let models: Vec<Value> = dialect.models.iter().map(|id| model_entry(id, dialect)).collect();
            Ok(json(&json!({"object": "list", "data": models})))
        }
        (&Method::GET, "files") => Ok(json(&json!({"object": "list", "data": [], "has_more": false}))),
        (&Method::GET, _) => match rest.strip_prefix("models/") {
            Some(name) => Ok(json(&model_entry(model_of(name, dialect.families)?, dialect))),
            None => Err(Fault::Path),
        },
        _ => Err(Fault::Path),
    }
}

fn model_entry(id: &str, dialect: &Dialect) -> Value {
    let owner = if dialect.provider == "gemini" { "google" } else { "system" };
    json!({"id": id, "object": "model", "created": 1_735_689_600, "owned_by": owner})
}

fn model<'a>(body: &'a Value, dialect: &Dialect) -> Result<&'a str, Fault> {
    model_of(body["model"].as_str().unwrap_or_default(), dialect.families)
}

fn chat(body: &Value, dialect: &Dialect) -> Result<Reply, Fault> {
    let model = model(body, dialect)?;
    let messages = match body["messages"].as_array() {
        Some(messages) if !messages.is_empty() => messages,
        _ => return Err(Fault::Body("field `messages` must be a list with at least one message".into())),
    };
    let conversation = Conversation::of(messages);
    let reply = conversation.reply(dialect.provider, model);
    let usage = usage(conversation.tokens, text::tokens(&reply));
    let id = text::fresh_id("chatcmpl-");
    let created = text::now_s();
    if body["stream"] != json!(true) {
        return Ok(json(&json!({
            "id": id, "object": "chat.completion", "created": created, "model": model,
            "choices": [{
                "index": 0, "message": {"role": "assistant", "content": reply},
                "finish_reason": "stop", "logprobs": null,
            }],
            "usage": usage,
        })));
    }
    let with_usage = body["stream_options"]["include_usage"] == json!(true);
    let chunk = |choices: Value, usage: Option<&Value>| {
        let mut chunk = json!({
            "id": id, "object": "chat.completion.chunk", "created": created, "model": model, "choices": choices,
        });
        if with_usage {
            chunk["usage"] = usage.cloned().unwrap_or_default();
        }
        format!("data: {chunk}\n\n")
    };
    let delta = |delta: Value, reason: Value| json!([{"index": 0, "delta": delta, "finish_reason": reason}]);
    let mut stream = vec![chunk(delta(json!({"role": "assistant", "content": ""}), Value::Null), None)];
    for piece in text::pieces(&reply) {
        stream.push(chunk(delta(json!({"content": piece}), Value::Null), None));
    }
    stream.push(chunk(delta(json!({}), json!("stop")), None));
    if with_usage {
        stream.push(chunk(json!([]), Some(&usage)));
    }
    stream.push("data: [DONE]\n\n".into());
    Ok(events(stream))
}

/// The older protocol, never streamed here.
fn completion(body: &Value, dialect: &Dialect) -> Result<Reply, Fault> {
    let model = model(body, dialect)?;
    let prompt = body["prompt"].as_str().ok_or_else(|| Fault::Body("field `prompt` must be a string".into()))?;
    let conversation = Conversation { last: prompt.into(), tokens: text::tokens(prompt) };
    let reply = conversation.reply(dialect.provider, model);
    Ok(json(&json!({
        "id": text::fresh_id("cmpl-"), "object": "text_completion", "created": text::now_s(), "model": model,
        "usage": usage(conversation.tokens, text::tokens(&reply)),
        "choices": [{"index": 0, "text": reply, "finish_reason": "stop", "logprobs": null}],
    })))
}

fn embeddings(body: &Value, dialect: &Dialect) -> Result<Reply, Fault> {
    let model = model(body, dialect)?;
    let inputs: Vec<&str> = match &body["input"] {
        Value::String(input) => vec![input],
        Value::Array(inputs) if !inputs.is_empty() => inputs.iter().filter_map(Value::as_str).collect(),
        _ => return Err(Fault::Body("field `input` must be a string or a list of strings".into())),
    };
    let dimensions = dimensions(&body["dimensions"], dialect.dimensions)?;
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            json!({"object": "embedding", "index": index, "embedding": text::vector(input, dimensions)})
        })
        .collect();
    let tokens: u64 = inputs.iter().map(|input| text::tokens(input)).sum();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Ok(json(&json!({"object": "list", "model": model, "data": data, "usage": usage})))
}

/// What a request asks for, or the default.
pub fn dimensions(asked: &Value, default: u64) -> Result<usize, Fault> {
    match asked.as_u64() {
        None if asked.is_null() => Ok(default as usize),
        Some(asked @ 1..=4096) => Ok(asked as usize),
        _ => Err(Fault::Body("the number of dimensions must be between 1 and 4096".into())),
    }
}

fn usage(prompt: u64, completion: u64) -> Value {
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}
