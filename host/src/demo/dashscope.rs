//! bailian's native protocol: generation, embeddings, reranking, asynchronous tasks, models, upload policies.
//!
//! A reply streams only with `X-DashScope-SSE: enable`, a job starts only with `X-DashScope-Async: enable`: a gateway
//! that drops those headers is found out.

use http::Method;
use serde_json::{Value, json};

use super::fault::Fault;
use super::openai::dimensions;
use super::reply::{Reply, events, json};
use super::route::{Call, model_of};
use super::text::{self, Conversation};
use super::{Upstream, ranking};

/// Model names begin with one of these.
pub const FAMILIES: &[&str] = &[
    "qwen",
    "qwq",
    "qvq",
    "wan",
    "cosyvoice",
    "paraformer",
    "sambert",
    "fun-asr",
    "gte-rerank",
    "text-embedding-v",
    "multimodal-embedding-v",
    "deepseek",
    "kimi",
    "glm",
];

/// Those that the lists show.
pub const MODELS: &[&str] = &[
    "qwen-max",
    "qwen-plus",
    "qwen-turbo",
    "qwen-vl-plus",
    "deepseek-v3",
    "text-embedding-v4",
    "gte-rerank-v2",
    "wan2.2-t2i-flash",
];

pub fn answer(upstream: &Upstream, call: &Call, rest: &str) -> Result<Reply, Fault> {
    if let (&Method::POST, Some(service)) = (&call.method, rest.strip_prefix("services/")) {
        return run(upstream, call, service);
    }
    match (&call.method, rest) {
        (&Method::GET, "models") => Ok(models(call)),
        (&Method::GET, "files") => {
            Ok(reply(call, "data", &json!({"total": 0, "page_no": 1, "page_size": 10, "files": []})))
        }
        (&Method::GET, "uploads") => policy(call),
        (&Method::GET, _) => match rest.strip_prefix("tasks/") {
            Some(id) => {
                let output = upstream.tasks.lock().ok().and_then(|mut tasks| tasks.look(id));
                // An unknown id is no error there, either.
                let output = output.unwrap_or_else(|| json!({"task_id": id, "task_status": "UNKNOWN"}));
                Ok(reply(call, "output", &output))
            }
            None => Err(Fault::Path),
        },
        _ => Err(Fault::Path),
    }
}

fn reply(call: &Call, name: &str, value: &Value) -> Reply {
    json(&json!({"request_id": call.request_id, name: value}))
}

fn run(upstream: &Upstream, call: &Call, service: &str) -> Result<Reply, Fault> {
    let is_job = matches!(
        service,
        "aigc/text2image/image-synthesis"
            | "aigc/image2image/image-synthesis"
            | "aigc/video-generation/video-synthesis"
            | "audio/asr/transcription"
    );
    let is_known = is_job
        || matches!(
            service,
            "aigc/text-generation/generation"
                | "aigc/multimodal-generation/generation"
                | "embeddings/text-embedding/text-embedding"
                | "embeddings/multimodal-embedding/multimodal-embedding"
                | "rerank/text-rerank/text-rerank"
        );
    if !is_known {
        return Err(Fault::Path);
    }
    let body = call.json()?;
    let model = model_of(body["model"].as_str().unwrap_or_default(), FAMILIES)?;
    let (input, parameters) = (&body["input"], &body["parameters"]);
    if !input.is_object() {
        return Err(Fault::Body("field `input` is required".into()));
    }
    match (is_job, call.says("x-dashscope-async", "enable")) {
        (true, false) => return Err(Fault::AsyncOnly),
        (false, true) => return Err(Fault::SyncOnly),
        _ => {}
    }
    let (output, usage) = match service {
        "aigc/text-generation/generation" => return generation(call, model, input, parameters, false),
        "aigc/multimodal-generation/generation" => return generation(call, model, input, parameters, true),
        "embeddings/text-embedding/text-embedding" => embeddings(&input["texts"], "text_index", parameters)?,
        "embeddings/multimodal-embedding/multimodal-embedding" => embeddings(&input["contents"], "index", parameters)?,
        "rerank/text-rerank/text-rerank" => ranking::native(input, parameters)?,
        _ => {
            let mut tasks = upstream.tasks.lock().map_err(|_| Fault::Internal)?;
            return Ok(reply(call, "output", &tasks.submit(service, &text::text_of(&input["prompt"]))));
        }
    };
    Ok(json(&json!({"output": output, "usage": usage, "request_id": call.request_id})))
}

