//! One sender: what is usual for it, and what is wrong now.
//!
//! | condition | begins | is over |
//! |---|---|---|
//! | silent | nothing for longer than `silent_after` and than twice its usual pause | something came |
//! | volume drop | a whole hour with less than `volume_below_percent` of the least that came in the same hour of the last seven days | a whole hour without that |
//! | clock skew | the median of the last [`OFFSETS`] samples is beyond `clock_skew` | it is within half of that |
//! | unreadable | more than `unreadable_above_percent` of at least [`READ_MIN`] events in at least [`READ_LOOKS`] looks | at most half of that |
//!
//! The usual pause is the longest of its last [`DAYS`] active days; from [`DAYS_SURE`] on the second longest, so that one
//! outage teaches nothing. A sender that usually pauses for longer than [`STEADY`] times `silent_after` has no steady past: its
//! silence is no news. That keeps laptops out, which are off every night. A day without an event is no active day: after a
//! holiday the days before it count.
//!
//! An hour is judged if Hydrant has watched nearly all of it, knows the same hour of all seven days, and has at least
//! [`VOLUME_MIN`] events in each of them. Quieter hours are noise.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Settings;
use super::rule::{Change, Condition, time};
use crate::ledger::Sighting;

pub(super) const HOUR_MS: i64 = 3_600_000;

const DAY_HOURS: i64 = 24;

/// Hours whose volume is known.
const WEEK_HOURS: i64 = 7 * DAY_HOURS;

/// Active days whose longest pause is known, today among them.
const DAYS: usize = 8;

/// From so many days on one long pause is not usual.
const DAYS_SURE: usize = 4;

/// Usual pauses up to so many times `silent_after` are a steady past.
const STEADY: u64 = 4;

/// An hour counts if so much of it was watched.
const HOUR_WATCHED_MS: u64 = 55 * 60_000;

/// Events of an hour below which it says nothing.
const VOLUME_MIN: u64 = 100;

/// A sender that has just paused for so long is perhaps about to be silent: it does not send less.
const VOLUME_PAUSE_MS: u64 = 5 * 60_000;

/// Samples of a clock.
const OFFSETS: usize = 15;

/// Events that say something about a decoder ...
const READ_MIN: u64 = 100;

/// ... if they came in so many looks at least.
const READ_LOOKS: u32 = 10;

/// What is known of a sender. What begins anew with each run is not kept.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Sender {
    /// Watched time between the first and the last event.
    known_ms: u64,
    /// When an event came last.
    heard_at_ms: i64,
    /// By day, ascending: the longest pause that ended then, watched.
    pauses: VecDeque<(i64, u64)>,
    /// By hour of the week: the events of the last one that was watched; empty until there is one.
    hours: Vec<Option<u32>>,
    /// The hour that is counted, since 1970.
    hour_number: i64,
    /// What holds, and since when: the number of the episode, ms.
    active: BTreeMap<Condition, (u64, i64)>,
    /// How many episodes there were.
    episodes: u64,
    /// What was seen up to the last look.
    #[serde(skip)]
    seen: Sighting,
    /// Watched time since the last event.
    #[serde(skip)]
    quiet_ms: u64,
    #[serde(skip)]
    hour: Hour,
    /// Of clocks, in ms; positive if it is ahead.
    #[serde(skip)]
    offsets: VecDeque<i64>,
    #[serde(skip)]
    read: Read,
}

/// What was seen of the hour that is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Hour {
    events: u64,
    watched_ms: u64,
}

/// What decoders have made of the last events.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Read {
    looks: u32,
    events: u64,
    unreadable: u64,
}

/// A look at a sender.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tick {
    /// Watched since the last one.
    pub(super) elapsed_ms: u64,
    /// By the clock.
    pub(super) now_ms: i64,
    /// How late its events may be by design; `None` for as late as they like.
    pub(super) delay: Option<Duration>,
}

impl Sender {
    /// One that was never heard.
    pub(super) fn new(now_ms: i64) -> Self {
        Self { heard_at_ms: now_ms, ..Self::default() }
    }

    pub(super) fn heard_at_ms(&self) -> i64 {
        self.heard_at_ms
    }

    pub(super) fn is_in(&self, condition: Condition) -> bool {
        self.active.contains_key(&condition)
    }

    /// Takes what was seen since the start; returns what begins and what is over.
    pub(super) fn look(&mut self, seen: Sighting, tick: Tick, settings: &Settings) -> Vec<Change> {
        let was = std::mem::replace(&mut self.seen, seen);
        let events = seen.received.saturating_sub(was.received);
        let mut changes = Vec::new();
        changes.extend(self.look_at_silence(events, tick, settings));
        changes.extend(self.look_at_volume(events, tick, settings));
        if let Some((_, offset_ms)) = seen.skew.filter(|_| seen.skew != was.skew) {
            changes.extend(self.look_at_clock(offset_ms, tick, settings));
        }
        let unreadable = seen.unreadable.saturating_sub(was.unreadable);
        changes.extend(self.look_at_reading(events, unreadable, tick, settings));
        changes
    }

