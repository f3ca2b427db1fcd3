//! What a rollout has come to, and when that is too much.
//!
//! Invariant: limits are looked at on what was measured while the rollout ran, and not before the candidate had
//! `calls_min` calls.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use platform_base::clock;
use platform_runtime::Fault;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, watch};

use super::InvalidPlan;
use crate::{
    metrics::{Counts, Metrics},
    status::RolloutStatus,
};

/// Divergences that are kept.
const DIVERGENCES_MAX: usize = 100;
/// Longest text of a divergence that is kept, in characters.
const TEXT_CHARS_MAX: usize = 300;
/// Questions that wait for the candidate of a shadow; those beyond are dropped.
const SHADOWS_QUEUED_MAX: usize = 1024;
/// Largest ratio of latencies that can be asked for.
const RATIO_MAX: f64 = 1e6;
/// A candidate that is slower by less than this is not too slow, whatever the ratio.
const SLOWER_MIN: Duration = Duration::from_micros(500);

/// When a rollout ends by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StopLimits {
    /// Calls that the candidate must have had before it is judged.
    pub calls_min: u64,
    /// Most of the candidate's calls that may fail, in percent, above what fails in the generation that serves.
    pub failure_percent_max: f64,
    /// How many times as long as those of the generation that serves the candidate's calls may take, on average.
    pub latency_ratio_max: Option<f64>,
    /// Most answers of a shadow that may differ, in percent.
    pub divergence_percent_max: Option<f64>,
}

impl Default for StopLimits {
    fn default() -> Self {
        Self { calls_min: 100, failure_percent_max: 0.5, latency_ratio_max: Some(5.0), divergence_percent_max: None }
    }
}

impl StopLimits {
    pub(super) fn check(&self) -> Result<(), InvalidPlan> {
        let percent = |name, given: f64| match given {
            0.0..=100.0 => Ok(()),
            _ => Err(InvalidPlan::Limit { name, given, allowed: "a percentage from 0 to 100" }),
        };
        percent("failure_percent_max", self.failure_percent_max)?;
        if let Some(given) = self.divergence_percent_max {
            percent("divergence_percent_max", given)?;
        }
        if let Some(given) = self.latency_ratio_max
            && !(1.0..=RATIO_MAX).contains(&given)
        {
            return Err(InvalidPlan::Limit { name: "latency_ratio_max", given, allowed: "a ratio from 1 to 1000000" });
        }
        if self.calls_min == 0 {
            return Err(InvalidPlan::Limit { name: "calls_min", given: 0.0, allowed: "1 or more" });
        }
        Ok(())
    }

    /// Why the rollout has to stop, if it has.
    pub(super) fn breach(&self, current: &Counts, candidate: &Counts, compared: &Compared) -> Option<String> {
        if candidate.calls < self.calls_min {
            return None;
        }
        let (failed, failed_before) = (failures(candidate), failures(current));
        let (rate, rate_before) = (percent(failed, candidate.calls), percent(failed_before, current.calls));
        if rate > rate_before + self.failure_percent_max {
            return Some(format!(
                "{failed} of {} calls failed ({rate:.2} %), and {failed_before} of {} in the generation that serves; \
                 {} % more are allowed",
                candidate.calls, current.calls, self.failure_percent_max
            ));
        }
        let (took, took_before) = (mean(candidate), mean(current));
        if let Some(most) = self.latency_ratio_max
            && current.calls >= self.calls_min
            && took > took_before.mul_f64(most)
            && took > took_before + SLOWER_MIN
        {
            return Some(format!(
                "calls took {} us on average, and {} us in the generation that serves; {most} times as long is allowed",
                took.as_micros(),
                took_before.as_micros()
            ));
        }
        let diverged = percent(compared.diverged, compared.answers);
        match self.divergence_percent_max {
            Some(most) if compared.answers >= self.calls_min && diverged > most => Some(format!(
                "{} of {} answers differed ({diverged:.2} %); {most} % are allowed",
                compared.diverged, compared.answers
            )),
            _ => None,
        }
    }
}

fn failures(counts: &Counts) -> u64 {
    counts.faults.values().sum()
}

#[expect(clippy::cast_precision_loss, reason = "a percentage of counts that large needs no more digits")]
fn percent(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 * 100.0 / of as f64 }
}

fn mean(counts: &Counts) -> Duration {
    counts.total / u32::try_from(counts.calls).unwrap_or(u32::MAX).max(1)
}

