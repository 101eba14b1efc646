//! How unkind the fake kernel is: chances in thousandths, delays, sizes. Drawn once per world from its seed.
//!
//! Owns: numbers. The kernel draws the events themselves.

use crate::rng::Rng;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// A send takes less than there is room for.
    pub(crate) short_send: u32,
    /// A send takes nothing although there is room.
    pub(crate) again: u32,
    /// A send fails because the kernel has no memory for it just now.
    pub(crate) shortage: u32,
    /// A multishot receive is ended by the kernel, with or without bytes.
    pub(crate) rearm: u32,
    /// A receive or wait comes back after up to this many microseconds.
    pub(crate) delay_us_max: u64,
    /// A wait for room comes back up to this much later than room.
    pub(crate) late_writable_us_max: u64,
    /// A wait for room comes back although there is none.
    pub(crate) false_writable: u32,
    /// A receive takes fewer bytes than there are.
    pub(crate) small_receive: u32,
    /// A multishot receive leaves the rest of what there is for the next turn, after each buffer.
    pub(crate) pauses: u32,
    /// An accept fails for a passing reason (ENOMEM).
    pub(crate) accept_fails: u32,
    /// A connection is reset by its peer, per step of that client.
    pub(crate) reset: u32,
    /// The clock jumps forward between two turns.
    pub(crate) clock_jump: u32,
    /// By how much, at most.
    pub(crate) jump_us_max: u64,
    /// A shard stands still for long (the host gave its core to somebody else).
    pub(crate) stall: u32,
    /// A completion stays in the queue for another turn, and those of other sockets overtake it, and of its own those of another
    /// operation.
    pub(crate) late: u32,
    /// Of what the kernel has to say at the end of a submit, the shard hears a part, and the rest only when it asks again.
    pub(crate) halves: u32,
    /// A receive finds no buffer although there is one: others took them meanwhile.
    pub(crate) no_buffers: u32,
    /// All clients lose their connections at once (a proxy starts anew), per step, in a thousandth of thousandths.
    pub(crate) storm: u32,
}

impl Faults {
    /// A kernel that does what everybody hopes for.
    pub(crate) const NONE: Faults = Faults {
        short_send: 0,
        again: 0,
        shortage: 0,
        rearm: 0,
        delay_us_max: 20,
        late_writable_us_max: 20,
        false_writable: 0,
        small_receive: 0,
        pauses: 700,
        accept_fails: 0,
        reset: 0,
        clock_jump: 0,
        jump_us_max: 1,
        stall: 0,
        late: 0,
        halves: 0,
        no_buffers: 0,
        storm: 0,
    };

    /// Draws each fault on its own: some worlds have one kind often, some have all, some none.
    pub(crate) fn draw(rng: &mut Rng) -> Faults {
        if rng.chance(100) {
            return Faults::NONE;
        }
        let often = |rng: &mut Rng, max: u64| {
            if rng.chance(500) { 0 } else { rng.within(1..max + 1) as u32 }
        };
        Faults {
            short_send: often(rng, 400),
            // Now and then hardly any send is taken.
            again: if rng.chance(60) { 900 } else { often(rng, 300) },
            rearm: often(rng, 300),
            delay_us_max: rng.pick(&[1, 50, 500, 20_000]),
            late_writable_us_max: rng.pick(&[1, 50, 500, 50_000]),
            false_writable: often(rng, 300),
            small_receive: often(rng, 700),
            accept_fails: often(rng, 200),
            reset: if rng.chance(700) { 0 } else { rng.within(1..6) as u32 },
            clock_jump: if rng.chance(800) { 0 } else { rng.within(1..4) as u32 },
            jump_us_max: rng.pick(&[10_000, 1_000_000, 40_000_000, 200_000_000, 10_000_000_000]),
            stall: often(rng, 20),
            late: often(rng, 900),
            no_buffers: often(rng, 200),
            storm: if rng.chance(850) { 0 } else { rng.within(100..1_000) as u32 },
            shortage: often(rng, 200),
            pauses: rng.pick(&[0, 300, 700]),
            halves: often(rng, 500),
        }
    }
}