    fn look_at_silence(&mut self, events: u64, tick: Tick, settings: &Settings) -> Option<Change> {
        self.quiet_ms += tick.elapsed_ms;
        let (quiet_ms, heard_at_ms, usual_ms) = (self.quiet_ms, self.heard_at_ms, self.usual_pause_ms());
        if events == 0 {
            let limit_ms = self.silence_limit_ms(settings).filter(|limit_ms| quiet_ms > *limit_ms)?;
            return self.turn(Condition::Silent, true, tick, || {
                let figures = json!({
                    "last_event": time(heard_at_ms), "quiet_s": quiet_ms / 1_000, "limit_s": limit_ms / 1_000,
                    "usual_pause_s": usual_ms / 1_000,
                });
                (format!("nothing came for {} s", quiet_ms / 1_000), figures)
            });
        }
        let change = self.turn(Condition::Silent, false, tick, || {
            // By the clock: the silence may be older than this run.
            let quiet_s = (tick.now_ms - heard_at_ms).max(0) / 1_000;
            (format!("it sends again after {quiet_s} s"), json!({ "last_event": time(heard_at_ms), "quiet_s": quiet_s }))
        });
        self.note_pause(tick);
        change
    }

    /// Something came: learns from the pause before it.
    fn note_pause(&mut self, tick: Tick) {
        let pause_ms = if self.pauses.is_empty() { 0 } else { self.quiet_ms };
        self.known_ms += pause_ms;
        let today = tick.now_ms.div_euclid(DAY_HOURS * HOUR_MS);
        match self.pauses.back_mut() {
            Some((day, longest_ms)) if *day == today => *longest_ms = (*longest_ms).max(pause_ms),
            _ => self.pauses.push_back((today, pause_ms)),
        }
        if self.pauses.len() > DAYS {
            self.pauses.pop_front();
        }
        (self.quiet_ms, self.heard_at_ms) = (0, tick.now_ms);
    }

    fn usual_pause_ms(&self) -> u64 {
        let mut pauses: Vec<u64> = self.pauses.iter().map(|(_, longest_ms)| *longest_ms).collect();
        pauses.sort_unstable_by(|a, b| b.cmp(a));
        pauses.get(usize::from(pauses.len() >= DAYS_SURE)).copied().unwrap_or(0)
    }

    /// Whether enough is known to judge its silence, and that is no laptop's.
    fn silence_limit_ms(&self, settings: &Settings) -> Option<u64> {
        let (after_ms, usual_ms) = (ms(settings.silent_after), self.usual_pause_ms());
        let is_steady = after_ms > 0 && self.known_ms >= ms(settings.learning) && usual_ms <= STEADY * after_ms;
        is_steady.then(|| after_ms.max(2 * usual_ms))
    }

    fn look_at_volume(&mut self, events: u64, tick: Tick, settings: &Settings) -> Option<Change> {
        let number = tick.now_ms.div_euclid(HOUR_MS);
        let mut change = None;
        if number != self.hour_number {
            change = self.close_hour(tick, settings);
            // Nobody watched what lies between.
            (self.hour_number + 1..number).take(WEEK_HOURS as usize).for_each(|skipped| self.set_hour(skipped, None));
            (self.hour_number, self.hour) = (number, Hour::default());
        }
        self.hour.events += events;
        self.hour.watched_ms += tick.elapsed_ms;
        change
    }

    fn close_hour(&mut self, tick: Tick, settings: &Settings) -> Option<Change> {
        let (hour, number) = (self.hour, self.hour_number);
        let usual = self.usual_volume(number);
        let is_watched = hour.watched_ms >= HOUR_WATCHED_MS;
        self.set_hour(number, is_watched.then(|| u32::try_from(hour.events).unwrap_or(u32::MAX)));
        let usual = usual.filter(|_| is_watched)?;
        let percent = settings.volume_below_percent;
        let is_low = usual >= VOLUME_MIN && hour.events * 100 < usual * percent;
        let is_quiet = hour.events == 0 || self.quiet_ms > VOLUME_PAUSE_MS || self.is_in(Condition::Silent);
        if is_low && is_quiet {
            return None;
        }
        self.turn(Condition::VolumeDrop, is_low, tick, || {
            let figures = json!({
                "hour": time(number * HOUR_MS), "events": hour.events, "usual_events": usual, "below_percent": percent,
            });
            (format!("{} events in an hour that has at least {usual} on other days", hour.events), figures)
        })
    }

