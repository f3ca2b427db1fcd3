//! `platform plugin report`: whether a component keeps its promises, and what its calls take, for those who are to trust it.
//!
//! The marketplace runs this for what is published. Owns with which settings a component is tried, and what it is asked where nobody says what; must not know who
//! reads the report. Invariant: the component reaches nothing outside of its trial, and there is a report whatever it does, as long as it ends.

use std::{fs, io, path::PathBuf, thread, time::Duration};

use clap::Args;
use platform_base::clock;
use platform_capability::{Grant, Need, SlotKind, need};
use platform_conformance::{Failure as Found, Outcome};
use platform_control::settings;
use platform_marketplace::{Broken, Figures, Report as Told, Verdict};
use platform_runtime::Digest;
use rustix::process::{Pid, setpriority_process};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::{
    COMPONENT_BYTES,
    bench::{self, compare, reference},
    cases::{Case, Cases, Node},
    test::{Reach, Subject},
};
use crate::cli::{
    Context, document,
    failure::{Exit, Failure},
    input,
    quantity::positive_duration,
};

/// Longest form of settings in a sentence, in characters.
const SHOWN_CHARS: usize = 200;
/// How much less of the processor this gets than others.
const NICE: i32 = 10;

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// The component; `-` is standard input.
    file: PathBuf,
    /// Its settings: JSON, or a JSON or TOML file. When not given, the first of `examples` of its schema, else the defaults in it.
    #[arg(long, value_name = "JSON|FILE")]
    settings: Option<String>,
    /// How long its calls are measured.
    #[arg(long = "for", value_name = "DURATION", value_parser = positive_duration, default_value = "1s")]
    time: Duration,
    /// Directory of the shipped components, one of which is the measure for the slot.
    #[arg(long, value_name = "DIR", env = "PLATFORM_PLUGINS_DIR")]
    plugins_dir: Option<PathBuf>,
    /// Ends when standard input does, gives way to whatever else runs, and is the first to go when memory is short.
    #[arg(long, hide = true)]
    in_background: bool,
}

impl Report {
    /// Tries, measures and prints.
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        if self.in_background {
            give_way();
            tokio::select! {
                done = Box::pin(self.report(context)) => done,
                () = asked_to_end() => Ok(Exit::Error),
            }
        } else {
            Box::pin(self.report(context)).await
        }
    }

    async fn report(&self, context: &Context) -> Result<Exit, Failure> {
        let component = input::read(&self.file, COMPONENT_BYTES)?;
        let reach = Reach { grants: Vec::new(), plugins_dir: self.plugins_dir.clone() };
        let given = match &self.settings {
            Some(text) => match document::to_json(document::read(text)?) {
                Value::Object(settings) => Some(settings),
                _ => return Err(Failure::usage("`--settings` has to be an object")),
            },
            None => None,
        };
        let progress = context.output.progress("trying and measuring".to_owned());
        let told = tried(component, given, &reach, self.time).await?.bounded();
        drop(progress);
        let value = serde_json::to_value(&told);
        context.output.value(&value.map_err(|error| Failure::new(Exit::Error, "INTERNAL", error.to_string()))?)?;
        Ok(if told.verdict == Verdict::Passed { Exit::Done } else { Exit::No })
    }
}

/// Lets everything else go first. What can't be said to the system is left unsaid.
fn give_way() {
    // Each thread has a priority of its own, and hands it on to those that it begins.
    for entry in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let thread = entry.file_name().to_str().and_then(|id| Pid::from_raw(id.parse().ok()?));
        if let Some(thread) = thread {
            let _ = setpriority_process(Some(thread), NICE);
        }
    }
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
}

/// Waits for the end of standard input, which whoever started this holds open.
async fn asked_to_end() {
    let (tell, ended) = oneshot::channel();
    // A thread that nobody waits for: a runtime would wait for its reader before it ends.
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = tell.send(());
    });
    let _ = ended.await;
}

