//! What the rule engine is held against: the full scan of the same rules, and `rsigma`.
//!
//! [`Asked`] is rules behind the `json` decoder, all of them in one matcher; a [`Shard`] asks event after event with the same
//! memory, as a shard of the program does. [`trial`] makes rules and events from bytes and asks all three. Where `rsigma` has to
//! be of another opinion, [`DIFFERENCES`] says why. The package of the fuzz targets has this file too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use hydrant::decode::{Compiled, DECODERS, Instance, Schema};
use hydrant::detect::sigma::{LogSource, SigmaRule, load};
use hydrant::detect::{Detector, Hit, Scratch, Vocabulary};
use hydrant::event::{Chunk, Events, Fields, Sender, Span};
use hydrant::matcher::Expr;
use rsigma_eval::event::JsonEvent;
use serde_json::Value;

use crate::generated::{self, Choices};

/// Events of a chunk: rows have a slot for each of the rules' fields.
const CHUNK_EVENTS: usize = 250;

/// Events of a chunk in a trial, so that it has several.
const TRIAL_CHUNK_EVENTS: usize = 3;

/// JSON whose keys are the names in the rules, from every log source.
struct AnyJson;

impl Vocabulary for AnyJson {
    fn carries(&self, _: &LogSource) -> bool {
        true
    }

    fn resolve(&self, field: &str) -> Option<String> {
        Some(format!("%native.{field}"))
    }

