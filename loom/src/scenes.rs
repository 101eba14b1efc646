//! The scenes: threads that stand for cores and for the control plane, around the bells of the module that this one stands in.
//!
//! A core that sleeps while something waits for it is a deadlock, which loom tells.

// Not loom's, which does not bear the end of an execution that failed.
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::atomic::{self, AtomicUsize, Ordering};
use bells::Bells;
use shards::Shards;

#[path = "../../engine/src/mesh/bells.rs"]
mod bells;
#[path = "../../engine/src/mesh/shards.rs"]
#[allow(dead_code, reason = "the engine uses all of it")]
mod shards;

/// What a core waits for when it rests. Whoever hears it sees what was done before it was rung.
struct Doorbell {
    rings: Mutex<usize>,
    rung: Condvar,
}

impl Doorbell {
    fn new() -> Doorbell {
        Doorbell { rings: Mutex::new(0), rung: Condvar::new() }
    }

    fn ring(&self) {
        *self.rings.lock().expect("nobody panics") += 1;
        self.rung.notify_one();
    }

    /// Waits for it, and takes all rings.
    fn hear(&self) {
        let mut rings = self.rings.lock().expect("nobody panics");
        while *rings == 0 {
            rings = self.rung.wait(rings).expect("nobody panics");
        }
        *rings = 0;
    }
}

/// A ring: what was pushed is counted, and nothing but mail tells the other side of it.
struct Ring(AtomicUsize);

impl Ring {
    fn new() -> Ring {
        Ring(AtomicUsize::new(0))
    }

    fn push(&self, packets: usize) {
        self.0.store(packets, Ordering::Relaxed);
    }

