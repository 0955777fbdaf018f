//! Whose a request surely is.
//!
//! A proxy key may lead to several channels, and each plugin declines what is another's, so that the right one is
//! found. But providers add models and paths daily, and a key with one channel has nobody else to ask: so only what
//! cannot be a provider's own is declined, and what nobody knows is sent. Incomplete by nature, and harmlessly so.

use aiproxy_plugin_sdk::{Presented, Request};

use crate::short::first_segment;

/// Who serves a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Bailian alone.
    Bailian,
    /// Many providers, Bailian among them; not Google.
    Open,
    Google,
    OpenAi,
    Anthropic,
}

/// By how a model's name begins; the first that fits.
const FAMILIES: &[(&str, Family)] = &[
    ("gemini", Family::Google),
    ("gemma", Family::Google),
    ("imagen-", Family::Google),
    ("veo-", Family::Google),
    ("learnlm", Family::Google),
    ("text-embedding-004", Family::Google),
    ("embedding-001", Family::Google),
    ("tunedmodels/", Family::Google),
    ("qwen", Family::Bailian),
    ("qwq", Family::Bailian),
    ("qvq", Family::Bailian),
    ("wan", Family::Bailian),
    ("cosyvoice", Family::Bailian),
    ("paraformer", Family::Bailian),
    ("sambert", Family::Bailian),
    ("fun-asr", Family::Bailian),
    ("gte-rerank", Family::Bailian),
    ("text-embedding-v", Family::Bailian),
    ("multimodal-embedding-v", Family::Bailian),
    ("deepseek", Family::Open),
    ("kimi", Family::Open),
    ("glm", Family::Open),
    ("gpt-oss", Family::Open),
    ("gpt-", Family::OpenAi),
    ("chatgpt-", Family::OpenAi),
    ("o1-", Family::OpenAi),
    ("o3-", Family::OpenAi),
    ("o4-", Family::OpenAi),
    ("dall-e-", Family::OpenAi),
    ("text-embedding-3-", Family::OpenAi),
    ("text-embedding-ada-", Family::OpenAi),
    ("claude-", Family::Anthropic),
];

/// The family of a model, by its name; none where the name does not tell.
#[must_use]
pub fn family(model: &str) -> Option<Family> {
    // Google's own clients write `models/gemini-…`.
    let model = model.strip_prefix("models/").unwrap_or(model);
    let begins = |prefix: &str| model.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    FAMILIES.iter().find(|(prefix, _)| begins(prefix)).map(|(_, family)| *family)
}

/// A path that only DashScope has. (`/api/v1/models` is not among them: OpenRouter's API lives under `/api/v1`.)
#[must_use]
pub fn is_dashscope_path(path: &str) -> bool {
    const PREFIXES: &[&str] = &[
        "/compatible-mode/",
        "/compatible-api/",
        "/apps/anthropic/",
        "/api-ws/",
        "/api/v1/services/",
        "/api/v1/tasks/",
        "/api/v1/apps/",
        "/api/v1/uploads",
    ];
    PREFIXES.iter().any(|prefix| path.starts_with(prefix))
}

/// A request that only the Gemini API has a place for.
///
/// `/v1/models`, `/v1/files` and `/v1/batches` are also short paths of OpenAI's; there the form of the credential tells
/// which is meant, since google-genai with a base URL calls `/v1/…` and shows `x-goog-api-key`.
#[must_use]
pub fn is_google_request(request: &Request) -> bool {
    const PREFIXES: &[&str] = &["/v1beta", "/v1alpha", "/upload/v1", "/download/v1", "/ws/google."];
    const RESOURCES: &[&str] =
        &["auth_tokens", "cachedContents", "corpora", "fileSearchStores", "interactions", "operations", "tunedModels"];
    const AMBIGUOUS: &[&str] = &["models", "files", "batches"];
    let path = request.path.as_str();
    let under_v1 = path.strip_prefix("/v1/").map_or("", first_segment);
    PREFIXES.iter().any(|prefix| path.starts_with(prefix))
        || RESOURCES.contains(&under_v1)
        || AMBIGUOUS.contains(&under_v1) && is_google_header(&request.presented)
        || google_verb(request).is_some()
}

fn is_google_header(presented: &Presented) -> bool {
    matches!(presented, Presented::Header(name) if name == "x-goog-api-key")
}

/// The verb of `…/models/{model}:{verb}`. OpenAI's fine-tuned models have colons too (`/v1/models/ft:gpt-4o:org::id`),
/// but are not posted to.
#[must_use]
pub fn google_verb(request: &Request) -> Option<&str> {
    let (head, verb) = request.path.rsplit_once(':')?;
    let is_verb = !verb.is_empty() && verb.bytes().all(|byte| byte.is_ascii_alphabetic());
    (is_verb && request.method == "POST" && !head.ends_with('/')).then_some(verb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_told_by_the_beginning_of_the_name_in_any_case() {
        for (model, expected) in [
            ("gemini-2.5-flash", Some(Family::Google)),
            ("models/gemini-2.5-flash", Some(Family::Google)),
            ("gemma-3-27b-it", Some(Family::Google)),
            ("text-embedding-004", Some(Family::Google)),
            ("tunedModels/mine", Some(Family::Google)),
            ("text-embedding-v4", Some(Family::Bailian)),
            ("text-embedding-3-small", Some(Family::OpenAi)),
            ("qwen-max", Some(Family::Bailian)),
            ("Qwen3-235B", Some(Family::Bailian)),
            ("wanx2.1-t2i-turbo", Some(Family::Bailian)),
            ("deepseek-v3", Some(Family::Open)),
            ("gpt-oss-120b", Some(Family::Open)),
            ("gpt-4o", Some(Family::OpenAi)),
            ("claude-sonnet-4", Some(Family::Anthropic)),
            ("o", None),
            ("something-new-1", None),
            ("模型", None),
            ("", None),
        ] {
            assert_eq!(family(model), expected, "{model}");
        }
    }
}
