//! Who may look at the gateway's own pages from elsewhere: `admin` in `gateway.json`.
//!
//! The token itself is not kept, only a digest of it: neither an error nor a log nor a page could show it. What is compared
//! are digests, in constant time, so that timing tells nothing about a token's characters.

use std::fmt;

use subtle::ConstantTimeEq;

use super::expand::{Env, Expanded, expand};
use super::file::AdminFile;
use super::problem::{Problems, Spot};
use crate::digest::{hex, sha256_of};

const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 512;
const REMEDY: &str = "write one of at least 16 visible ASCII characters that nobody can guess, such as \
                      `aiproxy-host init` draws, or remove the field";

/// Who may look at the statistics and the dashboard, beside those on the machine itself.
#[derive(Debug, PartialEq, Eq, Clone, Default)]
pub struct Admin {
    /// None: nobody.
    pub token: Option<AdminToken>,
    /// Everybody.
    pub public: bool,
}

/// What is kept of the admin token.
#[derive(PartialEq, Eq, Clone)]
pub struct AdminToken {
    digest: [u8; 32],
}

impl AdminToken {
    #[must_use]
    pub fn new(token: &[u8]) -> Self {
        Self { digest: sha256_of(&[b"aiproxy admin token\0", token]) }
    }

    #[must_use]
    pub fn is(&self, shown: &[u8]) -> bool {
        Self::new(shown).digest.ct_eq(&self.digest).into()
    }

    /// What a browser keeps in place of the token, and with another token is worth nothing.
    #[must_use]
    pub fn cookie(&self) -> String {
        hex(&sha256_of(&[b"aiproxy admin cookie\0", &self.digest]))
    }

    #[must_use]
    pub fn is_cookie(&self, shown: &[u8]) -> bool {
        let digest = |cookie: &[u8]| sha256_of(&[b"aiproxy admin cookie, compared\0", cookie]);
        digest(shown).ct_eq(&digest(self.cookie().as_bytes())).into()
    }
}

/// Without the digest: a token that somebody made up could be found from it.
impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

/// `spot` is the token's.
pub(super) fn read(file: &AdminFile, spot: &Spot, env: Env<'_>, problems: &mut Problems<'_>) -> Admin {
    let token = file.token.as_deref().and_then(|text| token(text, spot, env, problems));
    Admin { token, public: file.public }
}

fn token(text: &str, spot: &Spot, env: Env<'_>, problems: &mut Problems<'_>) -> Option<AdminToken> {
    let token = match expand(text.trim(), env) {
        Expanded::Ready(token) => token,
        Expanded::Malformed => {
            problems.error(spot, "holds a `${` that begins no variable", "write ${NAME}, or remove the `${`");
            return None;
        }
        Expanded::Missing(why) => {
            let remedy = "until it has one, only viewers on the machine itself see the pages: set it, and restart";
            problems.warning(spot, format!("has no value: {why}"), remedy);
            return None;
        }
    };
    let fault = if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        "holds a space, a control character or a character beyond ASCII"
    } else if token.len() < TOKEN_BYTES_MIN {
        "is shorter than 16 characters"
    } else if token.len() > TOKEN_BYTES_MAX {
        "is longer than 512 characters"
    } else {
        return Some(AdminToken::new(token.as_bytes()));
    };
    problems.error(spot, fault, REMEDY);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &[u8] = b"admin-0123456789abcdef";

    #[test]
    fn a_token_and_its_cookie_open_and_neither_stands_for_the_other() {
        let token = AdminToken::new(TOKEN);
        let cookie = token.cookie();
        assert!(token.is(TOKEN) && token.is_cookie(cookie.as_bytes()));
        assert!(!token.is(cookie.as_bytes()) && !token.is_cookie(TOKEN));
        for wrong in [&b""[..], b"admin-0123456789abcde", b"admin-0123456789abcdef0", b"Admin-0123456789abcdef"] {
            assert!(!token.is(wrong) && !token.is_cookie(wrong), "{wrong:?}");
        }
        let other = AdminToken::new(b"admin-0123456789abcdeg");
        assert!(!other.is(TOKEN) && !other.is_cookie(cookie.as_bytes()));
    }

    #[test]
    fn nothing_of_a_token_is_shown() {
        let admin = Admin { token: Some(AdminToken::new(TOKEN)), public: false };
        assert_eq!(format!("{admin:?}"), "Admin { token: Some(AdminToken(…)), public: false }");
    }
}
