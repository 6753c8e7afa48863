//! What all shards have counted since the ledger was begun: sums, what has to be equal, and the difference of two.
//!
//! | of | equal |
//! |---|---|
//! | a source | received = those of its senders |
//! | a source | received + before = decided + in work + between shards + left |
//! | a destination | offered = filtered + routed |
//! | its events, its alerts | routed + recovered + before = delivered + dead letters + dropped + waiting + deferred + left |
//!
//! `in work`, `between shards` and `waiting` are measured where the events are, not subtracted. `before` is what was on
//! its way when a period begins ([`Book::since`]); 0 for the whole ledger. `left` is what an earlier run left on its way,
//! by its last entry: with a journal on disk it comes back as `recovered`, without one it is lost and counted as dropped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::page::{FlowData, PageData};

/// The reason of alerts whose rule was gone when they were taken up.
const GONE: &str = "rule_gone";

/// The reason of what was dropped for a destination since the journal was full.
pub const JOURNAL_FULL: &str = "journal_full";

/// The reason of what was on its way when a process ended and no journal kept it.
pub const LOST: &str = "lost_with_the_process";

/// All counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Book {
    /// When it was written, ms since 1970 UTC.
    pub at_ms: i64,
    /// When it begins.
    pub since_ms: i64,
    /// Whether the journal keeps what is on its way when the process ends.
    pub is_durable: bool,
    /// By name.
    pub sources: BTreeMap<String, Source>,
    /// By name.
    pub destinations: BTreeMap<String, Destination>,
}

/// Of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Source {
    /// Messages as they came; one may be unwrapped to many events.
    pub messages: u64,
    /// Events that were journaled.
    pub received: u64,
    /// Those that were cut.
    pub cut: u64,
    /// Datagrams that the kernel dropped; nobody knows whose.
    pub kernel_drops: u64,
    /// Requests, connections and datagrams that were refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Envelopes that were dropped or could not be opened, by reason.
    pub unwrap: BTreeMap<String, u64>,
    /// Events about which was decided who gets them.
    pub decided: u64,
    /// Those of them that were dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Journaled and not decided about.
    pub in_work: u64,
    /// On their way from one shard to another.
    pub between: i64,
    /// On their way at the beginning of the period.
    pub before: i64,
    /// On their way when an earlier run ended.
    pub left: i64,
    /// By address.
    pub senders: BTreeMap<String, Sender>,
}

/// Of a sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Sender {
    /// Events that were journaled.
    pub received: u64,
    /// Requests, connections and datagrams that were refused.
    pub refused: u64,
    /// Events that were no decoder's format at all.
    pub unreadable: u64,
}

/// Of a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Destination {
    /// Events about which was decided whether it gets them; those that a transform dropped are not among them.
    pub offered: u64,
    /// Events that no route sends there.
    pub filtered: u64,
    /// Events and alerts in attempts behind the first one.
    pub resent: u64,
    /// Events that came in.
    pub events: Flow,
    /// Alerts about them.
    pub alerts: Flow,
}

/// What comes and what goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Flow {
    /// The plan sends them there.
    pub routed: u64,
    /// Taken up from the journal of an earlier run.
    pub recovered: u64,
    /// On their way at the beginning of the period.
    pub before: u64,
    /// Confirmed.
    pub delivered: u64,
    /// In the dead letters.
    pub dead: u64,
    /// Dropped by a written policy, or lost, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// In batches that are not done with.
    pub waiting: u64,
    /// In the journal, until the destination has caught up.
    pub deferred: i64,
    /// On their way when an earlier run ended; a journal on disk had them.
    pub left: u64,
}

impl Flow {
    fn add(&mut self, data: &FlowData) {
        self.routed += data.routed;
        self.recovered += data.recovered;
        self.delivered += data.delivered;
        self.dead += data.dead;
        self.waiting += data.waiting;
        self.deferred += data.deferred;
        for (reason, count) in [(GONE, data.gone), (JOURNAL_FULL, data.journal_full)].into_iter().filter(|(_, count)| *count > 0) {
            *self.dropped.entry(reason.into()).or_default() += count;
        }
    }

    fn incoming(&self) -> i64 {
        (self.routed + self.recovered + self.before) as i64
    }

    fn outgoing(&self) -> i64 {
        (self.delivered + self.dead + self.dropped.values().sum::<u64>() + self.waiting + self.left) as i64 + self.deferred
    }

    fn on_its_way(&self) -> u64 {
        self.waiting.saturating_add_signed(self.deferred)
    }

    fn carry(&mut self, is_durable: bool) {
        let waiting = self.on_its_way();
        (self.waiting, self.deferred) = (0, 0);
        if is_durable {
            self.left += waiting;
        } else if waiting > 0 {
            *self.dropped.entry(LOST.into()).or_default() += waiting;
        }
    }