/// What the answers of a shadow came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared {
    /// Answers that were compared.
    pub answers: u64,
    /// Those that differed.
    pub diverged: u64,
    /// Questions that the candidate was not asked, because too many waited.
    pub dropped: u64,
}

/// Two answers to one question. Holds no secrets: values of headers and data stand as fingerprints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// When: unix time in milliseconds.
    pub time_ms: u64,
    /// Who asked; empty for nobody.
    pub subject: String,
    /// What was to be done.
    pub action: String,
    /// On what.
    pub resource: String,
    /// The answer that was used.
    pub used: String,
    /// The candidate's.
    pub candidate: String,
}

/// The end of a rollout that broke one of its limits.
#[derive(Debug, Clone)]
pub struct Stopped {
    /// Which, and by how much.
    pub why: String,
    /// What the rollout came to.
    pub status: RolloutStatus,
}

/// What a question was about, as it may be shown.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) subject: String,
    pub(crate) action: String,
    pub(crate) resource: String,
}

/// Questions for the candidate of a shadow, one after the other.
pub(super) type Shadows = mpsc::Receiver<BoxFuture<'static, ()>>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) current: Metrics,
    pub(crate) candidate: Metrics,
    draws: AtomicU64,
    answers: AtomicU64,
    diverged: AtomicU64,
    dropped: AtomicU64,
    divergences: Mutex<VecDeque<Arc<Divergence>>>,
    shadows: mpsc::Sender<BoxFuture<'static, ()>>,
    outcome: watch::Sender<Option<Arc<Stopped>>>,
    /// Told when something happened that limits are about.
    pub(crate) news: Notify,
}

impl Tally {
    pub(crate) fn new() -> (Self, Shadows) {
        let (shadows, queue) = mpsc::channel(SHADOWS_QUEUED_MAX);
        let tally = Self {
            current: Metrics::default(),
            candidate: Metrics::default(),
            draws: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            diverged: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            divergences: Mutex::default(),
            shadows,
            outcome: watch::Sender::new(None),
            news: Notify::new(),
        };
        (tally, queue)
    }

