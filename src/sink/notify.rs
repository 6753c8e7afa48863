//! What sinks that tell people share: one item an alert, batches by group, one notification at a time.
//!
//! The items of a batch are a JSON array of what a [`Writer`] makes of each alert. A [`Voice`] renders some such arrays as a request
//! and reads the answer; when whose turn it is, and what is told together, is decided by `encode::group`.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Request;

use super::{Encoder, Exchange, Http, Selection, Step};
use crate::batch::{Batching, Items, Sealed};
use crate::encode::body::Context;
use crate::encode::compress::Codec;
use crate::encode::group::{Grouper, Groups, Telling, Turn};
use crate::event::{Event, Position};
use crate::net::http_client::Answer;

/// Bytes of alerts in one batch.
const BATCH_BYTES_MAX: usize = 1_000_000;

/// Alerts in one batch: as many as a storm makes within `group_wait`.
const BATCH_ITEMS_MAX: usize = 10_000;

/// An alert longer than that goes to the dead letters: nobody could be told of it in one message.
const ALERT_BYTES_MAX: usize = 8 << 20;

/// Writes one alert as a JSON value.
pub(super) type Writer = Box<dyn Fn(Event<'_>, Position, &mut Vec<u8>)>;

/// How batches of a sink that tells people are cut. They are not compressed: the message is made of them.
pub(super) fn batching(groups: &Groups) -> Batching {
    let is_each = groups.grouping().by.is_none();
    Batching {
        bytes_max: BATCH_BYTES_MAX,
        items_max: if is_each { 1 } else { BATCH_ITEMS_MAX },
        item_bytes_max: ALERT_BYTES_MAX,
        interval: groups.grouping().wait,
        codec: Codec::None,
        head: b"[",
        separator: b",",
        tail: b"]",
    }
}

/// An encoder of alerts, by group.
pub(super) struct AlertEncoder {
    write: Writer,
    grouper: Grouper,
}

impl AlertEncoder {
    pub(super) fn boxed(write: Writer, groups: &Arc<Groups>, context: &Context) -> Box<dyn Encoder> {
        Box::new(Self { write, grouper: Grouper::new(groups, context) })
    }
}

impl Encoder for AlertEncoder {
    fn encode(&mut self, selection: Selection<'_>, items: &mut Items) {
        let now = Instant::now();
        for row in selection.rows {
            let event = selection.events.event(selection.chunk, *row as usize);
            let position = selection.chunk.position.plus(event.frame as usize);
            items.push_in(self.grouper.group(event, position, now), |out| (self.write)(event, position, out));
        }
    }
}

/// What a destination is told, and what its answers mean.
pub(super) trait Voice: Send + Sync {
    /// The request that tells `group` of some alerts.
    fn request(&self, group: &str, telling: &Telling) -> Result<Request<Bytes>, String>;
    /// What an answer means.
    fn outcome(&self, answer: &Answer) -> Step;
}

/// Tells people, for one shard.
pub(super) struct Speaker {
    voice: Arc<dyn Voice>,
    groups: Arc<Groups>,
    /// Whether no more will come to this shard.
    is_last: Arc<AtomicBool>,
}

impl Speaker {
    pub(super) fn shared(voice: Arc<dyn Voice>, groups: &Arc<Groups>) -> Rc<Self> {
        Rc::new(Self { voice, groups: groups.clone(), is_last: Arc::default() })
    }
}

impl Http for Speaker {
    fn begin(&self, batch: &Sealed) -> Box<dyn Exchange> {
        Box::new(Dialogue {
            voice: self.voice.clone(),
            groups: self.groups.clone(),
            is_last: self.is_last.clone(),
            group: batch.partition.clone(),
            id: batch.id,
            body: batch.body.clone(),
            is_telling: false,
        })
    }

    fn hurry(&self) {
        self.is_last.store(true, Ordering::Relaxed);
    }
}

struct Dialogue {
    voice: Arc<dyn Voice>,
    groups: Arc<Groups>,
    is_last: Arc<AtomicBool>,
    group: Box<str>,
    id: u128,
    body: Bytes,
    /// Whether a notification is under way, whose outcome is to be told.
    is_telling: bool,
}

impl Dialogue {
    fn take_turn(&mut self) -> Step {
        let telling = match self.groups.turn(&self.group, (self.id, &self.body), self.is_last.load(Ordering::Relaxed), Instant::now()) {
            Turn::Told => return Step::Stored,
            Turn::Wait(duration) => return Step::Wait(duration),
            Turn::Later(duration) => return Step::Later(duration),
            Turn::Tell(telling) => telling,
        };
        self.is_telling = true;
        match self.voice.request(&self.group, &telling) {
            Ok(request) => Step::Send(request),
            Err(why) => self.refused(why),
        }
    }

    fn refused(&mut self, why: String) -> Step {
        self.is_telling = false;
        if self.groups.refused(&self.group, self.id, Instant::now()) { Step::Rejected(why) } else { self.take_turn() }
    }

    fn hear(&mut self, answer: &Answer) -> Step {
        let step = match self.voice.outcome(answer) {
            Step::Stored => {
                self.groups.stored(&self.group, self.id, Instant::now());
                Step::Stored
            }
            Step::Rejected(why) => return self.refused(why),
            Step::Retry(why, pause) => {
                // It holds for all groups and shards, not for this batch alone.
                let pause = pause.or_else(|| retry_after(answer));
                self.groups.unknown(&self.group, pause, Instant::now());
                Step::Retry(why, pause)
            }
            other => {
                self.groups.unknown(&self.group, None, Instant::now());
                other
            }
        };
        self.is_telling = false;
        step
    }
}

impl Exchange for Dialogue {
    fn next(&mut self, answer: Option<&Answer>) -> Step {
        match answer {
            Some(answer) => self.hear(answer),
            None => self.take_turn(),
        }
    }
}

impl Drop for Dialogue {
    /// No answer came: others may have the turn.
    fn drop(&mut self) {
        if self.is_telling {
            self.groups.unknown(&self.group, None, Instant::now());
        }
    }
}

/// Longest pause that a destination may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// `Retry-After` in seconds (RFC 9110, section 10.2.3).
fn retry_after(answer: &Answer) -> Option<Duration> {
    let seconds = answer.headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(PAUSE_MAX))
}

