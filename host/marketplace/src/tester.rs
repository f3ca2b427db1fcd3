//! [`Tester`]: components are tried in a process of their own.
//!
//! Owns that process; must not know what it does. Invariant: it ends with the daemon and in its time, its answer is bounded, and it finds nothing
//! of the daemon's environment: what it runs was written by somebody else.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use platform_base::clock;
use platform_runtime::Digest;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
};

use crate::report::{Report, Verdict};

/// Longest answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// A program that tries a component.
#[derive(Debug, Clone)]
pub struct Tester {
    /// The program. It prints a [`Report`] as JSON, and ends when its standard input does.
    pub program: PathBuf,
    /// What it is given before the file of the component.
    pub arguments: Vec<OsString>,
    /// The version of the platform.
    pub platform: String,
}

impl Tester {
    /// Tries the component in a file; none when that was not possible for a reason that is not the component's.
    pub(crate) async fn run(
        &self, component: Digest, slot: &str, file: &Path, folder: &Path, time: Duration,
    ) -> Option<Report> {
        let blank = Report::new(component, slot, &self.platform, clock::unix_ms());
        let ended = |why: String| Some(blank.clone().ended(Verdict::Failed, why).bounded());
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .arg(file)
            .env_clear()
            .env("TMPDIR", folder)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                tracing::error!(%component, %error, "a component could not be tried: its process did not start");
                return None;
            }
        };
        let Ok(answered) = tokio::time::timeout(time, answer(&mut child)).await else {
            return ended(format!("it was not tried to the end within {} s", time.as_secs()));
        };
        match answered {
            Ok((_, text)) if let Some(report) = read(&text) => {
                // What was read may not be what lies there under that name.
                (report.component == component).then(|| report.bounded()).or_else(|| {
                    tracing::error!(%component, "the bytes of a component are damaged; push it again");
                    None
                })
            }
            Ok((status, _)) => ended(format!("the process that tried it ended without an answer ({status})")),
            Err(error) => {
                tracing::error!(%component, %error, "a component could not be tried");
                None
            }
        }
    }
}

fn read(text: &[u8]) -> Option<Report> {
    serde_json::from_slice(text).ok()
}

/// How it ended, and what it printed. Its standard input stays open until then.
async fn answer(child: &mut Child) -> std::io::Result<(ExitStatus, Vec<u8>)> {
    let stdin = child.stdin.take();
    let mut text = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut text).await?;
    }
    // Whoever prints more than that waits for nobody.
    drop(stdin);
    child.wait().await.map(|status| (status, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(60);

    async fn tried(script: &str, time: Duration) -> Option<Report> {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["-c", script].map(OsString::from).to_vec();
        let tester = Tester { program: "/bin/sh".into(), arguments, platform: "1.2.3".to_owned() };
        tester.run(Digest::of(b"a"), "kv.store", Path::new("file"), folder.path(), time).await
    }

    #[tokio::test]
    async fn an_answer_is_taken() {
        let report = Report { verdict: Verdict::Passed, kept: 7, ..Report::new(Digest::of(b"a"), "kv.store", "1", 1) };
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(tried(&format!("echo '{text}'"), TIME).await, Some(report));
    }

    #[tokio::test]
    async fn one_about_other_bytes_is_not() {
        let text = serde_json::to_string(&Report::new(Digest::of(b"b"), "kv.store", "1", 1)).unwrap();
        assert_eq!(tried(&format!("echo '{text}'"), TIME).await, None);
    }

    #[tokio::test]
    async fn whoever_ends_without_an_answer_failed() {
        for script in ["exit 3", "kill -9 $$", "echo no report", "head -c 3000000 /dev/zero"] {
            let report = tried(script, TIME).await.unwrap();
            assert!(report.verdict == Verdict::Failed && report.why.contains("without an answer"), "{report:?}");
        }
    }

    #[tokio::test]
    async fn whoever_does_not_end_is_ended() {
        let report = tried("read line", Duration::from_millis(50)).await.unwrap();
        assert!(report.verdict == Verdict::Failed && report.why.contains("to the end"), "{report:?}");
    }

    #[tokio::test]
    async fn nothing_of_the_environment_is_given() {
        let report = Report::new(Digest::of(b"a"), "kv.store", "1", 1);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(tried(&format!("test -z \"$CARGO_MANIFEST_DIR$HOME\" && echo '{text}'"), TIME).await, Some(report));
    }
}
