//! Values that look like credentials, in the forms in which a plugin may have put them into its answer.
//!
//! A plugin takes a header apart, or decodes a parameter. Every form that such an everyday step makes is looked for, and
//! what it is looked for in is decoded, too. What a plugin has hashed, cut or encoded in its own way is not found.
//!
//! Invariant: the work is bounded. A client chooses how many there are, and a worker does the looking.

use std::borrow::Cow;
use std::collections::HashSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use memchr::memmem;
use percent_encoding::percent_decode_str;

/// Stands for what is not recorded.
pub const MASK: &str = "***";
/// Shorter forms guard nothing, and would tear other text apart.
const FORM_BYTES_MIN: usize = 6;
/// Different forms of all values. With more of them the decision is not recorded.
const FORMS_MAX: usize = 64;
/// Bytes of a decision times the forms to look for in them: so much, or it is not recorded. Each encoding that is undone
/// takes as much again.
const LOOK_BYTES_MAX: usize = 4 << 20;
/// Encodings within encodings that are undone when looking.
const DECODED_MAX: usize = 2;
/// First words of a credential that say what it is (IANA's list of authentication schemes, and what is usual), in lower
/// case; shorter ones are left out by their length.
const SCHEMES: [&str; 12] = [
    "apikey",
    "api-key",
    "aws4-hmac-sha256",
    "bearer",
    "concealed",
    "digest",
    "mutual",
    "negotiate",
    "privatetoken",
    "scram-sha-1",
    "scram-sha-256",
    "sharedaccesssignature",
];

#[derive(Debug, Default)]
pub struct Suspects {
    /// Those that were added, to do it once.
    values: HashSet<String>,
    forms: HashSet<String>,
    are_too_many: bool,
}

impl Suspects {
    /// In all its forms.
    pub fn add(&mut self, value: &str) {
        if self.are_too_many || value.len() < FORM_BYTES_MIN || self.values.contains(value) {
            return;
        }
        self.values.insert(value.to_owned());
        self.add_apart(value);
        for decoded in decoded(value) {
            self.add_apart(&decoded);
        }
    }

    /// Whether they are more than can be looked for in so much text; then nothing may be recorded.
    pub fn are_too_many_for(&self, text_bytes: usize) -> bool {
        self.are_too_many || self.forms.len().saturating_mul(text_bytes) > LOOK_BYTES_MAX
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// Whether one of them is in this text, or in what it decodes to.
    pub fn are_in(&self, text: &str) -> bool {
        !self.forms.is_empty() && self.within(text, DECODED_MAX)
    }

    /// The text with them masked; none where nothing changes.
    pub fn masked(&self, text: &str) -> Option<String> {
        if self.forms.is_empty() {
            return None;
        }
        // Byte by byte, since one may overlap another.
        let mut covered = Vec::new();
        for form in &self.forms {
            for start in memmem::find_iter(text.as_bytes(), form) {
                covered.resize(text.len(), false);
                covered[start..start + form.len()].fill(true);
            }
        }
        let masked = if covered.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(cut_out(text, &covered)) };
        // What is encoded in it has no place of its own.
        if self.are_in(&masked) {
            return Some(MASK.to_owned());
        }
        match masked {
            Cow::Borrowed(_) => None,
            Cow::Owned(masked) => Some(masked),
        }
    }

    /// Whole, by words, and what stands behind `name=`, `name:` or in a list.
    fn add_apart(&mut self, value: &str) {
        self.keep(value.trim());
        let mut words = value.split_ascii_whitespace().peekable();
        let first = words.next_if(|word| SCHEMES.iter().any(|scheme| scheme.eq_ignore_ascii_case(word)));
        if first.is_some() && words.peek().is_none() {
            return;
        }
        let mut last = "";
        for word in words {
            if self.are_too_many {
                return;
            }
            self.keep(word.trim_end_matches([',', ';']));
            for part in word.split([',', ';', '&']) {
                self.keep_with_bare(part);
                for (at, _) in part.match_indices(['=', ':']) {
                    self.keep_with_bare(&part[at + 1..]);
                }
            }
            if last.eq_ignore_ascii_case("basic")
                && let Some(login) = BASE64_STANDARD.decode(word).ok().and_then(|bytes| String::from_utf8(bytes).ok())
            {
                self.keep(&login);
                self.keep(login.split_once(':').map_or("", |(_, password)| password));
            }
            last = word;
        }
    }

    fn keep_with_bare(&mut self, form: &str) {
        self.keep(form);
        self.keep(form.trim_matches(['"', '\'']));
    }

    fn keep(&mut self, form: &str) {
        if form.len() < FORM_BYTES_MIN || self.forms.contains(form) {
            return;
        }
        // As it stands inside a JSON text.
        let escaped = serde_json::Value::from(form).to_string();
        for form in [form, &escaped[1..escaped.len() - 1]] {
            if self.forms.contains(form) {
                continue;
            }
            if self.forms.len() == FORMS_MAX {
                self.are_too_many = true;
                return;
            }
            self.forms.insert(form.to_owned());
        }
    }

