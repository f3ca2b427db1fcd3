//! Ranges of bytes: those that a client wants (RFC 9110, "Range"), and those that a chunk says it is (OCI distribution 1.1, "Pushing a blob in chunks").
//!
//! Must not know of what. Invariant: a range that parsed lies within the bytes that there are, or follows them.

use std::ops::Range;

/// What a `Range` header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything: there is no header, or one that means nothing here.
    All,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that are not there.
    Outside,
}

/// What the header asks for of `size` bytes. Several ranges are answered with everything, as one may.
pub(crate) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let ranges = header.and_then(|header| header.trim().strip_prefix("bytes=")).filter(|ranges| !ranges.contains(','));
    let Some((first, last)) = ranges.and_then(|range| range.trim().split_once('-')) else { return Wanted::All };
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(suffix)) if first.is_empty() => size.saturating_sub(suffix)..size,
        _ => return Wanted::All,
    };
    if range.is_empty() { Wanted::Outside } else { Wanted::Part(range) }
}

/// The bytes that a chunk says it is: `FIRST-LAST`, which some clients write as a `Content-Range` of RFC 9110.
pub(crate) fn chunk(header: &str) -> Option<Range<u64>> {
    let header = header.trim();
    let range = header.strip_prefix("bytes ").unwrap_or(header);
    let range = range.split('/').next()?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then(|| last.checked_add(1)).flatten().map(|end| first..end)
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        for (header, wants) in [
            (None, Wanted::All),
            (Some("bytes=0-3"), Wanted::Part(0..4)),
            (Some("bytes=4-"), Wanted::Part(4..10)),
            (Some("bytes=-3"), Wanted::Part(7..10)),
            (Some("bytes=-30"), Wanted::Part(0..10)),
            (Some("bytes=9-99999999999999999999"), Wanted::All),
            (Some("bytes=9-18446744073709551615"), Wanted::Part(9..10)),
            (Some("bytes=10-"), Wanted::Outside),
            (Some("bytes=-0"), Wanted::Outside),
            (Some("bytes=3-1"), Wanted::All),
            (Some("bytes=0-1,3-4"), Wanted::All),
            (Some("items=0-1"), Wanted::All),
            (Some("bytes=-"), Wanted::All),
            (Some("bytes=+1-2"), Wanted::All),
        ] {
            assert_eq!(wanted(header, 10), wants, "{header:?}");
        }
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Outside);
    }

    #[test]
    fn chunks_say_where_they_lie() {
        assert_eq!(chunk("0-9"), Some(0..10));
        assert_eq!(chunk("bytes 5-5/*"), Some(5..6));
        for bad in ["", "-", "1", "9-0", "0-18446744073709551615", "a-b", "0--1", "-1-2"] {
            assert_eq!(chunk(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_header_leads_outside(header in "(bytes=)?[0-9]{0,21}-?[0-9]{0,21}", size in 0..1_000_u64) {
            if let Wanted::Part(range) = wanted(Some(&header), size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
            if let Some(range) = chunk(&header) {
                prop_assert!(range.start < range.end);
            }
        }

        #[test]
        fn a_range_comes_back(first in 0..500_u64, length in 1..500_u64) {
            let last = first + length - 1;
            prop_assert_eq!(wanted(Some(&format!("bytes={first}-{last}")), 1_000), Wanted::Part(first..last + 1));
            prop_assert_eq!(chunk(&format!("{first}-{last}")), Some(first..last + 1));
        }
    }
}
