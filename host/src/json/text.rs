//! The inside of JSON strings: how far nothing special stands in them, and what their escapes mean.
//!
//! [`plain_run`] is what decides the speed of everything here: bodies carry megabytes of base64 in one string.

use std::borrow::Cow;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
/// Long enough for the compiler to use vector registers, whatever the target.
const BLOCK: usize = 64;

/// A stretch of a string's bytes.
pub(super) struct Run {
    /// Up to the first quote, backslash or control byte, or all.
    pub len: usize,
    /// No byte above 0x7f may be in the stretch; otherwise it needs a UTF-8 check.
    pub ascii: bool,
}

/// How far there is no quote, backslash or control byte.
#[inline]
pub(super) fn plain_run(bytes: &[u8]) -> Run {
    let mut at = 0;
    let mut high = 0;
    // Names and short values end within two words; only then are blocks worth their start.
    while at < 16 {
        let Some(word) = bytes[at..].first_chunk::<8>() else { return tail(bytes, at, high) };
        let word = u64::from_le_bytes(*word);
        let special = special(word);
        if special != 0 {
            let len = (special.trailing_zeros() / 8) as usize;
            // Bytes beyond the stretch may make it look non-ASCII: that costs a check, no more.
            return Run { len: at + len, ascii: (high | word) & HIGHS == 0 };
        }
        high |= word;
        at += 8;
    }
    while let Some(block) = bytes[at..].first_chunk::<BLOCK>() {
        let (special, highs) = look_over(block);
        if special {
            break;
        }
        high |= if highs { HIGHS } else { 0 };
        at += BLOCK;
    }
    while let Some(word) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let special = special(word);
        if special != 0 {
            let len = (special.trailing_zeros() / 8) as usize;
            return Run { len: at + len, ascii: (high | word) & HIGHS == 0 };
        }
        high |= word;
        at += 8;
    }
    tail(bytes, at, high)
}

#[inline]
fn tail(bytes: &[u8], from: usize, high: u64) -> Run {
    let mut ascii = high & HIGHS == 0;
    for (at, &byte) in bytes.iter().enumerate().skip(from) {
        if byte < 0x20 || byte == b'"' || byte == b'\\' {
            return Run { len: at, ascii };
        }
        ascii &= byte.is_ascii();
    }
    Run { len: bytes.len(), ascii }
}

/// A high bit in each special byte; above the lowest special one there may be false ones.
#[inline]
fn special(word: u64) -> u64 {
    let quotes = word ^ (ONES * u64::from(b'"'));
    let backslashes = word ^ (ONES * u64::from(b'\\'));
    let below = |bytes: u64, bound: u64| bytes.wrapping_sub(ONES * bound) & !bytes;
    (below(word, 0x20) | below(quotes, 1) | below(backslashes, 1)) & HIGHS
}

/// Whether a special byte is in the block, and whether one above 0x7f is.
#[inline]
fn look_over(block: &[u8; BLOCK]) -> (bool, bool) {
    let mut special = 0;
    let mut high = 0;
    for &byte in block {
        special |= u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
        high |= byte;
    }
    (special != 0, high >= 0x80)
}

/// The meaning of a string's inside. Half of a surrogate pair, which the grammar allows, becomes U+FFFD; so do
/// bytes that are not UTF-8, which a scanner never lets through.
pub(super) fn unescape(raw: &[u8]) -> Cow<'_, str> {
    let raw = String::from_utf8_lossy(raw);
    let Some(first) = raw.find('\\') else { return raw };
    let mut out = String::with_capacity(raw.len());
    out.push_str(&raw[..first]);
    let mut rest = &raw[first..];
    while let Some(after) = rest.strip_prefix('\\') {
        let mut chars = after.chars();
        let escape = chars.next();
        rest = chars.as_str();
        match escape {
            Some('u') => out.push(unicode_escape(&mut rest)),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some(other) => out.push(other),
            None => {}
        }
        let plain = rest.find('\\').unwrap_or(rest.len());
        out.push_str(&rest[..plain]);
        rest = &rest[plain..];
    }
    Cow::Owned(out)
}

/// `rest` stands behind a `\u`.
fn unicode_escape(rest: &mut &str) -> char {
    let Some(first) = hex4(rest) else { return char::REPLACEMENT_CHARACTER };
    *rest = &rest[4..];
    if (0xd800..0xdc00).contains(&first)
        && let Some(second) = rest.strip_prefix("\\u").and_then(hex4)
        && (0xdc00..0xe000).contains(&second)
    {
        *rest = &rest[6..];
        let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    }
    char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn hex4(text: &str) -> Option<u32> {
    let digits = text.get(..4)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_mean_what_the_rfc_says() {
        assert_eq!(unescape(br"mod\u0065l"), "model");
        assert_eq!(unescape(br#"\"\\\/\b\f\n\r\t"#), "\"\\/\u{8}\u{c}\n\r\t");
        assert_eq!(unescape(br"\ud83d\ude00!"), "😀!");
        assert_eq!(unescape(br"a\ud83dx\ude00"), "a\u{fffd}x\u{fffd}");
        assert_eq!(unescape(br"\ud83d\ud83d\ude00"), "\u{fffd}😀");
        assert!(matches!(unescape("模型".as_bytes()), Cow::Borrowed("模型")));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn a_run_ends_at_the_first_special_byte(
            plain in proptest::collection::vec(prop_oneof![20 => 0x23_u8..0x5c, 1 => 0x5d_u8..=255], 0..200),
            rest in proptest::collection::vec(any::<u8>(), 0..100),
            special in prop_oneof![Just(None), (0_u8..0x20).prop_map(Some), Just(Some(b'"')), Just(Some(b'\\'))],
        ) {
            let mut bytes = plain.clone();
            if let Some(special) = special {
                bytes.push(special);
                bytes.extend(rest);
            }
            let run = plain_run(&bytes);
            prop_assert_eq!(run.len, plain.len());
            prop_assert!(!run.ascii || plain.is_ascii());
            prop_assert!(run.ascii || !bytes.is_ascii());
        }
    }
}