fn generation(call: &Call, model: &str, input: &Value, parameters: &Value, multimodal: bool) -> Result<Reply, Fault> {
    let conversation = match (&input["messages"], &input["prompt"]) {
        (Value::Array(messages), _) if !messages.is_empty() => Conversation::of(messages),
        (_, Value::String(prompt)) if !multimodal => {
            Conversation { last: prompt.clone(), tokens: text::tokens(prompt) }
        }
        _ => return Err(Fault::Body("either `messages` or `prompt` is required in `input`".into())),
    };
    let answer = conversation.reply("bailian", model);
    let as_message = multimodal || parameters["result_format"] == json!("message");
    let event = |content: &str, so_far: &str, reason: &str| {
        let output = if as_message {
            let content = if multimodal { json!([{"text": content}]) } else { json!(content) };
            json!({"choices": [{"finish_reason": reason, "message": {"role": "assistant", "content": content}}]})
        } else {
            json!({"finish_reason": reason, "text": content})
        };
        let (input, output_tokens) = (conversation.tokens, text::tokens(so_far));
        json!({
            "output": output,
            "usage": {"input_tokens": input, "output_tokens": output_tokens, "total_tokens": input + output_tokens},
            "request_id": call.request_id,
        })
    };
    if !call.says("x-dashscope-sse", "enable") {
        return Ok(json(&event(&answer, &answer, "stop")));
    }
    let incremental = parameters["incremental_output"] == json!(true);
    let mut stream = Vec::new();
    let mut end = 0;
    for piece in text::pieces(&answer) {
        end += piece.len();
        let reason = if end == answer.len() { "stop" } else { "null" };
        let so_far = &answer[..end];
        let data = event(if incremental { piece } else { so_far }, so_far, reason);
        stream.push(format!("id:{}\nevent:result\n:HTTP_STATUS/200\ndata:{data}\n\n", stream.len() + 1));
    }
    Ok(events(stream))
}

fn embeddings(inputs: &Value, index_name: &str, parameters: &Value) -> Result<(Value, Value), Fault> {
    let inputs = match inputs.as_array() {
        Some(inputs) if !inputs.is_empty() => inputs,
        _ => return Err(Fault::Body("`input` holds nothing to embed".into())),
    };
    let dimensions = dimensions(&parameters["dimension"], 1024)?;
    let mut tokens = 0;
    let embeddings: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let input = text::text_of(input);
            tokens += text::tokens(&input);
            json!({index_name: index, "embedding": text::vector(&input, dimensions)})
        })
        .collect();
    Ok((json!({"embeddings": embeddings}), json!({"total_tokens": tokens})))
}

fn models(call: &Call) -> Reply {
    let asked = call.parameter("model");
    let models: Vec<Value> = MODELS
        .iter()
        .filter(|model| asked.is_none_or(|asked| asked == **model))
        .map(|model| json!({"model": model, "name": model, "provider": "demo"}))
        .collect();
    reply(call, "output", &json!({"total": models.len(), "page_no": 1, "page_size": 10, "models": models}))
}

/// The address it names does not exist: nothing is ever uploaded to a demo.
fn policy(call: &Call) -> Result<Reply, Fault> {
    if call.parameter("action") != Some("getPolicy") {
        return Err(Fault::Body("parameter `action` must be `getPolicy`".into()));
    }
    let policy = json!({
        "policy": "ZGVtbw==", "signature": "ZGVtbw==", "upload_dir": text::fresh_id("dashscope-instant/demo/"),
        "upload_host": "https://upload.invalid", "expire_in_seconds": 300, "max_file_size_mb": 100,
        "capacity_limit_mb": 999_999, "oss_access_key_id": "demo", "x_oss_object_acl": "private",
        "x_oss_forbid_overwrite": "true",
    });
    Ok(reply(call, "data", &policy))
}
