//! Bringing the data plane to the desired state when the daemon starts.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use platform_dataplane::SlotName;
use platform_runtime::Digest;

use super::{Control, bind::Flip, blocking};
use crate::{error::Result, record::BindingRecord};

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
    /// Keeps the bytes of a component that is installed, though not here: daemons that share storage have files of their own.
    /// Whether it is one.
    ///
    /// # Errors
    /// The file can't be written.
    pub async fn adopt(&self, component: Bytes) -> Result<bool> {
        let _both = self.installed.lock().await;
        let (files, view) = (Arc::clone(&self.files), self.state.view());
        blocking(move || {
            let digest = Digest::of(&component);
            let installed = view.with_digest(digest).is_some();
            if installed { files.put(digest, &component).map(|()| true) } else { Ok(false) }
        })
        .await
    }

    /// Binds every slot to what it should hold, many at once. A slot that can't be bound is reported, stays unready and
    /// keeps nobody from serving.
    pub async fn restore(&self) -> Vec<Restored> {
        let view = self.state.view();
        let bindings: Vec<_> = view.bindings().map(|(slot, binding)| (slot.clone(), Arc::clone(binding))).collect();
        let restored = futures::stream::iter(bindings).map(|(slot, binding)| async move {
            let result = self.restore_slot(&slot, &binding).await.map(|()| binding.generation);
            if let Err(error) = &result {
                tracing::error!(%slot, generation = binding.generation, %error, "slot could not be restored");
                self.problems.lock().insert(slot.clone(), error.to_string());
            }
            Restored { slot, result }
        });
        restored.buffer_unordered(SLOTS_AT_ONCE).collect().await
    }

    async fn restore_slot(&self, slot: &SlotName, binding: &BindingRecord) -> Result<()> {
        let _turn = self.turn(slot).await;
        let prepared = self.plane.prepare(slot, self.spec(binding).await?).await?;
        Ok(self.flip(slot, Flip::Prepared(Box::new(prepared)), binding.generation).await?)
    }
}
