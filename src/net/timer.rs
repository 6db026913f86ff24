//! Timers of one worker, in order. There are few (parked clients); what many connections need (idle time, soft limits) is
//! looked at once a second instead.
//!
//! Whoever a timer fires for checks whether it still means anything. A timer that may be far away (a client waits for a key for an
//! hour at most, and is served at once) is removed.

use std::collections::BTreeSet;

/// Who a timer fires for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// When (monotonic ms).
    pub at_ms: u64,
    /// Place of the connection in its worker.
    pub token: usize,
    /// The client that was there when the timer was set.
    pub client: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Timers {
    alarms: BTreeSet<Alarm>,
}

impl Timers {
    /// Sets a timer.
    pub fn add(&mut self, alarm: Alarm) {
        if alarm.at_ms != u64::MAX {
            self.alarms.insert(alarm);
        }
    }

    /// Removes a timer.
    pub fn remove(&mut self, alarm: Alarm) {
        self.alarms.remove(&alarm);
    }

    /// When the next one fires.
    pub fn next_ms(&self) -> Option<u64> {
        self.alarms.first().map(|alarm| alarm.at_ms)
    }

    /// Takes one that is due.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<Alarm> {
        if self.next_ms()? > now_ms {
            return None;
        }
        self.alarms.pop_first()
    }

    /// Timers set.
    pub fn len(&self) -> usize {
        self.alarms.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.alarms.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fire_in_order_and_not_too_early() {
        let mut timers = Timers::default();
        for (token, at_ms) in [5u64, 1, 9, 5, u64::MAX].into_iter().enumerate() {
            timers.add(Alarm { at_ms, token, client: 1 });
        }
        assert_eq!(timers.len(), 4, "never is never set");
        assert_eq!(timers.next_ms(), Some(1));
        assert!(timers.pop_due(0).is_none());
        let mut fired = Vec::new();
        while let Some(alarm) = timers.pop_due(5) {
            fired.push((alarm.at_ms, alarm.token));
        }
        assert_eq!(fired, [(1, 1), (5, 0), (5, 3)]);
        assert_eq!(timers.next_ms(), Some(9));
        timers.remove(Alarm { at_ms: 9, token: 2, client: 1 });
        assert!(timers.is_empty());
    }
}
