//! Orders to the kernel that more than one file gives, or that need a word.

use io_uring::types::Fixed;
use io_uring::{opcode, squeue};

use super::driver::Slot;
use super::token::{Operation, Token};

/// Bytes that the kernel may hold unsent of a connection that wants the newest: as much as a few messages have. A link of 64 kbit/s takes
/// half a second for them.
static LEAN_BYTES: i32 = 4 << 10;

/// Closes a slot.
pub(super) fn close_entry(slot: Slot, operation: Operation) -> squeue::Entry {
    opcode::Close::new(Fixed(slot)).build().user_data(Token::new(operation, 0, slot).raw())
}

/// Lets the kernel hold little of a connection unsent. A kernel that cannot be asked so (before 6.7) says so to nobody: then it holds
/// what the listener allows, and what arrives is older.
pub(super) fn lean_entry(slot: Slot) -> squeue::Entry {
    let (level, name) = (libc::IPPROTO_TCP as u32, libc::TCP_NOTSENT_LOWAT as u32);
    let value = (&raw const LEAN_BYTES).cast();
    let entry = opcode::SetSockOpt::new(Fixed(slot), level, name, value, size_of::<i32>() as u32).build();
    // What comes of it is nobody's business, as of a cancellation.
    entry.user_data(Token::new(Operation::Cancel, 0, slot).raw())
}
