//! Pages of long answers.

/// Items in a page when the caller does not say.
const LIMIT_DEFAULT: usize = 50;
/// Most items in a page.
const LIMIT_MAX: usize = 1000;

/// Asks for a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// At most this many; 0 means 50, and more than 1000 means 1000.
    pub limit: u32,
    /// The token that came with the page before; empty for the first.
    pub token: String,
}

impl PageRequest {
    pub(crate) fn limit(&self) -> usize {
        match usize::try_from(self.limit).unwrap_or(LIMIT_MAX) {
            0 => LIMIT_DEFAULT,
            limit => limit.min(LIMIT_MAX),
        }
    }
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Its items.
    pub items: Vec<T>,
    /// Asks for the next page; empty when this is the last.
    pub next: String,
}

impl<T> Page<T> {
    /// The first `limit` of `items`; `token` makes the token that continues after an item.
    pub(crate) fn cut(items: impl Iterator<Item = T>, limit: usize, token: impl FnOnce(&T) -> String) -> Self {
        let mut items: Vec<T> = items.take(limit + 1).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(token).unwrap_or_default() } else { String::new() };
        Self { items, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_only_with_more_to_come() {
        let page = |limit| Page::cut([1, 2, 3].into_iter(), limit, ToString::to_string);
        assert_eq!(page(2), Page { items: vec![1, 2], next: "2".to_owned() });
        assert_eq!(page(3), Page { items: vec![1, 2, 3], next: String::new() });
        let limit = |limit| PageRequest { limit, token: String::new() }.limit();
        assert_eq!([limit(0), limit(7), limit(u32::MAX)], [50, 7, 1000]);
    }
}
