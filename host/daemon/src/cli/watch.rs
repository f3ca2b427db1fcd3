//! Follows a stream of changes across lost connections.
//!
//! Owns when to connect again and from which revision; must not know what changes. Invariant: a change is shown once, and
//! none is left out unless the daemon says that it no longer has it.

use std::{ops::ControlFlow, time::Duration};

use clap::Args;
use prost::Message;
use tokio::signal;
use tonic::{Response, Status, Streaming};

use super::{
    Context,
    client::{Client, TIMEOUT},
    failure::{Exit, Failure},
};

/// Wait before the first attempt to connect again; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What every watch is told.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Extent {
    /// Starts with changes after this revision, 0 for all that are kept; from now on when not given.
    #[arg(long, value_name = "REVISION")]
    after: Option<u64>,
    /// Also shows marks of progress: revisions up to which everything was shown.
    #[arg(long)]
    progress: bool,
}

/// An event as people read it.
pub(crate) enum Shown {
    /// Something changed at a revision; in words.
    Change(u64, String),
    /// Everything up to a revision was shown.
    Progress(u64),
}

/// Shows the messages `name` of a stream until the user interrupts.
///
/// `open` starts a stream after a revision; `describe` tells what an event is, none for one that it does not know.
pub(crate) async fn follow<E: Message>(
    context: &Context, extent: Extent, name: &str,
    open: impl AsyncFn(&Client, Option<u64>) -> Result<Response<Streaming<E>>, Status>,
    describe: impl Fn(&E) -> Option<Shown>,
) -> Result<Exit, Failure> {
    let show = async |_: &Client, event: E| {
        let Some(shown) = describe(&event) else { return Ok(ControlFlow::Continue(None)) };
        let (revision, line) = match shown {
            Shown::Change(revision, words) => (revision, format!("{revision}  {words}")),
            Shown::Progress(revision) if extent.progress => (revision, format!("{revision}  progress")),
            Shown::Progress(revision) => return Ok(ControlFlow::Continue(Some(revision))),
        };
        context.output.event(name, &event, || line)?;
        Ok(ControlFlow::Continue(Some(revision)))
    };
    stream(context, extent.after, open, show).await
}

/// Hands the messages of a stream to `take` until it breaks off or the user interrupts.
///
/// `open` starts a stream after a place, such as a revision; `take` says which place a message is at.
pub(crate) async fn stream<E>(
    context: &Context, after: Option<u64>,
    open: impl AsyncFn(&Client, Option<u64>) -> Result<Response<Streaming<E>>, Status>,
    take: impl AsyncFnMut(&Client, E) -> Result<ControlFlow<(), Option<u64>>, Failure>,
) -> Result<Exit, Failure> {
    tokio::select! {
        ended = until_refused(context, after, open, take) => ended,
        interrupted = signal::ctrl_c() => Ok(interrupted.map(|()| Exit::Done)?),
    }
}

async fn until_refused<E>(
    context: &Context, mut after: Option<u64>,
    open: impl AsyncFn(&Client, Option<u64>) -> Result<Response<Streaming<E>>, Status>,
    mut take: impl AsyncFnMut(&Client, E) -> Result<ControlFlow<(), Option<u64>>, Failure>,
) -> Result<Exit, Failure> {
    let mut wait = FIRST_WAIT;
    let mut connected_before = false;
    loop {
        let lost = match start(context, &open, after).await {
            Ok((client, mut stream)) => {
                connected_before = true;
                loop {
                    match stream.message().await {
                        Ok(Some(event)) => {
                            wait = FIRST_WAIT;
                            match take(&client, event).await {
                                Ok(ControlFlow::Continue(place)) => after = place.or(after),
                                Ok(ControlFlow::Break(())) => return Ok(Exit::Done),
                                Err(failure) => break failure,
                            }
                        }
                        Ok(None) => break Failure::from(Status::unavailable("the daemon ended the stream")),
                        Err(status) => break Failure::from(status),
                    }
                }
            }
            Err(failure) => failure,
        };
        if !connected_before || !lost.is_transient() {
            return Err(lost);
        }
        if wait == FIRST_WAIT {
            context.output.note(&format!("connection lost ({lost}); trying again"));
        }
        tokio::time::sleep(wait).await;
        wait = LONGEST_WAIT.min(wait * 2);
    }
}

/// Looks for the daemon anew: one that was started again may listen elsewhere.
async fn start<E>(
    context: &Context, open: &impl AsyncFn(&Client, Option<u64>) -> Result<Response<Streaming<E>>, Status>,
    after: Option<u64>,
) -> Result<(Client, Streaming<E>), Failure> {
    let client = context.connect().await?;
    let stream = client.call_within(TIMEOUT, open(&client, after)).await?;
    Ok((client, stream))
}
