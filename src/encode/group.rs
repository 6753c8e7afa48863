//! Which alerts are told together and when, in Alertmanager's words: `alerts -> groups -> one notification at a time`.
//!
//! * `group_by`: the fields whose values make a group; it is the partition of a batch, as a JSON object
//!   (`{"rule.id":"..","source.ip":".."}`). `["..."]` makes every alert a group of its own, `[]` makes one group of all.
//! * `group_wait`: how long the first alert of a group waits for more; the interval of a batch.
//! * `group_interval`: how long after a notification the next one of the same group comes. What came meanwhile, on all
//!   shards, is told in that one ([`Groups`]).
//!
//! # Why batches are put together
//!
//! Each shard seals a batch of a group every `group_wait`. If each batch were a notification and only one were let through every
//! `group_interval`, those that wait would grow without end while a storm lasts. So a batch enters its group; when the
//! group is due, whoever looks first takes all that wait and tells them as one, and the others find that they were told.
//!
//! # The destination's pace
//!
//! A group that is due takes the next free place in the destination's time, and its batches come back then; what came
//! meanwhile is told with them. Until then no batch is in the way of others: those of all groups have to come here to be told
//! together. Where each alert is a group there is nothing to put together, and batches wait in their line.
//!
//! # Bounds
//!
//! [`GROUPS_MAX`] groups at a time; what makes more goes to the group [`OTHERS`]: a scan from 10,000 addresses is not
//! 10,000 messages. What waits is held by `deliver`, within the memory budget.
//!
//! # Idempotency
//!
//! What was sent once is sent again in the same composition until it is stored or refused, under the same key
//! ([`Telling::key`]), so a receiver that had it and whose answer was lost knows it again. Who is put together is not
//! journaled: a restart while an answer is missing may tell the alerts under another key.
//!
//! Alertmanager's `repeat_interval` has no counterpart: an alert is an event and does not go on firing.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;

use crate::config::{Interval, Section};
use crate::encode::body::Context;
use crate::encode::notice::Identity;
use crate::encode::rows;
use crate::error::{Diagnostics, nearest};
use crate::event::{Event, Position, SlotId};
use crate::json;

/// Groups at a time: more messages than that in one `group_interval` nobody reads.
pub const GROUPS_MAX: usize = 50;

/// The group of alerts that would make more than [`GROUPS_MAX`].
pub const OTHERS: &str = "{\"group\":\"others\"}";

/// Fields that a group is made of, at most.
const FIELDS_MAX: usize = 8;

/// Bytes of a value in the name of a group.
const VALUE_BYTES_MAX: usize = 128;

/// Bytes of alerts that are told in one message, at most: a reader has to take them at once.
const TOLD_BYTES_MAX: usize = 8 << 20;

/// How often a batch looks whether its group was told by another one.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Longest `group_wait`: that of batches everywhere.
const WAIT_MAX: Duration = Duration::from_secs(900);

/// Longest `group_interval`.
const INTERVAL_MAX: Duration = Duration::from_secs(86_400);

/// What makes every alert a group of its own, as in Alertmanager.
const EACH: &str = "...";

const OF_RULE: [&str; 3] = ["rule.id", "rule.title", "rule.level"];

/// How alerts are told together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// The fields that make a group; nothing if each alert is one.
    pub by: Option<Vec<String>>,
    /// Time from the first alert of a group to its notification.
    pub wait: Duration,
    /// Time between two notifications of a group.
    pub interval: Duration,
}

impl Grouping {
    /// `group_by` of sinks that have no reason for another one.
    pub fn by_rule() -> Vec<String> {
        vec!["rule.id".to_owned()]
    }

    /// `group_wait` of sinks that have no reason for another one.
    pub fn default_wait() -> Interval {
        Interval(Duration::from_secs(30))
    }

    /// `group_interval` if nothing is said.
    pub fn default_interval() -> Interval {
        Interval(Duration::from_secs(300))
    }

