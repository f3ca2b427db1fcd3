//! What the router knows of a namespace: its services, kept up to date from the registry's changes.
//!
//! Must not know who asks or how nodes are picked. Invariant: when changes were lost, everything is read again.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures::StreamExt as _;
use platform_capability::{Call, CallContext, discovery};
use tokio::sync::OnceCell;

use super::{RouteError, shutting_down};
use crate::{error::CallError, plane::Plane, tables::Services, watch::Event};

/// A namespace whose registry is followed.
#[derive(Debug, Default)]
pub(super) struct Followed {
    pub(super) services: Services,
    ready: OnceCell<()>,
}

impl Followed {
    /// Reads the registry and follows it from then on; nothing when that has begun before.
    pub(super) async fn begin(
        self: &Arc<Self>, plane: &Arc<Plane>, namespace: &Arc<str>,
    ) -> Result<(), CallError<RouteError>> {
        let ready = self.ready.get_or_try_init(|| async {
            let from = read_all(plane, namespace, &self.services).await?;
            let (weak, namespace, this) = (Arc::downgrade(plane), Arc::clone(namespace), Arc::clone(self));
            if plane.parts.tasks.is_cancelled() {
                return Err(shutting_down());
            }
            plane.parts.tasks.spawn_until_cancelled("nodes", async move {
                follow(&weak, &namespace, &this.services, from).await;
            });
            Ok(())
        });
        ready.await?;
        Ok(())
    }
}

/// Time that the host gives the registry.
const REGISTRY_TIME: Duration = Duration::from_secs(5);

/// Reads all registrations; the revision that they are at least of.
async fn read_all(plane: &Plane, namespace: &Arc<str>, services: &Services) -> Result<u64, CallError<RouteError>> {
    let call: Call = Arc::new(CallContext::host(Arc::clone(namespace), REGISTRY_TIME));
    let registry = |error: CallError<discovery::Error>| CallError::Capability(RouteError::Registry(error.to_string()));
    let revision = plane.discovery().revision(&call).await.map_err(registry)?;
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = plane.discovery().list(&call, after.as_deref(), 1000).await.map_err(registry)?;
        let Some(last) = page.last() else { break };
        after = Some(last.service.clone());
        for summary in &page {
            let mut after: Option<String> = None;
            loop {
                let nodes =
                    plane.discovery().get(&call, &summary.service, after.as_deref(), 1000).await.map_err(registry)?;
                let Some(last) = nodes.last() else { break };
                after = Some(last.node.id.clone());
                all.extend(nodes);
            }
        }
    }
    services.reset(all);
    Ok(revision)
}

/// Applies the registry's changes for as long as the plane lives.
async fn follow(plane: &Weak<Plane>, namespace: &Arc<str>, services: &Services, mut from: u64) {
    loop {
        let Some(strong) = plane.upgrade() else { return };
        let call: Call = Arc::new(CallContext::host(Arc::clone(namespace), REGISTRY_TIME));
        let Ok(changes) = strong.discovery().watch(&call, "", from) else { return };
        drop(strong);
        let mut changes = std::pin::pin!(changes);
        while let Some(event) = changes.next().await {
            match event {
                Ok(Event::Changes(changes)) => {
                    for change in changes {
                        from = change.revision;
                        services.apply(&change.service, &change.node_id, change.registration);
                    }
                }
                Ok(Event::Progress(revision)) => from = revision,
                Err(error) => {
                    tracing::debug!(%namespace, %error, "registry watch ended");
                    break;
                }
            }
        }
        let Some(strong) = plane.upgrade() else { return };
        match read_all(&strong, namespace, services).await {
            Ok(revision) => from = revision,
            Err(_) => {
                drop(strong);
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
    }
}