    fn names(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Rules in one detector behind the `json` decoder.
pub struct Asked {
    pub rules: Vec<SigmaRule>,
    pub detector: Detector,
    compiled: Compiled,
    pub width: usize,
}

/// What asking needs, kept from event to event.
pub struct Shard {
    decoder: Instance,
    scratch: Scratch,
    events: Events,
}

impl Asked {
    pub fn new(rules: Vec<SigmaRule>) -> Self {
        let mut fields = Fields::default();
        let (detector, diagnostics) = Detector::new(&rules, &AnyJson, &mut fields);
        assert!(diagnostics.0.is_empty(), "{diagnostics}");
        let json = DECODERS.iter().find(|kind| kind.name() == "json").expect("the decoder");
        let compiled = Compiled::new(*json, &Schema::default(), &mut fields, 0).expect("a schema without names");
        Self { rules, detector, compiled, width: fields.width() }
    }

    pub fn shard(&self) -> Shard {
        Shard { decoder: self.compiled.instance(), scratch: self.detector.scratch(), events: Events::default() }
    }

    /// The rules that hold for each event, by the index and, if wanted, by the full scan.
    pub fn decide(&self, shard: &mut Shard, events: &[impl AsRef<[u8]>], with_scan: bool) -> [Vec<BTreeSet<u32>>; 2] {
        let mut decided = [Vec::new(), Vec::new()];
        let sender = Arc::new(Sender { source: "test".into(), source_index: 0 });
        for lines in events.chunks(CHUNK_EVENTS) {
            let mut frames = Vec::new();
            let mut bytes = Vec::new();
            for line in lines {
                frames.push(Span::new(bytes.len(), bytes.len() + line.as_ref().len()));
                bytes.extend_from_slice(line.as_ref());
            }
            let chunk = Chunk::new(bytes, frames, sender.clone(), 0);
            let Shard { decoder, scratch, events } = &mut *shard;
            events.reset(&chunk, self.width);
            decoder.decode(&chunk, 0..lines.len(), events);
            let rows = 0..lines.len() as u32;
            let mut hits = [Vec::new(), Vec::new()];
            self.detector.detect(&chunk, events, rows.clone(), scratch, &mut hits[0]);
            if with_scan {
                self.detector.full_scan(&chunk, events, rows, &mut hits[1]);
            }
            for (hits, decided) in hits.into_iter().zip(&mut decided) {
                let first = decided.len();
                decided.resize(first + lines.len(), BTreeSet::new());
                for Hit { row, rule } in hits {
                    assert!(decided[first + row as usize].insert(rule), "a rule hits once an event");
                }
            }
        }
        decided
    }

    /// The rules that hold for each event, if index and full scan agree; otherwise the first event where they do not.
    pub fn agreed(&self, shard: &mut Shard, events: &[impl AsRef<[u8]>]) -> Result<Vec<BTreeSet<u32>>, String> {
        let [indexed, scanned] = self.decide(shard, events, true);
        let titles = |rules: &BTreeSet<u32>| rules.iter().map(|rule| self.rules[*rule as usize].title.clone()).collect::<Vec<_>>();
        match indexed.iter().zip(&scanned).position(|(indexed, scanned)| indexed != scanned) {
            None => Ok(indexed),
            Some(at) => Err(format!(
                "event {at}: the index says {:?}, the full scan {:?}, for {}",
                titles(&indexed[at]),
                titles(&scanned[at]),
                String::from_utf8_lossy(events[at].as_ref())
            )),
        }
    }
}

/// Rules in `rsigma`.
struct Peer {
    engine: rsigma_eval::Engine,
    /// The rules that it has too, by id.
    known: BTreeMap<String, u32>,
}

impl Peer {
    /// The rules of a text of which ours are `rules`; neither has to take all of them.
    fn new(text: &str, rules: &[SigmaRule]) -> Self {
        let mut engine = rsigma_eval::Engine::new();
        let mut known = BTreeMap::new();
        let parsed = rsigma_parser::parse_sigma_yaml(text).expect("its errors are in the collection");
        let refused: BTreeSet<usize> = engine.add_rules(&parsed.rules).into_iter().map(|(index, _)| index).collect();
        let is_narrowed = parsed.filters.iter().all(|filter| engine.apply_filter(filter).is_ok());
        let is_known = |id: &str| {
            let theirs = parsed.rules.iter().position(|rule| rule.id.as_deref() == Some(id));
            theirs.is_some_and(|index| !refused.contains(&index))
        };
        // A filter that only one of them has changes what the rules mean.
        let are_ours = parsed.filters.is_empty() || rules.iter().any(|rule| !rule.filters.is_empty());
        if is_narrowed && are_ours && text.matches("\nfilter:").count() == parsed.filters.len() {
            known.extend(rules.iter().zip(0..).filter(|(rule, _)| is_known(&rule.id)).map(|(rule, index)| (rule.id.clone(), index)));
        }
        Self { engine, known }
    }

    /// The rules that hold, of those that both have.
    fn decide(&self, event: &Value) -> BTreeSet<u32> {
        let hits = self.engine.evaluate(&JsonEvent::borrow(event));
        hits.into_iter().filter_map(|hit| self.known.get(&hit.header.rule_id?).copied()).collect()
    }
}

/// A rule and an event on which the two differ.
pub struct Pair<'a> {
    /// The documents of the rule and of the filter, if there is one.
    text: &'a str,
    condition: &'a Expr<String>,
    event: &'a Value,
}

impl Pair<'_> {
    fn has(&self, modifier: &str) -> bool {
        self.text.contains(modifier)
    }

    fn has_any(&self, modifiers: &[&str]) -> bool {
        modifiers.iter().any(|modifier| self.has(modifier))
    }

    /// Whether a value of the event, however deep, is such a one.
    fn any_value(&self, is_it: &dyn Fn(&Value) -> bool) -> bool {
        fn any(value: &Value, is_it: &dyn Fn(&Value) -> bool) -> bool {
            is_it(value)
                || match value {
                    Value::Array(items) => items.iter().any(|item| any(item, is_it)),
                    Value::Object(members) => members.values().any(|member| any(member, is_it)),
                    _ => false,
                }
        }
        any(self.event, is_it)
    }

    fn any_text(&self, is_it: &dyn Fn(&str) -> bool) -> bool {
        self.any_value(&|value| value.as_str().is_some_and(is_it))
    }

