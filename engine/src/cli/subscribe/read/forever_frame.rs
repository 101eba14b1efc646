//! A forever frame, read as text: the page runs its scripts, we read what they are called with.

use super::splitter::{Ends, Splitter};
use super::{Item, OBJECT_BYTES_MAX, object};

/// The page at hand.
#[derive(Debug)]
pub(super) struct ForeverFrame {
    splitter: Splitter,
}

impl ForeverFrame {
    pub(super) fn new() -> ForeverFrame {
        ForeverFrame { splitter: Splitter::new(Ends::LineFeed, OBJECT_BYTES_MAX) }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], found: &mut Vec<Item>) -> Result<(), String> {
        let mut rest = bytes;
        while let Some(line) = self.splitter.next(&mut rest)? {
            if let Some(call) = line.strip_prefix(b"<script>c(") {
                found.push(object::item(call.strip_suffix(b")</script>").ok_or("a script does not end")?)?);
                continue;
            }
            // The beginning of the page, its padding, and the signs of life. Any other page of HTML is not ours.
            let known: [&[u8]; 3] = [b"<!DOCTYPE html><html lang=\"en\">", b"<script>function c(m){", b"<!--"];
            if !line.is_empty() && !known.iter().any(|start| line.starts_with(start)) {
                return Err("the page is not a forever frame".to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another page of HTML, such as that of a proxy, is not taken for a stream without messages.
    #[test]
    fn other_pages_are_recognised() {
        for (text, expected) in [
            ("<html><body>log in</body></html>\n", "not a forever frame"),
            ("<script>c({\n", "does not end"),
            ("<script>c({)</script>\n", "not JSON"),
        ] {
            let error = ForeverFrame::new().feed(text.as_bytes(), &mut Vec::new()).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
