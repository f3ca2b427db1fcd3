//! Watches of configurations: each change with the value that it came to, and of a path only what really changed there.
//!
//! A version says which values differ from the one before it, so most changes are judged by that alone. Where it can't
//! say, because the change was made above the path, the two documents are compared. Invariant: no state is kept between
//! changes, so a watch that resumes sees exactly what one that never broke off sees.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream};
use platform_capability::{
    Call, CallContext,
    config::{Content, Version},
};
use platform_document::{Pointer, canonical};
use serde_json::Value;

use super::{Config, ConfigError, Result, read_shown};
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

/// Reads what `changes` speak of.
pub(super) fn follow(
    config: Config, namespace: Arc<str>, path: Option<Pointer>,
    changes: impl Stream<Item = Watched<Config>> + Send + 'static,
) -> impl Stream<Item = Result<Event<Seen>>> + Send + 'static {
    let follower = Arc::new(Follower { config, namespace, path });
    changes.flat_map(move |event| {
        let follower = Arc::clone(&follower);
        stream::once(async move { follower.read(event).await })
    })
}

struct Follower {
    config: Config,
    namespace: Arc<str>,
    path: Option<Pointer>,
}

impl Follower {
    async fn read(&self, event: Watched<Config>) -> Result<Event<Seen>> {
        let versions = match event {
            Ok(Event::Changes(versions)) => versions,
            Ok(Event::Progress(revision)) => return Ok(Event::Progress(revision)),
            Err(error) => return Err(error.map(ConfigError::from)),
        };
        let mut last = 0;
        let mut seen = Vec::new();
        for version in versions {
            last = version.revision;
            seen.extend(self.see(version).await?);
        }
        Ok(if seen.is_empty() { Event::Progress(last) } else { Event::Changes(seen) })
    }

    async fn see(&self, version: Version) -> Result<Option<Seen>> {
        let told = self.path.as_ref().map_or(Told::Changed, |path| told(&version, path));
        if told == Told::Same {
            return Ok(None);
        }
        let value = self.value(&version.id, version.number).await?;
        if told == Told::Unknown {
            let before = match version.number.checked_sub(1) {
                None | Some(0) => Ok(None),
                Some(before) => self.value(&version.id, before).await,
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

    async fn value(&self, id: &str, number: u64) -> Result<Option<Value>> {
        let call: Call = Arc::new(CallContext::host(Arc::clone(&self.namespace), READ));
        let (_, content): (_, Content) = self.config.version(&call, id, Some(number)).await?;
        let document = read_shown(&content)?;
        Ok(match &self.path {
            None => document,
            Some(path) => document.as_ref().and_then(|document| path.get(document)).cloned(),
        })
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
