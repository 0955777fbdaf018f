//! Paths that climb: whose dot segments lead above their root, or would for a reader who decodes more than it should.
//!
//! A plan's path stands behind the base path of an address that the operator chose, and must stay below it; a client's
//! that climbs is read differently by every server. Refused is what climbs in *some* reading: with dots, slashes and
//! backslashes that are percent-encoded once or many times, with backslashes as separators, with path parameters
//! (`..;x`), with empty segments that count for nothing. Dot segments that stay below the root pass as they are, and so
//! does everything else: nothing is normalised, since a signature may cover the path byte for byte.

use std::borrow::Cow;

/// Whether some server may read `path` as one above its root.
pub fn climbs(path: &str) -> bool {
    // On every request's way: few paths hold anything of this kind.
    if !path.contains("..") && !path.contains('%') {
        return false;
    }
    let decoded = decoded(path);
    [&['/'][..], &['/', '\\']].iter().any(|separators| {
        climbs_by(path.split(*separators).map(decoded_segment))
            || climbs_by(decoded.split(*separators).map(Cow::Borrowed))
    })
}

/// Whether `target` begins as a network-path reference does (RFC 3986, 4.2). To HTTP it is a path (RFC 9110, 4.1), but a
/// server that resolves it like a link takes its first segment for a host.
pub fn begins_with_authority(target: &str) -> bool {
    target.strip_prefix('/').is_some_and(|rest| rest.starts_with(['/', '\\']))
}

fn climbs_by<'a>(segments: impl Iterator<Item = Cow<'a, str>>) -> bool {
    let mut depth = 0_u32;
    for segment in segments {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// Without its parameters, and not taken apart, whatever it holds.
fn decoded_segment(segment: &str) -> Cow<'_, str> {
    let plain = decoded(segment);
    let name = plain.split(';').next().unwrap_or_default();
    if name.contains(['/', '\\']) {
        return Cow::Borrowed("a name");
    }
    Cow::Owned(name.to_owned())
}

/// With `.`, `/`, `\` and `;` for their percent-encodings, however often they are encoded (`%2e`, `%252e`, …).
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        let code = after.trim_start_matches("25");
        let character = match code.get(..2).map(str::to_ascii_lowercase).as_deref() {
            Some("2e") => Some('.'),
            Some("2f") => Some('/'),
            Some("5c") => Some('\\'),
            Some("3b") => Some(';'),
            _ => None,
        };
        plain.push(character.unwrap_or('%'));
        rest = if character.is_some() { &code[2..] } else { after };
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    #[test]
    fn what_leads_above_the_root_in_any_reading_climbs() {
        for path in [
            "/..",
            "/../x",
            "/a/../../x",
            "/a/./../../x",
            "/a//../../x",
            "/%2e%2e/x",
            "/%2E./x",
            "/.%2e/x",
            "/%252e%252e/x",
            "/%25252E./x",
            "/..%2fx",
            "/a/..%2f..%2fx",
            "/a%2f..%2f..%2fx",
            "/a%2fb/../../x",
            "/..%5cx",
            "/..\\x",
            "/a\\..\\..\\x",
            "/a\\b/../../x",
            "/..;/x",
            "/..;a=b/x",
            "/..%3bv=1/x",
            "/;/../x",
            "/a/..%252f..%252fx",
            "/..;%2f/x",
        ] {
            assert!(climbs(path), "{path}");
        }
    }

    #[test]
    fn what_stays_below_the_root_does_not() {
        for path in [
            "/",
            "//",
            "//v1/chat",
            "/a/../x",
            "/a/b/../../x",
            "/a/..",
            "/a/%2e%2e/x",
            "/...",
            "/..x/y",
            "/x../y",
            "/.../..",
            "/v1/files/%2e",
            "/v1/models/a%2fb",
            "/v1/models/a%2Fb:generate",
            "/100%25",
            "/100%",
            "/%",
            "/a%2",
            "/%252",
            "/a;../b",
            "/é/%C3%A9/..",
        ] {
            assert!(!climbs(path), "{path}");
        }
    }

    #[test]
    fn only_two_slashes_begin_like_an_authority() {
        for (target, does) in [("//a/x", true), ("/\\a/x", true), ("/a//x", false), ("/", false), ("/%2fa", false)] {
            assert_eq!(begins_with_authority(target), does, "{target}");
        }
    }

    proptest! {
        /// The plain reading of RFC 3986, 5.2.4, is one of those that count.
        #[test]
        fn nothing_that_climbs_plainly_is_let_through(path in "(/(\\.|\\.\\.|%2[eE]|%2[fF]|a|;|\\\\|%25|){0,3}){1,6}") {
            let mut depth = 0_i32;
            let climbs_plainly = path.split('/').skip(1).any(|segment| {
                depth += match segment { "." => 0, ".." => -1, _ => 1 };
                depth < 0
            });
            prop_assert!(!climbs_plainly || climbs(&path), "{}", path);
        }
    }
}
