//! [`Holding`]: keeps a lease alive, and notices when the place is lost.
//!
//! Must not know what the place is held for. Invariant: the place is taken for lost no later than its lease can have ended:
//! the time counts from before the last request that kept it alive.

use std::time::Duration;

use platform_base::clock::{self, Instant};
use platform_proto::sync::v1::{
    HoldEvent, HoldRequest, KeepAliveRequest, ReleaseRequest, acquire_event::Grant, hold_event::Event,
};
use tonic::{Code, Streaming};

use crate::cli::{
    Context,
    client::{Client, TIMEOUT},
    failure::{Exit, Failure},
};

/// A place that this process holds.
#[derive(Debug)]
pub(crate) struct Holding<'a> {
    context: &'a Context,
    pub(crate) name: String,
    pub(crate) token: u64,
    pub(crate) lease: String,
    ttl: Duration,
    good_until: Instant,
}

impl<'a> Holding<'a> {
    pub(crate) fn new(context: &'a Context, name: String, grant: &Grant) -> Self {
        let (place, lease) = (grant.place.clone().unwrap_or_default(), grant.lease.clone().unwrap_or_default());
        let ttl = Duration::from_millis(lease.ttl_ms);
        let good_until = clock::now() + ttl;
        Self { context, name, token: place.token, lease: lease.id, ttl, good_until }
    }

    /// Keeps the lease alive until the place is lost; in words.
    pub(crate) async fn until_lost(&mut self) -> Failure {
        let mut ticks = tokio::time::interval(self.ttl / 3);
        let mut losses: Option<Streaming<HoldEvent>> = None;
        loop {
            let told = tokio::select! {
                _ = ticks.tick() => None,
                () = tokio::time::sleep_until(self.good_until.into()) => {
                    return self.lost("the daemon could not be reached to keep it alive");
                }
                told = next(&mut losses) => Some(told),
            };
            match told {
                Some(Some(Event::Lost(_))) => return self.lost("its lease ended, or somebody gave it up"),
                Some(Some(Event::Held(_))) => {}
                // The next tick opens another stream.
                Some(None) => losses = None,
                None => {
                    let patience = (self.ttl / 3).min(self.good_until.saturating_duration_since(clock::now()));
                    match tokio::time::timeout(patience, self.beat(&mut losses)).await {
                        Ok(Err(failure)) if failure.code == Some(Code::NotFound) => {
                            return self.lost("its lease ended, or somebody gave it up");
                        }
                        Ok(Err(failure)) if !failure.is_transient() => return failure,
                        Ok(Ok(()) | Err(_)) | Err(_) => {}
                    }
                }
            }
        }
    }

    /// Keeps the lease alive, and sees to it that a loss would be heard of.
    async fn beat(&mut self, losses: &mut Option<Streaming<HoldEvent>>) -> Result<(), Failure> {
        let client = self.context.connect().await?;
        let sent = clock::now();
        let request = client.request(TIMEOUT, KeepAliveRequest { lease: self.lease.clone() });
        client.call(client.sync().keep_alive(request)).await?;
        self.good_until = sent + self.ttl;
        if losses.is_none() {
            *losses = Some(self.listen(&client).await?);
        }
        Ok(())
    }

    async fn listen(&self, client: &Client) -> Result<Streaming<HoldEvent>, Failure> {
        let request = HoldRequest { name: self.name.clone(), token: self.token };
        client.call_within(TIMEOUT, client.sync().hold(request)).await
    }

    /// Gives the place up.
    pub(crate) async fn release(&self) -> Result<(), Failure> {
        let client = self.context.connect().await?;
        let message = ReleaseRequest { name: self.name.clone(), token: self.token };
        match client.call(client.sync().release(client.request(TIMEOUT, message))).await {
            Err(failure) if failure.code == Some(Code::NotFound) => Err(self.lost("it was gone when it was given up")),
            other => other.map(drop),
        }
    }

    fn lost(&self, why: &str) -> Failure {
        let name = self.name.escape_debug();
        Failure::new(Exit::No, "LEASE_LOST", format!("`{name}` with token {} is lost: {why}", self.token))
    }
}

/// The next word of a stream; none at its end. Without a stream it never comes.
async fn next(losses: &mut Option<Streaming<HoldEvent>>) -> Option<Event> {
    match losses {
        Some(losses) => losses.message().await.ok().flatten().and_then(|event| event.event),
        None => std::future::pending().await,
    }
}
