//! Dialects: encoders from a [`Message`](crate::Message) to the bytes that a transport sends.
//!
//! Every dialect is one file with two free functions: `encoded_len`, exact, so that the frame log can make room first, and
//! `encode`, which fills it. All subscribers of one dialect share the same bytes, so nothing here depends on a connection.
//!
//! What streams over HTTP goes into chunks for HTTP/1.1, where HTTP/1.0 takes the bytes as they are until the connection ends;
//! [`response::chunk`](crate::http::response::chunk) makes one of a message. What only one connection gets (a prologue, a heartbeat,
//! a gap) is written with a [`Writer`](crate::Writer), and [`response::piece`](crate::http::response::piece) makes a chunk of it.

pub mod forever_frame;
pub mod json;
pub mod line;
pub mod multipart;
pub mod ndjson;
pub mod payload;
pub mod places;
pub mod sse;
