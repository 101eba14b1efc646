//! What an order is called in the kernel: 64 bits of `user_data` that come back with its completion.
//!
//! Owns: the layout. Touches nothing. A token says all that is needed to understand a completion, so that the ring
//! keeps no table of what is in flight.
//!
//! ```text
//!   63    60 59                  48 47            32 31             0
//!  +--------+----------------------+----------------+----------------+
//!  | Send   |       bytes asked for (28 bits)       |      slot      |
//!  | others |          zero        |   generation   |      slot      |
//!  | Accept |          zero        |    listener    |     place      |
//!  +--------+----------------------+----------------+----------------+
//! ```

use super::driver::{Interest, Slot};

/// Most bytes one send may ask for: what fits the token's 28 bits.
pub const SEND_BYTES_MAX: u32 = (1 << 28) - 1;

/// Which order a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Operation {
    Send = 0,
    ReceiveMultishot = 1,
    ReceiveOnce = 2,
    PollReadable = 3,
    PollWritable = 4,
    Cancel = 5,
    Finish = 6,
    Close = 7,
    /// A close nobody waits for: a connection accepted after `stop_accepting`.
    Discard = 8,
    Accept = 9,
    /// Moves a new socket into the table, before `Connect`.
    Install = 10,
    Connect = 11,
    Timer = 12,
    TimerChange = 13,
    Doorbell = 14,
    ReceiveNext = 15,
}

const OPERATIONS: [Operation; 16] = [
    Operation::Send,
    Operation::ReceiveMultishot,
    Operation::ReceiveOnce,
    Operation::PollReadable,
    Operation::PollWritable,
    Operation::Cancel,
    Operation::Finish,
    Operation::Close,
    Operation::Discard,
    Operation::Accept,
    Operation::Install,
    Operation::Connect,
    Operation::Timer,
    Operation::TimerChange,
    Operation::Doorbell,
    Operation::ReceiveNext,
];

/// An order's name, typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(u64);

impl Token {
    /// Names an order on a slot.
    #[inline]
    pub(super) fn new(operation: Operation, generation: u16, slot: Slot) -> Token {
        debug_assert!(operation != Operation::Send, "a send's token carries its length");
        Token((operation as u64) << 60 | u64::from(generation) << 32 | u64::from(slot))
    }

    /// Names a send.
    ///
    /// # Panics
    /// If more than [`SEND_BYTES_MAX`] bytes are asked for.
    #[inline]
    pub(super) fn send(slot: Slot, asked: u32) -> Token {
        assert!(asked <= SEND_BYTES_MAX, "a send asks for at most 2^28 - 1 bytes");
        Token((Operation::Send as u64) << 60 | u64::from(asked) << 32 | u64::from(slot))
    }

    /// Takes back what the kernel returned.
    #[inline]
    pub(super) fn from_raw(raw: u64) -> Token {
        Token(raw)
    }

    /// Returns the 64 bits for the kernel.
    #[inline]
    pub(super) fn raw(self) -> u64 {
        self.0
    }

    /// Returns which order it is.
    ///
    /// # Panics
    /// If the bits were never made by this module: the kernel's memory is broken, or ours.
    #[inline]
    pub(super) fn operation(self) -> Operation {
        OPERATIONS[(self.0 >> 60) as usize]
    }

    /// Returns the slot (of an accept: the place).
    #[inline]
    pub(super) fn slot(self) -> Slot {
        self.0 as u32
    }

    /// Returns the generation (of an accept: the listener).
    #[inline]
    pub(super) fn generation(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Returns how many bytes a send asked for.
    #[inline]
    pub(super) fn asked(self) -> u32 {
        (self.0 >> 32) as u32 & SEND_BYTES_MAX
    }
}

/// Returns the operation that waits for bytes in this way.
pub(super) fn receive_operation(interest: Interest) -> Operation {
    match interest {
        Interest::Multishot => Operation::ReceiveMultishot,
        Interest::Readiness | Interest::Ending => Operation::PollReadable,
        Interest::Next => Operation::ReceiveNext,
        Interest::Once => Operation::ReceiveOnce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every token comes back from its 64 bits as it was made, at the edges and at 100,000 places between.
    #[test]
    fn round_trip() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for turn in 0..100_000 {
            let edge = [0, u32::MAX, next() as u32][turn % 3];
            let (slot, generation) = (edge, [0, u16::MAX, next() as u16][turn / 3 % 3]);
            let asked = [0, SEND_BYTES_MAX, next() as u32 & SEND_BYTES_MAX][turn / 9 % 3];
            let sent = Token::from_raw(Token::send(slot, asked).raw());
            assert_eq!((sent.operation(), sent.slot(), sent.asked()), (Operation::Send, slot, asked));
            for operation in OPERATIONS.into_iter().skip(1) {
                let token = Token::from_raw(Token::new(operation, generation, slot).raw());
                assert_eq!((token.operation(), token.generation(), token.slot()), (operation, generation, slot));
            }
        }
    }

    /// The table that reads operations back lists each at its own number.
    #[test]
    fn operations_stand_at_their_number() {
        for (number, operation) in OPERATIONS.into_iter().enumerate() {
            assert_eq!(operation as usize, number);
        }
    }

    /// A send longer than the token can say is refused, not cut.
    #[test]
    #[should_panic(expected = "2^28")]
    fn too_long_a_send_is_refused() {
        let _ = Token::send(1, SEND_BYTES_MAX + 1);
    }
}
