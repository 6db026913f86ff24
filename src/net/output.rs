//! What a connection still has to send: one FIFO of bytes, with fences.
//!
//! ```text
//! bytes:   [ sent | may leave .......... | must wait ................ ]
//! fences:                                ^ offset, need LSN 812        ^ offset, need LSN 815
//! ```
//!
//! A fence at an offset says: no byte from here on leaves before the log's watermark has reached its need. Offsets and needs both
//! grow along the queue, so only the first fence matters at any time. Replies of one turn share one fence (that of the first reply
//! that needs one, with the greatest need): one log write a turn releases them all anyway. Pure: no socket, no log.

use haypile_lsm::Lsn;
use std::collections::VecDeque;

/// Unsent bytes above which a connection's socket is not read.
pub const UNSENT_BYTES_MAX: usize = 1 << 20;
/// Fences above which a connection's socket is not read.
pub const FENCES_MAX: usize = 1024;
/// An empty buffer larger than this is freed rather than reused.
pub const BUFFER_KEPT_BYTES: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fence {
    /// Counted from the connection's first byte ever.
    offset: u64,
    need: Lsn,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Output {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were sent.
    sent: usize,
    /// Offset of `buffer[0]`.
    base: u64,
    fences: VecDeque<Fence>,
    /// Whether the last fence may still be raised: it was made in this turn.
    open: bool,
}

impl Output {
    /// Takes the buffer, to append replies to it. Give it back with [`put_back`](Self::put_back).
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Whether there is a buffer; if not, one from a pool of spare ones can be [`put_back`](Self::put_back) first.
    pub fn has_buffer(&self) -> bool {
        self.buffer.capacity() > 0
    }

    /// The counterpart of [`take`](Self::take).
    pub fn put_back(&mut self, buffer: Vec<u8>) {
        self.buffer = buffer;
    }

    /// Says that the reply that began at `position` of the taken buffer must wait for `need`.
    pub fn fence(&mut self, position: usize, need: Lsn) {
        let offset = self.base + position as u64;
        match self.fences.back_mut() {
            Some(last) if last.need >= need => {}
            Some(last) if self.open => last.need = need,
            _ => {
                self.fences.push_back(Fence { offset, need });
                self.open = true;
            }
        }
    }

    /// Ends the turn: later fences are fences of their own.
    pub fn end_turn(&mut self) {
        self.open = false;
    }

    /// The bytes that may leave now that the log has reached `watermark`. Fences behind it are forgotten.
    pub fn sendable(&mut self, watermark: Lsn) -> &[u8] {
        while self.fences.front().is_some_and(|fence| fence.need <= watermark) {
            self.fences.pop_front();
        }
        if self.fences.is_empty() {
            self.open = false;
        }
        let end = match self.fences.front() {
            Some(fence) => ((fence.offset - self.base) as usize).max(self.sent).min(self.buffer.len()),
            None => self.buffer.len(),
        };
        self.buffer.get(self.sent..end).unwrap_or_default()
    }

    /// Notes that `count` of the sendable bytes were sent.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.buffer.len() {
            self.base += self.buffer.len() as u64;
            self.sent = 0;
            self.buffer.clear();
        } else if self.sent > UNSENT_BYTES_MAX && self.sent > self.buffer.len() / 2 {
            // Moves at most as many bytes as were sent since the last time: linear over all.
            self.base += self.sent as u64;
            self.buffer.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Takes the buffer away from an output that has nothing to send.
    pub fn release(&mut self) -> Option<Vec<u8>> {
        (self.is_empty() && self.has_buffer()).then(|| {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            buffer
        })
    }

    /// Bytes at the front of the [taken](Self::take) buffer that were sent already.
    pub fn sent_front(&self) -> usize {
        self.sent
    }

    /// Throws away what was not sent, to be called with the buffer put back.
    pub fn discard(&mut self) {
        self.base += self.buffer.len() as u64;
        self.sent = 0;
        self.buffer.clear();
        self.fences.clear();
        self.open = false;
    }

    /// Bytes not sent yet.
    pub fn unsent(&self) -> usize {
        self.buffer.len().saturating_sub(self.sent)
    }

    /// Whether everything was sent.
    pub fn is_empty(&self) -> bool {
        self.unsent() == 0
    }

    /// What the first fence waits for, if there is one.
    pub fn waits_for(&self) -> Option<Lsn> {
        self.fences.front().map(|fence| fence.need)
    }

    /// What the last fence waits for.
    pub fn greatest_need(&self) -> Option<Lsn> {
        self.fences.back().map(|fence| fence.need)
    }

    /// Whether so much waits that the connection should not be read.
    pub fn is_full(&self) -> bool {
        self.unsent() >= UNSENT_BYTES_MAX || self.fences.len() >= FENCES_MAX
    }
}

/// Pushes that wait for a reply.
#[derive(Debug, Default)]
pub struct Deferred {
    /// They, in the order they came, in RESP2 and in RESP3: the command may be one that changes the protocol.
    pub bytes: [Vec<u8>; 2],
    /// What the log has to reach before they may leave.
    pub need: Lsn,
}

impl Deferred {
    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.iter().map(Vec::len).sum()
    }

    /// How many of them may leave, at most: those of one protocol.
    pub fn sendable_len(&self) -> usize {
        self.bytes.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn append(output: &mut Output, bytes: &[u8], need: Lsn) {
        let mut buffer = output.take();
        let position = buffer.len();
        buffer.extend_from_slice(bytes);
        output.put_back(buffer);
        if need > 0 {
            output.fence(position, need);
        }
    }

    #[test]
    fn bytes_wait_behind_the_first_fence_that_is_not_met() {
        let mut output = Output::default();
        append(&mut output, b"free", 0);
        append(&mut output, b"five", 5);
        append(&mut output, b"seven", 7);
        output.end_turn();
        append(&mut output, b"nine", 9);
        append(&mut output, b"six", 6);
        assert_eq!(output.sendable(4), b"free");
        assert_eq!(output.waits_for(), Some(7), "one fence a turn");
        output.sent(4);
        assert_eq!(output.sendable(4), b"");
        assert_eq!(output.sendable(7), b"fiveseven");
        output.sent(2);
        assert_eq!(output.sendable(8), b"veseven");
        output.sent(7);
        assert_eq!((output.unsent(), output.waits_for()), (7, Some(9)));
        assert_eq!(output.sendable(9), b"ninesix");
        output.sent(7);
        assert!(output.release().is_some());
        assert!(!output.has_buffer());
    }

    proptest! {
        /// Against a model in which each reply knows what it needs: nothing leaves too early, everything leaves in the end,
        /// in order.
        #[test]
        fn never_too_early_never_lost(steps in prop::collection::vec((0u8..5, 1usize..400, 0u64..6), 1..200)) {
            let mut output = Output::default();
            let (mut appended, mut needs, mut sent) = (Vec::new(), Vec::new(), Vec::new());
            let (mut committed, mut watermark) = (0u64, 0u64);
            for (step, size, lsn) in steps {
                match step {
                    0 => {
                        let need = if lsn == 0 { 0 } else { committed += lsn; committed };
                        let bytes: Vec<u8> = (0..size).map(|i| (i + appended.len()) as u8).collect();
                        append(&mut output, &bytes, if need > watermark { need } else { 0 });
                        appended.extend_from_slice(&bytes);
                        needs.resize(appended.len(), need);
                    }
                    1 => output.end_turn(),
                    4 => {
                        output.discard();
                        prop_assert!(output.is_empty() && output.waits_for().is_none());
                        appended.truncate(sent.len());
                        needs.truncate(sent.len());
                    }
                    2 => watermark = (watermark + lsn).min(committed),
                    _ => {
                        let bytes = output.sendable(watermark);
                        let count = bytes.len().min(size);
                        sent.extend_from_slice(&bytes[..count]);
                        output.sent(count);
                    }
                }
                prop_assert!(appended.starts_with(&sent));
                prop_assert!(needs[..sent.len()].iter().all(|need| *need <= watermark));
            }
            let rest = output.sendable(committed).to_vec();
            output.sent(rest.len());
            sent.extend_from_slice(&rest);
            prop_assert_eq!(sent, appended);
            prop_assert!(output.is_empty() && output.waits_for().is_none());
        }
    }
}