    fn subtract(&mut self, earlier: &Self) {
        for (count, was) in [
            (&mut self.routed, earlier.routed),
            (&mut self.recovered, earlier.recovered),
            (&mut self.delivered, earlier.delivered),
            (&mut self.dead, earlier.dead),
            (&mut self.left, earlier.left),
        ] {
            *count = count.saturating_sub(was);
        }
        subtract_all(&mut self.dropped, &earlier.dropped);
        self.before = earlier.on_its_way();
    }
}

fn subtract_all(counts: &mut BTreeMap<String, u64>, earlier: &BTreeMap<String, u64>) {
    for (reason, count) in counts {
        *count = count.saturating_sub(earlier.get(reason).copied().unwrap_or(0));
    }
}

impl Source {
    fn incoming(&self) -> i64 {
        self.received as i64 + self.before
    }

    fn outgoing(&self) -> i64 {
        self.decided as i64 + self.in_work as i64 + self.between + self.left
    }

    fn subtract(&mut self, earlier: &Self) {
        for (count, was) in [
            (&mut self.messages, earlier.messages),
            (&mut self.received, earlier.received),
            (&mut self.cut, earlier.cut),
            (&mut self.kernel_drops, earlier.kernel_drops),
            (&mut self.decided, earlier.decided),
        ] {
            *count = count.saturating_sub(was);
        }
        self.left -= earlier.left;
        self.before = earlier.in_work as i64 + earlier.between;
        subtract_all(&mut self.refused, &earlier.refused);
        subtract_all(&mut self.unwrap, &earlier.unwrap);
        subtract_all(&mut self.dropped, &earlier.dropped);
        for (name, sender) in &mut self.senders {
            let was = earlier.senders.get(name).copied().unwrap_or_default();
            sender.received = sender.received.saturating_sub(was.received);
            sender.refused = sender.refused.saturating_sub(was.refused);
            sender.unreadable = sender.unreadable.saturating_sub(was.unreadable);
        }
        self.senders.retain(|_, sender| *sender != Sender::default());
    }
}

impl Book {
    /// Adds what a shard has counted; the names are in the order of its plan.
    pub(super) fn add(&mut self, page: &PageData, sources: &[String], destinations: &[String]) {
        for (name, data) in sources.iter().zip(&page.sources) {
            let source = self.sources.entry(name.clone()).or_default();
            source.messages += data.messages;
            source.received += data.received;
            source.cut += data.cut;
            source.kernel_drops += data.kernel_drops;
            source.decided += data.decided;
            source.in_work += data.in_work;
            source.between += data.between;
            if data.dropped > 0 {
                *source.dropped.entry("transform".into()).or_default() += data.dropped;
            }
            for sender in data.senders.iter().filter(|sender| sender.received + sender.refused + sender.unreadable > 0) {
                let counts = source.senders.entry(sender.name.to_string()).or_default();
                counts.received += sender.received;
                counts.refused += sender.refused;
                counts.unreadable += sender.unreadable;
            }
        }
        for (name, data) in destinations.iter().zip(&page.destinations) {
            let destination = self.destinations.entry(name.clone()).or_default();
            destination.offered += data.offered;
            destination.filtered += data.filtered;
            destination.resent += data.resent;
            destination.events.add(&data.events);
            destination.alerts.add(&data.alerts);
        }
    }

    /// What a new process goes on from: nothing is on its way in it yet.
    #[must_use]
    pub(super) fn carried(mut self) -> Self {
        for source in self.sources.values_mut() {
            source.left += std::mem::take(&mut source.in_work) as i64 + std::mem::take(&mut source.between);
        }
        for destination in self.destinations.values_mut() {
            destination.events.carry(self.is_durable);
            destination.alerts.carry(self.is_durable);
        }
        self
    }

    /// What was counted since an earlier state of the same ledger.
    #[must_use]
    pub fn since(mut self, earlier: &Self) -> Self {
        self.since_ms = earlier.at_ms;
        let (no_source, no_destination) = (Source::default(), Destination::default());
        for (name, source) in &mut self.sources {
            source.subtract(earlier.sources.get(name).unwrap_or(&no_source));
        }
        for (name, destination) in &mut self.destinations {
            let was = earlier.destinations.get(name).unwrap_or(&no_destination);
            destination.offered = destination.offered.saturating_sub(was.offered);
            destination.filtered = destination.filtered.saturating_sub(was.filtered);
            destination.resent = destination.resent.saturating_sub(was.resent);
            destination.events.subtract(&was.events);
            destination.alerts.subtract(&was.alerts);
        }
        self
    }

