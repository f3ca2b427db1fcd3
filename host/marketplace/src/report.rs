//! [`Report`]: what came of trying a component in a sandbox before it is listed.
//!
//! Owns its form, which whoever tries components writes and the index keeps; must not know how they are tried. Invariant: a report is about bytes, and bounded
//! whatever a component answered.

use platform_runtime::Digest;
use serde::{Deserialize, Serialize};

/// Most broken promises that are kept.
const BROKEN_MAX: usize = 20;
/// Longest text that is kept, in bytes.
const TEXT_BYTES_MAX: usize = 500;

/// Whether a component keeps the promises of its slot's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It keeps all that were checked.
    Passed,
    /// It breaks one, refuses settings that its schema takes, or did not come to an end.
    Failed,
    /// It can't be tried here.
    NotTried,
}

/// A promise that is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// The check's name.
    pub name: String,
    /// What is promised.
    pub promise: String,
    /// What was found.
    pub found: String,
}

/// What calls took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Name of the component.
    pub component: String,
    /// Calls that were measured.
    pub calls: u64,
    /// Half of them took no longer, in nanoseconds.
    pub p50_ns: u64,
    /// 99 of 100 took no longer, in nanoseconds.
    pub p99_ns: u64,
    /// Memory of an instance, in bytes.
    pub memory_bytes: u64,
    /// Size of the component, in bytes.
    pub size_bytes: u64,
}

/// What came of trying a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Digest of the component.
    pub component: Digest,
    /// The slot that it is for.
    pub slot: String,
    /// Whether it keeps its promises.
    pub verdict: Verdict,
    /// Why it did not pass, in a sentence; empty when it did.
    pub why: String,
    /// Settings that it was tried with, as JSON.
    pub settings: String,
    /// Promises that it keeps.
    pub kept: u64,
    /// Promises of what is optional, which it does not make.
    pub left_out: u64,
    /// Promises that it breaks.
    pub broken: Vec<Broken>,
    /// What its calls took.
    pub measured: Option<Figures>,
    /// What those of the component took that is the measure for its slot, asked the same in turns.
    pub reference: Option<Figures>,
    /// Why nothing was measured; empty when it was.
    pub unmeasured: String,
    /// When it was tried, unix time in milliseconds.
    pub at_ms: u64,
    /// The version of the platform that tried it.
    pub platform: String,
}

impl Report {
    /// One without any result yet.
    #[must_use]
    pub fn new(component: Digest, slot: &str, platform: &str, at_ms: u64) -> Self {
        Self {
            component,
            slot: slot.to_owned(),
            verdict: Verdict::NotTried,
            why: String::new(),
            settings: String::new(),
            kept: 0,
            left_out: 0,
            broken: Vec::new(),
            measured: None,
            reference: None,
            unmeasured: String::new(),
            at_ms,
            platform: platform.to_owned(),
        }
    }

    /// One that came to this verdict before anything could be measured.
    #[must_use]
    pub fn ended(self, verdict: Verdict, why: impl Into<String>) -> Self {
        Self { verdict, why: why.into(), unmeasured: "it did not pass".to_owned(), ..self }
    }

    /// The same within its bounds.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.broken.truncate(BROKEN_MAX);
        let broken = self.broken.iter_mut().flat_map(|one| [&mut one.name, &mut one.promise, &mut one.found]);
        let figures = self.measured.iter_mut().chain(self.reference.iter_mut()).map(|figures| &mut figures.component);
        let own = [&mut self.slot, &mut self.why, &mut self.settings, &mut self.unmeasured, &mut self.platform];
        for text in own.into_iter().chain(broken).chain(figures) {
            shorten(text);
        }
        self
    }

    /// Why it is not good enough to be listed; none when it is.
    pub(crate) fn hindrance(&self) -> Option<String> {
        match self.verdict {
            Verdict::Passed => None,
            Verdict::Failed => Some(format!("it was tried and failed: {}", self.why)),
            Verdict::NotTried => Some(format!("it can't be tried here: {}", self.why)),
        }
    }
}

fn shorten(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_bounded() {
        let long = "ä".repeat(TEXT_BYTES_MAX);
        let broken = Broken { name: long.clone(), promise: long.clone(), found: long.clone() };
        let report = Report::new(Digest::of(b""), "kv.store", "0", 0);
        let report =
            Report { broken: vec![broken; 1000], settings: long.clone(), ..report.ended(Verdict::Failed, long) };
        let bytes = serde_json::to_vec(&report.bounded()).unwrap();
        assert!(bytes.len() < 64 << 10, "{}", bytes.len());
    }

    #[test]
    fn what_did_not_pass_is_told() {
        let report = Report::new(Digest::of(b""), "kv.store", "0", 0);
        let of = |verdict| report.clone().ended(verdict, "so it is").hindrance();
        assert_eq!(of(Verdict::Passed), None);
        assert!(of(Verdict::Failed).unwrap().contains("failed: so it is"));
        assert!(of(Verdict::NotTried).unwrap().contains("can't be tried here: so it is"));
    }
}
