//! Gemini's native protocol: generation, token counts, embeddings, models, the list of files.
//!
//! A stream is server-sent events only with `alt=sse`, else a JSON array that grows, as the provider has it.

use http::Method;
use serde_json::{Value, json};

use super::fault::Fault;
use super::openai::dimensions;
use super::reply::{Reply, events, json, paced};
use super::route::{Call, model_of};
use super::text::{self, Conversation};

/// Model names begin with one of these.
pub const FAMILIES: &[&str] = &["gemini", "gemma", "imagen", "veo", "text-embedding-004", "learnlm"];

const MODELS: &[(&str, &str)] = &[
    ("gemini-2.5-flash", "generateContent"),
    ("gemini-2.5-pro", "generateContent"),
    ("gemini-embedding-001", "embedContent"),
];

/// Of an embedding, unless the request asks for another number.
const DIMENSIONS: u64 = 3072;

pub fn answer(call: &Call, rest: &str) -> Result<Reply, Fault> {
    match (&call.method, rest) {
        (&Method::GET, "models") => {
            let models: Vec<Value> = MODELS.iter().map(|(name, verb)| model_entry(name, verb)).collect();
            return Ok(json(&json!({"models": models})));
        }
        (&Method::GET, "files") => return Ok(json(&json!({"files": []}))),
        _ => {}
    }
    let target = rest.strip_prefix("models/").ok_or(Fault::Path)?;
    match (&call.method, target.split_once(':')) {
        (&Method::GET, None) => {
            let model = model_of(target, FAMILIES)?;
            let verb = if model.contains("embedding") { "embedContent" } else { "generateContent" };
            Ok(json(&model_entry(model, verb)))
        }
        (&Method::POST, Some((model, verb))) => {
            if !["generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"]
                .contains(&verb)
            {
                return Err(Fault::Path);
            }
            let body = call.json()?;
            let model = model_of(model, FAMILIES)?;
            match verb {
                "countTokens" => {
                    // Either the contents alone or a whole request to be counted.
                    let request = body.get("generateContentRequest").unwrap_or(&body);
                    let tokens = conversation(request)?.tokens;
                    let details = json!([{"modality": "TEXT", "tokenCount": tokens}]);
                    Ok(json(&json!({"totalTokens": tokens, "promptTokensDetails": details})))
                }
                "embedContent" => Ok(json(&json!({"embedding": embedding(&body)?}))),
                "batchEmbedContents" => {
                    let requests = body["requests"]
                        .as_array()
                        .ok_or_else(|| Fault::Body("\"requests\": a list is required".into()))?;
                    let embeddings: Vec<Value> = requests.iter().map(embedding).collect::<Result<_, _>>()?;
                    Ok(json(&json!({"embeddings": embeddings})))
                }
                _ => generate(call, model, &conversation(&body)?, verb == "streamGenerateContent"),
            }
        }
        _ => Err(Fault::Path),
    }
}

fn model_entry(name: &str, verb: &str) -> Value {
    json!({
        "name": format!("models/{name}"), "version": "001", "displayName": name,
        "description": "A model of the demo upstream.", "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
        "supportedGenerationMethods": [verb, "countTokens"],
    })
}

fn conversation(body: &Value) -> Result<Conversation, Fault> {
    let contents = match body["contents"].as_array() {
        Some(contents) if !contents.is_empty() => contents,
        _ => return Err(Fault::Body("\"contents\": contents is not specified".into())),
    };
    let mut conversation = Conversation::of(contents);
    conversation.tokens += text::tokens(&text::text_of(&body["systemInstruction"]));
    Ok(conversation)
}

fn embedding(request: &Value) -> Result<Value, Fault> {
    if request["content"].is_null() {
        return Err(Fault::Body("\"content\": content is not specified".into()));
    }
    let asked = [&request["outputDimensionality"], &request["output_dimensionality"]];
    let asked = asked.into_iter().find(|asked| !asked.is_null()).unwrap_or(&Value::Null);
    let dimensions = dimensions(asked, DIMENSIONS)?;
    Ok(json!({"values": text::vector(&text::text_of(&request["content"]), dimensions)}))
}

fn generate(call: &Call, model: &str, conversation: &Conversation, streamed: bool) -> Result<Reply, Fault> {
    let reply = conversation.reply("gemini", model);
    let response_id = text::fresh_id("");
    // The larger models "think": their thoughts are counted, beside the candidates.
    let thoughts = if model.contains("pro") { 7 } else { 0 };
    let event = |piece: &str, so_far: &str, is_last: bool| {
        let candidates = text::tokens(so_far);
        let mut candidate = json!({"content": {"parts": [{"text": piece}], "role": "model"}, "index": 0});
        if is_last {
            candidate["finishReason"] = json!("STOP");
        }
        let mut usage = json!({
            "promptTokenCount": conversation.tokens, "candidatesTokenCount": candidates,
            "totalTokenCount": conversation.tokens + candidates + thoughts,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": conversation.tokens}],
        });
        if thoughts > 0 {
            usage["thoughtsTokenCount"] = json!(thoughts);
        }
        json!({
            "candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": response_id,
        })
    };
    if !streamed {
        return Ok(json(&event(&reply, &reply, true)));
    }
    let mut pieces = Vec::new();
    let mut end = 0;
    for piece in text::pieces(&reply) {
        end += piece.len();
        pieces.push(event(piece, &reply[..end], end == reply.len()));
    }
    match call.parameter("alt") {
        Some("sse") => Ok(events(pieces.iter().map(|piece| format!("data: {piece}\r\n\r\n")))),
        None | Some("json") => {
            let last = pieces.len() - 1;
            let array = pieces.iter().enumerate().map(|(index, piece)| {
                let open = if index == 0 { "[" } else { ",\r\n" };
                let close = if index == last { "\n]\n" } else { "\n" };
                format!("{open}{piece}{close}")
            });
            Ok(paced("application/json; charset=UTF-8", array))
        }
        Some(_) => Err(Fault::Body("\"alt\": must be json or sse".into())),
    }
}
