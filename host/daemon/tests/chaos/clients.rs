//! Calls of a daemon that may go away at any moment.

use std::{path::Path, time::Duration};

use platform_proto::{
    FENCING_HEADER,
    config::v1::{self as config, config_client::ConfigClient},
    db::v1::{self as db, db_client::DbClient},
    event::v1::{CreateTopicRequest, NewEvent, PublishRequest, ReadRequest, events_client::EventsClient},
    kv::v1::{self as kv, kv_client::KvClient},
    sync::v1::{self as sync, AcquireRequest, ReleaseRequest, acquire_event, acquire_request, sync_client::SyncClient},
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

/// Longest that a call waits for its answer; then nobody knows what became of it.
const PATIENCE: Duration = Duration::from_secs(12);
pub(crate) const TOPIC: &str = "chaos";

/// A caller of one daemon, whichever life of it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
    token: String,
}

/// An answer, or why there is none.
pub(crate) type Answer<T> = Result<T, Status>;

/// What is kept where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Kv,
    Config,
    Db,
}

impl Client {
    /// A caller of the daemon at `address` whose data lie in `data`.
    pub(crate) fn new(address: &str, data: &Path) -> Self {
        let token = std::fs::read_to_string(data.join("admin.token")).unwrap().trim().to_owned();
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.connect_timeout(Duration::from_secs(2)).timeout(PATIENCE).connect_lazy();
        Self { channel, token }
    }

