//! Bytes to meaning and back, for corecast.
//!
//! Owns the wire: HTTP/1 heads and bodies ([`http`]), WebSocket handshake and frames ([`ws`]), topics, cursors, the
//! `corecast.v1` line protocol ([`mod@line`]), the JSON that publishing needs ([`json`]), payloads that are
//! records ([`record`]), conditions on them ([`selector`]), and the encoders that turn one
//! [`Message`] into the bytes of a dialect ([`dialect`]). Touches only the slices it is given. Never allocates, reads a
//! clock, blocks, or keeps a reference between calls; what has to be remembered between two pieces of input is a small
//! `Copy` state that the caller stores ([`ws::decoder::Decoder`], [`http::body::Chunked`], [`ws::utf8::Utf8`]).
//!
//! Two rules hold everywhere:
//!
//! * **Needing more bytes is not an error.** Parsers answer `Ok(None)`, or consume nothing, and are called again with more.
//!   What they find does not depend on where the input was cut.
//! * **A broken rule has a name.** Everything a peer can do wrong is a [`Violation`], which knows the HTTP status and the
//!   WebSocket close code to answer with.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod cursor;
pub mod dialect;
#[doc(hidden)]
pub mod fuzz;
pub mod http;
pub mod json;
pub mod line;
pub mod message;
pub mod network;
pub mod pattern;
pub mod percent;
pub mod places;
pub mod producer;
pub mod proxy;
pub mod record;
pub mod selector;
pub mod snapshot;
pub mod topic;
pub mod violation;
pub mod write;
pub mod ws;

pub use cursor::{Cursor, Since};
pub use message::{Gap, Message, is_text, valid_event};
pub use topic::TopicError;
pub use violation::Violation;
pub use write::{Overflow, Writer};
