//! Advisories: components that are not to be used any more, by their digests.
//!
//! All daemons of a storage share them; what follows is each daemon's own setting. Invariant: a slot never falls empty because of one: where there is nothing
//! to return to, what serves goes on and is told of.

use std::sync::Arc;

use platform_base::clock;
use platform_dataplane::SlotName;
use platform_runtime::Digest;

use super::{Control, trust::RevokedRule};
use crate::{
    error::{Error, Result},
    record::{Reference, Revocation},
    state::{Edit, View},
};

/// Who the audit trail says did it.
const DAEMON: &str = "daemon";
/// Longest reason that is kept, in characters.
const REASON_CHARS_MAX: usize = 1000;

impl Control {
    /// Revokes a component, installed or not, for all daemons that share the storage.
    ///
    /// # Errors
    /// No reason is given, the component is named by what is not installed, or storage fails.
    pub async fn revoke(&self, which: Reference, reason: String, by: String) -> Result<Arc<Revocation>> {
        self.owned("revoke", |this| async move {
            let result = this.revoke_now(&which, &reason, &by).await;
            let note = |revocation: &Arc<Revocation>| format!("{}: {}", revocation.digest, revocation.reason);
            this.audit.note(&by, "revoke", &which.to_string(), &result, note).await;
            if result.is_ok() {
                this.heed_advisories().await;
            }
            result
        })
        .await
    }

    async fn revoke_now(&self, which: &Reference, reason: &str, by: &str) -> Result<Arc<Revocation>> {
        if reason.trim().is_empty() {
            return Err(Error::NoReason);
        }
        let view = self.state.fresh().await?;
        let digest = match which {
            Reference::Digest(digest) => *digest,
            named => view.resolve(named)?.digest,
        };
        let revocation = Arc::new(Revocation {
            digest,
            reason: reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect(),
            revoked_ms: clock::unix_ms(),
            revoked_by: by.to_owned(),
        });
        self.state.commit(|_| Ok(vec![Edit::PutRevocation(Arc::clone(&revocation))])).await?;
        Ok(revocation)
    }

    /// Takes a revocation back; what was done because of it stays done.
    ///
    /// # Errors
    /// The component is not revoked, or storage fails.
    pub async fn withdraw(&self, digest: Digest, by: String) -> Result<Arc<Revocation>> {
        self.owned("withdraw", |this| async move {
            let result = this.withdraw_now(digest).await;
            let note = |revocation: &Arc<Revocation>| format!("it was revoked for: {}", revocation.reason);
            this.audit.note(&by, "withdraw", &digest.to_string(), &result, note).await;
            result
        })
        .await
    }

    async fn withdraw_now(&self, digest: Digest) -> Result<Arc<Revocation>> {
        let mut taken = None;
        let plan = |view: &View| {
            taken = view.revocation(digest).map(Arc::clone);
            Ok(taken.iter().map(|revocation| Edit::RemoveRevocation(revocation.digest)).collect())
        };
        self.state.commit(plan).await?;
        taken.ok_or(Error::NotRevoked(digest))
    }

    /// What is revoked, in the order of digests.
    #[must_use]
    pub fn revocations(&self) -> Vec<Arc<Revocation>> {
        self.state.view().revocations().map(Arc::clone).collect()
    }

    /// Does what follows from advisories for what serves now.
    pub(super) async fn heed_advisories(&self) {
        let view = self.state.view();
        for (slot, held) in view.slots() {
            let candidate = held.running().and_then(|rollout| view.revoked_in(&rollout.candidate));
            let serving = held.current.as_ref().and_then(|binding| view.revoked_in(binding));
            let Some((plugin, revocation)) = serving.or(candidate) else { continue };
            let reason = &revocation.reason;
            tracing::warn!(%slot, plugin, reason, "a component in use is revoked");
            if self.trust().advisories.revoked != RevokedRule::Rollback {
                continue;
            }
            match self.retreat(slot).await {
                Ok(Some(generation)) => tracing::warn!(%slot, generation, "returned to what is not revoked"),
                Ok(None) => {}
                Err(error) => tracing::error!(%slot, %error, "what is revoked goes on serving; bind something else"),
            }
        }
    }

    /// Takes what is revoked out of a slot; the generation that it came to, if it had to.
    async fn retreat(&self, slot: &SlotName) -> Result<Option<u64>> {
        if self.state.view().slot(slot).running().is_some() {
            match self.abort(slot.clone(), DAEMON.to_owned()).await {
                Ok(_) | Err(Error::NoRollout(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let result = self.retreat_now(slot).await;
        if !matches!(result, Ok(None)) {
            let note = |generation: &Option<u64>| format!("generation {}", generation.unwrap_or_default());
            self.audit.note(DAEMON, "rollback", &slot.to_string(), &result, note).await;
        }
        result
    }

    async fn retreat_now(&self, slot: &SlotName) -> Result<Option<u64>> {
        let _turn = self.turn(slot).await;
        // Another daemon may have been quicker.
        let view = self.state.fresh().await?;
        let before = view.slot(slot);
        let Some(current) = before.current.as_ref().filter(|current| view.revoked_in(current).is_some()) else {
            return Ok(None);
        };
        let records = self.state.generations(slot).await?;
        let earlier = records.into_iter().rev().filter(|record| record.generation < current.generation);
        let installed = |digest| view.with_digest(digest).is_some();
        let mut usable = earlier
            .filter(|record| view.revoked_in(record).is_none() && record.links().all(|link| installed(link.digest)));
        let old = usable.next().ok_or_else(|| Error::UnknownGeneration {
            slot: slot.clone(),
            wanted: "without what is revoked".to_owned(),
        })?;
        self.return_to(slot, &view, &before, &old, DAEMON).await.map(|view| Some(view.binding.generation))
    }
}
