//! The proxy key itself, where a client wrote it beside the places in which the gateway looks for one: in a header of its
//! own, in the path, in the address that a reverse proxy passes on. It is known by its digest and length alone.

use percent_encoding::percent_decode_str;

use super::suspects::MASK;
use crate::config::Keys;
use crate::exchange::identify::Identified;

/// Of the exchange that is recorded.
#[derive(Clone, Copy)]
pub struct OwnKey {
    digest: [u8; 32],
    bytes: usize,
}

impl OwnKey {
    pub fn of(identified: &Identified) -> Self {
        Self { digest: identified.digest, bytes: identified.key_bytes }
    }

    /// JSON text without the key, wherever a delimiter, a quote or the end stands on both sides of it.
    pub fn masked(self, text: &str) -> String {
        let is_part =
            |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '&' | ';' | '=' | '?' | ',' | '#' | '/' | ':');
        let mut masked = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            masked.push_str(if self.is(word) { MASK } else { word });
            let skipped = after.find(is_part).unwrap_or(after.len());
            masked.push_str(&after[..skipped]);
            rest = &after[skipped..];
        }
        masked
    }

    fn is(self, word: &str) -> bool {
        // Few words are that long: hashing them costs next to nothing.
        let is_key = |bytes: &[u8]| bytes.len() == self.bytes && Keys::digest(bytes) == self.digest;
        is_key(word.as_bytes()) || (word.contains('%') && is_key(&percent_decode_str(word).collect::<Vec<u8>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_masked_wherever_it_stands_by_itself() {
        let key = "sk-of-a-client_0001";
        let own = OwnKey { digest: Keys::digest(key.as_bytes()), bytes: key.len() };
        for (text, expected) in [
            (
                format!(r#"{{"path":"/v1/{key}/x","query":"a=1;key={key}"}}"#),
                r#"{"path":"/v1/***/x","query":"a=1;key=***"}"#,
            ),
            (format!(r#"["x-original-url","/v1?key={key}&b"]"#), r#"["x-original-url","/v1?key=***&b"]"#),
            (format!(r#"["x-tenant","{key}"]"#), r#"["x-tenant","***"]"#),
            ("\"sk%2Dof-a-client_0001\"".to_owned(), "\"***\""),
            (format!("\"{key}2\" \"é{key}é\""), &*format!("\"{key}2\" \"é***é\"")),
        ] {
            assert_eq!(own.masked(&text), expected);
        }
    }
}
