//! Cluster commands: only the names that clients try on a server that is no cluster.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{Fast, Loading, Stale};
use crate::command::facts::model::{Acl, CommandFacts, Group};

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("asking", Group::Cluster, 1)
        .since("3.0.0")
        .about("Lets the next command reach a slot that is being imported", "O(1)")
        .flags(&[Fast])
        .own_acl(&[Acl::Connection]),
    CommandFacts::new("cluster", Group::Cluster, -2)
        .since("3.0.0")
        .about("Groups the commands about the cluster", "Depends on the subcommand"),
    CommandFacts::new("readonly", Group::Cluster, 1)
        .since("3.0.0")
        .about("Lets this connection read from a replica in a cluster", "O(1)")
        .flags(&[Loading, Stale, Fast])
        .own_acl(&[Acl::Connection]),
    CommandFacts::new("readwrite", Group::Cluster, 1)
        .since("3.0.0")
        .about("Ends READONLY", "O(1)")
        .flags(&[Loading, Stale, Fast])
        .own_acl(&[Acl::Connection]),
];
