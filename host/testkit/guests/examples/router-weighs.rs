//! `router.policy` that picks the first node and gives the weights that its settings say, whatever nodes there are; without
//! any it traps.

use platform_sdk::{
    Problem, export,
    router::{Node, Pick, Policy},
};
use platform_testkit_guests::trap;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Weighs {
    weights: Option<Vec<u32>>,
}

export!(router::Policy for Weighs, mode = "reused");

impl Policy for Weighs {
    type Settings = Self;
    type Table = ();

    fn configure(settings: Self) -> Result<Self, Problem> {
        Ok(settings)
    }

    fn table(&self, _: &str, _: Vec<Node>) {}

    fn pick(&self, (): &mut (), _: Pick) -> Option<usize> {
        Some(0)
    }

    fn weights(&self, (): &()) -> Vec<u32> {
        self.weights.clone().unwrap_or_else(|| trap())
    }
}
