//! `auth.policy` that does what the action of the request says, and is prepared as its settings say. It allows what it
//! survives, with its `tag` in the header `tag`.

use std::cell::Cell;

use platform_sdk::{
    Problem,
    auth::{Decision, Policy, Request},
    context, export, log,
};
use platform_testkit_guests::{Ill, busy, descend, forever, hoard, number, trap};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    tag: String,
    configure: Ill,
    self_test: Ill,
}

struct Acts {
    settings: Settings,
    calls: Cell<u32>,
}

export!(auth::Policy for Acts);

impl Policy for Acts {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Problem> {
        settings.configure.act()?;
        Ok(Self { settings, calls: Cell::new(0) })
    }

    fn self_test(&self) -> Result<(), Problem> {
        self.settings.self_test.act()
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        self.calls.set(self.calls.get() + 1);
        let reason = match request.action {
            "deny" => return Decision::deny(&self.settings.tag),
            "abstain" => return Decision::abstain(),
            // Denies by its tag alone, for chains.
            "deny-if" if request.target == self.settings.tag => return Decision::deny(&self.settings.tag),
            // Allows, but for one in so many targets: one in a hundred traps, or one in twenty is denied, as the tag says.
            "rarely" => return self.rarely(number(request.target)),
            "loop" => forever(),
            "loop-if" if request.header("x-bad").is_some() => forever(),
            "call" => loop {
                std::hint::black_box(request.header("x-any"));
            },
            "trap" => trap(),
            "trap-if" if request.header("x-bad").is_some() => trap(),
            "hoard" => hoard(),
            "grow" => grow(number(request.target)),
            "descend" => descend(number(request.target)).to_string(),
            "answer" => return Decision::allow("r".repeat(size(request.target))),
            "ask" => {
                std::hint::black_box(request.header(&"n".repeat(size(request.target))));
                String::new()
            }
            "log" => {
                for line in 0..number(request.target) {
                    log::info!("line {line}");
                }
                String::new()
            }
            "busy" => {
                busy(std::time::Duration::from_millis(number(request.target)));
                String::new()
            }
            "count" => self.calls.get().to_string(),
            "who" => who(request),
            _ => String::new(),
        };
        Decision::allow(reason).with_header("tag", &self.settings.tag)
    }
}

impl Acts {
    fn rarely(&self, target: u64) -> Decision {
        match self.settings.tag.as_str() {
            "traps" if target.is_multiple_of(100) => trap(),
            "differs" if target.is_multiple_of(20) => Decision::deny("it is one in twenty"),
            _ => Decision::allow("it is not one in so many"),
        }
    }
}

fn size(text: &str) -> usize {
    usize::try_from(number(text)).unwrap_or(usize::MAX)
}

/// Asks for memory and takes no for an answer.
fn grow(bytes: u64) -> String {
    let mut memory: Vec<u8> = Vec::new();
    match memory.try_reserve_exact(usize::try_from(bytes).unwrap_or(usize::MAX)) {
        Ok(()) => "granted".to_owned(),
        Err(_) => "refused".to_owned(),
    }
}

/// Everything that a guest learns of who calls and where.
fn who(request: &Request<'_>) -> String {
    let caller = context::who().map_or_else(|| "nobody".to_owned(), |who| format!("{} {:?}", who.subject, who.roles));
    let namespace = context::namespace();
    let claim = request.claim_json("team").unwrap_or_default();
    format!("{}|{caller}|{namespace}|{claim}|{}", request.subject, request.has_role("admin"))
}
