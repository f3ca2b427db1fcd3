//! Remembers tokens whose signature was verified a moment ago: a signature costs a hundred times what a look-up costs.
//!
//! Owns how long and how many; must not know how a token is verified. Invariant: nothing is returned after its token has
//! expired or [`REMEMBER_S`] have passed, and the memory is bounded whatever callers send: only verified tokens enter.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::Identity;

/// How long a verification is good for, in seconds.
const REMEMBER_S: u64 = 60;
const SHARDS: usize = 16;
/// Most tokens in one shard.
const SHARD_TOKENS_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Cache {
    shards: [Mutex<HashMap<[u8; 32], Entry>>; SHARDS],
}

#[derive(Debug)]
struct Entry {
    identity: Arc<Identity>,
    until_s: u64,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::new(HashMap::new())) }
    }

    pub(super) fn get(&self, digest: &[u8; 32], now_s: u64) -> Option<Arc<Identity>> {
        let shard = self.shard(digest)?.lock();
        let entry = shard.get(digest).filter(|entry| now_s < entry.until_s)?;
        Some(Arc::clone(&entry.identity))
    }

    pub(super) fn put(&self, digest: [u8; 32], identity: &Arc<Identity>, now_s: u64) {
        let Some(shard) = self.shard(&digest) else { return };
        let until_s = identity.expires_s.unwrap_or(u64::MAX).min(now_s + REMEMBER_S);
        let mut shard = shard.lock();
        if shard.len() >= SHARD_TOKENS_MAX {
            shard.retain(|_, entry| now_s < entry.until_s);
        }
        if shard.len() >= SHARD_TOKENS_MAX {
            // More live tokens than room: start over rather than keep an order of use that every look-up would pay for.
            shard.clear();
        }
        shard.insert(digest, Entry { identity: Arc::clone(identity), until_s });
    }

    fn shard(&self, digest: &[u8; 32]) -> Option<&Mutex<HashMap<[u8; 32], Entry>>> {
        let [first, ..] = digest;
        self.shards.get(usize::from(*first) % SHARDS)
    }
}

#[cfg(test)]
mod tests {
    use platform_capability::Caller;

    use super::*;
    use crate::identity::{Access, Namespaces};

    fn identity(expires_s: Option<u64>) -> Arc<Identity> {
        let (caller, namespaces) = (Arc::new(Caller::default()), Namespaces::All);
        Arc::new(Identity { caller, access: Access::Check, namespaces, expires_s })
    }

    #[test]
    fn nothing_outlives_its_token() {
        let cache = Cache::new();
        cache.put([1; 32], &identity(Some(110)), 100);
        cache.put([2; 32], &identity(Some(1000)), 100);
        assert!(cache.get(&[1; 32], 109).is_some());
        assert!(cache.get(&[1; 32], 110).is_none());
        assert!(cache.get(&[2; 32], 159).is_some());
        assert!(cache.get(&[2; 32], 160).is_none());
        assert!(cache.get(&[3; 32], 100).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let cache = Cache::new();
        for number in 0..50_000_u32 {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&number.to_le_bytes());
            cache.put(digest, &identity(None), 100);
        }
        let kept: usize = cache.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(kept <= SHARDS * SHARD_TOKENS_MAX, "{kept}");
    }
}
