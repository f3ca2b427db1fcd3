//! `platform plugin bench`: what a component costs, beside the one that is the measure for its slot.
//!
//! Owns what is measured and how it reads. Invariant: both are asked the same, in turns, in the same process, so that their ratio means
//! more than the machine does.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use platform_base::clock;
use platform_capability::{
    Call, CallContext, SlotKind,
    kv::{Condition, Expiry},
};
use platform_dataplane::SlotName;
use platform_runtime::Mode;
use serde_json::{Map, Value, json};

use super::{
    ask,
    cases::{Case, Cases},
    stage::Stage,
    test::{Reach, Subject},
};
use crate::cli::{
    Context,
    failure::{Exit, Failure},
    input,
    output::show,
    quantity::{human_bytes, positive_duration},
};

/// What components for a slot are measured by: a shipped one, and its settings.
const REFERENCES: [(SlotKind, &str, &str); 3] = [
    (SlotKind::AuthPolicy, "auth-scopes", r#"{"default": "deny", "rules": [{"effect": "allow", "paths": ["/**"]}]}"#),
    (SlotKind::RouterPolicy, "router-round-robin", "{}"),
    (SlotKind::KvStore, "kv-memory", "{}"),
];
/// Rounds before anything is measured: instances are made, caches are filled.
const WARM: usize = 50;
/// Time for one call.
const TIME: Duration = Duration::from_secs(5);
/// Size of a value that is written and read.
const VALUE: [u8; 100] = [7; 100];

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Folder of the project, which is built first; or a component.
    #[arg(value_name = "FOLDER|FILE", default_value = ".")]
    what: PathBuf,
    /// The cases whose questions are asked; `cases.toml` of the project when not given.
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// A component to compare with, instead of the shipped one for the slot; asked the same with the same settings.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// How long both are asked.
    #[arg(long = "for", value_name = "DURATION", value_parser = positive_duration, default_value = "2s")]
    time: Duration,
    #[command(flatten)]
    reach: Reach,
}

/// One component and what its calls took.
struct Measured {
    name: String,
    size: usize,
    stage: Stage,
    /// Questions, each with the context that it is asked in.
    questions: Vec<(Case, Call)>,
    took: Vec<Duration>,
}

impl Bench {
    /// Asks both and prints what it took.
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        // What is shipped is measured.
        let subject = Subject { traced: None, ..Subject::of(&self.what, self.cases.as_deref(), &self.reach)? };
        let against = match &self.against {
            Some(file) => Some(self.other(file, &subject)?),
            None => reference(&subject, &self.reach)?,
        };
        let progress = context.output.progress("compiling and measuring".to_owned());
        let compared = Box::pin(compare(&subject, against, &self.reach, self.time)).await?;
        drop(progress);
        tell(context, &subject.shown, &compared)?;
        Ok(Exit::Done)
    }

    /// The component that the user compares with, and its settings.
    fn other(&self, file: &Path, own: &Subject) -> Result<Measure, Failure> {
        let other = Subject { cases: own.cases.clone(), ..Subject::of(file, None, &self.reach)? };
        if other.slot != own.slot {
            let message = format!("`{}` is for `{}`, not for `{}`", other.shown, other.slot, own.slot);
            return Err(Failure::usage(message));
        }
        Ok((other, own.cases.settings.clone()))
    }
}

/// A component with the settings that it is asked with.
type Measure = (Subject, Map<String, Value>);

/// The component that others for a slot are measured by, to be asked what this one is asked, and its settings.
pub(super) fn reference(own: &Subject, reach: &Reach) -> Result<Option<Measure>, Failure> {
    let slot = own.slot;
    let Some((_, name, settings)) = REFERENCES.iter().find(|(kind, ..)| *kind == slot) else { return Ok(None) };
    let folder = reach.plugins_dir.clone().or_else(crate::place::default_plugins_dir);
    let Some(file) = folder.map(|folder| folder.join(name).with_extension("wasm")).filter(|file| file.is_file()) else {
        let message = format!(
            "`{name}`, which components for `{slot}` are measured by, is not there; name the directory of the shipped components with `--plugins-dir`"
        );
        return Err(Failure::usage(message));
    };
    let settings = serde_json::from_str(settings).map_err(|error| Failure::usage(error.to_string()))?;
    let (shown, grants, cases) = ((*name).to_owned(), vec!["requested".to_owned()], own.cases.clone());
    Ok(Some((Subject { shown, grants, cases, ..Subject::of(&file, None, reach)? }, settings)))
}

