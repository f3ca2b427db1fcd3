//! Keys of the table.
//!
//! | key | holds |
//! |---|---|
//! | `name/NAME` | the line of a lock; what is left of an empty one goes by itself |
//! | `lease/ID` | a lease, for as long as it lasts |
//! | `place/ID/NAME` | nothing: where places hang on a lease |

/// What the keys of lines start with.
pub(crate) const NAMES: &str = "name/";
/// What the keys of leases start with.
const LEASES: &str = "lease/";
/// What the keys of places start with.
pub(crate) const PLACES: &str = "place/";

/// Key of a line, or what those of names with a prefix start with.
pub(crate) fn name(name: &str) -> String {
    format!("{NAMES}{name}")
}

/// Key of a lease.
pub(crate) fn lease(id: &str) -> String {
    format!("{LEASES}{id}")
}

/// The id of a lease's key.
pub(crate) fn lease_of(key: &str) -> Option<&str> {
    key.strip_prefix(LEASES)
}

/// Key that says that places of a name hang on a lease.
pub(crate) fn place(lease: &str, name: &str) -> String {
    format!("{PLACES}{lease}/{name}")
}

/// Lease and name of such a key.
pub(crate) fn place_of(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(PLACES)?.split_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_slashes_come_back() {
        assert_eq!(place_of(&place("00ff", "a/b//c")), Some(("00ff", "a/b//c")));
        assert_eq!(lease_of(&lease("00ff")), Some("00ff"));
        assert_eq!(lease_of(&name("lease/x")), None);
    }
}
