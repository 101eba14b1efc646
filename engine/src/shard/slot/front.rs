//! The front of a WebSocket's queue: what was begun, and the pongs behind it; see [`crate::shard::carrier::pong`].

/// What stands at the front of a WebSocket's queue, and comes before a new pong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) struct Front {
    /// Bytes of a frame of which others were sent.
    pub(in crate::shard) begun: u32,
    /// Bytes of pongs behind them.
    pub(in crate::shard) pongs: u32,
}

impl Front {
    /// Returns a front of so many bytes that must stay in one piece: the head before the first frame, the rest of a frame.
    pub(in crate::shard) const fn begun(bytes: u32) -> Front {
        Front { begun: bytes, pongs: 0 }
    }

    /// Says whether a pong waits.
    pub(in crate::shard) const fn has_pongs(self) -> bool {
        self.pongs > 0
    }

    /// The rest of a frame was put before everything else; nothing of the queue itself was begun.
    pub(in crate::shard) fn put_first(&mut self, bytes: u32) {
        debug_assert_eq!(self.begun, 0, "one frame is begun at a time");
        self.begun = bytes;
    }

    /// Of a queue whose bytes were `queue`, the kernel took the first `taken`.
    pub(in crate::shard) fn advance(&mut self, queue: &[u8], taken: usize) {
        let (begun, pongs_end) = (self.begun as usize, (self.begun + self.pongs) as usize);
        let mut boundary = begun;
        while boundary < taken {
            boundary += frame_len(&queue[boundary..]);
        }
        self.begun = (boundary - taken) as u32;
        self.pongs = pongs_end.saturating_sub(boundary.max(begun)) as u32;
    }
}

/// Returns the length of the server's frame that starts here, header and all.
fn frame_len(bytes: &[u8]) -> usize {
    match *bytes {
        [_, 127, a, b, c, d, e, f, g, h, ..] => 10 + u64::from_be_bytes([a, b, c, d, e, f, g, h]) as usize,
        [_, 126, high, low, ..] => 4 + usize::from(u16::from_be_bytes([high, low])),
        [_, len, ..] => 2 + usize::from(len),
        _ => unreachable!("the queue of a WebSocket holds whole frames"),
    }
}

#[cfg(test)]
mod tests {
    use corecast_protocol::ws::frame;

    use super::*;

    fn frame_of(len: usize, byte: u8) -> Vec<u8> {
        let mut bytes = vec![byte; 14 + len];
        let header = frame::write_header(&mut bytes, true, false, frame::Opcode::Binary, len, None);
        bytes.truncate(header + len);
        bytes
    }

    /// Wherever the kernel stops taking, the rest of the frame there is known, and how many bytes of pongs are left behind it.
    #[test]
    fn every_cut_is_known() {
        let frames = [frame_of(0, 0), frame_of(125, 1), frame_of(126, 2), frame_of(70_000, 3), frame_of(3, 4)];
        for begun in [0, 5] {
            for pongs_count in 0..=3 {
                let queue = [vec![9; begun], frames.concat()].concat();
                let mut ends = vec![begun];
                for frame in &frames {
                    ends.push(ends.last().unwrap() + frame.len());
                }
                let pongs = ends[pongs_count] - begun;
                let near = |at: usize| ends.iter().any(|end| at.abs_diff(*end) < 12) || at < 20;
                for taken in (0..=queue.len()).filter(|at| near(*at)) {
                    let mut front = Front { begun: begun as u32, pongs: pongs as u32 };
                    front.advance(&queue, taken);
                    let boundary = *ends.iter().find(|end| **end >= taken).unwrap();
                    let left = ends[pongs_count].saturating_sub(boundary);
                    let expected = Front { begun: (boundary - taken) as u32, pongs: left as u32 };
                    assert_eq!(front, expected, "begun {begun}, pongs {pongs}, taken {taken}");
                }
            }
        }
    }
}
