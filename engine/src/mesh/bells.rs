//! Mail and resting: what one shard tells another beside the packets themselves, and how it never sleeps over it.
//!
//! Owns the flags that say who has sent something to whom, and which core rests. Touches no packet: what was sent lies in a ring,
//! pushed before the mail was left, and is looked for after the mail was taken. Never waits, and never wakes anybody itself: it
//! says who must be woken.
//!
//! ```text
//!   who sends:  push ─▶ leave mail ─▶ fence ─▶ look who rests ─▶ wake
//!   who hears:  take mail ─▶ look into the rings           nothing? ─▶ announce the rest ─▶ fence ─▶ look for mail ─▶ sleep
//! ```
//!
//! Invariants: who takes mail sees what was pushed before it was left, whoever else left some; whoever leaves mail is seen by a
//! core that looks for it after its announcement, or sees that announcement; one announcement is answered by one waking at most.
//! A model checker holds them, on this very file (`loom/`): so its atomics come from the module around it, which says whose they are.

use super::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use super::shards::Shards;

/// Who has sent something since the receiver last took its mail, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Mail {
    /// The shards.
    senders: [AtomicU64; Shards::WORDS],
    /// The control plane, or the authority; or an order or a verdict of theirs is left for the next turn.
    order: AtomicBool,
}

/// A flag on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Flag(AtomicBool);

/// The mail of all shards, and the announcements of all cores. Shard `n` is on core `n % cores`.
#[derive(Debug)]
pub(super) struct Bells {
    /// For each shard.
    mail: Vec<Mail>,
    /// For each core: it rests, or is about to; whoever sends to one of its shards must wake it.
    resting: Vec<Flag>,
}

impl Bells {
    /// Makes those of so many shards and cores: no mail, and nobody rests.
    pub(super) fn new(shards: usize, cores: usize) -> Bells {
        let mail = (0..shards).map(|_| Mail::default()).collect();
        Bells { mail, resting: (0..cores).map(|_| Flag::default()).collect() }
    }

    fn core_of(&self, shard: usize) -> usize {
        shard % self.resting.len()
    }

    /// Leaves mail of shard `from` for those that it has sent something, and calls `wake` for those whose core rests.
    pub(super) fn leave(&self, from: usize, touched: Shards, mut wake: impl FnMut(usize)) {
        let (word, bit) = Shards::place(from);
        touched.each(|to| {
            // Pairs with the swap in `take`. Each change is a read and a write in one, so those of several senders are a release
            // sequence: who takes the mail sees what each of them pushed before.
            self.mail[to].senders[word].fetch_or(bit, Ordering::AcqRel);
        });
        // Pairs with the fence in `announce_rest`: either the resting core sees our mail, or we see its flag.
        fence(Ordering::SeqCst);
        let own = self.core_of(from);
        touched.each(|to| {
            // Our own core is awake: it is us.
            if self.core_of(to) != own && self.must_wake(to) {
                wake(to);
            }
        });
    }

    /// Leaves mail of the control plane, or of the authority, for a shard, and calls `wake` if its core rests.
    pub(super) fn leave_order(&self, to: usize, wake: impl FnOnce(usize)) {
        // Pairs with the swap in `take_order`: who takes the flag sees the order. In one with a read, as in `leave`.
        self.mail[to].order.swap(true, Ordering::AcqRel);
        // Pairs with the fence in `announce_rest`, as that in `leave` does.
        fence(Ordering::SeqCst);
        if self.must_wake(to) {
            wake(to);
        }
    }

    /// Says whether a shard's core rests and nobody has undertaken to wake it; then it is the caller's to do.
    fn must_wake(&self, shard: usize) -> bool {
        // Relaxed: the fences order it. Only an announcement that is there is taken back, so that each is by one at most.
        let resting = &self.resting[self.core_of(shard)].0;
        resting.load(Ordering::Relaxed)
            && resting.compare_exchange(true, false, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Says whether a shard has mail of any shard, of the control plane, or of the authority.
    pub(super) fn has_mail(&self, shard: usize) -> bool {
        let mail = &self.mail[shard];
        mail.order.load(Ordering::Relaxed) || mail.senders.iter().any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Takes a shard's mail, before a look into the rings of those who sent it: what they send after that look is mail again.
    pub(super) fn take(&self, shard: usize) -> Shards {
        let mut senders = Shards::default();
        for (word, senders) in self.mail[shard].senders.iter().zip(senders.words_mut()) {
            if word.load(Ordering::Relaxed) != 0 {
                *senders = word.swap(0, Ordering::AcqRel);
            }
        }
        senders
    }

    /// Says whether a shard has mail of the control plane, or of the authority.
    #[inline]
    pub(super) fn has_order(&self, shard: usize) -> bool {
        self.mail[shard].order.load(Ordering::Relaxed)
    }

    /// Takes that mail, before a look at the orders: what is ordered after that look is mail again.
    pub(super) fn take_order(&self, shard: usize) {
        self.mail[shard].order.swap(false, Ordering::AcqRel);
    }

    /// Leaves such mail for a shard itself: an order is not done yet.
    pub(super) fn put_off_order(&self, shard: usize) {
        // Not stored: that would hide from `take_order` what `leave_order` published meanwhile, and with it perhaps an order.
        self.mail[shard].order.swap(true, Ordering::AcqRel);
    }

    /// Announces that a shard's core is about to rest, and says whether it may as far as this shard is concerned: false if there
    /// is mail. A core with several shards asks all of them, and takes it back unless all agree.
    pub(super) fn announce_rest(&self, shard: usize) -> bool {
        self.resting[self.core_of(shard)].0.store(true, Ordering::Relaxed);
        // Pairs with the fences in `leave` and `leave_order`.
        fence(Ordering::SeqCst);
        !self.has_mail(shard)
    }

    /// Takes the announcement of a shard's core back, after a rest or instead of one.
    pub(super) fn woke(&self, shard: usize) {
        self.resting[self.core_of(shard)].0.store(false, Ordering::Relaxed);
    }
}
