//! A JSON pointer (RFC 6901), parsed once and bounded.
//!
//! Pointers come from plugins, so their length and depth have limits. What `-` means is for the user of the pointer
//! to say: an edit appends there, a read finds nothing.

use std::fmt;

/// The longest pointer, in bytes.
pub const LENGTH_MAX: usize = 512;
/// The most reference tokens in a pointer.
pub const TOKENS_MAX: usize = 32;

/// A place in a JSON document.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pointer {
    text: Box<str>,
    tokens: Box<[Token]>,
}

/// One step of a pointer: a member's name, or an element's index where the value is an array.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Token {
    pub name: Box<str>,
    /// Only for a canonical index: digits without a leading zero.
    pub index: Option<u64>,
}

/// Why a text is not a pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    #[error("a JSON pointer is empty or begins with `/`")]
    NoSlash,
    #[error("in a JSON pointer `~` is written `~0`, and `~1` stands for `/`")]
    Tilde,
    #[error("a JSON pointer has at most {LENGTH_MAX} bytes")]
    TooLong,
    #[error("a JSON pointer has at most {TOKENS_MAX} steps")]
    TooDeep,
}

impl Pointer {
    pub fn parse(text: &str) -> Result<Self, PointerError> {
        if text.len() > LENGTH_MAX {
            return Err(PointerError::TooLong);
        }
        let mut tokens = Vec::new();
        if !text.is_empty() {
            let steps = text.strip_prefix('/').ok_or(PointerError::NoSlash)?;
            for step in steps.split('/') {
                if tokens.len() == TOKENS_MAX {
                    return Err(PointerError::TooDeep);
                }
                tokens.push(Token::parse(step)?);
            }
        }
        Ok(Self { text: text.into(), tokens: tokens.into() })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn tokens(&self) -> &[Token] {
        &self.tokens
    }
}

impl Token {
    fn parse(step: &str) -> Result<Self, PointerError> {
        let name = if step.contains('~') {
            let mut name = String::with_capacity(step.len());
            let mut rest = step.chars();
            while let Some(char) = rest.next() {
                name.push(match char {
                    '~' => match rest.next() {
                        Some('0') => '~',
                        Some('1') => '/',
                        _ => return Err(PointerError::Tilde),
                    },
                    other => other,
                });
            }
            name.into()
        } else {
            step.into()
        };
        let canonical =
            step == "0" || !step.is_empty() && !step.starts_with('0') && step.bytes().all(|b| b.is_ascii_digit());
        let index = if canonical { step.parse().ok() } else { None };
        Ok(Self { name, index })
    }
}

impl fmt::Debug for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pointer({:?})", self.text)
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for Pointer {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<Self, PointerError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        Pointer::parse(text).unwrap().tokens().iter().map(|token| token.name.to_string()).collect()
    }

    #[test]
    fn steps_are_split_and_unescaped_as_the_rfc_says() {
        assert_eq!(names(""), Vec::<String>::new());
        assert_eq!(names("/"), [""]);
        assert_eq!(names("/a~1b/m~0n/ /~01"), ["a/b", "m~n", " ", "~1"]);
    }

    #[test]
    fn only_a_canonical_number_is_an_index() {
        let index = |text: &str| Pointer::parse(text).unwrap().tokens()[0].index;
        assert_eq!(index("/0"), Some(0));
        assert_eq!(index("/10"), Some(10));
        for text in ["/00", "/01", "/+1", "/-", "/", "/1a", "/99999999999999999999"] {
            assert_eq!(index(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_pointer_is_refused() {
        assert_eq!(Pointer::parse("a"), Err(PointerError::NoSlash));
        assert_eq!(Pointer::parse("/~2"), Err(PointerError::Tilde));
        assert_eq!(Pointer::parse("/a~"), Err(PointerError::Tilde));
        assert_eq!(Pointer::parse(&"/a".repeat(33)), Err(PointerError::TooDeep));
        assert_eq!(Pointer::parse(&"/a".repeat(32)).unwrap().tokens().len(), 32);
        assert_eq!(Pointer::parse(&format!("/{}", "a".repeat(512))), Err(PointerError::TooLong));
    }
}
