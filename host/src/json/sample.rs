//! Arbitrary JSON texts for the property tests: every spelling that the grammar allows, and members that repeat.

use proptest::prelude::*;

/// Names that pointers of [`pointer`] lead to, each in more than one spelling.
const NAMES: [&str; 10] = ["a", "b", "model", r"mod\u0065l", r"\u0061", "", r"a\/b", "模型", r"\u6a21型", r#"q\"\\"#];

fn space() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => "[ \t\r\n]{1,3}"]
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,8})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,2})?",
        string(),
    ]
}

fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[ !#-\\[\\]-~]{0,12}",
        1 => "[ !#-\\[\\]-~]{60,140}",
        2 => "[é模型😀]{1,30}",
        1 => Just(r#"\"\\\/\b\f\n\r\t"#.to_owned()),
        1 => Just(r"\u0041\ud83d\ude00\u00e9".to_owned()),
    ];
    proptest::collection::vec(piece, 0..3).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// A JSON text.
pub fn json() -> impl Strategy<Value = String> {
    let value = scalar().prop_recursive(5, 48, 6, |inner| {
        let element = (space(), inner.clone(), space()).prop_map(|(a, value, b)| format!("{a}{value}{b}"));
        let member = (space(), prop::sample::select(&NAMES), space(), inner, space())
            .prop_map(|(a, name, b, value, c)| format!("{a}\"{name}\"{b}:{c}{value}{a}"));
        prop_oneof![
            (proptest::collection::vec(element, 0..5), space()).prop_map(|(items, a)| if items.is_empty() {
                format!("[{a}]")
            } else {
                format!("[{}]", items.join(","))
            }),
            (proptest::collection::vec(member, 0..6), space()).prop_map(|(items, a)| if items.is_empty() {
                format!("{{{a}}}")
            } else {
                format!("{{{}}}", items.join(","))
            }),
        ]
    });
    (space(), value, space()).prop_map(|(a, value, b)| format!("{a}{value}{b}"))
}

/// A pointer that has a chance to lead somewhere in [`json`].
pub fn pointer() -> impl Strategy<Value = String> {
    let step = prop::sample::select(&["a", "b", "model", "", "a~1b", "模型", "q\"\\", "0", "1", "2", "-"][..]);
    proptest::collection::vec(step, 0..4).prop_map(|steps| steps.iter().flat_map(|step| ["/", step]).collect())
}
