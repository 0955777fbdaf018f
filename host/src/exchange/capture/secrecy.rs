//! What looks like a credential, by its name.
//!
//! The gateway knows where its own keys are, but not what else a client sends. A file that lies on a disk is stricter
//! than a plugin's view: a name that speaks of a secret is enough. Too much is better than too little here, since what is
//! left out is said, and `replay` does not judge where it matters. The values become [`Suspects`].

use percent_encoding::percent_decode_str;

use super::json_text::{self, Part};
use super::suspects::{MASK, Suspects};

/// Words of a name, between its `-`, `_` and `.`, or its humps.
const WORDS: [&str; 16] = [
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
    "secrets",
    "sig",
    "signature",
    "token",
    "accesstoken",
];
/// JSON text inside strings of JSON text is looked into so deep; what is deeper is judged by its words.
const NESTED_MAX: usize = 4;

/// Whether a header, a query parameter or a member of this name may carry a secret.
pub fn is_suspect(name: &str) -> bool {
    name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| is_word(word) || humps(word).any(is_word))
}

fn is_word(word: &str) -> bool {
    WORDS.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// `clientSecret` is `client` and `Secret`.
fn humps(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let pairs = rest.as_bytes().windows(2);
        let end = pairs.into_iter().position(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
        let (hump, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        rest = after;
        (!hump.is_empty()).then_some(hump)
    })
}

/// The query with the values of suspect parameters masked; adds them to the suspects.
pub fn masked_query(query: &str, suspects: &mut Suspects) -> String {
    let mut masked = String::with_capacity(query.len());
    for (index, pair) in query.split('&').enumerate() {
        if index > 0 {
            masked.push('&');
        }
        match pair.split_once('=') {
            Some((name, value)) if is_suspect(&percent_decode_str(name).decode_utf8_lossy()) => {
                suspects.add(value);
                masked.extend([name, "=", MASK]);
            }
            _ => masked.push_str(pair),
        }
    }
    masked
}

/// Whether a body field is to be withheld: its pointer speaks of a secret, or a name in its JSON text does. Adds what it
/// holds to the suspects.
pub fn is_secret_field(pointer: &str, value: &str, suspects: &mut Suspects) -> bool {
    let is_named = pointer.split('/').any(|step| is_suspect(&step.replace("~1", "/").replace("~0", "~")));
    let holds = gather(value, is_named, suspects, NESTED_MAX);
    if is_named || holds {
        suspects.add(value);
    }
    is_named || holds
}

/// Whether this is JSON text with a secret in it, by a name. `is_secret`: all of it is one.
fn gather(text: &str, is_secret: bool, suspects: &mut Suspects, nested_max: usize) -> bool {
    if !text.trim_start().starts_with(['{', '[']) {
        return false;
    }
    if nested_max == 0 {
        return is_suspect(text);
    }
    let mut holds = false;
    let is_json = json_text::walk(text, is_secret, &mut |part| match part {
        Part::Name(name) => holds |= is_suspect(name),
        Part::Value { text, is_secret } => {
            if is_secret {
                suspects.add(text);
            }
            if gather(text, is_secret, suspects, nested_max - 1) {
                suspects.add(text);
                holds = true;
            }
        }
    });
    // Somebody else may be able to read it.
    holds || !is_json && is_suspect(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_speak_of_secrets_are_suspect() {
        for name in [
            "x-auth-token",
            "Ocp-Apim-Subscription-Key",
            "access_token",
            "sig",
            "x-csrf-token",
            "api_key",
            "APIKey",
            "clientSecret",
            "authToken",
            "é-key",
        ] {
            assert!(is_suspect(name), "{name}");
        }
        for name in ["user-agent", "x-tenant", "x-keyboard", "author", "max_tokens", "maxTokens", "accept", "", "é"] {
            assert!(!is_suspect(name), "{name}");
        }
    }

    #[test]
    fn values_of_suspect_parameters_are_masked_and_the_rest_stays() {
        let mut suspects = Suspects::default();
        let query = masked_query("a=%2f&access_token=auth_tokens/1&b&acc%65ss_token=2&key", &mut suspects);
        assert_eq!(query, "a=%2f&access_token=***&b&acc%65ss_token=***&key");
        assert_eq!(suspects.masked("x auth_tokens/1 2").as_deref(), Some("x *** 2"));
    }

    #[test]
    fn a_field_is_secret_by_its_pointer_or_by_a_name_inside() {
        for (pointer, value) in [
            ("/api_key", "secret-1"),
            ("/a~1key/0", "secret-1"),
            ("/clientSecret/value", "secret-1"),
            ("/auth", r#"{"of": ["secret-1"]}"#),
            ("", r#"{"tools": [{"authorization": "secret-1"}]}"#),
            ("/twice", r#"{"token": "secret-1", "token": "other"}"#),
            ("/arguments", r#"{"inner": "{\"x\": \"[{\\\"password\\\": \\\"secret-1\\\"}]\"}"}"#),
            ("/broken", r#"{"token": "secret-1""#),
        ] {
            let mut suspects = Suspects::default();
            assert!(is_secret_field(pointer, value, &mut suspects), "{pointer} {value}");
            assert_eq!(suspects.masked("secret-1").as_deref(), Some("***"), "{pointer} {value}");
        }
        for (pointer, value) in [
            ("/n", "7"),
            ("/messages", r#"[{"role": "user", "content": "my secret key is a token"}]"#),
            ("/prompt", "[INST] say something [/INST]"),
            ("/max_tokens", "100"),
        ] {
            let mut suspects = Suspects::default();
            assert!(!is_secret_field(pointer, value, &mut suspects), "{pointer} {value}");
            assert!(suspects.is_empty());
        }
    }
}
