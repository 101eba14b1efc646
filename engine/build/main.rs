//! What cargo runs before it builds the engine.
//!
//! Owns: nothing; `assets` makes what the engine serves itself ready to be sent, `version` says what is built.

mod assets;
mod version;

fn main() {
    // Named, or any file that changes would run this again.
    println!("cargo::rerun-if-changed=build");
    assets::make();
    version::make();
}
