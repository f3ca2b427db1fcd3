//! `platform plugin`: what is installed, what it may reach, and what serves in which slot.
//!
//! Knows the commands' arguments and how components and slots look; every rule is the daemon's.

mod author;
mod decisions;
mod enclose;
mod logs;
mod market;
mod registry;
mod replay;
mod revoke;
mod rollout;
mod show;
mod sign;
mod trial;
mod verify;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use platform_proto::plugin::v1::{
    AbortRequest, AuditRequest, AuditResponse, DrainRequest, GetSlotRequest, HistoryRequest, HistoryResponse,
    InspectRequest, InstallRequest, ListRequest, ListResponse, ListSlotsRequest, ListSlotsResponse, PromoteRequest,
    RollbackRequest, UnbindRequest, UninstallRequest,
};

use super::{
    Context,
    bind::{self, Bind},
    client::{COMPILE_TIMEOUT, TIMEOUT},
    failure::{Exit, Failure},
    input, pages,
    quantity::human_bytes,
};
use author::Author;
use logs::Logs;
use market::{Search, Show};
use registry::{Locking, Pull, Push};
use replay::Replay;
use revoke::Revoke;
use sign::{Keygen, Sign, Signatures, VerifySignature};
use verify::Verify;

/// Largest component that the platform takes.
const COMPONENT_BYTES: u64 = 64 << 20;

