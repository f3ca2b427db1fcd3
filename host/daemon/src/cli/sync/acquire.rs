//! `sync lock`, `sync elect`, `sync semaphore`: taking a place, and what is done with it.
//!
//! Must not know how a place is held. Invariant: nothing is run before the daemon has granted the place.

use std::{ffi::OsString, time::Duration};

use clap::Args;
use platform_base::clock;
use platform_proto::sync::v1::{
    AcquireRequest, Permits,
    acquire_event::{Event, Grant},
    acquire_request::{Hold, Mode},
};
use tonic::Status;

use super::{command, hold::Holding};
use crate::cli::{
    Context,
    client::TIMEOUT,
    ends::Ends,
    failure::{Exit, Failure},
    kv::time,
    quantity::{duration, milliseconds, positive_duration},
};

/// Wait before the first attempt to connect again; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What all ways to take a place are told.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Name of the lock.
    name: String,
    /// How long the lease lasts should this command be cut off; 15s when not given.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    ttl: Option<Duration>,
    /// How long to wait; 0s not at all, as long as it takes when not given.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
    /// Takes the place on a lease that was made with `sync lease grant`, and leaves it so.
    #[arg(long, value_name = "ID", conflicts_with_all = ["ttl", "command"])]
    lease: Option<String>,
    /// Command to run while the place is held, with its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Lock {
    #[command(flatten)]
    common: Common,
    /// Shares it with others who do: the read side of a read-write lock.
    #[arg(long)]
    shared: bool,
    /// What the holder says of itself to who looks.
    #[arg(long, value_name = "TEXT")]
    value: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Elect {
    #[command(flatten)]
    common: Common,
    /// What the leader proclaims, such as where it answers.
    #[arg(long, value_name = "TEXT")]
    value: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Semaphore {
    #[command(flatten)]
    common: Common,
    /// How many permits there are; all who use the semaphore have to say the same.
    #[arg(long)]
    limit: u32,
    /// How many are taken.
    #[arg(long, default_value_t = 1)]
    count: u32,
}

/// A place to be taken.
#[derive(Debug)]
pub(crate) struct Acquire {
    common: Common,
    mode: Mode,
    value: Option<String>,
}

impl From<Lock> for Acquire {
    fn from(lock: Lock) -> Self {
        let mode = if lock.shared { Mode::Shared(true) } else { Mode::Exclusive(true) };
        Self { common: lock.common, mode, value: lock.value }
    }
}

impl From<Elect> for Acquire {
    fn from(elect: Elect) -> Self {
        Self { common: elect.common, mode: Mode::Exclusive(true), value: elect.value }
    }
}

impl From<Semaphore> for Acquire {
    fn from(semaphore: Semaphore) -> Self {
        let permits = Permits { count: semaphore.count, limit: semaphore.limit };
        Self { common: semaphore.common, mode: Mode::Permits(permits), value: None }
    }
}

/// Takes the place, and holds it as long as it is wanted.
pub(crate) async fn run(context: &Context, acquire: Acquire) -> Result<Exit, Failure> {
    let mut ends = Ends::take()?;
    let grant = tokio::select! {
        grant = until_granted(context, &acquire) => grant?,
        // The daemon takes a caller that goes away out of the line.
        () = ends.next() => return Ok(Exit::Done),
    };
    let Acquire { common, .. } = acquire;
    if common.lease.is_some() {
        tell(context, &grant)?;
        return Ok(Exit::Done);
    }
    let mut holding = Holding::new(context, common.name, &grant);
    let held = if common.command.is_empty() {
        tell(context, &grant)?;
        tokio::select! {
            lost = holding.until_lost() => return Err(lost),
            () = ends.next() => Ok(Exit::Done),
        }
    } else {
        command::under(&mut holding, &mut ends, &common.command).await
    };
    let released = holding.release().await;
    // That the place was lost says more than that it could not be given up.
    let exit = held?;
    released.map(|()| exit)
}

/// Waits for the place, across lost connections.
async fn until_granted(context: &Context, acquire: &Acquire) -> Result<Grant, Failure> {
    let until = acquire.common.wait.and_then(|wait| clock::now().checked_add(wait));
    let mut pause = FIRST_WAIT;
    let mut waited = false;
    loop {
        let left = until.map(|until| until.saturating_duration_since(clock::now()));
        match attempt(context, acquire, left, &mut waited).await {
            Err(failure) if waited && failure.is_transient() && left.is_none_or(|left| left > pause) => {
                context.output.note(&format!("connection lost ({failure}); trying again"));
                tokio::time::sleep(pause).await;
                pause = LONGEST_WAIT.min(pause * 2);
            }
            ended => return ended,
        }
    }
}

async fn attempt(
    context: &Context, acquire: &Acquire, left: Option<Duration>, waited: &mut bool,
) -> Result<Grant, Failure> {
    let client = context.connect().await?;
    let Common { name, ttl, lease, .. } = &acquire.common;
    let hold = match (lease, ttl) {
        (Some(lease), _) => Some(Hold::Lease(lease.clone())),
        (None, Some(ttl)) => Some(Hold::TtlMs(milliseconds(*ttl))),
        (None, None) => None,
    };
    let request = AcquireRequest {
        name: name.clone(),
        mode: Some(acquire.mode),
        wait_ms: left.map(milliseconds),
        hold,
        value: acquire.value.clone(),
    };
    let mut events = client.call_within(TIMEOUT, client.sync().acquire(request)).await?;
    loop {
        match events.message().await?.and_then(|event| event.event) {
            Some(Event::Granted(grant)) => return Ok(grant),
            Some(Event::Waiting(_)) => {
                if !std::mem::replace(waited, true) {
                    context.output.note(&format!("waiting for `{name}`"));
                }
            }
            None => return Err(Status::unavailable("the daemon ended the stream").into()),
        }
    }
}

fn tell(context: &Context, grant: &Grant) -> Result<(), Failure> {
    context.output.event("platform.sync.v1.AcquireEvent.Grant", grant, || {
        let (place, lease) = (grant.place.clone().unwrap_or_default(), grant.lease.clone().unwrap_or_default());
        context.output.fields(&[
            ("token", place.token.to_string()),
            ("holder", place.holder),
            ("lease", lease.id),
            ("expires", time(lease.expire_time)),
        ])
    })
}
