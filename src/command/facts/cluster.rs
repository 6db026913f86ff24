//! Cluster commands: only for clients that try them on a server that is no cluster.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{Admin, Fast, Loading, NoAsyncLoading, NoScript, Stale};
use crate::command::facts::model::{Acl, CommandFacts, Group, block, integer, one_of, string, token};

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
            CommandFacts::new("cluster|addslots", Group::Cluster, -3)
                .since("3.0.0")
                .about("Gives slots to this node", "O(1)")
                .flags(&[Admin, Stale, NoAsyncLoading])
                .arguments(&[integer("slot").multiple()]),
            CommandFacts::new("cluster|addslotsrange", Group::Cluster, -4)
                .since("7.0.0")
                .about("Gives ranges of slots to this node", "O(1)")
                .flags(&[Admin, Stale, NoAsyncLoading])
                .arguments(&[block("range", &[integer("start-slot"), integer("end-slot")]).multiple()]),
            CommandFacts::new("cluster|bumpepoch", Group::Cluster, 2)
                .since("3.0.0")
                .about("Advances the configuration epoch", "O(1)")
                .flags(&[Admin, Stale, NoAsyncLoading])
                .tips(&["nondeterministic_output"]),
            CommandFacts::new("cluster|count-failure-reports", Group::Cluster, 3)
                .since("3.0.0")
                .about("Counts the failure reports about a node", "O(1)")
                .flags(&[Admin, Stale])
                .arguments(&[string("node-id")])
                .tips(&["nondeterministic_output"]),
            CommandFacts::new("cluster|countkeysinslot", Group::Cluster, 3)
                .since("3.0.0")
                .about("Counts the keys of a slot", "O(1)")
                .flags(&[Stale])
                .arguments(&[integer("slot")]),
            CommandFacts::new("cluster|delslots", Group::Cluster, -3)
                .since("3.0.0")
                .about("Takes slots from this node", "O(1)")
                .flags(&[Admin, Stale, NoAsyncLoading])
                .arguments(&[integer("slot").multiple()]),
            CommandFacts::new("cluster|delslotsrange", Group::Cluster, -4)
                .since("7.0.0")
                .about("Takes ranges of slots from this node", "O(1)")
                .flags(&[Admin, Stale, NoAsyncLoading])
                .arguments(&[block("range", &[integer("start-slot"), integer("end-slot")]).multiple()]),
            CommandFacts::new("cluster|failover", Group::Cluster, -2)
                .since("3.0.0")
                .about("Makes a replica take over", "O(1)")
                .flags(&[Admin, Stale, NoAsyncLoading])
                .arguments(&[
                    one_of("options", &[token("force", "FORCE"), token("takeover", "TAKEOVER")]).optional()
                ]),
            CommandFacts::new("cluster|flushslots", Group::Cluster, 2)
                .since("3.0.0")
                .about("Takes all slots from this node", "O(1)")
                .flags(&[Admin, Stale, NoAsyncLoading]),
            CommandFacts::new("cluster|forget", Group::Cluster, 3)
                .since("3.0.0")
                .about("Removes a node from the table", "O(1)")
                .flags(&[Admin, Stale, NoAsyncLoading])
                .arguments(&[string("node-id")]),
            CommandFacts::new("cluster|getkeysinslot", Group::Cluster, 4)
                .since("3.0.0")
                .about("Lists keys of a slot", "O(1)")
                .flags(&[Stale])
                .arguments(&[integer("slot"), integer("count")])
                .tips(&["nondeterministic_output"]),
            CommandFacts::help("cluster|help", Group::Cluster, "5.0.0"),
            CommandFacts::new("cluster|info", Group::Cluster, 2)
                .since("3.0.0")
                .about("Describes the state of the cluster", "O(1)")
                .flags(&[Stale])
                .tips(&["nondeterministic_output"]),
            CommandFacts::new("cluster|keyslot", Group::Cluster, 3)
                .since("3.0.0")
                .about("Tells the slot of a key", "O(1)")
                .flags(&[Stale])
                .arguments(&[string("key")]),
            CommandFacts::new("cluster|links", Group::Cluster, 2)
                .since("7.0.0")
                .about("Lists the links between nodes", "O(1)")
                .flags(&[Stale])
                .tips(&["nondeterministic_output"]),
            CommandFacts::new("cluster|meet", Group::Cluster, -4)
                .since("3.0.0")
                .about("Introduces another node", "O(1)")
                .flags(&[Admin, Stale, NoAsyncLoading])
                .arguments(&[
                    string("ip"),
                    integer("port"),
                    integer("cluster-bus-port").since("4.0.0").optional(),
                ]),
            CommandFacts::new("cluster|myid", Group::Cluster, 2)
                .since("3.0.0")
                .about("Tells the id of this node", "O(1)")
                .flags(&[Stale]),
            CommandFacts::new("cluster|myshardid", Group::Cluster, 2)
                .since("7.2.0")
                .about("Tells the id of this shard", "O(1)")
                .flags(&[Stale])
                .tips(&["nondeterministic_output"]),
            CommandFacts::new("cluster|nodes", Group::Cluster, 2)
                .since("3.0.0")
                .about("Lists the nodes", "O(1)")
                .flags(&[Stale])
                .tips(&["nondeterministic_output"]),
            CommandFacts::new("cluster|replicas", Group::Cluster, 3)
                .since("5.0.0")
                .about("Lists the replicas of a node", "O(1)")
                .flags(&[Admin, Stale])
                .arguments(&[string("node-id")])
                .tips(&["nondeterministic_output"]),
            CommandFacts::new("cluster|replicate", Group::Cluster, 3)
                .since("3.0.0")
                .about("Makes this node a replica", "O(1)")
                .flags(&[Admin, Stale, NoAsyncLoading])
                .arguments(&[string("node-id")]),
            CommandFacts::new("cluster|reset", Group::Cluster, -2)
                .since("3.0.0")
                .about("Forgets the cluster", "O(1)")
                .flags(&[Admin, NoScript, Stale])
                .arguments(&[
                    one_of("reset-type", &[token("hard", "HARD"), token("soft", "SOFT")]).optional()
                ]),
            CommandFacts::new("cluster|saveconfig", Group::Cluster, 2)
                .since("3.0.0")
                .about("Writes the table of nodes to disk", "O(1)")
                .flags(&[Admin, Stale, NoAsyncLoading]),
            CommandFacts::new("cluster|set-config-epoch", Group::Cluster, 3)
                .since("3.0.0")
                .about("Sets the configuration epoch", "O(1)")
                .flags(&[Admin, Stale, NoAsyncLoading])
                .arguments(&[integer("config-epoch")]),
            CommandFacts::new("cluster|setslot", Group::Cluster, -4)
                .since("3.0.0")
                .about("Moves a slot", "O(1)")
                .flags(&[Admin, Stale, NoAsyncLoading])
                .arguments(&[
                    integer("slot"),
                    one_of(
                        "subcommand",
                        &[
                            string("importing").after("IMPORTING").display("node-id"),
                            string("migrating").after("MIGRATING").display("node-id"),
                            string("node").after("NODE").display("node-id"),
                            token("stable", "STABLE"),
                        ],
                    ),
                ]),
            CommandFacts::new("cluster|shards", Group::Cluster, 2)
                .since("7.0.0")
                .about("Lists shards and their slots", "O(1)")
                .flags(&[Loading, Stale])
                .tips(&["nondeterministic_output"]),
            CommandFacts::new("cluster|slaves", Group::Cluster, 3)
                .since("3.0.0")
                .about("Lists the replicas of a node", "O(1)")
                .flags(&[Admin, Stale])
                .arguments(&[string("node-id")])
                .tips(&["nondeterministic_output"])
                .deprecated("5.0.0", "CLUSTER REPLICAS"),
            CommandFacts::new("cluster|slots", Group::Cluster, 2)
                .since("3.0.0")
                .about("Lists slots and their nodes", "O(1)")
                .flags(&[Loading, Stale])
                .tips(&["nondeterministic_output"])
                .deprecated("7.0.0", "CLUSTER SHARDS"),
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
