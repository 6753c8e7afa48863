//! The routes: which events go to which destinations.

use serde::Deserialize;

use super::in_file;
use super::sinks::SinkPlan;
use crate::config::Section;
use crate::error::{Diagnostics, nearest};
use crate::limits::DESTINATIONS_MAX;
use crate::route::Route;
use crate::vrl::Condition;

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::pipeline) struct RouteConfig {
    /// VRL condition; without it the route takes everything.
    when: Option<String>,
    /// Names of sinks.
    to: Vec<String>,
}

pub(super) fn read(root: &Section, sinks: &[SinkPlan], diagnostics: &mut Diagnostics) -> Vec<Route> {
    let everywhere = (0..sinks.len()).fold(0u64, |bits, index| bits | 1 << (index % DESTINATIONS_MAX));
    let Some(section) = root.child("routes") else { return vec![Route { when: None, to: everywhere }] };
    let declared: Vec<String> = root.child("sinks").map(|s| s.children().into_iter().map(|(name, _)| name).collect()).unwrap_or_default();
    let mut routes = Vec::new();
    if section.items().is_empty() {
        // Nothing would be delivered, which nobody means.
        let message = format!("expected a list of routes, found {}", section.node().describe());
        diagnostics.push(section.error(message).help("routes: [ { to: [NAME] } ]; without `routes` everything goes to every sink"));
    }
    for section in section.items() {
        let Some(config) = diagnostics.absorb(section.read::<RouteConfig>()) else { continue };
        let mut to = 0;
        for name in &config.to {
            match sinks.iter().position(|sink| *sink.name == **name) {
                Some(index) => to |= 1 << (index % DESTINATIONS_MAX),
                // A sink with mistakes of its own is reported there.
                None if declared.contains(name) => {}
                None => {
                    let place = section.child("to").unwrap_or_else(|| section.clone());
                    let mut diagnostic = place.error(format!("there is no sink `{name}`"));
                    diagnostic.help = nearest(name, declared.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
                    diagnostics.push(diagnostic);
                }
            }
        }
        let when = config.when.as_deref().and_then(|source| {
            let place = section.child("when")?;
            let condition = Condition::compile(source, place.file(), place.node().line, place.path());
            diagnostics.absorb(condition.map_err(|mistakes| in_file(mistakes, &place)))
        });
        routes.push(Route { when, to });
    }
    routes
}
