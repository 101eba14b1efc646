//! All keys that verify tokens: those of files, and those of key sets that are fetched.
//!
//! Owns: which of them a token is tried with. A token that names a key (`kid`) is tried with the keys of that name, and if there are none
//! with those that have no name; one that names none, with all that fit. [`TRIES_MAX`] of them, so that a long list is no lever.
//! Touches: the files, when they are read.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;

use super::claims::Claims;
use super::remote::{Remote, Want};
use super::settings::{KeySource, Settings};
use super::token::{self, Head, Key, Wrong};
use crate::io::check::StartError;

/// Largest file of a key or a key set in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Keys that a token is tried with, at most.
const TRIES_MAX: usize = 8;

/// The keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    fixed: Vec<Key>,
    /// The key sets that are fetched.
    pub(super) remotes: Vec<Remote>,
}

/// Why a token has no claims yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// It is not valid, and why.
    Invalid(&'static str),
    /// Its key may be in a set that is being fetched, or should be.
    Wait,
    /// Its key may be in a set that cannot be fetched now.
    Unavailable(&'static str),
}

impl Keys {
    /// Reads all files, and notes which sets have to be fetched.
    ///
    /// # Errors
    /// Everything that cannot be read.
    pub(super) fn read(settings: &Settings, now: Instant) -> Result<Keys, Vec<StartError>> {
        let (mut keys, mut problems) = (Keys::default(), Vec::new());
        for source in &settings.token_keys {
            let read = match source {
                KeySource::Secret(path) => {
                    warn_of_readers(path);
                    bytes_of(path).and_then(|bytes| Ok(vec![Key::from_secret(&bytes)?]))
                }
                KeySource::Pem(path) => bytes_of(path).and_then(|bytes| Ok(vec![Key::from_pem(&bytes)?])),
                KeySource::Set(path) => bytes_of(path).and_then(|bytes| {
                    let (keys, left_out) = Key::from_set(&bytes, true)?;
                    if left_out > 0 {
                        tracing::warn!(%source, left_out, "keys of this set are for something else, or not known here");
                    }
                    Ok(keys)
                }),
                KeySource::Url(url) => {
                    keys.remotes.push(Remote::new(url.clone(), now));
                    Ok(Vec::new())
                }
            };
            match read {
                Ok(read) => keys.fixed.extend(read),
                Err(cause) => problems.push(StartError {
                    cause: format!("token-key {source}: {cause}"),
                    cure:
                        "give secret:FILE, pem:FILE, jwks:FILE or a URL; `corecast token --new-key FILE` makes a secret"
                            .to_owned(),
                }),
            }
        }
        if problems.is_empty() { Ok(keys) } else { Err(problems) }
    }

    /// Says whether there are none, nor ever will be.
    #[must_use]
    pub(super) fn is_none(&self) -> bool {
        self.fixed.is_empty() && self.remotes.is_empty()
    }

    /// Returns the claims of a token that one of the keys has signed. `last`: a set was fetched for it already.
    ///
    /// # Errors
    /// No key has, or not one that is known yet.
    pub(super) fn verify(&mut self, token: &str, now: Instant, last: bool) -> Result<Claims, Miss> {
        if self.is_none() {
            return Err(Miss::Invalid("tokens are not taken here: there is no token-key"));
        }
        let head = token::head(token).map_err(Miss::Invalid)?;
        let mut tried_named = false;
        if let Some(kid) = &head.kid {
            let named = self.all().filter(|key| key.kid() == Some(kid));
            match first(named, token, &head) {
                Some(Ok(claims)) => return Ok(claims),
                Some(Err(Wrong::Content)) => return Err(Miss::Invalid("what the token says cannot be read")),
                Some(Err(Wrong::Signature)) => tried_named = true,
                None => {}
            }
        }
        if !tried_named {
            let unnamed = self.all().filter(|key| head.kid.is_none() || key.kid().is_none());
            match first(unnamed, token, &head) {
                Some(Ok(claims)) => return Ok(claims),
                Some(Err(Wrong::Content)) => return Err(Miss::Invalid("what the token says cannot be read")),
                Some(Err(Wrong::Signature)) | None => {}
            }
        }
        let kid = if tried_named { None } else { head.kid.as_deref() };
        let mut unavailable = None;
        for remote in &mut self.remotes {
            match remote.want(kid, now, last) {
                Want::Fetch => return Err(Miss::Wait),
                Want::Later(why) => unavailable = Some(why),
                Want::Nothing => {}
            }
        }
        Err(unavailable
            .map_or(Miss::Invalid("the token is not signed with a key that is known here"), Miss::Unavailable))
    }

    fn all(&self) -> impl Iterator<Item = &Key> {
        self.fixed.iter().chain(self.remotes.iter().flat_map(|remote| remote.keys.iter()))
    }
}

/// Tries keys that fit; `None` if none does.
fn first<'k>(keys: impl Iterator<Item = &'k Key>, token: &str, head: &Head) -> Option<Result<Claims, Wrong>> {
    let mut result = None;
    for key in keys.filter(|key| key.takes(head.algorithm)).take(TRIES_MAX) {
        match token::verify(token, key, head.algorithm) {
            Err(Wrong::Signature) => result = Some(Err(Wrong::Signature)),
            decided => return Some(decided),
        }
    }
    result
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, String> {
    let about = fs::metadata(path).map_err(|error| error.to_string())?;
    if about.len() > FILE_BYTES_MAX {
        return Err("the file is larger than 1M".to_owned());
    }
    fs::read(path).map_err(|error| error.to_string())
}

/// Everybody on the host who can read a secret can make tokens.
fn warn_of_readers(path: &Path) {
    if fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o004 != 0) {
        tracing::warn!(path = %path.display(), "everybody on this host can read the secret: chmod 600 it");
    }
}
