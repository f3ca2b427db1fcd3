//! How fast kept decisions are asked again, from the daemon's files to the report, and whether a planted change is found.

use std::{fs, io::Write, path::Path, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use platform_base::clock;
use platform_capability::auth::INTERFACE;
use platform_dataplane::{Asker, Decision, DecisionOutcome};
use serde_json::Value;

use crate::{
    measure::{figure, median},
    server::{binary, dist, start},
};

const DECISIONS: u64 = 100_000;
/// One in so many was allowed when it was kept, and would not be now.
const PLANTED: u64 = 1_000;
const TURNS: usize = 5;

pub(crate) async fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    fs::create_dir_all(data.join("decisions"))?;
    fs::write(data.join("platform.toml"), "[decisions]\nsample_percent = 100\nkeep_mib = 1024\n")?;
    write(&data.join("decisions"))?;
    let (_daemon, _, _) = start(&data).await?;
    let cores = std::thread::available_parallelism()?.get();
    for mode in ["fresh", "reused"] {
        let mut rates = Vec::new();
        for _ in 0..TURNS {
            let report = replay(&data, mode)?;
            let number = |name| report.get(name).and_then(Value::as_u64).context("the report lacks a number");
            ensure!(number("replayed")? == DECISIONS && number("changed")? == DECISIONS / PLANTED, "{report}");
            #[expect(clippy::cast_precision_loss, reason = "few enough")]
            rates.push(DECISIONS as f64 / number("tookMs")? as f64 / cores as f64);
        }
        let what = format!("replay of 100,000 decisions by 50 rules, {mode}");
        figure(&what, median(&mut rates), "thousand a second and core", ">= 100");
    }
    Ok(())
}

fn write(folder: &Path) -> Result<()> {
    let now = clock::unix_ns();
    let mut file = std::io::BufWriter::new(fs::File::create(folder.join(format!("{now:020}.jsonl")))?);
    for number in 0..DECISIONS {
        let planted = number % PLANTED == 0;
        let target = if planted { "/closed".to_owned() } else { format!("/open/{}", number % 100) };
        let decision = Decision {
            interface: INTERFACE.into(),
            slot: "auth.policy".into(),
            time_ns: now + number,
            namespace: "default".into(),
            caller: Some(Asker { subject: format!("user-{}", number % 1000), ..Asker::default() }),
            action: "GET".into(),
            target: target.into(),
            headers: [("accept", "*/*"), ("host", "shop.example"), ("user-agent", "bench")].into_iter().collect(),
            attributes: [("gateway", "envoy"), ("host", "shop.example"), ("method", "GET")].into_iter().collect(),
            outcome: DecisionOutcome { allowed: true, status: 200, ..DecisionOutcome::default() },
            ..Decision::default()
        };
        serde_json::to_writer(&mut file, &decision)?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}

fn replay(data: &Path, mode: &str) -> Result<Value> {
    let output = Command::new(binary()?)
        .args(["--output", "json", "plugin", "replay", "--mode", mode, "--settings", &crate::decision::rules()])
        .arg(dist().join("plugins/auth-scopes.wasm"))
        .arg("--data-dir")
        .arg(data)
        .output()?;
    if output.status.code() != Some(1) {
        bail!("replay ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
