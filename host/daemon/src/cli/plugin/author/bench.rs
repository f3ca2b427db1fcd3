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
        let subject = Subject::of(&self.what, self.cases.as_deref(), &self.reach)?;
        let progress = context.output.progress("compiling".to_owned());
        let mut own = Measured::new(&subject, &subject.cases.settings, &self.reach).await?;
        let slot = own.stage.plugin.slot;
        let mut both = match self.reference(slot, &subject)? {
            Some((other, settings)) => {
                let other = Measured::new(&other, &settings, &self.reach).await?;
                if other.stage.plugin.slot != slot {
                    let message = format!("`{}` is for `{}`, not for `{slot}`", other.name, other.stage.plugin.slot);
                    return Err(Failure::usage(message));
                }
                vec![other]
            }
            None => Vec::new(),
        };
        progress.update("measuring".to_owned());
        for _ in 0..WARM {
            own.round().await?;
            for other in &mut both {
                other.round().await?;
            }
        }
        own.took.clear();
        both.iter_mut().for_each(|other| other.took.clear());
        let begun = clock::now();
        while clock::now().saturating_duration_since(begun) < self.time {
            own.round().await?;
            for other in &mut both {
                other.round().await?;
            }
        }
        drop(progress);
        let mode = own.stage.plugin.mode.unwrap_or_else(|| slot.mode());
        let figures = own.figures();
        let other = both.first_mut().map(|other| (other.name.clone(), other.figures()));
        tell(context, &own.name, slot, &format!("{mode:?}").to_lowercase(), &figures, other.as_ref())?;
        own.stage.trial.end().await;
        for other in both {
            other.stage.trial.end().await;
        }
        Ok(Exit::Done)
    }

    /// The component to compare with and its settings.
    fn reference(&self, slot: SlotKind, own: &Subject) -> Result<Option<(Subject, Map<String, Value>)>, Failure> {
        if let Some(file) = &self.against {
            let mut other = Subject::of(file, None, &self.reach)?;
            other.cases = own.cases.clone();
            let settings = own.cases.settings.clone();
            return Ok(Some((other, settings)));
        }
        let Some((_, name, settings)) = REFERENCES.iter().find(|(kind, ..)| *kind == slot) else { return Ok(None) };
        let folder = self.reach.plugins_dir.clone().or_else(crate::place::default_plugins_dir);
        let Some(file) = folder.map(|folder| folder.join(name).with_extension("wasm")).filter(|file| file.is_file())
        else {
            let message = format!(
                "`{name}`, which components for `{slot}` are measured by, is not there; name the directory of the shipped components with `--plugins-dir`"
            );
            return Err(Failure::usage(message));
        };
        let mut other = Subject::of(&file, None, &self.reach)?;
        other.shown = (*name).to_owned();
        other.grants = vec!["requested".to_owned()];
        other.cases = own.cases.clone();
        let settings = serde_json::from_str(settings).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Some((other, settings)))
    }
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
            self.took.get(place).copied().unwrap_or_default().as_secs_f64() * 1e6
        };
        let status = self.stage.trial.plane().slot_status(&SlotName::plain(self.stage.plugin.slot));
        let memory = status.and_then(|status| Some(status.entries.first()?.memory_bytes)).unwrap_or_default();
        Figures { calls: self.took.len(), p50_us: at(500), p99_us: at(990), memory, size: self.size }
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
struct Figures {
    calls: usize,
    p50_us: f64,
    p99_us: f64,
    memory: usize,
    size: usize,
}

impl Figures {
    fn to_json(&self, component: &str) -> Value {
        json!({
            "component": component,
            "calls": self.calls,
            "p50Us": self.p50_us,
            "p99Us": self.p99_us,
            "memoryBytes": self.memory,
            "sizeBytes": self.size,
        })
    }

    fn numbers(&self) -> [f64; 4] {
        let bytes = |bytes: usize| u32::try_from(bytes).map_or(f64::MAX, f64::from);
        [self.p50_us, self.p99_us, bytes(self.memory), bytes(self.size)]
    }

    fn words(&self) -> [String; 4] {
        let us = |value: f64| format!("{value:.1} µs");
        let bytes = |bytes: usize| human_bytes(u64::try_from(bytes).unwrap_or(u64::MAX));
        [us(self.p50_us), us(self.p99_us), bytes(self.memory), bytes(self.size)]
    }
}

fn tell(
    context: &Context, name: &str, slot: SlotKind, mode: &str, own: &Figures, other: Option<&(String, Figures)>,
) -> Result<(), Failure> {
    let name = input::shown(Path::new(name)).display().to_string();
    let ratios = other.map(|(_, other)| {
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
            "reference": other.map(|(name, figures)| figures.to_json(name)),
            "ratio": ratio,
        }));
    }
    let mut headings = vec![format!("{slot}, {mode}"), name];
    headings.extend(other.into_iter().flat_map(|(name, _)| [name.clone(), "ratio".to_owned()]));
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
