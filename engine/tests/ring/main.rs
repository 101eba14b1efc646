//! The ring against real sockets: what the seam promises (`io::driver`) is what the kernel does.
#![allow(clippy::unwrap_used)] // clippy knows the test functions only, not what they share

mod bench;
mod connections;
mod receiving;
mod sending;
