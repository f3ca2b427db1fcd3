//! Structured log lines; the host adds plugin, slot, generation and trace, and limits the rate.
//!
//! ```
//! use platform_sdk::log;
//!
//! let (service, nodes) = ("checkout", 3);
//! log::info!("table of `{service}` replaced", nodes = nodes);
//! ```

#[cfg(target_arch = "wasm32")]
use crate::bindings::plugin::platform::plugin::log as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::native::log as host;

pub use crate::bindings::plugin::platform::plugin::log::Level;
pub use crate::{
    __log_debug as debug, __log_error as error, __log_info as info, __log_trace as trace, __log_warn as warn,
};

/// Writes a line. Messages over 8 KiB and fields over 32 are cut by the host. The macros of this module are shorter.
pub fn write(level: Level, message: &str, fields: &[(String, String)]) {
    host::write(level, message, fields);
}

/// Writes the message of a panic to the log before the panic traps. A plugin that wants this calls it in `configure`.
pub fn on_panic() {
    std::panic::set_hook(Box::new(|panic| write(Level::Error, &panic.to_string(), &[])));
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {
        $crate::log::write(
            $crate::log::Level::$level,
            &::std::format!($message),
            &[$((::std::string::String::from(stringify!($field)), ::std::string::ToString::to_string(&$value))),*],
        )
    };
}

/// Writes a line of level trace: a format literal, then fields as `name = value`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_trace { ($($line:tt)+) => { $crate::__log!(Trace, $($line)+) }; }

/// Writes a line of level debug: a format literal, then fields as `name = value`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug { ($($line:tt)+) => { $crate::__log!(Debug, $($line)+) }; }

/// Writes a line of level info: a format literal, then fields as `name = value`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info { ($($line:tt)+) => { $crate::__log!(Info, $($line)+) }; }

/// Writes a line of level warn: a format literal, then fields as `name = value`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn { ($($line:tt)+) => { $crate::__log!(Warn, $($line)+) }; }

/// Writes a line of level error: a format literal, then fields as `name = value`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error { ($($line:tt)+) => { $crate::__log!(Error, $($line)+) }; }
