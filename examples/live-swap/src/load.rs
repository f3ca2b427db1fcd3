//! Load from wrk and h2load: as much as they can, in rounds, until told to stop. Every answer must be a success.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

use crate::process::executable;

/// Seconds of one round of a load generator.
const ROUND_S: u32 = 5;

/// What a load generator counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count {
    /// Requests that were answered.
    pub requests: u64,
    /// Requests that were not, or not with a success.
    pub failed: u64,
}

/// Runs wrk against a URL, over HTTP/1.1.
///
/// # Errors
/// When it can't be run or prints something else than expected.
pub async fn wrk(url: String, stop: Arc<AtomicBool>) -> Result<Count> {
    let program = executable("WRK", "wrk")?;
    let duration = format!("{ROUND_S}s");
    let arguments = ["--threads", "1", "--connections", "8", "--timeout", "20s", "--duration", &duration, &url];
    rounds(&program, &arguments, &stop, read_wrk).await
}

/// Runs h2load against a URL, over HTTP/2.
///
/// # Errors
/// When it can't be run or prints something else than expected.
pub async fn h2load(url: String, stop: Arc<AtomicBool>) -> Result<Count> {
    let program = executable("H2LOAD", "h2load")?;
    let duration = ROUND_S.to_string();
    let arguments =
        ["--threads", "1", "--clients", "2", "--max-concurrent-streams", "4", "--duration", &duration, &url];
    rounds(&program, &arguments, &stop, read_h2load).await
}

async fn rounds(
    program: &std::path::Path, arguments: &[&str], stop: &AtomicBool, read: fn(&str) -> Result<Count>,
) -> Result<Count> {
    let mut all = Count::default();
    while !stop.load(Ordering::Relaxed) {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "`{}` ended with {}: {text}", program.display(), output.status);
        let count = read(&text).with_context(|| format!("`{}` printed:\n{text}", program.display()))?;
        all.requests += count.requests;
        all.failed += count.failed;
        if count.failed > 0 {
            bail!("{} of {} requests failed:\n{text}", count.failed, count.requests);
        }
    }
    Ok(all)
}

fn read_wrk(text: &str) -> Result<Count> {
    let number = |word: &str| word.trim_matches(',').parse::<u64>().ok();
    let requests = text
        .lines()
        .find(|line| line.contains(" requests in "))
        .and_then(|line| line.split_whitespace().next().and_then(number));
    // Both lines are printed only when there is something to tell.
    let refused = text.lines().find_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses: ")).and_then(number);
    let broken = text.lines().find_map(|line| line.trim().strip_prefix("Socket errors:"));
    let broken: u64 = broken.into_iter().flat_map(str::split_whitespace).filter_map(number).sum();
    Ok(Count {
        requests: requests.context("wrk tells no number of requests")?,
        failed: refused.unwrap_or_default() + broken,
    })
}

fn read_h2load(text: &str) -> Result<Count> {
    let line =
        text.lines().find(|line| line.starts_with("requests: ")).context("h2load tells no number of requests")?;
    let number = |name: &str| {
        let part = line.trim_start_matches("requests: ").split(", ").find_map(|part| part.strip_suffix(name));
        part.and_then(|part| part.trim().parse::<u64>().ok())
            .with_context(|| format!("h2load tells no number of requests that are{name}"))
    };
    let status =
        text.lines().find(|line| line.starts_with("status codes: ")).context("h2load tells no status codes")?;
    let bad = status.trim_start_matches("status codes: ").split(", ").filter(|part| !part.contains("2xx"));
    let bad: u64 = bad.filter_map(|part| part.split_whitespace().next()?.parse::<u64>().ok()).sum();
    Ok(Count { requests: number(" done")?, failed: bad + number(" errored")? + number(" timeout")? })
}

#[cfg(test)]
mod tests {
    use super::{read_h2load, read_wrk};

    #[test]
    fn wrk_is_understood() {
        let good = "Running 1s test @ http://x\n  1 threads and 8 connections\n  4711 requests in 1.10s, 1.2MB read\nRequests/sec: 4282.7\n";
        let count = read_wrk(good).unwrap();
        assert_eq!((count.requests, count.failed), (4711, 0));
        let bad = "  9 requests in 1.10s\n  Socket errors: connect 1, read 2, write 0, timeout 4\n  Non-2xx or 3xx responses: 5\n";
        assert_eq!(read_wrk(bad).unwrap().failed, 12);
        assert!(read_wrk("unable to connect").is_err());
    }

    #[test]
    fn h2load_is_understood() {
        let text = "finished in 1.0s\nrequests: 100 total, 101 started, 100 done, 97 succeeded, 3 failed, 1 errored, 0 timeout\n\
                    status codes: 97 2xx, 0 3xx, 2 4xx, 0 5xx\n";
        let count = read_h2load(text).unwrap();
        assert_eq!((count.requests, count.failed), (100, 3));
    }
}
