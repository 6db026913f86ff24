//! Commands about channels and subscriptions.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{Fast, Loading, NoScript, PubSub, Stale};
use crate::command::facts::model::KeyFlag::NotKey;
use crate::command::facts::model::{CommandFacts, Group, KeySpec, pattern, string};

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("psubscribe", Group::PubSub, -2)
        .since("2.0.0")
        .about("Subscribes to the channels that match patterns", "O(N), N patterns")
        .flags(&[PubSub, NoScript, Loading, Stale])
        .arguments(&[pattern("pattern").multiple()]),
    CommandFacts::new("publish", Group::PubSub, 3)
        .since("2.0.0")
        .about("Sends a message to a channel", "O(N+M), N receivers, M patterns in use")
        .flags(&[PubSub, Loading, Stale, Fast])
        .arguments(&[string("channel"), string("message")]),
    CommandFacts::new("pubsub", Group::PubSub, -2)
        .since("2.8.0")
        .about("Groups the commands about subscriptions", "Depends on the subcommand")
        .subcommands(&[
            CommandFacts::new("pubsub|channels", Group::PubSub, -2)
                .since("2.8.0")
                .about("Lists the channels that have subscribers", "O(N), N channels")
                .flags(&[PubSub, Loading, Stale])
                .arguments(&[pattern("pattern").optional()]),
            CommandFacts::help("pubsub|help", Group::PubSub, "6.2.0"),
            CommandFacts::new("pubsub|numpat", Group::PubSub, 2)
                .since("2.8.0")
                .about("Counts the patterns subscribed to", "O(1)")
                .flags(&[PubSub, Loading, Stale]),
            CommandFacts::new("pubsub|numsub", Group::PubSub, -2)
                .since("2.8.0")
                .about("Counts the subscribers of channels", "O(N), N channels asked for")
                .flags(&[PubSub, Loading, Stale])
                .arguments(&[string("channel").optional().multiple()]),
            CommandFacts::new("pubsub|shardchannels", Group::PubSub, -2)
                .since("7.0.0")
                .about("Lists the shard channels that have subscribers", "O(N), N channels")
                .flags(&[PubSub, Loading, Stale])
                .arguments(&[pattern("pattern").optional()]),
            CommandFacts::new("pubsub|shardnumsub", Group::PubSub, -2)
                .since("7.0.0")
                .about("Counts the subscribers of shard channels", "O(N), N channels asked for")
                .flags(&[PubSub, Loading, Stale])
                .arguments(&[string("shardchannel").optional().multiple()]),
        ]),
    CommandFacts::new("punsubscribe", Group::PubSub, -1)
        .since("2.0.0")
        .about("Ends subscriptions to patterns", "O(N), N patterns")
        .flags(&[PubSub, NoScript, Loading, Stale])
        .arguments(&[pattern("pattern").optional().multiple()]),
    CommandFacts::new("spublish", Group::PubSub, 3)
        .since("7.0.0")
        .about("Sends a message to a shard channel", "O(N), N receivers")
        .flags(&[PubSub, Loading, Stale, Fast])
        .keys(&[KeySpec::one(1, &[NotKey])])
        .arguments(&[string("shardchannel"), string("message")]),
    CommandFacts::new("ssubscribe", Group::PubSub, -2)
        .since("7.0.0")
        .about("Subscribes to shard channels", "O(N), N channels")
        .flags(&[PubSub, NoScript, Loading, Stale])
        .keys(&[KeySpec::rest(1, &[NotKey])])
        .arguments(&[string("shardchannel").multiple()]),
    CommandFacts::new("subscribe", Group::PubSub, -2)
        .since("2.0.0")
        .about("Subscribes to channels", "O(N), N channels")
        .flags(&[PubSub, NoScript, Loading, Stale])
        .arguments(&[string("channel").multiple()]),
    CommandFacts::new("sunsubscribe", Group::PubSub, -1)
        .since("7.0.0")
        .about("Ends subscriptions to shard channels", "O(N), N channels")
        .flags(&[PubSub, NoScript, Loading, Stale])
        .keys(&[KeySpec::rest(1, &[NotKey])])
        .arguments(&[string("shardchannel").optional().multiple()]),
    CommandFacts::new("unsubscribe", Group::PubSub, -1)
        .since("2.0.0")
        .about("Ends subscriptions to channels", "O(N), N channels")
        .flags(&[PubSub, NoScript, Loading, Stale])
        .arguments(&[string("channel").optional().multiple()]),
];
