//! `platform:plugin`: what every plugin exports, and what every plugin may import.

use platform_runtime::{Functions, function::Row};

pub use crate::bindings::platform::plugin::lifecycle::Problem;
use crate::{
    bindings::platform::plugin::{context, log},
    functions::functions,
    guest::Guest,
    logs::clean,
};

pub(crate) mod lifecycle_functions {
    //! Functions of `lifecycle`.
    use super::{Problem, functions};
    functions! { "platform:plugin/lifecycle@0.1.0" from 0;
        /// Reads the settings.
        Configure = "configure" (&'a str) -> (Result<(), Problem>,);
        /// Called before a generation takes traffic.
        SelfTest = "self-test" () -> (Result<(), Problem>,);
    }
}

pub(crate) mod handover_functions {
    //! Functions of `handover`.
    use super::{Problem, functions};
    functions! { "platform:plugin/handover@0.1.0" from 2;
        /// The state of an instance.
        Save = "save" () -> (Result<Vec<u8>, Problem>,);
        /// Takes a state over.
        Load = "load" (&'a [u8]) -> (Result<(), Problem>,);
    }
}

pub use handover_functions::{Load, Save};
pub use lifecycle_functions::{Configure, SelfTest};

/// What a component has to export to be configured ahead of time.
pub const CONFIGURE: Functions<Guest> = &[Row::required::<Configure>()];

/// A problem as one line of text.
#[must_use]
pub fn describe(problem: &Problem) -> String {
    match &problem.at {
        Some(at) => format!("{} (at `{at}`)", clean(&problem.message, MESSAGE_BYTES_MAX)),
        None => clean(&problem.message, MESSAGE_BYTES_MAX),
    }
}

impl context::Host for Guest {
    fn who(&mut self) -> Option<context::Caller> {
        let caller = self.call.caller.as_deref()?;
        Some(context::Caller { subject: caller.subject.clone(), roles: caller.roles.iter().cloned().collect() })
    }

    fn namespace(&mut self) -> String {
        self.call.namespace.as_ref().to_owned()
    }

    fn remaining_ms(&mut self) -> u32 {
        u32::try_from(self.remaining().as_millis()).unwrap_or(u32::MAX)
    }

    fn time_ns(&mut self) -> u64 {
        self.call.time_ns
    }

    fn fencing(&mut self) -> Option<context::Fence> {
        self.call.fence.as_deref().map(Into::into)
    }

    fn traceparent(&mut self) -> Option<String> {
        self.call.traceparent.as_deref().map(str::to_owned)
    }
}

/// Longest log message that is kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 8 << 10;
/// Most fields of a log line that are kept.
const FIELDS_MAX: usize = 32;

impl log::Host for Guest {
    fn write(&mut self, level: log::Level, message: String, fields: Vec<(String, String)>) {
        let line = || {
            let fields = fields.iter().take(FIELDS_MAX);
            let fields = fields.map(|(name, value)| (clean(name, 128), clean(value, 1024))).collect();
            (clean(&message, MESSAGE_BYTES_MAX), fields)
        };
        self.parts.write(level, self.call.traceparent.as_deref(), line);
    }
}
