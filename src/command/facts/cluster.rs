//! Cluster commands: only the names that clients try on a server that is no cluster.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{Fast, Loading, Stale};
use crate::command::facts::model::{Acl, Argument, CommandFacts, Group, string};

/// A subcommand that exists to say that there is no cluster.
const fn sub(
    name: &'static str,
    arity: i32,
    since: &'static str,
    summary: &'static str,
    arguments: &'static [Argument],
) -> CommandFacts {
    CommandFacts::new(name, Group::Cluster, arity)
        .since(since)
        .about(summary, "O(1)")
        .flags(&[Stale])
        .arguments(arguments)
}

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("asking", Group::Cluster, 1)
        .since("3.0.0")
        .about("Lets the next command reach a slot that is being imported", "O(1)")
        .flags(&[Fast])
        .own_acl(&[Acl::Connection]),
    CommandFacts::new("cluster", Group::Cluster, -2)
        .since("3.0.0")
        .about("Groups the commands about the cluster", "Depends on the subcommand")
        .subcommands(&[
            sub("cluster|addslots", -3, "3.0.0", "Gives slots to this node", &[string("slot").multiple()]),
            sub(
                "cluster|addslotsrange",
                -4,
                "7.0.0",
                "Gives ranges of slots to this node",
                &[string("start-slot"), string("end-slot").multiple()],
            ),
            sub("cluster|bumpepoch", 2, "3.0.0", "Advances the configuration epoch", &[]),
            sub(
                "cluster|count-failure-reports",
                3,
                "3.0.0",
                "Counts the failure reports about a node",
                &[string("node-id")],
            ),
            sub("cluster|countkeysinslot", 3, "3.0.0", "Counts the keys of a slot", &[string("slot")]),
            sub("cluster|delslots", -3, "3.0.0", "Takes slots from this node", &[string("slot").multiple()]),
            sub(
                "cluster|delslotsrange",
                -4,
                "7.0.0",
                "Takes ranges of slots from this node",
                &[string("start-slot"), string("end-slot").multiple()],
            ),
            sub(
                "cluster|failover",
                -2,
                "3.0.0",
                "Makes a replica take over",
                &[string("options").optional()],
            ),
            sub("cluster|flushslots", 2, "3.0.0", "Takes all slots from this node", &[]),
            sub("cluster|forget", 3, "3.0.0", "Removes a node from the table", &[string("node-id")]),
            sub(
                "cluster|getkeysinslot",
                4,
                "3.0.0",
                "Lists keys of a slot",
                &[string("slot"), string("count")],
            ),
            sub("cluster|help", 2, "5.0.0", "Lists the subcommands", &[]),
            sub("cluster|info", 2, "3.0.0", "Describes the state of the cluster", &[]),
            sub("cluster|keyslot", 3, "3.0.0", "Tells the slot of a key", &[string("key")]),
            sub("cluster|links", 2, "7.0.0", "Lists the links between nodes", &[]),
            sub(
                "cluster|meet",
                -4,
                "3.0.0",
                "Introduces another node",
                &[string("ip"), string("port"), string("cluster-bus-port").optional()],
            ),
            sub("cluster|myid", 2, "3.0.0", "Tells the id of this node", &[]),
            sub("cluster|myshardid", 2, "7.2.0", "Tells the id of this shard", &[]),
            sub("cluster|nodes", 2, "3.0.0", "Lists the nodes", &[]),
            sub("cluster|replicas", 3, "5.0.0", "Lists the replicas of a node", &[string("node-id")]),
            sub("cluster|replicate", 3, "3.0.0", "Makes this node a replica", &[string("node-id")]),
            sub("cluster|reset", -2, "3.0.0", "Forgets the cluster", &[string("reset-type").optional()]),
            sub("cluster|saveconfig", 2, "3.0.0", "Writes the table of nodes to disk", &[]),
            sub(
                "cluster|set-config-epoch",
                3,
                "3.0.0",
                "Sets the configuration epoch",
                &[string("config-epoch")],
            ),
            sub(
                "cluster|setslot",
                -4,
                "3.0.0",
                "Moves a slot",
                &[string("slot"), string("subcommand"), string("node-id").optional()],
            ),
            sub("cluster|shards", 2, "7.0.0", "Lists shards and their slots", &[]),
            sub("cluster|slaves", 3, "3.0.0", "Lists the replicas of a node", &[string("node-id")]),
            sub("cluster|slots", 2, "3.0.0", "Lists slots and their nodes", &[]),
        ]),
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
