//! Which rare places of the engine ([`corecast::reach`]) the simulator has reached, and what must reach each of them.
//!
//! `worlds` reaches nearly all marks with the seeds that the test command runs: a table says how often, and a mark that no world
//! has reached fails it. What chance hardly ever finds has a scene here that goes there on purpose. Nothing is left out: who adds a
//! mark sees to it that one or the other reaches it.

use std::fmt::Write as _;
use std::path::Path;

use corecast::reach::{Mark, Reached};

/// What many worlds have reached.
#[derive(Clone, Copy, Default)]
pub(crate) struct Coverage {
    /// How often.
    times: Reached,
    /// In how many worlds.
    worlds: Reached,
}

impl std::fmt::Debug for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.times.fmt(f)
    }
}

impl Coverage {
    /// Takes what this thread has reached since it was last taken, as that of one world.
    pub(crate) fn of_one() -> Coverage {
        let times = Reached::take();
        let mut worlds = Reached::default();
        worlds.add_whether(&times);
        Coverage { times, worlds }
    }

    pub(crate) fn add(&mut self, other: &Coverage) {
        self.times.add(&other.times);
        self.worlds.add(&other.worlds);
    }

    /// Panics if a mark was reached by no world, and none of the scenes reaches it.
    pub(crate) fn check(&self) {
        let in_scene = |mark: Mark| IN_SCENES.iter().any(|scene| scene.0 == mark);
        let missing: Vec<Mark> =
            Mark::ALL.iter().copied().filter(|mark| self.times.of(*mark) == 0 && !in_scene(*mark)).collect();
        assert!(
            missing.is_empty(),
            "no world has reached {missing:?}: add a scene that does, and name it in IN_SCENES"
        );
    }

    /// Writes a line for each mark.
    pub(crate) fn table(&self) -> String {
        let mut table = format!("{:>9} {:>6}  mark\n", "times", "worlds");
        for mark in Mark::ALL {
            let (times, worlds) = (self.times.of(*mark), self.worlds.of(*mark));
            let _ = writeln!(table, "{times:>9} {worlds:>6}  {mark:?}: {}", mark.what().trim());
        }
        table
    }
}

/// The marks that chance finds seldom or never, and the file whose scenes reach them on purpose, and say so with [`Watched`].
const IN_SCENES: [(Mark, &str); 65] = [
    (Mark::AddressFull, "limits.rs"),
    (Mark::AllFull, "counts.rs"),
    (Mark::AnswerKept, "standstill.rs"),
    (Mark::AnsweredInTurns, "control.rs"),
    (Mark::AsksInLine, "rights.rs"),
    (Mark::BodyTooSlow, "misuse.rs"),
    (Mark::CaughtUpInBatches, "standstill.rs"),
    (Mark::CaughtUpWithLoss, "standstill.rs"),
    (Mark::Condemned, "finds.rs"),
    (Mark::ConnectsTooFast, "limits.rs"),
    (Mark::CutOffBeforeHandshake, "counts.rs"),
    (Mark::DeletionForgotten, "views.rs"),
    (Mark::DemandAwaited, "demand.rs"),
    (Mark::DemandForgotten, "demand.rs"),
    (Mark::DemandUntold, "demand.rs"),
    (Mark::DemandWaits, "demand.rs"),
    (Mark::DepartsInTurns, "endings.rs"),
    (Mark::DisconnectedInTurns, "disconnect.rs"),
    (Mark::DrainRefuses, "drains.rs"),
    (Mark::DumpedInTurns, "handover.rs"),
    (Mark::Frozen, "handover.rs"),
    (Mark::HeldBack, "views.rs"),
    (Mark::HistoriesFirst, "standstill.rs"),
    (Mark::JoinedAndLeft, "standstill.rs"),
    (Mark::JoinedLater, "standstill.rs"),
    (Mark::LagWaits, "standstill.rs"),
    (Mark::LeapShared, "views.rs"),
    (Mark::Leapt, "views.rs"),
    (Mark::LeaveWaits, "standstill.rs"),
    (Mark::LineRefused, "rules.rs"),
    (Mark::NumberUntold, "occupancy.rs"),
    (Mark::NumberedNotRecorded, "producers.rs"),
    (Mark::OutOfOrder, "producers.rs"),
    (Mark::OverloadHolds, "overload.rs"),
    (Mark::OverloadRefuses, "overload.rs"),
    (Mark::PatternAhead, "patterns.rs"),
    (Mark::PatternBackBeforeLeave, "standstill.rs"),
    (Mark::PatternForgot, "patterns.rs"),
    (Mark::PatternForgotten, "patterns.rs"),
    (Mark::PatternInBatches, "patterns.rs"),
    (Mark::PatternJoinedLater, "standstill.rs"),
    (Mark::PatternLeaveWaits, "standstill.rs"),
    (Mark::PatternNextRound, "patterns.rs"),
    (Mark::PatternOtherLife, "patterns.rs"),
    (Mark::PatternRingFull, "patterns.rs"),
    (Mark::PatternSkipped, "patterns.rs"),
    (Mark::PatternTooLate, "patterns.rs"),
    (Mark::PatternWalkWaits, "standstill.rs"),
    (Mark::PollWithoutMemory, "finds.rs"),
    (Mark::PresenceUntold, "presence.rs"),
    (Mark::PresenceWaits, "demand.rs"),
    (Mark::ProducerForgotten, "producers.rs"),
    (Mark::ProducersFull, "producers.rs"),
    (Mark::PublishesTooFast, "limits.rs"),
    (Mark::QueueCut, "views.rs"),
    (Mark::ReadersWait, "occupancy.rs"),
    (Mark::Repeated, "producers.rs"),
    (Mark::RepeatedLongAgo, "producers.rs"),
    (Mark::ReplacedLeft, "views.rs"),
    (Mark::RestoredBehindAHole, "handover.rs"),
    (Mark::RevokedInTurns, "rights.rs"),
    (Mark::RingFull, "standstill.rs"),
    (Mark::SettlesLater, "handover.rs"),
    (Mark::SubjectFull, "counts.rs"),
    (Mark::Thawed, "handover.rs"),
];

/// What a scene reaches from here on.
pub(crate) struct Watched(());

impl Watched {
    pub(crate) fn begin() -> Watched {
        let _ = Reached::take();
        Watched(())
    }

    /// Panics if one of these was not reached: then the scene shows something else than it means to.
    #[track_caller]
    pub(crate) fn reached(self, marks: &[Mark]) {
        let reached = Reached::take();
        let missing: Vec<Mark> = marks.iter().copied().filter(|mark| reached.of(*mark) == 0).collect();
        assert!(missing.is_empty(), "the scene does not reach {missing:?}, but {reached:?}");
    }
}

/// Whatever is left to scenes is asserted in the file that is named.
#[test]
fn scenes_say_what_they_reach() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulator");
    for (mark, file) in IN_SCENES {
        let text = std::fs::read_to_string(folder.join(file)).expect("the file is there");
        let code = text.split(".reached(&[").skip(1).map(|rest| rest.split("])").next().unwrap_or_default());
        let named = format!("Mark::{mark:?}");
        let says = code.flat_map(|marks| marks.split(',')).any(|mark| mark.trim() == named);
        assert!(says, "{file}: no scene asserts that it reaches {mark:?}");
    }
}
