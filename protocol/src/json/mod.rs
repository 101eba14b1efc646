//! The JSON that publishing needs (RFC 8259): one flat object in, small objects out.
//!
//! Owns a reader for one line of an NDJSON batch, and the escaping of strings. A message as an object is
//! [`dialect::json`](crate::dialect::json).

mod read;
mod say;

pub use read::{DEPTH_MAX, JsonError, PublishLine, publish_line};
pub use say::{batch_answer, error, escaped_len, publish_answer, string};
