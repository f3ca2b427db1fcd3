//! [`Stage`]: a component in a host of its own, asked one case after the other.
//!
//! Invariant: each case has a namespace of its own, so that none finds what another left.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use platform_base::clock;
use platform_capability::{Grant, Name, SlotKind};
use platform_conformance::{Outcome, suite};
use platform_control::PluginRecord;
use platform_runtime::Engine;
use serde_json::{Map, Value, json};

use super::{
    ask::{self, Answer, Asked},
    cases::{Case, Cases, Difference},
    lines,
};
use crate::cli::{failure::Failure, plugin::trial::Trial};

/// A component that is tried.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) trial: Trial,
    pub(super) plugin: Arc<PluginRecord>,
    asked: Arc<Asked>,
    bound: Option<Map<String, Value>>,
    namespaces: u32,
}

/// What came of a case.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) name: String,
    pub(super) differences: Vec<Difference>,
    /// What the component wrote meanwhile, and what was written of its faults.
    pub(super) log: Vec<String>,
    pub(super) took: Duration,
}

/// What came of a question.
#[derive(Debug, Default)]
struct Said {
    answer: Answer,
    /// What the host was asked.
    calls: Vec<String>,
    log: Vec<String>,
}

impl Stage {
    /// Makes a host with the component in it and the capabilities that it asks for. Grants that reach outside of that host are
    /// the caller's to give.
    pub(super) async fn start(
        engine: Engine, component: Bytes, plugins_dir: Option<PathBuf>, grants: &[String],
    ) -> Result<Self, Failure> {
        lines::listen();
        let asked = Arc::new(Asked::default());
        let trial = Trial::on(engine, plugins_dir, Some(Arc::clone(&asked) as _)).await?;
        let plugin = trial.install(component).await?.plugin;
        trial.bind_beside(plugin.slot).await?;
        let beside = plugin.requested.iter().filter_map(|grant| match grant {
            Grant::Kv if plugin.slot != SlotKind::KvStore => Some("kv-storage"),
            Grant::Config if plugin.slot != SlotKind::ConfigStore => Some("config-storage"),
            Grant::Discovery if plugin.slot != SlotKind::DiscoveryRegistry => Some("discovery-storage"),
            Grant::Db if plugin.slot != SlotKind::DbStore => Some("db-storage"),
            Grant::Event if plugin.slot != SlotKind::EventBroker => Some("event-storage"),
            Grant::Sync if plugin.slot != SlotKind::SyncLock => Some("sync-storage"),
            _ => None,
        });
        for name in beside.collect::<BTreeSet<_>>() {
            trial.bind_shipped(name, "the component asks for a capability, which is served by").await?;
        }
        trial.grant(&plugin, grants).await?;
        Ok(Self { trial, plugin, asked, bound: None, namespaces: 0 })
    }

    /// Binds the component with these settings, unless it is; why it refuses them.
    pub(super) async fn settle(&mut self, settings: &Map<String, Value>) -> Result<(), String> {
        if self.bound.as_ref() == Some(settings) {
            return Ok(());
        }
        self.bound = None;
        self.trial.bind(&self.plugin, settings.clone(), None).await.map_err(|error| error.to_string())?;
        self.bound = Some(settings.clone());
        Ok(())
    }

    /// A namespace that no case has used, with what this one is given.
    pub(super) async fn place(&mut self, case: &Case) -> Result<Name, String> {
        self.namespaces += 1;
        let place = format!("case-{}", self.namespaces);
        let place: Name = place.parse().map_err(|error| format!("`{place}`: {error}"))?;
        ask::give(self.trial.plane(), &place, &case.host).await?;
        Ok(place)
    }

    /// Asks a case and compares.
    pub(super) async fn judge(&mut self, cases: &Cases, case: &Case) -> Judged {
        let begun = clock::now();
        let (differences, log) = match self.answer(cases, case).await {
            Ok(Said { mut answer, calls, log }) => {
                answer.insert("log".to_owned(), json!(log));
                (case.judge(&answer, &calls, cases.is_strict(case)), log)
            }
            Err(why) => {
                let differs = Difference { what: "case".to_owned(), expected: json!("a question"), got: why.into() };
                (vec![differs], Vec::new())
            }
        };
        Judged { name: case.name.clone(), differences, log, took: clock::now().saturating_duration_since(begun) }
    }

    async fn answer(&mut self, cases: &Cases, case: &Case) -> Result<Said, String> {
        if let Err(why) = self.settle(case.settings.as_ref().unwrap_or(&cases.settings)).await {
            let refused = [("decision".to_owned(), json!("settings-refused")), ("reason".to_owned(), json!(why))];
            return Ok(Said { answer: Map::from_iter(refused), ..Said::default() });
        }
        let place = self.place(case).await?;
        let call = ask::call(case, &place);
        drop((self.asked.take(), lines::take()));
        let answer = ask::ask(self.trial.plane(), self.plugin.slot, &call, case).await?;
        Ok(Said { answer, calls: self.asked.take(), log: lines::take() })
    }

    /// Checks the promises of the slot's interface whose name holds a text.
    pub(super) async fn promises(&self, only: &str) -> Result<Vec<Outcome>, Failure> {
        let mut outcomes = Vec::new();
        for check in suite(self.plugin.slot).iter().filter(|check| check.name.contains(only)) {
            outcomes.push(check.run(self.trial.subject(check.name)?, &self.plugin.exports).await);
        }
        Ok(outcomes)
    }
}
