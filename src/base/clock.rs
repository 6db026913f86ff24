//! The clock: the one place in the server that may ask what time it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall time and time that never goes back. Cheap to copy; copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    /// Set for tests: the wall clock, in milliseconds since 1970.
    manual: Option<&'static AtomicU64>,
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

impl Clock {
    /// A clock whose monotonic time starts a second ago, so that 0 is never "now".
    #[expect(clippy::disallowed_methods, reason = "the clock is here")]
    pub fn new() -> Clock {
        let now = Instant::now();
        Clock { origin: now.checked_sub(Duration::from_secs(1)).unwrap_or(now), manual: None }
    }

    /// A clock whose wall time stands still until [`set_unix_ms`](Self::set_unix_ms). For tests: it lives for ever.
    pub fn manual(unix_ms: u64) -> Clock {
        Clock { manual: Some(Box::leak(Box::new(AtomicU64::new(unix_ms)))), ..Clock::new() }
    }

    /// Sets a manual clock, and so all its copies. Does nothing to a real one.
    pub fn set_unix_ms(&self, unix_ms: u64) {
        if let Some(manual) = self.manual {
            // Relaxed: the time is a fact of its own, nothing else is published with it.
            manual.store(unix_ms, Ordering::Relaxed);
        }
    }

    /// Time since the origin.
    #[expect(clippy::disallowed_methods, reason = "the clock is here")]
    pub fn monotonic(&self) -> Duration {
        Instant::now().duration_since(self.origin)
    }

    /// Milliseconds since the origin.
    pub fn monotonic_ms(&self) -> u64 {
        self.monotonic().as_millis() as u64
    }

    /// Nanoseconds since the origin.
    pub fn monotonic_ns(&self) -> u64 {
        self.monotonic().as_nanos() as u64
    }

    /// Microseconds since 1970.
    #[expect(clippy::disallowed_methods, reason = "the clock is here")]
    pub fn unix_us(&self) -> u64 {
        match self.manual {
            Some(manual) => manual.load(Ordering::Relaxed) * 1000,
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64),
        }
    }

    /// Milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        self.unix_us() / 1000
    }
}