/// What was measured of a component, and of the one that it is compared with.
pub(super) struct Compared {
    slot: SlotKind,
    mode: Mode,
    pub(super) own: Figures,
    pub(super) other: Option<(String, Figures)>,
}

/// Asks both in turns.
pub(super) async fn compare(
    subject: &Subject, against: Option<(Subject, Map<String, Value>)>, reach: &Reach, time: Duration,
) -> Result<Compared, Failure> {
    let mut own = Measured::new(subject, &subject.cases.settings, reach).await?;
    let mut other = match against {
        Some((other, settings)) => Some(Measured::new(&other, &settings, reach).await?),
        None => None,
    };
    let begun = clock::now();
    for _ in 0..WARM {
        own.round().await?;
        if let Some(other) = &mut other {
            other.round().await?;
        }
        if clock::now().saturating_duration_since(begun) > time {
            break;
        }
    }
    own.took.clear();
    other.iter_mut().for_each(|other| other.took.clear());
    let begun = clock::now();
    while clock::now().saturating_duration_since(begun) < time {
        own.round().await?;
        if let Some(other) = &mut other {
            other.round().await?;
        }
    }
    let mode = own.stage.plugin.mode.unwrap_or_else(|| subject.slot.mode());
    let figures = own.figures();
    own.stage.trial.end().await;
    let other = match other {
        Some(mut other) => {
            let figures = (other.name.clone(), other.figures());
            other.stage.trial.end().await;
            Some(figures)
        }
        None => None,
    };
    Ok(Compared { slot: subject.slot, mode, own: figures, other })
}

impl Measured {
    async fn new(subject: &Subject, settings: &Map<String, Value>, reach: &Reach) -> Result<Self, Failure> {
        let failed = |why: String| Failure::new(Exit::No, "NOT_BOUND", format!("`{}`: {why}", subject.shown));
        let mut stage = subject.stage(reach).await?;
        stage.settle(settings).await.map_err(failed)?;
        let slot = stage.plugin.slot;
        let mut questions = Vec::new();
        for case in questions_of(&subject.cases, slot)? {
            let place = stage.place(&case).await.map_err(failed)?;
            let call = ask::call(&case, &place);
            questions.push((case, call));
        }
        let size = subject.component.len();
        Ok(Self { name: subject.shown.clone(), size, stage, questions, took: Vec::new() })
    }

    /// Asks everything once.
    async fn round(&mut self) -> Result<(), Failure> {
        let plane = self.stage.trial.plane();
        for (case, call) in &self.questions {
            let call: Call = Arc::new(CallContext { deadline: clock::now() + TIME, ..call.as_ref().clone() });
            let begun = clock::now();
            let said = if self.stage.plugin.slot == SlotKind::KvStore {
                let put = plane.kv().put(&call, "key", &VALUE, Condition::Always, Expiry::Never).await;
                let read = plane.kv().get(&call, "key").await;
                put.and(read.map(|_| 0)).map(drop).map_err(|error| error.to_string())
            } else {
                ask::ask(plane, self.stage.plugin.slot, &call, case).await.map(drop)
            };
            self.took.push(clock::now().saturating_duration_since(begun));
            said.map_err(|why| {
                Failure::new(Exit::No, "NOT_ANSWERED", format!("`{}`: case `{}`: {why}", self.name, case.name))
            })?;
        }
        Ok(())
    }