    fn pushed(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Cores and their shards.
struct Node {
    bells: Bells,
    /// By sender and receiver.
    rings: Vec<Vec<Ring>>,
    /// Orders of the control plane, by shard.
    orders: Vec<Ring>,
    /// By core.
    doorbells: Vec<Doorbell>,
}

impl Node {
    fn new(shards: usize, cores: usize) -> Arc<Node> {
        let rings = || (0..shards).map(|_| Ring::new()).collect();
        Arc::new(Node {
            bells: Bells::new(shards, cores),
            rings: (0..shards).map(|_| rings()).collect(),
            orders: rings(),
            doorbells: (0..cores).map(|_| Doorbell::new()).collect(),
        })
    }

    /// Rings the bell of a shard's core.
    fn wake(&self, shard: usize) {
        self.doorbells[shard % self.doorbells.len()].ring();
    }

    /// Sends each of these shards one more packet, which is number `number` from this sender.
    fn send(&self, from: usize, to: &[usize], number: usize) {
        let mut touched = Shards::default();
        for &to in to {
            self.rings[from][to].push(number);
            touched.insert(to);
        }
        self.bells.leave(from, touched, |shard| self.wake(shard));
    }

    /// Gives a shard its order `number`.
    fn order(&self, to: usize, number: usize) {
        self.orders[to].push(number);
        self.bells.leave_order(to, |shard| self.wake(shard));
    }

    /// Looks into the rings of those who left mail for a shard; returns how many packets of `from` there are now, if it did.
    fn hear(&self, shard: usize, from: usize, heard: &mut usize) {
        self.bells.take(shard).each(|sender| {
            if sender == from {
                *heard = self.rings[sender][shard].pushed();
            }
        });
    }

    /// Lets a core rest, as its loop does after turns that found nothing.
    fn rest(&self, shards: &[usize]) {
        if shards.iter().all(|&shard| self.bells.announce_rest(shard)) {
            self.wait(shards[0]);
        }
        self.bells.woke(shards[0]);
    }

    fn wait(&self, shard: usize) {
        self.doorbells[shard % self.doorbells.len()].hear();
    }
}

/// A shard is sent two packets, at any time, also while it is about to rest: it hears both.
pub(crate) fn nothing_is_slept_over() {
    let node = Node::new(2, 2);
    let sender = thread::spawn({
        let node = node.clone();
        move || (1..=2).for_each(|number| node.send(0, &[1], number))
    });
    let mut heard = 0;
    while heard < 2 {
        node.hear(1, 0, &mut heard);
        if heard < 2 {
            node.rest(&[1]);
        }
    }
    sender.join().expect("nobody panics");
}

/// Two cores answer each other: each sends, and rests until it has heard of the other.
pub(crate) fn two_cores_meet() {
    let node = Node::new(2, 2);
    let side = |own: usize| {
        let node = node.clone();
        move || {
            node.send(own, &[1 - own], 1);
            let mut heard = 0;
            while heard < 1 {
                node.hear(own, 1 - own, &mut heard);
                if heard < 1 {
                    node.rest(&[own]);
                }
            }
        }
    };
    let other = thread::spawn(side(1));
    side(0)();
    other.join().expect("nobody panics");
}

/// Who takes mail sees all that its senders wrote before they left it, even if another sender left some afterwards.
pub(crate) fn mail_publishes() {
    let bells = Arc::new(Bells::new(3, 3));
    #[allow(clippy::arc_with_non_send_sync, reason = "loom watches who touches it")]
    let packets = Arc::new([UnsafeCell::new(0), UnsafeCell::new(0)]);
    let senders = [0, 1].map(|from| {
        let (bells, packets) = (bells.clone(), packets.clone());
        thread::spawn(move || {
            // SAFETY: nobody looks at it before the mail says so, which is what is to be shown; loom watches.
            packets[from].with_mut(|packet| unsafe { *packet = from + 1 });
            let mut touched = Shards::default();
            touched.insert(2);
            bells.leave(from, touched, |_| unreachable!("nobody rests"));
        })
    });
    for _ in 0..2 {
        bells.take(2).each(|from| {
            // SAFETY: its sender has left mail, and does not touch it any more.
            assert_eq!(packets[from].with(|packet| unsafe { *packet }), from + 1);
        });
    }
    senders.into_iter().for_each(|sender| sender.join().expect("nobody panics"));
}

/// No mail is lost where two leave some and a third takes some at the same time.
pub(crate) fn mail_adds_up() {
    let bells = Arc::new(Bells::new(3, 3));
    let senders = [0, 1].map(|from| {
        let bells = bells.clone();
        thread::spawn(move || {
            let mut touched = Shards::default();
            touched.insert(2);
            bells.leave(from, touched, |_| unreachable!("nobody rests"));
        })
    });
    let mut taken = bells.take(2);
    senders.into_iter().for_each(|sender| sender.join().expect("nobody panics"));
    taken.insert_all(bells.take(2));
    let mut both = Shards::default();
    both.insert(0);
    both.insert(1);
    assert!(taken == both, "both have left mail");
    assert!(!bells.has_mail(2), "all of it was taken");
}

/// Of two shards and the control plane, that all have something for a core that rests, one wakes it.
pub(crate) fn a_rest_ends_once() {
    let bells = Arc::new(Bells::new(3, 3));
    let wakes = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    assert!(bells.announce_rest(2), "there is no mail");
    let count = || {
        let wakes = wakes.clone();
        move |shard| {
            assert_eq!(shard, 2);
            wakes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    };
    let sender = thread::spawn({
        let (bells, count) = (bells.clone(), count());
        move || {
            let mut touched = Shards::default();
            touched.insert(2);
            bells.leave(0, touched, count);
        }
    });
    bells.leave_order(2, count());
    sender.join().expect("nobody panics");
    assert_eq!(wakes.load(std::sync::atomic::Ordering::Relaxed), 1, "wakes for one rest");
}

/// Two shards share a core, and rest together: one of another core sends both something, each by itself, and the first passes
/// it on to the second, which rings no bell.
pub(crate) fn shards_share_a_core() {
    let node = Node::new(3, 2); // 0 and 2 are on one core
    let sender = thread::spawn({
        let node = node.clone();
        move || {
            node.send(1, &[2], 1);
            node.send(1, &[0], 1);
        }
    });
    let (mut first, mut second, mut passed) = (0, 0, 0);
    loop {
        node.hear(0, 1, &mut first);
        if first == 1 && passed == 0 {
            node.send(0, &[2], 1);
        }
        node.bells.take(2).each(|from| match from {
            0 => passed = node.rings[0][2].pushed(),
            _ => second = node.rings[1][2].pushed(),
        });
        if (first, second, passed) == (1, 1, 1) {
            break;
        }
        node.rest(&[0, 2]);
    }
    sender.join().expect("nobody panics");
}

/// The control plane gives two orders, each of which takes a shard two turns; the shard rests when it knows of no more. It does both.
pub(crate) fn orders_are_obeyed() {
    let node = Node::new(1, 1);
    let control = thread::spawn({
        let node = node.clone();
        move || (1..=2).for_each(|number| node.order(0, number))
    });
    let (mut begun, mut done) = (0, 0);
    while done < 2 {
        if node.bells.has_order(0) {
            node.bells.take_order(0);
            if done < begun {
                done += 1;
            } else if begun < node.orders[0].pushed() {
                begun += 1;
            }
            if done < begun || begun < node.orders[0].pushed() {
                node.bells.put_off_order(0);
            }
        } else {
            node.rest(&[0]);
        }
    }
    control.join().expect("nobody panics");
}

/// A shard is given an order and sent a packet: it rests until it has both.
pub(crate) fn orders_beside_mail() {
    let node = Node::new(2, 2);
    let control = thread::spawn({
        let node = node.clone();
        move || node.order(1, 1)
    });
    let sender = thread::spawn({
        let node = node.clone();
        move || node.send(0, &[1], 1)
    });
    let (mut obeyed, mut heard) = (0, 0);
    while (obeyed, heard) != (1, 1) {
        if node.bells.has_order(1) {
            node.bells.take_order(1);
            obeyed = node.orders[1].pushed();
        }
        node.hear(1, 0, &mut heard);
        if (obeyed, heard) != (1, 1) {
            node.rest(&[1]);
        }
    }
    for thread in [control, sender] {
        thread.join().expect("nobody panics");
    }
}
