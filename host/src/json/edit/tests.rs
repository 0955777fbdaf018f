use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::json::sample;

fn pointer(text: &str) -> Pointer {
    Pointer::parse(text).unwrap()
}

fn set(at: &str, value: &str) -> BodyEdit {
    BodyEdit::Set { pointer: pointer(at), value: value.to_owned() }
}

fn set_if_absent(at: &str, value: &str) -> BodyEdit {
    BodyEdit::SetIfAbsent { pointer: pointer(at), value: value.to_owned() }
}

fn remove(at: &str) -> BodyEdit {
    BodyEdit::Remove { pointer: pointer(at) }
}

fn edited(body: &str, edits: &[BodyEdit]) -> String {
    String::from_utf8(apply(body.as_bytes(), edits).unwrap()).unwrap()
}

fn fault(body: &str, edit: BodyEdit) -> EditFault {
    apply(body.as_bytes(), &[edit]).unwrap_err().reason
}

#[test]
fn a_value_is_replaced_and_every_other_byte_stays() {
    assert_eq!(
        edited("{ \"temperature\" : 1.0e0 ,\n\t\"model\" : \"a\" , \"x\":\"\\u0041\" }\n", &[set("/model", "\"b\"")]),
        "{ \"temperature\" : 1.0e0 ,\n\t\"model\" : \"b\" , \"x\":\"\\u0041\" }\n"
    );
    assert_eq!(edited(r#"{"a":[1, {"b":2}]}"#, &[set("/a/1/b", "[]")]), r#"{"a":[1, {"b":[]}]}"#);
}

#[test]
fn an_absent_member_is_added_at_the_end() {
    assert_eq!(edited("{ }", &[set("/a", "1")]), r#"{"a":1 }"#);
    assert_eq!(edited("{\n  \"a\": 1\n}", &[set("/b", "2")]), "{\n  \"a\": 1,\"b\":2\n}");
    assert_eq!(edited("{}", &[set("/a~1\"", "1")]), r#"{"a/\"":1}"#);
}

#[test]
fn set_if_absent_leaves_what_is_there_even_null() {
    assert_eq!(edited(r#"{"a":null}"#, &[set_if_absent("/a", "1")]), r#"{"a":null}"#);
    assert_eq!(edited(r#"{"b":1}"#, &[set_if_absent("/a", "1")]), r#"{"b":1,"a":1}"#);
    assert_eq!(edited("[1]", &[set_if_absent("/0", "2"), set_if_absent("/1", "3")]), "[1,3]");
    assert_eq!(edited("5", &[set_if_absent("", "2")]), "5");
}

#[test]
fn a_removal_takes_one_comma_along() {
    let body = "{\n  \"a\": 1,\n  \"b\": 2,\n  \"c\": 3\n}";
    assert_eq!(edited(body, &[remove("/a")]), "{\n  \"b\": 2,\n  \"c\": 3\n}");
    assert_eq!(edited(body, &[remove("/b")]), "{\n  \"a\": 1,\n  \"c\": 3\n}");
    assert_eq!(edited(body, &[remove("/c")]), "{\n  \"a\": 1,\n  \"b\": 2\n}");
    assert_eq!(edited(body, &[remove("/x")]), body);
    assert_eq!(edited("{ \"a\":1 }", &[remove("/a")]), "{  }");
    assert_eq!(edited("[1 , 2,3]", &[remove("/1"), remove("/0")]), "[3]");
    assert_eq!(edited("[1]", &[remove("/1"), remove("/-"), remove("/0")]), "[]");
}

#[test]
fn every_occurrence_is_edited() {
    let body = r#"{"m":1,"x":0,"\u006d":2,"m":3}"#;
    assert_eq!(edited(body, &[set("/m", "9")]), r#"{"m":9,"x":0,"\u006d":9,"m":9}"#);
    assert_eq!(edited(body, &[remove("/m")]), r#"{"x":0}"#);
    assert_eq!(edited(r#"{"m":1,"m":2}"#, &[remove("/m")]), "{}");
    assert_eq!(edited(r#"{"a":{"b":1},"a":{}}"#, &[set("/a/b", "2")]), r#"{"a":{"b":2},"a":{"b":2}}"#);
    // An upstream that takes the first would not see the edit.
    assert_eq!(fault(r#"{"a":1,"a":{}}"#, set("/a/b", "2")), EditFault::ParentNotContainer);
}

#[test]
fn occurrences_cannot_multiply_a_value_without_bound() {
    let body = format!("{{{}}}", vec![r#""a":1"#; OCCURRENCES_MAX + 1].join(","));
    assert_eq!(fault(&body, set("/a", "2")), EditFault::TooManyOccurrences);
    assert_eq!(edited(&body, &[remove("/a")]), "{}");
    let body = format!("{{{}}}", vec![r#""a":{}"#; OCCURRENCES_MAX + 1].join(","));
    assert_eq!(fault(&body, set("/a/b", "2")), EditFault::TooManyOccurrences);
}

#[test]
fn arrays_are_edited_by_index_and_appended_to() {
    assert_eq!(edited("[]", &[set("/-", "1"), set("/-", "2"), set("/2", "3"), set("/0", "0")]), "[0,2,3]");
    assert_eq!(fault("[1]", set("/2", "0")), EditFault::IndexBeyondEnd);
    assert_eq!(fault("[1]", set("/01", "0")), EditFault::NotAnIndex);
    assert_eq!(fault("[1]", set("/a", "0")), EditFault::NotAnIndex);
    assert_eq!(edited(r#"{"0":1,"-":2}"#, &[set("/0", "3"), set("/-", "4")]), r#"{"0":3,"-":4}"#);
}

#[test]
fn edits_see_what_those_before_them_did() {
    let edits = [set("/o", "{}"), set("/o/p", "[1]"), set("/o/p/-", "2"), remove("/o/p/0")];
    assert_eq!(edited("{}", &edits), r#"{"o":{"p":[2]}}"#);
    assert_eq!(edited("[broken", &[]).as_str(), "[broken");
}

#[test]
fn the_root_can_be_replaced_but_not_removed() {
    assert_eq!(edited(" {\"a\":1} ", &[set("", "[true]")]), "[true]");
    assert_eq!(fault("{}", remove("")), EditFault::RootRemoved);
}

#[test]
fn an_error_names_the_pointer_and_the_reason() {
    let message = |body: &str, edit| apply(body.as_bytes(), &[edit]).unwrap_err().to_string();
    assert_eq!(message("{}", set("/a/b", "1")), "the edit at `/a/b` cannot be made: its parent is not in the body");
    let forged = "the edit at `/a\\r\\n\\u{202e}é/b` cannot be made: its parent is not in the body";
    assert_eq!(message("{}", set("/a\r\n\u{202e}é/b", "1")), forged);
    assert_eq!(fault("{}", remove("/a/b")), EditFault::ParentAbsent);
    assert_eq!(fault(r#"{"a":"s"}"#, set("/a/b", "1")), EditFault::ParentNotContainer);
    assert!(message("{}", set("/a", "nope")).starts_with("the edit at `/a` has a value that is not JSON: at byte 1"));
    assert!(message("{", set("/a", "1")).starts_with("the body is not JSON: at byte 1: the document ends too early"));
}

/// The same edit on a parsed document without repeated members; none: it cannot be made.
fn apply_to_value(document: &mut Value, edit: &BodyEdit) -> Option<()> {
    let text = edit.pointer().as_str();
    let value = edit.value().map(|value| serde_json::from_str::<Value>(value).unwrap());
    let Some((parent, _)) = text.rsplit_once('/') else {
        match edit {
            BodyEdit::Set { .. } => *document = value?,
            BodyEdit::SetIfAbsent { .. } => {}
            BodyEdit::Remove { .. } => return None,
        }
        return Some(());
    };
    let token = edit.pointer().tokens().last().unwrap();
    let is_absent = document.pointer(text).is_none();
    match (document.pointer_mut(parent)?, edit) {
        (Value::Object(members), BodyEdit::Remove { .. }) => {
            members.shift_remove(&*token.name);
        }
        (Value::Object(_) | Value::Array(_), BodyEdit::SetIfAbsent { .. }) if !is_absent => {}
        (Value::Object(members), _) => {
            members.insert(token.name.to_string(), value?);
        }
        (Value::Array(_), _) if token.index.is_none() && &*token.name != "-" => return None,
        (Value::Array(items), BodyEdit::Remove { .. }) => {
            if let Some(index) = token.index.filter(|index| *index < items.len() as u64) {
                items.remove(index as usize);
            }
        }
        (Value::Array(items), _) => match token.index.unwrap_or(items.len() as u64) as usize {
            index if index < items.len() => items[index] = value?,
            index if index == items.len() => items.push(value?),
            _ => return None,
        },
        _ => return None,
    }
    Some(())
}

fn has_repeated_names(text: &str) -> bool {
    // A parser keeps one of them, so that its text has fewer strings and colons.
    let parsed: Value = serde_json::from_str(text).unwrap();
    let count = |text: &str| {
        let nothing = Arc::new(Query::new([], 0));
        let mut scanner = Scanner::new(nothing, Documents::One);
        scanner.push(text.as_bytes()).unwrap();
        let mut names = 0;
        let mut at = 0;
        let bytes = text.as_bytes();
        while at < bytes.len() {
            match bytes[at] {
                b'"' => at = skip_string(bytes, at),
                byte => {
                    names += usize::from(byte == b':');
                    at += 1;
                }
            }
        }
        names
    };
    count(text) != count(&parsed.to_string())
}

fn edit() -> impl Strategy<Value = BodyEdit> {
    (0..3_u8, sample::pointer(), sample::json()).prop_map(|(kind, at, value)| match kind {
        0 => set(&at, &value),
        1 => set_if_absent(&at, &value),
        _ => remove(&at),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn the_result_is_that_of_the_same_edit_on_a_parsed_document(
        text in sample::json(),
        edits in proptest::collection::vec(edit(), 1..4),
    ) {
        prop_assume!(!has_repeated_names(&text));
        prop_assume!(edits.iter().all(|edit| edit.value().is_none_or(|value| !has_repeated_names(value))));
        let mut expected: Value = serde_json::from_str(&text).unwrap();
        let possible = edits.iter().try_for_each(|edit| apply_to_value(&mut expected, edit));
        match (apply(text.as_bytes(), &edits), possible) {
            (Ok(bytes), Some(())) => {
                let result: Value = serde_json::from_slice(&bytes).unwrap();
                prop_assert_eq!(&result, &expected);
                prop_assert_eq!(result.to_string(), expected.to_string(), "the order stays");
            }
            (Err(_), None) => {}
            (result, _) => prop_assert!(false, "{:?} of {:?} at {:?}", result, text, edits),
        }
    }

    #[test]
    fn repeated_members_never_break_the_document_and_are_all_edited(text in sample::json(), edit in edit()) {
        let Ok(bytes) = apply(text.as_bytes(), std::slice::from_ref(&edit)) else { return Ok(()) };
        let parsed: Value = serde_json::from_slice(&bytes).unwrap();
        let at = edit.pointer().as_str();
        match &edit {
            BodyEdit::Set { value, .. } if !at.ends_with("/-") => {
                let value: Value = serde_json::from_str(value).unwrap();
                prop_assert_eq!(parsed.pointer(at), Some(&value));
            }
            BodyEdit::Remove { .. } => {
                let again = apply(&bytes, std::slice::from_ref(&edit)).unwrap();
                let is_element = edit.pointer().tokens().last().unwrap().index.is_some();
                prop_assert!(is_element || again == bytes);
            }
            _ => {}
        }
    }

    #[test]
    fn bytes_outside_of_the_edit_stay(text in sample::json(), at in sample::pointer(), value in sample::json()) {
        prop_assume!(!at.is_empty());
        let query = Arc::new(Query::new(&[pointer(&at)], 0));
        let mut scanner = Scanner::new(query, Documents::One);
        scanner.push(text.as_bytes()).unwrap();
        scanner.finish().unwrap();
        let Ok(bytes) = apply(text.as_bytes(), &[set(&at, &value)]) else { return Ok(()) };
        prop_assume!(!has_repeated_names(&text));
        let result = String::from_utf8(bytes).unwrap();
        if let Some(found) = scanner.found(0) {
            let expected = format!("{}{value}{}", &text[..found.span.start], &text[found.span.end..]);
            prop_assert_eq!(result, expected);
        } else {
            // Something was inserted in one place.
            let before = text.bytes().zip(result.bytes()).take_while(|(a, b)| a == b).count();
            let after = text.bytes().rev().zip(result.bytes().rev()).take_while(|(a, b)| a == b).count();
            prop_assert!(before + after >= text.len(), "{:?} became {:?}", text, result);
        }
    }
}
