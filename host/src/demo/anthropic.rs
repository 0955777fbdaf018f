//! The Anthropic messages protocol, as bailian offers it.
//!
//! The key comes as a bearer token there, not as `x-api-key`.

use http::Method;
use serde_json::{Value, json};

use super::dashscope;
use super::fault::Fault;
use super::reply::{Reply, events, json};
use super::route::{Call, model_of};
use super::text::{self, Conversation};

pub fn answer(call: &Call, rest: &str) -> Result<Reply, Fault> {
    if (&call.method, rest) != (&Method::POST, "messages") {
        return Err(Fault::Path);
    }
    let body = call.json()?;
    let model = model_of(body["model"].as_str().unwrap_or_default(), dashscope::FAMILIES)?;
    let messages = match body["messages"].as_array() {
        Some(messages) if !messages.is_empty() => messages,
        _ => return Err(Fault::Body("messages: Field required".into())),
    };
    if body["max_tokens"].as_u64().is_none() {
        return Err(Fault::Body("max_tokens: Field required".into()));
    }
    let conversation = Conversation::of(messages);
    let input = conversation.tokens + text::tokens(&text::text_of(&body["system"]));
    let reply = conversation.reply("bailian", model);
    let output = text::tokens(&reply);
    let mut message = json!({
        "id": text::fresh_id("msg_"), "type": "message", "role": "assistant", "model": model,
        "content": [{"type": "text", "text": reply}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": input, "output_tokens": output},
    });
    if body["stream"] != json!(true) {
        return Ok(json(&message));
    }
    message["content"] = json!([]);
    message["stop_reason"] = Value::Null;
    message["usage"]["output_tokens"] = json!(1);
    let mut stream = vec![
        event(&json!({"type": "message_start", "message": message})),
        event(&json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})),
    ];
    for piece in text::pieces(&reply) {
        let delta = json!({"type": "text_delta", "text": piece});
        stream.push(event(&json!({"type": "content_block_delta", "index": 0, "delta": delta})));
    }
    stream.push(event(&json!({"type": "content_block_stop", "index": 0})));
    stream.push(event(&json!({
        "type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
        "usage": {"output_tokens": output},
    })));
    stream.push(event(&json!({"type": "message_stop"})));
    Ok(events(stream))
}

/// An event carries its type twice.
fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}
