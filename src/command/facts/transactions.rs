//! Transactions.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{AllowBusy, Fast, Loading, NoScript, SkipSlowlog, Stale};
use crate::command::facts::model::KeyFlag::Ro;
use crate::command::facts::model::{Acl, CommandFacts, Group, KeySpec, key};

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("discard", Group::Transactions, 1)
        .since("2.0.0")
        .about("Drops the queued commands and leaves the transaction", "O(N), N queued commands")
        .flags(&[NoScript, Loading, Stale, Fast, AllowBusy])
        .own_acl(&[Acl::Transaction]),
    CommandFacts::new("exec", Group::Transactions, 1)
        .since("1.2.0")
        .about("Runs the queued commands as one transaction", "Sum of the queued commands")
        .flags(&[NoScript, Loading, Stale, SkipSlowlog])
        .own_acl(&[Acl::Transaction]),
    CommandFacts::new("multi", Group::Transactions, 1)
        .since("1.2.0")
        .about("Begins to queue commands for a transaction", "O(1)")
        .flags(&[NoScript, Loading, Stale, Fast, AllowBusy])
        .own_acl(&[Acl::Transaction]),
    CommandFacts::new("unwatch", Group::Transactions, 1)
        .since("2.2.0")
        .about("Forgets the watched keys", "O(N), N watched keys")
        .flags(&[NoScript, Loading, Stale, Fast, AllowBusy])
        .own_acl(&[Acl::Transaction]),
    CommandFacts::new("watch", Group::Transactions, -2)
        .since("2.2.0")
        .about("Lets the next EXEC run only if the given keys stay as they are", "O(N), N keys")
        .flags(&[NoScript, Loading, Stale, Fast, AllowBusy])
        .own_acl(&[Acl::Transaction])
        .keys(&[KeySpec::rest(1, &[Ro])])
        .arguments(&[key("key", 0).multiple()]),
];
