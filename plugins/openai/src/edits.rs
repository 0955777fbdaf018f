//! Edits of the request's body: the model's name, and the fields that the settings set or remove.
//!
//! The host refuses to edit a body that is not JSON, so edits are asked for only where the body surely is: a reading
//! of a file list, an empty `cancel` and a multipart upload go through as they are.

use aiproxy_plugin_sdk::{BodyEdit, Request};
use shared::short::resource;

use crate::config::Config;

/// Resources that are posted to with a JSON body, always.
const JSON: &[&str] = &[
    "audio/speech",
    "chat/completions",
    "completions",
    "embeddings",
    "images/generations",
    "messages",
    "moderations",
    "reranks",
    "responses",
];

/// Resources whose bodies are, or may be, multipart forms.
const MULTIPART: &[&str] =
    &["audio/transcriptions", "audio/translations", "files", "images/edits", "uploads", "videos"];

/// The body edits for a request, `model` being the provider's name where the client used another.
pub fn of(request: &Request, model: Option<&str>, config: &Config) -> Vec<BodyEdit> {
    let resource = resource_of(&request.path, &config.prefix);
    if request.is_websocket() || !has_json_body(request, resource) {
        return Vec::new();
    }
    let mut edits = Vec::new();
    if let Some(model) = model {
        edits.push(BodyEdit::Set(("/model".to_owned(), serde_json::Value::from(model).to_string())));
    }
    if config.stream_usage && request.streaming && matches!(resource, "chat/completions" | "completions") {
        edits.push(BodyEdit::SetIfAbsent(("/stream_options".to_owned(), r#"{"include_usage":true}"#.to_owned())));
    }
    edits.extend(config.body.iter().cloned());
    edits
}

fn has_json_body(request: &Request, resource: &str) -> bool {
    request.method == "POST"
        && (JSON.contains(&resource)
            || request.model.is_some() && !MULTIPART.iter().any(|multipart| resource.starts_with(multipart)))
}

/// `chat/completions` of `/v1/chat/completions`, `/chat/completions` and, with that prefix, `/openai/v1/chat/completions`.
fn resource_of<'p>(path: &'p str, prefix: &str) -> &'p str {
    let after_prefix = path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/'));
    let after_prefix = if prefix.is_empty() { None } else { after_prefix };
    after_prefix.or_else(|| resource(path)).unwrap_or(path)
}
