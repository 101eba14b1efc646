//! Credentials: where a request shows one, and what it is.
//!
//! Owns the places, and their order: the first that has one counts, and what stands in the others is not looked at.
//!
//! ```text
//!   Authorization: Bearer <token>          a token
//!   Authorization: ApiKey <key>            a key
//!   Authorization: Basic <base64>          a key, as the password; the user is not looked at
//!   Corecast-Key: <key>                    a key
//!   ?token=<token>                         a token, for those that cannot set headers
//!   Cookie: <name>=<token>                 a token, if the name of the cookie is known
//!   Sec-WebSocket-Protocol: bearer.<token> a token, for pages that open WebSockets
//! ```
//!
//! Never says whether a credential is any good. Its [`Debug`] shows no secret.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::field::trim;
use super::head::{Known, Request};
use super::query;
use crate::percent;

/// The longest credential, in bytes: a larger one is none that anybody could believe.
pub const CREDENTIAL_BYTES_MAX: usize = 8192;

/// What stands before a token among the subprotocols of a WebSocket.
pub const BEARER_SUBPROTOCOL: &str = "bearer.";

/// What a credential is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A token: it says itself what it gives.
    Token,
    /// An API key: whoever knows it knows what it gives.
    Key,
}

/// A credential that a request shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credential<'r> {
    /// What it is.
    pub kind: Kind,
    /// The secret; empty if it is longer than [`CREDENTIAL_BYTES_MAX`], or cannot be read.
    pub secret: &'r str,
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Where credentials are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places<'p> {
    /// Tokens are.
    pub tokens: bool,
    /// Keys are.
    pub keys: bool,
    /// Name of the cookie that holds a token.
    pub cookie: Option<&'p str>,
}

/// Finds the credential of a request; what is encoded is decoded into `room`. None if it shows none.
///
/// One that is too long, or cannot be decoded, is found, with an empty secret: it is no reason to take somebody for nobody.
pub fn find<'r>(request: &Request<'r>, places: Places<'_>, room: &'r mut [u8]) -> Option<Credential<'r>> {
    let headers = &request.headers;
    if let Some(found) = headers.authorization.and_then(|value| authorization(value, places, room)) {
        return Some(bounded(found.0, found.1.written(room)));
    }
    if let Some(key) = headers.corecast_key.filter(|key| places.keys && !key.is_empty()) {
        return Some(bounded(Kind::Key, key));
    }
    if !places.tokens {
        return None;
    }
    if let Some(encoded) = query::value(request.query, "token").filter(|token| !token.is_empty()) {
        return Some(bounded(Kind::Token, percent::decode(encoded, room, true).unwrap_or("")));
    }
    let token = places.cookie.and_then(|name| cookie(headers, name)).or_else(|| subprotocol(headers));
    token.map(|token| bounded(Kind::Token, token))
}

fn bounded(kind: Kind, secret: &str) -> Credential<'_> {
    Credential { kind, secret: if secret.len() > CREDENTIAL_BYTES_MAX { "" } else { secret } }
}

/// A secret as it stands in the head, or so many bytes of the room.
enum Secret<'r> {
    Stands(&'r str),
    Decoded(core::ops::Range<usize>),
}

impl<'r> Secret<'r> {
    fn written(self, room: &'r [u8]) -> &'r str {
        match self {
            Secret::Stands(secret) => secret,
            Secret::Decoded(range) => core::str::from_utf8(&room[range]).unwrap_or(""),
        }
    }
}

/// Reads Authorization (RFC 9110 section 11.4); none if it is of a kind that nobody looks for.
fn authorization<'r>(value: &'r str, places: Places<'_>, room: &mut [u8]) -> Option<(Kind, Secret<'r>)> {
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim_matches(' ');
    if rest.is_empty() {
        return None;
    }
    let is = |wanted: &str| scheme.eq_ignore_ascii_case(wanted);
    if places.tokens && is("Bearer") {
        return Some((Kind::Token, Secret::Stands(rest)));
    }
    if places.keys && is("ApiKey") {
        return Some((Kind::Key, Secret::Stands(rest)));
    }
    if places.keys && is("Basic") {
        // What does not decode, or does not fit, is a key that nobody has.
        let len = STANDARD.decode_slice(rest, room).unwrap_or(0);
        let start = room[..len].iter().position(|byte| *byte == b':').map_or(len, |colon| colon + 1);
        return Some((Kind::Key, Secret::Decoded(start..len)));
    }
    None
}

/// Finds a cookie (RFC 6265 section 4.2.1); none if it is not there, or empty.
fn cookie<'r>(headers: &Known<'r>, name: &str) -> Option<&'r str> {
    let pairs = headers.cookie?.split(';').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(found, _)| found.trim_matches([' ', '\t']) == name).map(|(_, value)| {
        let value = value.trim_matches([' ', '\t']);
        value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
    });
    values.find(|value| !value.is_empty())
}

/// Finds the token among the subprotocols that a page offers.
fn subprotocol<'r>(headers: &Known<'r>) -> Option<&'r str> {
    bearer(headers).map(|offered| &offered[BEARER_SUBPROTOCOL.len()..])
}

/// Finds the subprotocol that holds a token, whole, as it has to be confirmed.
pub fn bearer<'r>(headers: &Known<'r>) -> Option<&'r str> {
    let mut offered = headers.sec_websocket_protocol.members().map(trim);
    let token = |name: &&[u8]| name.len() > BEARER_SUBPROTOCOL.len() && name.starts_with(BEARER_SUBPROTOCOL.as_bytes());
    offered.find(token).and_then(|name| core::str::from_utf8(name).ok())
}
