use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;
use crate::json::{Pointer, sample};

fn query(pointers: &[&str], capture_bytes_max: usize) -> Arc<Query> {
    let pointers: Vec<Pointer> = pointers.iter().map(|text| Pointer::parse(text).unwrap()).collect();
    Arc::new(Query::new(&pointers, capture_bytes_max))
}

fn scan(text: &[u8], pointers: &[&str]) -> Result<Scanner, Malformed> {
    let mut scanner = Scanner::new(query(pointers, 4096), Documents::One);
    scanner.push(text)?;
    scanner.finish()?;
    Ok(scanner)
}

/// The same text, in pieces cut at the given places.
fn scan_cut(text: &[u8], pointers: &[&str], cuts: &[usize]) -> Result<Scanner, Malformed> {
    let mut scanner = Scanner::new(query(pointers, 4096), Documents::One);
    let mut from = 0;
    for &cut in cuts {
        scanner.push(&text[from..cut])?;
        from = cut;
    }
    scanner.push(&text[from..])?;
    scanner.finish()?;
    Ok(scanner)
}

fn reason(text: &[u8]) -> Option<(usize, Reason)> {
    scan(text, &[]).err().map(|malformed| (malformed.at, malformed.reason))
}

type Finding = (Kind, Range<usize>, Option<String>);

/// Everything found, in a form that can be compared.
fn findings(scanner: &Scanner, count: usize) -> Vec<Option<Finding>> {
    let one = |found: Found| (found.kind, found.span.clone(), found.text().map(Cow::into_owned));
    (0..count).map(|pointer| scanner.found(pointer).map(one)).collect()
}

