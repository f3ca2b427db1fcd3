//! `platform plugin bind`: makes components serve a slot.
//!
//! Owns how a chain with its settings and limits is written on the command line; what is allowed is the daemon's to say.
//! Invariant: nothing is granted and nothing bound unless every argument was read.

mod trial;

use std::time::Duration;

use clap::Args;
use platform_proto::plugin::v1::{
    BindRequest, DaemonSlot, GrantRequest, Limits, Link, Plugin, ProgressRequest, Slot, UnbindResponse,
};
use prost_types::Struct;

use super::{
    Context,
    client::{COMPILE_TIMEOUT, Client, TIMEOUT},
    document,
    failure::{Exit, Failure},
    quantity::{bytes, milliseconds, positive_duration},
};
use trial::Trial;
pub(crate) use trial::described;

/// Arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Bind {
    /// The slot, such as `auth.policy` or `kv.store/tenant-a`.
    slot: String,
    /// The components as `NAME`, `NAME@VERSION` or digest: one, or several in order for `auth.policy`.
    #[arg(value_name = "PLUGIN", required = true)]
    plugins: Vec<String>,
    /// Settings of a component, a JSON object or the name of a JSON or TOML file; repeated in the order of the components.
    #[arg(long, value_name = "JSON|FILE")]
    settings: Vec<String>,
    /// Instance mode instead of the manifest's: `fresh`, `reused` or `single`.
    #[arg(long, value_parser = ["fresh", "reused", "single"])]
    mode: Option<String>,
    /// What answers when a component can't: `closed`, `open`, `last-good` or `fallback:NAME`.
    #[arg(long, value_name = "MODE", value_parser = failure_mode, default_value = "closed")]
    failure: String,
    /// Grants to give the components first, such as `storage`; `requested` for all that their manifests ask for.
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<String>,
    /// Most linear memory of an instance, such as `16MiB`.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory: Option<u64>,
    /// Longest time of a call, such as `50ms`.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    deadline: Option<Duration>,
    /// Most calls at the same time.
    #[arg(long, value_name = "CALLS")]
    concurrency: Option<u32>,
    /// Most calls that wait for their turn.
    #[arg(long, value_name = "CALLS")]
    queue: Option<u32>,
    /// Most calls that one instance serves before it is replaced.
    #[arg(long, value_name = "CALLS")]
    calls_per_instance: Option<u64>,
    /// Binds only when the slot is at this generation; 0: when it is empty.
    #[arg(long, value_name = "GENERATION")]
    if_generation: Option<u64>,
    /// Carries the databases or keys of these namespaces from what serves `db.store` or `kv.store` now; what the component held of
    /// them is dropped.
    #[arg(long, value_name = "NAMESPACE,...", value_delimiter = ',')]
    carry: Vec<String>,
    #[command(flatten)]
    trial: Trial,
    /// Why, for the audit trail.
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
    /// Goes through everything but the change itself, and keeps nothing.
    #[arg(long, conflicts_with = "grants")]
    dry_run: bool,
}

impl Bind {
    /// Grants, then binds; what the slot holds then.
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let dry_run = self.dry_run;
        let grants = self.grants.clone();
        let plugins = self.plugins.clone();
        let request = self.into_message()?;
        let client = context.connect().await?;
        for plugin in plugins.into_iter().filter(|_| !grants.is_empty()) {
            let message = grant(plugin, grants.clone(), Vec::new());
            client.call(client.plugins().grant(client.request(TIMEOUT, message))).await?;
        }
        let progress = context.output.progress(format!("binding `{}`", request.slot));
        let bound =
            client.call_within(COMPILE_TIMEOUT, client.plugins().bind(client.request(COMPILE_TIMEOUT, request))).await;
        drop(progress);
        let slot = bound?;
        if dry_run {
            context.output.answer("platform.plugin.v1.Slot", &slot, || sentence(&slot, true))?;
            return Ok(Exit::Done);
        }
        settle(context, &client, slot).await
    }

    fn into_message(self) -> Result<BindRequest, Failure> {
        if self.settings.len() > self.plugins.len() {
            let message = format!(
                "{} settings for {} components; give each component at most one",
                self.settings.len(),
                self.plugins.len()
            );
            return Err(Failure::usage(message));
        }
        if self.settings.len() > 1 && self.settings.len() < self.plugins.len() {
            return Err(Failure::usage(
                "some components have settings and some have none; write `{}` for those without",
            ));
        }
        if self.settings.len() == 1 && self.plugins.len() > 1 {
            return Err(Failure::usage(
                "one `--settings` for several components; repeat it for each in order, `{}` for those without",
            ));
        }
        let settings: Result<Vec<Struct>, Failure> = self.settings.iter().map(|text| document::read(text)).collect();
        let mut settings = settings?.into_iter();
        let limits = Limits {
            memory_bytes: self.memory,
            deadline_ms: self.deadline.map(milliseconds),
            concurrency: self.concurrency,
            queue: self.queue,
            calls_per_instance: self.calls_per_instance,
        };
        let limits = (limits != Limits::default()).then_some(limits);
        let mode = self.mode.unwrap_or_default();
        let link = |plugin| Link { plugin, settings: settings.next(), mode: mode.clone(), limits, ..Link::default() };
        Ok(BindRequest {
            slot: self.slot,
            chain: self.plugins.into_iter().map(link).collect(),
            failure_mode: self.failure,
            dry_run: self.dry_run,
            if_generation: self.if_generation,
            comment: self.comment,
            carry: self.carry,
            rollout: self.trial.into_plan(),
        })
    }
}