    /// Whether the rule has a wildcard, or what looks like one.
    fn has_wildcards(&self) -> bool {
        self.text.lines().any(|line| !line.trim_start().starts_with("condition:") && line.contains(['*', '?']))
    }
}

/// Why `rsigma` 0.23 decides otherwise.
pub struct Difference {
    pub reason: &'static str,
    /// Whether that may be why.
    explains: fn(&Pair<'_>) -> bool,
}

/// Where `rsigma` 0.23 is wrong, has a limit, or another opinion than `docs/reference/sigma.md`.
pub const DIFFERENCES: [Difference; 17] = [
    Difference {
        reason: "it does not anchor wildcards inside `startswith` and `endswith`",
        explains: |pair| pair.has_wildcards() && pair.has_any(&["|startswith", "|endswith"]),
    },
    Difference {
        reason: "its wildcards end at line ends",
        explains: |pair| pair.has_wildcards() && pair.any_text(&|text| text.contains('\n')),
    },
    Difference {
        reason: "its `base64offset` keeps a last character that depends on what follows",
        explains: |pair| pair.has("|base64offset"),
    },
    Difference {
        reason: "it folds letters whose lower case is longer, depends on what follows, or is shared",
        explains: |pair| {
            let is_odd = |text: &str| text.contains(['İ', 'Σ', 'σ', 'ς', 'ſ']);
            is_odd(pair.text) || is_odd(&pair.event.to_string())
        },
    },
    Difference { reason: "JSON null does not exist for it", explains: |pair| pair.has("|exists") && pair.any_value(&Value::is_null) },
    Difference {
        reason: "a list with null in it is not null for it",
        explains: |pair| {
            let has_null = |value: &Value| value.as_array().is_some_and(|items| items.contains(&Value::Null));
            pair.has(": null")
                && pair.any_value(&|value| value.as_array().is_some_and(|items| items.iter().any(|item| item.is_null() || has_null(item))))
        },
    },
    Difference {
        reason: "it compares numbers as 64-bit floats",
        explains: |pair| {
            let is_long = |text: &str| text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 15);
            is_long(pair.text) || is_long(&pair.event.to_string())
        },
    },
    Difference {
        reason: "it writes numbers anew before it compares them as text",
        explains: |pair| pair.any_value(&|value| value.is_number() && value.as_i64().is_none()),
    },
    Difference {
        reason: "it takes text for a number that is none in JSON",
        explains: |pair| pair.any_text(&|text| text.parse::<f64>().is_ok() && text.parse::<i64>().is_err()),
    },
    Difference {
        reason: "1 and yes are true for it, 0 and no are false",
        explains: |pair| {
            pair.has_any(&["true", "false"]) && pair.any_text(&|text| ["0", "1", "no", "yes"].contains(&text.to_lowercase().as_str()))
        },
    },
    Difference {
        reason: "it looks for keywords in each text alone, and not in keys and numbers; its wildcards span the text",
        explains: |pair| has_keyword(pair.condition),
    },
    Difference { reason: "it exchanges hyphens only", explains: |pair| pair.has("|windash") },
    Difference {
        reason: "it compares lists as a whole, and is happy with a field that is missing under `neq`",
        explains: |pair| pair.has("|fieldref"),
    },
    Difference {
        reason: "it reads other forms of time",
        explains: |pair| pair.has_any(&["|minute", "|hour", "|day", "|week", "|month", "|year"]),
    },
    Difference { reason: "its placeholders are the event's fields", explains: |pair| pair.has("|expand") },
    Difference {
        reason: "IPv4 written as IPv6 is in no network of IPv4 for it",
        explains: |pair| pair.has("|cidr") && pair.any_text(&|text| text.to_lowercase().starts_with("::ffff:")),
    },
    Difference {
        reason: "it goes through lists without being told, and cannot be told",
        explains: |pair| pair.has("t[].n") || (pair.has("i.j") && pair.event["i"].is_array()),
    },
];

