//! Components are tried when they were published: one at a time, behind the requests.
//!
//! Owns which are due and where reports are kept, by the digest of the component; must not know how they are tried. Invariant: no request waits for it,
//! what was interrupted is begun anew at the next start, and a report counts until there is a newer one.

use std::{collections::BTreeMap, time::Duration};

use platform_base::clock;
use platform_runtime::Digest;
use platform_storage::Condition;

use crate::{
    blobs::{blocking, emptied},
    error::Result,
    marketplace::Marketplace,
    name::{RepositoryName, Tag},
    report::{Report, Verdict},
    table::{key, put},
    tester::Tester,
};

/// Longest between two looks at what is due, which may also have been published elsewhere.
const LOOK: Duration = Duration::from_secs(600);

/// Where a component was published.
type Places = Vec<(RepositoryName, Tag)>;

impl Marketplace {
    /// Tries what was not tried yet by this version of the platform, and what comes.
    pub(crate) async fn keep_trying(&self, tester: Tester) {
        let since_ms = clock::unix_ms();
        let is_done = |report: &Report| is_done(report, &tester.platform, since_ms);
        loop {
            match self.untried(is_done).await {
                Ok(due) => {
                    for ((component, slot), places) in due {
                        self.try_one(&tester, component, &slot, &places, is_done).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "it can't be told now which components were not tried yet"),
            }
            let _ = tokio::time::timeout(LOOK, self.try_again.notified()).await;
        }
    }

    /// Components without a report that counts, and where they are published.
    async fn untried(&self, is_done: impl Fn(&Report) -> bool) -> Result<BTreeMap<(Digest, String), Places>> {
        let mut due: BTreeMap<(Digest, String), Places> = BTreeMap::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.repositories(after.as_deref(), 1000).await?;
            for repository in page.entries.iter().filter_map(|name| name.parse::<RepositoryName>().ok()) {
                for version in self.store.versions(&repository).await? {
                    let is_done = version.report.as_ref().is_some_and(&is_done);
                    let tag = version.version.parse::<Tag>().ok();
                    if let Some(tag) = tag.filter(|_| !is_done) {
                        due.entry((version.component, version.slot)).or_default().push((repository.clone(), tag));
                    }
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(due);
            }
        }
    }

    async fn try_one(
        &self, tester: &Tester, component: Digest, slot: &str, places: &Places, is_done: impl Fn(&Report) -> bool,
    ) {
        if let Err(error) = self.try_and_judge(tester, component, slot, places, is_done).await {
            tracing::warn!(%component, %error, "what came of trying a component is not kept; it is tried again later");
        }
    }

    async fn try_and_judge(
        &self, tester: &Tester, component: Digest, slot: &str, places: &Places, is_done: impl Fn(&Report) -> bool,
    ) -> Result<()> {
        let held = self.report(component).await?.filter(is_done);
        if held.is_none() {
            let Some(file) = self.store.blobs.local(component).await? else { return Ok(()) };
            // Nobody else tries anything; what is there was left behind.
            let trials = self.trials.clone();
            blocking(move || emptied(&trials)).await?;
            let time = Duration::from_millis(self.config.limits.trial_ms);
            let Some(report) = tester.run(component, slot, &file, &self.trials, time).await else { return Ok(()) };
            tracing::info!(%component, slot, verdict = ?report.verdict, why = report.why, "tried a component");
            let write = put(key::report(component), &report, Condition::Always)?;
            self.store.table.commit(vec![write]).await?;
        }
        for (repository, tag) in places {
            self.judge(repository, tag).await?;
        }
        Ok(())
    }

    /// What came of trying a component.
    pub(crate) async fn report(&self, component: Digest) -> Result<Option<Report>> {
        self.store.table.record(&key::report(component)).await
    }
}

/// Whether a report says what this version of the platform finds. What could not be tried may be tried since the last start.
fn is_done(report: &Report, platform: &str, since_ms: u64) -> bool {
    report.platform == platform && (report.verdict != Verdict::NotTried || report.at_ms >= since_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_of_the_platform_tries_again() {
        let tried = |verdict, at_ms| Report { verdict, ..Report::new(Digest::of(b""), "kv.store", "1.0.0", at_ms) };
        for (report, platform, expected) in [
            (tried(Verdict::Passed, 5), "1.0.0", true),
            (tried(Verdict::Failed, 5), "1.0.0", true),
            (tried(Verdict::Passed, 5), "1.1.0", false),
            (tried(Verdict::NotTried, 5), "1.0.0", false),
            (tried(Verdict::NotTried, 15), "1.0.0", true),
        ] {
            assert_eq!(is_done(&report, platform, 10), expected, "{report:?} {platform}");
        }
    }
}
