//! What is handed to connections that did not ask for it just now, on its way to the worker that has them.
//!
//! A delivery is made once, whoever and however many get it, and posted once to each worker concerned; the worker knows which of
//! its connections it is for. Both protocols' forms of a push differ in their first byte only, so one encoding serves both:
//!
//! ```text
//! *3\r\n$7\r\nmessage\r\n $4\r\nnews\r\n $5\r\nhello\r\n      RESP2
//! >3\r\n$7\r\nmessage\r\n $4\r\nnews\r\n $5\r\nhello\r\n      RESP3
//! ```

use crate::store::events::OwnShare;
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

/// A connection that gets messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The client.
    pub client: u64,
    /// Its place in the worker.
    pub place: usize,
}

/// What a worker hands to connections of its own.
#[derive(Debug)]
pub enum Delivery {
    /// A published message.
    Message(Message),
    /// Keys to be forgotten by those who cache them.
    Invalidation(Invalidation),
    /// Whoever is told in this client's stead has gone.
    BrokenRedirect {
        /// The client.
        to: Subscriber,
        /// Who has gone.
        redirect: u64,
    },
    /// A command, for those who see all.
    Line(Vec<u8>),
}

impl Delivery {
    /// About how much memory it takes.
    pub fn weight_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 128;
        OVERHEAD_BYTES
            + match self {
                Delivery::Message(message) => message.bytes.len() + 16 * message.patterns.len(),
                Delivery::Invalidation(invalidation) => {
                    invalidation.keys.as_ref().map_or(0, Vec::len) + 24 * invalidation.to.len()
                }
                Delivery::BrokenRedirect { .. } => 0,
                Delivery::Line(line) => line.len(),
            }
    }
}

/// Who published a message within a transaction, and what comes back to it, whatever it is subscribed to by now.
#[derive(Debug)]
pub struct OwnReceipt {
    /// The client.
    pub client: Subscriber,
    /// Its worker.
    pub worker: usize,
    /// What it gets.
    pub share: OwnShare,
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
    /// Its publisher, if that was settled when it was published.
    pub publisher: Option<OwnReceipt>,
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
        let (channel, bytes) = (channel.into(), writer.into_buffer());
        Message { kind, channel, patterns, need, publisher: None, bytes, tail }
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

/// Keys that clients are to forget.
#[derive(Debug)]
pub struct Invalidation {
    /// Who is told, and whether in another's stead.
    pub to: Vec<(Subscriber, bool)>,
    /// What the log has to reach before it may leave.
    pub need: Lsn,
    /// The keys, as an array; `None` for all.
    keys: Option<Vec<u8>>,
}

impl Invalidation {
    /// To forget these keys, or all.
    pub fn new(to: Vec<(Subscriber, bool)>, keys: Option<&[&[u8]]>, need: Lsn) -> Invalidation {
        let keys = keys.map(|keys| {
            let mut writer = ReplyWriter::new(Protocol::Resp2);
            writer.array(keys.len());
            keys.iter().for_each(|key| writer.bulk(key));
            writer.into_buffer()
        });
        Invalidation { to, need, keys }
    }

    /// Appends it. In RESP2 it can only be said as a message, and only to a subscriber that is told in another's stead.
    pub fn append(&self, buffer: &mut Vec<u8>, protocol: Protocol, in_stead: bool, is_subscribed: bool) {
        let mut writer = ReplyWriter::with_buffer(std::mem::take(buffer), protocol);
        let is_told = match protocol {
            Protocol::Resp3 => {
                writer.push(2);
                writer.bulk(b"invalidate");
                true
            }
            Protocol::Resp2 if in_stead && is_subscribed => {
                writer.push(3);
                writer.bulk(b"message");
                writer.bulk(b"__redis__:invalidate");
                true
            }
            Protocol::Resp2 => false,
        };
        match &self.keys {
            _ if !is_told => {}
            Some(keys) => writer.raw(keys),
            None => writer.null(),
        }
        *buffer = writer.into_buffer();
    }
}

/// Appends that whoever is told in a client's stead has gone. RESP2 cannot say it.
pub fn append_broken_redirect(buffer: &mut Vec<u8>, protocol: Protocol, redirect: u64) {
    if protocol == Protocol::Resp3 {
        let mut writer = ReplyWriter::with_buffer(std::mem::take(buffer), protocol);
        writer.push(2);
        writer.bulk(b"tracking-redir-broken");
        writer.integer(redirect as i64);
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
