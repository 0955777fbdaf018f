//! The one rule for ids and names: channels, plugins, endpoints, secrets and proxy keys.
//!
//! They become file names, labels of metrics, log fields and parts of JSON paths, so nothing is allowed that any of
//! these would have to escape. What people read has a `name` or `description` of its own, in any language.

pub const NAME_RULE: &str = "use letters, digits, `.`, `_` and `-`, at most 64, beginning with a letter or digit";

pub fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
}
