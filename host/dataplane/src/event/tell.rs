//! What the host tells of itself: changes of configurations and of the registry, as events of the topic `platform` in the
//! namespace where they were made.
//!
//! The topic is its own bookmark: whoever tells looks up what was told last, and goes on from there. So a change that was made
//! just before a crash is told after it. Invariant: a change is told at least once for as long as its provider keeps it; its
//! id is made of its revision, so that several daemons tell it once.

use std::{sync::Arc, time::Duration};

use dashmap::DashSet;
use futures::StreamExt;
use platform_capability::{Call, CallContext, SlotKind, discovery::Change, event::Query};
use serde_json::{Value, json};

use super::{Event, NewEvent, PLATFORM_TOPIC, Result};
use crate::{
    Seen,
    error::CallError,
    event::EventError,
    watch::{self, Revised},
};

/// Wait after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// Time that a call is given.
const TIME: Duration = Duration::from_secs(10);
/// Namespaces and capabilities that are told of; more are not, and the log says so.
const TOLD_MAX: usize = 256;
/// Fact beside the data: the revision of the change.
const REVISION: &str = "revision";

/// What is told of.
pub(crate) type Tellers = DashSet<(SlotKind, Arc<str>)>;

impl Event {
    /// Sees that changes in a namespace are told of from now on.
    pub(crate) fn tell_of(&self, kind: SlotKind, namespace: &Arc<str>) {
        if !matches!(kind, SlotKind::ConfigStore | SlotKind::DiscoveryRegistry) || self.tellers.get().is_none() {
            return;
        }
        let (Some(tellers), Ok(plane)) = (self.tellers.get(), self.provider.plane()) else { return };
        let place = (kind, Arc::clone(namespace));
        if tellers.contains(&place) {
            return;
        }
        if tellers.len() >= TOLD_MAX {
            tracing::warn!(%namespace, "changes here are not told of: there are {TOLD_MAX} others already");
            return;
        }
        if tellers.insert(place.clone()) {
            let this = self.clone();
            plane.parts.tasks.spawn_until_cancelled("platform events", async move {
                let (kind, namespace) = place;
                loop {
                    if let Err(error) = this.tell_on(kind, &namespace).await {
                        tracing::debug!(%kind, %namespace, %error, "changes can't be told of now");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
    }

    /// Tells of changes from now on: in the namespace `default` at once, in others once something is written there.
    pub fn tell_changes(&self) {
        let _ = self.tellers.set(Tellers::new());
        for kind in [SlotKind::ConfigStore, SlotKind::DiscoveryRegistry] {
            self.tell_of(kind, &Arc::from(platform_capability::NAMESPACE_DEFAULT));
        }
    }

    /// Publishes something of the host's own in its topic; makes the topic when it is not there.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn tell(&self, namespace: &Arc<str>, event: NewEvent) -> Result<()> {
        let call = host(namespace);
        match self.publish_own(&call, event.clone()).await {
            Err(CallError::Capability(EventError::NotFound(_))) => {}
            answer => return answer,
        }
        match self.put_topic(&call, PLATFORM_TOPIC, super::publish::PLATFORM_SETTINGS, true).await {
            Ok(_) | Err(CallError::Capability(EventError::Exists(_))) => {}
            Err(error) => return Err(error),
        }
        self.publish_own(&call, event).await
    }

    /// Revision of the last change that was told of by an event whose type starts with `kind`; none when none was.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn told(&self, namespace: &Arc<str>, kind: &str) -> Result<Option<u64>> {
        let query = Query {
            topic: Some(PLATFORM_TOPIC.to_owned()),
            root: None,
            types: vec![format!("{kind}*")],
            from_ms: 0,
            to_ms: u64::MAX,
            reverse: true,
        };
        let mut after = None::<String>;
        loop {
            let (found, next) = match self.find(&host(namespace), &query, after.as_deref(), 1).await {
                Err(CallError::Capability(EventError::NotFound(_))) => return Ok(None),
                found => found?,
            };
            if let Some(last) = found.first() {
                let fact = last.content.metadata.iter().find(|(name, _)| name == REVISION);
                return Ok(fact.and_then(|(_, revision)| revision.parse().ok()));
            }
            if next.is_none() {
                return Ok(None);
            }
            after = next;
        }
    }

    /// Tells of changes until something fails.
    async fn tell_on(&self, kind: SlotKind, namespace: &Arc<str>) -> Result<(), String> {
        let words = |error: CallError<EventError>| error.map(|error| error.to_string()).to_string();
        let plane = self.provider.plane().map_err(|_stopping| "the platform is shutting down".to_owned())?;
        let call = host(namespace);
        if kind == SlotKind::ConfigStore {
            let told = self.told(namespace, "config.").await.map_err(words)?.unwrap_or(0);
            let current = plane.configurations().revision(&call).await.map_err(|error| format!("{error:?}"))?;
            let after = if told > current { 0 } else { told };
            let changes = plane.configurations().watch(&call, "*", None, "", after);
            let mut changes = std::pin::pin!(changes.map_err(|error| format!("{error:?}"))?);
            drop(plane);
            while let Some(news) = changes.next().await {
                let watch::Event::Changes(seen) = news.map_err(|error| format!("{error:?}"))? else { continue };
                for seen in &seen {
                    self.tell(namespace, of_config(seen)).await.map_err(words)?;
                }
            }
            return Ok(());
        }
        let told = self.told(namespace, "discovery.").await.map_err(words)?.unwrap_or(0);
        let current = plane.discovery().revision(&call).await.map_err(|error| format!("{error:?}"))?;
        let after = if told > current { 0 } else { told };
        let changes = plane.discovery().watch(&call, "", after).map_err(|error| format!("{error:?}"))?;
        let mut changes = std::pin::pin!(changes);
        drop(plane);
        while let Some(news) = changes.next().await {
            let watch::Event::Changes(seen) = news.map_err(|error| format!("{error:?}"))? else { continue };
            let (mut revision, mut place) = (0, 0);
            for change in &seen {
                place = if change.revision() == revision { place + 1 } else { 0 };
                revision = change.revision();
                self.tell(namespace, of_discovery(change, place)).await.map_err(words)?;
            }
        }
        Ok(())
    }
}

fn host(namespace: &Arc<str>) -> Call {
    Arc::new(CallContext::host(Arc::clone(namespace), TIME))
}

/// An event of the host's own. `revision` is where it goes on after a restart.
#[must_use]
pub fn platform_event(id: String, kind: String, revision: u64, data: &Value) -> NewEvent {
    let origin = format!("/platform/{}", kind.split('.').next().unwrap_or_default());
    NewEvent {
        id,
        kind,
        origin,
        content_type: "application/json".to_owned(),
        metadata: [(REVISION.to_owned(), revision.to_string())].into_iter().collect(),
        data: data.to_string().into_bytes(),
        ..NewEvent::default()
    }
}

/// Values are left out: whoever may read the configuration reads them there.
fn of_config(seen: &Seen) -> NewEvent {
    let version = &seen.version;
    let change = &version.change;
    let action = format!("{:?}", change.action);
    let action = action.rsplit("::").next().unwrap_or_default().to_ascii_lowercase();
    let data = json!({
        "id": version.id, "version": version.number, "action": action,
        "path": change.path, "author": change.author, "comment": change.comment, "touched": change.touched,
        "deleted": !version.has_document,
    });
    let id = format!("config-{}-{}", version.revision, change.time_ms);
    platform_event(id, "config.changed".to_owned(), version.revision, &data)
}

fn of_discovery(change: &Change, place: u64) -> NewEvent {
    let revision = change.revision();
    let (kind, data) = match &change.registration {
        Some(registration) => {
            let data = json!({
                "service": change.service, "node": change.node_id, "version": registration.version,
                "address": registration.node.address,
            });
            ("discovery.registered", data)
        }
        None => ("discovery.gone", json!({"service": change.service, "node": change.node_id})),
    };
    platform_event(format!("discovery-{revision}-{place}"), kind.to_owned(), revision, &data)
}
