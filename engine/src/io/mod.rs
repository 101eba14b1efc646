//! The kernel: the only system calls, and nearly the only `unsafe`.

mod accept;
mod address;
mod buffers;
pub mod check;
mod dial;
pub mod doorbell;
pub mod driver;
pub mod executor;
pub mod listen;
pub mod memory;
pub mod random;
pub mod rest;
pub mod ring;
mod token;

pub use buffers::BUFFERS_MAX;
pub use dial::DIALS_MAX;
pub use token::SEND_BYTES_MAX;
