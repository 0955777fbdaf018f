//! The short paths: OpenAI's resources as a client writes them, before a provider's own prefix.
//!
//! A client's base URL may end in `/v1` or at the host, so `/v1/chat/completions` and `/chat/completions` mean the
//! same. Under `/v1` every resource is taken for OpenAI's, also one that is added tomorrow; without it, only those
//! that are known, since any other path may be the provider's own.

/// First segments of OpenAI's resources (and of two that live beside them: Anthropic's messages, rerank).
const RESOURCES: &[&str] = &[
    "audio",
    "batches",
    "chat",
    "completions",
    "conversations",
    "embeddings",
    "files",
    "fine_tuning",
    "images",
    "messages",
    "models",
    "moderations",
    "realtime",
    "reranks",
    "responses",
    "uploads",
    "vector_stores",
    "videos",
];

/// What follows the short prefix: `chat/completions`, `files/f-1/content`; none if the path is not a short one.
#[must_use]
pub fn resource(path: &str) -> Option<&str> {
    if let Some(rest) = path.strip_prefix("/v1/") {
        return (!rest.is_empty()).then_some(rest);
    }
    let rest = path.strip_prefix('/')?;
    RESOURCES.contains(&first_segment(rest)).then_some(rest)
}

/// `files` of `files/f-1/content`.
#[must_use]
pub fn first_segment(resource: &str) -> &str {
    resource.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_path_is_known_with_and_without_its_version() {
        for (path, expected) in [
            ("/v1/chat/completions", Some("chat/completions")),
            ("/chat/completions", Some("chat/completions")),
            ("/files/f-1/content", Some("files/f-1/content")),
            ("/v1/added/tomorrow", Some("added/tomorrow")),
            ("/added/tomorrow", None),
            ("/modelsx", None),
            ("/v1/", None),
            ("/v1", None),
            ("/", None),
        ] {
            assert_eq!(resource(path), expected, "{path}");
        }
    }
}
