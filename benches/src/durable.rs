//! Durable writes against the bare disk: the same bytes in the same batches by `fdatasync` of a preallocated file.

use std::{fs::File, os::unix::fs::FileExt as _, sync::Arc};

use anyhow::Result;
use platform_storage::{Condition, Embedded, Options, Scope, Storage as _, Write};

use crate::measure::{compare, per_call, row};

const COMMITS: u32 = 200;
const VALUE_BYTES: usize = 100;

pub(crate) async fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let storage = Arc::new(Embedded::open(folder.path().join("storage"), Options::default())?);
    let scope = Scope::new("bench", "default");
    let raw = File::create(folder.path().join("raw"))?;
    raw.write_all_at(&vec![0; 64 << 20], 0)?;
    raw.sync_all()?;
    let mut next = 0_u64;
    let mut place = 0;
    for batch in [1_u64, 64, 512] {
        let (ours, theirs, ratio) = compare(
            async || {
                per_call(COMMITS, async || {
                    next += 1;
                    let writes = (0..batch).map(|index| Write::Put {
                        key: format!("{:016x}", next.wrapping_mul(0x9E37_79B9) + index),
                        value: vec![next.to_le_bytes().first().copied().unwrap_or(0); VALUE_BYTES].into(),
                        condition: Condition::Always,
                        ttl: None,
                    });
                    let committed = storage.commit(&scope, "bench", writes.collect()).await;
                    assert!(committed.is_ok(), "{committed:?}");
                })
                .await
            },
            async || {
                per_call(COMMITS, async || {
                    let size = usize::try_from(batch).unwrap_or(1) * (VALUE_BYTES + 16);
                    place = (place + size as u64) % (63 << 20);
                    let bytes = vec![place.to_le_bytes().first().copied().unwrap_or(0); size];
                    let written = raw.write_all_at(&bytes, place).and_then(|()| raw.sync_data());
                    assert!(written.is_ok(), "{written:?}");
                })
                .await
            },
        )
        .await;
        row(&format!("durable commit of {batch} puts / raw fdatasync of the same bytes"), ours, theirs, ratio, "");
    }
    storage.close().await;
    Ok(())
}
