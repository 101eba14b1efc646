//! Marks at rare places: which of them a run has reached.
//!
//! A test that means to take a rare path may take another one unnoticed, once the engine or its own numbers change. So such places
//! say that they were reached, each under a name of its own, and the simulator fails if a name is never heard in all its seeds and
//! scenes.
//!
//! Owns: a count for each mark and thread, so that what one world or scene has reached is its own, whatever other tests of the
//! process do meanwhile; nothing is shared, and no atomic is needed. In builds without debug assertions there are no counts, and
//! [`reach`] is an empty function. Never: decides anything; nothing in the engine reads a count.

#[cfg(debug_assertions)]
use std::cell::Cell;

/// Lists the marks once: the enumeration, all of them in order, and what each says.
macro_rules! marks {
    ($($(#[doc = $what:literal])+ $mark:ident,)+) => {
        /// A rare place.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mark {
            $($(#[doc = $what])+ $mark,)+
        }

        impl Mark {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Mark] = &[$(Mark::$mark),+];

            /// Says what it means to be there.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self {
                    $(Mark::$mark => concat!($($what),+),)+
                }
            }
        }
    };
}

marks! {
    /// A connection has been sent as much as it wants for now.
    HeldBack,
    /// More messages wait for a subscriber than it wants to wait, and the oldest are dropped.
    QueueCut,
    /// A subscriber is sent the newest of each key that it has coming, or one change in place of several.
    Leapt,
    /// Another one leaps from the same place to the same place.
    LeapShared,
    /// A deletion is forgotten, because it is old, or they are many.
    DeletionForgotten,
    /// A history of values is copied without those that were replaced.
    ReplacedLeft,
    /// A pattern that nobody has read for long is forgotten.
    PatternForgotten,
    /// A message does not fit into the ring to a shard with readers of a pattern.
    PatternRingFull,
    /// A shard is told later that it has joined a pattern.
    PatternJoinedLater,
    /// A home has forgotten what a pattern had behind a number.
    PatternForgot,
    /// A message that a reader of a pattern missed has left its history.
    PatternLost,
    /// What there is of a pattern does not fit into one answer.
    PatternInBatches,
    /// There is no room to say that a pattern has no readers any more.
    PatternLeaveWaits,
    /// A pattern without readers has one again before homes were told.
    PatternBackBeforeLeave,
    /// A shard that was behind with a pattern finds that some of it is gone.
    PatternSkipped,
    /// Somebody comes with places of another life.
    PatternOtherLife,
    /// Somebody comes with places that are further than its shard is.
    PatternAhead,
    /// The walk of a reader of a pattern waits for room in a ring.
    PatternWalkWaits,
    /// A reader of a pattern was away for so long that nobody knows any more where it was.
    PatternTooLate,
    /// The log does not go back to where the walk of a reader of a pattern began.
    PatternNextRound,
    /// A message does not fit into the ring to a shard with readers, which is told that it is behind.
    RingFull,
    /// Histories have waited for a ring for so long that live messages are held back.
    HistoriesFirst,
    /// A shard that was behind finds that the home has forgotten some of what it missed.
    CaughtUpWithLoss,
    /// What a shard missed comes in several batches.
    CaughtUpInBatches,
    /// A replay does not fit into one batch.
    ReplayInBatches,
    /// A request for messages waits at its home until the ring back has room.
    ReplayKept,
    /// More of a replay came than its reader takes: it is asked for again.
    ReplayTwice,
    /// An answer waits at its home until the ring back has room.
    AnswerKept,
    /// A shard is told later that it has joined a topic.
    JoinedLater,
    /// A shard that is told later that it has joined a topic has left it meanwhile.
    JoinedAndLeft,
    /// A topic without readers has one again before its home was told.
    BackBeforeLeave,
    /// There is no room to say that a topic has no readers any more.
    LeaveWaits,
    /// There is no room to say how many read a topic.
    ReadersWait,
    /// There is no memory to tell how many read a topic.
    NumberUntold,
    /// A connection ends, and its subscriptions end in several turns.
    DepartsInTurns,
    /// A frame that was sent in part is forgotten by its log, and its connection keeps the rest.
    Rescued,
    /// There is no memory for the rest of a frame that was sent in part.
    Condemned,
    /// A log has no room for a message: its readers are turned to the history.
    LogWithoutMemory,
    /// A reader has fallen off its log and is turned to the history.
    Lagged,
    /// A reader that falls off its log is closed, as the policy wants it.
    LagClosed,
    /// The walk was too slow for its log: a reader fell off that nothing held up.
    WalkOvertaken,
    /// A reader that lags has to wait before its home can be asked.
    LagWaits,
    /// Somebody who holds much of what is arriving is given up for others.
    GivenUp,
    /// There is no memory for what arrives, not even that of somebody worse.
    NobodyWorse,
    /// A connection is refused for want of memory.
    Shed,
    /// A connection has used up its slice of the turn.
    Postponed,
    /// A connection that had to wait for room in a ring goes on.
    Unparked,
    /// One shard has so much to say that others are heard in the next turn.
    HearsOthersLater,
    /// A topic is forgotten for a new one, because there are as many as may be.
    HomeForgotten,
    /// The history used longest ago is forgotten because memory is short.
    HistoryGaveWay,
    /// Nothing may change a history for now.
    Frozen,
    /// Histories may change again.
    Thawed,
    /// A shard that was asked whether it has heard everything has not yet.
    SettlesLater,
    /// A page of a dump takes several turns.
    DumpedInTurns,
    /// The history of a topic that is restored begins anew behind what is missing.
    RestoredBehindAHole,
    /// There is no room to say that a topic is wanted, or not any more.
    DemandWaits,
    /// There is no memory to tell that a topic is wanted.
    DemandUntold,
    /// Who asks what is wanted has to wait until all homes have said so.
    DemandAwaited,
    /// Nobody reads what is wanted any more.
    DemandForgotten,
    /// There is no room to say who reads a topic.
    PresenceWaits,
    /// There is no memory to tell who reads a topic.
    PresenceUntold,
    /// A numbered message comes again, and is answered with its cursor.
    Repeated,
    /// A numbered message comes again whose cursor is not known any more.
    RepeatedLongAgo,
    /// A numbered message is not the next one of its producer.
    OutOfOrder,
    /// There is no room for a new producer.
    ProducersFull,
    /// A producer is forgotten that was not heard of for long.
    ProducerForgotten,
    /// There is no room for a numbered message, whose number is still the next one.
    NumberedNotRecorded,
    /// A message is refused by its home.
    NotRecorded,
    /// A topic cannot be subscribed to, because there are as many as may be.
    TopicRefused,
    /// Sending is tried again to a peer that has ended its direction.
    TriedAgain,
    /// The kernel has no memory for a send.
    KernelShort,
    /// Accepting failed.
    AcceptFailed,
    /// A stream ends because it is long.
    LongStream,
    /// A stream ends because it is old.
    OldStream,
    /// A reader that wants the newest message only jumps over others.
    Jumped,
    /// The time of a reader with a pace has come.
    PaceOver,
    /// The time of a reader has come that wants a message an hour, or less often.
    HourOver,
    /// A long poll is answered that there is a message, and no memory for it.
    PollWithoutMemory,
    /// A message that was begun is not finished in time.
    MessageTooSlow,
    /// A head that was begun is not finished in time.
    HeadTooSlow,
    /// A body that was begun is not finished in time.
    BodyTooSlow,
    /// The peer of a connection that is not read has ended its direction.
    EndedUnread,
    /// The control plane has left as many answers unread as there may be.
    ControlStalled,
    /// A question of the control plane is answered in several turns.
    AnsweredInTurns,
    /// Several wait for the verdict to one question.
    VerdictShared,
    /// There is no room to ask the authority: a connection waits in line.
    AsksInLine,
    /// The authority has not said in time whether somebody may.
    VerdictLate,
    /// A grant comes that may be older than a revocation: it is asked for again.
    VerdictStale,
    /// An order has to wait for what the hook says about its topic.
    OrderAwaitsVerdict,
    /// The hook is asked about topics of an order that waits for what it says about another.
    AskedAhead,
    /// A verdict that is known does not hold any more, or gives what was taken back: it is asked for again.
    VerdictOver,
    /// The verdict that was looked for longest ago makes way for another one.
    VerdictGaveWay,
    /// A verdict comes for somebody who has gone, or has been told that it is late.
    WaiterGone,
    /// Two credentials give the same.
    GrantShared,
    /// A credential is shown on a connection that waits for the answer to a subscription.
    RenewalWaits,
    /// An order comes by a grant that has ended, or was taken back.
    OrderTooLate,
    /// The grant that a connection reads by has ended.
    GrantExpired,
    /// The grant that a connection reads by was revoked.
    GrantRevoked,
    /// There are so many to end with what is taken back that it takes several turns.
    RevokedInTurns,
    /// There are so many to disconnect, or to look at, that it takes several turns.
    DisconnectedInTurns,
    /// A subscription ends because a new grant does not give it.
    RightLost,
    /// Limits change while there are connections.
    LimitsChanged,
    /// A topic's home looks for its terms again, because rules may have changed.
    TermsAgain,
    /// A line of a batch is refused that was fine when the lines were checked.
    LineRefused,
    /// Connections come faster than they may.
    ConnectsTooFast,
    /// An address has as many connections as it may have.
    AddressFull,
    /// A subject has as many connections or subscriptions as it may.
    SubjectFull,
    /// There are as many connections or subscriptions as may be in all.
    AllFull,
    /// One too many on a listener that speaks TLS is cut off before its handshake.
    CutOffBeforeHandshake,
    /// Somebody publishes, or makes topics, faster than it may.
    PublishesTooFast,
    /// Turns have grown long: nobody is accepted.
    OverloadHolds,
    /// Turns are long for long: a newcomer is told when to come back.
    OverloadRefuses,
    /// Somebody comes while the engine tells its connections that it ends.
    DrainRefuses,
}

