//! The connection to NATS and the two streams in it.
//!
//! Owns what is said to servers and what their refusals mean; must not know what entries hold. Invariant: no call here
//! waits longer than a few seconds, and each says whether what it asked may have been done.

use std::{fmt, time::Duration};

use async_nats::{
    Client, HeaderMap,
    connection::State,
    jetstream::{
        self,
        consumer::{AckPolicy, DeliverPolicy, pull},
        context::{CreateStreamError, CreateStreamErrorKind, PublishErrorKind},
        message::PublishMessage,
        object_store::ObjectStore,
        stream::{self, DiscardPolicy, RetentionPolicy, StorageType},
    },
};
use bytes::Bytes;

use super::{NatsOptions, OpenError};

/// Longest that one request waits for its answer; then it is asked again.
const ANSWER: Duration = Duration::from_secs(2);
/// Longest that connecting to one server takes.
const CONNECT: Duration = Duration::from_secs(2);
/// Room for headers beside an entry in a message.
const HEADER_BYTES: usize = 512;
/// Most bytes of an entry, also where the server takes more: what lies in one message is in memory several times.
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// A server that takes less at once than this is not one to store in.
const ENTRY_BYTES_MIN: usize = 4 << 10;
/// How long a reader may be silent before the server forgets it.
const READER: Duration = Duration::from_secs(30);
/// Messages that a reader asks for at once.
const READ_AHEAD: usize = 64;

/// Why something was not published.
#[derive(Debug)]
pub(super) enum Unpublished {
    /// The place was taken: another entry came first.
    Taken,
    /// It was not done and trying again later may help, or nobody knows whether it was done.
    Unknown(String),
}

/// See the module.
pub(super) struct Link {
    pub(super) client: Client,
    jetstream: jetstream::Context,
    log: stream::Stream<()>,
    snapshots: stream::Stream<()>,
    pub(super) objects: ObjectStore,
    entries: String,
    marks: String,
    prefix: String,
    replicated: bool,
}

impl Link {
    /// Connects and makes the streams unless they are there.
    pub(super) async fn open(options: &NatsOptions) -> Result<Self, OpenError> {
        let unreachable = |why: String| OpenError::Unreachable { servers: options.shown(), why };
        let client = options.connector(CONNECT).await?.connect(&options.servers[..]).await;
        let client = client.map_err(|error| unreachable(words(&error)))?;
        let jetstream =
            jetstream::context::ContextBuilder::new().timeout(ANSWER).ack_timeout(ANSWER).build(client.clone());
        if client.max_payload() < ENTRY_BYTES_MIN + HEADER_BYTES {
            let most = client.max_payload();
            return Err(OpenError::Unusable(format!(
                "the server takes at most {most} bytes in a message; set its `max_payload` to 64KB or more, best 1MB"
            )));
        }
        let prefix = options.prefix.clone();
        let log = own(format!("{prefix}-log"), vec![format!("{prefix}.log"), format!("{prefix}.mark")]);
        let snapshots = own(format!("{prefix}-snapshots"), vec![format!("{prefix}.snapshot.*")]);
        let replicas = prepare(&jetstream, log, options).await?;
        prepare(&jetstream, snapshots, options).await?;
        prepare(&jetstream, bucket(&prefix), options).await?;
        let objects = jetstream.get_object_store(&prefix).await;
        let objects = objects.map_err(|error| OpenError::Unusable(words(&error)))?;
        let stream = async |name: &str| {
            let stream = jetstream.get_stream_no_info(format!("{prefix}-{name}")).await;
            stream.map_err(|error| OpenError::Unusable(words(&error)))
        };
        let (log, snapshots) = (stream("log").await?, stream("snapshots").await?);
        let (entries, marks) = (format!("{prefix}.log"), format!("{prefix}.mark"));
        Ok(Self { client, jetstream, log, snapshots, objects, entries, marks, prefix, replicated: replicas > 1 })
    }

    /// Most bytes of an entry.
    pub(super) fn entry_bytes(&self) -> usize {
        self.client.max_payload().saturating_sub(HEADER_BYTES).clamp(ENTRY_BYTES_MIN, ENTRY_BYTES_MAX)
    }

