//! Who may ask the admin listener: everybody who reaches it, or those who show a token of the file that the setting `admin-token` names.
//!
//! Owns: the tokens, as what they hash to. Touches: the file, at start and when the configuration is read again. Never: shows a token, or
//! takes a time that says how much of one is right.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use crate::authority::secret::Digest;
use crate::io::check::StartError;

/// Largest file in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Tokens at most: each is compared with what is shown.
const TOKENS_MAX: usize = 64;
/// Shortest token in bytes, as of API keys: a shorter one can be tried out.
const TOKEN_BYTES_MIN: usize = 16;

/// The tokens that hold: a reload may change them.
#[derive(Clone, Debug, Default)]
pub struct Guard(Arc<RwLock<Option<Vec<Digest>>>>);

/// Tokens that were read; none: no token is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tokens(Option<Vec<Digest>>);

impl Tokens {
    /// Reads the file that a configuration names, if it names one: a token a line; empty lines, and those that begin with `#`, are left out.
    ///
    /// # Errors
    /// What is wrong with it, without saying anything of what stands there.
    pub fn read(path: Option<&Path>) -> Result<Tokens, StartError> {
        let Some(path) = path else { return Ok(Tokens(None)) };
        let wrong = |cause: &str| StartError {
            cause: format!("admin-token {}: {cause}", path.display()),
            cure: "give it a token a line; `corecast token --new-key FILE` makes a file with one".to_owned(),
        };
        let about = fs::metadata(path).map_err(|error| wrong(&error.to_string()))?;
        if about.len() > FILE_BYTES_MAX {
            return Err(wrong("the file is larger than 64k"));
        }
        let text = fs::read_to_string(path).map_err(|error| wrong(&error.to_string()))?;
        let tokens = parse(&text).map_err(|cause| wrong(&cause))?;
        if about.permissions().mode() & 0o004 != 0 {
            tracing::warn!(path = %path.display(), "everybody on this host can read the secret: chmod 600 it");
        }
        Ok(Tokens(Some(tokens)))
    }
}

fn parse(text: &str) -> Result<Vec<Digest>, String> {
    let lines = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
    let mut tokens = Vec::new();
    for (line, token) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("line {line} is no token: it has to be one word of ASCII"));
        }
        if token.len() < TOKEN_BYTES_MIN {
            return Err(format!(
                "the token of line {line} is shorter than {TOKEN_BYTES_MIN} bytes: it could be guessed"
            ));
        }
        if tokens.len() == TOKENS_MAX {
            return Err(format!("there are more than {TOKENS_MAX} tokens"));
        }
        tokens.push(Digest::of(token.as_bytes()));
    }
    if tokens.is_empty() {
        return Err("there is no token in it: nobody could come in".to_owned());
    }
    Ok(tokens)
}

impl Guard {
    /// Has it go by these tokens; says whether they are other ones.
    pub fn set(&self, tokens: Tokens) -> bool {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let changes = *held != tokens.0;
        *held = tokens.0;
        changes
    }

    /// Says whether these are others than those that hold.
    #[must_use]
    pub fn differs(&self, tokens: &Tokens) -> bool {
        *self.0.read().unwrap_or_else(PoisonError::into_inner) != tokens.0
    }

    /// Says whether somebody may ask who shows this in `Authorization`.
    #[must_use]
    pub fn lets_in(&self, authorization: Option<&str>) -> bool {
        let bearer = authorization.and_then(|value| value.split_once(' '));
        let shown = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        self.is_let_in(shown)
    }

    /// Says whether somebody may ask who shows this token, or none.
    #[must_use]
    pub fn is_let_in(&self, shown: Option<&str>) -> bool {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match (&*held, shown) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(tokens), Some(shown)) => {
                let shown = Digest::of(shown.as_bytes());
                // All of them, whichever it is.
                tokens.iter().fold(false, |is_one, token| is_one | token.is(&shown))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef";
    const OTHER: &str = "fedcba9876543210";

    fn guard(text: &str) -> Guard {
        let guard = Guard::default();
        guard.set(Tokens(Some(parse(text).unwrap())));
        guard
    }

    /// Without a file everybody may ask; with one, only who shows one of its tokens, as a bearer, to the letter.
    #[test]
    fn tokens_are_asked_for() {
        assert!(Guard::default().lets_in(None) && Guard::default().lets_in(Some("Bearer x")));
        let guard = guard(&format!("# operators\n{ONE}\n\n  {OTHER}\r\n"));
        for right in [format!("Bearer {ONE}"), format!("bearer  {OTHER}"), format!("BEARER {OTHER} ")] {
            assert!(guard.lets_in(Some(&right)), "{right}");
        }
        for wrong in [
            None,
            Some(ONE.to_owned()),
            Some("Bearer".to_owned()),
            Some("Bearer ".to_owned()),
            Some(format!("Basic {ONE}")),
            Some(format!("Bearer {ONE}0")),
            Some(format!("Bearer {}", &ONE[1..])),
            Some("Bearer # operators".to_owned()),
        ] {
            assert!(!guard.lets_in(wrong.as_deref()), "{wrong:?}");
        }
        assert!(!guard.set(Tokens(Some(parse(&format!("{ONE}\n{OTHER}")).unwrap()))), "they are the same");
        assert!(guard.differs(&Tokens::default()) && guard.set(Tokens::default()) && guard.lets_in(None));
    }

    /// A file without tokens, or with such that are none, is refused by line, and no error says what stands there.
    #[test]
    fn wrong_files_are_refused() {
        let many = format!("{ONE}\n").repeat(TOKENS_MAX + 1);
        for (text, cause) in [
            ("", "no token in it"),
            ("# only this\n\n", "no token in it"),
            ("short-secret", "line 1 is shorter than 16"),
            (&format!("{ONE}\ntwo secret words"), "line 2 is no token"),
            ("s\u{e9}cret-s\u{e9}cret-s\u{e9}cret", "line 1 is no token"),
            (&many, "more than 64"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(cause) && !error.contains("secret"), "{error}");
        }
        let error = Tokens::read(Some(Path::new("/nowhere/tokens"))).unwrap_err();
        assert!(error.cause.starts_with("admin-token /nowhere/tokens: ") && error.cure.contains("a token a line"));
    }

    /// No token shows itself by accident.
    #[test]
    fn tokens_are_not_shown() {
        let shown = format!("{:?} {:?}", guard(ONE), Tokens(Some(parse(ONE).unwrap())));
        assert!(!shown.contains("0123") && !shown.contains(&Digest::of(ONE.as_bytes()).text()), "{shown}");
    }
}
