//! Where each topic is read from when the connection is made again. Outlives every connection.
//!
//! Numbers of messages grow, and may leave some out: what lies between two of them, and how much, only the engine can say.

use corecast_protocol::cursor::{LIST_BYTES_MAX, LIST_MAX};
use corecast_protocol::write::Writer;
use corecast_protocol::{Cursor, Since, cursor};

/// The place of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Where the user wants to start.
    start: Since,
    /// What was read last, or, before anything was, where to go on if the connection breaks.
    at: Option<Cursor>,
    /// All up to `at` was read, or is told to be gone.
    exact: bool,
}

/// What a message is, seen from the position before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One that follows.
    Next,
    /// One that we had.
    Again,
    /// One of another epoch, and nobody said that there is a new one.
    Elsewhere,
}

impl Position {
    pub(super) fn new(start: Since) -> Position {
        match start {
            Since::After(cursor) => Position { start, at: Some(cursor), exact: true },
            _ => Position { start, at: None, exact: false },
        }
    }

    /// Judges a message, and moves behind it.
    pub(super) fn saw(&mut self, cursor: Cursor) -> Place {
        let place = match self.at.filter(|_| self.exact) {
            None => Place::Next,
            Some(at) if at.epoch == cursor.epoch && cursor.seq <= at.seq => return Place::Again,
            Some(at) if at.epoch == cursor.epoch => Place::Next,
            // Who stands before the first message of a topic had nothing that another life of it would end.
            Some(at) if at.seq == 0 => Place::Next,
            Some(_) => Place::Elsewhere,
        };
        self.is_at(cursor);
        place
    }

    /// Goes on behind a gap, which was told; one that was told before changes nothing.
    pub(super) fn passed(&mut self, to: Cursor) {
        let known = self.at.is_some_and(|at| self.exact && at.epoch == to.epoch && to.seq <= at.seq);
        if !known {
            self.is_at(to);
        }
    }

    /// The engine says that the reader is here.
    pub(super) fn is_at(&mut self, cursor: Cursor) {
        *self = Position { at: Some(cursor), exact: true, ..*self };
    }

    /// The subscription stands, or soon will, and the topic's newest message is `head`. If the connection breaks before
    /// any message was seen, what came meanwhile would be lost on the words alone.
    pub(super) fn stands(&mut self, head: Cursor) {
        if self.exact {
            return;
        }
        // The newest messages may still have been on their way; and what was gone at the start is told again. Where numbers are
        // left out, fewer of the older ones come, and none of the newer ones is missed.
        let before = match self.start {
            Since::Live | Since::After(_) => 0,
            Since::Latest => 1,
            Since::Last(count) => u64::from(count),
            Since::Earliest => u64::MAX,
        };
        self.at = Some(Cursor { seq: head.seq.saturating_sub(before), ..head });
    }

    /// Returns what was read last, if anything was.
    pub(super) fn exactly(&self) -> Option<Cursor> {
        self.at.filter(|_| self.exact)
    }

    /// Goes on after the connection broke, and returns where.
    pub(super) fn resume(&mut self) -> Since {
        self.exact |= self.at.is_some();
        self.at.map_or(self.start, Since::After)
    }
}

/// Reads `--since` for so many topics: a word for all of them, or a cursor for each.
pub(super) fn starts(text: &str, count: usize) -> Result<Vec<Since>, String> {
    let is_list = text.contains(',') || Cursor::parse(text).is_ok();
    if !is_list {
        let since = Since::parse(text).map_err(|violation| violation.text())?;
        return Ok(vec![since; count]);
    }
    let places: Vec<&str> = text.split(',').collect();
    if places.len() != count {
        return Err(format!("that is {} cursors for {count} topics", places.len()));
    }
    let start = |text| Cursor::parse(text).map(Since::After).map_err(|violation| violation.text().to_owned());
    places.into_iter().map(start).collect()
}

/// Writes the combined cursor of at most [`LIST_MAX`] topics.
pub(super) fn list(cursors: impl IntoIterator<Item = Cursor>) -> String {
    let mut text = vec![0; LIST_BYTES_MAX];
    let mut w = Writer::new(&mut text);
    cursor::write_list(&mut w, cursors.into_iter().take(LIST_MAX));
    let length = w.finish().expect("room for the longest list was made");
    String::from_utf8_lossy(&text[..length]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(seq: u64) -> Cursor {
        Cursor { epoch: 7, seq }
    }

    /// After a broken connection a topic goes on behind the last message seen, or where the subscription stood.
    #[test]
    fn positions_outlive_connections() {
        for (since, head, expected) in [
            (Since::Live, 5, 5),
            (Since::Latest, 5, 4),
            (Since::Latest, 0, 0),
            (Since::Earliest, 5, 0),
            (Since::Earliest, 0, 0),
            (Since::Last(3), 5, 2),
            (Since::Last(9), 5, 0),
            (Since::After(cursor(2)), 5, 2),
        ] {
            let mut position = Position::new(since);
            position.stands(cursor(head));
            assert_eq!(position.resume(), Since::After(cursor(expected)), "{since:?}");
            position.saw(cursor(9));
            position.stands(cursor(20));
            assert_eq!(position.resume(), Since::After(cursor(9)), "{since:?}: the head is not what was seen");
        }
        assert_eq!(Position::new(Since::Latest).resume(), Since::Latest);
    }

    /// The first message after a word may be any; then each has its place, and what does not follow is noticed.
    #[test]
    fn messages_have_their_place() {
        let mut position = Position::new(Since::Latest);
        position.stands(cursor(3));
        let other = Cursor { epoch: 8, seq: 1 };
        for (seen, place) in [
            (cursor(5), Place::Next),
            (cursor(6), Place::Next),
            (cursor(6), Place::Again),
            (cursor(2), Place::Again),
            (cursor(9), Place::Next),
            (cursor(10), Place::Next),
            (other, Place::Elsewhere),
            (Cursor { seq: 2, ..other }, Place::Next),
        ] {
            assert_eq!(position.saw(seen), place, "{seen:?}");
        }
        position.passed(Cursor { epoch: 9, seq: 4 });
        assert_eq!(position.saw(Cursor { epoch: 9, seq: 5 }), Place::Next, "what was told to be gone");
        position.passed(Cursor { epoch: 9, seq: 4 });
        assert_eq!(position.saw(Cursor { epoch: 9, seq: 5 }), Place::Again, "an old gap does not turn time back");
        let mut nowhere = Position::new(Since::After(Cursor::default()));
        assert_eq!(nowhere.saw(cursor(1)), Place::Next);
        let mut position = Position::new(Since::Live);
        position.stands(cursor(3));
        position.resume();
        assert_eq!(position.saw(cursor(3)), Place::Again, "after the cut it goes on behind where it stood");
    }

    /// A start is a word for all topics, or one cursor for each.
    #[test]
    fn starts_are_counted() {
        assert_eq!(starts("-3", 2), Ok(vec![Since::Last(3); 2]));
        let both = [cursor(1), cursor(2)];
        assert_eq!(starts("00000007-1,00000007-2", 2), Ok(both.map(Since::After).to_vec()));
        assert_eq!(list(both), "00000007-1,00000007-2");
        for (text, count) in [("00000007-1", 2), ("00000007-1,00000007-2", 1), ("latest,live", 2), ("now", 1), ("", 1)]
        {
            assert!(starts(text, count).is_err(), "{text}");
        }
    }
}
