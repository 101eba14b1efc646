//! The names of topics: text in cells that are as long as the text, rounded up to eight bytes.
//!
//! Owns: the text. There are 32 lengths of cells, and chunks of cells of each length; a name so costs four bytes more than it is
//! long, where a piece of the allocator's would cost sixteen, and its chunks go back to the kernel when their last name has gone. Cells
//! are text at all times, so that nobody has to check a name again.
//!
//! Invariant: a chunk without names holds no memory, except one of each length.

use crate::shard::memory::slab::{Rooms, shift_for};

const NONE: u32 = u32::MAX;

/// Lengths of cells differ by so many bytes; in a free one stands the number of the next free one, in as many hexadecimal digits.
const STEP: usize = 8;

/// Cells for names of up to 256 bytes.
const LENGTHS: usize = 256 / STEP;

/// Where a name is.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct NamePlace {
    cell: u32,
    /// Bytes less one: there is no name without any.
    last: u8,
}

#[derive(Debug)]
struct Chunk {
    text: String,
    /// The first free cell, or [`NONE`].
    free: u32,
    used: u32,
}

/// Cells of one length.
#[derive(Debug)]
struct Cells {
    chunks: Vec<Chunk>,
    rooms: Rooms,
    /// The chunk that is kept though it is empty, or [`NONE`].
    spare: u32,
}

/// The names.
#[derive(Debug)]
pub(in crate::shard) struct Names {
    cells: [Cells; LENGTHS],
    bytes: u64,
    used_bytes: u64,
}

/// Powers of two that are the numbers of cells in a chunk, of each length.
const SHIFTS: [u8; LENGTHS] = {
    let mut shifts = [0; LENGTHS];
    let mut kind = 0;
    while kind < LENGTHS {
        shifts[kind] = shift_for(cell_bytes(kind)) as u8;
        kind += 1;
    }
    shifts
};

/// Returns the length of the cells of one kind.
const fn cell_bytes(kind: usize) -> usize {
    (kind + 1) * STEP
}

impl NamePlace {
    fn len(self) -> usize {
        usize::from(self.last) + 1
    }

    /// Returns the bytes of its cell.
    #[must_use]
    pub(in crate::shard) fn bytes(self) -> usize {
        cell_bytes(self.kind())
    }

    fn kind(self) -> usize {
        usize::from(self.last) / STEP
    }
}

impl Names {
    /// Makes no names yet.
    #[must_use]
    pub(in crate::shard) fn new() -> Names {
        let cells = |_| Cells { chunks: Vec::new(), rooms: Rooms::new(), spare: NONE };
        Names { cells: std::array::from_fn(cells), bytes: 0, used_bytes: 0 }
    }

    /// Returns the bytes of memory that they hold.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the bytes of cells with a name.
    #[must_use]
    pub(in crate::shard) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// Returns a name.
    #[must_use]
    #[inline]
    pub(in crate::shard) fn text(&self, place: NamePlace) -> &str {
        let (kind, len) = (place.kind(), place.len());
        let shift = SHIFTS[kind];
        let chunk = &self.cells[kind].chunks[(place.cell >> shift) as usize];
        let start = (place.cell & ((1 << shift) - 1)) as usize * cell_bytes(kind);
        &chunk.text[start..start + len]
    }

    /// Says whether it is this one.
    #[must_use]
    #[inline]
    pub(in crate::shard) fn is(&self, place: NamePlace, name: &str) -> bool {
        if place.len() != name.len() {
            return false;
        }
        let (kind, shift) = (place.kind(), SHIFTS[place.kind()]);
        let start = (place.cell & ((1 << shift) - 1)) as usize * cell_bytes(kind);
        let chunk = &self.cells[kind].chunks[(place.cell >> shift) as usize];
        chunk.text.as_bytes()[start..start + name.len()] == *name.as_bytes()
    }

    /// Keeps a name, which has 1 to 256 bytes.
    ///
    /// # Panics
    /// If it has none, or more.
    pub(in crate::shard) fn keep(&mut self, name: &str) -> NamePlace {
        let last = u8::try_from(name.len().wrapping_sub(1)).expect("names have 1 to 256 bytes");
        let kind = usize::from(last) / STEP;
        let (bytes, shift) = (cell_bytes(kind), SHIFTS[kind]);
        let cells = &mut self.cells[kind];
        let at = cells.rooms.first().min(cells.chunks.len());
        if at == cells.chunks.len() {
            cells.chunks.push(Chunk { text: String::new(), free: NONE, used: 0 });
            cells.rooms.set(at);
        }
        let chunk = &mut cells.chunks[at];
        let cell = if chunk.free == NONE {
            if chunk.text.capacity() == 0 {
                chunk.text.reserve_exact(bytes << shift);
            }
            chunk.text.push_str(name);
            chunk.text.extend(std::iter::repeat_n('\0', bytes - name.len()));
            self.bytes += bytes as u64;
            chunk.text.len() / bytes - 1
        } else {
            let cell = chunk.free as usize;
            let start = cell * bytes;
            let next = &chunk.text[start..start + STEP];
            chunk.free = u32::from_str_radix(next, 16).expect("a free cell has the number of the next one");
            write_cell(&mut chunk.text, start, bytes, name);
            cell
        };
        chunk.used += 1;
        self.used_bytes += bytes as u64;
        if chunk.used == 1 && cells.spare as usize == at {
            cells.spare = NONE;
        }
        if chunk.used == 1 << shift {
            cells.rooms.clear(at);
        }
        NamePlace { cell: (at << shift | cell) as u32, last }
    }