/// Bytes of an answer that are shown to say why.
const REASON_BYTES_MAX: usize = 300;

/// Status and beginning of an answer.
pub(super) fn why(answer: &Answer) -> String {
    let shown = answer.body.get(..REASON_BYTES_MAX).unwrap_or(&answer.body);
    format!("{} {}", answer.status, String::from_utf8_lossy(shown).escape_debug())
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;
    use crate::encode::group::Grouping;

    /// Sends what it is given, and takes the status for the meaning.
    struct Plain;

    impl Voice for Plain {
        fn request(&self, _: &str, telling: &Telling) -> Result<Request<Bytes>, String> {
            Ok(Request::new(Bytes::from(telling.bodies.join(&b' '))))
        }

        fn outcome(&self, answer: &Answer) -> Step {
            match answer.status.as_u16() {
                200 => Step::Stored,
                400 => Step::Rejected("no".into()),
                403 => Step::Hold("no".into()),
                _ => Step::Retry("no".into(), None),
            }
        }
    }

    fn batch(id: u128) -> Sealed {
        Sealed {
            id,
            manifest: id,
            plan: 0,
            partition: "g".into(),
            body: Bytes::from(id.to_string()),
            codec: Codec::None,
            plain_bytes: 1,
            items: Vec::new(),
            members: Vec::new(),
            oldest_ms: 0,
            acknowledgements: Vec::new(),
            arrivals: Vec::new(),
            waiting: crate::ledger::Waiting::new(Rc::default()),
        }
    }

    fn answer(status: u16, headers: &[(&'static str, &'static str)]) -> Answer {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: "why".into(), truncated: false }
    }

    fn shown(step: Step) -> String {
        match step {
            Step::Send(request) => String::from_utf8(request.into_body().to_vec()).unwrap(),
            Step::Wait(_) => "wait".into(),
            Step::Later(_) => "later".into(),
            other => format!("{other:?}"),
        }
    }

    fn two_shards() -> (Rc<Speaker>, Rc<Speaker>) {
        let grouping = Grouping { by: Some(Vec::new()), wait: Duration::ZERO, interval: Duration::from_secs(300) };
        let groups = Groups::new(grouping, Duration::ZERO);
        let speaker = || Speaker::shared(Arc::new(Plain), &groups);
        (speaker(), speaker())
    }

    #[test]
    fn batches_of_two_shards_are_one_notification_when_the_group_is_due() {
        let (a, b) = two_shards();
        let mut first = a.begin(&batch(1));
        assert_eq!(shown(first.next(None)), "1");
        assert_eq!(shown(first.next(Some(&answer(200, &[])))), "Stored");
        let (mut second, mut third) = (a.begin(&batch(2)), b.begin(&batch(3)));
        assert_eq!([shown(second.next(None)), shown(third.next(None))], ["later", "later"]);
        b.hurry();
        assert_eq!([shown(second.next(None)), shown(third.next(None))], ["later", "2 3"], "a shard that ends tells for both");
        assert_eq!(shown(third.next(Some(&answer(200, &[])))), "Stored");
        assert_eq!(shown(second.next(None)), "Stored");
    }

    #[test]
    fn every_outcome_gives_the_turn_back() {
        let (a, b) = two_shards();
        for (status, outcome) in [(503, "Retry(\"no\", None)"), (403, "Hold(\"no\")")] {
            let mut first = a.begin(&batch(1));
            assert_eq!(shown(first.next(None)), "1");
            assert_eq!(shown(first.next(Some(&answer(status, &[])))), outcome);
        }
        let mut broken = a.begin(&batch(1));
        assert_eq!(shown(broken.next(None)), "1");
        drop(broken);
        let mut again = a.begin(&batch(1));
        assert_eq!(shown(again.next(None)), "1", "no answer came");
        assert_eq!(shown(again.next(Some(&answer(400, &[])))), "Rejected(\"no\")");
        assert_eq!(shown(b.begin(&batch(2)).next(None)), "2");
    }

    #[test]
    fn a_pause_that_the_destination_asks_for_holds_for_all_shards() {
        let (a, b) = two_shards();
        let mut first = a.begin(&batch(1));
        first.next(None);
        assert_eq!(shown(first.next(Some(&answer(429, &[("retry-after", "30")])))), "Retry(\"no\", Some(30s))");
        let Step::Later(pause) = a.begin(&batch(1)).next(None) else { panic!("it does not wait") };
        assert!(pause > Duration::from_secs(29));
        assert!(
            matches!(b.begin(&Sealed { partition: "h".into(), ..batch(2) }).next(None), Step::Later(pause) if pause > Duration::from_secs(29))
        );
    }
}
