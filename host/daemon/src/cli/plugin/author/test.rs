//! `platform plugin test`: cases, the promises of the slot's interface, and the project's own unit tests.
//!
//! Owns which of them run and how the report reads. Invariant: a case that fails is told with what was expected and what came.

use std::path::{Path, PathBuf};

use clap::Args;
use platform_author::{Error, Project};
use platform_capability::SlotKind;
use platform_conformance::{Failure as Found, Outcome};
use platform_control::inspect::inspect;
use platform_runtime::Digest;
use serde_json::{Value, json};

use super::{
    COMPONENT_BYTES,
    build::{Built, build},
    cases::Cases,
    stage::{Judged, Stage},
};
use crate::cli::{
    Context,
    failure::{Exit, Failure},
    input,
    output::{Output, show},
    plugin::{trial, verify},
};

/// Most lines of a component's that are shown below a case.
const LINES_SHOWN: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Folder of the project, which is built first; or a component.
    #[arg(value_name = "FOLDER|FILE", default_value = ".")]
    what: PathBuf,
    /// The cases; `cases.toml` of the project when not given.
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// Runs only cases and checks whose name holds this text, and no unit tests.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Fails a case also where the component asks its host for what the case does not give, whatever the file says.
    #[arg(long)]
    strict: bool,
    /// Leaves the project's unit tests out.
    #[arg(long)]
    no_unit_tests: bool,
    #[command(flatten)]
    reach: Reach,
}

/// What a component finds around it.
#[derive(Debug, Clone, Args)]
pub(super) struct Reach {
    /// A grant that reaches outside the trial, as for `verify`. A project that is built here has all that it asks for.
    #[arg(long = "grant", value_name = "GRANT")]
    pub(super) grants: Vec<String>,
    /// Directory of the shipped components, which serve what the component asks of its host.
    #[arg(long, value_name = "DIR", env = "PLATFORM_PLUGINS_DIR")]
    pub(super) plugins_dir: Option<PathBuf>,
}

/// A component and its cases.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) component: Vec<u8>,
    /// The same with line tables, where it was built here: what is one's own is told with files and lines.
    pub(super) traced: Option<Vec<u8>>,
    /// What it is called in reports.
    pub(super) shown: String,
    pub(super) cases: Cases,
    /// The slot that it is for.
    pub(super) slot: SlotKind,
    pub(super) grants: Vec<String>,
    /// The project, unless it is a file.
    pub(super) project: Option<Project>,
}

/// What came of trying it.
#[derive(Debug, Default)]
pub(super) struct Tried {
    pub(super) cases: Vec<Judged>,
    promises: Vec<Outcome>,
    unit_tests: Option<bool>,
}

impl Subject {
    /// Builds a project, or reads a file; `named` are its cases where they lie elsewhere.
    pub(super) fn of(what: &Path, named: Option<&Path>, reach: &Reach) -> Result<Self, Failure> {
        let (component, traced, shown, project, grants) = if what.is_dir() {
            let Built { project, component, traced, .. } = build(what, &[])?;
            let name = project.name().to_owned();
            (component, Some(traced), name, Some(project), vec!["requested".to_owned()])
        } else {
            let shown = input::shown(what).display().to_string();
            (input::read(what, COMPONENT_BYTES)?, None, shown, None, reach.grants.clone())
        };
        let facts = inspect(&component).map_err(|rejection| {
            Failure::new(Exit::No, rejection.reason(), format!("`{shown}` can't be installed: {rejection}"))
        })?;
        let own = project.as_ref().map(|project| project.folder().join("cases.toml")).filter(|file| file.is_file());
        let cases = match named.or(own.as_deref()) {
            Some(file) => Cases::read(file, facts.slot)?,
            None => Cases::default(),
        };
        Ok(Self { component, traced, shown, cases, slot: facts.slot, grants, project })
    }

    /// Puts the component into a host of its own.
    pub(super) async fn stage(&self, reach: &Reach) -> Result<Stage, Failure> {
        let engine = trial::engine(self.traced.is_some())?;
        let component = self.traced.as_ref().unwrap_or(&self.component).clone();
        Stage::start(engine, component.into(), reach.plugins_dir.clone(), &self.grants).await
    }
}

