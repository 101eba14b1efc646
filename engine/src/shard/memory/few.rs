//! A list that mostly has one item, which then stands in the list itself: half of all topics have one reader.

use std::ops::{Deref, DerefMut};

/// The list.
#[derive(Debug)]
pub(in crate::shard) enum Few<T> {
    /// One item.
    One(T),
    /// None, or several.
    Many(Vec<T>),
}

impl<T: Copy> Few<T> {
    /// Makes a list without items, which holds no memory.
    #[must_use]
    pub(in crate::shard) const fn new() -> Few<T> {
        Few::Many(Vec::new())
    }

    /// Returns the bytes of memory that it holds besides itself.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        match self {
            Few::One(_) => 0,
            Few::Many(items) if items.capacity() == 0 => 0,
            // With what the allocator puts before each piece.
            Few::Many(items) => (items.capacity() * size_of::<T>()).next_multiple_of(16) as u64 + 16,
        }
    }

    /// Adds an item at the end.
    pub(in crate::shard) fn push(&mut self, item: T) {
        match self {
            Few::Many(items) if items.is_empty() => *self = Few::One(item),
            Few::Many(items) => items.push(item),
            Few::One(first) => *self = Few::Many(vec![*first, item]),
        }
    }

    /// Takes an item out; the last one takes its place. Memory for far more than there are is given back.
    ///
    /// # Panics
    /// If there is none at this place.
    pub(in crate::shard) fn swap_remove(&mut self, place: usize) -> T {
        let gone = self[place];
        match self {
            Few::One(_) => *self = Few::new(),
            Few::Many(items) => {
                items.swap_remove(place);
                match items[..] {
                    [only] => *self = Few::One(only),
                    _ if items.len() < items.capacity() / 4 => items.shrink_to(items.len() * 2),
                    _ => {}
                }
            }
        }
        gone
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match self {
            Few::One(item) => std::slice::from_ref(item),
            Few::Many(items) => items,
        }
    }
}

impl<T> DerefMut for Few<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Few::One(item) => std::slice::from_mut(item),
            Few::Many(items) => items,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It answers like a plain list, and holds memory for several items only, and not for many more than there are.
    #[test]
    fn like_a_list() {
        let mut few = Few::new();
        let mut list = Vec::new();
        let mut seed = 1u64;
        for n in 0..20_000u32 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let dice = (seed >> 33) as usize;
            if dice % 8 < if n / 1_000 % 2 == 0 { 6 } else { 2 } {
                few.push(n);
                list.push(n);
            } else if !list.is_empty() {
                let place = dice / 8 % list.len();
                assert_eq!(few.swap_remove(place), list.swap_remove(place));
            }
            assert_eq!(*few, list[..]);
            let bytes = few.bytes();
            assert!(if list.len() < 2 { bytes == 0 } else { bytes < 16 * list.len() as u64 + 64 }, "{bytes} bytes");
        }
    }
}
