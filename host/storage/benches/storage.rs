//! Durable puts against the disk's own pace, as ratios of one run, and point gets.
//!
//! Owns the comparison with a raw fdatasync of a preallocated file at the same number and size of writes; must not know
//! what the project promises about them.

use std::{
    fs::{File, OpenOptions},
    hint::black_box,
    io::{self, Write as _},
    os::unix::fs::FileExt,
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use platform_base::clock;
use platform_storage::{Condition, Embedded, Options, Scope, Storage, Write};

const VALUE_BYTES: usize = 100;
const BATCHES: [u64; 3] = [1, 64, 512];
/// Long enough to hold the clock's drift of a shared machine down.
const EACH: Duration = Duration::from_secs(2);
const FILE_BYTES: u64 = 64 << 20;

fn put(number: u64) -> Write {
    // Different bytes each time, so that nothing can skip a rewrite.
    let mut value = vec![0; VALUE_BYTES];
    for (at, byte) in value.iter_mut().enumerate() {
        let turned = number.rotate_left(u32::try_from(at % 64).unwrap_or(0)).to_le_bytes();
        *byte = turned.get(at % 8).copied().unwrap_or(0);
    }
    let key = format!("key-{:05}", number % 100_000);
    Write::Put { key, value: value.into(), condition: Condition::Always, ttl: None }
}

/// Writes per second of batches written and fdatasynced to a file whose blocks exist.
fn raw(directory: &Path, batch: u64) -> io::Result<f64> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(directory.join("raw"))?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES >> 20 {
        (&file).write_all(&zeros)?;
    }
    file.sync_all()?;
    pace(batch, |number, at| {
        let bytes =
            vec![u8::try_from(number % 251).unwrap_or(0); usize::try_from(batch).unwrap_or(1) * (VALUE_BYTES + 9)];
        sync(&file, &bytes, at % (FILE_BYTES - bytes.len() as u64))
    })
}

fn sync(file: &File, bytes: &[u8], at: u64) -> io::Result<u64> {
    file.write_all_at(bytes, at)?;
    file.sync_data()?;
    Ok(bytes.len() as u64)
}

/// Calls `make` with a number and a position that grows by what it returns; writes per second.
fn pace(batch: u64, mut make: impl FnMut(u64, u64) -> io::Result<u64>) -> io::Result<f64> {
    let started = clock::now();
    let (mut number, mut at) = (0_u64, 0);
    while started.elapsed() < EACH {
        at += make(number, at)?;
        number += batch;
    }
    Ok(number as f64 / started.elapsed().as_secs_f64())
}

/// Prints durable puts per second, alone and as a ratio to the raw file.
fn durable_puts(runtime: &tokio::runtime::Runtime) -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir_in(std::env::current_dir()?)?;
    let scope = Scope::new("kv.store", "default");
    let mut out = io::stderr().lock();
    writeln!(out, "durable puts of {VALUE_BYTES} bytes per second")?;
    writeln!(out, "{:>6} {:>12} {:>12} {:>8} {:>12} {:>8}", "batch", "raw", "one commit", "ratio", "callers", "ratio")?;
    for batch in BATCHES {
        let storage = Embedded::open(directory.path().join(format!("storage-{batch}")), Options::default())?;
        let raw = raw(directory.path(), batch)?;
        // All writes of the batch in one commit.
        let one = pace(batch, |number, _| {
            let writes = (number..number + batch).map(put).collect();
            runtime.block_on(storage.commit(&scope, "one", writes)).map_err(io::Error::other)?;
            Ok(0)
        })?;
        // As many callers, one write each, which share fsyncs because they wait together.
        let callers = pace(batch, |number, _| {
            let writes = (number..number + batch).map(|number| storage.commit(&scope, "many", vec![put(number)]));
            runtime.block_on(futures::future::try_join_all(writes)).map_err(io::Error::other)?;
            Ok(0)
        })?;
        writeln!(out, "{batch:>6} {raw:>12.0} {one:>12.0} {:>8.2} {callers:>12.0} {:>8.2}", one / raw, callers / raw)?;
        runtime.block_on(storage.close());
    }
    Ok(())
}

fn point_gets(criterion: &mut Criterion, runtime: &tokio::runtime::Runtime) -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir_in(std::env::current_dir()?)?;
    let storage = Embedded::open(directory.path(), Options::default())?;
    let scope = Scope::new("kv.store", "default");
    for start in (0..100_000).step_by(1000) {
        runtime.block_on(storage.commit(&scope, "t", (start..start + 1000).map(put).collect()))?;
    }
    let mut group = criterion.benchmark_group("embedded");
    group.throughput(Throughput::Elements(1));
    for place in ["memory", "table file"] {
        let mut number = 0_u64;
        group.bench_function(format!("get from {place}"), |bencher| {
            bencher.iter(|| {
                number = number.wrapping_add(7919);
                let key = format!("key-{:05}", number % 100_000);
                black_box(runtime.block_on(storage.get(&scope, "t", &key)))
            });
        });
        storage.flush()?;
    }
    group.finish();
    runtime.block_on(storage.append(&scope, "j", vec![Bytes::from_static(b"end")]))?;
    runtime.block_on(storage.close());
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut criterion = Criterion::default().configure_from_args();
    // Cargo's test run only asks whether the bench starts.
    if !std::env::args().any(|argument| argument == "--test") {
        durable_puts(&runtime)?;
    }
    point_gets(&mut criterion, &runtime)?;
    criterion.final_summary();
    Ok(())
}