/// What can be done with components and slots.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Author(Author),
    /// Verifies, compiles and stores a component.
    #[command(after_help = "Examples:\n  platform plugin install my-policy.wasm\n  \
        platform plugin install build/out.wasm --name my-policy --version 1.2.0 --dry-run\n  \
        platform plugin install oci://registry.example.com/my-policy@^1.2\n  \
        platform plugin install oci://registry.example.com/my-policy:1.2.0 --locked --lock platform.lock")]
    Install(Box<Install>),
    /// Puts a component into a registry, as an OCI artifact.
    #[command(after_help = "Examples:\n  platform plugin push my-policy.wasm registry.example.com/my-policy:1.2.0\n  \
        platform plugin push my-policy.wasm 127.0.0.1:5000/my-policy:1.2.0 --readme README.md --sbom sbom.json")]
    Push(Box<Push>),
    /// Takes a component out of a registry and verifies it against its digest.
    #[command(after_help = "Examples:\n  platform plugin pull registry.example.com/my-policy:1.2.0\n  \
        platform plugin pull registry.example.com/my-policy@^1.2 --file my-policy.wasm")]
    Pull(Box<Pull>),
    /// Looks for components in the marketplace of the daemon.
    #[command(
        after_help = "Examples:\n  platform plugin search\n  platform plugin search rate limit --slot auth.policy\n  \
        platform plugin search --slot kv.store --output json"
    )]
    Search(Search),
    /// Shows what the marketplace of the daemon lists under a name; exits with 1 when that is nothing.
    #[command(
        after_help = "Examples:\n  platform plugin show team/kv-storage\n  platform plugin show team/kv-storage --of 1.2.0 --readme"
    )]
    Show(Show),
    /// Makes a pair of keys for signing components, as `cosign generate-key-pair` does.
    #[command(after_help = "Examples:\n  platform plugin keygen acme --key-password-file password\n  \
        platform plugin keygen acme --algorithm ed25519")]
    Keygen(Keygen),
    /// Signs a component, in a registry or as a file, in a way that cosign verifies.
    #[command(
        after_help = "Examples:\n  platform plugin sign oci://registry.example.com/my-policy:1.2.0 --key acme.key\n  \
        platform plugin sign my-policy.wasm --key acme.key"
    )]
    Sign(Box<Sign>),
    /// Tells whether a component is signed by one of some keys; exits with 1 when it is not.
    #[command(after_help = "Examples:\n  platform plugin verify-signature my-policy.wasm --key acme.pub\n  \
        platform plugin verify-signature oci://registry.example.com/my-policy:1.2.0 --key acme.pub --output json")]
    VerifySignature(Box<VerifySignature>),
    /// Says that a component is not to be used any more, on all daemons that share the storage.
    #[command(after_help = "Examples:\n  platform plugin revoke my-policy@1.2.0 --reason 'lets everybody in'\n  \
        platform plugin revoke sha256:DIGEST --withdraw")]
    Revoke(Revoke),
    /// Lists components that are not to be used any more, and why.
    #[command(after_help = "Example:\n  platform plugin revocations --output json")]
    Revocations,
    /// Gives and takes grants; slots that the component serves change at once.
    #[command(after_help = "Examples:\n  platform plugin grant kv-storage requested\n  \
        platform plugin grant kv-redis network:127.0.0.1:6379 --revoke storage")]
    Grant(Grant),
    /// Makes components serve a slot, without losing a call.
    #[command(after_help = "Examples:\n  platform plugin bind auth.policy my-policy@1.2.0 --settings rules.toml\n  \
        platform plugin bind auth.policy first second --settings '{}' --settings second.json\n  \
        platform plugin bind kv.store kv-memory --failure closed --deadline 50ms\n  \
        platform plugin bind auth.policy my-policy@1.3.0 --settings rules.toml --canary 5 --by team")]
    Bind(Box<Bind>),
    /// Empties a slot; calls in flight finish.
    #[command(after_help = "Example:\n  platform plugin unbind auth.policy/payments")]
    Unbind(OfSlot),
    /// Makes the candidate that a slot tries serve all calls.
    #[command(after_help = "Example:\n  platform plugin promote auth.policy")]
    Promote(OfSlot),
    /// Takes the candidate that a slot tries away.
    #[command(after_help = "Example:\n  platform plugin abort auth.policy")]
    Abort(OfSlot),
    /// Shows how the candidate of a slot fares, where its answers differ, and why it was stopped; exits with 1 when nothing is tried.
    #[command(after_help = "Example:\n  platform plugin rollout auth.policy --output json")]
    Rollout(OfSlot),
    /// Lists decisions that this daemon kept, oldest first.
    #[command(after_help = "Examples:\n  platform plugin decisions auth.policy --since 1h\n  \
        platform plugin decisions auth.policy --output json > decisions.jsonl")]
    Decisions(decisions::List),
    /// Asks kept decisions again of a component that is not bound, and tells what would change; exits with 1 when something does.
    #[command(after_help = "Examples:\n  platform plugin replay my-policy.wasm --since 1h\n  \
        platform plugin replay my-policy.wasm --settings rules.toml --report replay.html\n  \
        platform plugin replay my-policy.wasm --settings rules.toml --from decisions.jsonl --output json")]
    Replay(Box<Replay>),
    /// Returns a slot to the generation before, or to a certain one.
    #[command(after_help = "Example:\n  platform plugin rollback auth.policy --to 3")]
    Rollback(Rollback),
    /// Waits until no call runs on an older generation of a slot.
    #[command(after_help = "Example:\n  platform plugin drain kv.store --timeout 10s")]
    Drain(OfSlot),
    /// Lists installed components.
    #[command(after_help = "Example:\n  platform plugin list")]
    List(Limit),
    /// Shows everything that is known of an installed component, or what a file is; exits with 1 when it is not installed.
    #[command(
        after_help = "Examples:\n  platform plugin inspect kv-storage\n  platform plugin inspect dist/my-policy.wasm"
    )]
    Inspect(Inspect),
    /// Lists slots and what serves in them, or shows one.
    #[command(after_help = "Examples:\n  platform plugin slots\n  platform plugin slots auth.policy --output json")]
    Slots(Slots),
    /// Lists the generations of a slot, newest first.
    #[command(after_help = "Example:\n  platform plugin history auth.policy --limit 5")]
    History(History),
    /// Lists changes that were made or refused, newest first.
    #[command(after_help = "Example:\n  platform plugin audit --about auth.policy --limit 20")]
    Audit(Audit),
    /// Prints the latest lines that a component wrote on this daemon, and those about its failures, oldest first.
    #[command(after_help = "Examples:\n  platform plugin logs auth-scopes --follow\n  \
        platform plugin logs my-policy@1.2.0 --limit 20 --level warn --output json")]
    Logs(Logs),
    /// Tries a component on its own and tells which promises of its slot's interface it keeps; exits with 1 when it breaks one.
    #[command(after_help = "Examples:\n  platform plugin verify my-store.wasm\n  \
        platform plugin verify kv-redis.wasm --settings '{\"url\":\"redis://127.0.0.1:6379\"}' --grant requested\n  \
        platform plugin verify my-store.wasm --only scan --output json")]
    Verify(Box<Verify>),
    /// Removes a component that no slot uses or can roll back to.
    #[command(after_help = "Example:\n  platform plugin uninstall my-policy@1.1.0")]
    Uninstall(OfPlugin),
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// The component: a file, `-` for standard input, or `oci://HOST/NAME[:TAG|@DIGEST|@RANGE]`.
    file: PathBuf,
    /// Name, instead of the manifest's.
    #[arg(long, default_value = "")]
    name: String,
    /// Version, instead of the manifest's.
    #[arg(long, default_value = "")]
    version: String,
    /// Verifies and tells, and keeps nothing.
    #[arg(long)]
    dry_run: bool,
    /// Gives it all grants that it asks for; the answer tells how they differ from what the version before has.
    #[arg(long)]
    accept_grants: bool,
    #[command(flatten)]
    signatures: Signatures,
    #[command(flatten)]
    registry: Locking,
}

