//! What is handed to connections that did not ask for it just now, on its way to the worker that has them.
//!
//! A delivery is made once, whoever and however many get it, and posted once to each worker concerned; the worker knows which of
//! its connections it is for. Both protocols' forms of a push differ in their first byte only, so one encoding serves both:
//!
//! ```text
//! *3\r\n$7\r\nmessage\r\n $4\r\nnews\r\n $5\r\nhello\r\n      RESP2
//! >3\r\n$7\r\nmessage\r\n $4\r\nnews\r\n $5\r\nhello\r\n      RESP3
//! ```

use haypile_lsm::Lsn;
use haypile_resp::{Protocol, ReplyWriter};
use std::sync::Arc;

/// The name of a channel or a pattern.
pub type Name = Arc<[u8]>;

/// Where messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// PUBLISH: subscribers of the channel, and of patterns that match it.
    Channel,
    /// SPUBLISH: subscribers of the shard channel.
    Shard,
}

/// What a worker hands to connections of its own.
#[derive(Debug)]
pub enum Delivery {
    /// A published message.
    Message(Message),
}

impl Delivery {
    /// About how much memory it takes.
    pub fn weight_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 128;
        OVERHEAD_BYTES
            + match self {
                Delivery::Message(message) => message.bytes.len() + 16 * message.patterns.len(),
            }
    }
}

/// A published message, encoded.
#[derive(Debug)]
pub struct Message {
    /// Which subscribers get it.
    pub kind: ChannelKind,
    /// Its channel.
    pub channel: Name,
    /// Patterns that match the channel.
    pub patterns: Vec<Name>,
    /// What the log has to reach before it may leave: a subscriber that acts on it finds what its publisher wrote before.
    pub need: Lsn,
    /// As RESP2 has it for subscribers of the channel.
    bytes: Vec<u8>,
    /// Where channel and payload begin in it.
    tail: usize,
}

impl Message {
    /// A message for the subscribers of `channel` and `patterns`.
    pub fn new(kind: ChannelKind, channel: &[u8], payload: &[u8], patterns: Vec<Name>, need: Lsn) -> Message {
        const HEADER_BYTES: usize = 64;
        let buffer = Vec::with_capacity(channel.len() + payload.len() + HEADER_BYTES);
        let mut writer = ReplyWriter::with_buffer(buffer, Protocol::Resp2);
        writer.push(3);
        writer.bulk(match kind {
            ChannelKind::Channel => b"message",
            ChannelKind::Shard => b"smessage",
        });
        let tail = writer.len();
        writer.bulk(channel);
        writer.bulk(payload);
        Message { kind, channel: channel.into(), patterns, need, bytes: writer.into_buffer(), tail }
    }

    /// Appends it for a subscriber of the channel.
    pub fn append(&self, buffer: &mut Vec<u8>, protocol: Protocol) {
        append_push(buffer, &self.bytes, protocol);
    }

    /// Appends it for a subscriber of a pattern.
    pub fn append_for_pattern(&self, buffer: &mut Vec<u8>, protocol: Protocol, pattern: &[u8]) {
        let mut writer = ReplyWriter::with_buffer(std::mem::take(buffer), protocol);
        writer.push(4);
        writer.bulk(b"pmessage");
        writer.bulk(pattern);
        writer.raw(self.bytes.get(self.tail..).unwrap_or_default());
        *buffer = writer.into_buffer();
    }
}

/// Appends a push that is encoded as RESP2 has it.
pub fn append_push(buffer: &mut Vec<u8>, push: &[u8], protocol: Protocol) {
    let start = buffer.len();
    buffer.extend_from_slice(push);
    if protocol == Protocol::Resp3
        && let Some(first) = buffer.get_mut(start)
    {
        *first = b'>';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_encoding_serves_both_protocols() {
        let message = Message::new(ChannelKind::Channel, b"news", b"hello", Vec::new(), 0);
        let mut buffer = b"+OK\r\n".to_vec();
        message.append(&mut buffer, Protocol::Resp2);
        assert_eq!(buffer, b"+OK\r\n*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n");
        buffer.clear();
        message.append(&mut buffer, Protocol::Resp3);
        assert_eq!(buffer, b">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n");
        buffer.clear();
        message.append_for_pattern(&mut buffer, Protocol::Resp3, b"n*");
        assert_eq!(buffer, b">4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$5\r\nhello\r\n");
        buffer.clear();
        Message::new(ChannelKind::Shard, b"", b"", Vec::new(), 0).append(&mut buffer, Protocol::Resp2);
        assert_eq!(buffer, b"*3\r\n$8\r\nsmessage\r\n$0\r\n\r\n$0\r\n\r\n");
    }
}
