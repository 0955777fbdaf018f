use super::*;

fn meter(name: &str, alternatives: &[&[&str]], fold: Fold, group: Option<&str>) -> MeterSpec {
    MeterSpec {
        name: name.to_owned(),
        alternatives: alternatives.iter().map(|all| all.iter().map(|&one| one.to_owned()).collect()).collect(),
        fold,
        group: group.map(str::to_owned),
    }
}

fn compiled(specs: &[MeterSpec]) -> Arc<CompiledMeters> {
    Arc::new(CompiledMeters::compile(specs).unwrap())
}

fn last(name: &str, alternatives: &[&[&str]]) -> MeterSpec {
    meter(name, alternatives, Fold::Last, None)
}

/// What a provider's plugin would declare.
fn openai_and_dashscope() -> Arc<CompiledMeters> {
    compiled(&[
        last("input", &[&["/usage/prompt_tokens"], &["/usage/input_tokens"]]),
        last("output", &[&["/usage/completion_tokens"], &["/usage/output_tokens"]]),
        last("cached-input", &[&["/usage/prompt_tokens_details/cached_tokens"]]),
    ])
}

fn gemini() -> Arc<CompiledMeters> {
    compiled(&[
        last("input", &[&["/usageMetadata/promptTokenCount"]]),
        last("output", &[&["/usageMetadata/candidatesTokenCount", "/usageMetadata/thoughtsTokenCount"]]),
        last("reasoning", &[&["/usageMetadata/thoughtsTokenCount"]]),
    ])
}

fn usage_of(set: &Arc<CompiledMeters>, content_type: &str, pieces: &[&[u8]]) -> Usage {
    let mut meter = Meter::new(Arc::clone(set), Some(content_type), None).expect("a type that can be read");
    for piece in pieces {
        meter.push(piece);
    }
    meter.finish()
}

