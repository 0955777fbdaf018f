use proptest::prelude::*;

use super::*;

const EXTRA: &str = r#"{"id":"c-1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5}}"#;

/// What goes on after each piece, the end last.
fn filtered(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut filter = ExtraChunk::default();
    let mut out: Vec<Vec<u8>> =
        pieces.iter().map(|piece| filter.push(&Bytes::copy_from_slice(piece)).to_vec()).collect();
    out.push(filter.finish().to_vec());
    out
}

fn text(pieces: &[&[u8]]) -> String {
    String::from_utf8(filtered(pieces).concat()).unwrap()
}

/// What goes on of a stream, which must be the same wherever it is cut.
fn rest_of(stream: &str) -> String {
    let bytes = stream.as_bytes();
    let whole = text(&[bytes]);
    assert_eq!(text(&bytes.chunks(1).collect::<Vec<_>>()), whole, "{stream:?} byte by byte");
    for cut in 0..=bytes.len() {
        assert_eq!(text(&[&bytes[..cut], &bytes[cut..]]), whole, "{stream:?} cut at {cut}");
    }
    whole
}

#[test]
fn the_chunk_with_usage_and_no_choices_is_taken_out_and_nothing_else() {
    let chunk = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}],\"usage\":null}\n\n";
    let done = "data: [DONE]\n\n";
    for (extra, is_out) in [
        (format!("data: {EXTRA}\n\n"), true),
        (format!("data:{EXTRA}\r\n\r\n"), true),
        (format!("data: {EXTRA}\r\r"), true),
        (format!("id: 7\nevent: chunk\n: a comment inside\ndata: {EXTRA}\nretry: 1\n\n"), true),
        ("data: {\"choices\":\ndata: [],\r\ndata: \"usage\":{}}\n\n".to_owned(), true),
        ("data:  { \"usage\" : { } , \"choices\" : [ ] } \n\n".to_owned(), true),
        // Of a member that occurs twice the last counts.
        ("data: {\"choices\":[1],\"choices\":[],\"usage\":null,\"usage\":{}}\n\n".to_owned(), true),
        ("data: {\"choices\":[],\"choices\":[1],\"usage\":{}}\n\n".to_owned(), false),
        // Azure begins so.
        ("data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n".to_owned(), false),
        ("data: {\"choices\":[],\"usage\":null}\n\n".to_owned(), false),
        ("data: {\"choices\":[null],\"usage\":{}}\n\n".to_owned(), false),
        ("data: {\"choices\":{},\"usage\":{}}\n\n".to_owned(), false),
        ("data: {\"choices\":null,\"usage\":{}}\n\n".to_owned(), false),
        ("data: {\"usage\":{}}\n\n".to_owned(), false),
        ("data: {\"x\":{\"choices\":[],\"usage\":{}}}\n\n".to_owned(), false),
        (format!("data: [{EXTRA}]\n\n"), false),
        (format!("data: {EXTRA},\n\n"), false),
        (format!("data: {EXTRA}\ndata: {EXTRA}\n\n"), false),
        (format!("datas: {EXTRA}\n\n"), false),
        (format!(": {EXTRA}\n\n"), false),
        (format!("{EXTRA}\n\n"), false),
    ] {
        let stream = format!(": keep-alive\n\n{chunk}{extra}{done}");
        let expected = if is_out { format!(": keep-alive\n\n{chunk}{done}") } else { stream.clone() };
        assert_eq!(rest_of(&stream), expected);
    }
}

#[test]
fn a_stream_may_begin_or_end_with_it_or_break_off_in_it() {
    for (stream, expected) in [
        ("", ""),
        ("\u{feff}data: {\"choices\":[],\"usage\":{}}\n\ndata: a\n\n", "data: a\n\n"),
        ("data: a\n\ndata: {\"choices\":[],\"usage\":{}}\n\n", "data: a\n\n"),
        ("data: a\n\ndata: {\"choices\":[],\"usage\":{}}\n", "data: a\n\n"),
        ("data: a\n\ndata: {\"choices\":[],\"usage\":{}}", "data: a\n\n"),
        ("data: a\n\n: c\ndata: {\"choices\":[],\"usage\":{}}", "data: a\n\n: c\n"),
        (
            "data: a\r\n\r\ndata: {\"choices\":[],\"usage\":{\"pro",
            "data: a\r\n\r\ndata: {\"choices\":[],\"usage\":{\"pro",
        ),
        ("data: [DONE]", "data: [DONE]"),
        // Not an event: its mark is in the wrong place.
        (
            "data: a\n\n\u{feff}data: {\"choices\":[],\"usage\":{}}\n\n",
            "data: a\n\n\u{feff}data: {\"choices\":[],\"usage\":{}}\n\n",
        ),
    ] {
        assert_eq!(rest_of(stream), expected);
    }
}

