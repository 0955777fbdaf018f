//! Asks a provider for the usage of a stream whose client does not: `stream_options.include_usage` in OpenAI's format.
//!
//! Not a stage: what channels with `"usage": "ask"` have done to a request's body between `decide` and `forward`. What
//! the provider then says too much, the relay takes out again (see [`crate::meter::ExtraChunk`]). A body that cannot be
//! read, and one whose client asks by itself, stay as they are; in any other body every other byte does.

use std::sync::{Arc, LazyLock};

use http::Method;
use http::request::Parts;

use crate::exchange::plan::Prepared;
use crate::exchange::source::Source;
use crate::exchange::{classify, forward};
use crate::json::edit::BodyEdit;
use crate::json::{Kind, Pointer, Query};

const STREAM: usize = 0;
const OPTIONS: usize = 1;
const INCLUDE: usize = 2;

static POINTERS: LazyLock<[Pointer; 3]> = LazyLock::new(|| {
    ["/stream", "/stream_options", "/stream_options/include_usage"].map(|text| Pointer::parse(text).expect("a pointer"))
});
static QUERY: LazyLock<Arc<Query>> = LazyLock::new(|| Arc::new(Query::new(&*POINTERS, 0)));

/// Whether a request like this may stream in OpenAI's format, and somebody reads its usage.
pub fn may_be_asked_for(prepared: &Prepared, parts: &Parts) -> bool {
    // `/chat/completions` ends so too.
    prepared.plan.path.ends_with("/completions")
        && prepared.plan.meters.is_some()
        && parts.method == Method::POST
        && classify::is_json(&parts.headers)
}

/// Puts the question into the body; false where nothing is changed.
pub async fn ask(source: &mut Source) -> bool {
    let Source::Held(held) = source else { return false };
    if held.rest.is_some() {
        return false;
    }
    let Some(question) = question(&held.bytes).await else { return false };
    // It fails where a member occurs twice, and not alike: whatever that means, it is between client and provider.
    let Ok(edited) = forward::edited_body(held.bytes.clone(), &[question]).await else { return false };
    held.bytes = edited;
    true
}

/// The edit with which a stream's usage is asked for; none where this is no stream, or asks already.
async fn question(body: &[u8]) -> Option<BodyEdit> {
    let scanner = classify::scan(&QUERY, body).await?;
    let kind = |pointer| scanner.found(pointer).map(|found| found.kind);
    if kind(STREAM) != Some(Kind::True) {
        return None;
    }
    let (pointer, value) = match (kind(OPTIONS), kind(INCLUDE)) {
        (None | Some(Kind::Null), _) => (OPTIONS, r#"{"include_usage":true}"#),
        (Some(Kind::Object), None | Some(Kind::Null | Kind::False)) => (INCLUDE, "true"),
        // Asked for, or nothing that a provider would understand.
        _ => return None,
    };
    Some(BodyEdit::Set { pointer: POINTERS[pointer].clone(), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::edit;

    /// The body that goes upstream.
    fn asked(body: &str) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        match runtime.block_on(question(body.as_bytes())) {
            Some(question) => edit::apply(body.as_bytes(), &[question])
                .map_or_else(|_| body.to_owned(), |edited| String::from_utf8(edited).unwrap()),
            None => body.to_owned(),
        }
    }

    #[test]
    fn a_stream_that_does_not_ask_is_made_to_and_every_other_byte_stays() {
        for (body, expected) in [
            (
                "{ \"stream\" : true ,\n\"n\": 1.0e0 }",
                "{ \"stream\" : true ,\n\"n\": 1.0e0,\"stream_options\":{\"include_usage\":true} }",
            ),
            (
                r#"{"stream_options": null, "stream": true}"#,
                r#"{"stream_options": {"include_usage":true}, "stream": true}"#,
            ),
            (r#"{"stream":true,"stream_options":{ }}"#, r#"{"stream":true,"stream_options":{"include_usage":true }}"#),
            (
                r#"{"stream":true,"stream_options":{"x": [1]}}"#,
                r#"{"stream":true,"stream_options":{"x": [1],"include_usage":true}}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage" : false,"x":1}}"#,
                r#"{"stream":true,"stream_options":{"include_usage" : true,"x":1}}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":null}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            // Whichever of the two the provider reads.
            (
                r#"{"stream":true,"stream_options":{"x":1},"stream_options":{}}"#,
                r#"{"stream":true,"stream_options":{"x":1,"include_usage":true},"stream_options":{"include_usage":true}}"#,
            ),
        ] {
            assert_eq!(asked(body), expected);
            assert_eq!(asked(expected), expected, "asked once");
        }
    }

    #[test]
    fn what_does_not_stream_or_asks_already_or_makes_no_sense_stays_as_it_is() {
        for body in [
            "",
            "{}",
            r#"{"stream":false}"#,
            r#"{"stream":"true"}"#,
            r#"{"stream":true,"stream":false}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":"no"}}"#,
            r#"{"stream":true,"stream_options":[]}"#,
            r#"{"stream":true,"stream_options":true}"#,
            r#"{"stream":true,"stream_options":null,"stream_options":{}}"#,
            r#"[{"stream":true}]"#,
            r#"{"stream":true"#,
            "model=qwen&stream=true",
        ] {
            assert_eq!(asked(body), body);
        }
    }
}