    /// The least that came in the same hour of each of the last seven days, if all are known.
    fn usual_volume(&self, hour: i64) -> Option<u64> {
        let of = |days: i64| *self.hours.get((hour - days * DAY_HOURS).rem_euclid(WEEK_HOURS) as usize)?;
        (1..=7).map(of).min().flatten().map(u64::from)
    }

    fn set_hour(&mut self, hour: i64, events: Option<u32>) {
        // Most addresses that are heard once, perhaps forged, never get so far.
        if self.hours.is_empty() && events.is_some_and(|events| events > 0) {
            self.hours = vec![None; WEEK_HOURS as usize];
        }
        if let Some(place) = self.hours.get_mut(hour.rem_euclid(WEEK_HOURS) as usize) {
            *place = events;
        }
    }

    fn look_at_clock(&mut self, offset_ms: i64, tick: Tick, settings: &Settings) -> Option<Change> {
        self.offsets.push_back(offset_ms);
        if self.offsets.len() > OFFSETS {
            self.offsets.pop_front();
        }
        let median_ms = self.median_offset_ms()?;
        let limit_ms = ms(settings.clock_skew) as i64;
        let bound_ms = if self.is_in(Condition::ClockSkew) { limit_ms / 2 } else { limit_ms };
        let is_behind = tick.delay.is_some_and(|delay| -median_ms > bound_ms + ms(delay) as i64);
        let is_off = limit_ms > 0 && (median_ms > bound_ms || is_behind);
        self.turn(Condition::ClockSkew, is_off, tick, || {
            let (seconds, side) = (median_ms.abs() / 1_000, if median_ms > 0 { "ahead of" } else { "behind" });
            let figures = json!({ "offset_s": median_ms / 1_000, "limit_s": limit_ms / 1_000 });
            (format!("its events are {seconds} s {side} their arrival"), figures)
        })
    }

    /// Once there are enough samples.
    fn median_offset_ms(&self) -> Option<i64> {
        let mut offsets: Vec<i64> = self.offsets.iter().copied().collect();
        offsets.sort_unstable();
        offsets.get(OFFSETS / 2).copied().filter(|_| offsets.len() == OFFSETS)
    }

    fn look_at_reading(&mut self, events: u64, unreadable: u64, tick: Tick, settings: &Settings) -> Option<Change> {
        self.read.looks += 1;
        self.read.events += events;
        self.read.unreadable += unreadable;
        if self.read.looks < READ_LOOKS || self.read.events < READ_MIN {
            return None;
        }
        let Read { events, unreadable, .. } = std::mem::take(&mut self.read);
        // What was decoded may have come before.
        let (percent, limit) = ((unreadable * 100 / events).min(100), settings.unreadable_above_percent);
        let bound = if self.is_in(Condition::Unreadable) { limit / 2 } else { limit };
        self.turn(Condition::Unreadable, limit > 0 && percent > bound, tick, || {
            let figures = json!({ "events": events, "unreadable": unreadable, "percent": percent, "limit_percent": limit });
            (format!("no decoder reads {percent} % of its events"), figures)
        })
    }

    /// A condition holds, or does not: what that changes, with what was found, for people and for programs.
    fn turn(&mut self, condition: Condition, holds: bool, tick: Tick, found: impl FnOnce() -> (String, Value)) -> Option<Change> {
        let active = self.active.get(&condition).copied();
        if holds == active.is_some() {
            return None;
        }
        let (episode, since_ms) = active.unwrap_or((self.episodes + 1, tick.now_ms));
        if holds {
            self.episodes = episode;
            self.active.insert(condition, (episode, since_ms));
        } else {
            self.active.remove(&condition);
        }
        let (text, figures) = found();
        Some(Change { condition, is_over: !holds, since_ms, episode, text, figures })
    }

    /// How it is.
    pub(super) fn report(&self, settings: &Settings) -> Value {
        let conditions: BTreeMap<&str, String> =
            self.active.iter().map(|(condition, (_, since_ms))| (condition.name(), time(*since_ms))).collect();
        json!({
            "last_event": time(self.heard_at_ms), "quiet_s": self.quiet_ms / 1_000, "known_s": self.known_ms / 1_000,
            "usual_pause_s": self.usual_pause_ms() / 1_000,
            // `null`: not known for long enough, or it pauses too much.
            "silent_after_s": self.silence_limit_ms(settings).map(|limit_ms| limit_ms / 1_000),
            // `null`: there is not all of a week.
            "usual_events_this_hour": self.usual_volume(self.hour_number),
            "clock_offset_s": self.median_offset_ms().map(|offset_ms| offset_ms / 1_000),
            "conditions": conditions,
        })
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 8)
}
