//! What a replay came to: how many decisions change, and which.
//!
//! Invariant: what is counted is counted in full; only which are shown is bounded.

use std::{collections::HashMap, time::Duration};

use platform_dataplane::Decision;
use serde::Serialize;
use serde_json::Value;

use super::again::{Again, other_headers};
use crate::cli::{
    kv::time,
    output::{Output, show},
    plugin::decisions::{moment_of, told, told_subject},
};

/// Changes that are told apart; more are counted together.
const CHANGES_MAX: usize = 500;
/// Subjects and paths of a change that are counted apart.
const COUNTED_MAX: usize = 10_000;
/// Subjects and paths of a change that are shown.
const SHOWN: usize = 5;

/// What is replayed.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct About {
    pub(super) file: String,
    pub(super) digest: String,
    pub(super) slot: String,
}

/// Counts as decisions come in.
#[derive(Debug)]
pub(super) struct Report {
    examples: usize,
    same: u64,
    changed: u64,
    failed: u64,
    unknown: u64,
    other_reasons: u64,
    asked_redacted: u64,
    /// Unix times in nanoseconds.
    first: Option<u64>,
    last: Option<u64>,
    changes: HashMap<Change, Tally>,
    further: u64,
    took: Duration,
}

/// A way in which decisions change. The rule is the reason that a policy gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Change {
    pub(super) before: String,
    pub(super) rule_before: String,
    pub(super) after: String,
    pub(super) rule_after: String,
    pub(super) other_headers: bool,
}

#[derive(Debug, Default)]
struct Tally {
    count: u64,
    asked_redacted: u64,
    subjects: HashMap<String, u64>,
    paths: HashMap<String, u64>,
    examples: Vec<Example>,
}

/// A decision that changes.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Example {
    pub(super) time: String,
    pub(super) subject: String,
    pub(super) action: String,
    pub(super) target: String,
}

/// All of it, in order.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    #[serde(flatten)]
    pub(super) about: About,
    pub(super) since: String,
    pub(super) until: String,
    pub(super) took_ms: u64,
    pub(super) replayed: u64,
    pub(super) same: u64,
    pub(super) changed: u64,
    /// Of those that change, the component failed.
    pub(super) failed: u64,
    /// Of those that stay the same, the reason differs.
    pub(super) other_reasons: u64,
    /// The component asked for what was not kept.
    pub(super) asked_redacted: u64,
    /// Asked through an interface that is not known here.
    pub(super) unknown: u64,
    /// Changes of further kinds than those that are told.
    pub(super) further: u64,
    pub(super) changes: Vec<Told>,
}

/// A change with its figures.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    #[serde(flatten)]
    pub(super) change: Change,
    pub(super) count: u64,
    pub(super) asked_redacted: u64,
    pub(super) subjects: Vec<Counted>,
    pub(super) paths: Vec<Counted>,
    pub(super) examples: Vec<Example>,
}

/// How often something was seen.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Counted {
    pub(super) name: String,
    pub(super) count: u64,
}

impl Report {
    pub(super) fn new(examples: usize) -> Self {
        Self {
            examples,
            same: 0,
            changed: 0,
            failed: 0,
            unknown: 0,
            other_reasons: 0,
            asked_redacted: 0,
            first: None,
            last: None,
            changes: HashMap::new(),
            further: 0,
            took: Duration::ZERO,
        }
    }

    /// Says how long it took.
    pub(super) fn took(&mut self, took: Duration) {
        self.took = took;
    }

    /// Decisions that were asked again.
    pub(super) fn replayed(&self) -> u64 {
        self.same + self.changed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.replayed() == 0
    }

    pub(super) fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Takes note of a decision.
    pub(super) fn add(&mut self, again: Again<'_>) {
        let Again { decision, verdict, asked_redacted } = again;
        let Some(verdict) = verdict else {
            self.unknown += 1;
            return;
        };
        self.first = self.first.or(Some(decision.time_ns));
        self.last = Some(decision.time_ns);
        self.asked_redacted += u64::from(asked_redacted);
        let outcome = &decision.outcome;
        let fault = verdict.fault.unwrap_or_default();
        let other_headers = other_headers(outcome, &verdict);
        let is_same = outcome.fault == fault
            && (!fault.is_empty()
                || (outcome.allowed == verdict.allowed && (verdict.allowed || outcome.status == verdict.status)));
        if is_same && !other_headers {
            self.same += 1;
            self.other_reasons += u64::from(outcome.reason != verdict.reason);
            return;
        }
        let change = Change {
            before: told(&outcome.fault, outcome.allowed, outcome.status),
            after: told(fault, verdict.allowed, verdict.status),
            other_headers,
            rule_before: outcome.reason.clone().into_owned(),
            rule_after: verdict.reason,
        };
        self.changed += 1;
        self.failed += u64::from(verdict.fault.is_some());
        if self.changes.len() >= CHANGES_MAX && !self.changes.contains_key(&change) {
            self.further += 1;
            return;
        }
        self.changes.entry(change).or_default().add(decision, asked_redacted, self.examples);
    }

