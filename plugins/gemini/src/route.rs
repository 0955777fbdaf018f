//! Which of the Gemini API's faces a request is for: the native one, or the OpenAI-compatible one.
//!
//! `/v1/models`, `/v1/files` and `/v1/batches` are short OpenAI paths and native ones as well. google-genai with a base
//! URL calls `/v1/…`, so the form of the client's credential decides, or a `:verb`.

use aiproxy_plugin_sdk::{Presented, Request};
use shared::owner::{Family, family, is_dashscope_path, is_google_request};
use shared::short::{first_segment, resource};

const OPENAI: &str = "/v1beta/openai";

/// What is known of an upstream path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    Native,
    OpenAi,
    /// A Live socket that is opened with an ephemeral token.
    Constrained,
}

impl Api {
    pub fn of(path: &str) -> Self {
        if path.ends_with(".BidiGenerateContentConstrained") {
            Self::Constrained
        } else if ["/v1beta/openai/", "/v1alpha/openai/", "/v1/openai/"].iter().any(|prefix| path.starts_with(prefix)) {
            Self::OpenAi
        } else {
            Self::Native
        }
    }
}

/// Where a request goes on the Gemini API; none if it is surely another provider's.
pub fn upstream_path(request: &Request) -> Option<String> {
    let path = request.path.as_str();
    if is_google_request(request) || is_ambiguous_with_legacy_key(request) || Api::of(path) == Api::OpenAi {
        return Some(path.to_owned());
    }
    if is_dashscope_path(path) || path.starts_with("/api/") {
        return None;
    }
    let resource = resource(path);
    let first = resource.map_or("", first_segment);
    // Anthropic's format, which the Gemini API does not have.
    if first == "messages" {
        return None;
    }
    let model = request.model.as_deref().or_else(|| request.query_value("model"));
    match model.and_then(family) {
        None | Some(Family::Google) => {
            Some(resource.map_or(path.to_owned(), |resource| format!("{OPENAI}/{resource}")))
        }
        Some(Family::Bailian | Family::Open | Family::OpenAi | Family::Anthropic) => None,
    }
}

/// As Google's clients did before they had a header for the key.
fn is_ambiguous_with_legacy_key(request: &Request) -> bool {
    let under_v1 = request.path.strip_prefix("/v1/").map_or("", first_segment);
    matches!(request.presented, Presented::Query(_)) && matches!(under_v1, "models" | "files" | "batches")
}

/// The verb of `…/models/{model}:{verb}`.
pub fn verb(path: &str) -> Option<&str> {
    let (_, verb) = path.rsplit_once(':')?;
    (!verb.is_empty() && verb.bytes().all(|byte| byte.is_ascii_alphabetic())).then_some(verb)
}

/// The model as statistics know it, if the request's own field does not say it just so: a native call names it in its
/// path, and a compatible one may write `models/…`.
pub fn model<'r>(path: &'r str, field: Option<&'r str>) -> Option<&'r str> {
    model_in_path(path).or_else(|| field?.strip_prefix("models/"))
}

/// A tuned model keeps its collection.
fn model_in_path(path: &str) -> Option<&str> {
    let verb = verb(path)?;
    let path = path[..path.len() - verb.len()].strip_suffix(':')?;
    let (parent, model) = path.rsplit_once('/')?;
    match parent.rsplit('/').next()? {
        "models" => Some(model),
        "tunedModels" => Some(&path[path.len() - model.len() - "tunedModels/".len()..]),
        _ => None,
    }
}
