//! `auth.policy` that asks the key-value store: it allows with the value under the target as its reason, and denies with
//! what the store says when it fails.

use platform_sdk::{
    Problem,
    auth::{Decision, Policy, Request},
    client::kv,
    export,
};

struct Asks;

export!(auth::Policy for Asks, grants = ["kv"]);

impl Policy for Asks {
    type Settings = ();

    fn configure((): ()) -> Result<Self, Problem> {
        Ok(Self)
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        match kv::get(request.target) {
            Ok(Some(entry)) => Decision::allow(String::from_utf8_lossy(&entry.value)),
            Ok(None) => Decision::deny("absent"),
            Err(error) => Decision::deny(format!("{error:?}")),
        }
    }
}