    /// Puts an entry behind `last`, the last that writes depend on, or nowhere; its place.
    pub(super) async fn publish(&self, last: u64, entry: Bytes) -> Result<u64, Unpublished> {
        let message = PublishMessage::build().payload(entry).expected_last_subject_sequence(last);
        self.send(self.entries.clone(), message).await
    }

    /// A place in the log such that all that was acknowledged before this call lies before it.
    ///
    /// The leader of a stream with replicas may have been replaced and not know it yet, so what it says by itself may be
    /// old; that it stored a mark takes a majority, which a leader that was replaced does not have.
    pub(super) async fn frontier(&self) -> Result<u64, String> {
        if self.replicated {
            return self.mark(Bytes::new()).await;
        }
        self.connected()?;
        self.log.get_info().await.map(|info| info.state.last_sequence).map_err(|error| words(&error))
    }

    /// Puts something into the log that no write depends on; its place.
    pub(super) async fn mark(&self, body: Bytes) -> Result<u64, String> {
        let sent = self.send(self.marks.clone(), PublishMessage::build().payload(body)).await;
        sent.map_err(|error| match error {
            Unpublished::Taken => "a mark was refused".to_owned(),
            Unpublished::Unknown(why) => why,
        })
    }

    async fn send(&self, subject: String, message: PublishMessage) -> Result<u64, Unpublished> {
        // What is sent while there is no connection would wait in the client for who knows how long.
        self.connected().map_err(Unpublished::Unknown)?;
        let unpublished = |error: jetstream::context::PublishError| match error.kind() {
            PublishErrorKind::WrongLastSequence => Unpublished::Taken,
            // The same of a leader that has another entry before it which it has not stored yet.
            _ if code(&error) == Some(jetstream::ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT) => Unpublished::Taken,
            PublishErrorKind::StreamNotFound => {
                Unpublished::Unknown("the stream in NATS has no leader, or was removed".to_owned())
            }
            PublishErrorKind::TimedOut => Unpublished::Unknown("NATS did not answer in time".to_owned()),
            _ => Unpublished::Unknown(words(&error)),
        };
        let acknowledged = self.jetstream.send_publish(subject, message).await.map_err(unpublished)?;
        Ok(acknowledged.await.map_err(unpublished)?.sequence)
    }

    fn connected(&self) -> Result<(), String> {
        match self.client.connection_state() {
            State::Connected => Ok(()),
            _ => Err("there is no connection to NATS".to_owned()),
        }
    }

    /// Place of the first entry that is kept.
    pub(super) async fn first(&self) -> Result<u64, String> {
        self.log.get_info().await.map(|info| info.state.first_sequence).map_err(|error| words(&error))
    }

    /// Everything in the log from a place on, as it comes.
    pub(super) async fn follow(&self, from: u64) -> Result<pull::Stream, String> {
        messages(&self.log, DeliverPolicy::ByStartSequence { start_sequence: from }, String::new()).await
    }

    /// Whether a message of the log is one that writes depend on.
    pub(super) fn is_entry(&self, subject: &str) -> bool {
        subject == self.entries
    }

    /// Drops the log before a place.
    pub(super) async fn drop_before(&self, place: u64) -> Result<(), String> {
        self.log.purge().sequence(place).await.map(drop).map_err(|error| words(&error))
    }

