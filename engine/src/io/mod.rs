//! The kernel: the only system calls, and nearly the only `unsafe`.
//!
//! Owns: sockets, the memory the kernel reads and writes, threads, and what is asked of the host. Never: knows what the
//! bytes mean.
//!
//! ```text
//!   shard ──orders──> Driver ──entries──> kernel        driver    the seam, and its words
//!     ^                 │ Ring              │           ring      io_uring; accept, completion, dial, token, buffers, shortage
//!     │   completions   │                   │           memory    what sends read, addressed by spans
//!     └─────────────────┘<──────────────────┘           listen, unix   listening sockets
//!   rest: doorbell or clock                             rest, doorbell, executor    a shard's thread, and its sleep
//!                                                       check     whether this host can run it; clock, random
//!                                                       aead      ciphers of TLS records, in the C of AWS-LC
//! ```
//!
//! # Why the unsafe is sound
//! 1. *One thread.* A ring is used by the thread that enabled it; the kernel refuses any other (`SINGLE_ISSUER`), and
//!    `&mut` does before it. What crosses threads are doorbells: an eventfd each, and the kernel's business.
//! 2. *The kernel acts inside our calls only.* With `DEFER_TASKRUN` nothing armed makes progress except within
//!    `io_uring_enter`, which takes the ring by `&mut`. So no reference of ours lives while the kernel writes.
//! 3. *What an entry names outlives it.* Sends name spans of a mapping that lives as long as the ring, and are over when
//!    `submit` returns. Receive buffers are a mapping, too; a bit per buffer says whose it is. Addresses of accepts and
//!    connects, and the timer's time, lie in boxes that never move and are reused only after their completion.
//! 4. *A slot is not confused with its next tenant.* Its number is given out by the kernel, and closing waits for the one
//!    operation that the kernel does later than we order it (shutdown).
//!
//! Every `unsafe` block says which of these it leans on, or stands by itself (a system call on a local).

mod accept;
mod address;
pub(crate) mod aead;
mod buffers;
pub mod check;
pub mod clock;
mod completion;
mod dial;
pub mod doorbell;
pub mod driver;
mod entries;
pub mod executor;
pub mod listen;
pub mod memory;
mod parts;
pub mod pass;
pub mod poll;
pub mod random;
pub mod rest;
pub mod ring;
mod shortage;
mod token;
pub mod unix;

pub use buffers::BUFFERS_MAX;
pub use dial::{DIALS_MAX, Dial};
pub use token::SEND_BYTES_MAX;
