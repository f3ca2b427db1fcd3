//! Where things are in the one table of a namespace. Names hold no `/`, values are in digits, ids come last. For the way back
//! there is a second key, whose digits count down.

use platform_sdk::db::{Index, Kind, Value, decode, encode};

/// Ends what counts down: after every digit, so that what is longer comes first.
const END: char = '~';

/// What revisions of storage come to.
pub(crate) const SHIFT: &str = "b";

/// A table of a database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) database: &'a str,
    pub(crate) table: &'a str,
}

impl Place<'_> {
    /// Its declaration.
    pub(crate) fn declaration(self) -> String {
        format!("t/{}/{}", self.database, self.table)
    }

    /// What all keys of a sort begin with.
    pub(crate) fn all(self, sort: char) -> String {
        format!("{sort}/{}/{}/", self.database, self.table)
    }

    /// A record.
    pub(crate) fn record(self, id: &str) -> String {
        format!("{}{id}", self.all('r'))
    }

    /// A record's place on the way back.
    pub(crate) fn back(self, id: &str) -> String {
        format!("{}{}{END}", self.all('o'), inverted(&digits(id)))
    }

    /// What all keys of an index begin with.
    pub(crate) fn index(self, sort: char, number: u64) -> String {
        format!("{}{number}/", self.all(sort))
    }

    /// A record's places in an index: forth and back.
    pub(crate) fn entries(self, number: u64, value: &Value, id: &str) -> [String; 2] {
        [
            format!("{}{}", self.index('x', number), forth(value, id)),
            format!("{}{}", self.index('y', number), back(value, id)),
        ]
    }

    /// Who has a value of a unique index.
    pub(crate) fn owner(self, number: u64, value: &Value) -> String {
        format!("{}{}", self.index('u', number), encode(value))
    }
}

fn digits(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Digits that count down.
pub(crate) fn inverted(digits: &str) -> String {
    let digit = |digit: char| digit.to_digit(16).and_then(|digit| char::from_digit(15 - digit, 16)).unwrap_or(END);
    digits.chars().map(digit).collect()
}

fn forth(value: &Value, id: &str) -> String {
    format!("{}.{id}", encode(value))
}

fn back(value: &Value, id: &str) -> String {
    format!("{}{END}{}", inverted(&encode(value)), digits_down(id))
}

fn digits_down(id: &str) -> String {
    format!("{}{END}", inverted(&digits(id)))
}

/// Just before, or just after, all places of a value; in the order given.
pub(crate) fn beside(value: &Value, descending: bool, after: bool) -> String {
    let form = encode(value);
    match (descending, after) {
        (false, false) => form,
        // `/` comes after `.`, and before every digit.
        (false, true) => format!("{form}/"),
        // `}` comes before `~`, and after every digit.
        (true, false) => format!("{}}}", inverted(&form)),
        (true, true) => format!("{}{END}{END}{END}", inverted(&form)),
    }
}

/// The place of a value and an id.
pub(crate) fn at(value: &Value, id: &str, descending: bool) -> String {
    if descending { back(value, id) } else { forth(value, id) }
}

/// The value of a place in an index.
pub(crate) fn value(index: &Index, place: &str, descending: bool) -> Option<Value> {
    let (form, _) = place.split_once(if descending { END } else { '.' })?;
    let kind: Kind = index.kind;
    if descending { decode(kind, &inverted(form)) } else { decode(kind, form) }
}

/// Database, table and id of a record's key.
pub(crate) fn parts(key: &str) -> Option<(&str, &str, &str)> {
    let mut parts = key.strip_prefix("r/")?.splitn(3, '/');
    Some((parts.next()?, parts.next()?, parts.next()?))
}

/// Database and table of a declaration's key.
pub(crate) fn table(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix("t/")?.split_once('/')
}