    fn with<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        request.set_timeout(PATIENCE);
        request
    }

    /// Writes a number; the revision or version of the write.
    pub(crate) async fn write(&self, store: Store, name: &str, number: u64) -> Answer<u64> {
        match store {
            Store::Kv => self.put(name, number, None).await,
            Store::Config => {
                let (id, value) = (name.to_owned(), number.to_string());
                let set = config::SetRequest { id, value, ..config::SetRequest::default() };
                let done = ConfigClient::new(self.channel.clone()).set(self.with(set)).await?;
                Ok(version(done.into_inner().version))
            }
            Store::Db => {
                let (id, data) = (name.to_owned(), number.to_string().into_bytes());
                let put = db::PutRequest { id, data: data.into(), ..self.record() };
                Ok(DbClient::new(self.channel.clone()).put(self.with(put)).await?.into_inner().revision)
            }
        }
    }

    fn record(&self) -> db::PutRequest {
        db::PutRequest { database: "chaos".to_owned(), table: "numbers".to_owned(), ..db::PutRequest::default() }
    }

    /// Writes a number under a key, fenced with the token of a lock.
    pub(crate) async fn put(&self, key: &str, number: u64, fence: Option<(&str, u64)>) -> Answer<u64> {
        let value = number.to_string().into_bytes().into();
        let mut request = self.with(kv::PutRequest { key: key.to_owned(), value, ..kv::PutRequest::default() });
        if let Some((lock, token)) = fence {
            request.metadata_mut().insert(FENCING_HEADER, format!("{lock}:{token}").parse().unwrap());
        }
        Ok(KvClient::new(self.channel.clone()).put(request).await?.into_inner().revision)
    }

    /// Reads a number and the revision or version of its write; none and 0 when there is nothing.
    pub(crate) async fn read(&self, store: Store, name: &str) -> Answer<(Option<u64>, u64)> {
        let found = match store {
            Store::Kv => {
                let get = self.with(kv::GetRequest { key: name.to_owned() });
                let found = KvClient::new(self.channel.clone()).get(get).await;
                found.map(|found| found.into_inner()).map(|entry| (entry.value.to_vec(), entry.revision))
            }
            Store::Config => {
                let get = self.with(config::GetRequest { id: name.to_owned(), ..config::GetRequest::default() });
                let found = ConfigClient::new(self.channel.clone()).get(get).await;
                found
                    .map(|found| found.into_inner())
                    .map(|reading| (reading.value.into_bytes(), version(reading.version)))
            }
            Store::Db => {
                let db::PutRequest { database, table, .. } = self.record();
                let get = self.with(db::GetRequest { database, table, id: name.to_owned() });
                let found = DbClient::new(self.channel.clone()).get(get).await;
                found.map(|found| found.into_inner()).map(|record| (record.data.to_vec(), record.revision))
            }
        };
        match found {
            Ok((bytes, revision)) => Ok((Some(String::from_utf8(bytes).unwrap().trim().parse().unwrap()), revision)),
            Err(status) if status.code() == Code::NotFound => Ok((None, 0)),
            Err(status) => Err(status),
        }
    }

    /// Makes the topic unless it is there.
    pub(crate) async fn make_topic(&self) -> Answer<()> {
        // Longer than the test: an id that was published once stays known.
        let window_ms = Some(86_400_000);
        let topic = CreateTopicRequest { name: TOPIC.to_owned(), retention: None, window_ms };
        match EventsClient::new(self.channel.clone()).create_topic(self.with(topic)).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            Err(status) => Err(status),
        }
    }

    /// Publishes an event; its sequence.
    pub(crate) async fn publish(&self, id: &str) -> Answer<u64> {
        let event = NewEvent { id: id.to_owned(), r#type: "t".to_owned(), ..NewEvent::default() };
        let message = PublishRequest { topic: TOPIC.to_owned(), event: Some(event) };
        Ok(EventsClient::new(self.channel.clone()).publish(self.with(message)).await?.into_inner().sequence)
    }

    /// All events, in their order.
    pub(crate) async fn events(&self) -> Answer<Vec<(String, u64)>> {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let message = ReadRequest { topic: TOPIC.to_owned(), from: 0, reverse: false, limit: 1000, page_token };
            let page = EventsClient::new(self.channel.clone()).read(self.with(message)).await?.into_inner();
            found.extend(page.events.into_iter().map(|event| (event.id, event.sequence)));
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            page_token = page.next_page_token;
        }
    }

    /// Waits for a lock; its token.
    pub(crate) async fn acquire(&self, name: &str, ttl: Duration, wait: Duration) -> Answer<u64> {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap();
        let message = AcquireRequest {
            name: name.to_owned(),
            wait_ms: Some(milliseconds(wait)),
            hold: Some(acquire_request::Hold::TtlMs(milliseconds(ttl))),
            ..AcquireRequest::default()
        };
        let wanted = async {
            let mut events = SyncClient::new(self.channel.clone()).acquire(self.with(message)).await?.into_inner();
            while let Some(event) = events.message().await? {
                if let Some(acquire_event::Event::Granted(grant)) = event.event {
                    return Ok(grant.place.unwrap().token);
                }
            }
            Err(Status::unavailable("the stream ended without a grant"))
        };
        // A stream that has begun has no end of its own on this side.
        let late = Err(Status::deadline_exceeded("no answer in time"));
        tokio::time::timeout(PATIENCE, wanted).await.unwrap_or(late)
    }

    /// Gives a lock up; whether it was still held.
    pub(crate) async fn release(&self, name: &str, token: u64) -> Answer<bool> {
        let message = ReleaseRequest { name: name.to_owned(), token };
        match SyncClient::new(self.channel.clone()).release(self.with(message)).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(status),
        }
    }

    /// Tokens of those who hold a lock.
    pub(crate) async fn holders(&self, name: &str) -> Answer<Vec<u64>> {
        let get = self.with(sync::GetRequest { name: name.to_owned() });
        match SyncClient::new(self.channel.clone()).get(get).await {
            Ok(lock) => Ok(lock.into_inner().held.iter().map(|place| place.token).collect()),
            Err(status) if status.code() == Code::NotFound => Ok(Vec::new()),
            Err(status) => Err(status),
        }
    }
}

/// The number of a version.
fn version(version: Option<config::Version>) -> u64 {
    version.map_or(0, |version| version.number)
}
