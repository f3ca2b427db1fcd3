//! Who comes first when something is given to a share of all before it is given to everybody.
//!
//! Invariant: who is among the first at one percentage is so at every higher one, on every daemon and after every restart.

use sha2::{Digest, Sha256};

/// The share of all, in percent, that comes before `who`: 0 to 99, evenly, and another for each `what`, so that it is not
/// always the same who go first.
pub(crate) fn share(what: &str, who: &str) -> u32 {
    let digest = Sha256::new().chain_update(what).chain_update("\n").chain_update(who).finalize();
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    u32::try_from(number % 100).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_and_differ_between_things() {
        for percent in [0, 1, 10, 50, 99, 100] {
            let chosen = (0..10_000).filter(|who| share("auth.policy", &format!("user-{who}")) < percent).count();
            assert!(chosen.abs_diff(percent as usize * 100) < 200, "{chosen} at {percent} %");
        }
        assert!((0..100).any(|who| share("a", &who.to_string()) != share("b", &who.to_string())));
        assert_eq!(share("a", "ada"), share("a", "ada"));
    }
}