#[derive(Debug, Args)]
pub(crate) struct Grant {
    #[command(flatten)]
    which: OfPlugin,
    /// Grants to give: `storage`, `kv`, `discovery`, `config`, `db`, `event`, `sync`, `marketplace`, `wasi`, `network:HOST:PORT`, `files:DIRECTORY` or `env:NAME`; `requested` for all that the manifest asks for.
    #[arg(value_name = "GRANT", required_unless_present = "revoke")]
    grants: Vec<String>,
    /// A grant to take; may be repeated.
    #[arg(long, value_name = "GRANT")]
    revoke: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct OfPlugin {
    /// The component as `NAME`, `NAME@VERSION` or digest.
    plugin: String,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The component as `NAME`, `NAME@VERSION` or digest; a file, `-` for standard input, with a `/` or `.wasm` at its end.
    #[arg(value_name = "PLUGIN|FILE")]
    plugin: String,
}

#[derive(Debug, Args)]
pub(crate) struct OfSlot {
    /// The slot, such as `auth.policy`.
    slot: String,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    #[command(flatten)]
    which: OfSlot,
    /// The generation to return to; the one before when not given.
    #[arg(long, value_name = "GENERATION")]
    to: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Limit {
    /// At most this many; all when not given.
    #[arg(long)]
    limit: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Slots {
    /// Only this slot, with its figures.
    slot: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    #[command(flatten)]
    which: OfSlot,
    #[command(flatten)]
    most: Limit,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// Only records about this slot or component.
    #[arg(long, value_name = "SLOT|PLUGIN", default_value = "")]
    about: String,
    /// At most this many.
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

/// Runs a command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Author(command) => command.run(context).await,
        Command::Install(arguments) => install(context, *arguments).await,
        Command::Push(arguments) => arguments.run(context).await,
        Command::Pull(arguments) => arguments.run(context).await,
        Command::Search(arguments) => arguments.run(context).await,
        Command::Show(arguments) => arguments.run(context).await,
        Command::Keygen(arguments) => arguments.run(context),
        Command::Sign(arguments) => arguments.run(context).await,
        Command::VerifySignature(arguments) => arguments.run(context).await,
        Command::Revoke(arguments) => arguments.run(context).await,
        Command::Revocations => revoke::list(context).await,
        Command::Grant(arguments) => grant(context, arguments).await,
        Command::Bind(arguments) => arguments.run(context).await,
        Command::Unbind(which) => unbind(context, which).await,
        Command::Promote(which) => promote(context, which).await,
        Command::Abort(which) => abort(context, which).await,
        Command::Rollout(which) => rollout::run(context, which.slot).await,
        Command::Decisions(arguments) => arguments.run(context).await,
        Command::Replay(arguments) => arguments.run(context).await,
        Command::Rollback(arguments) => rollback(context, arguments).await,
        Command::Drain(which) => drain(context, which).await,
        Command::List(most) => list(context, most).await,
        Command::Inspect(which) => inspect(context, which).await,
        Command::Slots(Slots { slot: Some(slot) }) => slot_detail(context, slot).await,
        Command::Slots(Slots { slot: None }) => slots(context).await,
        Command::History(arguments) => history(context, arguments).await,
        Command::Audit(arguments) => audit(context, arguments).await,
        Command::Logs(arguments) => arguments.run(context).await,
        Command::Verify(arguments) => arguments.run(context).await,
        Command::Uninstall(which) => uninstall(context, which).await,
    }
}

async fn install(context: &Context, arguments: Install) -> Result<Exit, Failure> {
    let mut pulled = match sign::oci(&arguments.file) {
        Some(reference) => {
            arguments.signatures.check_unused()?;
            Some(arguments.registry.pull(context, reference).await?)
        }
        None => arguments.registry.check_unused().map(|()| None)?,
    };
    let (component, signatures, file) = match &mut pulled {
        Some(pulled) => (std::mem::take(&mut pulled.component), std::mem::take(&mut pulled.signatures), pulled.name()),
        None => {
            let component = input::read(&arguments.file, COMPONENT_BYTES)?;
            (component, arguments.signatures.read(&arguments.file)?, input::shown(&arguments.file))
        }
    };
    let signatures = signatures.iter().map(sign::to_text).collect::<Result<_, _>>()?;
    if component.is_empty() {
        return Err(Failure::usage(format!("`{}` is empty; give a component", file.display())));
    }
    let client = context.connect().await?;
    let progress =
        context.output.progress(format!("installing {} ({})", name_of(&file), human_bytes(component.len() as u64)));
    let dry_run = arguments.dry_run;
    let Install { name, version, accept_grants, .. } = arguments;
    let message = InstallRequest { component: component.into(), name, version, dry_run, signatures, accept_grants };
    let installed =
        client.call_within(COMPILE_TIMEOUT, client.plugins().install(client.request(COMPILE_TIMEOUT, message))).await;
    drop(progress);
    let installed = installed?;
    let human = || show::installed(&installed, dry_run);
    match &pulled {
        None => context.output.answer("platform.plugin.v1.InstallResponse", &installed, human)?,
        Some(pulled) => {
            if !dry_run {
                pulled.record(context)?;
            }
            if context.output.is_human() {
                context.output.text(&pulled.human(&human()))?;
            } else {
                context.output.value(&pulled.answer(&installed)?)?;
            }
        }
    }
    for warning in &installed.warnings {
        context.output.note(&format!("warning: {warning}"));
    }
    Ok(Exit::Done)
}

fn name_of(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

async fn grant(context: &Context, arguments: Grant) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let message = bind::grant(arguments.which.plugin, arguments.grants, arguments.revoke);
    let plugin = client.call(client.plugins().grant(client.request(TIMEOUT, message))).await?;
    bind::settle_grants(context, &client, plugin, show::granted).await
}

async fn unbind(context: &Context, which: OfSlot) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let message = UnbindRequest { slot: which.slot.clone() };
    let gone = client.call(client.plugins().unbind(client.request(TIMEOUT, message))).await?;
    bind::settle_empty(context, &client, &which.slot, gone).await
}

async fn rollback(context: &Context, arguments: Rollback) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let message = RollbackRequest { slot: arguments.which.slot, generation: arguments.to };
    let request = client.request(COMPILE_TIMEOUT, message);
    let slot = client.call_within(COMPILE_TIMEOUT, client.plugins().rollback(request)).await?;
    bind::settle(context, &client, slot).await
}

