//! The thread that asks name servers for what shards have not found: `addresses -> questions -> cache`.
//!
//! At most so many questions are under way and begin in a second, each address once: a flood of forged addresses is none of
//! questions. The thread ends when nobody is left who could ask: its plan is gone.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::cache::{Cache, Change, Learned};
use super::{Counters, Outcome, Settings};
use crate::enrich::watch::Handle;
use crate::net::dns::{Failure, Reply, Resolver};

/// Time whose questions may begin at once after a silence.
const BURST: Duration = Duration::from_millis(100);

/// When an address is asked for again after a failure. RFC 2308 section 7 allows up to five minutes.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// For how long there is no name where the zone does not say it.
const ABSENT_TTL: Duration = Duration::from_secs(300);

/// Longest time for which there is no name (RFC 2308 section 5: one to three hours).
const ABSENT_TTL_MAX: Duration = Duration::from_secs(3 * 3600);

/// Names of an address that are tried with `verify`.
const CONFIRMED_MAX: usize = 4;

/// Failures in a row after which the log has a word of it.
const FAILURES_TOLD: u32 = 20;

/// What the thread has.
pub(super) struct Asking {
    pub(super) name: String,
    pub(super) settings: Settings,
    pub(super) servers: Handle<Vec<SocketAddr>>,
    pub(super) cache: Arc<Cache>,
    pub(super) counters: Arc<Counters>,
}

impl Asking {
    /// Answers until nobody asks any more.
    pub(super) fn run(mut self, questions: Receiver<IpAddr>) {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.serve(questions)),
            Err(error) => tracing::error!(enrichment = %self.name, %error, "no runtime to ask name servers"),
        }
    }

    async fn serve(&mut self, mut questions: Receiver<IpAddr>) {
        let mut reader = self.cache.reader();
        let (mut asked, mut under_way) = (HashSet::new(), JoinSet::new());
        let (mut failures, mut paid_at) = (0, Instant::now());
        loop {
            let next = async {
                sleep_until(paid_at).await;
                questions.recv().await
            };
            tokio::select! {
                Some(done) = under_way.join_next(), if !under_way.is_empty() => {
                    // A panic of a question is none of ours to hide; its address stays asked for.
                    let Ok((address, outcome, learned)) = done else { continue };
                    asked.remove(&address);
                    self.note(address, outcome, learned);
                    failures = self.tell(outcome, failures);
                }
                question = next, if under_way.len() < self.settings.in_flight_max => {
                    let Some(address) = question else { return };
                    // Another shard may have asked for it while it stood in the queue.
                    let is_known = reader.find(super::cache::key(address), self.cache.now_ms()).is_some_and(|known| known.is_fresh);
                    if !is_known && asked.insert(address) {
                        let now = Instant::now();
                        paid_at = paid_at.max(now.checked_sub(BURST).unwrap_or(now)) + self.settings.pause;
                        let servers = self.servers.current().map(Vec::as_slice).unwrap_or_default();
                        let (resolver, verify) = (Resolver::new(servers, self.settings.timeout), self.settings.verify);
                        under_way.spawn(async move {
                            let (outcome, learned) = ask(&resolver, address, verify).await;
                            (address, outcome, learned)
                        });
                    }
                }
            }
        }
    }

    fn note(&self, address: IpAddr, outcome: Outcome, learned: Learned) {
        let (ttl_min, ttl_max) = self.settings.ttl;
        let learned = match learned {
            Learned::Answer(Some(name), ttl) => Learned::Answer(Some(name), ttl.clamp(ttl_min, ttl_max)),
            Learned::Answer(None, ttl) => Learned::Answer(None, ttl.min(ABSENT_TTL_MAX).clamp(ttl_min, ttl_max)),
            nothing @ Learned::Nothing(_) => nothing,
        };
        let Change { entries, evicted } = self.cache.insert(address, learned, self.cache.now_ms());
        self.counters.answered(outcome, entries, evicted);
    }

    /// Says in the log, once, that servers do not answer, and when they do again. Gives the failures in a row.
    fn tell(&self, outcome: Outcome, failures: u32) -> u32 {
        if !outcome.is_failure() {
            if failures >= FAILURES_TOLD {
                tracing::info!(enrichment = %self.name, "name servers answer again");
            }
            return 0;
        }
        if failures + 1 == FAILURES_TOLD {
            let last = outcome.name();
            tracing::warn!(enrichment = %self.name, last, "name servers have not answered {FAILURES_TOLD} questions in a row; names are missing");
        }
        failures.saturating_add(1)
    }
}

/// Asks for the name of an address.
async fn ask(resolver: &Resolver, address: IpAddr, verify: bool) -> (Outcome, Learned) {
    match resolver.names_of(address).await {
        Ok(Reply::Records(names, ttl)) if verify => confirm(resolver, address, names, ttl).await,
        Ok(Reply::Records(names, ttl)) => (Outcome::Name, Learned::Answer(names.into_iter().next(), ttl)),
        Ok(Reply::Unusable(ttl)) => (Outcome::NotAHost, Learned::Answer(None, ttl)),
        Ok(Reply::Absent(ttl)) => (Outcome::NoName, Learned::Answer(None, ttl.unwrap_or(ABSENT_TTL))),
        Err(failure) => failed(failure),
    }
}

/// The first of the names that has the address: who owns an address can give it any name, but not the name the address.
async fn confirm(resolver: &Resolver, address: IpAddr, names: Vec<String>, ttl: Duration) -> (Outcome, Learned) {
    let mut failure = None;
    for name in names.into_iter().take(CONFIRMED_MAX) {
        match resolver.addresses_of(&name, address).await {
            Ok(Reply::Records(addresses, shorter)) if addresses.contains(&address) => {
                return (Outcome::Name, Learned::Answer(Some(name), ttl.min(shorter)));
            }
            Ok(_) => {}
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or((Outcome::NotConfirmed, Learned::Answer(None, ttl)), failed)
}

fn failed(failure: Failure) -> (Outcome, Learned) {
    let outcome = match failure {
        Failure::Timeout => Outcome::Timeout,
        Failure::Refused(_) => Outcome::Refused,
        Failure::Malformed => Outcome::Malformed,
        Failure::Unreachable => Outcome::Unreachable,
    };
    (outcome, Learned::Nothing(RETRY_AFTER))
}