    /// Takes note of what another report says of later decisions.
    pub(super) fn merge(&mut self, later: Self) {
        self.same += later.same;
        self.changed += later.changed;
        self.failed += later.failed;
        self.unknown += later.unknown;
        self.other_reasons += later.other_reasons;
        self.asked_redacted += later.asked_redacted;
        self.further += later.further;
        self.first = self.first.or(later.first);
        self.last = later.last.or(self.last);
        for (change, tally) in later.changes {
            if self.changes.len() >= CHANGES_MAX && !self.changes.contains_key(&change) {
                self.further += tally.count;
            } else {
                self.changes.entry(change).or_default().merge(tally, self.examples);
            }
        }
    }

    /// The most frequent changes first.
    pub(super) fn summary(&self, about: &About) -> Summary {
        let mut changes: Vec<Told> = self.changes.iter().map(|(change, tally)| tally.told(change)).collect();
        changes.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.order().cmp(&b.order())));
        Summary {
            about: about.clone(),
            since: time(self.first.and_then(moment_of)),
            until: time(self.last.and_then(moment_of)),
            took_ms: u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            replayed: self.replayed(),
            same: self.same,
            changed: self.changed,
            failed: self.failed,
            other_reasons: self.other_reasons,
            asked_redacted: self.asked_redacted,
            unknown: self.unknown,
            further: self.further,
            changes,
        }
    }
}

impl Tally {
    fn add(&mut self, decision: Decision<'_>, asked_redacted: bool, examples: usize) {
        self.count += 1;
        self.asked_redacted += u64::from(asked_redacted);
        let subject = told_subject(decision.caller.as_ref().map(|caller| caller.subject.as_str()));
        count(&mut self.subjects, subject, 1);
        count(&mut self.paths, &decision.target, 1);
        if self.examples.len() < examples {
            let subject = subject.to_owned();
            let (action, target) = (decision.action.into_owned(), decision.target.into_owned());
            self.examples.push(Example { time: time(moment_of(decision.time_ns)), subject, action, target });
        }
    }

    fn merge(&mut self, later: Self, examples: usize) {
        self.count += later.count;
        self.asked_redacted += later.asked_redacted;
        later.subjects.iter().for_each(|(name, times)| count(&mut self.subjects, name, *times));
        later.paths.iter().for_each(|(name, times)| count(&mut self.paths, name, *times));
        self.examples.extend(later.examples);
        self.examples.truncate(examples);
    }

    fn told(&self, change: &Change) -> Told {
        Told {
            change: change.clone(),
            count: self.count,
            asked_redacted: self.asked_redacted,
            subjects: most(&self.subjects),
            paths: most(&self.paths),
            examples: self.examples.clone(),
        }
    }
}

/// Counts what was seen so many times more.
fn count(counts: &mut HashMap<String, u64>, name: &str, times: u64) {
    if let Some(count) = counts.get_mut(name) {
        *count += times;
    } else if counts.len() < COUNTED_MAX {
        counts.insert(name.to_owned(), times);
    }
}

impl Told {
    fn order(&self) -> (&str, &str, &str, &str) {
        let Change { before, rule_before, after, rule_after, .. } = &self.change;
        (before, after, rule_before, rule_after)
    }
}

impl Change {
    /// What changes, in short.
    pub(super) fn words(&self) -> String {
        let headers = if self.other_headers { ", other headers" } else { "" };
        match self.before == self.after {
            true => format!("{}{headers}", self.before),
            false => format!("{} → {}{headers}", self.before, self.after),
        }
    }
}

impl Summary {
    pub(super) fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// For people.
    pub(super) fn text(&self, output: Output) -> String {
        let About { slot, .. } = &self.about;
        let mut text = format!(
            "replayed {} decisions of `{slot}`, {} to {}, in {} ms\n",
            self.replayed, self.since, self.until, self.took_ms
        );
        text.push_str(&self.verdict());
        for note in self.notes() {
            text.push_str(&format!("\n{note}"));
        }
        if self.changes.is_empty() {
            return text;
        }
        let mut table = output.table(&["COUNT", "CHANGE", "RULE BEFORE", "RULE AFTER", "SUBJECTS", "PATHS", "EXAMPLE"]);
        for told in &self.changes {
            let Change { rule_before, rule_after, .. } = &told.change;
            let examples = told
                .examples
                .iter()
                .map(|one| format!("{} {} {} by {}", one.time, one.action, one.target, one.subject));
            let cells = [
                told.count.to_string(),
                told.change.words(),
                rule_before.clone(),
                rule_after.clone(),
                listed(&told.subjects),
                listed(&told.paths),
                examples.collect::<Vec<_>>().join("\n"),
            ];
            table.add_row(cells.map(|cell| printable(&cell)));
        }
        text.push_str(&format!("\n\n{}", show(&table)));
        text
    }

    /// In one sentence.
    pub(super) fn verdict(&self) -> String {
        match self.changed {
            0 => "all come to the same".to_owned(),
            1 => format!("1 changes, {} come to the same", self.same),
            changed => format!("{changed} change, {} come to the same", self.same),
        }
    }

