//! A set of shards, as bits.

/// A set of shards by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shards([u64; Shards::WORDS]);

impl Shards {
    /// Shards that a set can hold: those with numbers below.
    pub const MAX: usize = 256;

    pub(super) const WORDS: usize = Shards::MAX / 64;

    /// Returns the word and the bit of a shard.
    pub(super) fn place(shard: usize) -> (usize, u64) {
        (shard / 64, 1 << (shard % 64))
    }

    pub(super) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.0
    }

    /// Adds a shard.
    ///
    /// # Panics
    /// If its number is not below [`Shards::MAX`].
    pub fn insert(&mut self, shard: usize) {
        let (word, bit) = Shards::place(shard);
        self.0[word] |= bit;
    }

    /// Adds all shards of another set.
    pub fn insert_all(&mut self, other: Shards) {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word |= other);
    }

    /// Says whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; Shards::WORDS]
    }

    /// Removes a shard.
    ///
    /// # Panics
    /// If its number is not below [`Shards::MAX`].
    pub fn remove(&mut self, shard: usize) {
        let (word, bit) = Shards::place(shard);
        self.0[word] &= !bit;
    }

    /// Says whether a shard is among them.
    ///
    /// # Panics
    /// If its number is not below [`Shards::MAX`].
    #[must_use]
    pub fn contains(&self, shard: usize) -> bool {
        let (word, bit) = Shards::place(shard);
        self.0[word] & bit != 0
    }

    /// Calls `visit` with the number of each shard, in ascending order.
    #[inline]
    pub fn each(self, mut visit: impl FnMut(usize)) {
        for (word, mut bits) in self.0.into_iter().enumerate() {
            while bits != 0 {
                visit(word * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was added is there, once and in order, at both ends of every word.
    #[test]
    fn holds_what_was_added() {
        let numbers = [0, 1, 63, 64, 127, 128, 191, 200, 255];
        let (mut odd, mut all) = (Shards::default(), Shards::default());
        assert!(all.is_empty());
        for number in numbers {
            all.insert(number);
            all.insert(number);
            if number % 2 == 1 {
                odd.insert(number);
            }
        }
        let listed = |shards: Shards| {
            let mut numbers = Vec::new();
            shards.each(|number| numbers.push(number));
            numbers
        };
        assert_eq!(listed(all), numbers);
        assert_eq!(listed(odd), [1, 63, 127, 191, 255]);
        let mut sum = odd;
        sum.insert_all(all);
        assert_eq!(sum, all);
        sum.remove(64);
        sum.remove(65);
        assert_eq!(listed(sum), [0, 1, 63, 127, 128, 191, 200, 255]);
    }
}
