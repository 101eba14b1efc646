//! Numbering: which number the next message of a topic gets, and how many of those that were given lie between two.
//!
//! It is the home's own business: all others take numbers as they come, know that they grow, and ask the home how many are lost.

/// How a home numbers its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) struct Numbering {
    /// Numbers are left out: tests want to know who takes them for dense.
    pub(in crate::shard) leaves_out: bool,
}

impl Numbering {
    /// Returns the number of the nth message of an epoch, from 1 on; 0 for none.
    #[must_use]
    pub(in crate::shard) fn number(self, epoch: u32, nth: u64) -> u64 {
        if self.leaves_out { with_holes(epoch, nth) } else { nth }
    }

    /// Returns how many messages of an epoch have a number up to this one.
    #[must_use]
    pub(in crate::shard) fn count(self, epoch: u32, number: u64) -> u64 {
        if !self.leaves_out {
            return number;
        }
        let nth = number.div_ceil(2);
        if with_holes(epoch, nth) > number { nth - 1 } else { nth }
    }
}

/// Returns the number of the nth message of an epoch, where numbers are left out: each is larger by 1, 2 or 3 than the one before.
#[must_use]
pub fn with_holes(epoch: u32, nth: u64) -> u64 {
    if nth == 0 {
        return 0;
    }
    let mut state = u64::from(epoch) << 32 ^ nth;
    2 * nth - (crate::shard::random(&mut state) & 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers grow, by 1, 2 or 3 where some are left out, and the count of those given is that of a list.
    #[test]
    fn counts_are_those_of_a_list() {
        for leaves_out in [false, true] {
            let numbering = Numbering { leaves_out };
            let mut steps = [0; 4];
            let (mut nth, mut last) = (0, 0);
            for number in 0..1000 {
                if numbering.number(7, nth + 1) == number {
                    steps[(number - last) as usize] += 1;
                    (nth, last) = (nth + 1, number);
                }
                assert_eq!((numbering.count(7, number), numbering.number(7, nth)), (nth, last));
            }
            assert_eq!(steps[1..].iter().all(|count| *count > 20), leaves_out, "{steps:?}");
        }
    }
}
