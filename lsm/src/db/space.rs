//! The reserve: below so much free space only what frees space may write.
//!
//! A full disk must not lock its user out: a delete is a write too, and a compaction needs room for its outputs before it can give
//! any back. So ordinary writes stop (`NoSpace`) while free space is below the reserve; deletes, range deletes, flushes and
//! compactions go on with what is left, and writes come back by themselves once there is room again. Asked each second and
//! before each job; log segments are allocated ahead, so a write that was admitted has its space.

use crate::db::state::Shared;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often free space is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Writes come back at this multiple of the reserve, in quarters, so that the state does not flicker.
const RESUME_QUARTERS: u64 = 5;

/// Looks at free space if the last look is a while ago, or if `now` says so.
pub fn watch(shared: &Shared, now: bool) {
    let reserve = shared.options.reserve_bytes;
    if reserve == 0 {
        return;
    }
    let clock = shared.env.monotonic().as_millis() as u64;
    // Relaxed: two threads may both look; it costs a system call.
    let last = shared.space_looked_ms.load(Ordering::Relaxed);
    if !now && clock < last + LOOK_EVERY.as_millis() as u64 {
        return;
    }
    shared.space_looked_ms.store(clock, Ordering::Relaxed);
    let free = match shared.env.free_bytes(&shared.path) {
        Ok(free) => free,
        Err(error) => {
            shared.event(&format!("free space is not known: {error}"));
            return;
        }
    };
    let low = shared.low_space.load(Ordering::Relaxed);
    if !low && free < reserve {
        shared.low_space.store(true, Ordering::Relaxed);
        shared.event(&format!(
            "{} MiB free, the reserve is {} MiB: only deletes are accepted",
            free >> 20,
            reserve >> 20
        ));
    } else if low && free >= reserve / 4 * RESUME_QUARTERS {
        shared.low_space.store(false, Ordering::Relaxed);
        shared.event(&format!("{} MiB free: writes are accepted again", free >> 20));
        shared.signal();
    }
}
