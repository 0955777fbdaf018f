//! What looks like a credential, by its name.
//!
//! The gateway knows where its own keys are, but not what else a client sends. A file that lies on a disk is stricter
//! than a plugin's view: a name that speaks of a secret is enough. Too much is better than too little here, since what is
//! left out is said, and `replay` does not judge where it matters.

use percent_encoding::percent_decode_str;

/// Stands for a value that is not recorded.
const MASK: &str = "***";
/// Words of a name, between its `-`, `_` and `.`.
const WORDS: [&str; 15] = [
    "apikey",
    "auth",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "jwt",
    "key",
    "passwd",
    "password",
    "secret",
    "sig",
    "signature",
    "token",
    "accesstoken",
];

/// Whether a header or a query parameter of this name may carry a secret.
pub fn is_suspect(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| WORDS.contains(&word))
}

/// The query with the values of suspect parameters masked, and those values.
pub fn masked(query: &str) -> (String, Vec<String>) {
    let mut values = Vec::new();
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value)) if is_suspect(&percent_decode_str(name).decode_utf8_lossy()) => {
            values.push(value.to_owned());
            format!("{name}={MASK}")
        }
        _ => pair.to_owned(),
    });
    let query = pairs.collect::<Vec<_>>().join("&");
    (query, values)
}

/// JSON `text` without these values, wherever a plugin has put them.
pub fn without(mut text: String, values: &[String]) -> String {
    // Shorter ones guard nothing, and would tear other text apart.
    for value in values.iter().filter(|value| value.len() >= 6) {
        text = text.replace(value.as_str(), MASK);
        // As it stands inside a JSON text.
        let escaped = serde_json::Value::from(value.as_str()).to_string();
        text = text.replace(escaped.trim_matches('"'), MASK);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_speak_of_secrets_are_suspect() {
        for name in ["x-auth-token", "Ocp-Apim-Subscription-Key", "access_token", "sig", "x-csrf-token", "api_key"] {
            assert!(is_suspect(name), "{name}");
        }
        for name in ["user-agent", "x-tenant", "x-keyboard", "author", "max_tokens", "accept"] {
            assert!(!is_suspect(name), "{name}");
        }
    }

    #[test]
    fn values_of_suspect_parameters_are_masked_and_the_rest_stays() {
        let (query, values) = masked("a=%2f&access_token=auth_tokens/1&b&acc%65ss_token=2&key");
        assert_eq!(query, "a=%2f&access_token=***&b&acc%65ss_token=***&key");
        assert_eq!(values, ["auth_tokens/1", "2"]);
        assert_eq!(without("x auth_tokens/1 2".into(), &values), "x *** 2");
        let quoted = "{\"set\":[\"x\",\"a \\\"quoted\\\" one\"]}";
        assert_eq!(without(quoted.into(), &["a \"quoted\" one".into()]), "{\"set\":[\"x\",\"***\"]}");
    }
}
