//! What a channel's plugin is handed: its `settings` and the two fields of the original service that concern it.
//!
//! The content is the plugin's business; only what cannot work whoever reads it is looked at here.

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::Draft;

impl Draft<'_, '_> {
    /// Those that can work.
    pub(super) fn rewrites(&mut self, rewrites: IndexMap<String, String>) -> Map<String, Value> {
        let mut kept = Map::new();
        for (from, to) in rewrites {
            let spot = self.spot_in("path_rewrite", &from);
            if !from.starts_with('/') || !to.starts_with('/') {
                self.problems.error(&spot, "rewrites something that is not a path", "begin both sides with `/`");
            } else if translates_nothing(&from, &to) {
                let what =
                    "cannot work and is not applied: it sends an OpenAI body to a method that reads Gemini's format";
                let remedy = "remove it: the gemini plugin sends such paths to the provider's OpenAI-compatible ones";
                self.problems.warning(&spot, what, remedy);
            } else {
                kept.insert(from, Value::String(to));
            }
        }
        kept
    }

    pub(super) fn settings(
        &mut self,
        mut settings: Map<String, Value>,
        rewrites: Map<String, Value>,
        sockets: Map<String, Value>,
    ) -> String {
        if settings.values().any(holds_variable) {
            let remedy =
                "write the value; a secret belongs into `secrets`, where the plugin names it but never sees it";
            let what = "holds `${`, but variables are not replaced in settings";
            self.problems.warning(&self.spot("settings"), what, remedy);
        }
        for (field, legacy) in [("path_rewrite", rewrites), ("websocket_endpoints", sockets)] {
            if legacy.is_empty() {
                continue;
            }
            if settings.insert(field.to_owned(), Value::Object(legacy)).is_some() {
                self.problems.error(
                    &self.spot_in("settings", field),
                    "is given in the channel too",
                    "remove one of the two",
                );
            }
        }
        Value::Object(settings).to_string()
    }
}

/// An OpenAI-compatible path on the left, a Gemini method on the right: paths can be rewritten, bodies cannot.
fn translates_nothing(from: &str, to: &str) -> bool {
    const OPENAI: [&str; 6] =
        ["/chat/completions", "/completions", "/responses", "/embeddings", "/images/generations", "/models"];
    const GEMINI: [&str; 4] = [":generateContent", ":streamGenerateContent", ":embedContent", ":batchEmbedContents"];
    let from = from.trim_end_matches('/');
    OPENAI.iter().any(|path| from.ends_with(path)) && GEMINI.iter().any(|method| to.contains(method))
}

fn holds_variable(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("${"),
        Value::Array(items) => items.iter().any(holds_variable),
        Value::Object(members) => members.values().any(holds_variable),
        _ => false,
    }
}
