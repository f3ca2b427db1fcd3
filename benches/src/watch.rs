//! Watches: what ten thousand of them cost while nothing happens, and until all have heard of one write.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result, bail};
use platform_base::clock;
use platform_proto::kv::v1::{PutRequest, WatchRequest, kv_client::KvClient, watch_event};
use tokio::{sync::Notify, task::JoinSet};
use tonic::{Request, transport::Endpoint};

use crate::{
    measure::{ROUNDS, figure, median, us},
    server::{Guard, start_with, token},
};

const WATCHES: usize = 10_000;
/// Fewer than a connection may carry.
const PER_CONNECTION: usize = 500;

/// How many watches have heard of the last write.
#[derive(Default)]
struct Heard {
    count: AtomicUsize,
    all: Notify,
}

pub(crate) async fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let (daemon, address, _) = start_with(&data, &[]).await?;
    let token = token(&data)?;
    let endpoint = Endpoint::from_shared(address)?;
    let writer = KvClient::new(endpoint.connect().await?);
    let put = async || -> Result<()> {
        let mut request =
            Request::new(PutRequest { key: "watched".to_owned(), value: "1".into(), ..Default::default() });
        request.metadata_mut().insert("authorization", token.clone());
        writer.clone().put(request).await?;
        Ok(())
    };
    put().await?;
    let before = resident(&daemon)?;
    let heard = Arc::new(Heard::default());
    let mut tasks = JoinSet::new();
    for _ in 0..WATCHES / PER_CONNECTION {
        let channel = endpoint.connect().await?;
        for _ in 0..PER_CONNECTION {
            let mut request = Request::new(WatchRequest { prefix: "watched".to_owned(), after_revision: None });
            request.metadata_mut().insert("authorization", token.clone());
            let mut events = KvClient::new(channel.clone()).watch(request).await?.into_inner();
            // Progress, which says that the watch has begun.
            events.message().await?.context("the watch ended")?;
            let heard = Arc::clone(&heard);
            tasks.spawn(async move {
                while let Ok(Some(message)) = events.message().await {
                    if matches!(message.event, Some(watch_event::Event::Put(_)))
                        && heard.count.fetch_add(1, Ordering::Relaxed) + 1 == WATCHES
                    {
                        heard.all.notify_one();
                    }
                }
            });
        }
    }
    let idle = (resident(&daemon)? - before) * 1024.0 / f64::from(u32::try_from(WATCHES)?);
    figure("memory of an idle watch through gRPC", idle, "bytes", "aim < 4096");
    let (mut all_ms, mut one_us) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        heard.count.store(0, Ordering::Relaxed);
        let begun = clock::now();
        put().await?;
        heard.all.notified().await;
        let took = us(clock::now().saturating_duration_since(begun));
        all_ms.push(took / 1000.0);
        one_us.push(took / f64::from(u32::try_from(WATCHES)?));
    }
    figure("from a put to the last of 10,000 watches", median(&mut all_ms), "ms", "");
    figure("  per watch, client and daemon on the same cores", median(&mut one_us), "us", "");
    Ok(())
}

/// KiB that a process has in memory.
fn resident(process: &Guard) -> Result<f64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(process.0.id().to_string()).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    match line.and_then(|line| line.split_whitespace().next()?.parse().ok()) {
        Some(kib) => Ok(kib),
        None => bail!("the kernel does not say how much memory the daemon has"),
    }
}
