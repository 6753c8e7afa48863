//! The tasks of one shard: one takes hits and moves time on, one gives alerts to the journal. The first never waits for
//! the second.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::pipeline::intake::Gate;
use crate::pipeline::plan::Plan;

/// How often time moves on. Lateness is counted in seconds, so a tenth of one is not noticed.
const TICK: Duration = Duration::from_millis(100);

/// Takes the hits of other shards and moves time on, for as long as the shard runs.
pub(in crate::pipeline) async fn correlate(gate: Rc<Gate>, mut plans: watch::Receiver<Arc<Plan>>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if !gate.with_shard(|shard| shard.exchange().is_on()) {
            // A reload may bring correlations where there were none.
            if plans.changed().await.is_err() {
                return;
            }
            gate.with_shard(|shard| {
                shard.look_at_plan();
                shard.exchange().drain();
            });
            continue;
        }
        let woken = gate.with_shard(|shard| shard.exchange().woken());
        tokio::select! {
            () = woken => gate.with_shard(|shard| shard.exchange().drain()),
            _ = ticks.tick() => {
                let is_waiting = gate.is_waiting();
                gate.with_shard(|shard| {
                    shard.look_at_plan();
                    shard.exchange().tick(clock::now_ms(), is_waiting);
                    shard.give_back();
                });
            }
        }
        if gate.with_shard(|shard| shard.exchange().has_alerts()) {
            gate.fired.notify_one();
        }
    }
}

/// Gives alerts to the journal as they are made.
pub(in crate::pipeline) async fn admit_alerts(gate: Rc<Gate>) {
    loop {
        gate.fired.notified().await;
        if gate.admit_alerts().await.is_err() {
            // Refused only when Hydrant is made to end at once.
            return;
        }
    }
}