    /// Reads `group_by`, `group_wait` and `group_interval` of a sink's section.
    ///
    /// # Errors
    /// Every mistake in them.
    pub fn read(section: &Section, by: &[String], wait: Interval, interval: Interval) -> Result<Self, Diagnostics> {
        let place = |key: &str| section.child(key).unwrap_or_else(|| section.clone());
        let mut diagnostics = Diagnostics::new();
        for (key, value, most) in [("group_wait", wait.0, WAIT_MAX), ("group_interval", interval.0, INTERVAL_MAX)] {
            if value > most {
                diagnostics.push(place(key).error(format!("at most {} s", most.as_secs())));
            }
        }
        let is_each = by.iter().any(|name| name == EACH);
        if by.len() > FIELDS_MAX || (is_each && by.len() > 1) {
            let message = format!("expected at most {FIELDS_MAX} fields, or `{EACH}` alone: each alert by itself");
            diagnostics.push(place("group_by").error(message));
        }
        for (index, name) in by.iter().enumerate().filter(|_| !is_each) {
            let place = || place("group_by").items().into_iter().nth(index).unwrap_or_else(|| place("group_by"));
            let meant = nearest(name, OF_RULE).filter(|_| name.starts_with("rule") && name != "rule.name");
            if name.is_empty() || name.contains(char::is_whitespace) {
                diagnostics.push(place().error("expected the name of a field, such as `source.ip`"));
            } else if by.iter().take(index).any(|before| before == name) {
                diagnostics.push(place().error(format!("`{name}` is named twice")));
            } else if let Some(meant) = meant.filter(|meant| meant != name) {
                diagnostics.push(place().error(format!("there is no `{name}`")).help(format!("did you mean `{meant}`?")));
            }
        }
        diagnostics.into_result(Self { by: (!is_each).then(|| by.to_vec()), wait: wait.0, interval: interval.0 })
    }

    /// The fields that it needs of events.
    pub fn fields(&self) -> impl Iterator<Item = &String> {
        self.by.iter().flatten().filter(|name| !OF_RULE.contains(&name.as_str()))
    }
}

/// Says which group an alert belongs to.
pub struct Grouper {
    groups: Arc<Groups>,
    identity: Identity,
    slots: Vec<Option<SlotId>>,
    name: String,
}

impl Grouper {
    /// One for a decoder's events.
    pub fn new(groups: &Arc<Groups>, context: &Context) -> Self {
        let slots = groups.grouping.by.iter().flatten().map(|name| context.fields.find(name)).collect();
        Self { groups: groups.clone(), identity: Identity::new(context), slots, name: String::new() }
    }

    /// The group's name.
    pub fn group(&mut self, event: Event<'_>, position: Position, now: Instant) -> &str {
        let mut name = b"{".to_vec();
        let mut member = |key: &str, value: &[u8]| {
            name.extend_from_slice(if name.len() > 1 { b"," } else { b"" });
            json::write_string(key.as_bytes(), &mut name);
            name.push(b':');
            json::write_string(value.get(..VALUE_BYTES_MAX).unwrap_or(value), &mut name);
        };
        match &self.groups.grouping.by {
            None => member("alert_id", self.identity.id(event, position).as_bytes()),
            Some(by) => {
                let rule = self.identity.rule(event);
                for (key, slot) in by.iter().zip(&self.slots) {
                    match key.as_str() {
                        "rule.id" => member(key, rule.id.as_bytes()),
                        "rule.title" => member(key, rule.title.as_bytes()),
                        "rule.level" => member(key, rule.level.as_bytes()),
                        _ => member(key, &slot.and_then(|slot| rows::text(event.value(slot))).unwrap_or_default()),
                    }
                }
            }
        }
        name.push(b'}');
        self.name = String::from_utf8_lossy(&name).into_owned();
        if self.groups.grouping.by.is_none() || self.groups.has_room_for(&self.name, now) { &self.name } else { OTHERS }
    }
}

/// What is waiting and what was told, of all shards of one sink.
pub struct Groups {
    grouping: Grouping,
    /// Time between two notifications of any group: what the destination's rate limit asks for.
    pace: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    groups: HashMap<Box<str>, Group>,
    /// Batches that were told by another one and do not know it yet.
    told: HashSet<u128>,
    /// When the next notification may go out.
    next: Option<Instant>,
    /// The last place in the destination's time that a group has taken.
    last_place: Option<Instant>,
}

struct Group {
    /// When an alert of it was seen last.
    seen: Instant,
    told: Option<Instant>,
    /// Its place in the destination's time, if it is due.
    place: Option<Instant>,
    waiting: Vec<(u128, Bytes)>,
    /// The batches of the notification that is under way or is to be sent again.
    telling: Vec<u128>,
    /// Whether one of them is sending it.
    is_under_way: bool,
    /// Whether they were all that waited.
    is_all: bool,
    /// Whether a notification of several batches was refused: nobody knows which one is to blame.
    is_one_by_one: bool,
    /// When one was refused last. What it is split into follows without waiting for `group_interval`.
    refused: Option<Instant>,
}

