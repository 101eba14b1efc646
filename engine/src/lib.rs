//! corecast: a web-messaging engine.
//!
//! `io` is the kernel, `mesh` is what cores share, `shard` is the messaging logic. The module table stands in
//! ARCHITECTURE.md.
#![deny(unsafe_code)]

pub mod admin;
pub mod authority;
pub mod bound;
pub mod config;
pub mod control;
mod core_loop;
pub mod edge;
mod gate;
pub mod grant;
pub mod handover;
pub mod io;
pub mod log;
pub mod mesh;
pub mod node;
pub mod observed;
#[doc(hidden)]
pub mod reach;
pub mod shard;
pub mod supervisor;
pub mod trust;
