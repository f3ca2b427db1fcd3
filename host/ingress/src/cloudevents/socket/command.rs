//! What a client says of its deliveries.
//!
//! Invariant: what is no command is refused before anything of it is done.

use std::collections::BTreeSet;

use platform_capability::event::Verdict;
use serde::Deserialize;

use crate::fault::Fault;

/// Most deliveries in one command: as many as the broker settles at once.
const DELIVERIES_MAX: usize = 256;

/// Verdicts on deliveries, by sequence.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct Command {
    /// They were worked off.
    ack: Vec<Sequence>,
    /// They failed, and come again after the delay.
    nak: Vec<Sequence>,
    delay_ms: u64,
    /// They take longer.
    extend: Vec<Sequence>,
    /// They can't be worked off, for the reason.
    reject: Vec<Sequence>,
    reason: String,
}

/// A sequence as it stands in JSON: a number, or the text of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Written")]
struct Sequence(u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

impl TryFrom<Written> for Sequence {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(number) => Ok(Self(number)),
            Written::Text(text) => {
                let shown: String = text.escape_debug().take(40).collect();
                text.parse().map(Self).map_err(|_no_number| format!("`{shown}` is no sequence"))
            }
        }
    }
}

impl Command {
    pub(super) fn read(text: &str) -> Result<Self, Fault> {
        let invalid = |why: String| {
            let message =
                format!("{why}; write for example {{\"ack\": [\"7\"]}}, with `ack`, `nak`, `extend` or `reject`");
            Fault::invalid("INVALID_VERDICT", message)
        };
        let command: Self =
            serde_json::from_str(text).map_err(|error| invalid(format!("this is no verdict: {error}")))?;
        let all: Vec<Sequence> =
            [&command.ack, &command.nak, &command.extend, &command.reject].into_iter().flatten().copied().collect();
        if all.is_empty() || all.len() > DELIVERIES_MAX {
            return Err(invalid(format!("{} deliveries are named, not 1 to {DELIVERIES_MAX}", all.len())));
        }
        if all.iter().collect::<BTreeSet<_>>().len() < all.len() {
            return Err(invalid("a delivery is named twice".to_owned()));
        }
        if !command.reject.is_empty() && command.reason.is_empty() {
            return Err(invalid("a rejection needs a `reason`".to_owned()));
        }
        Ok(command)
    }

    /// Each verdict with the sequences that it is about.
    pub(super) fn verdicts(self) -> Vec<(Vec<u64>, Verdict)> {
        let Self { ack, nak, delay_ms, extend, reject, reason } = self;
        let all = [
            (ack, Verdict::Ack),
            (nak, Verdict::Nak(delay_ms)),
            (extend, Verdict::Extend),
            (reject, Verdict::Reject(reason)),
        ];
        let named = all.into_iter().filter(|(sequences, _)| !sequences.is_empty());
        named
            .map(|(sequences, verdict)| (sequences.into_iter().map(|Sequence(number)| number).collect(), verdict))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn verdicts_are_read_as_they_are_written() {
        let command =
            Command::read(r#"{"ack": ["7", 8], "nak": [9], "delayMs": 50, "reject": ["10"], "reason": "no"}"#);
        let verdicts: Vec<String> = command.unwrap().verdicts().iter().map(|verdict| format!("{verdict:?}")).collect();
        assert_eq!(verdicts, ["([7, 8], Verdict::Ack)", "([9], Verdict::Nak(50))", "([10], Verdict::Reject(\"no\"))"]);
    }

    #[test]
    fn what_is_none_is_refused() {
        let many = format!("{{\"ack\": {:?}}}", (0..257).collect::<Vec<u64>>());
        for wrong in [
            "",
            "{}",
            "[]",
            "7",
            "{\"ack\": []}",
            "{\"ack\": [-1]}",
            "{\"ack\": [\"x\"]}",
            "{\"ack\": [1.5]}",
            "{\"ack\": 1}",
            "{\"acknowledge\": [1]}",
            "{\"ack\": [1], \"nak\": [1]}",
            "{\"reject\": [1]}",
            &many,
            "{\"ack\": [18446744073709551616]}",
        ] {
            assert!(Command::read(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            let _ = Command::read(&text);
        }
    }
}