impl Group {
    fn new(now: Instant) -> Self {
        let (told, waiting, telling) = Default::default();
        let (place, refused) = (None, None);
        Self { seen: now, told, place, waiting, telling, is_under_way: false, is_all: false, is_one_by_one: false, refused }
    }

    /// Chooses what is told next: everything that waits, oldest first, within [`TOLD_BYTES_MAX`]; at least one.
    fn choose(&mut self) {
        let bytes_max = if self.is_one_by_one { 0 } else { TOLD_BYTES_MAX };
        let mut bytes = 0;
        let fits = |(index, (_, body)): &(usize, &(u128, Bytes))| {
            bytes += body.len();
            *index == 0 || bytes <= bytes_max
        };
        self.telling = self.waiting.iter().enumerate().take_while(fits).map(|(_, (id, _))| *id).collect();
        self.is_all = self.telling.len() == self.waiting.len();
    }

    fn forget(&mut self, ids: &[u128]) {
        self.waiting.retain(|(id, _)| !ids.contains(id));
        self.is_one_by_one &= !self.waiting.is_empty();
    }
}

/// A notification.
#[derive(Debug)]
pub struct Telling {
    /// The same whenever the same alerts are told in the same composition.
    pub key: String,
    /// The batches, oldest first.
    pub bodies: Vec<Bytes>,
}

/// What a batch has to do.
#[derive(Debug)]
pub enum Turn {
    /// Nothing: it was told by another one.
    Told,
    /// Send this, and say what became of it.
    Tell(Telling),
    /// Wait until the destination may be asked again; no other batch may ask it earlier.
    Wait(Duration),
    /// Come back after this long, when the group may be told.
    Later(Duration),
}

impl Groups {
    /// No groups yet; `pace` is the time between two notifications.
    pub fn new(grouping: Grouping, pace: Duration) -> Arc<Self> {
        Arc::new(Self { grouping, pace, state: Mutex::default() })
    }

