//! Weaker than what the engine has: mail publishes nothing but itself.

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};

    #[allow(non_snake_case, reason = "stands for an enum")]
    pub(super) mod Ordering {
        pub(in super::super) use loom::sync::atomic::Ordering::{Relaxed, Relaxed as AcqRel, SeqCst};
    }
}

#[path = "scenes.rs"]
#[allow(dead_code, reason = "not every scene publishes")]
pub(crate) mod scenes;
