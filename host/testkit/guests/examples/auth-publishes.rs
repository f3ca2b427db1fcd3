//! `auth.policy` that publishes to the topic `orders` and takes from its subscription `billing`: the action says what is done, the target what
//! about. It allows with what came of it, and denies with what went wrong.

use platform_sdk::{
    Problem,
    auth::{Decision, Policy, Request},
    client::event::{self, Error, Verdict},
    export,
};

const ORDERS: &str = "orders";
const BILLING: &str = "billing";

struct Publishes;

export!(auth::Policy for Publishes, grants = ["event"]);

impl Policy for Publishes {
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

fn done(action: &str, target: &str) -> Result<String, Error> {
    match action {
        "publish" => {
            let outcomes = event::publish(ORDERS, &[event::json("order.placed", target)?])?;
            let said = outcomes.into_iter().map(|outcome| match outcome.published {
                Ok(published) => published.sequence.to_string(),
                Err(dropped) => dropped,
            });
            Ok(said.collect())
        }
        "read" => {
            let (events, more) = event::read(ORDERS, 1, 10, false)?;
            let told: Vec<_> = events.iter().map(|event| String::from_utf8_lossy(&event.content.data)).collect();
            Ok(format!("{} {more}", told.join(" ")))
        }
        "take" => {
            let mut told = Vec::new();
            for delivery in event::receive(ORDERS, BILLING, "", 10)? {
                let settled = event::settle(ORDERS, BILLING, "", &[event::receipt(&delivery)], &Verdict::Ack)?;
                told.push(format!("{} {settled:?}", String::from_utf8_lossy(&delivery.event.content.data)));
            }
            Ok(told.join(", "))
        }
        "settle" => {
            let receipt = event::Receipt { sequence: target.parse().unwrap_or_default(), attempt: 1 };
            Ok(format!("{:?}", event::settle(ORDERS, BILLING, "", &[receipt], &Verdict::Ack)?))
        }
        other => Err(Error::Invalid(format!("`{other}` is no action"))),
    }
}