    /// Names, values and units of what was measured.
    fn figures(&mut self) -> Figures {
        self.took.sort_unstable();
        let at = |permille: usize| {
            let place = (self.took.len().saturating_sub(1)) * permille / 1000;
            self.took.get(place).copied().unwrap_or_default()
        };
        let status = self.stage.trial.plane().slot_status(&SlotName::plain(self.stage.plugin.slot));
        let memory = status.and_then(|status| Some(status.entries.first()?.memory_bytes)).unwrap_or_default();
        Figures { calls: self.took.len(), p50: at(500), p99: at(990), memory, size: self.size }
    }
}

/// What is asked: the questions of cases that do not bring settings of their own.
fn questions_of(cases: &Cases, slot: SlotKind) -> Result<Vec<Case>, Failure> {
    if slot == SlotKind::KvStore {
        return Ok(vec![Case::named("a put and a get")]);
    }
    let questions: Vec<Case> = cases.cases.iter().filter(|case| case.settings.is_none()).cloned().collect();
    if questions.is_empty() {
        let message = format!(
            "there is nothing to ask a component for `{slot}`: `bench` asks what `cases.toml` asks decisions, and writes and reads keys of a `kv.store`"
        );
        return Err(Failure::usage(message));
    }
    Ok(questions)
}

/// What is compared.
const WHAT: [&str; 4] = ["p50", "p99", "memory", "size"];

/// What was measured.
pub(super) struct Figures {
    pub(super) calls: usize,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) memory: usize,
    pub(super) size: usize,
}

fn us(took: Duration) -> f64 {
    took.as_secs_f64() * 1e6
}

impl Figures {
    fn to_json(&self, component: &str) -> Value {
        json!({
            "component": component,
            "calls": self.calls,
            "p50Us": us(self.p50),
            "p99Us": us(self.p99),
            "memoryBytes": self.memory,
            "sizeBytes": self.size,
        })
    }

    fn numbers(&self) -> [f64; 4] {
        let bytes = |bytes: usize| u32::try_from(bytes).map_or(f64::MAX, f64::from);
        [us(self.p50), us(self.p99), bytes(self.memory), bytes(self.size)]
    }

    fn words(&self) -> [String; 4] {
        let us = |took: Duration| format!("{:.1} µs", us(took));
        let bytes = |bytes: usize| human_bytes(u64::try_from(bytes).unwrap_or(u64::MAX));
        [us(self.p50), us(self.p99), bytes(self.memory), bytes(self.size)]
    }
}

fn tell(context: &Context, name: &str, compared: &Compared) -> Result<(), Failure> {
    let Compared { slot, mode, own, other } = compared;
    let mode = format!("{mode:?}").to_lowercase();
    let name = input::shown(Path::new(name)).display().to_string();
    let ratios = other.as_ref().map(|(_, other)| {
        let pairs = own.numbers().into_iter().zip(other.numbers());
        pairs.map(|(own, other)| if other > 0.0 { own / other } else { 0.0 }).collect::<Vec<_>>()
    });
    if !context.output.is_human() {
        let ratio = ratios.map(|ratios| {
            Map::from_iter(WHAT.iter().zip(ratios).map(|(what, ratio)| ((*what).to_owned(), json!(ratio))))
        });
        return context.output.value(&json!({
            "slot": slot.as_str(),
            "mode": mode,
            "measured": own.to_json(&name),
            "reference": other.as_ref().map(|(name, figures)| figures.to_json(name)),
            "ratio": ratio,
        }));
    }
    let mut headings = vec![format!("{slot}, {mode}"), name];
    headings.extend(other.iter().flat_map(|(name, _)| [name.clone(), "ratio".to_owned()]));
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let mut table = context.output.table(&headings);
    for (place, (what, value)) in WHAT.iter().zip(own.words()).enumerate() {
        let mut row = vec![(*what).to_owned(), value];
        if let Some((_, other)) = other {
            row.extend(other.words().into_iter().nth(place));
            row.extend(ratios.as_ref().and_then(|ratios| ratios.get(place)).map(|ratio| format!("{ratio:.2}")));
        }
        table.add_row(row);
    }
    context.output.text(&show(&table))
}
