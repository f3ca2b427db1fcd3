//! Denies requests outside business hours (UTC), except to people on call. The settings are `{"opens": 8, "closes": 18}`.

use platform_sdk::{Problem, auth::{Decision, Policy, Request}, context, export};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct BusinessHours { opens: u64, closes: u64 }

export!(auth::Policy for BusinessHours);

impl Policy for BusinessHours {
    type Settings = Self;

    fn configure(settings: Self) -> Result<Self, Problem> {
        if settings.opens < settings.closes && settings.closes <= 24 { return Ok(settings); }
        Err(Problem::new("the closing hour comes after the opening hour and is at most 24").at("/closes"))
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        let hour = context::time_ms() / 3_600_000 % 24;
        if (self.opens..self.closes).contains(&hour) || request.has_role("on-call") { return Decision::abstain(); }
        Decision::deny(format!("open from {}:00 to {}:00 UTC", self.opens, self.closes))
    }
}

#[cfg(test)]
mod tests;
