//! The opening handshake (RFC 6455 section 4), both sides.
//!
//! Owns the key's digest and what a request or an answer must say. Whether the origin, the topic and the token are welcome
//! is the engine's to decide, before it answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

use crate::http::client::Reply;
use crate::http::field::{Field, is_token, split_unquoted, trim};
use crate::http::head::{Method, Request};
use crate::http::response::header;
use crate::violation::Violation;
use crate::write::Writer;
use crate::ws::deflate::{self, Agreement};

/// The subprotocol of the line protocol.
pub const CORECAST_V1: &str = "corecast.v1";

/// What is put behind the key before it is digested (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Computes Sec-WebSocket-Accept from Sec-WebSocket-Key.
pub fn accept_key(key: &str) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; 28];
    STANDARD.encode_slice(digest, &mut accept).expect("20 bytes are 28 in base64");
    accept
}

/// Makes a Sec-WebSocket-Key of 16 random bytes.
pub fn encode_key(random: [u8; 16]) -> [u8; 24] {
    let mut key = [0; 24];
    STANDARD.encode_slice(random, &mut key).expect("16 bytes are 24 in base64");
    key
}

/// What a client offers in a request that is a valid opening handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer<'b> {
    /// The key, for [`accept_key`].
    pub key: &'b str,
    /// Whether `corecast.v1` is among the subprotocols.
    pub corecast_v1: bool,
    /// What can be agreed on about compression, if anything.
    pub deflate: Option<Agreement>,
    protocols: Field<'b>,
}

impl<'b> Offer<'b> {
    /// Goes through the subprotocols, in the client's order.
    pub fn protocols(&self) -> impl Iterator<Item = &'b str> + use<'b> {
        self.protocols.members().filter_map(|name| core::str::from_utf8(name).ok())
    }
}

/// Checks that a request is an opening handshake (RFC 6455 section 4.2.1).
///
/// # Errors
/// [`Violation::MissingUpgrade`] (426), [`Violation::BadUpgradeMethod`], [`Violation::BadWebSocketVersion`] (426, and the answer
/// should carry `Sec-WebSocket-Version: 13`), [`Violation::BadWebSocketKey`], [`Violation::BadWebSocketOffer`].
pub fn check<'b>(request: &Request<'b>) -> Result<Offer<'b>, Violation> {
    let headers = &request.headers;
    if !headers.upgrade_websocket || !headers.connection_upgrade {
        return Err(Violation::MissingUpgrade);
    }
    if request.method != Method::Get || request.http10 {
        return Err(Violation::BadUpgradeMethod);
    }
    if headers.sec_websocket_version != Some("13") {
        return Err(Violation::BadWebSocketVersion);
    }
    let key = headers.sec_websocket_key.ok_or(Violation::BadWebSocketKey)?;
    let mut decoded = [0; 18];
    if STANDARD.decode_slice(key, &mut decoded) != Ok(16) {
        return Err(Violation::BadWebSocketKey);
    }
    let (protocols, extensions) = (headers.sec_websocket_protocol, headers.sec_websocket_extensions);
    if !is_list(protocols, is_token) || !is_list(extensions, is_extension) {
        return Err(Violation::BadWebSocketOffer);
    }
    Ok(Offer {
        key,
        corecast_v1: protocols.members().any(|name| name == CORECAST_V1.as_bytes()),
        deflate: deflate::negotiate(extensions),
        protocols,
    })
}

/// Says whether a header is left out, or a list of at least one member, all of which are sound (RFC 6455 section 4.3).
fn is_list(field: Field<'_>, is_sound: impl Fn(&[u8]) -> bool) -> bool {
    let mut members = field.members().peekable();
    !field.is_given() || members.peek().is_some() && members.all(is_sound)
}

/// Says whether a member of Sec-WebSocket-Extensions is an extension: a token, and parameters with or without values, each of them a
/// token, in quotes or not (RFC 6455 section 9.1).
fn is_extension(member: &[u8]) -> bool {
    let mut parts = split_unquoted(member, b';').map(trim);
    parts.next().is_some_and(is_token)
        && parts.all(|part| {
            let Some(equals) = part.iter().position(|&byte| byte == b'=') else { return is_token(part) };
            let (name, value) = (trim(&part[..equals]), trim(&part[equals + 1..]));
            is_token(name) && (is_token(value) || is_quoted_token(value))
        })
}

/// Says whether a quoted string holds a token, once its escapes are undone.
fn is_quoted_token(value: &[u8]) -> bool {
    let [b'"', inner @ .., b'"'] = value else { return false };
    let (mut escaped, mut len) = (false, 0_usize);
    for &byte in inner {
        if byte == b'\\' && !escaped {
            escaped = true;
            continue;
        }
        if !is_token(&[byte]) {
            return false;
        }
        escaped = false;
        len += 1;
    }
    !escaped && len > 0
}

/// Writes the answer that completes the handshake (RFC 6455 section 4.2.2), with what was agreed on.
pub fn respond(w: &mut Writer<'_>, accept: &[u8; 28], subprotocol: Option<&str>, deflate: Option<Agreement>) {
    w.text("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    w.put(accept);
    w.text("\r\n");
    if let Some(subprotocol) = subprotocol {
        header(w, "Sec-WebSocket-Protocol", subprotocol);
    }
    if let Some(agreement) = deflate {
        w.text("Sec-WebSocket-Extensions: ");
        agreement.write(w);
        w.text("\r\n");
    }
    w.text("\r\n");
}

/// Writes a client's opening handshake (RFC 6455 section 4.1).
pub fn client_request(w: &mut Writer<'_>, host: &str, target: &str, key: &[u8; 24], subprotocol: Option<&str>) {
    client_request_with(w, host, target, key, subprotocol, &[]);
}

/// Writes a client's opening handshake with further headers, as Authorization.
pub fn client_request_with(
    w: &mut Writer<'_>,
    host: &str,
    target: &str,
    key: &[u8; 24],
    subprotocol: Option<&str>,
    extra: &[(&str, &str)],
) {
    w.text("GET ");
    w.text(target);
    w.text(" HTTP/1.1\r\n");
    header(w, "Host", host);
    w.text("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ");
    w.put(key);
    w.text("\r\n");
    if let Some(subprotocol) = subprotocol {
        header(w, "Sec-WebSocket-Protocol", subprotocol);
    }
    for (name, value) in extra {
        header(w, name, value);
    }
    w.text("\r\n");
}

/// Checks a server's answer to the handshake with `key` (RFC 6455 section 4.1). The client offered no extension.
///
/// # Errors
/// [`Violation::BadHandshakeAnswer`] if anything is missing, wrong, or was not asked for.
pub fn check_reply(reply: &Reply<'_>, key: &[u8; 24], subprotocol: Option<&str>) -> Result<(), Violation> {
    let key = core::str::from_utf8(key).map_err(|_| Violation::BadHandshakeAnswer)?;
    let accept = accept_key(key);
    let fits = reply.status == 101
        && reply.upgrade_websocket
        && reply.connection_upgrade
        && reply.sec_websocket_accept.is_some_and(|found| found.as_bytes() == accept)
        && reply.sec_websocket_extensions.is_none()
        // A server may choose no subprotocol, but none that was not offered.
        && (reply.sec_websocket_protocol.is_none() || reply.sec_websocket_protocol == subprotocol);
    if fits { Ok(()) } else { Err(Violation::BadHandshakeAnswer) }
}
