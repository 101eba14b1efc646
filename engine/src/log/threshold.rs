//! The least important level that is logged, which can change while the process runs. Nobody waits for a change.

use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::ACCESS;
use crate::mesh::Dial;

/// All levels, by their place on the dial.
const LEVELS: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

/// Lets pass what is important enough; clones share the level.
#[derive(Clone, Debug)]
pub(super) struct Threshold(Arc<Dial>);

impl Threshold {
    pub(super) fn new(level: LevelFilter) -> Threshold {
        let threshold = Threshold(Arc::default());
        threshold.turn_to(level);
        threshold
    }

    fn turn_to(&self, level: LevelFilter) {
        let place = LEVELS.iter().position(|one| *one == level).unwrap_or(0);
        self.0.set(place as u8);
    }

    /// Sets another level.
    pub(super) fn set(&self, level: LevelFilter) {
        self.turn_to(level);
        // Every place in the source keeps whether it is logged, so that one that is not costs nothing.
        tracing::callsite::rebuild_interest_cache();
    }

    /// The access log has a setting of its own, and nothing comes of it while that is off.
    fn lets_pass(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == ACCESS || *metadata.level() <= self.level()
    }

    fn level(&self) -> LevelFilter {
        LEVELS[usize::from(self.0.read()).min(LEVELS.len() - 1)]
    }
}

impl<S: Subscriber> Layer<S> for Threshold {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.lets_pass(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.lets_pass(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // Lines of the access log are of level info.
        Some(self.level().max(LevelFilter::INFO))
    }
}