async fn tried(
    component: Vec<u8>, given: Option<Map<String, Value>>, reach: &Reach, time: Duration,
) -> Result<Told, Failure> {
    let digest = Digest::of(&component);
    let facts = platform_control::inspect::inspect(&component)
        .map_err(|rejection| Failure::new(Exit::Error, rejection.reason(), rejection.to_string()))?;
    let told = Told::new(digest, facts.slot.as_str(), env!("CARGO_PKG_VERSION"), clock::unix_ms());
    let outside: Vec<String> =
        facts.requested.iter().filter(|grant| !is_harmless(grant)).map(|grant| format!("`{grant}`")).collect();
    if !outside.is_empty() {
        let why = format!("it asks for {}, and nothing outside of the sandbox is given to it", outside.join(", "));
        return Ok(told.ended(Verdict::NotTried, why));
    }
    let schema = facts.manifest.settings_schema.as_ref();
    let settings = given.unwrap_or_else(|| candidate(schema));
    let shown: String = Value::Object(settings.clone()).to_string();
    let told = Told { settings: shown.clone(), ..told };
    let shown: String = shown.chars().take(SHOWN_CHARS).collect();
    if let Err(error) = settings::check(schema, &settings) {
        let why = format!(
            "no settings are known that its schema takes: `{shown}` is refused ({error}); put an object into `examples` of the schema, or defaults"
        );
        return Ok(told.ended(Verdict::NotTried, why));
    }

    let cases = Cases::asking(settings.clone(), question(facts.slot));
    let grants = vec!["requested".to_owned()];
    let shown_as = facts.manifest.name.as_ref().map_or_else(|| "component".to_owned(), ToString::to_string);
    let subject = Subject { component, traced: None, shown: shown_as, cases, slot: facts.slot, grants, project: None };
    let stage = match subject.stage(reach).await {
        Ok(stage) => stage,
        Err(failure) => {
            let verdict = if failure.exit == Exit::No { Verdict::Failed } else { Verdict::NotTried };
            return Ok(told.ended(verdict, failure.to_string()));
        }
    };
    if let Err(error) = stage.trial.bind(&stage.plugin, settings, None).await {
        let why = match (error.reason(), schema) {
            ("SETTINGS_REFUSED", Some(_)) => {
                format!("the schema of its settings takes `{shown}`, and the component refuses it: {error}")
            }
            ("SETTINGS_REFUSED", None) => {
                let why = format!("it has no schema that says which settings it takes, and refuses `{shown}`: {error}");
                return Ok(told.ended(Verdict::NotTried, why));
            }
            _ if facts.imports.iter().any(|import| need(import) == Need::Network) => {
                let why = format!("it can't be bound where it reaches no network: {error}");
                return Ok(told.ended(Verdict::NotTried, why));
            }
            _ => format!("it can't be bound: {error}"),
        };
        return Ok(told.ended(Verdict::Failed, why));
    }
    let outcomes = stage.promises("").await?;
    stage.trial.end().await;
    let told = judged(told, &outcomes);
    if told.verdict != Verdict::Passed {
        return Ok(told);
    }
    Ok(Box::pin(measured(told, &subject, reach, time)).await)
}

/// What a component has in every trial, and nobody outside can notice.
fn is_harmless(grant: &Grant) -> bool {
    matches!(
        grant,
        Grant::Storage
            | Grant::Kv
            | Grant::Discovery
            | Grant::Config
            | Grant::Db
            | Grant::Event
            | Grant::Sync
            | Grant::Wasi
    )
}

/// Settings that a schema says are good: its first example, else the defaults of its members.
fn candidate(schema: Option<&Value>) -> Map<String, Value> {
    let Some(schema) = schema else { return Map::new() };
    let examples = schema.get("examples").and_then(Value::as_array).into_iter().flatten();
    let whole = examples.chain(schema.get("default")).find_map(Value::as_object);
    if let Some(whole) = whole {
        return whole.clone();
    }
    let members = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    members.filter_map(|(name, member)| Some((name.clone(), member.get("default")?.clone()))).collect()
}

