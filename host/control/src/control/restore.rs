//! Bringing the data plane to the desired state when the daemon starts.

use futures::StreamExt as _;
use platform_dataplane::SlotName;

use super::Control;
use crate::error::Result;

/// Slots that are prepared at once.
const SLOTS_AT_ONCE: usize = 64;

/// What became of one slot.
#[derive(Debug)]
pub struct Restored {
    /// The slot.
    pub slot: SlotName,
    /// Its generation, or why it does not serve.
    pub result: Result<u64>,
}

impl Control {
    /// Binds every slot to what it should hold, many at once. A slot that can't be bound is reported, stays unready and
    /// keeps nobody from serving.
    pub async fn restore(&self) -> Vec<Restored> {
        let view = self.state.view();
        let bindings: Vec<_> = view.bindings().map(|(slot, _)| slot.clone()).collect();
        let restored = futures::stream::iter(bindings).map(|slot| async move {
            let result = self.bring(&slot).await;
            Restored { slot, result }
        });
        let restored = restored.buffer_unordered(SLOTS_AT_ONCE).collect().await;
        self.heed_advisories().await;
        restored
    }
}