fn has_keyword(expr: &Expr<String>) -> bool {
    match expr {
        Expr::All(items) | Expr::Any(items) => items.iter().any(has_keyword),
        Expr::Not(inner) => has_keyword(inner),
        Expr::Keyword(_) => true,
        Expr::Field(..) | Expr::Fields { .. } => false,
    }
}

/// What trials came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Pairs of a rule and an event that index and full scan agree on.
    pub agreed: usize,
    /// Those of them that match.
    pub hits: usize,
    /// Pairs that `rsigma` decides as we do.
    pub same: usize,
    /// Those of them that match.
    pub same_hits: usize,
    /// Pairs that it decides otherwise, by difference.
    pub explained: [usize; DIFFERENCES.len()],
}

/// Rules and events made from `input`: all rules in one matcher, all events by one shard. The error shows a pair on which the
/// index differs from the full scan, or `rsigma` for no known reason.
pub fn trial(input: &[u8], tally: &mut Tally) -> Result<(), String> {
    let documents = generated::documents(&mut Choices(input));
    let text = documents.concat();
    let loaded = load(Path::new("rules.yml"), &text, &generated::placeholders());
    let peer = Peer::new(&text, &loaded.rules);
    let asked = Asked::new(loaded.rules);
    let mut shard = asked.shard();
    // Events are made from the other end of the same bytes: so there is enough for both, and neither moves the other.
    let backwards: Vec<u8> = input.iter().rev().copied().collect();
    let mut choices = Choices(&backwards);
    let events: Vec<Vec<u8>> = (0..1 + choices.below(12)).map(|_| generated::event(&mut choices, &asked.rules)).collect();
    let mut first = Vec::new();
    for events in events.chunks(TRIAL_CHUNK_EVENTS) {
        let decided = asked.agreed(&mut shard, events).map_err(|difference| format!("{difference}\n{text}"))?;
        for (ours, event) in decided.iter().zip(events) {
            tally.agreed += asked.rules.len();
            tally.hits += ours.len();
            // Not UTF-8, or half a character: rsigma gets no event then.
            let Ok(event) = serde_json::from_slice(event) else { continue };
            let theirs = peer.decide(&event);
            for rule in peer.known.values() {
                if ours.contains(rule) == theirs.contains(rule) {
                    tally.same += 1;
                    tally.same_hits += usize::from(ours.contains(rule));
                    continue;
                }
                let rule = &asked.rules[*rule as usize];
                let text = of_rule(rule, &documents);
                let pair = Pair { text: &text, condition: &rule.condition, event: &event };
                match DIFFERENCES.iter().position(|difference| (difference.explains)(&pair)) {
                    Some(reason) => tally.explained[reason] += 1,
                    None => return Err(format!("{} says rsigma to {event}\n{text}", if ours.is_empty() { "yes" } else { "no" })),
                }
            }
        }
        first.extend(decided);
    }
    decides_the_same_again(&asked, &mut shard, &events, &first).map_err(|difference| format!("{difference}\n{text}"))
}

/// What values have decided is remembered with them: the same events later, and one and one of them in turn, change nothing.
fn decides_the_same_again(asked: &Asked, shard: &mut Shard, events: &[Vec<u8>], first: &[BTreeSet<u32>]) -> Result<(), String> {
    let count = events.len();
    for at in (0..count).rev().chain((0..count).flat_map(|at| [at, 0])) {
        let [again, _] = asked.decide(shard, &events[at..=at], false);
        if again[0] != first[at] {
            return Err(format!("{:?} and later {:?}, for {}", first[at], again[0], String::from_utf8_lossy(&events[at])));
        }
    }
    Ok(())
}

/// The document of a rule, with the filter.
fn of_rule(rule: &SigmaRule, documents: &[String]) -> String {
    let is_part = |text: &&String| text.contains(&rule.id) || text.contains("\nfilter:");
    documents.iter().filter(is_part).map(String::as_str).collect()
}
