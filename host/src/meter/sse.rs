//! `text/event-stream` (WHATWG HTML, 9.2) in pieces cut anywhere, as far as the data of events goes.
//!
//! Nothing is buffered: data goes on as it comes. Names, ids and retry times of events are left out.

use memchr::memchr2;

/// What a stream consists of.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Some of a `data` line; the first one of an event may be empty, and begins it.
    Data(&'a [u8]),
    /// Another `data` line follows in the same event.
    NextLine,
    /// The event is complete (a blank line; it may have had no data).
    End,
}

#[derive(Debug, Default)]
pub struct EventStream {
    state: State,
    /// A line feed right after a carriage return belongs to it.
    after_return: bool,
    /// The event has a line that is no comment.
    has_field: bool,
    has_data: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Bytes of a byte order mark so far.
    Mark(usize),
    /// Bytes of the name `data` so far, at the beginning of a line.
    Name(usize),
    /// Behind the colon, where one space is not data.
    Space,
    Data,
    Comment,
    /// A field of no interest.
    Skip,
}

impl Default for State {
    fn default() -> Self {
        Self::Mark(0)
    }
}

const MARK: &[u8] = b"\xef\xbb\xbf";
const DATA: &[u8] = b"data";

impl EventStream {
    pub fn push(&mut self, chunk: &[u8], mut part: impl FnMut(Part<'_>)) {
        let mut rest = chunk;
        while self.next_block(&mut rest, &mut part) {}
    }

    /// Reads on in a piece and takes what was read from it: true at the end of a block, which is an event with its
    /// blank line, or a comment before an event's first field; false when the piece is used up. Where a block ends with
    /// a carriage return, a line feed right behind it is read with the next one.
    pub fn next_block(&mut self, chunk: &mut &[u8], mut part: impl FnMut(Part<'_>)) -> bool {
        let whole = *chunk;
        let mut at = 0;
        while let Some(&byte) = whole.get(at) {
            if std::mem::take(&mut self.after_return) && byte == b'\n' {
                at += 1;
                continue;
            }
            match self.state {
                State::Mark(matched) => {
                    if byte == MARK[matched] {
                        at += 1;
                        self.state = if matched + 1 == MARK.len() { State::Name(0) } else { State::Mark(matched + 1) };
                    } else {
                        self.state = if matched == 0 { State::Name(0) } else { self.skip_field() };
                    }
                }
                State::Name(0) if byte == b'\r' || byte == b'\n' => {
                    self.has_field = false;
                    self.has_data = false;
                    self.end_line(byte);
                    *chunk = &whole[at + 1..];
                    part(Part::End);
                    return true;
                }
                State::Name(0) if byte == b':' => self.state = State::Comment,
                State::Name(matched) => match byte {
                    b'\r' | b'\n' => {
                        // A field without a colon has an empty value.
                        if matched == DATA.len() {
                            self.begin_data(&mut part);
                        }
                        self.end_line(byte);
                        at += 1;
                    }
                    b':' if matched == DATA.len() => {
                        self.begin_data(&mut part);
                        self.state = State::Space;
                        at += 1;
                    }
                    _ if DATA.get(matched) == Some(&byte) => {
                        self.has_field = true;
                        self.state = State::Name(matched + 1);
                        at += 1;
                    }
                    _ => self.state = self.skip_field(),
                },
                State::Space => {
                    self.state = State::Data;
                    at += usize::from(byte == b' ');
                }
                State::Data | State::Comment | State::Skip => {
                    let end = memchr2(b'\r', b'\n', &whole[at..]).map(|length| at + length);
                    let rest = &whole[at..end.unwrap_or(whole.len())];
                    if matches!(self.state, State::Data) && !rest.is_empty() {
                        part(Part::Data(rest));
                    }
                    let Some(end) = end else { break };
                    let is_block = matches!(self.state, State::Comment) && !self.has_field;
                    self.end_line(whole[end]);
                    at = end + 1;
                    if is_block {
                        *chunk = &whole[at..];
                        return true;
                    }
                }
            }
        }
        *chunk = &[];
        false
    }

    fn begin_data(&mut self, part: &mut impl FnMut(Part<'_>)) {
        if std::mem::replace(&mut self.has_data, true) {
            part(Part::NextLine);
        } else {
            part(Part::Data(b""));
        }
    }

    fn skip_field(&mut self) -> State {
        self.has_field = true;
        State::Skip
    }

    fn end_line(&mut self, byte: u8) {
        self.after_return = byte == b'\r';
        self.state = State::Name(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The data of each event that has some.
    fn events(pieces: &[&[u8]]) -> Vec<String> {
        let mut events = Vec::new();
        let mut current: Option<Vec<u8>> = None;
        let mut stream = EventStream::default();
        for piece in pieces {
            stream.push(piece, |part| match part {
                Part::Data(bytes) => current.get_or_insert_default().extend_from_slice(bytes),
                Part::NextLine => current.as_mut().expect("an event has begun").push(b'\n'),
                Part::End => events.extend(current.take().map(|data| String::from_utf8_lossy(&data).into_owned())),
            });
        }
        events
    }

    #[test]
    fn the_standards_rules_hold_wherever_the_stream_is_cut() {
        let cases: [(&str, &[&str]); 11] = [
            ("data: a\n\n", &["a"]),
            ("\u{feff}data:a\r\rdata: b\r\n\r\n", &["a", "b"]),
            ("data: YHOO\ndata: +2\ndata: 10\n\n", &["YHOO\n+2\n10"]),
            (
                ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
                &["first event", "second event", " third event"],
            ),
            ("data\n\ndata\ndata\n\ndata:\n\n", &["", "\n", ""]),
            ("event: x\nid:7\n:HTTP_STATUS/200\ndata:{}\nretry: 1\n\n", &["{}"]),
            ("data: unfinished\n", &[]),
            ("dat: a\ndatas: b\n data: c\nDATA: d\n\n", &[]),
            ("data: a\n\u{feff}data: b\n\n", &["a"]),
            ("\n\n\ndata: a\r\n\n\r\n", &["a"]),
            ("data:a:b\n\n", &["a:b"]),
        ];
        for (text, expected) in cases {
            let bytes = text.as_bytes();
            assert_eq!(events(&[bytes]), expected, "{text:?}");
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(events(&single), expected, "{text:?} byte by byte");
            for cut in 0..bytes.len() {
                assert_eq!(events(&[&bytes[..cut], &bytes[cut..]]), expected, "{text:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_block_is_an_event_or_a_comment_before_its_first_field() {
        let text = b": a\r\n:b\nid: 1\n: c\ndata: x\n\n\ndata: y\n: d\n\n";
        let mut stream = EventStream::default();
        let mut rest = &text[..];
        let mut blocks = Vec::new();
        loop {
            let before = rest;
            let ended = stream.next_block(&mut rest, |_| {});
            blocks.push(std::str::from_utf8(&before[..before.len() - rest.len()]).unwrap());
            if !ended {
                break;
            }
        }
        let expected = [": a\r", "\n:b\n", "id: 1\n: c\ndata: x\n\n", "\n", "data: y\n: d\n\n", ""];
        assert_eq!(blocks, expected);
    }

    /// The standard's algorithm on the whole text, line by line.
    fn by_lines(text: &str) -> Vec<String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
        let mut events = Vec::new();
        let mut data: Vec<&str> = Vec::new();
        let lines = text.matches('\n').count();
        for line in text.split('\n').take(lines) {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            if line.is_empty() {
                if !data.is_empty() {
                    events.push(data.join("\n"));
                    data.clear();
                }
            } else if name == "data" {
                data.push(value.strip_prefix(' ').unwrap_or(value));
            }
        }
        events
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_stream_gives_the_events_of_the_standards_algorithm(
            parts in proptest::collection::vec(
                prop::sample::select(&["data", ":", " ", "\n", "\r", "\r\n", "x", "\n\n", "data: {}\n\n", "id:1\n", "\u{feff}"][..]),
                0..20,
            ),
            cut in any::<prop::sample::Index>(),
        ) {
            let text = parts.concat();
            let cut = cut.index(text.len() + 1);
            prop_assert_eq!(events(&[&text.as_bytes()[..cut], &text.as_bytes()[cut..]]), by_lines(&text));
        }
    }
}