#[test]
fn values_are_found_with_kind_place_and_text() {
    let body = br#" {"stream": true, "model":"qwen\u002dmax", "n": [1, {"x": -2.5e3}], "o": {"k": null}} "#;
    let pointers = ["/model", "/stream", "/n/1/x", "/o", "/n", "/o/k", "/absent", "", "/n/2", "/model/x"];
    let scanner = scan(body, &pointers).unwrap();
    let found = |at: usize| {
        let found = scanner.found(at)?;
        Some((found.kind, String::from_utf8_lossy(&body[found.span.clone()]).into_owned(), found.text()?.into_owned()))
    };
    let expect = |kind, raw: &str, text: &str| Some((kind, raw.to_owned(), text.to_owned()));
    assert_eq!(found(0), expect(Kind::String, r#""qwen\u002dmax""#, "qwen-max"));
    assert_eq!(found(1), expect(Kind::True, "true", "true"));
    assert_eq!(found(2), expect(Kind::Number, "-2.5e3", "-2.5e3"));
    assert_eq!(found(3), expect(Kind::Object, r#"{"k": null}"#, r#"{"k": null}"#));
    assert_eq!(found(4), expect(Kind::Array, r#"[1, {"x": -2.5e3}]"#, r#"[1, {"x": -2.5e3}]"#));
    assert_eq!(found(5), expect(Kind::Null, "null", "null"));
    assert_eq!(found(6), None);
    assert_eq!(found(7).unwrap().0, Kind::Object);
    assert_eq!((found(8), found(9)), (None, None));
}

#[test]
fn of_repeated_members_the_last_counts() {
    let text =
        |body: &str, pointer: &str| scan(body.as_bytes(), &[pointer]).unwrap().found_text(0).map(Cow::into_owned);
    assert_eq!(text(r#"{"model":"a","mod\u0065l":"b"}"#, "/model").as_deref(), Some("b"));
    assert_eq!(text(r#"{"a":{"b":1},"a":2}"#, "/a/b"), None);
    assert_eq!(text(r#"{"a":{"b":1},"a":{"c":2}}"#, "/a/b"), None);
    assert_eq!(text(r#"{"a":2,"a":{"b":1}}"#, "/a/b").as_deref(), Some("1"));
}

#[test]
fn equal_pointers_and_nested_pointers_each_get_their_answer() {
    let scanner = scan(br#"{"a":{"b":[7]}}"#, &["/a/b/0", "/a", "/a/b", "/a"]).unwrap();
    let texts: Vec<_> = (0..4).map(|at| scanner.found_text(at).unwrap()).collect();
    assert_eq!(texts, ["7", r#"{"b":[7]}"#, "[7]", r#"{"b":[7]}"#]);
}

#[test]
fn too_long_is_told_apart_from_absent_and_measured_unescaped() {
    for (body, text) in [
        (r#"{"a":"12345678"}"#, Some("12345678")),
        (r#"{"a":"123456789"}"#, None),
        (r#"{"a":"\u0031\u0032\u0033\u0034\u0035\u0036\u0037\u0038"}"#, Some("12345678")),
        (r#"{"a":[1,2,34]}"#, Some("[1,2,34]")),
        (r#"{"a":[1,2,345]}"#, None),
    ] {
        for cut in 0..body.len() {
            let mut scanner = Scanner::new(query(&["/a", "/b"], 8), Documents::One);
            scanner.push(&body.as_bytes()[..cut]).unwrap();
            scanner.push(&body.as_bytes()[cut..]).unwrap();
            assert!(scanner.finish().unwrap() || cut < body.len());
            let found = scanner.found(0).expect("it is there, however long");
            assert_eq!(found.text().as_deref(), text, "{body} cut at {cut}");
            assert_eq!(found.span, 5..body.len() - 1);
            assert!(scanner.found(1).is_none());
        }
    }
}

#[test]
fn what_is_not_json_is_refused_with_place_and_reason() {
    assert_eq!(reason(b""), Some((0, Reason::Incomplete)));
    assert_eq!(reason(b"  "), Some((2, Reason::Incomplete)));
    assert_eq!(reason(b"{\"a\":1"), Some((6, Reason::Incomplete)));
    assert_eq!(reason(b"\xef\xbb\xbf{}"), Some((0, Reason::ByteOrderMark)));
    assert_eq!(reason(b"{} x"), Some((3, Reason::TrailingBytes)));
    assert_eq!(reason(b"{}\n{}"), Some((3, Reason::TrailingBytes)));
    assert_eq!(reason(b"\"\x1f\""), Some((1, Reason::ControlByteInString)));
    assert_eq!(reason(br#""\x""#), Some((2, Reason::UnknownEscape)));
    assert_eq!(reason(br#""\u00g0""#), Some((5, Reason::UnknownEscape)));
    assert_eq!(reason(b"\"\xff\""), Some((1, Reason::NotUtf8)));
    assert_eq!(reason(b"\"\xe6\xa8\""), Some((1, Reason::NotUtf8)));
    for text in [
        "[1,]",
        "[,1]",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "01",
        "1.",
        "-",
        "1e",
        "+1",
        ".5",
        "nul",
        "nulL",
        "[1}",
        "{\"a\":1]",
        "]",
        "NaN",
        "'a'",
        "[1 2]",
        "{\"a\" 1}",
        "{1:2}",
    ] {
        assert!(scan(text.as_bytes(), &[""]).is_err(), "{text}");
    }
    for text in ["0", "-0", "1e5", "null", " \"\" ", "[[]]", "{\"\":{}}", r#""\ud800""#, "1E+9"] {
        assert_eq!(reason(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(reason(nested(128).as_bytes()), None);
    assert_eq!(reason(nested(129).as_bytes()), Some((128, Reason::TooDeep)));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(128), "}".repeat(128));
    let pointer = "/a".repeat(32);
    assert_eq!(scan(objects.as_bytes(), &[&pointer]).unwrap().found(0).unwrap().kind, Kind::Object);
}

#[test]
fn a_fault_stays() {
    let mut scanner = Scanner::new(query(&[], 0), Documents::One);
    let fault = scanner.push(b"{x").unwrap_err();
    assert_eq!(scanner.push(b"{}"), Err(fault));
    assert_eq!(scanner.finish(), Err(fault));
    scanner.reset();
    scanner.push(b"{}").unwrap();
    assert_eq!(scanner.finish(), Ok(false), "the document's end was told by the piece that held it");
}

/// The text found at `/a` in each document, with the input cut into pieces of one size; none: malformed.
fn documents(text: &str, documents: Documents, size: usize) -> Option<Vec<Option<String>>> {
    let mut scanner = Scanner::new(query(&["/a"], 100), documents);
    let mut seen = Vec::new();
    for mut piece in text.as_bytes().chunks(size) {
        while scanner.next_document(&mut piece).ok()? {
            seen.push(scanner.found_text(0).map(Cow::into_owned));
        }
    }
    if scanner.finish().ok()? {
        seen.push(scanner.found_text(0).map(Cow::into_owned));
    }
    Some(seen)
}

#[test]
fn lines_and_elements_are_documents_of_their_own() {
    let some = |texts: &[&str]| {
        Some(texts.iter().map(|text| (!text.is_empty()).then(|| (*text).to_owned())).collect::<Vec<_>>())
    };
    for size in 1..40 {
        let lines = |text| documents(text, Documents::Lines, size);
        assert_eq!(lines("{\"a\":1}\n{\"b\":1}\r\n\n 7 \n{\"a\":[2]}"), some(&["1", "", "", "[2]"]));
        assert_eq!(lines("{\"a\":1}\n12"), some(&["1", ""]));
        assert_eq!(lines("\n"), some(&[]));
        assert_eq!(lines("{} {}"), None);
        assert_eq!(lines("{}\n{"), None);

        let elements = |text| documents(text, Documents::Elements, size);
        assert_eq!(
            elements(" [{\"a\":1}\n,{\"a\":{\"a\":2}},3,[],\"a\", {}] "),
            some(&["1", "{\"a\":2}", "", "", "", ""])
        );
        assert_eq!(elements("{\"a\":[1]}"), some(&["[1]"]));
        assert_eq!(elements("[]"), some(&[]));
        assert_eq!(elements("5"), some(&[""]));
        assert_eq!(elements("[1,]"), None);
        assert_eq!(elements("[1"), None);
        assert_eq!(elements("[] []"), None);
        assert_eq!(elements("{} {}"), None);
    }
}

#[test]
fn names_that_pieces_cut_match_and_overlong_ones_do_not() {
    let body = format!(r#"{{"{}":1,"mod\u0065l":2,"\u006d\u006f\u0064\u0065\u006c\n":3}}"#, "model".repeat(100));
    for cut in 0..body.len() {
        let scanner = scan_cut(body.as_bytes(), &["/model"], &[cut]).unwrap();
        assert_eq!(scanner.found_text(0).as_deref(), Some("2"), "cut at {cut}");
    }
    let every: Vec<usize> = (1..body.len()).collect();
    assert_eq!(scan_cut(body.as_bytes(), &["/model"], &every).unwrap().found_text(0).as_deref(), Some("2"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_same_is_found_as_by_a_parser_and_however_it_is_cut(
        text in sample::json(),
        pointers in proptest::collection::vec(sample::pointer(), 1..5),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let pointers: Vec<&str> = pointers.iter().map(String::as_str).collect();
        let whole = scan(text.as_bytes(), &pointers).unwrap();
        let parsed: Value = serde_json::from_str(&text).unwrap();
        for (at, pointer) in pointers.iter().enumerate() {
            let expected = parsed.pointer(pointer);
            let found = whole.found(at);
            prop_assert_eq!(found.is_some(), expected.is_some(), "{}", pointer);
            if let (Some(found), Some(expected)) = (found, expected) {
                let raw: Value = serde_json::from_str(&text[found.span.clone()]).unwrap();
                prop_assert_eq!(&raw, expected);
                let text = if let Value::String(string) = expected { string } else { &text[found.span.clone()] };
                prop_assert_eq!(&*found.text().unwrap(), text);
            }
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.sort_unstable();
        let cut = scan_cut(text.as_bytes(), &pointers, &cuts).unwrap();
        prop_assert_eq!(findings(&cut, pointers.len()), findings(&whole, pointers.len()));
        let every: Vec<usize> = (1..text.len()).collect();
        let cut = scan_cut(text.as_bytes(), &pointers, &every).unwrap();
        prop_assert_eq!(findings(&cut, pointers.len()), findings(&whole, pointers.len()));
    }

    #[test]
    fn the_verdict_on_damaged_bytes_is_a_parsers_and_does_not_depend_on_cuts(
        text in sample::json(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), 0..4_u8, damaging_byte()), 1..4),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut bytes = text.into_bytes();
        for (at, how, byte) in damage {
            let at = at.index(bytes.len().max(1));
            match how {
                0 if at < bytes.len() => { bytes.remove(at); }
                1 if at < bytes.len() => bytes[at] = byte,
                2 => bytes.insert(at.min(bytes.len()), byte),
                _ => bytes.truncate(at),
            }
        }
        let verdict = scan(&bytes, &["/a/b", "/model", ""]).map(|_| ());
        let parsed = serde_json::from_slice::<&RawValue>(&bytes);
        prop_assert_eq!(verdict.is_ok(), parsed.is_ok(), "{:?}: {:?}, {:?}", String::from_utf8_lossy(&bytes), verdict, parsed);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        // Only where a sequence of bytes is noticed to be no UTF-8 may depend on the cut.
        let place = |verdict: Result<(), Malformed>| verdict.map_err(|malformed| malformed.reason);
        prop_assert_eq!(place(scan_cut(&bytes, &["/a"], &cuts).map(|_| ())), place(verdict));
    }
}

fn damaging_byte() -> impl Strategy<Value = u8> {
    prop_oneof![prop::sample::select(&b"{}[],:\"\\ \n0-e.ut"[..]), any::<u8>(), 0x80_u8..=255,]
}

/// Run with `--release -- --ignored --nocapture`: without optimisation the figures mean nothing.
#[test]
#[ignore = "measures, and promises nothing"]
fn throughput() {
    let message =
        r#"{"role": "user", "content": "What is the weather in \"Paris\" today?", "n": [1, 2.5, true, null]},"#;
    let ordinary = format!(r#"{{"model":"qwen-max","messages":[{}{{}}],"stream":true}}"#, message.repeat(5000));
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&ordinary).unwrap()).unwrap();
    let long = format!(r#"{{"model":"qwen-vl","image":"{}","stream":true}}"#, "iVBORw0KGgo".repeat(400_000));
    let chinese = format!(r#"{{"model":"qwen-max","text":"{}","stream":true}}"#, "模型的用量".repeat(100_000));
    let small = r#"{"model":"qwen-max","messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"Tell me a joke about gateways."}],"temperature":0.7,"max_tokens":100,"stream":true}"#;
    let query = query(&["/model", "/stream"], 4096);
    for (name, body, batch) in [
        ("ordinary", &*ordinary, 1_u32),
        ("pretty", &pretty, 1),
        ("long string", &long, 1),
        ("chinese", &chinese, 1),
        ("small", small, 1000),
    ] {
        // The best round is the one that no other process disturbed.
        let round = |_| {
            let begin = std::time::Instant::now();
            for _ in 0..batch {
                let mut scanner = Scanner::new(Arc::clone(&query), Documents::One);
                scanner.push(std::hint::black_box(body.as_bytes())).unwrap();
                scanner.finish().unwrap();
                assert_eq!(scanner.found(1).map(|found| found.kind), Some(Kind::True));
            }
            begin.elapsed() / batch
        };
        let each = (0..40).map(round).min().unwrap();
        let rate = body.len() as f64 / each.as_secs_f64() / 1e6;
        println!("{name}: {} bytes in {each:?}, {rate:.0} MB/s", body.len());
    }
}
