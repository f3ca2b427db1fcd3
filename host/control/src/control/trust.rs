//! Whose components are let in: those signed as their names ask for, and not revoked.
//!
//! Judged when a component is installed, and again each time before it is loaded: the configuration, the advisories or the file may be others by
//! then. Must not know how a signature is made. Invariant: what is refused here is neither compiled nor run.

use std::sync::Arc;

use platform_runtime::Digest;
use platform_signing::{Evidence, Policy, Verdict};
use serde::{Deserialize, Serialize};

use super::Control;
use crate::{
    error::{Error, Result},
    record::{Link, PluginKey},
    state::View,
};

/// Whom a daemon trusts.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Whose signatures are needed.
    pub policy: Policy,
    /// What follows from an advisory.
    pub advisories: Advisories,
}

/// Advisories against components, as the configuration file has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Advisories {
    /// What a revoked component may still do.
    pub revoked: RevokedRule,
}

/// What a revoked component may still do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevokedRule {
    /// Everything, with a warning.
    Warn,
    /// Serve where it does until it is loaded anew; it is neither installed nor bound.
    #[default]
    Refuse,
    /// Nothing: slots that it serves also return to the newest generation without one.
    Rollback,
}

/// What is found of a component that is let in.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// The key that signed it, by which its name's rule is satisfied.
    pub(super) signer: Option<Digest>,
    /// What an operator should know.
    pub(super) warnings: Vec<String>,
}

/// Judges by what holds at one moment.
#[derive(Debug, Clone)]
pub(super) struct Judge {
    trust: Arc<Trust>,
    view: Arc<View>,
}

impl Control {
    /// Judges components by this from now on. What is loaded already goes on until it is loaded anew.
    pub fn use_trust(&self, trust: Trust) {
        *self.trust.write() = Arc::new(trust);
    }

    pub(super) fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.trust.read())
    }

    /// A judge by what holds now.
    pub(super) fn judge(&self, view: &Arc<View>) -> Judge {
        Judge { trust: self.trust(), view: Arc::clone(view) }
    }
}

impl Judge {
    /// Judges a component that is to be known by a name.
    pub(super) fn component(
        &self, name: &str, component: &[u8], digest: Digest, evidence: &[Evidence],
    ) -> Result<Judgement> {
        let mut judgement = Judgement::default();
        judgement.warnings.extend(self.revoked(name, digest)?);
        match self.trust.policy.check(name, component, digest, evidence)? {
            Verdict::Unruled => {}
            Verdict::Signed(key) => judgement.signer = Some(key),
            Verdict::Tolerated(why) => judgement.warnings.push(why.to_string()),
        }
        Ok(judgement)
    }

    /// Judges a component that is about to be loaded.
    pub(super) fn link(&self, link: &Link, component: &[u8]) -> Result<()> {
        let record = self.view.plugin(&PluginKey::new(link.name.as_str(), &link.version)?);
        let evidence =
            record.filter(|record| record.digest == link.digest).map_or(&[][..], |record| record.signatures.as_slice());
        for warning in self.component(link.name.as_str(), component, link.digest, evidence)?.warnings {
            tracing::warn!(plugin = link.label(), warning, "a component is loaded all the same");
        }
        Ok(())
    }

    /// Refuses what is revoked, or says so.
    pub(super) fn revoked(&self, plugin: &str, digest: Digest) -> Result<Option<String>> {
        let Some(revocation) = self.view.revocation(digest) else { return Ok(None) };
        let refused = Error::Revoked { plugin: plugin.to_owned(), digest, reason: revocation.reason.clone() };
        match self.trust.advisories.revoked {
            RevokedRule::Warn => Ok(Some(refused.to_string())),
            RevokedRule::Refuse | RevokedRule::Rollback => Err(refused),
        }
    }
}
