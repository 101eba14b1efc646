//! The JSON that publishing needs (RFC 8259): one flat object in, small objects out.
//!
//! Owns a reader for one line of an NDJSON batch, the escaping of strings, and what makes a script of JSON (JSONP). A message as an object is
//! [`dialect::json`](crate::dialect::json).

mod read;
mod say;
mod script;

pub use read::{DEPTH_MAX, JsonError, PublishLine, decode_base64, publish_line};
pub use say::{
    batch_answer, end_of_snapshot, end_of_snapshot_len, error, escaped_len, gap, gap_len, publish_answer, refused,
    refused_len, repeat_answer, script_end_of_snapshot, script_escaped_len, script_gap, script_refused, script_string,
    string,
};
pub(crate) use say::{string_len, write_string};
pub use script::{CALLBACK_BYTES_MAX, DEFAULT_CALLBACK, JSONP_END, jsonp_start, valid_callback, valid_frame_callback};
