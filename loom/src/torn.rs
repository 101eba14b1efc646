//! Weaker than what the engine has: what is read and written in one is read, and then written.

mod atomic {
    pub(super) use loom::sync::atomic::{AtomicUsize, Ordering, fence};

    #[derive(Debug, Default)]
    pub(super) struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub(super) fn load(&self, order: Ordering) -> bool {
            self.0.load(order)
        }

        pub(super) fn store(&self, value: bool, order: Ordering) {
            self.0.store(value, order);
        }

        pub(super) fn swap(&self, value: bool, _: Ordering) -> bool {
            let old = self.0.load(Ordering::Acquire);
            self.0.store(value, Ordering::Release);
            old
        }

        pub(super) fn compare_exchange(&self, from: bool, to: bool, _: Ordering, _: Ordering) -> Result<bool, bool> {
            let old = self.0.load(Ordering::Acquire);
            if old != from {
                return Err(old);
            }
            self.0.store(to, Ordering::Release);
            Ok(old)
        }
    }

    #[derive(Debug, Default)]
    pub(super) struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub(super) fn load(&self, order: Ordering) -> u64 {
            self.0.load(order)
        }

        pub(super) fn swap(&self, value: u64, _: Ordering) -> u64 {
            let old = self.0.load(Ordering::Acquire);
            self.0.store(value, Ordering::Release);
            old
        }

        pub(super) fn fetch_or(&self, bits: u64, _: Ordering) -> u64 {
            let old = self.0.load(Ordering::Acquire);
            self.0.store(old | bits, Ordering::Release);
            old
        }
    }
}

#[path = "scenes.rs"]
#[allow(dead_code, reason = "not every scene would notice")]
pub(crate) mod scenes;