impl Test {
    /// Runs everything; the answer is no when something fails.
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let mut subject = Subject::of(&self.what, self.cases.as_deref(), &self.reach)?;
        subject.cases.strict |= self.strict;
        let progress = context.output.progress("compiling".to_owned());
        let mut stage = subject.stage(&self.reach).await?;
        drop(progress);
        let mut tried = Tried::default();
        for case in subject.cases.cases.iter().filter(|case| case.name.contains(&self.only)) {
            let judged = stage.judge(&subject.cases, case).await;
            tell(context.output, &judged)?;
            tried.cases.push(judged);
        }
        let settled = stage.settle(&subject.cases.settings).await;
        settled.map_err(|why| Failure::new(Exit::No, "NOT_BOUND", why))?;
        tried.promises = stage.promises(&self.only).await?;
        for outcome in &tried.promises {
            verify::tell(context.output, outcome)?;
        }
        let slot = stage.plugin.slot;
        let digest = Digest::of(&subject.component).to_string();
        stage.trial.end().await;
        if let Some(project) = subject.project.as_ref().filter(|_| !self.no_unit_tests && self.only.is_empty()) {
            tried.unit_tests = units(context, project)?;
        }
        if tried.passed() + tried.failed() == 0 {
            let message = format!("no case and no check is named like `{}`", self.only);
            return Err(Failure::usage(message));
        }
        if context.output.is_human() {
            let verdict = match tried.failed() {
                0 => format!("all {} passed", tried.passed()),
                failed => format!("{failed} of {} failed", tried.passed() + failed),
            };
            let units = match tried.unit_tests {
                Some(true) => ", unit tests passed",
                Some(false) => ", unit tests FAILED",
                None => "",
            };
            context.output.text(&format!("`{}` for `{slot}`: {verdict}{units}", subject.shown))?;
        } else {
            context.output.value(&json!({
                "component": subject.shown,
                "digest": digest,
                "slot": slot.as_str(),
                "passed": tried.passed(),
                "failed": tried.failed(),
                "unitTests": tried.unit_tests,
                "cases": tried.cases.iter().map(entry).collect::<Vec<_>>(),
                "promises": tried.promises.iter().map(verify::entry).collect::<Vec<_>>(),
            }))?;
        }
        Ok(if tried.is_good() { Exit::Done } else { Exit::No })
    }
}

impl Tried {
    /// Whether nothing failed.
    pub(super) fn is_good(&self) -> bool {
        self.failed() == 0 && self.unit_tests != Some(false)
    }

    fn failed(&self) -> usize {
        let cases = self.cases.iter().filter(|case| !case.differences.is_empty()).count();
        cases + self.promises.iter().filter(|outcome| matches!(outcome.result, Err(Found::Broken(_)))).count()
    }

    fn passed(&self) -> usize {
        let cases = self.cases.iter().filter(|case| case.differences.is_empty()).count();
        cases + self.promises.iter().filter(|outcome| outcome.result.is_ok()).count()
    }
}

/// Runs the project's own tests; none where what runs them is missing, which is told.
fn units(context: &Context, project: &Project) -> Result<Option<bool>, Failure> {
    match project.test(!context.output.is_human()) {
        Err(error @ (Error::Start { .. } | Error::Missing { .. })) => {
            crate::cli::complain(&format!("unit tests are left out: {error}"));
            Ok(None)
        }
        tested => Ok(tested?),
    }
}

/// One line for each case, and below it where it went wrong.
pub(super) fn tell(output: Output, judged: &Judged) -> Result<(), Failure> {
    if !output.is_human() {
        return Ok(());
    }
    let good = judged.differences.is_empty();
    let mut table = output.table(&[]);
    let took = format!("{} ms", judged.took.as_millis());
    table.add_row([output.verdict(good, if good { "ok" } else { "FAILED" }), judged.name.clone().into(), took.into()]);
    output.text(&show(&table))?;
    for difference in &judged.differences {
        let (what, expected, got) = (&difference.what, &difference.expected, &difference.got);
        output.text(&format!("       {what}: expected {expected}\n       {:1$}  got      {got}", "", what.len()))?;
    }
    for line in judged.log.iter().filter(|_| !good).take(LINES_SHOWN) {
        // Functions that it was in when it failed, each on a line of its own.
        output.text(&format!("       {}", line.replace(" frame-", "\n         frame-")))?;
    }
    Ok(())
}

fn entry(judged: &Judged) -> Value {
    let differences: Vec<Value> = judged
        .differences
        .iter()
        .map(|found| json!({"what": found.what, "expected": found.expected, "got": found.got}))
        .collect();
    json!({
        "name": judged.name,
        "passed": differences.is_empty(),
        "differences": differences,
        "log": judged.log,
        "tookMs": u64::try_from(judged.took.as_millis()).unwrap_or(u64::MAX),
    })
}