    /// Puts a piece behind the others of the snapshot `name`.
    pub(super) async fn put_piece(&self, name: &str, piece: Bytes) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", format!("{}-snapshots", self.prefix));
        let message = PublishMessage::build().payload(piece).headers(headers);
        self.send(format!("{}.snapshot.{name}", self.prefix), message).await.map(drop).map_err(|error| match error {
            Unpublished::Taken => "a piece was refused".to_owned(),
            Unpublished::Unknown(why) => why,
        })
    }

    /// Names of snapshots, whole or not.
    pub(super) async fn snapshots(&self) -> Result<Vec<String>, String> {
        use futures::TryStreamExt;
        let all = format!("{}.snapshot.*", self.prefix);
        let start = format!("{}.snapshot.", self.prefix);
        let subjects = self.snapshots.info_with_subjects(all).await.map_err(|error| words(&error))?;
        let found: Vec<(String, usize)> = subjects.try_collect().await.map_err(|error| words(&error))?;
        Ok(found.into_iter().filter_map(|(subject, _)| subject.strip_prefix(&start).map(str::to_owned)).collect())
    }

    /// The pieces of a snapshot.
    pub(super) async fn pieces(&self, name: &str) -> Result<pull::Stream, String> {
        messages(&self.snapshots, DeliverPolicy::All, format!("{}.snapshot.{name}", self.prefix)).await
    }

    /// Removes a snapshot.
    pub(super) async fn remove(&self, name: &str) -> Result<(), String> {
        let subject = format!("{}.snapshot.{name}", self.prefix);
        self.snapshots.purge().filter(subject).await.map(drop).map_err(|error| words(&error))
    }
}

async fn messages(
    stream: &stream::Stream<()>, deliver_policy: DeliverPolicy, filter_subject: String,
) -> Result<pull::Stream, String> {
    let reader = pull::Config {
        deliver_policy,
        filter_subject,
        ack_policy: AckPolicy::None,
        inactive_threshold: READER,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let reader = stream.create_consumer(reader).await.map_err(|error| words(&error))?;
    let pulls = reader.stream().max_messages_per_batch(READ_AHEAD).heartbeat(Duration::from_secs(1));
    pulls.expires(Duration::from_secs(10)).messages().await.map_err(|error| words(&error))
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("prefix", &self.prefix)
            .field("replicated", &self.replicated)
            .finish_non_exhaustive()
    }
}

/// A stream that only platforms write to, of which nothing is taken out but from its start.
fn own(name: String, subjects: Vec<String>) -> stream::Config {
    stream::Config {
        name,
        subjects,
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        // What a replica answers by itself may be old.
        allow_direct: false,
        deny_delete: true,
        description: Some("written by platform; only platform may write to it".to_owned()),
        ..stream::Config::default()
    }
}

/// The stream behind an object store, as clients of NATS expect it.
fn bucket(name: &str) -> stream::Config {
    let subjects = vec![format!("$O.{name}.C.>"), format!("$O.{name}.M.>")];
    stream::Config { allow_rollup: true, deny_delete: false, ..own(format!("OBJ_{name}"), subjects) }
}

/// Makes a stream unless it is there; its replicas.
async fn prepare(
    jetstream: &jetstream::Context, config: stream::Config, options: &NatsOptions,
) -> Result<usize, OpenError> {
    let name = config.name.clone();
    let began = platform_base::clock::now();
    let mut replicas = options.replicas.unwrap_or(3);
    loop {
        let error = match jetstream.get_stream(&name).await {
            Ok(stream) => return Ok(stream.cached_info().config.num_replicas.max(1)),
            Err(error) => match error.kind() {
                jetstream::context::GetStreamErrorKind::JetStream(code)
                    if code.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND =>
                {
                    let config = stream::Config { num_replicas: replicas, ..config.clone() };
                    match jetstream.create_stream(config).await {
                        Ok(_) => return Ok(replicas),
                        Err(error) if options.replicas.is_none() && replicas > 1 && stands_alone(&error) => {
                            replicas = 1;
                            continue;
                        }
                        Err(error) => words(&error),
                    }
                }
                _ => words(&error),
            },
        };
        // A cluster that has just been started elects its leaders for some seconds.
        if began.elapsed() > options.start_patience {
            let why = format!("the stream `{name}` with {replicas} replicas can't be had: {error}");
            return Err(OpenError::Unusable(why));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Whether a stream with replicas was refused because the server has no others beside it.
fn stands_alone(error: &CreateStreamError) -> bool {
    matches!(error.kind(), CreateStreamErrorKind::JetStream(code)
        if code.error_code() == jetstream::ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED)
}

/// What the server says with an error, by number.
fn code(error: &(dyn std::error::Error + 'static)) -> Option<jetstream::ErrorCode> {
    error.source()?.downcast_ref::<jetstream::Error>().map(jetstream::Error::error_code)
}

/// An error with what caused it, in one line.
pub(super) fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