impl Mark {
    /// How many there are.
    pub const COUNT: usize = Mark::ALL.len();
}

#[cfg(debug_assertions)]
thread_local! {
    static COUNTS: [Cell<u64>; Mark::COUNT] = const { [const { Cell::new(0) }; Mark::COUNT] };
}

/// Says that a place was reached. Does nothing in builds without debug assertions.
#[inline(always)]
pub fn reach(mark: Mark) {
    #[cfg(debug_assertions)]
    COUNTS.with(|counts| {
        let count = &counts[mark as usize];
        count.set(count.get() + 1);
    });
    #[cfg(not(debug_assertions))]
    let _ = mark;
}

/// How often places were reached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reached([u64; Mark::COUNT]);

impl Default for Reached {
    fn default() -> Reached {
        Reached([0; Mark::COUNT])
    }
}

impl std::fmt::Debug for Reached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reached = Mark::ALL.iter().filter(|mark| self.of(**mark) > 0);
        f.debug_map().entries(reached.map(|mark| (mark, self.of(*mark)))).finish()
    }
}

impl Reached {
    /// Takes what this thread has reached since it was last taken: nothing in builds without debug assertions.
    #[must_use]
    pub fn take() -> Reached {
        #[cfg(debug_assertions)]
        let counts = COUNTS.with(|counts| std::array::from_fn(|mark| counts[mark].take()));
        #[cfg(not(debug_assertions))]
        let counts = [0; Mark::COUNT];
        Reached(counts)
    }

    /// Returns how often a place was reached.
    #[must_use]
    pub const fn of(&self, mark: Mark) -> u64 {
        self.0[mark as usize]
    }

    /// Adds what was reached otherwise.
    pub fn add(&mut self, other: &Reached) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, one)| *sum += one);
    }

    /// Adds one for each place that was reached otherwise, however often.
    pub fn add_whether(&mut self, other: &Reached) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, one)| *sum += u64::from(one > 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks are counted where they stand in the list, for the thread that reached them, until they are taken.
    #[test]
    fn each_thread_counts_its_own() {
        assert!(Mark::ALL.iter().enumerate().all(|(number, mark)| *mark as usize == number));
        assert!(Mark::ALL.iter().all(|mark| mark.what().ends_with('.')));
        let _ = Reached::take();
        Mark::ALL.iter().for_each(|mark| (0..=*mark as usize).for_each(|_| reach(*mark)));
        std::thread::spawn(|| assert_eq!(Reached::take(), Reached::default())).join().expect("it holds");
        let reached = Reached::take();
        assert!(Mark::ALL.iter().all(|mark| reached.of(*mark) == *mark as u64 + 1));
        assert_eq!(Reached::take(), Reached::default(), "taken once");
    }
}