fn judged(told: Told, outcomes: &[Outcome]) -> Told {
    let count = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count() as u64;
    let kept = count(|outcome| outcome.result.is_ok());
    let left_out = count(|outcome| matches!(outcome.result, Err(Found::NotMade(_))));
    let broken: Vec<Broken> = outcomes
        .iter()
        .filter_map(|outcome| match &outcome.result {
            Err(Found::Broken(found)) => Some(Broken {
                name: outcome.check.name.to_owned(),
                promise: outcome.check.promise.to_owned(),
                found: found.clone(),
            }),
            _ => None,
        })
        .collect();
    let told = Told { kept, left_out, ..told };
    let Some(first) = broken.first() else { return Told { verdict: Verdict::Passed, ..told } };
    let checked = outcomes.len() as u64 - left_out;
    let why = format!(
        "it breaks {} of {checked} promises of `{}`; the first is `{}`: {}",
        broken.len(),
        told.slot,
        first.name,
        first.found
    );
    Told { broken, ..told.ended(Verdict::Failed, why) }
}

/// What a decision is asked where nobody says what.
fn question(slot: SlotKind) -> Vec<Case> {
    let ask = match slot {
        SlotKind::AuthPolicy => json!({"action": "GET", "target": "/orders/7", "headers": {"user-agent": "bench"}}),
        SlotKind::RouterPolicy => json!({"service": "service"}),
        SlotKind::ConfigValidator => json!({"id": "service", "after": {"limit": 7, "name": "bench"}}),
        SlotKind::EventFilter => json!({"topic": "orders", "type": "created", "data": {"order": 7}}),
        _ => return Vec::new(),
    };
    let mut case = Case::named("a question");
    if let Value::Object(members) = ask {
        case.ask = members;
    }
    if slot == SlotKind::RouterPolicy {
        case.host.nodes = ["a", "b", "c"].map(Node::named).to_vec();
    }
    vec![case]
}

async fn measured(told: Told, subject: &Subject, reach: &Reach, time: Duration) -> Told {
    if subject.cases.cases.is_empty() && subject.slot != SlotKind::KvStore {
        return Told {
            unmeasured: format!("there is nothing to measure components for `{}` by", subject.slot),
            ..told
        };
    }
    let compared = match reference(subject, reach) {
        Ok(against) => Box::pin(compare(subject, against, reach, time)).await,
        Err(failure) => Err(failure),
    };
    match compared {
        Ok(compared) => Told {
            measured: Some(figures(&subject.shown, &compared.own)),
            reference: compared.other.map(|(name, other)| figures(&name, &other)),
            ..told
        },
        Err(failure) => Told { unmeasured: failure.to_string(), ..told },
    }
}

fn figures(name: &str, measured: &bench::Figures) -> Figures {
    let ns = |took: Duration| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    Figures {
        component: name.to_owned(),
        calls: measured.calls as u64,
        p50_ns: ns(measured.p50),
        p99_ns: ns(measured.p99),
        memory_bytes: measured.memory as u64,
        size_bytes: measured.size as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_those_that_a_schema_tells() {
        let of = |schema: Value| Value::Object(candidate(Some(&schema)));
        assert_eq!(candidate(None), Map::new());
        assert_eq!(of(json!(true)), json!({}));
        assert_eq!(of(json!({"examples": [7, {"a": 1}, {"a": 2}], "default": {"a": 3}})), json!({"a": 1}));
        assert_eq!(of(json!({"default": {"a": 3}, "properties": {"a": {"default": 4}}})), json!({"a": 3}));
        assert_eq!(of(json!({"properties": {"a": {"default": 4}, "b": {"type": "string"}}})), json!({"a": 4}));
    }

    #[test]
    fn decisions_are_asked_something() {
        for slot in [SlotKind::AuthPolicy, SlotKind::RouterPolicy, SlotKind::ConfigValidator, SlotKind::EventFilter] {
            assert_eq!(question(slot).len(), 1, "{slot}");
        }
        assert!(question(SlotKind::DbStore).is_empty());
    }
}