/// A request for grants; the word `requested` stands for all that the manifest asks for.
pub(crate) fn grant(plugin: String, mut grants: Vec<String>, revoke: Vec<String>) -> GrantRequest {
    let before = grants.len();
    grants.retain(|grant| grant != "requested");
    GrantRequest { plugin, requested: grants.len() < before, grants, revoke }
}

/// Waits until every daemon that shares the storage serves what the slot holds now, and prints the slot as it is then. A
/// failure names the daemons that do not serve it, and why.
pub(crate) async fn settle(context: &Context, client: &Client, mut slot: Slot) -> Result<Exit, Failure> {
    let tried = slot.rollout.as_ref().filter(|rollout| rollout.running).and_then(|rollout| rollout.candidate.as_ref());
    let generation = tried.or(slot.binding.as_ref()).map(|binding| binding.generation);
    let mut late = None;
    if !slot.daemons.is_empty() {
        let wanted = ProgressRequest { slot: slot.name.clone(), generation, gone: None };
        late = follow(context, client, wanted, "serve it", &mut slot.daemons).await.err();
    }
    context.output.answer("platform.plugin.v1.Slot", &slot, || sentence(&slot, false))?;
    outcome(late, &slot.daemons, &format!("serves generation {}", generation.unwrap_or(0)))
}

/// Waits until every daemon serves the slots of a component with the grants that it has now, and prints the component as it is then.
pub(crate) async fn settle_grants(
    context: &Context, client: &Client, mut plugin: Plugin, human: impl FnOnce(&Plugin) -> String,
) -> Result<Exit, Failure> {
    let mut late = None;
    if !plugin.daemons.is_empty() {
        plugin.daemons.clear();
        for slot in &plugin.bound {
            let wanted = ProgressRequest { slot: slot.clone(), ..ProgressRequest::default() };
            let (done, mut daemons) = (format!("serve `{slot}` with them"), Vec::new());
            late = follow(context, client, wanted, &done, &mut daemons).await.err().or(late);
            plugin.daemons.append(&mut daemons);
        }
    }
    context.output.answer("platform.plugin.v1.Plugin", &plugin, || human(&plugin))?;
    outcome(late, &plugin.daemons, "serves it with these grants")
}

/// Waits until a slot is empty on every daemon, and prints what served until then.
pub(crate) async fn settle_empty(
    context: &Context, client: &Client, slot: &str, mut unbound: UnbindResponse,
) -> Result<Exit, Failure> {
    let mut late = None;
    if !unbound.daemons.is_empty() {
        let wanted = ProgressRequest { slot: slot.to_owned(), generation: None, gone: Some(unbound.generation) };
        late = follow(context, client, wanted, "have emptied it", &mut unbound.daemons).await.err();
    }
    let human = || format!("`{slot}` is empty; it was at generation {}", unbound.generation);
    context.output.answer("platform.plugin.v1.UnbindResponse", &unbound, human)?;
    outcome(late, &unbound.daemons, &format!("has emptied `{slot}`"))
}

/// Brings what is known of the daemons up to date until none is on its way any more; `done` says what those do that are there.
async fn follow(
    context: &Context, client: &Client, wanted: ProgressRequest, done: &str, daemons: &mut Vec<DaemonSlot>,
) -> Result<(), Failure> {
    let request = client.request(COMPILE_TIMEOUT, wanted);
    let mut progress = client.call_within(COMPILE_TIMEOUT, client.plugins().progress(request)).await?;
    while let Some(event) = progress.message().await? {
        *daemons = event.daemons;
        let there = daemons.iter().filter(|daemon| daemon.current).count();
        context.output.note(&format!("{there} of {} daemons {done}", daemons.len()));
    }
    Ok(())
}

/// What came of waiting: a failure names the daemons that are not there, and why.
fn outcome(late: Option<Failure>, daemons: &[DaemonSlot], wanted: &str) -> Result<Exit, Failure> {
    let behind: Vec<String> = daemons.iter().filter(|daemon| !daemon.current).map(behind).collect();
    match (late, behind.as_slice()) {
        (None, []) => Ok(Exit::Done),
        (Some(late), []) => Err(late),
        (late, behind) => {
            let exit = if late.is_some() { Exit::Unavailable } else { Exit::No };
            let message = format!("not every daemon {wanted}: {}", behind.join("; "));
            Err(Failure::new(exit, "NOT_ON_ALL_DAEMONS", message))
        }
    }
}

