//! Swaps: with everything compiled, and from nothing.

use anyhow::Result;
use platform_base::clock;
use platform_capability::SlotKind;
use platform_dataplane::Plugin;
use platform_runtime::Mode;
use platform_testkit::{Fixture, alone, component, plugin, slot};

use crate::measure::{figure, median, us};

const SWAPS: u64 = 50;

pub(crate) async fn run() -> Result<()> {
    let policy = |mode| {
        let wasm = component("plugins", "auth-scopes");
        let settings = r#"{"rules":[{"effect":"allow","paths":["/**"]}]}"#.to_owned();
        Plugin { mode, settings, ..plugin(SlotKind::AuthPolicy, "auth-scopes", &wasm, &[]) }
    };
    let fixture = Fixture::new();
    let cold = clock::now();
    fixture.bind("auth.policy", alone(policy(Mode::Fresh))).await;
    let cold = clock::now().saturating_duration_since(cold);
    figure("swap of a cold component: compile, snapshot, compile, flip", us(cold) / 1000.0, "ms", "");

    for (mode, name) in [(Mode::Reused, "reused"), (Mode::Fresh, "fresh")] {
        let (mut prepared_us, mut flip_us) = (Vec::new(), Vec::new());
        for _ in 0..SWAPS {
            let begun = clock::now();
            let swapped = fixture.bind("auth.policy", alone(policy(mode))).await;
            prepared_us.push(us(clock::now().saturating_duration_since(begun)));
            flip_us.push(us(swapped.took));
        }
        figure(&format!("swap of a compiled component, {name}"), median(&mut prepared_us) / 1000.0, "ms", "aim <= 0.5");
        figure("  of which the flip", median(&mut flip_us), "us", "");
    }
    let mut settings_us = Vec::new();
    for index in 0..SWAPS {
        let settings = format!(r#"{{"rules":[{{"effect":"allow","paths":["/{index}/**"]}}]}}"#);
        let begun = clock::now();
        fixture.bind("auth.policy", alone(Plugin { settings, ..policy(Mode::Fresh) })).await;
        settings_us.push(us(clock::now().saturating_duration_since(begun)));
    }
    let with_settings = median(&mut settings_us) / 1000.0;
    figure("swap of a compiled component, fresh, to settings never seen", with_settings, "ms", "");
    let mut back_us = Vec::new();
    for index in 0..SWAPS {
        let generation = fixture.plane.slot_status(&slot("auth.policy")).map_or(index, |status| status.generation) + 1;
        let begun = clock::now();
        fixture.plane.rollback(&slot("auth.policy"), None, generation).await?;
        back_us.push(us(clock::now().saturating_duration_since(begun)));
    }
    figure("swap to a generation that was kept", median(&mut back_us) / 1000.0, "ms", "aim <= 0.5");
    Ok(())
}
