//! Reads lists page by page.
//!
//! Owns how far a list is followed; must not know what it lists. Invariant: no page is asked for beyond the limit, and a
//! daemon that keeps answering with the same page is not followed forever.

use super::failure::{Exit, Failure};

/// Most that the interface gives in one page.
const PAGE: u32 = 1000;

/// Reads pages until there are `limit` items, all of them when there is no limit; the items, and the token of the page
/// that follows, empty when there is none.
///
/// `fetch` is given the size of a page and its token, and answers its items and the token of the next.
pub(crate) async fn read<T>(
    limit: Option<u32>, mut fetch: impl AsyncFnMut(u32, String) -> Result<(Vec<T>, String), Failure>,
) -> Result<(Vec<T>, String), Failure> {
    let mut items = Vec::new();
    let mut token = String::new();
    loop {
        let wanted =
            limit.map_or(PAGE, |limit| limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX)).min(PAGE));
        if wanted == 0 {
            return Ok((items, token));
        }
        let (page, next) = fetch(wanted, token.clone()).await?;
        items.extend(page);
        if next.is_empty() {
            return Ok((items, next));
        }
        if next == token {
            return Err(Failure::new(
                Exit::Error,
                "ENDLESS_LIST",
                "the daemon answers with the same page again and again",
            ));
        }
        token = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn numbers(size: u32, token: String) -> Result<(Vec<u32>, String), Failure> {
        let from: u32 = token.parse().unwrap_or(0);
        let to = (from + size.min(400)).min(2500);
        Ok(((from..to).collect(), if to < 2500 { to.to_string() } else { String::new() }))
    }

    #[tokio::test]
    async fn follows_to_the_end_or_the_limit() {
        let (all, next) = read(None, numbers).await.unwrap();
        assert_eq!((all.len(), next.as_str()), (2500, ""));
        let (some, next) = read(Some(500), numbers).await.unwrap();
        assert_eq!((some.len(), next.as_str()), (500, "500"));
        let (none, _) = read(Some(0), numbers).await.unwrap();
        assert!(none.is_empty());
    }

    #[tokio::test]
    async fn does_not_run_in_circles() {
        let circle = async |_, _| Ok((vec![1], "again".to_owned()));
        assert_eq!(read(None, circle).await.unwrap_err().reason, "ENDLESS_LIST");
    }
}
