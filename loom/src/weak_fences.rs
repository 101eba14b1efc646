//! Weaker than what the engine has: its fences are in no order of their own, and only strengthen what stands beside them.

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, fence};

    #[allow(non_snake_case, reason = "stands for an enum")]
    pub(super) mod Ordering {
        pub(in super::super) use loom::sync::atomic::Ordering::{AcqRel, AcqRel as SeqCst, Relaxed};
    }
}

#[path = "scenes.rs"]
#[allow(dead_code, reason = "not every scene needs fences")]
pub(crate) mod scenes;
