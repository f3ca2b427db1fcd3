//! `platform sync`: locks, semaphores and elections.
//!
//! Knows the command's arguments and how locks look; who holds what is the daemon's to say. Invariant: what a command holds
//! until it is told to stop is given up then.

mod acquire;
mod command;
mod hold;

use clap::{Args, Subcommand};
use platform_proto::sync::v1::{
    GetRequest, GrantLeaseRequest, KeepAliveRequest, Lease, ListRequest, ListResponse, Lock, Permits, Place,
    ProclaimRequest, ReleaseRequest, RevokeLeaseRequest, WatchEvent, WatchRequest, place::Mode, watch_event::Event,
};

use self::acquire::{Elect, Lock as LockArguments, Semaphore};
use super::{
    Context,
    client::{Client, TIMEOUT},
    failure::{Exit, Failure},
    kv::time,
    output::show,
    pages,
    quantity::{milliseconds, positive_duration},
    watch::{self, Shown},
};

/// What can be done with locks.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Takes a lock and holds it while a command runs, or until interrupted; exits with 1 when it is not to be had or is lost.
    #[command(
        after_help = "The command finds the token in PLATFORM_FENCING, which `--fencing` of other commands reads, and is stopped when the\n\
        lease is lost. It ends with its exit code.\n\nExamples:\n  platform sync lock orders --wait 10s -- ./close-the-books\n  \
        platform sync lock orders --ttl 30s --output json\n  platform sync lock report --shared"
    )]
    Lock(LockArguments),
    /// Stands for an election and leads while a command runs, or until interrupted.
    #[command(after_help = "Examples:\n  platform sync elect scheduler --value 10.0.0.7:8080 -- ./scheduler\n  \
        platform sync elect scheduler --value 10.0.0.7:8080 --output json")]
    Elect(Elect),
    /// Takes permits of a semaphore and holds them while a command runs, or until interrupted.
    #[command(after_help = "Example:\n  platform sync semaphore builds --limit 4 -- cargo build")]
    Semaphore(Semaphore),
    /// Shows who holds a lock, or leads; exits with 1 when nobody does.
    #[command(after_help = "Example:\n  platform sync get scheduler")]
    Get(Get),
    /// Lists locks that are held or waited for.
    #[command(after_help = "Example:\n  platform sync list orders/")]
    List(List),
    /// Shows locks as they change, until interrupted; goes on where it was after a lost connection.
    #[command(after_help = "Example:\n  platform sync watch scheduler")]
    Watch(Watch),
    /// Gives a place up: one's own, or anybody's with the role `admin`.
    #[command(after_help = "Example:\n  platform sync release orders 42")]
    Release(Which),
    /// Changes what a holder says of itself.
    #[command(after_help = "Example:\n  platform sync proclaim scheduler 42 10.0.0.8:8080")]
    Proclaim(Proclaim),
    /// Leases that several places can hang on.
    #[command(subcommand)]
    Lease(LeaseCommand),
}

/// What can be done with leases.
#[derive(Debug, Subcommand)]
pub(crate) enum LeaseCommand {
    /// Makes a lease; take places on it with `--lease`.
    #[command(after_help = "Example:\n  platform sync lease grant --ttl 1m")]
    Grant {
        /// How long it lasts without being kept alive; 15s when not given.
        #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
        ttl: Option<std::time::Duration>,
    },
    /// Lets a lease last for its whole time from now on; exits with 1 when it has ended.
    #[command(after_help = "Example:\n  platform sync lease keep-alive 0123456789abcdef0123456789abcdef")]
    KeepAlive {
        /// Its id.
        lease: String,
    },
    /// Ends a lease and gives up what hangs on it; ending an absent one succeeds.
    #[command(after_help = "Example:\n  platform sync lease revoke 0123456789abcdef0123456789abcdef")]
    Revoke {
        /// Its id.
        lease: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Name of the lock.
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only names that start with this.
    #[arg(default_value = "")]
    prefix: String,
    /// At most this many; all when not given.
    #[arg(long)]
    limit: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Only names that start with this.
    #[arg(default_value = "")]
    prefix: String,
    #[command(flatten)]
    extent: watch::Extent,
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Name of the lock.
    name: String,
    /// Token of the place.
    token: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Proclaim {
    #[command(flatten)]
    which: Which,
    /// What the holder says from now on; nothing when not given.
    value: Option<String>,
}

/// Runs a command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Lock(arguments) => acquire::run(context, arguments.into()).await,
        Command::Elect(arguments) => acquire::run(context, arguments.into()).await,
        Command::Semaphore(arguments) => acquire::run(context, arguments.into()).await,
        Command::Get(arguments) => get(context, arguments).await,
        Command::List(arguments) => list(context, arguments).await,
        Command::Watch(arguments) => follow(context, arguments).await,
        Command::Release(which) => release(context, which).await,
        Command::Proclaim(arguments) => proclaim(context, arguments).await,
        Command::Lease(command) => lease(context, command).await,
    }
}

async fn get(context: &Context, arguments: Get) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let lock = client.call(client.sync().get(client.request(TIMEOUT, GetRequest { name: arguments.name }))).await?;
    context.output.answer("platform.sync.v1.Lock", &lock, || table(context, std::slice::from_ref(&lock)))?;
    Ok(Exit::Done)
}

