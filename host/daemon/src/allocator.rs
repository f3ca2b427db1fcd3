//! How the system's allocator holds the daemon's memory.
//!
//! Invariant: what was freed can be used for whatever is asked next, or goes back to the system.

/// Blocks of this size and more are mapped one by one and go back when they are freed: components, compiler buffers, large
/// values. The allocator would else take the size of the first such block that is freed as its new bound, and carve those
/// that follow out of memory that small blocks then hold.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES: libc::c_int = 128 << 10;

/// Holds freed memory in as many places as there are cores, not in eight times as many: threads that come and go would
/// each leave some behind in a place of their own. To be called before there are threads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn settle() {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cores = libc::c_int::try_from(cores).unwrap_or(libc::c_int::MAX);
    // SAFETY: both are plain numbers, and no other thread exists that could allocate at the same time.
    #[expect(unsafe_code, reason = "the settings of the allocator are behind a C function")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, cores);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
    }
}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn settle() {}
