//! The kernel: the only system calls, and nearly the only `unsafe`.

pub mod driver;
pub mod memory;