    fn within(&self, text: &str, decoded_max: usize) -> bool {
        if self.forms.iter().any(|form| memmem::find(text.as_bytes(), form.as_bytes()).is_some()) {
            return true;
        }
        if decoded_max == 0 {
            return false;
        }
        let unescaped = text.contains('\\').then(|| unescaped(text));
        decoded(text).chain(unescaped).any(|text| self.within(&text, decoded_max - 1))
    }
}

/// What a part of a query, or of a form, may stand for.
fn decoded(text: &str) -> impl Iterator<Item = String> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let plain = text.contains('%').then(|| decode(text));
    let spaced = text.contains('+').then(|| decode(&text.replace('+', " ")));
    plain.into_iter().chain(spaced)
}

/// What stands inside a JSON text, wherever in another text that is.
fn unescaped(text: &str) -> String {
    let mut units = Vec::with_capacity(text.len());
    let mut rest = text.encode_utf16();
    while let Some(unit) = rest.next() {
        if unit != u16::from(b'\\') {
            units.push(unit);
            continue;
        }
        let Some(escape) = rest.next() else { break };
        units.push(match u8::try_from(escape) {
            Ok(b'n') => u16::from(b'\n'),
            Ok(b'r') => u16::from(b'\r'),
            Ok(b't') => u16::from(b'\t'),
            Ok(b'u') => {
                let digits: String = char::decode_utf16(rest.by_ref().take(4)).flatten().collect();
                u16::from_str_radix(&digits, 16).unwrap_or_default()
            }
            _ => escape,
        });
    }
    String::from_utf16_lossy(&units)
}

fn cut_out(text: &str, covered: &[bool]) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut was_covered = false;
    for (index, character) in text.char_indices() {
        let is_covered = covered[index];
        if !is_covered {
            kept.push(character);
        } else if !was_covered {
            kept.push_str(MASK);
        }
        was_covered = is_covered;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspects(values: &[&str]) -> Suspects {
        let mut suspects = Suspects::default();
        for value in values {
            suspects.add(value);
        }
        suspects
    }

    #[test]
    fn what_everyday_steps_make_of_a_value_is_masked() {
        for (value, form) in [
            ("auth_tokens/1", "auth_tokens/1"),
            ("a%2Fb-c-d", "a/b-c-d"),
            ("a+b%20c-d", "a b c-d"),
            ("Bearer tok-1234", "tok-1234"),
            ("Bearer%20tok-1234", "tok-1234"),
            ("token=\"tok-1234\", realm=x", "tok-1234"),
            ("a=1; session=tok-1234", "tok-1234"),
            ("alice:tok-1234", "tok-1234"),
            ("AWS4-HMAC-SHA256 Credential=AKIA/eu, Signature=0a1b2c3d", "0a1b2c3d"),
            ("Basic YWxpY2U6dG9rLTEyMzQ=", "tok-1234"),
            ("a \"quoted\" one", "a \\\"quoted\\\" one"),
        ] {
            let masked = suspects(&[value]).masked(&format!("<{form}> stays"));
            assert_eq!(masked.as_deref(), Some("<***> stays"), "{value}");
        }
    }

    #[test]
    fn a_value_that_was_encoded_on_its_way_hides_the_whole_text() {
        let suspects = suspects(&["a/b+c \"d\" é"]);
        for text in [
            "x=a%2Fb%2bc%20%22d%22%20%C3%A9&y=1",
            "x=a%2Fb%2Bc+%22d%22+%C3%A9",
            r#"{"x": "a\/b+c \u0022d\u0022 \u00e9"}"#,
            r#"{"a\/b+c \"d\" \u00e9": 1}"#,
            r#"event: {"x": "a%2Fb%2Bc \"d\" é""#,
        ] {
            assert_eq!(suspects.masked(text).as_deref(), Some(MASK), "{text}");
            assert!(suspects.are_in(text));
        }
        assert_eq!(suspects.masked(r#"{"x": "a%2Fb \u00e9"}"#), None);
    }

    #[test]
    fn overlapping_values_leave_nothing_of_each_other() {
        assert_eq!(suspects(&["abcdefgh", "efghijkl"]).masked("1abcdefghijkl2").as_deref(), Some("1***2"));
        assert_eq!(suspects(&["éééé"]).masked("éééééé!").as_deref(), Some("***éé!"));
    }

    #[test]
    fn short_values_and_schemes_are_no_suspects() {
        let suspects = suspects(&["short", "Bearer tok-1234", "digest"]);
        assert_eq!(suspects.masked("short Bearer"), None);
        assert_eq!(suspects.masked("digest").as_deref(), Some(MASK), "alone it may be the secret");
    }

    #[test]
    fn equal_values_count_once_and_too_many_are_said_to_be() {
        let mut same = Suspects::default();
        for n in 0..10_000 {
            same.add(&format!("same-{}", n % 64));
        }
        assert!(!same.are_too_many_for(1000));
        assert!(same.are_too_many_for(1 << 20), "each would be looked for");
        same.add("another");
        assert!(same.are_too_many_for(0));
        assert_eq!(same.forms.len(), FORMS_MAX);
    }
}
