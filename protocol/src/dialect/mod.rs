//! Dialects: encoders from a [`Message`](crate::Message) to the bytes that a transport sends.
//!
//! Every dialect is one file with two free functions: `encoded_len`, exact, so that the frame log can make room first, and
//! `encode`, which fills it. All subscribers of one dialect share the same bytes, so nothing here depends on a connection.

pub mod json;
pub mod line;
pub mod payload;
