//! A reader of NDJSON streams: a JSON object a line, empty lines as signs of life.

use crate::item::{Item, object_of_stream};

/// Takes the next line off `bytes`, once it is whole.
pub(crate) fn take(bytes: &mut Vec<u8>) -> Option<Item> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line: Vec<u8> = bytes.drain(..end + 1).take(end).collect();
    if line.is_empty() {
        return Some(Item::Life);
    }
    assert!(line.starts_with(b"{\"") && line.ends_with(b"}"), "an object and nothing around it: {line:?}");
    let value = serde_json::from_slice(&line)
        .unwrap_or_else(|error| panic!("an object, not {:?}: {error}", String::from_utf8_lossy(&line)));
    Some(object_of_stream(&value))
}