#[test]
fn pieces_that_are_whole_events_go_on_uncopied() {
    let mut filter = ExtraChunk::default();
    let piece = Bytes::from_static(b": c\n\ndata: {\"choices\":[{}]}\n\ndata: [DONE]\n\n");
    assert_eq!(filter.push(&piece).as_ptr(), piece.as_ptr());
}

#[test]
fn a_comment_before_an_event_is_not_held_back() {
    let pieces: [&[u8]; 4] = [b": processing\n", b": still\r", b"\ndata: x", b"\n\n"];
    assert_eq!(filtered(&pieces), [&b": processing\n"[..], b": still\r", b"\n", b"data: x\n\n", b""]);
}

#[test]
fn an_event_that_is_too_long_streams_through_and_the_next_one_does_not() {
    let mut filter = ExtraChunk::default();
    let long = format!("data: {{\"choices\":[],\"usage\":{{}},\"text\":\"{}", "x".repeat(HELD_BYTES_MAX - 40));
    assert_eq!(filter.push(&Bytes::from(long.clone())), "", "not yet too long");
    let more = "x".repeat(100);
    assert_eq!(filter.push(&Bytes::from(more.clone())), format!("{long}{more}"));
    assert_eq!(filter.push(&Bytes::from(more.clone())), more, "nothing is held any more");
    assert_eq!(filter.push(&Bytes::from_static(b"\"}\n")), "\"}\n");
    let end = format!("\ndata: {EXTRA}\n\ndata: [DONE]\n\n");
    assert_eq!(filter.push(&Bytes::from(end)), "\ndata: [DONE]\n\n");
    assert_eq!(filter.finish(), "");
}

/// A block of a stream without its line ends, and whether it is the one to take out.
fn blocks() -> impl Strategy<Value = (&'static [&'static str], bool)> {
    const BLOCKS: &[(&[&str], bool)] = &[
        (&["data: {\"choices\":[{\"delta\":{\"content\":\"ä\"}}],\"usage\":null}", ""], false),
        (&["id: 1", "event: x", ":HTTP_STATUS/200", "data:{\"output\":{}}", ""], false),
        (&[": keep-alive"], false),
        (&[""], false),
        (&["data: [DONE]", ""], false),
        (&["data: {\"choices\":[],\"usage\":null}", ""], false),
        (&["data: not JSON", "data", ""], false),
        (&["data: {\"choices\":[],\"usage\":{\"a\":1}}", ""], true),
        (&["event: x", "data:{\"usage\":{},", "data: \"choices\" : []}", ": inside", "id", ""], true),
    ];
    prop::sample::select(BLOCKS)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn cut_anywhere_a_stream_loses_exactly_the_extra_events_and_none_of_it_waits_longer_than_an_event(
        blocks in prop::collection::vec((blocks(), prop::sample::select(&["\n", "\r", "\r\n"][..])), 0..8),
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let (mut stream, mut expected) = (String::new(), String::new());
        // After so many bytes of the stream, so many must have gone on.
        let mut due = Vec::new();
        for ((lines, is_extra), end) in blocks {
            let block: String = lines.iter().flat_map(|line| [*line, end]).collect();
            // The two would be one line end.
            if stream.ends_with('\r') && block.starts_with('\n') {
                continue;
            }
            stream.push_str(&block);
            if !is_extra {
                expected.push_str(&block);
            }
            due.push((stream.len(), expected.len()));
        }
        let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &stream.as_bytes()[cut[0]..cut[1]]).collect();
        let out = filtered(&pieces);
        let (mut read, mut gone) = (0, 0);
        for (piece, went) in pieces.iter().zip(&out) {
            read += piece.len();
            gone += went.len();
            let enough = due.iter().rev().find(|(end, _)| *end <= read).map_or(0, |(_, enough)| *enough);
            prop_assert!(gone >= enough, "{gone} of {enough} after {read} in {stream:?}");
        }
        prop_assert_eq!(String::from_utf8(out.concat()).unwrap(), expected);
    }
}