    /// Forgets a name.
    pub(in crate::shard) fn forget(&mut self, place: NamePlace) {
        let (kind, bytes) = (place.kind(), cell_bytes(place.kind()));
        let shift = SHIFTS[kind];
        let cells = &mut self.cells[kind];
        let at = (place.cell >> shift) as usize;
        let chunk = &mut cells.chunks[at];
        let cell = place.cell & ((1 << shift) - 1);
        let next = std::mem::replace(&mut chunk.free, cell);
        write_cell(&mut chunk.text, cell as usize * bytes, bytes, &format!("{next:08x}"));
        if chunk.used == 1 << shift {
            cells.rooms.set(at);
        }
        chunk.used -= 1;
        self.used_bytes -= bytes as u64;
        if chunk.used == 0 {
            self.bytes -= cells.emptied(at as u32);
        }
    }
}

impl Cells {
    /// A chunk has become empty: the first one is kept. Returns how many bytes of memory go.
    #[cold]
    fn emptied(&mut self, at: u32) -> u64 {
        let kept = self.spare.min(at);
        let other = std::mem::replace(&mut self.spare, kept);
        if other == NONE {
            return 0;
        }
        let chunk = &mut self.chunks[other.max(at) as usize];
        let bytes = chunk.text.len() as u64;
        *chunk = Chunk { text: String::new(), free: NONE, used: 0 };
        while self.chunks.last().is_some_and(|chunk| chunk.text.capacity() == 0) {
            self.chunks.pop();
            self.rooms.clear(self.chunks.len());
        }
        bytes
    }
}

/// Writes text into a cell, with zeroes behind it; what is behind stays where it is, as there are as many bytes as before.
fn write_cell(chunk: &mut String, start: usize, bytes: usize, text: &str) {
    const ZEROES: &str = match std::str::from_utf8(&[0; 256]) {
        Ok(zeroes) => zeroes,
        Err(_) => unreachable!(),
    };
    // First all zeroes, which ends no letter in its midst.
    chunk.replace_range(start..start + bytes, &ZEROES[..bytes]);
    chunk.replace_range(start..start + text.len(), text);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of all lengths are what they were until they are forgotten, and afterwards the memory is gone, but for one chunk of
    /// each length.
    #[test]
    fn names_stay() {
        let mut names = Names::new();
        let mut kept: Vec<(NamePlace, String)> = Vec::new();
        let mut seed = 9u64;
        let mut most = 0;
        for n in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let dice = (seed >> 33) as usize;
            if dice % 8 < if n < 14_000 { 6 } else { 3 } {
                // Letters of two bytes among them, and many of two lengths, so that these have several chunks.
                let len = if dice.is_multiple_of(3) { dice / 8 % 256 + 1 } else { 230 + dice / 8 % 12 };
                let name: String = format!("{n}é").chars().chain(std::iter::repeat('ä')).take(len).collect();
                let name: String = name
                    .chars()
                    .scan(0, |sum, c| {
                        *sum += c.len_utf8();
                        (*sum <= len).then_some(c)
                    })
                    .collect();
                kept.push((names.keep(&name), name));
            } else if !kept.is_empty() {
                let (place, name) = kept.swap_remove(dice / 8 % kept.len());
                assert_eq!(names.text(place), name);
                names.forget(place);
            }
            most = most.max(names.bytes());
            if n % 2_000 == 0 {
                assert!(kept.iter().all(|(place, name)| names.text(*place) == name));
                let used: usize = kept.iter().map(|(_, name)| name.len().next_multiple_of(STEP)).sum();
                assert_eq!(names.used_bytes(), used as u64);
            }
        }
        assert!(most > 1 << 20, "{most} bytes at most: the test is too tame");
        for (place, name) in kept {
            assert_eq!(names.text(place), name);
            names.forget(place);
        }
        assert_eq!(names.used_bytes(), 0);
        for cells in &names.cells {
            assert!(cells.chunks.iter().filter(|chunk| chunk.text.capacity() > 0).count() <= 1);
        }
    }
}
