//! `auth.policy` that takes locks: the action says what is done with the lock that the target names. It allows with what came of it, and
//! denies with what went wrong.

use std::time::Duration;

use platform_sdk::{
    Problem,
    auth::{Decision, Policy, Request},
    client::sync::{self, Error, Place},
    export,
};

/// How long a lease lasts.
const TTL: Duration = Duration::from_secs(60);

struct Locks;

export!(auth::Policy for Locks, grants = ["sync"]);

impl Policy for Locks {
    type Settings = ();

    fn configure((): ()) -> Result<Self, Problem> {
        Ok(Self)
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        match done(request.action, request.target) {
            Ok(said) => Decision::allow(said),
            Err(error) => Decision::deny(format!("{error:?}")),
        }
    }
}

fn done(action: &str, name: &str) -> Result<String, Error> {
    let holders = |held: &[Place]| held.iter().map(|place| place.holder.as_str()).collect::<Vec<_>>().join(" ");
    match action {
        "take" => sync::acquire(name, &sync::alone(), TTL, Duration::ZERO).map(|(place, _)| place.token.to_string()),
        "wait" => {
            let (place, _) = sync::acquire(name, &sync::alone(), TTL, Duration::from_millis(10))?;
            Ok(place.token.to_string())
        }
        "renew" => {
            let held = sync::get(name)?.and_then(|lock| lock.held.into_iter().next());
            let lease = sync::keep_alive(&held.map(|place| place.lease).unwrap_or_default())?;
            Ok(lease.ttl_ms.to_string())
        }
        "give up" => {
            let held = sync::get(name)?.and_then(|lock| lock.held.into_iter().next());
            sync::release(name, held.map_or(0, |place| place.token)).map(|()| "given up".to_owned())
        }
        "who" => Ok(sync::get(name)?.map_or_else(|| "nobody".to_owned(), |lock| holders(&lock.held))),
        other => Err(Error::Invalid(format!("`{other}` is no action"))),
    }
}