/// The usage, which must be the same wherever the body is cut.
fn usage(set: &Arc<CompiledMeters>, content_type: &str, body: &str) -> Usage {
    let bytes = body.as_bytes();
    let whole = usage_of(set, content_type, &[bytes]);
    for cut in 1..bytes.len() {
        assert_eq!(usage_of(set, content_type, &[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
    }
    assert_eq!(usage_of(set, content_type, &bytes.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
    whole
}

fn total(usage: &Usage, name: &str) -> Option<f64> {
    usage.totals.iter().find(|(known, _)| **known == *name).map(|(_, value)| *value)
}

fn expect(usage: &Usage, totals: &[(&str, f64)]) {
    let seen: Vec<(&str, f64)> = usage.totals.iter().map(|(name, value)| (&**name, *value)).collect();
    assert_eq!(seen, totals);
    assert!(!usage.is_partial);
}

const SSE: &str = "text/event-stream; charset=utf-8";

#[test]
fn an_openai_stream_tells_its_usage_in_the_last_chunk() {
    let body = "data: {\"id\":\"c\",\"choices\":[{\"delta\":{\"content\":\"你好\\n\"}}],\"usage\":null}\n\n\
        data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":7,\"total_tokens\":19,\
        \"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n\
        data: [DONE]\n\n";
    let totals = [("input", 12.0), ("output", 7.0), ("cached-input", 4.0)];
    expect(&usage(&openai_and_dashscope(), SSE, body), &totals);
    expect(&usage(&openai_and_dashscope(), SSE, &body.replace('\n', "\r\n")), &totals);
}

#[test]
fn of_dashscopes_cumulative_events_the_last_counts() {
    let body = "id:1\nevent:result\n:HTTP_STATUS/200\ndata:{\"output\":{\"text\":\"a\"},\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}\n\n\
        id:2\nevent:result\n:HTTP_STATUS/200\ndata:{\"output\":{\"text\":\"ab\"},\ndata:\"usage\":{\"input_tokens\":5,\"output_tokens\":2}}\n\n";
    expect(&usage(&openai_and_dashscope(), SSE, body), &[("input", 5.0), ("output", 2.0)]);
}

#[test]
fn geminis_output_is_candidates_and_thoughts() {
    let first = r#"{"candidates":[],"usageMetadata":{"promptTokenCount":8,"thoughtsTokenCount":30}}"#;
    let second = r#"{"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":11,"thoughtsTokenCount":40,"totalTokenCount":59}}"#;
    let totals = [("input", 8.0), ("output", 51.0), ("reasoning", 40.0)];
    expect(&usage(&gemini(), SSE, &format!("data: {first}\r\n\r\ndata: {second}\r\n\r\n")), &totals);
    expect(&usage(&gemini(), "application/json; charset=UTF-8", &format!("[{first}\n,\r\n{second}\n]\n")), &totals);
    expect(&usage(&gemini(), "application/json", second), &totals);
    expect(&usage(&gemini(), "application/x-ndjson", &format!("{first}\n{second}")), &totals);
}

#[test]
fn a_plain_body_is_one_event() {
    let body = r#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    for content_type in ["application/json", "Application/JSON;charset=utf-8", "application/problem+json"] {
        expect(&usage(&openai_and_dashscope(), content_type, body), &[("input", 3.0), ("output", 4.0)]);
    }
}

#[test]
fn what_cannot_be_read_has_no_meter() {
    let new = |content_type, coding| Meter::new(gemini(), content_type, coding).is_some();
    assert!(new(Some("application/json"), Some("identity")));
    assert!(!new(Some("application/json"), Some("gzip")));
    assert!(!new(Some("audio/mpeg"), None));
    assert!(!new(Some("text/plain"), None));
    assert!(!new(None, None));
}

#[test]
fn increments_are_added_and_ids_keep_cumulative_values_apart() {
    let lines = "{\"id\":\"a\",\"n\":1}\n{\"id\":\"b\",\"n\":10}\n{\"id\":\"a\",\"n\":3}\n{\"n\":100}\n{\"id\":7,\"n\":1000}\n{\"id\":null,\"n\":200}\n";
    let of = |fold, group| usage(&compiled(&[meter("x-n", &[&["/n"]], fold, group)]), "application/jsonl", lines);
    expect(&of(Fold::Sum, None), &[("x-n", 1314.0)]);
    expect(&of(Fold::Last, None), &[("x-n", 200.0)]);
    expect(&of(Fold::Sum, Some("/id")), &[("x-n", 1314.0)]);
    expect(&of(Fold::Last, Some("/id")), &[("x-n", 3.0 + 10.0 + 200.0 + 1000.0)]);
}

#[test]
fn values_that_are_no_quantities_are_as_good_as_absent() {
    let set = compiled(&[last("input", &[&["/a"], &["/b"]])]);
    for body in
        [r#"{"a":null,"b":2}"#, r#"{"a":"1","b":2}"#, r#"{"a":-1,"b":2}"#, r#"{"a":1e999,"b":2}"#, r#"{"a":[1],"b":2}"#]
    {
        expect(&usage(&set, "application/json", body), &[("input", 2.0)]);
    }
    expect(&usage(&set, "application/json", r#"{"a":0,"b":2}"#), &[("input", 0.0)]);
    expect(&usage(&set, "application/json", "{}"), &[]);
}

#[test]
fn malformed_input_is_flagged_and_what_was_read_stays() {
    let set = compiled(&[meter("x-n", &[&["/n"]], Fold::Sum, None)]);
    for (content_type, body, expected) in [
        (SSE, "data: {\"n\":1}\n\ndata: oops\n\ndata: {\"n\":2}\n\n", 3.0),
        (SSE, "data: {\"n\":1}\n\ndata: {\"n\":2}\n\ndata: {\"n\":", 3.0),
        (SSE, "data: {\"n\":1}\n\ndata: [DONE] \n\n", 1.0),
        ("application/jsonl", "{\"n\":1}\n{\"n\":2}\noops\n{\"n\":4}\n", 3.0),
        ("application/json", "[{\"n\":1},{\"n\":2},", 3.0),
    ] {
        let usage = usage(&set, content_type, body);
        assert_eq!((total(&usage, "x-n"), usage.is_partial), (Some(expected), true), "{body:?}");
    }
}

#[test]
fn an_event_without_its_blank_line_was_used_all_the_same() {
    let set = compiled(&[meter("x-n", &[&["/n"]], Fold::Sum, None)]);
    expect(&usage(&set, SSE, "data: {\"n\":1}\n\ndata: {\"n\":2}\n"), &[("x-n", 3.0)]);
    expect(&usage(&set, SSE, "data: {\"n\":1}\n\ndata: [DONE]"), &[("x-n", 1.0)]);
}

#[test]
fn ids_are_bounded_in_number_and_length() {
    let set = compiled(&[meter("x-n", &[&["/n"]], Fold::Last, Some("/id"))]);
    let line = |id: &str, n: u32| format!("{{\"id\":\"{id}\",\"n\":{n}}}\n");
    let full: String = (0..1024).map(|id| line(&id.to_string(), 1)).collect();
    let usage = |body: &str| usage_of(&set, "application/jsonl", &[body.as_bytes()]);
    expect(&usage(&full), &[("x-n", 1024.0)]);
    let beyond = usage(&format!("{full}{}{}", line("one more", 1), line("0", 2)));
    assert_eq!((total(&beyond, "x-n"), beyond.is_partial), (Some(1025.0), true));

    let long = usage(&line(&"x".repeat(257), 1));
    assert_eq!((total(&long, "x-n"), long.is_partial), (None, true));
}

#[test]
fn meters_of_one_name_are_one_quantity() {
    let set = compiled(&[last("images", &[&["/a"]]), last("images", &[&["/b"]])]);
    expect(&usage(&set, "application/json", r#"{"a":1,"b":2}"#), &[("images", 3.0)]);
}

#[test]
fn a_bad_pointer_is_named() {
    let error = CompiledMeters::compile(&[last("input", &[&["/a", "b"]])]).unwrap_err();
    assert_eq!(error.to_string(), "meter `input`, pointer `b`: a JSON pointer is empty or begins with `/`");
}
