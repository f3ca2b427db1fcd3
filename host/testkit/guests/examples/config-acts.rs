//! `config.validator` that does what the new document says under `/act`: `trap`, `loop`, or `refuse`; it accepts all others.

use platform_sdk::{
    Problem,
    config::{Proposal, Refusal, Validator},
    export,
};
use platform_testkit_guests::{forever, trap};

struct Acts;

export!(config::Validator for Acts);

impl Validator for Acts {
    type Settings = ();

    fn configure((): ()) -> Result<Self, Problem> {
        Ok(Self)
    }

    fn validate(&self, proposal: &Proposal<'_>) -> Result<(), Refusal> {
        match proposal.after::<String>("/act").as_deref() {
            Some("trap") => trap(),
            Some("loop") => forever(),
            Some("refuse") => Err(Refusal::new("refused as the document asks").at("/act")),
            _ => Ok(()),
        }
    }
}