    /// How alerts are told together.
    pub fn grouping(&self) -> &Grouping {
        &self.grouping
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the group is known, or may be a new one.
    fn has_room_for(&self, group: &str, now: Instant) -> bool {
        let State { groups, .. } = &mut *self.state();
        if let Some(known) = groups.get_mut(group) {
            known.seen = now;
            return true;
        }
        self.evict(groups, now);
        let has_room = groups.len() < GROUPS_MAX;
        if has_room {
            groups.insert(group.into(), Group::new(now));
        }
        has_room
    }

    /// Makes room, if there is none, by forgetting groups that would be told at once if they came again.
    fn evict(&self, groups: &mut HashMap<Box<str>, Group>, now: Instant) {
        if groups.len() >= GROUPS_MAX {
            let kept = self.grouping.wait + self.grouping.interval;
            groups.retain(|_, group| !group.waiting.is_empty() || group.seen + kept > now);
        }
    }

    /// Asks for the turn of a batch of a group, which enters the group if it is new. With `is_last` no more will come,
    /// and nothing waits for `group_interval`.
    pub fn turn(&self, group: &str, (id, body): (u128, &Bytes), is_last: bool, now: Instant) -> Turn {
        let State { groups, told, next, last_place } = &mut *self.state();
        if told.remove(&id) {
            return Turn::Told;
        }
        if !groups.contains_key(group) {
            // Not refused: its batch was made before a restart or a reload, when it had room.
            self.evict(groups, now);
        }
        let group = groups.entry(group.into()).or_insert_with(|| Group::new(now));
        if !group.waiting.iter().any(|(waiting, _)| *waiting == id) {
            group.waiting.push((id, body.clone()));
            group.seen = now;
        }
        if group.is_under_way {
            return Turn::Later(LOOK_INTERVAL);
        }
        let interval = self.grouping.interval;
        let is_due = is_last || !group.telling.is_empty() || group.refused.is_some_and(|refused| refused + interval > now);
        let due = group.told.filter(|_| !is_due).map_or(now, |told| told + interval);
        if due > now {
            return Turn::Later(due - now);
        }
        let free = next.map_or(now, |next| next.max(now));
        if self.grouping.by.is_none() && free > now {
            return Turn::Wait(free - now);
        }
        let place = *group.place.get_or_insert_with(|| last_place.map_or(free, |last| free.max(last + self.pace)));
        *last_place = (*last_place).max(Some(place));
        if place.max(free) > now {
            return Turn::Later(place.max(free) - now);
        }
        if group.telling.is_empty() {
            group.choose();
        }
        if !group.telling.contains(&id) {
            return Turn::Later(LOOK_INTERVAL);
        }
        *next = Some(now + self.pace);
        (group.place, group.is_under_way) = (None, true);
        let is_told = |(id, _): &&(u128, Bytes)| group.telling.contains(id);
        let bodies = group.waiting.iter().filter(is_told).map(|(_, body)| body.clone()).collect();
        Turn::Tell(Telling { key: key(&group.telling), bodies })
    }

    /// The destination has what batch `id` told.
    pub fn stored(&self, group: &str, id: u128, now: Instant) {
        let State { groups, told, next, .. } = &mut *self.state();
        // From here, not from when it was sent: on the way it may have waited for a connection.
        *next = (*next).max(Some(now + self.pace));
        let Some(group) = groups.get_mut(group) else { return };
        let telling = std::mem::take(&mut group.telling);
        group.forget(&telling);
        told.extend(telling.into_iter().filter(|told| *told != id));
        group.is_under_way = false;
        // What did not fit in is told at once.
        if group.is_all {
            (group.told, group.seen) = (Some(now), now);
        }
        self.forget_single(groups);
    }

    /// It may have it, or it wants to be asked later, after `pause` if it says so. The same is to be sent again.
    pub fn unknown(&self, group: &str, pause: Option<Duration>, now: Instant) {
        let state = &mut *self.state();
        if let Some(group) = state.groups.get_mut(group) {
            group.is_under_way = false;
        }
        state.next = state.next.max(Some(now + pause.unwrap_or(self.pace)));
        // All places are taken anew, behind the pause, by those who come back first.
        state.last_place = None;
        state.groups.values_mut().for_each(|group| group.place = None);
    }

    /// It will never take what batch `id` told. Whether that was this batch alone, which leaves the group; else they are told
    /// one by one.
    pub fn refused(&self, group: &str, id: u128, now: Instant) -> bool {
        let State { groups, .. } = &mut *self.state();
        let Some(group) = groups.get_mut(group) else { return true };
        let is_alone = group.telling.len() <= 1;
        group.telling.clear();
        group.is_under_way = false;
        group.refused = Some(now);
        if is_alone {
            group.forget(&[id]);
        } else {
            group.is_one_by_one = true;
        }
        self.forget_single(groups);
        is_alone
    }

    /// A group that is one alert is over with it.
    fn forget_single(&self, groups: &mut HashMap<Box<str>, Group>) {
        if self.grouping.by.is_none() {
            groups.retain(|_, group| !group.waiting.is_empty());
        }
    }
}

/// Names a composition of batches.
fn key(ids: &[u128]) -> String {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_be_bytes()).collect();
    digest(&SHA256, &bytes).as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::path::Path;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(300);

    fn groups(by: Option<&[&str]>, pace: Duration) -> Arc<Groups> {
        let by = by.map(|by| by.iter().map(|name| (*name).to_owned()).collect());
        Groups::new(Grouping { by, wait: Duration::from_secs(30), interval: INTERVAL }, pace)
    }

    /// What a batch of group `g`, whose body is its id, is told to do.
    fn turn(groups: &Groups, id: u128, now: Instant) -> String {
        turn_of(groups, "g", id, now)
    }

    fn turn_of(groups: &Groups, group: &str, id: u128, now: Instant) -> String {
        match groups.turn(group, (id, &Bytes::from(id.to_string())), false, now) {
            Turn::Told => "told".into(),
            Turn::Tell(telling) => String::from_utf8(telling.bodies.join(&b' ')).unwrap(),
            Turn::Wait(duration) => format!("wait {}", duration.as_secs()),
            Turn::Later(duration) => format!("later {}", duration.as_secs()),
        }
    }

