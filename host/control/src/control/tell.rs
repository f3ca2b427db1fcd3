//! Changes of plugins and slots, told as events of the topic `platform`.
//!
//! The audit trail says what was done, and the topic how far that was told, so nothing is told of by the operations
//! themselves. Invariant: what was done is told at least once for as long as the trail keeps it.

use std::{sync::Arc, time::Duration};

use platform_capability::NAMESPACE_DEFAULT;
use platform_dataplane::platform_event;
use serde_json::json;

use super::Control;
use crate::audit::AuditRecord;

/// Longest wait for something to be done.
const WAIT: Duration = Duration::from_secs(30);
/// Wait after a failure.
const PAUSE: Duration = Duration::from_secs(1);

impl Control {
    /// Tells of changes from now on, and of those that were made and not told of before.
    pub fn tell_changes(&self) {
        let this = self.this.clone();
        self.tasks.spawn_until_cancelled("plugin events", async move {
            while let Some(control) = this.upgrade() {
                if let Err(error) = control.tell_on().await {
                    tracing::debug!(error, "changes of plugins can't be told of now");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
    }

    /// Tells of what was done since, until nothing more is done for a while.
    async fn tell_on(&self) -> Result<(), String> {
        let namespace: Arc<str> = NAMESPACE_DEFAULT.into();
        let events = self.plane.event();
        let mut told = events.told(&namespace, "plugin.").await.map_err(|error| format!("{error:?}"))?.unwrap_or(0);
        loop {
            let records = self.audit.after(told, WAIT).await.map_err(|error| error.to_string())?;
            let Some(last) = records.last().map(|record| record.sequence) else { return Ok(()) };
            for AuditRecord { sequence, time_ns, event } in records.into_iter().filter(|record| record.event.done) {
                let data = json!({"subject": event.subject, "caller": event.caller, "detail": event.detail});
                let id = format!("plugin-{sequence}-{time_ns}");
                let told = platform_event(id, format!("plugin.{}", event.action), sequence, &data);
                events.tell(&namespace, told).await.map_err(|error| format!("{error:?}"))?;
            }
            told = last;
        }
    }
}
