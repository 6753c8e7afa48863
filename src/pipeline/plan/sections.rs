//! What the sections of a configuration say, each read on its own. Names that lead from one to another are checked where
//! they are followed: when the lines are compiled, and behind that.

use std::path::{Path, PathBuf};

use super::additions::{self, EnricherPlan};
use super::settings::{Top, default_data_dir};
use super::sinks::{self, SinkPlan};
use super::{Changes, routes, rules};
use crate::config::Section;
use crate::detect::Rules;
use crate::enrich::Folders;
use crate::error::Diagnostics;
use crate::pipeline::silence::SilencePlan;
use crate::route::Route;
use crate::transform::Transform;

/// The sections but for sources, which need all the others.
pub(super) struct Sections {
    /// What stands at the top; nothing if it has a mistake.
    pub(super) top: Option<Top>,
    pub(super) sinks: Vec<SinkPlan>,
    pub(super) routes: Vec<Route>,
    pub(super) enrichers: Vec<EnricherPlan>,
    pub(super) transforms: Vec<Transform>,
    pub(super) rules: Rules,
    pub(super) silences: SilencePlan,
}

impl Sections {
    /// Reads them, and the files that they name.
    pub(super) fn read(root: &Section, changes: &Changes, diagnostics: &mut Diagnostics) -> Self {
        let base = root.file().parent().unwrap_or_else(|| Path::new("."));
        let top = diagnostics.absorb(root.read::<Top>());
        let named = |list: fn(&Top) -> &Vec<PathBuf>| top.as_ref().map(list).cloned().unwrap_or_default();
        let mut sinks = sinks::read(root, diagnostics);
        sinks::change(root, changes, &mut sinks, diagnostics);
        let routes = routes::read(root, &sinks, diagnostics);
        let paths = changes.rules.clone().unwrap_or_else(|| rules::paths(root, &named(|top| &top.rules), base, diagnostics));
        let data = top.as_ref().map_or_else(default_data_dir, |top| top.data_dir.clone());
        let enrichers = additions::read(root, Folders { base, data: &data }, changes.sends_nothing, diagnostics);
        let transforms = additions::read_transforms(root, diagnostics);
        let preparation = rules::preparation(root, &named(|top| &top.pipelines), base, diagnostics);
        let (rules, mut found) = Rules::load(&paths, &preparation);
        diagnostics.0.append(&mut found.0);
        let silences = SilencePlan::new(&data, diagnostics);
        Self { top, sinks, routes, enrichers, transforms, rules, silences }
    }
}
