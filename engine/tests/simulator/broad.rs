//! What a client of the line protocol does where there are very many topics: it subscribes to many in one breath, leaves them so,
//! and says something to all of them.

use crate::client::{Phase, Scene};
use crate::line::{LineClient, draw_since};

impl LineClient {
    /// Does one of these; says whether it did.
    pub(crate) fn act_broadly(&mut self, scene: &mut Scene<'_>) -> bool {
        match scene.rng.below(100) {
            0..8 => self.subscribe_to_many(scene),
            8..12 => {
                let count = if scene.rng.chance(500) { usize::MAX } else { scene.rng.skewed(64) };
                self.unsubscribe(scene, count);
            }
            12..20 if scene.phase == Phase::Busy => self.publish_to_many(scene),
            _ => return false,
        }
        true
    }

    fn subscribe_to_many(&mut self, scene: &mut Scene<'_>) {
        let mut topics = scene.plan.topics.clone();
        scene.rng.shuffle(&mut topics);
        topics.truncate(scene.rng.pick(&[4, 16, 64, 200]));
        let since = draw_since(scene.rng);
        for topic in topics {
            if !self.subscribes(&topic) {
                self.subscribe(scene, topic, since);
            }
        }
    }

    fn publish_to_many(&mut self, scene: &mut Scene<'_>) {
        let count = scene.rng.pick(&[16, 64, 200]);
        for topic in scene.plan.topics.iter().take(count) {
            let len = scene.rng.skewed(scene.plan.message_bytes_max.min(100));
            self.publish_to(scene, topic, len);
        }
    }
}
