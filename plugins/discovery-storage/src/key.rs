//! Keys of the table: `SERVICE!NODE-ID`. The mark sorts before every character of a service's name, so the order of
//! keys is the order of services by name, and within a service the order of node ids.

/// Ends the name of the service; no name has it.
const MARK: char = '!';
/// Follows the mark in byte order.
const PAST_MARK: char = '"';

/// Key of a node.
pub(crate) fn of(service: &str, node_id: &str) -> String {
    format!("{service}{MARK}{node_id}")
}

/// What the keys of a service's nodes start with.
pub(crate) fn prefix(service: &str) -> String {
    of(service, "")
}

/// After every key of the service, and before those of the next.
pub(crate) fn past(service: &str) -> String {
    format!("{service}{PAST_MARK}")
}

/// Service and node id of a key.
pub(crate) fn parts(key: &str) -> Option<(&str, &str)> {
    key.split_once(MARK)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_sort_by_service_then_node(
            one in ("[A-Za-z0-9][A-Za-z0-9._-]{0,4}", "[ -~]{1,4}"), two in ("[A-Za-z0-9][A-Za-z0-9._-]{0,4}", "[ -~]{1,4}"),
        ) {
            prop_assert_eq!(of(&one.0, &one.1).cmp(&of(&two.0, &two.1)), one.cmp(&two));
            prop_assert_eq!(past(&one.0) < of(&two.0, &two.1), one.0 < two.0);
            let key = of(&one.0, &one.1);
            prop_assert_eq!(parts(&key), Some((one.0.as_str(), one.1.as_str())));
        }
    }
}
