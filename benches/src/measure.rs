//! Times things in turns, so that a drifting clock speed hits both sides of a ratio alike.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use platform_base::clock;

/// Rounds of a comparison; the median of their ratios is printed.
pub(crate) const ROUNDS: usize = 9;

/// How long a load lasts.
const SPAN: Duration = Duration::from_millis(700);

/// Prints a comparison: two figures in microseconds, how often the first fits into the second, and what was hoped for.
#[expect(clippy::print_stdout, reason = "this is a program that prints")]
pub(crate) fn row(what: &str, ours_us: f64, theirs_us: f64, ratio: f64, aim: &str) {
    println!("{what:<64} {ours_us:>12.3} us {theirs_us:>12.3} us   ratio {ratio:>7.3}   {aim}");
}

/// Prints one figure.
#[expect(clippy::print_stdout, reason = "this is a program that prints")]
pub(crate) fn figure(what: &str, value: f64, unit: &str, aim: &str) {
    println!("{what:<64} {value:>12.3} {unit:<15}                    {aim}");
}

/// The middle of some values.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which a share of the values lies.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a list"
    )]
    let place = (values.len() as f64 * share) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// Microseconds.
pub(crate) fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Runs both in turns and gives their medians and the median of their ratios. Each returns microseconds per call.
pub(crate) async fn compare(
    mut ours: impl AsyncFnMut() -> f64, mut theirs: impl AsyncFnMut() -> f64,
) -> (f64, f64, f64) {
    let (mut left, mut right, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    ours().await;
    theirs().await;
    for _ in 0..ROUNDS {
        let (a, b) = (ours().await, theirs().await);
        left.push(a);
        right.push(b);
        ratios.push(a / b);
    }
    (median(&mut left), median(&mut right), median(&mut ratios))
}

/// Microseconds that one of `calls` calls takes.
pub(crate) async fn per_call(calls: u32, mut call: impl AsyncFnMut()) -> f64 {
    let begun = clock::now();
    for _ in 0..calls {
        call().await;
    }
    us(clock::now().saturating_duration_since(begun)) / f64::from(calls)
}

/// Microseconds per call with so many calls in flight, on some parties in turns.
pub(crate) async fn load<T: Clone + Send + 'static, F: Future<Output = bool> + Send>(
    parties: &[T], in_flight: usize, call: impl Fn(T) -> F + Copy + Send + 'static,
) -> f64 {
    let done = Arc::new(AtomicU64::new(0));
    let begun = clock::now();
    let mut tasks = tokio::task::JoinSet::new();
    for party in parties.iter().cycle().take(in_flight) {
        let (party, done) = (party.clone(), Arc::clone(&done));
        tasks.spawn(async move {
            while clock::now().saturating_duration_since(begun) < SPAN {
                assert!(call(party.clone()).await, "a call failed");
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tasks.join_all().await;
    let calls = u32::try_from(done.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
    us(clock::now().saturating_duration_since(begun)) / f64::from(calls)
}
