//! A reader of the forever frame: a page, and then a script per message, in which nothing ends a script.

use crate::item::{Item, object_of_stream};

/// Reads one page.
#[derive(Debug)]
pub(crate) struct Page {
    callback: String,
    begun: bool,
}

impl Page {
    pub(crate) fn new(callback: &str) -> Page {
        Page { callback: callback.to_string(), begun: false }
    }

    /// Takes the start of the page, a line end, or a script off `bytes`, once it is whole.
    pub(crate) fn take(&mut self, bytes: &mut Vec<u8>) -> Option<Item> {
        if !self.begun {
            let end = find(bytes, b"-->\n")? + 4;
            let start = String::from_utf8(bytes.drain(..end).collect()).expect("a page is UTF-8");
            let calls = format!("{}(m)}}</script>", self.callback);
            assert!(start.starts_with("<!DOCTYPE html>") && start.contains(&calls), "the start of a page: {start:?}");
            self.begun = true;
            return Some(Item::Life);
        }
        if bytes.first() == Some(&b'\n') {
            bytes.remove(0);
            return Some(Item::Life);
        }
        let end = find(bytes, b")</script>\n")?;
        let script: Vec<u8> = bytes.drain(..end + 11).take(end).collect();
        let inside = script.strip_prefix(b"<script>c(").unwrap_or_else(|| panic!("a script, not {script:?}"));
        check_inside(inside);
        let value = serde_json::from_slice(inside)
            .unwrap_or_else(|error| panic!("an object, not {:?}: {error}", String::from_utf8_lossy(inside)));
        Some(object_of_stream(&value))
    }
}

/// Asserts that nothing in a script means anything to HTML, or ends a line in old JavaScript.
pub(crate) fn check_inside(script: &[u8]) {
    let text = std::str::from_utf8(script).expect("a script is UTF-8");
    assert!(!text.contains(['<', '>', '&', '\u{2028}', '\u{2029}', '\r', '\n']), "a script is safe: {text:?}");
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
