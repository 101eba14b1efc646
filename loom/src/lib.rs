//! The mail and the rests of cores (`engine/src/mesh/bells.rs`) under loom, a model checker: the orders of the threads, and the
//! values that a relaxed load may return.
//!
//! It is the engine's own file that runs here, not a copy of it: it takes its atomics from the module around it, which in the
//! engine says std, and here loom. So it can be given weaker ones, too: each scene is played once as the code is, and once more
//! without what it needs, where loom must find the execution that goes wrong. Otherwise a scene that shows nothing would pass.
//!
//! What is not here: the rings (rtrb has its own tests; here a number stands for one, stored and loaded relaxed, so that nothing
//! but mail publishes it), the doorbell (an eventfd, which the kernel rings and reads under a lock; so does this one), and what the
//! kernel promises to a ring that rests.
//!
//! What loom does not explore, or explores otherwise than the language says: a store that is seen by a load before it in its
//! thread's own program (nothing here decides by such a load); a fence of sequential consistency also orders what stands before
//! the one and behind the other as if it had been acquired (so [`scenes::mail_publishes`] has no fence between); between a read
//! and a write in one it lets a plain store of another thread come (so flags that several threads change are only changed by
//! such). Loads and stores of sequential consistency it takes for weaker ones: there are none. Where an execution has many steps,
//! threads are interrupted at most so often as a scene says: each fault that was tried, weaker fences and orderings one by one,
//! needed three times or fewer.
#![cfg(test)]
#![allow(clippy::duplicate_mod, reason = "the same code, with other atomics")]

mod scenes;
mod torn;
mod weak_fences;
mod weak_mail;

use loom::sync::atomic;

/// Plays a scene in every way, or in every way in which threads are interrupted at most so often where they could go on.
fn play(interruptions_max: impl Into<Option<usize>>, scene: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = interruptions_max.into();
    builder.check(scene);
}

macro_rules! played {
    ($($scene:ident: $max:expr, not in $weaker:ident: $fault:literal;)*) => { $(
        mod $scene {
            #[test]
            fn holds() {
                super::play($max, super::scenes::$scene);
            }

            #[test]
            #[should_panic(expected = $fault)]
            fn can_fail() {
                super::play($max, super::$weaker::scenes::$scene);
            }
        }
    )* };
}

played! {
    nothing_is_slept_over: 4, not in weak_fences: "deadlock";
    two_cores_meet: None, not in weak_fences: "deadlock";
    mail_publishes: None, not in weak_mail: "Causality violation";
    mail_adds_up: None, not in torn: "both have left mail";
    a_rest_ends_once: None, not in torn: "wakes for one rest";
    shards_share_a_core: 4, not in weak_fences: "deadlock";
    orders_are_obeyed: 4, not in weak_mail: "deadlock";
    orders_beside_mail: 3, not in weak_fences: "deadlock";
}
