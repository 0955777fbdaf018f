//! What is made from a request's text: the echo, its pieces, token counts, vectors.
//!
//! Everything here is a pure function, so that `usage` can be predicted by whoever tests with it. The token count is
//! plausible, not any real tokenizer's.

use serde_json::Value;

/// A streamed reply comes in at most so many pieces, however long it is: pauses add up.
const PIECES_MAX: usize = 24;

/// What a chat request says, whichever protocol it came in.
pub struct Conversation {
    /// The text of the last message of the user.
    pub last: String,
    pub tokens: u64,
}

impl Conversation {
    /// From objects with a `role` (absent: the user's) and a text in whatever form the protocol has.
    pub fn of<'a>(messages: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut conversation = Self { last: String::new(), tokens: 0 };
        for message in messages {
            let text = text_of(message);
            // Roles and separators cost something too.
            conversation.tokens += tokens(&text) + 3;
            if matches!(message.get("role").and_then(Value::as_str), None | Some("user")) {
                conversation.last = text;
            }
        }
        conversation
    }

    /// What the demo answers.
    pub fn reply(&self, provider: &str, model: &str) -> String {
        let last = self.last.trim();
        if last.is_empty() {
            return format!(
                "Hello! I am the {provider} demo upstream, model {model}. Say something and I will echo it."
            );
        }
        format!("You said: {last} — and the {provider} demo upstream, model {model}, is happy to echo it back to you.")
    }
}

/// The text in a string, a list of parts, or an object with `text`, `content` or `parts`; other parts are skipped.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(text_of).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" "),
        Value::Object(object) => {
            ["text", "content", "parts"].iter().find_map(|name| object.get(*name)).map(text_of).unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// Every four letters of a word are a token, and every character beyond Latin, Greek and Cyrillic is one.
pub fn tokens(text: &str) -> u64 {
    text.split_whitespace()
        .map(|word| {
            let wide = word.chars().filter(|&letter| is_wide(letter)).count();
            (wide + (word.chars().count() - wide).div_ceil(4)) as u64
        })
        .sum()
}

/// What speech is billed by: letters, of which those beyond Latin, Greek and Cyrillic count twice.
pub fn characters(text: &str) -> u64 {
    text.chars().map(|letter| if is_wide(letter) { 2 } else { 1 }).sum()
}

fn is_wide(letter: char) -> bool {
    letter >= '\u{1100}'
}

/// The text in pieces that end behind a space; together they are the text.
pub fn pieces(text: &str) -> Vec<&str> {
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    let words_each = words.len().div_ceil(PIECES_MAX).max(1);
    let mut rest = text;
    words
        .chunks(words_each)
        .map(|group| {
            let (piece, after) = rest.split_at(group.iter().map(|word| word.len()).sum());
            rest = after;
            piece
        })
        .collect()
}

/// A unit vector that depends on the text alone.
pub fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    // FNV-1a for the seed, then a linear congruential generator (Knuth's MMIX constants).
    let mut state = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mut vector: Vec<f32> = (0..dimensions)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
        })
        .collect();
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    for x in &mut vector {
        *x /= length;
    }
    vector
}

/// A fresh id: a prefix and sixteen random hexadecimal digits.
pub fn fresh_id(prefix: &str) -> String {
    // Ids only have to differ; without randomness a demo may as well repeat one.
    format!("{prefix}{:016x}", getrandom::u64().unwrap_or(1))
}

/// A fresh id in the form of a UUID, as bailian's are.
pub fn fresh_uuid() -> String {
    let (high, low) = (getrandom::u64().unwrap_or(1), getrandom::u64().unwrap_or(1));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_message_of_the_user_is_echoed_whatever_its_form() {
        let messages = [
            json!({"role": "user", "content": "first"}),
            json!({"role": "user", "parts": [{"text": "one"}, {"inlineData": {}}, {"text": "two"}]}),
            json!({"role": "assistant", "content": [{"type": "text", "text": "three"}]}),
        ];
        let conversation = Conversation::of(&messages);
        assert_eq!(conversation.last, "one two");
        assert_eq!(conversation.tokens, (2 + 3) + (2 + 3) + (2 + 3));
    }

    #[test]
    fn pieces_are_few_and_make_up_the_text() {
        for text in ["", "one", "你好 世界", &"word ".repeat(1000)] {
            let pieces = pieces(text);
            assert_eq!(pieces.concat(), text);
            assert!(pieces.len() <= PIECES_MAX);
        }
    }

    #[test]
    fn tokens_are_counted_per_four_letters_and_per_wide_character() {
        assert_eq!(tokens("hello demo"), 3);
        assert_eq!(tokens("你好"), 2);
        assert_eq!(tokens("  "), 0);
    }

    #[test]
    fn speech_is_billed_by_the_character() {
        assert_eq!((characters("hi there"), characters("你好!")), (8, 5));
    }

    #[test]
    fn vectors_have_length_one_and_depend_on_the_text() {
        let vector_a = vector("a", 8);
        assert_eq!(vector_a, vector("a", 8));
        assert_ne!(vector_a, vector("b", 8));
        assert!((vector_a.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-3);
    }
}
