//! Which trace a request belongs to (W3C Trace Context), for the gateway's own logs.
//!
//! `traceparent`, `tracestate` and `baggage` pass on as they came, whatever they say: the gateway is no part of the
//! trace, and a malformed header is not its to judge.

use std::ops::Deref;

use http::header::{HeaderMap, HeaderName};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 32]);

impl TraceId {
    /// Of the one `traceparent` that is valid; of several, none is the right one.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.iter().filter(|(name, _)| **name == TRACEPARENT).map(|(_, value)| value);
        let value = values.next()?;
        if values.next().is_some() { None } else { Self::parse(value.as_bytes()) }
    }

    /// `version-traceid-parentid-flags`; a later version than 00 may have more, after a further `-`.
    fn parse(value: &[u8]) -> Option<Self> {
        let (known, further) = value.split_at_checked(55)?;
        let (version, trace, parent, flags) = (&known[..2], &known[3..35], &known[36..52], &known[53..]);
        let is_hex = |field: &[u8]| field.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_zero = |field: &[u8]| field.iter().all(|&byte| byte == b'0');
        let is_valid = [2, 35, 52].iter().all(|&place| known[place] == b'-')
            && [version, trace, parent, flags].into_iter().all(is_hex)
            && !is_zero(trace)
            && !is_zero(parent)
            && match version {
                b"00" => further.is_empty(),
                b"ff" => false,
                _ => further.first().is_none_or(|&byte| byte == b'-'),
            };
        if is_valid { trace.try_into().ok().map(Self) } else { None }
    }
}

impl Deref for TraceId {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits are UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn parsed(value: &str) -> Option<String> {
        TraceId::parse(value.as_bytes()).map(|id| id.to_string())
    }

    #[test]
    fn the_id_of_a_valid_traceparent_is_read() {
        for value in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
            // Later versions: the same, or more.
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-will-be-like",
            "fe-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        ] {
            assert_eq!(parsed(value).as_deref(), Some(TRACE), "{value}");
        }
    }

    #[test]
    fn another_has_none() {
        for value in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7_01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-010",
        ] {
            assert_eq!(parsed(value), None, "{value}");
        }
    }

    #[test]
    fn of_several_none_is_the_right_one() {
        let value = http::HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let mut headers = HeaderMap::new();
        assert_eq!(TraceId::of(&headers), None);
        headers.append(&TRACEPARENT, value.clone());
        assert_eq!(TraceId::of(&headers).as_deref(), Some(TRACE));
        headers.append(&TRACEPARENT, value);
        assert_eq!(TraceId::of(&headers), None);
    }

    proptest! {
        #[test]
        fn strangers_values_are_read_without_harm(value in prop::collection::vec(any::<u8>(), 0..80)) {
            TraceId::parse(&value);
        }

        #[test]
        fn what_is_written_is_read(version in 0..255_u8, trace in 1..=u128::MAX, parent in 1..=u64::MAX, flags: u8) {
            let value = format!("{version:02x}-{trace:032x}-{parent:016x}-{flags:02x}");
            prop_assert_eq!(parsed(&value), Some(format!("{trace:032x}")));
        }
    }
}
