//! `platform:db`: what providers export.

use platform_runtime::{Functions, function::Row};

pub use crate::bindings::platform::db::{
    store::{Action, Change, Condition, Content, Filter, Found, Query, Table, Test, Write},
    types::{Conflict, Duplicate, Error, Fence, Field, Index, Kind, Record, Stamp, Value},
};
use crate::{
    bindings::platform::db::types,
    functions::{LIFECYCLE, functions},
    guest::Guest,
    plugin::{Configure, Load, Save, SelfTest},
};

/// The interface that a provider exports.
pub const INTERFACE: &str = "platform:db/store@0.1.0";

functions! { "platform:db/store@0.1.0" from LIFECYCLE;
    /// Declares a table.
    Declare = "declare" (&'a str, &'a str, &'a [Index]) -> (Result<Table, Error>,);
    /// Builds indexes.
    Build = "build" (&'a str, &'a str) -> (Result<bool, Error>,);
    /// Removes a table.
    DropTable = "drop-table" (&'a str, &'a str) -> (Result<bool, Error>,);
    /// Lists tables.
    Tables = "tables" (&'a str, Option<&'a str>, u32) -> (Result<Vec<Table>, Error>,);
    /// Writes records.
    Commit = "commit" (&'a str, &'a [Write]) -> (Result<Vec<Option<Stamp>>, Error>,);
    /// Reads records.
    Get = "get" (&'a str, &'a str, &'a [&'a str]) -> (Result<Vec<Option<Record>>, Error>,);
    /// Looks for records.
    Find = "find" (&'a str, &'a str, &'a Query) -> (Result<Found, Error>,);
    /// Waits for changes.
    Changes = "changes" (&'a str, u64, u32, u32) -> (Result<Vec<Change>, Error>,);
    /// Lists fences.
    Fences = "fences" (Option<&'a str>, u32) -> (Result<Vec<Fence>, Error>,);
    /// Takes over what another store holds.
    Restore = "restore" (&'a [Change], &'a [Fence], u64) -> (Result<(), Error>,);
    /// The last revision.
    Revision = "revision" () -> (Result<u64, Error>,);
}

/// What the host calls in a provider.
pub const FUNCTIONS: Functions<Guest> = &[
    Row::required::<Configure>(),
    Row::required::<SelfTest>(),
    Row::optional::<Save>(),
    Row::optional::<Load>(),
    Row::required::<Declare>(),
    Row::required::<Build>(),
    Row::required::<DropTable>(),
    Row::required::<Tables>(),
    Row::required::<Commit>(),
    Row::required::<Get>(),
    Row::required::<Find>(),
    Row::required::<Changes>(),
    Row::required::<Fences>(),
    Row::required::<Restore>(),
    Row::required::<Revision>(),
];

impl types::Host for Guest {}
