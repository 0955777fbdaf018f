//! One text field of a `multipart/form-data` body that is held in memory.
//!
//! `multer` does the parsing. It is made for streams, and takes in all that a stream has ready; so it is given the
//! body in pieces, each behind a pause, and stops where the field is found: of a long upload only the beginning is
//! read and copied. What follows the field is not looked at; of fields with the same name the first counts.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::Stream;
use multer::{Multipart, parse_boundary};

/// A longer value is not a name of anything.
const VALUE_BYTES_MAX: usize = 4096;
const PIECE_BYTES: usize = 16 * 1024;

/// The field's value. None where there is no such field, it is a file, longer than 4 KiB, not UTF-8, or the body up to
/// there is malformed.
pub fn field(content_type: &str, body: &[u8], name: &str) -> Option<String> {
    let boundary = parse_boundary(content_type).ok()?;
    let form = Multipart::new(Pieces { rest: body, is_paused: false }, boundary);
    let mut search = pin!(find(form, name));
    let mut context = Context::from_waker(Waker::noop());
    // Each pause brings a piece; the few more polls are for the end of the body.
    for _ in 0..body.len() / PIECE_BYTES + 8 {
        if let Poll::Ready(value) = search.as_mut().poll(&mut context) {
            return value;
        }
    }
    None
}

async fn find(mut form: Multipart<'_>, name: &str) -> Option<String> {
    while let Some(mut field) = form.next_field().await.ok()? {
        if field.name() != Some(name) {
            continue;
        }
        if field.file_name().is_some() {
            return None;
        }
        let mut value = Vec::new();
        while let Some(piece) = field.chunk().await.ok()? {
            if value.len() + piece.len() > VALUE_BYTES_MAX {
                return None;
            }
            value.extend_from_slice(&piece);
        }
        return String::from_utf8(value).ok();
    }
    None
}

/// The body, with a pause behind each piece.
struct Pieces<'a> {
    rest: &'a [u8],
    is_paused: bool,
}

impl Stream for Pieces<'_> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.is_paused = !self.is_paused;
        if !self.is_paused {
            return Poll::Pending;
        }
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let (piece, rest) = self.rest.split_at(self.rest.len().min(PIECE_BYTES));
        self.rest = rest;
        Poll::Ready(Some(Ok(Bytes::copy_from_slice(piece))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"xYz\"";

    fn form(fields: &[(&str, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (disposition, value) in fields {
            body.extend_from_slice(
                format!("--xYz\r\nContent-Disposition: form-data; {disposition}\r\n\r\n").as_bytes(),
            );
            body.extend_from_slice(value);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--xYz--\r\n");
        body
    }

    fn model(body: &[u8]) -> Option<String> {
        field(TYPE, body, "model")
    }

    #[test]
    fn the_field_is_found_before_and_behind_a_file() {
        let file = vec![b'-'; 300_000];
        let upload: (&str, &[u8]) = ("name=\"file\"; filename=\"a.wav\"", &file);
        let wanted: (&str, &[u8]) = ("name=\"model\"", "whisper-模型".as_bytes());
        let other: (&str, &[u8]) = ("name=\"models\"", b"no");
        assert_eq!(model(&form(&[other, wanted, upload])).as_deref(), Some("whisper-模型"));
        assert_eq!(model(&form(&[other, upload, wanted])).as_deref(), Some("whisper-模型"));
        assert_eq!(model(&form(&[upload, other])), None);
    }

    #[test]
    fn what_is_no_short_text_field_is_none() {
        assert_eq!(model(&form(&[("name=\"model\"", &[b'm'; 4096])])).map(|value| value.len()), Some(4096));
        assert_eq!(model(&form(&[("name=\"model\"", &[b'm'; 4097])])), None);
        assert_eq!(model(&form(&[("name=\"model\"; filename=\"x\"", b"m")])), None);
        assert_eq!(model(&form(&[("name=\"model\"", b"\xff")])), None);
        let body = form(&[("name=\"model\"", b"m")]);
        assert_eq!(field("application/json", &body, "model"), None);
        assert_eq!(field("multipart/form-data", &body, "model"), None);
        assert_eq!(field("multipart/form-data; boundary=other", &body, "model"), None);
        assert_eq!(model(b""), None);
    }

    #[test]
    fn a_value_that_is_cut_off_is_none() {
        let body = form(&[("name=\"model\"", b"gpt")]);
        let boundary = body.len() - b"--xYz--\r\n".len() - 2;
        for cut in 0..boundary {
            assert_eq!(model(&body[..cut]), None, "cut at {cut}");
        }
        assert_eq!(model(&body).as_deref(), Some("gpt"));
    }

    proptest! {
        #[test]
        fn damaged_bodies_never_panic(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut body = form(&[("name=\"a\"", b"1"), ("name=\"model\"", b"gpt"), ("name=\"b\"", b"2")]);
            for (at, byte) in damage {
                let at = at.index(body.len());
                body[at] = byte;
            }
            body.truncate(cut.index(body.len() + 1));
            model(&body);
        }
    }
}