async fn promote(context: &Context, which: OfSlot) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let request = client.request(COMPILE_TIMEOUT, PromoteRequest { slot: which.slot });
    let slot = client.call_within(COMPILE_TIMEOUT, client.plugins().promote(request)).await?;
    bind::settle(context, &client, slot).await
}

async fn abort(context: &Context, which: OfSlot) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, AbortRequest { slot: which.slot });
    let slot = client.call(client.plugins().abort(request)).await?;
    bind::settle(context, &client, slot).await
}

async fn drain(context: &Context, which: OfSlot) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let progress = context.output.progress(format!("draining `{}`", which.slot));
    let drained = client.call(client.plugins().drain(client.request(TIMEOUT, DrainRequest { slot: which.slot }))).await;
    drop(progress);
    let slot = drained?;
    context.output.answer("platform.plugin.v1.Slot", &slot, || show::drained(&slot))?;
    Ok(if slot.draining.is_empty() { Exit::Done } else { Exit::No })
}

async fn list(context: &Context, most: Limit) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let (plugins, next_page_token) = pages::read(most.limit, async |limit, page_token| {
        let page =
            client.call(client.plugins().list(client.request(TIMEOUT, ListRequest { limit, page_token }))).await?;
        Ok((page.plugins, page.next_page_token))
    })
    .await?;
    if plugins.is_empty() {
        context.output.note("nothing is installed");
    }
    let answer = ListResponse { plugins, next_page_token };
    context
        .output
        .answer("platform.plugin.v1.ListResponse", &answer, || show::plugins(context.output, &answer.plugins))?;
    Ok(Exit::Done)
}