    /// A place from 0 to 99, evenly over every few calls in a row.
    pub(super) fn draw(&self) -> u32 {
        // Multiples of the golden ratio spread evenly, however many there are.
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let spread = self.draws.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN) >> 32;
        u32::try_from((spread * 100) >> 32).unwrap_or(0)
    }

    /// Counts a call of the candidate, and how it failed, if it did.
    pub(crate) fn tried(&self, took: Duration, failed: Option<&str>) {
        self.candidate.count(took, failed);
        if failed.is_some() {
            self.news.notify_one();
        }
    }

    /// Asks the candidate what was answered with `used`, when its turn comes.
    pub(crate) fn compare(
        self: &Arc<Self>, asked: Asked, used: String, candidate: BoxFuture<'static, Result<String, Fault>>,
    ) {
        let tally = Arc::clone(self);
        let work = async move {
            let begun = clock::now();
            let answer = candidate.await;
            tally.tried(clock::now().saturating_duration_since(begun), answer.as_ref().err().map(Fault::kind));
            if let Ok(candidate) = answer {
                tally.compared(asked, used, candidate);
            }
        };
        self.queue(Box::pin(work));
    }

    /// Lets the candidate of a shadow be asked when its turn comes, if not too many wait.
    pub(super) fn queue(&self, work: BoxFuture<'static, ()>) {
        if self.shadows.try_send(work).is_err() {
            self.dropped();
        }
    }

    /// Counts a question that the candidate was not asked, or whose answers could not be compared.
    pub(super) fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn compared(&self, asked: Asked, used: String, candidate: String) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        if used == candidate {
            return;
        }
        self.diverged.fetch_add(1, Ordering::Relaxed);
        let text = |text: String| text.chars().take(TEXT_CHARS_MAX).collect::<String>();
        let divergence = Divergence {
            time_ms: clock::unix_ms(),
            subject: text(asked.subject),
            action: text(asked.action),
            resource: text(asked.resource),
            used: text(used),
            candidate: text(candidate),
        };
        let mut divergences = self.divergences.lock();
        divergences.truncate(DIVERGENCES_MAX - 1);
        divergences.push_front(Arc::new(divergence));
        drop(divergences);
        self.news.notify_one();
    }

    /// What answers came to.
    pub(crate) fn answers(&self) -> Compared {
        Compared {
            answers: self.answers.load(Ordering::Relaxed),
            diverged: self.diverged.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    /// The last divergences, the newest first.
    pub(crate) fn divergences(&self) -> Vec<Arc<Divergence>> {
        self.divergences.lock().iter().cloned().collect()
    }

    /// Why the rollout was stopped, once it was.
    pub(super) fn outcome(&self) -> watch::Receiver<Option<Arc<Stopped>>> {
        self.outcome.subscribe()
    }

    /// Says why the rollout was stopped.
    pub(super) fn stop(&self, stopped: Stopped) {
        self.outcome.send_replace(Some(Arc::new(stopped)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(calls: u64, failed: u64, mean_us: u64) -> Counts {
        let faults = [("trap", failed)].into();
        Counts {
            calls,
            total: Duration::from_micros(mean_us) * u32::try_from(calls).unwrap(),
            faults,
            ..Counts::default()
        }
    }

    fn breach(limits: &StopLimits, current: &Counts, candidate: &Counts) -> Option<String> {
        limits.breach(current, candidate, &Compared::default())
    }

    #[test]
    fn failures_count_once_there_were_enough_calls() {
        let limits = StopLimits::default();
        assert_eq!(breach(&limits, &counts(1000, 0, 10), &counts(99, 99, 10)), None);
        let why = breach(&limits, &counts(1000, 0, 10), &counts(300, 3, 10)).unwrap();
        assert!(why.starts_with("3 of 300 calls failed (1.00 %)"), "{why}");
        assert_eq!(breach(&limits, &counts(1000, 0, 10), &counts(300, 1, 10)), None);
        assert_eq!(breach(&limits, &counts(1000, 10, 10), &counts(300, 3, 10)), None, "both fail alike");
        let none = StopLimits { failure_percent_max: 100.0, ..limits };
        assert_eq!(breach(&none, &counts(1000, 0, 10), &counts(300, 300, 10)), None);
    }

    #[test]
    fn slowness_counts_when_it_can_be_felt() {
        let limits = StopLimits { latency_ratio_max: Some(3.0), ..StopLimits::default() };
        assert_eq!(breach(&limits, &counts(1000, 0, 10), &counts(100, 0, 100)), None, "90 us is nothing");
        let why = breach(&limits, &counts(1000, 0, 1_000), &counts(100, 0, 3_100)).unwrap();
        assert!(why.contains("3100 us") && why.contains("1000 us"), "{why}");
        assert_eq!(breach(&limits, &counts(99, 0, 1_000), &counts(100, 0, 9_000)), None, "too few to compare with");
        let none = StopLimits { latency_ratio_max: None, ..limits };
        assert_eq!(breach(&none, &counts(1000, 0, 1), &counts(100, 0, 900_000)), None);
    }

    #[test]
    fn divergence_counts_when_a_limit_is_set() {
        let limits = StopLimits { divergence_percent_max: Some(5.0), ..StopLimits::default() };
        let compared = |answers, diverged| Compared { answers, diverged, dropped: 0 };
        let one = counts(1000, 0, 10);
        assert_eq!(limits.breach(&one, &one, &compared(1000, 50)), None);
        let why = limits.breach(&one, &one, &compared(1000, 51)).unwrap();
        assert!(why.starts_with("51 of 1000 answers differed (5.10 %)"), "{why}");
        assert_eq!(limits.breach(&one, &one, &compared(99, 99)), None);
        assert_eq!(StopLimits::default().breach(&one, &one, &compared(1000, 1000)), None);
    }

    #[test]
    fn the_last_divergences_are_kept_and_cut() {
        let (tally, _queue) = Tally::new();
        for number in 0..DIVERGENCES_MAX + 10 {
            let asked = Asked { subject: "ada".into(), action: "GET".into(), resource: "x".repeat(1000) };
            tally.compared(asked, number.to_string(), "other".into());
        }
        tally.compared(Asked { subject: "".into(), action: "".into(), resource: "".into() }, "a".into(), "a".into());
        let kept = tally.divergences();
        assert_eq!((kept.len(), kept[0].used.as_str()), (DIVERGENCES_MAX, "109"));
        assert_eq!(kept[0].resource.len(), TEXT_CHARS_MAX);
        let answers = tally.answers();
        assert_eq!((answers.answers, answers.diverged), (111, 110));
    }
}
