//! Which numbers a home gives, as the oracle knows it: one after the other, or, in worlds whose homes leave some out, those that
//! [`with_holes`] says. Nothing is subtracted: what lies between two numbers is counted in the list of all that are given.

use std::cell::RefCell;
use std::collections::HashMap;

use corecast::shard::with_holes;

use crate::oracle::Cursor;

#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) leaves_out: bool,
    /// Of every epoch the numbers given, as far as somebody wanted to know.
    given: RefCell<HashMap<u32, Vec<u64>>>,
}

impl Numbers {
    /// Returns the nth number of an epoch; 0 for none.
    fn number(&self, epoch: u32, nth: u64) -> u64 {
        if self.leaves_out { with_holes(epoch, nth) } else { nth }
    }

    /// Returns how many messages have a number up to that of the cursor.
    pub(crate) fn count(&self, cursor: Cursor) -> u64 {
        let mut given = self.given.borrow_mut();
        let given = given.entry(cursor.epoch).or_default();
        while given.last().is_none_or(|last| *last <= cursor.seq) {
            given.push(self.number(cursor.epoch, given.len() as u64 + 1));
        }
        given.partition_point(|number| *number <= cursor.seq) as u64
    }

    /// Says whether some message has or will have this cursor.
    pub(crate) fn is_given(&self, cursor: Cursor) -> bool {
        self.number(cursor.epoch, self.count(cursor)) == cursor.seq
    }

    /// Returns how many messages lie behind a cursor, up to another of its epoch; `None` if that is before it.
    pub(crate) fn between(&self, from: Cursor, to: Cursor) -> Option<u64> {
        self.count(to).checked_sub(self.count(from))
    }

    /// Returns the number of the message behind a cursor.
    pub(crate) fn after(&self, cursor: Cursor) -> u64 {
        self.number(cursor.epoch, self.count(cursor) + 1)
    }

    /// Returns the number of the message that lies so many before that of a cursor; 0 if there are not so many.
    pub(crate) fn back(&self, cursor: Cursor, by: u64) -> u64 {
        self.number(cursor.epoch, self.count(cursor).saturating_sub(by))
    }
}
