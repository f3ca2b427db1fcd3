//! Publishing: what an event may be, who published it, and what filters make of it. How it gets to the broker is the
//! [`lane`](super::lane)'s to say.
//!
//! Invariant: the publisher is the verified caller, and nothing reaches the broker that was not checked after the last filter.

use std::{collections::BTreeMap, sync::Arc};

use platform_base::clock;
use platform_capability::{
    Call,
    event::{Draft, Published, TopicSettings},
};

use super::{Event, PLATFORM_TOPIC, Result, TYPE_BYTES_MAX, check_length, check_name, check_text, refused};
use crate::{
    error::CallError,
    event::{EventError, lane::EVENTS_MAX},
};

/// Most events in one publish.
const BATCH_MAX: usize = 100;
/// Largest data of an event, in bytes.
const DATA_BYTES_MAX: usize = 1 << 20;
/// Longest origin, in bytes.
const ORIGIN_BYTES_MAX: usize = 512;
/// Most facts beside the data, and bytes of them.
const METADATA_MAX: (usize, usize) = (64, 16 << 10);

/// How the topic of the host is kept.
pub(super) const PLATFORM_SETTINGS: TopicSettings =
    TopicSettings { age_ms: Some(7 * 86_400_000), count: Some(100_000), bytes: None, window_ms: 120_000 };

const _: () = assert!(BATCH_MAX <= EVENTS_MAX, "what is published together is one call to the broker");

/// An event to be published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewEvent {
    /// Names it among those of its origin, so that it is kept once; one is made when it is empty.
    pub id: String,
    /// What happened.
    pub kind: String,
    /// Where it happened; may be empty.
    pub origin: String,
    /// Id of the event that all of this began with; its own when it is empty.
    pub root: String,
    /// Id of the event that caused it; may be empty.
    pub parent: String,
    /// Media type of the data.
    pub content_type: String,
    /// Facts beside the data.
    pub metadata: BTreeMap<String, String>,
    /// The data.
    pub data: Vec<u8>,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its id.
    pub id: String,
    /// Its place in the topic, or why a filter dropped it.
    pub published: Result<Published, String>,
}

impl Event {
    /// Publishes events, all or none, in this order. What a filter drops is left out.
    ///
    /// # Errors
    /// An event is not allowed, a filter failed, or the broker did not keep them; see [`CallError`].
    pub async fn publish(&self, call: &Call, topic: &str, events: Vec<NewEvent>) -> Result<Vec<Outcome>> {
        check_name("topic", topic)?;
        if topic == PLATFORM_TOPIC {
            return Err(refused(format!("only the platform publishes to `{PLATFORM_TOPIC}`")));
        }
        if events.is_empty() || events.len() > BATCH_MAX {
            return Err(refused(format!("{} events at once; publish 1 to {BATCH_MAX}", events.len())));
        }
        let drafts = events.into_iter().map(|event| draft(call, event)).collect::<Result<Vec<_>>>()?;
        self.keep(call, topic, drafts).await
    }

    /// What the filters make of an event that nobody publishes: the event as it would be kept, or why it would be dropped.
    ///
    /// # Errors
    /// It is not allowed, or a filter failed.
    pub async fn would_keep(&self, call: &Call, topic: &str, event: NewEvent) -> Result<Result<Arc<Draft>, String>> {
        let filtered = self.filter(call, topic, Arc::new(draft(call, event)?)).await?;
        if let Ok(kept) = &filtered {
            check(kept)?;
        }
        Ok(filtered)
    }

    /// Publishes drafts after the filters have seen them.
    async fn keep(&self, call: &Call, topic: &str, drafts: Vec<Draft>) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(drafts.len());
        let mut kept = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let id = draft.id.clone();
            match self.filter(call, topic, Arc::new(draft)).await? {
                Ok(draft) => {
                    check(&draft)?;
                    kept.push(draft);
                    outcomes.push((id, None));
                }
                Err(why) => outcomes.push((id, Some(why))),
            }
        }
        let mut published = self.hand_over(call, topic, kept).await?.into_iter();
        let missing = || CallError::Capability(EventError::Other("the broker answered about fewer events".to_owned()));
        let outcome = |(id, dropped): (String, Option<String>)| {
            let published = match dropped {
                Some(why) => Err(why),
                None => Ok(published.next().ok_or_else(missing)?),
            };
            Ok(Outcome { id, published })
        };
        outcomes.into_iter().map(outcome).collect()
    }

    /// Publishes what the host itself has to tell. Filters are not asked: what happened has happened.
    pub(super) async fn publish_own(&self, call: &Call, event: NewEvent) -> Result<()> {
        let draft = Arc::new(draft(call, event)?);
        self.hand_over(call, PLATFORM_TOPIC, vec![draft]).await.map(drop)
    }
}

/// The event as the broker gets it.
fn draft(call: &Call, event: NewEvent) -> Result<Draft> {
    let NewEvent { id, kind, origin, root, parent, content_type, metadata, data } = event;
    let deduplicated = !id.is_empty();
    let id = if deduplicated { id } else { new_id() };
    if !parent.is_empty() && root.is_empty() {
        return Err(refused("an event with a parent needs a root: the id that its chain of causes began with"));
    }
    let draft = Draft {
        root: if root.is_empty() { id.clone() } else { root },
        id,
        deduplicated,
        type_: kind,
        origin,
        parent: Some(parent).filter(|parent| !parent.is_empty()),
        publisher: call.caller.as_ref().map(|caller| caller.subject.clone()),
        content_type,
        metadata: metadata.into_iter().collect(),
        data,
    };
    check(&draft)?;
    Ok(draft)
}

/// An id that no other event has, in order of time.
fn new_id() -> String {
    format!("{:012x}{:020x}", clock::unix_ms(), rand::random::<u128>() >> 48)
}

fn check(draft: &Draft) -> Result<()> {
    check_text("id", &draft.id, TYPE_BYTES_MAX)?;
    check_text("type", &draft.type_, TYPE_BYTES_MAX)?;
    check_text("root", &draft.root, TYPE_BYTES_MAX)?;
    if let Some(parent) = &draft.parent {
        check_text("parent", parent, TYPE_BYTES_MAX)?;
    }
    if !draft.origin.is_empty() {
        check_text("origin", &draft.origin, ORIGIN_BYTES_MAX)?;
    }
    check_length("content type", &draft.content_type, TYPE_BYTES_MAX)?;
    let (most, most_bytes) = METADATA_MAX;
    let bytes: usize = draft.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if draft.metadata.len() > most || bytes > most_bytes {
        let why = format!(
            "{} facts of {bytes} bytes beside the data, more than {most} or {most_bytes} bytes",
            draft.metadata.len()
        );
        return Err(CallError::Capability(EventError::TooLarge(why)));
    }
    if draft.data.len() > DATA_BYTES_MAX {
        let why = format!("the data has {} bytes, more than {DATA_BYTES_MAX}", draft.data.len());
        return Err(CallError::Capability(EventError::TooLarge(why)));
    }
    Ok(())
}