    #[test]
    fn what_comes_within_the_interval_is_told_together_and_once() {
        let (groups, start) = (groups(Some(&["rule.id"]), Duration::ZERO), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(turn(&groups, 1, at(0)), "1");
        assert_eq!(turn(&groups, 2, at(0)), "later 1", "another shard, while the first is under way");
        groups.stored("g", 1, at(1));
        assert_eq!(turn(&groups, 2, at(1)), "later 300", "it came too late for the first");
        assert_eq!(turn(&groups, 3, at(200)), "later 101");
        assert_eq!(turn(&groups, 3, at(301)), "2 3");
        groups.stored("g", 3, at(302));
        assert_eq!(turn(&groups, 2, at(303)), "told");
        assert_eq!(turn(&groups, 4, at(303)), "later 299");
        let last = groups.turn("g", (4, &Bytes::from("4")), true, at(304));
        assert!(matches!(last, Turn::Tell(_)), "a stop does not wait: {last:?}");
    }

    #[test]
    fn what_may_have_arrived_is_sent_again_as_it_was() {
        let (groups, start) = (groups(Some(&["rule.id"]), Duration::ZERO), Instant::now());
        let bodies = |id: u128| match groups.turn("g", (id, &Bytes::from(id.to_string())), false, start) {
            Turn::Tell(telling) => (telling.key, telling.bodies.len()),
            other => panic!("{other:?}"),
        };
        let first = bodies(1);
        groups.unknown("g", None, start);
        assert_eq!(turn(&groups, 2, start), "later 1", "who was not in it waits until it is told");
        assert_eq!(bodies(1), first);
        groups.stored("g", 1, start);
        assert_eq!(turn(&groups, 2, start + INTERVAL), "2");
    }

    #[test]
    fn a_refused_composition_is_told_one_by_one_and_a_refused_batch_leaves() {
        let (groups, now) = (groups(Some(&["rule.id"]), Duration::ZERO), Instant::now());
        assert_eq!(turn(&groups, 1, now), "1");
        groups.stored("g", 1, now);
        turn(&groups, 2, now);
        turn(&groups, 3, now);
        let now = now + INTERVAL;
        assert_eq!(turn(&groups, 2, now), "2 3");
        assert!(!groups.refused("g", 2, now));
        assert_eq!(turn(&groups, 2, now), "2");
        assert!(groups.refused("g", 2, now));
        assert_eq!(turn(&groups, 3, now), "3", "without waiting");
        groups.stored("g", 3, now);
        assert_eq!(turn(&groups, 20, now), "20", "a half of what was refused");
        groups.stored("g", 20, now + INTERVAL / 2);
        assert_eq!(turn(&groups, 4, now + INTERVAL), "later 150", "and then as ever");
    }

    #[test]
    fn the_destination_is_asked_at_its_own_pace_whatever_the_group() {
        let (groups, start) = (groups(None, Duration::from_secs(1)), Instant::now());
        let turn = |group, id, now| groups.turn(group, (id, &Bytes::new()), false, now);
        assert!(matches!(turn("a", 1, start), Turn::Tell(_)));
        assert!(matches!(turn("b", 2, start), Turn::Wait(wait) if wait == Duration::from_secs(1)));
        groups.unknown("a", Some(Duration::from_secs(30)), start);
        assert!(matches!(turn("b", 2, start + Duration::from_secs(29)), Turn::Wait(wait) if wait == Duration::from_secs(1)));
        assert!(matches!(turn("b", 2, start + Duration::from_secs(30)), Turn::Tell(_)));
    }

    #[test]
    fn a_group_goes_back_until_its_place_in_the_destinations_time_and_is_told_with_what_came_meanwhile() {
        let (groups, start) = (groups(Some(&["rule.id"]), Duration::from_secs(2)), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let turn = |group, id, seconds| turn_of(&groups, group, id, at(seconds));
        assert_eq!(turn("a", 1, 0), "1");
        assert_eq!([turn("b", 2, 0), turn("c", 3, 0), turn("b", 4, 1)], ["later 2", "later 4", "later 1"]);
        groups.stored("a", 1, at(0));
        assert_eq!(turn("b", 2, 2), "2 4");
        groups.stored("b", 2, at(2));
        assert_eq!(turn("c", 3, 4), "3");
        groups.unknown("c", Some(Duration::from_secs(30)), at(4));
        assert_eq!([turn("d", 5, 4), turn("c", 3, 5), turn("c", 6, 33)], ["later 30", "later 31", "later 3"], "behind the pause");
        assert_eq!(turn("d", 5, 34), "5");
        groups.stored("d", 5, at(34));
        assert_eq!(turn("c", 3, 36), "3", "what was sent is sent as it was");
    }

    /// Batches as `deliver` treats them: those that wait keep one of four places, those that come back later do not.
    #[test]
    fn a_storm_is_little_more_than_one_notification_a_group() {
        let grouping = Grouping { by: Some(vec!["source.ip".to_owned()]), wait: Duration::ZERO, interval: Duration::from_secs(20) };
        let (groups, start) = (Groups::new(grouping, Duration::from_millis(550)), Instant::now());
        let (mut queue, mut places, mut aside) = (VecDeque::new(), Vec::new(), Vec::new());
        let (mut sent, mut told, mut done) = (0, 0, 0);
        for tick in 0..1200 {
            let now = start + Duration::from_millis(50) * tick;
            if tick < 40 && tick % 2 == 0 {
                (0..40).for_each(|group| queue.push_back((group, sent + group)));
                sent += 40;
            }
            loop {
                let is_back = |(_, wake): &((u128, u128), Instant)| *wake <= now;
                let (group, id) = if let Some(index) = places.iter().position(is_back) {
                    places.swap_remove(index).0
                } else if places.len() == 4 {
                    break;
                } else if let Some(index) = aside.iter().position(is_back) {
                    aside.swap_remove(index).0
                } else {
                    let Some(batch) = queue.pop_front() else { break };
                    batch
                };
                match groups.turn(&group.to_string(), (id, &Bytes::new()), false, now) {
                    Turn::Wait(wait) => places.push(((group, id), now + wait)),
                    Turn::Later(wait) => aside.push(((group, id), now + wait)),
                    Turn::Told => done += 1,
                    Turn::Tell(_) => {
                        groups.stored(&group.to_string(), id, now);
                        (told, done) = (told + 1, done + 1);
                    }
                }
            }
        }
        assert_eq!((sent, done, told), (800, 800, 44), "four were told before the last batch came");
    }

    #[test]
    fn groups_are_bounded_and_forgotten_when_nothing_comes() {
        let (groups, start) = (groups(Some(&["source.ip"]), Duration::ZERO), Instant::now());
        for number in 0..GROUPS_MAX {
            assert!(groups.has_room_for(&number.to_string(), start));
        }
        assert!(groups.has_room_for("7", start) && !groups.has_room_for("new", start));
        groups.turn("3", (1, &Bytes::new()), false, start);
        let later = start + INTERVAL + Duration::from_secs(30);
        assert!(groups.has_room_for("new", later));
        assert_eq!(groups.state().groups.len(), 2, "the new one and the one in which a batch waits");
        for number in 0..3 * GROUPS_MAX {
            let now = later + Duration::from_secs(600 * number as u64);
            groups.turn(&format!("{number}"), (2, &Bytes::new()), false, now);
            groups.stored(&format!("{number}"), 2, now);
        }
        assert!(groups.state().groups.len() <= GROUPS_MAX + 1, "also by batches whose groups this one did not name");
    }

    #[test]
    fn more_than_fits_is_told_at_once_behind_it() {
        let (groups, start) = (groups(Some(&["rule.id"]), Duration::ZERO), Instant::now());
        let large = Bytes::from(vec![b'x'; TOLD_BYTES_MAX / 2 + 1]);
        let turn = |id, now| groups.turn("g", (id, &large), false, now);
        assert!(matches!(turn(1, start), Turn::Tell(_)));
        assert!(matches!(turn(2, start), Turn::Later(_)) && matches!(turn(3, start), Turn::Later(_)));
        groups.stored("g", 1, start);
        let due = start + INTERVAL;
        assert!(matches!(turn(3, due), Turn::Later(_)), "the older one is told first");
        let Turn::Tell(telling) = turn(2, due) else { panic!("nothing is told") };
        assert_eq!(telling.bodies.len(), 1);
        groups.stored("g", 2, due);
        assert!(matches!(turn(3, due), Turn::Tell(_)));
    }

    #[test]
    fn mistakes_are_named_all_at_once() {
        let yaml = "group_by: [rule.ids, source.ip, source.ip, '']\ngroup_wait: 16m\ngroup_interval: 2d\n";
        let section = Section::parse(Path::new("t.yaml"), yaml).unwrap();
        let by = ["rule.ids", "source.ip", "source.ip", ""].map(str::to_owned);
        let read =
            |by: &[String], wait: &str, interval: &str| Grouping::read(&section, by, wait.parse().unwrap(), interval.parse().unwrap());
        let error = read(&by, "16m", "2d").unwrap_err().to_string();
        for message in
            ["did you mean `rule.id`", "`source.ip` is named twice", "group_by[3]: expected the name", "at most 900 s", "at most 86400 s"]
        {
            assert!(error.contains(message), "{message}: {error}");
        }
        assert!(read(&["...".to_owned(), "a".to_owned()], "1s", "1s").is_err());
        assert_eq!(read(&["...".to_owned()], "1s", "1s").unwrap().by, None);
        assert!(read(&["rule.name".to_owned()], "1s", "1s").is_ok(), "a field of the event");
    }
}
