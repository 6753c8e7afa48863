//! Sigma rules as any text: they are read without a panic in bounded time, and whatever rules come out, the index finds the same
//! hits as the full scan in events made for them. The target `detection` makes rules that mean something.
#![no_main]

use std::path::Path;

use hydrant::detect::sigma::load;
use hydrant_fuzz::generated::{event, placeholders};
use hydrant_fuzz::oracles::Asked;
use hydrant_fuzz::{Choices, seed};
use libfuzzer_sys::fuzz_target;

/// Events that rules are asked about.
const EVENTS: usize = 4;

fuzz_target!(init: seed(seeds()), |input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let loaded = load(Path::new("rule.yml"), text, &placeholders());
    for rule in &loaded.rules {
        assert!(!rule.id.is_empty() && rule.hash.len() == 64);
    }
    for diagnostic in &loaded.diagnostics.0 {
        assert!(!diagnostic.to_string().is_empty());
    }
    if loaded.rules.is_empty() {
        return;
    }
    let asked = Asked::new(loaded.rules);
    // The text serves as choices, too.
    let mut choices = Choices(input);
    let events: Vec<Vec<u8>> = (0..EVENTS).map(|_| event(&mut choices, &asked.rules)).collect();
    if let Err(difference) = asked.agreed(&mut asked.shard(), &events) {
        panic!("{difference}");
    }
});

/// Rules that hydrant ships.
fn seeds() -> Vec<Vec<u8>> {
    hydrant::detect::pack().iter().map(|(_, text)| text.as_bytes().to_vec()).collect()
}