    /// What should be known besides.
    pub(super) fn notes(&self) -> Vec<String> {
        let notes = [
            (self.failed, "of those that change failed in the component"),
            (self.other_reasons, "come to the same for another reason"),
            (self.asked_redacted, "asked for what was left out when they were kept, and may differ for that alone"),
            (self.unknown, "were asked through an interface that this version doesn't know, and are left out"),
            (self.further, "change in further ways that are not listed"),
        ];
        notes.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}

/// What was seen most often, by count and then by name.
fn most(counts: &HashMap<String, u64>) -> Vec<Counted> {
    let mut counted: Vec<_> =
        counts.iter().map(|(name, count)| Counted { name: name.clone(), count: *count }).collect();
    counted.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    counted.truncate(SHOWN);
    counted
}

/// Names with their counts, one to a line.
fn listed(counted: &[Counted]) -> String {
    counted.iter().map(|Counted { name, count }| format!("{name} {count}")).collect::<Vec<_>>().join("\n")
}

/// What clients sent must not move the cursor of a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() && letter != '\n' { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use platform_dataplane::{Asker, DecisionOutcome, Verdict};

    use super::*;
    use crate::cli::output::Format;

    fn again(subject: &str, target: &str, before: bool, after: bool) -> Again<'static> {
        let status = if before { 200 } else { 403 };
        let outcome = DecisionOutcome { allowed: before, status, ..DecisionOutcome::default() };
        let caller = Some(Asker { subject: subject.to_owned(), ..Asker::default() });
        let decision = Decision { caller, target: target.to_owned().into(), outcome, ..Decision::default() };
        let verdict = Verdict {
            allowed: after,
            reason: "a rule".to_owned(),
            status: if after { 200 } else { 403 },
            set_headers: Vec::new(),
            remove_headers: Vec::new(),
            response_headers: Vec::new(),
            decided_by: None,
            generation: 1,
            fault: None,
        };
        Again { decision, verdict: Some(verdict), asked_redacted: false }
    }

    fn summary(report: &Report) -> Summary {
        let about = About { file: "a.wasm".into(), digest: "sha256:0".into(), slot: "auth.policy".into() };
        report.summary(&about)
    }

    #[test]
    fn changes_are_grouped_and_counted() {
        let mut report = Report::new(2);
        for number in 0..100 {
            report.add(again("ada", "/a", true, true));
            report.add(again(&format!("user-{}", number % 7), &format!("/{}", number % 3), true, false));
        }
        report.add(again("bob", "/b\u{1b}[2J", false, true));
        report.add(Again { verdict: None, ..again("eve", "/", true, true) });
        let summary = summary(&report);
        assert_eq!((summary.replayed, summary.same, summary.changed), (201, 100, 101));
        assert_eq!((summary.unknown, summary.other_reasons, summary.failed), (1, 100, 0));
        let [most, least] = summary.changes.as_slice() else { panic!("{summary:?}") };
        assert_eq!((most.count, most.change.words().as_str()), (100, "allow → deny 403"));
        assert_eq!((least.count, least.change.words().as_str()), (1, "deny 403 → allow"));
        assert_eq!((most.subjects.len(), most.paths.len(), most.examples.len()), (5, 3, 2));
        assert_eq!((most.paths[0].name.as_str(), most.paths[0].count), ("/0", 34));
        let text = summary.text(Output::new(Format::Table));
        assert!(text.contains("101 change, 100 come to the same") && !text.contains('\u{1b}'), "{text}");
        let json = summary.to_json();
        assert_eq!((&json["changes"][0]["ruleAfter"], &json["slot"]), (&"a rule".into(), &"auth.policy".into()));
    }

    #[test]
    fn what_is_shown_is_bounded_and_what_is_counted_is_not() {
        let mut report = Report::new(1);
        for number in 0..CHANGES_MAX + 10 {
            let mut one = again("ada", "/a", true, false);
            one.verdict.as_mut().unwrap().reason = number.to_string();
            report.add(one);
        }
        let mut other = Report::new(1);
        for number in 0..4 {
            let mut one = again("ada", "/a", false, true);
            one.verdict.as_mut().unwrap().reason = number.to_string();
            other.add(one);
        }
        let mut both = Report::new(1);
        both.merge(report);
        both.merge(other);
        let summary = summary(&both);
        assert_eq!((summary.changes.len(), summary.further, summary.changed), (CHANGES_MAX, 14, 514));
    }

    #[test]
    fn reports_of_parts_come_to_the_report_of_the_whole() {
        let (mut whole, mut parts) = (Report::new(3), Report::new(3));
        for part in 0..5 {
            let mut report = Report::new(3);
            for number in part * 20..(part + 1) * 20 {
                let one =
                    || again(&format!("user-{}", number % 7), &format!("/{number}"), number % 2 == 0, number % 3 == 0);
                whole.add(one());
                report.add(one());
            }
            parts.merge(report);
        }
        assert_eq!(summary(&parts).to_json(), summary(&whole).to_json());
    }
}
