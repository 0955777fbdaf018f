//! Which of the Gemini API's faces a request is for: the native one, or the OpenAI-compatible one.
//!
//! `/v1/models`, `/v1/files` and `/v1/batches` are short OpenAI paths and native ones as well. google-genai with a base
//! URL calls `/v1/…`, so the form of the client's credential decides, or a `:verb`.

use shared::owner::{Family, family, is_dashscope_path, is_google_path};
use shared::short::{first_segment, resource};
use shared::{Presented, Request};

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

/// Resources under `/v1/` that only the native API has.
const NATIVE: &[&str] = &[
    "auth_tokens",
    "cachedContents",
    "corpora",
    "fileSearchStores",
    "interactions",
    "openai",
    "operations",
    "tunedModels",
];

/// Resources that both have under the same name.
const BOTH: &[&str] = &["models", "files", "batches"];

/// Where a request goes on the Gemini API; none if it is surely another provider's.
pub fn upstream_path(request: &Request) -> Option<String> {
    let path = request.path.as_str();
    if is_google_path(request) {
        return Some(path.to_owned());
    }
    if is_dashscope_path(path) || path.starts_with("/api/") {
        return None;
    }
    let resource = resource(path);
    let first = resource.map_or("", first_segment);
    let is_versioned = path.starts_with("/v1/");
    if is_versioned && (NATIVE.contains(&first) || BOTH.contains(&first) && is_google_client(&request.presented)) {
        return Some(path.to_owned());
    }
    // Anthropic's format, which the Gemini API does not have.
    if first == "messages" {
        return None;
    }
    let model = request.model.as_deref().or_else(|| shared::query_value(request.query.as_deref(), "model"));
    match model.and_then(family) {
        None | Some(Family::Google) => {
            Some(resource.map_or(path.to_owned(), |resource| format!("{OPENAI}/{resource}")))
        }
        Some(Family::Bailian | Family::Open | Family::OpenAi | Family::Anthropic) => None,
    }
}

/// Google's clients show the key as a header of their own, or in the query as they did before.
fn is_google_client(presented: &Presented) -> bool {
    match presented {
        Presented::Header(name) => name == "x-goog-api-key",
        Presented::Query(_) => true,
        Presented::Authorization(_) | Presented::Subprotocol => false,
    }
}

/// The verb of `…/models/{model}:{verb}`.
pub fn verb(path: &str) -> Option<&str> {
    let (_, verb) = path.rsplit_once(':')?;
    (!verb.is_empty() && verb.bytes().all(|byte| byte.is_ascii_alphabetic())).then_some(verb)
}

/// The model that a native call names in its path: a tuned model keeps its collection.
pub fn model(path: &str) -> Option<&str> {
    let verb = verb(path)?;
    let path = path[..path.len() - verb.len()].strip_suffix(':')?;
    let (parent, model) = path.rsplit_once('/')?;
    match parent.rsplit('/').next()? {
        "models" => Some(model),
        "tunedModels" => Some(&path[path.len() - model.len() - "tunedModels/".len()..]),
        _ => None,
    }
}
