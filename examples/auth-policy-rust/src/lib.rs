//! Denies requests outside business hours (UTC), except to people on call. The settings are `{"opens": 8, "closes": 18}`.

use platform_sdk::{Problem, auth, context};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct BusinessHours {
    opens: u64,
    closes: u64,
}

platform_sdk::export!(auth::Policy for BusinessHours, settings_schema = include_str!("../settings.schema.json"));

impl auth::Policy for BusinessHours {
    type Settings = Self;

    fn configure(hours: Self) -> Result<Self, Problem> {
        let sensible = hours.opens < hours.closes && hours.closes <= 24;
        if sensible { Ok(hours) } else { Err(Problem::new("opens before closes, and both are 0 to 24").at("/closes")) }
    }

    fn authorize(&self, request: &auth::Request<'_>) -> auth::Decision {
        let hour = context::time_ms() / 3_600_000 % 24;
        let open = (self.opens..self.closes).contains(&hour) || request.has_role("on-call");
        if open { auth::Decision::abstain() } else { auth::Decision::deny("closed at this hour") }
    }
}

#[cfg(test)]
mod tests;