async fn inspect(context: &Context, which: Inspect) -> Result<Exit, Failure> {
    if let Some(file) = author::file(&which.plugin) {
        return author::inspect(context.output, &file);
    }
    let client = context.connect().await?;
    let message = InspectRequest { plugin: which.plugin };
    let plugin = client.call(client.plugins().inspect(client.request(TIMEOUT, message))).await?;
    context.output.answer("platform.plugin.v1.Plugin", &plugin, || show::plugin(context.output, &plugin))?;
    Ok(Exit::Done)
}

async fn slots(context: &Context) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let (slots, next_page_token) = pages::read(None, async |limit, page_token| {
        let request = client.request(TIMEOUT, ListSlotsRequest { limit, page_token });
        let page = client.call(client.plugins().list_slots(request)).await?;
        Ok((page.slots, page.next_page_token))
    })
    .await?;
    if slots.is_empty() {
        context.output.note("nothing is bound");
    }
    let answer = ListSlotsResponse { slots, next_page_token };
    context
        .output
        .answer("platform.plugin.v1.ListSlotsResponse", &answer, || show::slots(context.output, &answer.slots))?;
    Ok(Exit::Done)
}

async fn slot_detail(context: &Context, slot: String) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let slot = client.call(client.plugins().get_slot(client.request(TIMEOUT, GetSlotRequest { slot }))).await?;
    context.output.answer("platform.plugin.v1.Slot", &slot, || show::slot(context.output, &slot))?;
    Ok(Exit::Done)
}

async fn history(context: &Context, arguments: History) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let (bindings, next_page_token) = pages::read(arguments.most.limit, async |limit, page_token| {
        let message = HistoryRequest { slot: arguments.which.slot.clone(), limit, page_token };
        let page = client.call(client.plugins().history(client.request(TIMEOUT, message))).await?;
        Ok((page.bindings, page.next_page_token))
    })
    .await?;
    let answer = HistoryResponse { bindings, next_page_token };
    context
        .output
        .answer("platform.plugin.v1.HistoryResponse", &answer, || show::history(context.output, &answer.bindings))?;
    Ok(Exit::Done)
}

async fn audit(context: &Context, arguments: Audit) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let (records, next_page_token) = pages::read(Some(arguments.limit), async |limit, page_token| {
        let message = AuditRequest { limit, page_token, subject: arguments.about.clone() };
        let page = client.call(client.plugins().audit(client.request(TIMEOUT, message))).await?;
        Ok((page.records, page.next_page_token))
    })
    .await?;
    let answer = AuditResponse { records, next_page_token };
    context
        .output
        .answer("platform.plugin.v1.AuditResponse", &answer, || show::audit(context.output, &answer.records))?;
    Ok(Exit::Done)
}

async fn uninstall(context: &Context, which: OfPlugin) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let message = UninstallRequest { plugin: which.plugin.clone() };
    let gone = client.call(client.plugins().uninstall(client.request(TIMEOUT, message))).await?;
    let human = || format!("`{}` is gone: {}", which.plugin, gone.digests.join(", "));
    context.output.answer("platform.plugin.v1.UninstallResponse", &gone, human)?;
    Ok(Exit::Done)
}