    /// What does not add up; empty if everything does.
    pub fn imbalances(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |what: String, incoming: i64, outgoing: i64| {
            if incoming != outgoing {
                let (count, kind) = ((incoming - outgoing).abs(), if incoming > outgoing { "missing" } else { "too many" });
                found.push(format!("{what}: {incoming} came, {outgoing} are accounted for: {count} {kind}"));
            }
        };
        for (name, source) in &self.sources {
            let senders = source.senders.values().map(|sender| sender.received as i64).sum();
            check(format!("senders of `{name}`"), source.received as i64, senders);
            check(format!("source `{name}`"), source.incoming(), source.outgoing());
        }
        for (name, destination) in &self.destinations {
            let Destination { offered, filtered, events, alerts, .. } = destination;
            check(format!("routes to `{name}`"), *offered as i64, (filtered + events.routed) as i64);
            check(format!("destination `{name}`"), events.incoming(), events.outgoing());
            check(format!("alerts to `{name}`"), alerts.incoming(), alerts.outgoing());
        }
        found
    }

    /// The book as JSON with `balanced` and `imbalances`, which speak of the whole; its counts perhaps of one sender only.
    pub fn report(&self, sender: Option<&str>) -> Value {
        let imbalances = self.imbalances();
        let shown = sender.map_or_else(|| self.clone(), |sender| self.clone().of_sender(sender));
        let mut report = serde_json::to_value(shown).unwrap_or_default();
        report["balanced"] = imbalances.is_empty().into();
        report["imbalances"] = imbalances.into();
        report
    }

    /// The same with the counts of one sender only; without the sources that do not know it.
    #[must_use]
    pub fn of_sender(mut self, name: &str) -> Self {
        for source in self.sources.values_mut() {
            source.senders.retain(|sender, _| sender == name);
        }
        self.sources.retain(|_, source| !source.senders.is_empty());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(flow: Flow) -> Book {
        let sender = Sender { received: 10, refused: 1, unreadable: 0 };
        let source = Source {
            received: 10,
            decided: 7,
            in_work: 2,
            between: 1,
            senders: [("192.0.2.1".into(), sender)].into(),
            ..Source::default()
        };
        let destination = Destination { offered: 7, filtered: 7 - flow.routed, events: flow, ..Destination::default() };
        Book { sources: [("fw".into(), source)].into(), destinations: [("siem".into(), destination)].into(), ..Book::default() }
    }

    #[test]
    fn one_event_that_is_missing_or_too_many_is_named() {
        let good = Flow { routed: 5, delivered: 2, dead: 1, waiting: 2, ..Flow::default() };
        assert_eq!(book(good.clone()).imbalances(), Vec::<String>::new());
        let missing = book(Flow { waiting: 1, ..good.clone() }).imbalances();
        assert_eq!(missing, ["destination `siem`: 5 came, 4 are accounted for: 1 missing"]);
        let mut twice = book(good);
        twice.sources.get_mut("fw").unwrap().decided += 1;
        assert_eq!(twice.imbalances(), ["source `fw`: 10 came, 11 are accounted for: 1 too many"]);
    }

    #[test]
    fn what_a_run_leaves_comes_back_or_is_lost_by_name() {
        let flow = Flow { routed: 5, delivered: 3, waiting: 2, ..Flow::default() };
        let durable = Book { is_durable: true, ..book(flow.clone()) }.carried();
        assert_eq!((durable.imbalances(), durable.destinations["siem"].events.left), (Vec::new(), 2));
        assert_eq!(durable.sources["fw"].left, 3);
        let lost = book(flow).carried();
        assert_eq!((lost.imbalances(), lost.destinations["siem"].events.dropped[LOST]), (Vec::new(), 2));
    }

    #[test]
    fn a_period_balances_with_what_was_on_its_way_when_it_began() {
        let earlier = book(Flow { routed: 5, delivered: 3, waiting: 2, ..Flow::default() });
        let mut later = book(Flow { routed: 6, delivered: 6, ..Flow::default() });
        let source = later.sources.get_mut("fw").unwrap();
        (source.decided, source.in_work, source.between) = (10, 0, 0);
        let destination = later.destinations.get_mut("siem").unwrap();
        (destination.offered, destination.filtered) = (10, 4);
        assert_eq!(later.imbalances(), Vec::<String>::new());
        let period = later.since(&earlier);
        assert_eq!(period.imbalances(), Vec::<String>::new());
        assert_eq!((period.sources["fw"].received, period.sources["fw"].before, period.sources["fw"].senders.len()), (0, 3, 0));
        let flow = &period.destinations["siem"].events;
        assert_eq!((flow.routed, flow.before, flow.delivered), (1, 2, 3));
    }
}
