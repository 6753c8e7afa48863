//! `demo`: a generator of real-looking FortiGate, PAN-OS, ASA and AWS WAF logs, with an intrusion in them.
//!
//! Out: lines as those products write them, at a steady rate, and once the scripted attack of
//! `traffic::Attack`. Needs no network, no account, no file. Nothing waits outside: what it made before a stop
//! is submitted before it ends, so every generated event is counted.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::{Intake, Messages, Source, SourceKind};
use crate::clock;
use crate::config::{Section, schema_of};
use crate::error::{Diagnostics, Error};
use crate::event::Span;
use crate::task::{LocalFuture, Stop};
use crate::traffic::{Attack, Kind, Traffic};

pub(super) struct Demo;

const SAMPLE: &str = r#"
type: demo
rate: 500            # benign events a second
attack: true         # one intrusion, 20 s long, in the logs of all products
kinds: [palo_alto, fortigate, cisco_asa, aws_waf]
seed: 1              # the same seed makes the same lines
"#;

impl SourceKind for Demo {
    fn name(&self) -> &'static str {
        "demo"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn schema(&self) -> schemars::Schema {
        schema_of::<Config>()
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn Source>, Diagnostics> {
        let config: Config = section.read()?;
        let mut diagnostics = Diagnostics::new();
        let mut kinds = Vec::new();
        for text in &config.kinds {
            match text.parse::<Kind>() {
                Ok(kind) => kinds.push(kind),
                Err(error) => diagnostics.push(section.child("kinds").unwrap_or_else(|| section.clone()).error(error.to_string())),
            }
        }
        diagnostics.into_result(Arc::new(Configured { rate: config.rate, attack: config.attack, seed: config.seed, kinds }))
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Benign events a second.
    rate: u32,
    /// Whether the attack is in it.
    attack: bool,
    /// Products.
    kinds: Vec<String>,
    /// Start of the random numbers.
    seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        let kinds = [Kind::PaloAlto, Kind::Fortigate, Kind::CiscoAsa, Kind::AwsWaf];
        Self { rate: 500, attack: true, kinds: kinds.iter().map(ToString::to_string).collect(), seed: 1 }
    }
}

struct Configured {
    rate: u32,
    attack: bool,
    seed: u64,
    kinds: Vec<Kind>,
}

/// Time between two bursts: short enough to look steady.
const TICK: Duration = Duration::from_millis(50);

impl Source for Configured {
    fn framing(&self) -> &'static str {
        "newline"
    }

    fn is_sharded(&self) -> bool {
        false
    }

    fn run(self: Arc<Self>, intake: Rc<dyn Intake>, stop: Stop) -> LocalFuture<'static, Result<(), Error>> {
        Box::pin(async move { self.generate(&*intake, &stop).await })
    }
}

impl Configured {
    async fn generate(&self, intake: &dyn Intake, stop: &Stop) -> Result<(), Error> {
        let seeds = self.kinds.iter().zip(self.seed..);
        let mut traffic: Vec<Traffic> = seeds.map(|(kind, seed)| Traffic::new(*kind, seed)).collect();
        let start_ms = clock::now_ms();
        let mut attack = self.attack.then(|| Attack::new(start_ms, self.seed));
        let mut ticks = tokio::time::interval(TICK);
        let mut made: u64 = 0;
        while !stop.is_set() {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.wait() => break,
            }
            let now_ms = clock::now_ms();
            let due = u64::from(self.rate) * u64::try_from(now_ms - start_ms).unwrap_or(0) / 1000;
            let mut bytes = Vec::new();
            while made < due {
                let Some(next) = traffic.get_mut((made % self.kinds.len().max(1) as u64) as usize) else { break };
                next.next(now_ms, &mut bytes);
                bytes.push(b'\n');
                made += 1;
            }
            while let Some((_, line)) = attack.as_mut().and_then(|attack| attack.step(now_ms)) {
                bytes.extend_from_slice(line);
                bytes.push(b'\n');
            }
            let spans = vec![Span::new(0, bytes.len())];
            if intake.submit(Messages { bytes, spans, ..Messages::default() }).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}