async fn list(context: &Context, arguments: List) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let (locks, next_page_token) = pages::read(arguments.limit, async |limit, page_token| {
        let message = ListRequest { prefix: arguments.prefix.clone(), limit, page_token };
        let page = client.call(client.sync().list(client.request(TIMEOUT, message))).await?;
        Ok((page.locks, page.next_page_token))
    })
    .await?;
    if locks.is_empty() {
        context.output.note("no locks");
    }
    let answer = ListResponse { locks, next_page_token };
    context.output.answer("platform.sync.v1.ListResponse", &answer, || table(context, &answer.locks))?;
    if !answer.next_page_token.is_empty() {
        context.output.note("there are more; raise `--limit`");
    }
    Ok(Exit::Done)
}

async fn follow(context: &Context, arguments: Watch) -> Result<Exit, Failure> {
    let prefix = arguments.prefix;
    let open = async |client: &Client, after_revision| {
        client.sync().watch(WatchRequest { prefix: prefix.clone(), after_revision }).await
    };
    watch::follow(context, arguments.extent, "platform.sync.v1.WatchEvent", open, |event: &WatchEvent| {
        Some(match event.event.as_ref()? {
            Event::Changed(lock) => Shown::Change(lock.revision, describe(lock)),
            Event::Progress(progress) => Shown::Progress(progress.revision),
        })
    })
    .await
}

async fn release(context: &Context, which: Which) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let message = ReleaseRequest { name: which.name, token: which.token };
    let released = client.call(client.sync().release(client.request(TIMEOUT, message))).await?;
    context.output.answer("platform.sync.v1.ReleaseResponse", &released, || "released".to_owned())?;
    Ok(Exit::Done)
}

async fn proclaim(context: &Context, arguments: Proclaim) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let Which { name, token } = arguments.which;
    let message = ProclaimRequest { name, token, value: arguments.value };
    let said = client.call(client.sync().proclaim(client.request(TIMEOUT, message))).await?;
    let human = || format!("proclaimed at revision {}", said.revision);
    context.output.answer("platform.sync.v1.ProclaimResponse", &said, human)?;
    Ok(Exit::Done)
}

async fn lease(context: &Context, command: LeaseCommand) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let lease = match command {
        LeaseCommand::Grant { ttl } => {
            let message = GrantLeaseRequest { ttl_ms: ttl.map_or(0, milliseconds) };
            client.call(client.sync().grant_lease(client.request(TIMEOUT, message))).await?
        }
        LeaseCommand::KeepAlive { lease } => {
            client.call(client.sync().keep_alive(client.request(TIMEOUT, KeepAliveRequest { lease }))).await?
        }
        LeaseCommand::Revoke { lease } => {
            let request = client.request(TIMEOUT, RevokeLeaseRequest { lease });
            let revoked = client.call(client.sync().revoke_lease(request)).await?;
            context.output.answer("platform.sync.v1.RevokeLeaseResponse", &revoked, || "revoked".to_owned())?;
            return Ok(Exit::Done);
        }
    };
    context.output.answer("platform.sync.v1.Lease", &lease, || {
        let Lease { id, holder, ttl_ms, expire_time } = lease.clone();
        let fields =
            [("lease", id), ("holder", holder), ("ttl", format!("{ttl_ms}ms")), ("expires", time(expire_time))];
        context.output.fields(&fields)
    })?;
    Ok(Exit::Done)
}

/// Locks for people, one place to a line.
fn table(context: &Context, locks: &[Lock]) -> String {
    let mut table = context.output.table(&["NAME", "TOKEN", "HOLDER", "MODE", "SINCE", "VALUE", "WAITING"]);
    for lock in locks {
        let waiting = lock.waiting.to_string();
        if lock.held.is_empty() {
            table.add_row([lock.name.as_str(), "", "", "", "", "", &waiting]);
        }
        for place in &lock.held {
            let (token, value) = (place.token.to_string(), place.value.clone().unwrap_or_default());
            let since = time(place.since);
            table.add_row([&lock.name, &token, &place.holder, &mode(place), &since, &value, &waiting]);
        }
    }
    if locks.is_empty() { String::new() } else { show(&table) }
}

fn describe(lock: &Lock) -> String {
    let place = |place: &Place| {
        let value = place.value.as_ref().map(|value| format!(" ({value})")).unwrap_or_default();
        format!("{} by {} with {}{value}", mode(place), place.holder, place.token)
    };
    let held: Vec<String> = lock.held.iter().map(place).collect();
    let held = if held.is_empty() { "free".to_owned() } else { held.join(", ") };
    let waiting = if lock.waiting == 0 { String::new() } else { format!("; {} wait", lock.waiting) };
    format!("{}  {held}{waiting}", lock.name)
}

fn mode(place: &Place) -> String {
    match place.mode {
        Some(Mode::Shared(_)) => "shared".to_owned(),
        Some(Mode::Permits(Permits { count, limit })) => format!("{count} of {limit}"),
        Some(Mode::Exclusive(_)) | None => "exclusive".to_owned(),
    }
}
