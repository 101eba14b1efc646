//! Checks and changes on made-up hosts.

// A test that cannot go on has failed; clippy knows that only of functions marked as tests.
#![allow(clippy::unwrap_used)]

mod apply;
mod checks;
mod tree;
