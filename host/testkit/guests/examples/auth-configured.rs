//! `auth.policy` that asks the configuration `policy`: it allows the actions that the list at the target names, and denies with what
//! went wrong when it can't be read.

use platform_sdk::{
    Problem,
    auth::{Decision, Policy, Request},
    client::config,
    export,
};

struct Configured;

export!(auth::Policy for Configured, grants = ["config"]);

impl Policy for Configured {
    type Settings = ();

    fn configure((): ()) -> Result<Self, Problem> {
        Ok(Self)
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        match config::get::<Vec<String>>("policy", request.target) {
            Ok(Some(allowed)) if allowed.iter().any(|action| action == request.action) => Decision::allow("configured"),
            Ok(Some(_)) => Decision::deny("not configured"),
            Ok(None) => Decision::deny("absent"),
            Err(error) => Decision::deny(format!("{error:?}")),
        }
    }
}
