//! The RESP port against a real redis-server on the same machine, asked by redis-benchmark in turns.
//!
//! Reads are compared with a Redis that keeps nothing, writes also with one that acknowledges as we do, after fsync.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use platform_base::clock;

use crate::{
    measure::{ROUNDS, median, row},
    server::{Guard, start_with},
};

/// Keys that are read and written.
const KEYS: &str = "100000";

/// One side of a comparison.
struct Side {
    address: SocketAddr,
    token: Option<String>,
}

pub(crate) async fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let (_daemon, _, _) = start_with(&data, &["--resp-address", "127.0.0.1:0"]).await?;
    let read = |name: &str| std::fs::read_to_string(data.join(name)).context("the daemon's data directory");
    let ours =
        Side { address: read("resp-address")?.trim().parse()?, token: Some(read("admin.token")?.trim().to_owned()) };
    let (_memory, memory) = redis(&folder.path().join("memory"), &["--appendonly", "no"]).await?;
    let (_durable, durable) =
        redis(&folder.path().join("durable"), &["--appendonly", "yes", "--appendfsync", "always"]).await?;
    for side in [&ours, &memory, &durable] {
        // So that reads find something.
        measure(side, "set", 50, 16)?;
    }
    for (clients, pipeline) in [(1, 1), (50, 1), (1, 16), (50, 16)] {
        for (test, theirs, against) in [
            ("get", &memory, "Redis"),
            ("set", &memory, "Redis that keeps nothing"),
            ("set", &durable, "Redis with appendfsync always"),
        ] {
            let what = format!("RESP {test}, {clients} clients, pipeline {pipeline} / {against}");
            compare(&what, test, clients, pipeline, &ours, theirs)?;
        }
    }
    Ok(())
}

fn compare(what: &str, test: &str, clients: u32, pipeline: u32, ours: &Side, theirs: &Side) -> Result<()> {
    let (mut left, mut right, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (a, b) = (measure(ours, test, clients, pipeline)?, measure(theirs, test, clients, pipeline)?);
        left.push(a);
        right.push(b);
        ratios.push(a / b);
    }
    row(what, median(&mut left), median(&mut right), median(&mut ratios), "aim <= 1.0");
    Ok(())
}

/// Microseconds per request.
fn measure(side: &Side, test: &str, clients: u32, pipeline: u32) -> Result<f64> {
    let requests = if clients * pipeline == 1 { 2_000 } else { 2_000 * clients.max(4) * pipeline.min(4) };
    let mut command = Command::new("redis-benchmark");
    command.args(["-h", &side.address.ip().to_string(), "-p", &side.address.port().to_string()]);
    command.args(["-t", test, "-r", KEYS, "-d", "100", "--csv"]);
    command.args(["-n", &requests.to_string(), "-c", &clients.to_string(), "-P", &pipeline.to_string()]);
    if let Some(token) = &side.token {
        command.args(["-a", token]);
    }
    let output = command.output().context("redis-benchmark; `cargo xtask setup --servers` installs it")?;
    let told = String::from_utf8_lossy(&output.stdout);
    // "SET","27322.40",... behind a line of headings.
    let line = told.lines().find(|line| line.to_lowercase().starts_with(&format!("\"{test}\"")));
    let per_second = line.and_then(|line| line.split('"').nth(3)).and_then(|rate| rate.parse::<f64>().ok());
    let per_second = per_second.with_context(|| format!("redis-benchmark did not say: {told}"))?;
    Ok(1e6 / per_second)
}

/// Starts a redis-server and waits until it answers.
async fn redis(folder: &Path, arguments: &[&str]) -> Result<(Guard, Side)> {
    std::fs::create_dir_all(folder)?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let child = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--dir"])
        .arg(folder)
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .context("redis-server; `cargo xtask setup --servers` installs it")?;
    let guard = Guard(child);
    let begun = clock::now();
    while TcpStream::connect(address).is_err() {
        if clock::now().saturating_duration_since(begun) > Duration::from_secs(20) {
            bail!("redis-server did not become ready");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok((guard, Side { address, token: None }))
}
