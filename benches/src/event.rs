//! Durable events: through the broker against the journal below it, and through the daemon against a NATS server with
//! JetStream on files.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use async_nats::jetstream;
use platform_base::clock;
use platform_capability::{SlotKind, event::TopicSettings};
use platform_dataplane::{NewEvent, PlaneConfig};
use platform_proto::event::v1 as proto;
use platform_runtime::EngineConfig;
use platform_storage::{Embedded, Options, Scope, Storage as _};
use platform_testkit::{Fixture, alone, call, component, plugin};
use tonic::{Request, transport::Channel};

use crate::{
    measure::{compare, load, row},
    server::{Guard, IN_FLIGHT, channels, start_with, token},
};

/// Bytes of an event's data.
const BYTES: usize = 100;
const TOPIC: &str = "bench";

pub(crate) async fn run() -> Result<()> {
    against_the_journal().await?;
    against_nats().await
}

/// The broker and what it stands on.
#[derive(Clone)]
struct Below {
    fixture: Arc<Fixture>,
    storage: Arc<Embedded>,
}

/// In one process: what the broker adds to a durable append.
async fn against_the_journal() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let storage = Arc::new(Embedded::open(folder.path().join("storage"), Options::default())?);
    let fixture = Fixture::over(Arc::clone(&storage) as _, &EngineConfig::default(), PlaneConfig::default());
    let wasm = component("plugins", "event-storage");
    fixture.bind("event.broker", alone(plugin(SlotKind::EventBroker, "event-storage", &wasm, &["storage"]))).await;
    let kept = TopicSettings { age_ms: None, count: None, bytes: None, window_ms: 60_000 };
    fixture.plane.event().put_topic(&call(), TOPIC, kept, true).await.map_err(|error| anyhow!("{error:?}"))?;
    let below = [Below { fixture: Arc::new(fixture), storage: Arc::clone(&storage) }];
    for in_flight in [1, IN_FLIGHT] {
        let (ours, theirs, ratio) = compare(
            async || {
                let publish = async |below: Below| {
                    let event = NewEvent { kind: "bench".to_owned(), data: vec![7; BYTES], ..NewEvent::default() };
                    below.fixture.plane.event().publish(&call(), TOPIC, vec![event]).await.is_ok()
                };
                load(&below, in_flight, publish).await
            },
            async || {
                let append = async |below: Below| {
                    let scope = Scope::new("bench", "raw");
                    below.storage.append(&scope, "raw", vec![vec![7; BYTES].into()]).await.is_ok()
                };
                load(&below, in_flight, append).await
            },
        )
        .await;
        row(&format!("event, {in_flight} in flight / append to a journal"), ours, theirs, ratio, "aim <= 2 (>= 0.5)");
    }
    drop(below);
    storage.close().await;
    Ok(())
}

/// Over loopback: the daemon against NATS, both on files.
async fn against_nats() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let (_daemon, address, _) = start_with(&data, &[]).await?;
    let ours = channels(&address).await?;
    let token = token(&data)?;
    let channel = ours.first().context("no connection")?;
    let mut topic = Request::new(proto::CreateTopicRequest { name: TOPIC.to_owned(), ..Default::default() });
    topic.metadata_mut().insert("authorization", token.clone());
    proto::events_client::EventsClient::new(channel.clone()).create_topic(topic).await?;
    let publish = move |channel: Channel| async move {
        let event = proto::NewEvent { r#type: "bench".to_owned(), data: vec![7; BYTES].into(), ..Default::default() };
        let mut request = Request::new(proto::PublishRequest { topic: TOPIC.to_owned(), event: Some(event) });
        request.metadata_mut().insert("authorization", token.clone());
        proto::events_client::EventsClient::new(channel).publish(request).await.is_ok()
    };
    for (sync, name) in
        [("always", "NATS, fsync before it acknowledges"), ("2m", "NATS as it comes, fsync every 2 min")]
    {
        let (_server, context) = nats(&folder.path().join(sync), sync).await?;
        let theirs = [context];
        let send = |context: jetstream::Context| async move {
            match context.publish(TOPIC, vec![7; BYTES].into()).await {
                Ok(sent) => sent.await.is_ok(),
                Err(_) => false,
            }
        };
        let (a, b, ratio) =
            compare(async || load(&ours, IN_FLIGHT, publish).await, async || load(&theirs, IN_FLIGHT, send).await)
                .await;
        row(&format!("event through gRPC, {IN_FLIGHT} in flight / {name}"), a, b, ratio, "");
    }
    Ok(())
}

/// Starts a NATS server and makes a stream on files.
async fn nats(folder: &Path, sync: &str) -> Result<(Guard, jetstream::Context)> {
    std::fs::create_dir_all(folder)?;
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let configuration = folder.join("nats.conf");
    let store = folder.join("store");
    let text = format!(
        "listen: \"{address}\"\njetstream {{ store_dir: \"{}\", sync_interval: \"{sync}\" }}\n",
        store.display()
    );
    std::fs::write(&configuration, text)?;
    let child = Command::new(program())
        .arg("--config")
        .arg(&configuration)
        .arg("--log")
        .arg(folder.join("log"))
        .spawn()
        .context("nats-server; `cargo xtask setup --servers` installs it")?;
    let guard = Guard(child);
    let begun = clock::now();
    let client = loop {
        match async_nats::connect(address.to_string()).await {
            Ok(client) => break client,
            Err(error) if clock::now().saturating_duration_since(begun) > Duration::from_secs(20) => bail!(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let context = jetstream::new(client);
    let stream = jetstream::stream::Config { name: TOPIC.to_owned(), ..Default::default() };
    context.create_stream(stream).await?;
    Ok((guard, context))
}

/// What `cargo xtask setup` unpacked beside what it builds, or what the machine has.
fn program() -> std::path::PathBuf {
    let own = std::env::current_exe().ok().and_then(|own| {
        own.ancestors().map(|folder| folder.join("tools/bin/nats-server")).find(|program| program.is_file())
    });
    own.unwrap_or_else(|| "nats-server".into())
}
