//! What has to add up in a world, when it is at rest and when it has ended.

use corecast::shard::Stats;

use super::World;

impl World {
    /// Published times matching is delivered, conflated, dropped or abandoned, once nothing is on its way.
    pub(super) fn check_accounts(&mut self) {
        let mut sum = Stats::default();
        self.berths.iter_mut().for_each(|berth| sum.add(berth.shard.stats()));
        let parts = [sum.owed, sum.delivered, sum.conflated + sum.filtered, sum.dropped, sum.abandoned];
        assert!(parts.iter().all(|part| *part < 1 << 60), "a counter fell below zero: {sum:?}");
        let pending: u64 = self.berths.iter().map(|berth| berth.shard.pending()).sum();
        let told = sum.delivered + sum.conflated + sum.filtered + sum.dropped + sum.abandoned + pending;
        if sum.owed != told || pending != 0 {
            self.describe_shards();
        }
        assert_eq!(sum.owed, told, "the account of messages owed: {sum:?}");
        assert_eq!(pending, 0, "the world is at rest, and somebody still has messages coming");
        let here: u64 = self.berths.iter().map(|berth| berth.shard.counted_here()).sum();
        assert_eq!(here, self.berths[0].shard.counted(), "who is counted is there");
        let numbered = self.oracle.numbered();
        assert!(sum.published >= numbered, "{numbered} cursors were seen, {} given", sum.published);
        let sent = self.oracle.sent();
        let published = sum.published - sum.occupancies;
        assert!(published <= sent, "{sent} messages were sent and not refused, {published} numbered");
    }

    /// Says in the trace what every shard has not finished.
    pub(super) fn describe_shards(&self) {
        if self.plan.trace {
            self.berths.iter().for_each(|berth| eprintln!("{:#?}", berth.shard.unfinished()));
        }
    }

    pub(super) fn check_end(&mut self) {
        for (index, berth) in self.berths.iter_mut().enumerate() {
            let Stats { subscriptions, topics, pool_log_bytes, pool_private_bytes, pool_inbound_bytes, .. } =
                *berth.shard.stats();
            let left = [subscriptions, topics, pool_log_bytes, pool_private_bytes, pool_inbound_bytes];
            assert_eq!(
                left, [0; 5],
                "shard {index} finished with subscriptions or topics, or bytes of logs, queues or messages"
            );
            assert_eq!(
                berth.shard.asks_still(),
                [0; 4],
                "shard {index} finished with questions, or who waits for them"
            );
            assert_eq!(berth.kernel.slots_taken(), 0, "shard {index} finished with slots open");
            assert_eq!(berth.kernel.buffers_lent(), 0, "shard {index} finished with receive buffers");
        }
        assert_eq!(self.berths[0].shard.counted(), 0, "everybody has gone, and is still counted");
        for client in &mut self.clients {
            client.finish(&mut self.oracle);
        }
        self.check_accounts();
        self.oracle.check_order();
        self.oracle.check_raw();
    }
}
