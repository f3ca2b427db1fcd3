//! Durable events: through the broker against the journal below it, and through the daemon against a NATS server with
//! JetStream on files.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use async_nats::jetstream;
use platform_capability::{SlotKind, event::TopicSettings};
use platform_dataplane::{NewEvent, PlaneConfig};
use platform_proto::event::v1 as proto;
use platform_runtime::EngineConfig;
use platform_storage::{Embedded, Options, Scope, Storage as _};
use platform_testkit::{Fixture, NatsServer, alone, call, component, plugin};
use tonic::{Request, transport::Channel};

use crate::{
    measure::{compare, load, row},
    server::{IN_FLIGHT, channels, start_with, token},
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
        let server = NatsServer::alone_synced(sync);
        let theirs = [stream(&server).await?];
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

/// A stream on the files of a server.
async fn stream(server: &NatsServer) -> Result<jetstream::Context> {
    let context = jetstream::new(async_nats::connect(server.url()).await?);
    let stream = jetstream::stream::Config { name: TOPIC.to_owned(), ..Default::default() };
    context.create_stream(stream).await?;
    Ok(context)
}
