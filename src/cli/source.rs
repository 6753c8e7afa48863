//! The options that say whose events are looked at: those of a decoder, or of a source of a configuration. Then they have its
//! decoder, and pass its transforms and enrichments before rules see them.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use crate::cli::preparing::Preparing;
use crate::cli::{Failure, validate, warn};
use crate::detect::Rules;
use crate::error::{Diagnostic, Diagnostics};
use crate::pipeline::offline::{Fill, Offline};
use crate::pipeline::plan::{Changes, Plan};

#[derive(clap::Args)]
pub(super) struct OfSource {
    /// A configuration, for `--source`; and where events are in a bucket, for the `aws_s3` sink that knows its address and keys.
    #[arg(short, long)]
    pub(super) config: Option<PathBuf>,
    /// Look at events as at those of this source of the configuration: its decoder, transforms and enrichments before the rules,
    /// and what the configuration puts into rules. Without files of rules they are those of the configuration.
    #[arg(long, requires = "config")]
    source: Option<String>,
    /// Whether what is odd in the configuration was told: it is read again for older rules.
    #[arg(skip)]
    is_told: Cell<bool>,
}

impl OfSource {
    /// Whether a source is named.
    pub(super) fn is_given(&self) -> bool {
        self.source.is_some()
    }

    /// Rules of some files, and the stages in front of them.
    pub(super) fn load(&self, files: &[PathBuf], preparing: &Preparing, decoder: &str, fill: Fill) -> Result<(Rules, Offline), Failure> {
        if let (Some(config), Some(source)) = (&self.config, &self.source) {
            if preparing.is_given() {
                let mistake = Diagnostic::error(Path::new("--source"), 0, 0, "", "the configuration says what is put into its rules");
                let help = "`placeholders` and `pipelines` in the configuration, in the place of `--placeholders` and `--pipeline`";
                return Err(Diagnostics::from(mistake.help(help)).into());
            }
            return self.of_source(config, source, Some(files).filter(|files| !files.is_empty()), fill);
        }
        let (rules, diagnostics) = Rules::load(files, &preparing.read()?);
        if diagnostics.has_errors() {
            return Err(diagnostics.into());
        }
        warn(&diagnostics);
        let offline = Offline::filled(decoder, &rules, fill)?;
        Ok((rules, offline))
    }

    /// The stages without any rules, and the canonical fields.
    pub(super) fn stages(&self, decoder: &str) -> Result<Offline, Failure> {
        match (&self.config, &self.source) {
            (Some(config), Some(source)) => Ok(self.of_source(config, source, Some(&[]), Fill::Canonical)?.1),
            _ => Ok(Offline::new(decoder, &Rules::default())?),
        }
    }

    fn of_source(&self, config: &Path, source: &str, rules: Option<&[PathBuf]>, fill: Fill) -> Result<(Rules, Offline), Failure> {
        let changes = Changes { rules: rules.map(<[PathBuf]>::to_vec), sends_nothing: true, fill, ..Changes::default() };
        let mut plan = Plan::read_changed(config, &validate::text(config)?, &changes)?;
        // What is wrong with rules is for `rules lint` to tell.
        plan.warnings.0.retain(|warning| warning.file == config);
        if !self.is_told.replace(true) {
            warn(&plan.warnings);
        }
        Ok(Offline::of_source(plan, source)?)
    }
}
