//! What a guest can be told to do that no guest should, and how it passes time. Guests and pages for tests share it.

#![expect(clippy::panic, reason = "a guest that panics is what these are for")]

use std::{hint::black_box, time::Duration};

use platform_sdk::context;

/// Loops in the guest's own code.
pub fn forever() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Traps.
///
/// # Panics
/// Always.
pub fn trap() -> ! {
    panic!("trapped on request")
}

/// Takes memory and keeps it, without end.
pub fn hoard() -> ! {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(vec![1; 64 << 10]));
    }
}

/// Is busy for `time`, by the clock of the call's deadline; beyond the deadline when `time` is longer.
pub fn busy(time: Duration) {
    let end = context::remaining().checked_sub(time);
    while end.is_none_or(|end| context::remaining() > end) {}
}