/// Why a daemon does not serve what it should.
fn behind(daemon: &DaemonSlot) -> String {
    let why = if daemon.problem.is_empty() { "it is on its way" } else { &daemon.problem };
    let DaemonSlot { daemon, address, slot, generation, .. } = daemon;
    format!("`{daemon}` at {address} serves generation {generation} of `{slot}`: {why}")
}

/// What a slot holds, in a sentence.
pub(crate) fn sentence(slot: &Slot, dry_run: bool) -> String {
    let binding = slot.binding.clone().unwrap_or_default();
    if let Some(rollout) = slot.rollout.as_ref().filter(|rollout| rollout.running) {
        let candidate = rollout.candidate.clone().unwrap_or_default();
        let (tries, changed) = if dry_run { ("would try", "; nothing was changed") } else { ("tries", "") };
        return format!(
            "`{}` {tries} `{}` as generation {}, a {}, beside generation {}{changed}",
            slot.name,
            names(&candidate.chain),
            candidate.generation,
            described(rollout),
            binding.generation
        );
    }
    if dry_run {
        return format!("`{}` would serve `{}`; nothing was changed", names(&binding.chain), slot.name);
    }
    format!("`{}` is at generation {}: `{}`", slot.name, binding.generation, names(&binding.chain))
}

fn names(chain: &[Link]) -> String {
    let names: Vec<&str> = chain.iter().map(|link| link.plugin.as_str()).collect();
    names.join("`, `")
}

fn failure_mode(text: &str) -> Result<String, String> {
    match text {
        "closed" | "open" | "last-good" => Ok(text.to_owned()),
        _ if text.strip_prefix("fallback:").is_some_and(|name| !name.is_empty()) => Ok(text.to_owned()),
        _ => Err("write `closed`, `open`, `last-good` or `fallback:NAME`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        bind: Bind,
    }

    fn message(words: &[&str]) -> Result<BindRequest, String> {
        let line = Line::try_parse_from([&["bind"], words].concat()).map_err(|error| error.to_string())?;
        line.bind.into_message().map_err(|failure| failure.to_string())
    }

    #[test]
    fn settings_go_to_components_in_order() {
        let request =
            message(&["auth.policy", "a", "b@1.0.0", "--settings", r#"{"x":1}"#, "--settings", "{}"]).unwrap();
        assert_eq!(request.failure_mode, "closed");
        let members: Vec<_> = request.chain.iter().map(|link| link.settings.as_ref().unwrap().fields.len()).collect();
        assert_eq!(members, [1, 0]);
        assert!(message(&["auth.policy", "a", "b", "--settings", "{}"]).unwrap_err().contains("repeat it"));
        assert!(
            message(&["auth.policy", "a", "--settings", "{}", "--settings", "{}"]).unwrap_err().contains("at most one")
        );
    }

    #[test]
    fn limits_and_modes_are_read() {
        let request =
            message(&["kv.store", "kv", "--memory", "1MiB", "--deadline", "50ms", "--failure", "fallback:spare"])
                .unwrap();
        assert_eq!(request.failure_mode, "fallback:spare");
        let limits = request.chain[0].limits.unwrap();
        assert_eq!((limits.memory_bytes, limits.deadline_ms, limits.queue), (Some(1 << 20), Some(50), None));
        assert!(message(&["kv.store", "kv", "--failure", "fallback:"]).is_err());
        assert!(message(&["kv.store", "kv", "--mode", "fast"]).is_err());
        assert!(message(&["kv.store"]).is_err());
    }

    #[test]
    fn a_candidate_is_tried_one_way() {
        let plan = message(&["auth.policy", "a", "--canary", "5%", "--by", "team"]).unwrap().rollout.unwrap();
        assert_eq!((plan.kind.as_str(), plan.percent, plan.by.as_str(), plan.limits), ("canary", 5, "team", None));
        let words = ["auth.policy", "a", "--shadow", "--max-divergence", "2.5", "--min-calls", "10"];
        let plan = message(&words).unwrap().rollout.unwrap();
        let limits = plan.limits.unwrap();
        assert_eq!(
            (plan.kind.as_str(), limits.divergence_percent_max, limits.calls_min),
            ("shadow", Some(2.5), Some(10))
        );
        assert_eq!(message(&["auth.policy", "a"]).unwrap().rollout, None);
        for bad in [
            &["--canary", "101"][..],
            &["--canary", "-1"],
            &["--canary", "half"],
            &["--canary", "5", "--shadow"],
            &["--shadow", "--by", "team"],
            &["--canary", "5", "--max-divergence", "1"],
            &["--min-calls", "10"],
            &["--shadow", "--carry", "default"],
        ] {
            assert!(message(&[&["auth.policy", "a"], bad].concat()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn requested_is_a_word_of_its_own() {
        let request = grant("a".into(), vec!["requested".into(), "storage".into()], Vec::new());
        assert!(request.requested);
        assert_eq!(request.grants, ["storage"]);
    }
}
