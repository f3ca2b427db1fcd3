//! [`Reload`]: the configuration file while the daemon runs.
//!
//! Owns when the file is read again, and what of it can change without a restart; must not know how a change is made.
//! Invariant: a file that is wrong changes nothing, and whoever changed what needs a restart is told so.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{
    assemble::Daemon,
    configuration::{Configuration, Stamp},
};
use crate::settings::Settings;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Sections that are applied to a running daemon.
const LIVE: [&str; 5] = ["config", "advisories", "trust", "plugin", "binding"];

/// Watches the file and applies what it says.
#[derive(Debug)]
pub(crate) struct Reload {
    configuration: Configuration,
    looks: Interval,
    seen: Option<Stamp>,
}

impl Reload {
    /// Watches the file of `configuration`, which was applied at the start.
    pub(crate) fn new(configuration: &Configuration) -> Self {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { configuration: configuration.clone(), looks, seen: configuration.stamp.clone() }
    }

    /// Returns once the file is another one than before. Safe to drop and call again.
    pub(crate) async fn changed(&mut self) {
        loop {
            self.looks.tick().await;
            let now = Stamp::of(&self.configuration.file);
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }

    /// Applies what the file says now.
    pub(crate) async fn apply(&mut self, daemon: &Daemon) {
        let file = self.configuration.file.display().to_string();
        self.seen = Stamp::of(&self.configuration.file);
        let settings = match self.configuration.reread() {
            Ok(settings) => settings,
            Err(error) => {
                tracing::error!(%error, "the configuration was not applied; everything is as it was");
                return;
            }
        };
        let pending = pending(&self.configuration.settings, &settings);
        if !pending.is_empty() {
            tracing::warn!(file, sections = pending.join(", "), "these sections take effect at the next start");
        }
        daemon.apply(&settings).await;
    }
}

/// Sections that differ and can't be applied to a running daemon.
fn pending(before: &Settings, after: &Settings) -> Vec<String> {
    let sections = |settings| match serde_json::to_value(settings) {
        Ok(Value::Object(sections)) => sections,
        _ => serde_json::Map::new(),
    };
    let before = sections(before);
    let changed = sections(after).into_iter().filter(|(name, value)| before.get(name) != Some(value));
    changed.map(|(name, _)| name).filter(|name| !LIVE.contains(&name.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_that_wait_are_named() {
        let before = Settings::default();
        let mut after = before.clone();
        assert!(pending(&before, &after).is_empty());
        after.server.address = "127.0.0.1:1".to_owned();
        after.shutdown.drain_ms_max += 1;
        let mut names = pending(&before, &after);
        names.sort();
        assert_eq!(names, ["server", "shutdown"]);
    }
}
