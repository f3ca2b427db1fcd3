//! Waiting for a condition, and how long answers took.

use std::time::Duration;

use platform_base::clock;

/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
///
/// # Panics
/// It does not within half a minute.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = clock::now();
    while !condition().await {
        assert!(clock::now().saturating_duration_since(begun) < PATIENCE, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How long answers took.
#[derive(Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Waits for an answer and takes note of how long that was.
    pub async fn of<T>(&mut self, answer: impl Future<Output = T>) -> T {
        let begun = clock::now();
        let answer = answer.await;
        self.0.push(clock::now().saturating_duration_since(begun));
        answer
    }

    /// The time within which 99 of 100 answers came.
    #[must_use]
    pub fn p99(&mut self) -> Duration {
        self.0.sort_unstable();
        self.0.get(self.0.len() * 99 / 100).copied().unwrap_or_default()
    }
}
