//! Source health in a running pipeline: `the ledger's sightings -> alerts -> journal`.
//!
//! A task of the first shard that only waits; senders are judged, and what is known of them is written, on a thread of its
//! own. What is written knows of an alert only when the journal has it.

use std::rc::Rc;
use std::time::Instant;

use crate::clock;
use crate::event::Span;
use crate::pipeline::correlation::Alerts;
use crate::pipeline::intake::Gate;
use crate::pipeline::shard::Common;
use crate::source_health::Look;

/// Looks at all senders for as long as the shard runs.
pub(super) async fn watch(gate: Rc<Gate>, common: Common) {
    let mut looked = Instant::now();
    loop {
        let interval = common.plan.borrow().source_health.settings.interval();
        tokio::time::sleep(interval).await;
        let since = std::mem::replace(&mut looked, Instant::now());
        let look = Look { elapsed: looked - since, now_ms: clock::now_ms() };
        let own = common.clone();
        let Ok(alerts) = tokio::task::spawn_blocking(move || judge(&own, look)).await else {
            return tracing::error!("looking at the senders panicked; it ends");
        };
        if !alerts.spans.is_empty() {
            if gate.admit_health(&alerts, &common.health).await.is_err() {
                // Hydrant stops; the next start gives these alerts.
                return;
            }
            common.source_health.given();
        }
        let (health, is_news) = (common.source_health.clone(), !alerts.spans.is_empty());
        match tokio::task::spawn_blocking(move || health.write(look.now_ms, is_news)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "what was learned of senders is not written down; trying again"),
            Err(_) => return tracing::error!("writing down what is known of senders panicked; it ends"),
        }
    }
}

fn judge(common: &Common, look: Look) -> Alerts {
    let plan = common.plan.borrow().clone();
    let (settings, watched) = (&plan.source_health.settings, &plan.source_health.watched[..]);
    let mut alerts = Alerts::default();
    for alert in common.source_health.look(&common.ledger.sightings(), look, (settings, watched), &common.registry) {
        let start = alerts.bytes.len();
        alerts.bytes.extend_from_slice(&alert);
        alerts.spans.push(Span::new(start, alerts.bytes.len()));
    }
    alerts
}
