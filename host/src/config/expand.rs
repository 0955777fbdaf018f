//! `${NAME}` from the environment, and the placeholders that examples carry.
//!
//! A missing variable is not an error: a configuration for five providers serves four when one key is not at hand. So
//! the caller is told why there is no value, and makes that one channel unavailable.

/// Looks up an environment variable; a parameter, so that tests need not change the process's own.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

pub(super) enum Expanded {
    Ready(String),
    /// Why there is no value, without any of it.
    Missing(String),
    /// A `$` and `{` that begin no variable.
    Malformed,
}

pub(super) fn expand(text: &str, env: Env<'_>) -> Expanded {
    let mut value = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(end) = rest[start..].find('}') else { return Expanded::Malformed };
        let name = &rest[start + 2..start + end];
        if !is_variable(name) {
            return Expanded::Malformed;
        }
        // Mounted secrets and `$(cat …)` often end in a line break, which belongs to no key or URL.
        match env(name).as_deref().map(str::trim) {
            Some(found) if !found.is_empty() => {
                value.push_str(&rest[..start]);
                value.push_str(found);
            }
            _ => return Expanded::Missing(format!("the environment variable {name} is not set")),
        }
        rest = &rest[start + end + 1..];
    }
    value.push_str(rest);
    // Looked for in the text itself: what a variable holds is taken at its word.
    if is_placeholder(text) {
        return Expanded::Missing("it still is the placeholder of the example".to_owned());
    }
    Expanded::Ready(value)
}

fn is_variable(name: &str) -> bool {
    name.len() <= 128
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.starts_with(|first: char| !first.is_ascii_digit())
}

/// `YOUR_…_HERE`, also in the middle of a URL or a key.
pub(super) fn is_placeholder(text: &str) -> bool {
    text.match_indices("YOUR_").any(|(start, _)| {
        let rest = &text[start..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        rest[..end].contains("_HERE")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let env = |name: &str| match name {
            "A" => Some("one\n".to_owned()),
            "EMPTY" => Some(" ".to_owned()),
            "EXAMPLE" => Some("YOUR_X_HERE".to_owned()),
            _ => None,
        };
        match expand(text, &env) {
            Expanded::Ready(value) => value,
            Expanded::Missing(why) => format!("missing: {why}"),
            Expanded::Malformed => "malformed".to_owned(),
        }
    }

    #[test]
    fn variables_are_replaced_wherever_they_stand() {
        for (text, expected) in [
            ("", ""),
            ("a$b{c}", "a$b{c}"),
            ("${A}", "one"),
            ("x-${A}-${A}.y", "x-one-one.y"),
            ("${EXAMPLE}", "YOUR_X_HERE"),
            ("${B}", "missing: the environment variable B is not set"),
            ("${A}${EMPTY}", "missing: the environment variable EMPTY is not set"),
            ("sk-YOUR_API_KEY_HERE", "missing: it still is the placeholder of the example"),
            ("https://YOUR_RESOURCE_HERE.example.com", "missing: it still is the placeholder of the example"),
            ("YOUR_KEY", "YOUR_KEY"),
            ("YOUR_KEY.IS_HERE", "YOUR_KEY.IS_HERE"),
            ("${A", "malformed"),
            ("${}", "malformed"),
            ("${1A}", "malformed"),
            ("${a b}", "malformed"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
