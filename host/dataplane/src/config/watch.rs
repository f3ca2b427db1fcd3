//! Watches of configurations: each change with the value that it came to, and of a path only what really changed there.
//!
//! A version says which values differ from the one before it, so most changes are judged by that alone. Where it can't
//! say, because the change was made above the path, the two documents are compared. Invariant: no state is kept between
//! changes, so a watch that resumes sees exactly what one that never broke off sees.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream};
use platform_capability::{
    Call, CallContext,
    config::{Action, Candidate, Content, Version},
};
use platform_document::{Pointer, canonical};
use serde_json::Value;

use super::{Config, ConfigError, Result, read_shown, recent::Shown, stage};
use crate::{error::CallError, provider::Watched, watch::Event};

/// How long reading a version may take.
const READ: Duration = Duration::from_secs(10);

/// A change that a watch saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The version.
    pub version: Version,
    /// The value at the path watched, or the whole document; none when there is none any more.
    pub value: Option<Value>,
}

impl Seen {
    /// The value as JSON.
    #[must_use]
    pub fn json(&self) -> Option<String> {
        self.value.as_ref().map(canonical)
    }
}

/// What a version says of the value at a path.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Changed,
    Same,
    /// The change was made above the path.
    Unknown,
}

/// Reads what `changes` speak of, one by one: each may be as large as a document.
pub(super) fn follow(
    config: Config, namespace: Arc<str>, (path, instance): (Option<Pointer>, String),
    changes: impl Stream<Item = Watched<Config>> + Send + 'static,
) -> impl Stream<Item = Result<Event<Seen>>> + Send + 'static {
    let follower = Arc::new(Follower { config, namespace, path, instance });
    let events = changes.flat_map(move |event| match event {
        Ok(Event::Changes(versions)) => {
            let last = versions.len().saturating_sub(1);
            let follower = Arc::clone(&follower);
            let versions = stream::iter(versions.into_iter().enumerate());
            versions.filter_map(move |(place, version)| Arc::clone(&follower).event(version, place == last)).boxed()
        }
        Ok(Event::Progress(revision)) => stream::iter([Ok(Event::Progress(revision))]).boxed(),
        Err(error) => stream::iter([Err(error.map(ConfigError::from))]).boxed(),
    });
    // After an error nothing follows.
    events.scan(false, |over, event| {
        let last = std::mem::replace(over, event.is_err());
        std::future::ready((!last).then_some(event))
    })
}

struct Follower {
    config: Config,
    namespace: Arc<str>,
    path: Option<Pointer>,
    instance: String,
}

impl Follower {
    /// What is told of a version; nothing of one that does not concern the watch, unless it says how far the watch is.
    async fn event(self: Arc<Self>, version: Version, tells_progress: bool) -> Option<Result<Event<Seen>>> {
        let revision = version.revision;
        match self.see(version).await {
            Ok(Some(seen)) => Some(Ok(Event::Changes(vec![seen]))),
            Ok(None) => tells_progress.then_some(Ok(Event::Progress(revision))),
            Err(error) => Some(Err(error)),
        }
    }

    async fn see(&self, version: Version) -> Result<Option<Seen>> {
        let told = self.told(&version);
        if told == Told::Same {
            return Ok(None);
        }
        let value = self.value(&version, version.number).await?;
        if told == Told::Unknown {
            let before = match version.number.checked_sub(1) {
                None | Some(0) => Ok(None),
                Some(before) => self.value(&version, before).await,
            };
            match before {
                Ok(before) if before == value => return Ok(None),
                // Nobody knows any more what was before.
                Ok(_) | Err(CallError::Capability(ConfigError::Compacted(_))) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Seen { version, value }))
    }

    fn told(&self, version: &Version) -> Told {
        // What an instance is served changes with candidates too, of which places that differ say nothing.
        let of_rollout = matches!(version.change.action, Action::Stage | Action::Promote | Action::Abort);
        match &self.path {
            _ if of_rollout && !self.instance.is_empty() => Told::Unknown,
            None => Told::Changed,
            Some(path) => told(version, path),
        }
    }

    /// The value that version `number` has, which is `version` or the one before it.
    async fn value(&self, version: &Version, number: u64) -> Result<Option<Value>> {
        let read = self.read(&version.id, number);
        let shown = self.config.recent.get(&self.namespace, version, number, read).await?;
        let document = match &shown.candidate {
            Some((candidate, percent)) if stage::is_among(&version.id, &self.instance, *percent) => Some(candidate),
            _ => shown.document.as_ref(),
        };
        Ok(match &self.path {
            None => document.cloned(),
            Some(path) => document.and_then(|document| path.get(document)).cloned(),
        })
    }

    async fn read(&self, id: &str, number: u64) -> Result<Shown> {
        let call: Call = Arc::new(CallContext::host(Arc::clone(&self.namespace), READ));
        let (_, content) = self.config.version(&call, id, Some(number)).await?;
        let document = read_shown(&content)?;
        let Some(Candidate { document: candidate, percent }) = content.candidate else {
            return Ok(Shown { document, candidate: None });
        };
        let candidate = read_shown(&Content { document: Some(candidate), schema: None, candidate: None })?;
        Ok(Shown { document, candidate: candidate.map(|candidate| (candidate, percent)) })
    }
}

fn told(version: &Version, path: &Pointer) -> Told {
    let mut told = Told::Same;
    for place in &version.change.touched {
        let Ok(place) = place.parse::<Pointer>() else { return Told::Unknown };
        if path.holds(&place) {
            return Told::Changed;
        }
        if place.holds(path) {
            told = Told::Unknown;
        }
    }
    told
}
