//! Commands about the server: users, configuration, introspection, persistence, replication.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{
    Admin, AllowBusy, Asking, DenyOom, Fast, Loading, NoAsyncLoading, NoMulti, NoScript, ReadOnly, Stale,
    Write,
};
use crate::command::facts::model::KeyFlag::{Ow, Ro, Update};
use crate::command::facts::model::{
    Acl, Argument, CommandFacts, Group, KeySpec, block, integer, key, one_of, pattern, string, token,
};

const FLUSH_MODE: Argument =
    one_of("flush-type", &[token("async", "ASYNC").since("4.0.0"), token("sync", "SYNC").since("6.2.0")])
        .optional();
const PRIMARY: Argument = one_of(
    "args",
    &[
        block("host-port", &[string("host"), integer("port")]),
        block("no-one", &[token("no", "NO"), token("one", "ONE")]),
    ],
);

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("acl", Group::Server, -2)
        .since("6.0.0")
        .about("Groups the commands about users and their rights", "Depends on the subcommand")
        .subcommands(&[
            CommandFacts::new("acl|cat", Group::Server, -2)
                .since("6.0.0")
                .about("Lists the categories of commands, or the commands of one", "O(1)")
                .flags(&[NoScript, Loading, Stale])
                .arguments(&[string("category").optional()]),
            CommandFacts::new("acl|deluser", Group::Server, -3)
                .since("6.0.0")
                .about("Removes users and closes their connections", "O(N), N users")
                .flags(&[Admin, NoScript, Loading, Stale])
                .arguments(&[string("username").multiple()])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
            CommandFacts::new("acl|dryrun", Group::Server, -4)
                .since("7.0.0")
                .about("Tells whether a user might run a command, without running it", "O(1)")
                .flags(&[Admin, NoScript, Loading, Stale])
                .arguments(&[string("username"), string("command"), string("arg").optional().multiple()]),
            CommandFacts::new("acl|genpass", Group::Server, -2)
                .since("6.0.0")
                .about("Makes a random password", "O(1)")
                .flags(&[NoScript, Loading, Stale])
                .arguments(&[integer("bits").optional()]),
            CommandFacts::new("acl|getuser", Group::Server, 3)
                .since("6.0.0")
                .about("Shows the rights of one user", "O(N), N rules of the user")
                .flags(&[Admin, NoScript, Loading, Stale])
                .arguments(&[string("username")]),
            CommandFacts::help("acl|help", Group::Server, "6.0.0"),
            CommandFacts::new("acl|list", Group::Server, 2)
                .since("6.0.0")
                .about("Shows all users in the syntax of the ACL file", "O(N), N users")
                .flags(&[Admin, NoScript, Loading, Stale]),
            CommandFacts::new("acl|load", Group::Server, 2)
                .since("6.0.0")
                .about("Reads the ACL file again", "O(N), N users")
                .flags(&[Admin, NoScript, Loading, Stale]),
            CommandFacts::new("acl|log", Group::Server, -2)
                .since("6.0.0")
                .about("Shows or clears the recent denials", "O(N), N entries shown")
                .flags(&[Admin, NoScript, Loading, Stale])
                .arguments(&[one_of("operation", &[integer("count"), token("reset", "RESET")]).optional()]),
            CommandFacts::new("acl|save", Group::Server, 2)
                .since("6.0.0")
                .about("Writes the users to the ACL file", "O(N), N users")
                .flags(&[Admin, NoScript, Loading, Stale])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
            CommandFacts::new("acl|setuser", Group::Server, -3)
                .since("6.0.0")
                .about("Makes a user or changes one's rights", "O(N), N rules given")
                .flags(&[Admin, NoScript, Loading, Stale])
                .arguments(&[string("username"), string("rule").optional().multiple()])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
            CommandFacts::new("acl|users", Group::Server, 2)
                .since("6.0.0")
                .about("Lists the names of all users", "O(N), N users")
                .flags(&[Admin, NoScript, Loading, Stale]),
            CommandFacts::new("acl|whoami", Group::Server, 2)
                .since("6.0.0")
                .about("Tells the user of this connection", "O(1)")
                .flags(&[NoScript, Loading, Stale]),
        ]),
    CommandFacts::new("bgrewriteaof", Group::Server, 1)
        .since("1.0.0")
        .about("Compacts the log in the background", "O(1)")
        .flags(&[Admin, NoScript, NoAsyncLoading]),
    CommandFacts::new("bgsave", Group::Server, -1)
        .since("1.0.0")
        .about("Takes a snapshot in the background", "O(1)")
        .flags(&[Admin, NoScript, NoAsyncLoading])
        .arguments(&[token("schedule", "SCHEDULE").since("3.2.2").optional()]),
    CommandFacts::new("command", Group::Server, -1)
        .since("2.8.13")
        .about("Describes every command", "O(N), N commands")
        .flags(&[Loading, Stale])
        .own_acl(&[Acl::Connection])
        .tips(&["nondeterministic_output_order"])
        .subcommands(&[
            CommandFacts::new("command|count", Group::Server, 2)
                .since("2.8.13")
                .about("Counts the commands", "O(1)")
                .flags(&[Loading, Stale])
                .own_acl(&[Acl::Connection]),
            CommandFacts::new("command|docs", Group::Server, -2)
                .since("7.0.0")
                .about("Documents commands", "O(N), N commands asked for")
                .flags(&[Loading, Stale])
                .own_acl(&[Acl::Connection])
                .arguments(&[string("command-name").optional().multiple()])
                .tips(&["nondeterministic_output_order"]),
            CommandFacts::new("command|getkeys", Group::Server, -3)
                .since("2.8.13")
                .about("Finds the keys among the arguments of a command", "O(N), N arguments")
                .flags(&[Loading, Stale])
                .own_acl(&[Acl::Connection])
                .arguments(&[string("command"), string("arg").optional().multiple()]),
            CommandFacts::new("command|getkeysandflags", Group::Server, -3)
                .since("7.0.0")
                .about(
                    "Finds the keys among the arguments of a command, and what it does to them",
                    "O(N), N arguments",
                )
                .flags(&[Loading, Stale])
                .own_acl(&[Acl::Connection])
                .arguments(&[string("command"), string("arg").optional().multiple()]),
            CommandFacts::help("command|help", Group::Server, "5.0.0").own_acl(&[Acl::Connection]),
            CommandFacts::new("command|info", Group::Server, -2)
                .since("2.8.13")
                .about("Describes some commands", "O(N), N commands asked for")
                .flags(&[Loading, Stale])
                .own_acl(&[Acl::Connection])
                .arguments(&[string("command-name").optional().multiple()])
                .tips(&["nondeterministic_output_order"]),
            CommandFacts::new("command|list", Group::Server, -2)
                .since("7.0.0")
                .about("Lists the names of commands", "O(N), N commands")
                .flags(&[Loading, Stale])
                .own_acl(&[Acl::Connection])
                .arguments(&[one_of(
                    "filterby",
                    &[
                        string("module-name").after("MODULE"),
                        string("category").after("ACLCAT"),
                        pattern("pattern").after("PATTERN"),
                    ],
                )
                .after("FILTERBY")
                .optional()])
                .tips(&["nondeterministic_output_order"]),
        ]),
    CommandFacts::new("compact", Group::Server, -1)
        .since("0.1.0")
        .about(
            "Compacts everything, or one database, in the background",
            "O(1); the work is O(N), N bytes of data",
        )
        .flags(&[Admin, NoScript])
        .arguments(&[one_of("scope", &[token("all", "ALL"), integer("index").after("DB")]).optional()])
        .extension(),
    CommandFacts::new("config", Group::Server, -2)
        .since("2.0.0")
        .about("Groups the commands about the configuration", "Depends on the subcommand")
        .subcommands(&[
            CommandFacts::new("config|get", Group::Server, -3)
                .since("2.0.0")
                .about("Shows directives whose names match", "O(N), N directives")
                .flags(&[Admin, NoScript, Loading, Stale])
                .arguments(&[string("parameter").multiple()]),
            CommandFacts::help("config|help", Group::Server, "5.0.0"),
            CommandFacts::new("config|resetstat", Group::Server, 2)
                .since("2.0.0")
                .about("Sets the counters of INFO back to zero", "O(1)")
                .flags(&[Admin, NoScript, Loading, Stale])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
            CommandFacts::new("config|rewrite", Group::Server, 2)
                .since("2.8.0")
                .about("Writes the running configuration to its file", "O(N), N directives")
                .flags(&[Admin, NoScript, Loading, Stale])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
            CommandFacts::new("config|set", Group::Server, -4)
                .since("2.0.0")
                .about("Changes directives while the server runs, all or none", "O(N), N directives given")
                .flags(&[Admin, NoScript, Loading, Stale])
                .arguments(&[block("data", &[string("parameter"), string("value")]).multiple()])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
        ]),
    CommandFacts::new("dbsize", Group::Server, 1)
        .since("1.0.0")
        .about("Tells how many keys the database has", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Keyspace])
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"]),
    CommandFacts::new("debug", Group::Server, -2)
        .since("1.0.0")
        .about("Groups the commands for testing the server", "Depends on the subcommand")
        .flags(&[Admin, NoScript, Loading, Stale])
        .internal(),
    CommandFacts::new("failover", Group::Server, -1)
        .since("6.2.0")
        .about("Hands the role of primary over to a replica", "O(1)")
        .flags(&[Admin, NoScript, Stale])
        .arguments(&[
            block("target", &[string("host"), integer("port"), token("force", "FORCE").optional()])
                .after("TO")
                .optional(),
            token("abort", "ABORT").optional(),
            integer("milliseconds").after("TIMEOUT").optional(),
        ]),
    CommandFacts::new("flushall", Group::Server, -1)
        .since("1.0.0")
        .about("Empties all databases", "O(1)")
        .flags(&[Write])
        .own_acl(&[Acl::Keyspace, Acl::Dangerous])
        .arguments(&[FLUSH_MODE])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
    CommandFacts::new("flushdb", Group::Server, -1)
        .since("1.0.0")
        .about("Empties the database", "O(1)")
        .flags(&[Write])
        .own_acl(&[Acl::Keyspace, Acl::Dangerous])
        .arguments(&[FLUSH_MODE])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
    CommandFacts::new("info", Group::Server, -1)
        .since("1.0.0")
        .about("Reports on the server: state, counters, settings in force", "O(1)")
        .flags(&[Loading, Stale])
        .own_acl(&[Acl::Dangerous])
        .arguments(&[string("section").optional().multiple()])
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"]),
    CommandFacts::new("lastsave", Group::Server, 1)
        .since("1.0.0")
        .about("Tells the Unix time of the last snapshot", "O(1)")
        .flags(&[Loading, Stale, Fast])
        .own_acl(&[Acl::Admin, Acl::Dangerous])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("latency", Group::Server, -2)
        .since("2.8.13")
        .about("Groups the commands about slow moments", "Depends on the subcommand")
        .subcommands(&[
            CommandFacts::new("latency|doctor", Group::Server, 2)
                .since("2.8.13")
                .about("Explains the recorded latencies in words", "O(1)")
                .flags(&[Admin, NoScript, Loading, Stale])
                .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
            CommandFacts::new("latency|graph", Group::Server, 3)
                .since("2.8.13")
                .about("Draws the latencies of one event", "O(1)")
                .flags(&[Admin, NoScript, Loading, Stale])
                .arguments(&[string("event")])
                .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
            CommandFacts::help("latency|help", Group::Server, "2.8.13"),
            CommandFacts::new("latency|histogram", Group::Server, -2)
                .since("7.0.0")
                .about("Shows how long commands took, in buckets", "O(N), N commands shown")
                .flags(&[Admin, NoScript, Loading, Stale])
                .arguments(&[string("command").optional().multiple()])
                .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
            CommandFacts::new("latency|history", Group::Server, 3)
                .since("2.8.13")
                .about("Lists the recorded latencies of one event", "O(1)")
                .flags(&[Admin, NoScript, Loading, Stale])
                .arguments(&[string("event")])
                .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
            CommandFacts::new("latency|latest", Group::Server, 2)
                .since("2.8.13")
                .about("Shows the last and the worst latency of each event", "O(1)")
                .flags(&[Admin, NoScript, Loading, Stale])
                .tips(&["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]),
            CommandFacts::new("latency|reset", Group::Server, -2)
                .since("2.8.13")
                .about("Forgets recorded latencies", "O(1)")
                .flags(&[Admin, NoScript, Loading, Stale])
                .arguments(&[string("event").optional().multiple()])
                .tips(&["request_policy:all_nodes", "response_policy:agg_sum"]),
        ]),
    CommandFacts::new("lolwut", Group::Server, -1)
        .since("5.0.0")
        .about("Draws something and names the version", "O(1)")
        .flags(&[ReadOnly, Fast])
        .arguments(&[integer("version").after("VERSION").optional()]),
    CommandFacts::new("memory", Group::Server, -2)
        .since("4.0.0")
        .about("Groups the commands about memory", "Depends on the subcommand")
        .subcommands(&[
            CommandFacts::new("memory|doctor", Group::Server, 2)
                .since("4.0.0")
                .about("Explains the use of memory in words", "O(1)")
                .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"]),
            CommandFacts::help("memory|help", Group::Server, "4.0.0"),
            CommandFacts::new("memory|malloc-stats", Group::Server, 2)
                .since("4.0.0")
                .about("Reports what the allocator knows", "O(1)")
                .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"]),
            CommandFacts::new("memory|purge", Group::Server, 2)
                .since("4.0.0")
                .about("Asks the allocator to give memory back", "O(1)")
                .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
            CommandFacts::new("memory|stats", Group::Server, 2)
                .since("4.0.0")
                .about("Shows where memory goes", "O(1)")
                .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"]),
            CommandFacts::new("memory|usage", Group::Server, -3)
                .since("4.0.0")
                .about("Estimates the bytes that a key takes", "O(N), N elements sampled")
                .flags(&[ReadOnly])
                .keys(&[KeySpec::one(2, &[Ro])])
                .arguments(&[key("key", 0), integer("count").after("SAMPLES").optional()]),
        ]),
    CommandFacts::new("module", Group::Server, -2)
        .since("4.0.0")
        .about("Groups the commands about loadable modules", "Depends on the subcommand")
        .subcommands(&[
            CommandFacts::help("module|help", Group::Server, "5.0.0"),
            CommandFacts::new("module|list", Group::Server, 2)
                .since("4.0.0")
                .about("Lists the loaded modules", "O(N), N modules")
                .flags(&[Admin, NoScript])
                .tips(&["nondeterministic_output_order"]),
            CommandFacts::new("module|load", Group::Server, -3)
                .since("4.0.0")
                .about("Loads a module", "O(1)")
                .flags(&[Admin, NoScript, NoAsyncLoading])
                .arguments(&[string("path"), string("arg").optional().multiple()]),
            CommandFacts::new("module|loadex", Group::Server, -3)
                .since("7.0.0")
                .about("Loads a module with directives and arguments", "O(1)")
                .flags(&[Admin, NoScript, NoAsyncLoading])
                .arguments(&[
                    string("path"),
                    block("configs", &[string("name"), string("value")])
                        .after("CONFIG")
                        .optional()
                        .multiple_with_token(),
                    string("args").after("ARGS").optional().multiple(),
                ]),
            CommandFacts::new("module|unload", Group::Server, 3)
                .since("4.0.0")
                .about("Takes a module out", "O(1)")
                .flags(&[Admin, NoScript, NoAsyncLoading])
                .arguments(&[string("name")]),
        ]),
    CommandFacts::new("monitor", Group::Server, 1)
        .since("1.0.0")
        .about("Streams every command that the server runs", "O(1)")
        .flags(&[Admin, NoScript, Loading, Stale]),
    CommandFacts::new("psync", Group::Server, -3)
        .since("2.8.0")
        .about("Begins or resumes a replication stream", "O(1)")
        .flags(&[Admin, NoScript, NoAsyncLoading, NoMulti])
        .arguments(&[string("replicationid"), integer("offset")]),
    CommandFacts::new("replconf", Group::Server, -1)
        .since("3.0.0")
        .about("Exchanges settings between replica and primary", "O(1)")
        .flags(&[Admin, NoScript, Loading, Stale, AllowBusy])
        .internal(),
    CommandFacts::new("replicaof", Group::Server, 3)
        .since("5.0.0")
        .about("Makes the server follow a primary, or none", "O(1)")
        .flags(&[Admin, NoScript, Stale, NoAsyncLoading])
        .arguments(&[PRIMARY]),
    CommandFacts::new("restore-asking", Group::Server, -4)
        .since("3.0.0")
        .about("RESTORE as used while a slot moves between nodes", "O(N), N bytes of the value")
        .flags(&[Write, DenyOom, Asking])
        .own_acl(&[Acl::Keyspace, Acl::Dangerous])
        .keys(&[KeySpec::one(1, &[Ow, Update])])
        .arguments(&[
            key("key", 0),
            integer("ttl"),
            string("serialized-value"),
            token("replace", "REPLACE").since("3.0.0").optional(),
            token("absttl", "ABSTTL").since("5.0.0").optional(),
            integer("seconds").after("IDLETIME").since("5.0.0").optional(),
            integer("frequency").after("FREQ").since("5.0.0").optional(),
        ])
        .internal(),
    CommandFacts::new("role", Group::Server, 1)
        .since("2.8.12")
        .about("Tells whether the server is a primary or a replica, and its peers", "O(1)")
        .flags(&[NoScript, Loading, Stale, Fast])
        .own_acl(&[Acl::Admin, Acl::Dangerous]),
    CommandFacts::new("save", Group::Server, 1)
        .since("1.0.0")
        .about("Takes a snapshot and waits for it", "O(N), N keys")
        .flags(&[Admin, NoScript, NoAsyncLoading, NoMulti]),
    CommandFacts::new("shutdown", Group::Server, -1)
        .since("1.0.0")
        .about("Stops the server", "O(1)")
        .flags(&[Admin, NoScript, Loading, Stale, NoMulti, AllowBusy])
        .arguments(&[
            one_of("save-selector", &[token("nosave", "NOSAVE"), token("save", "SAVE")]).optional(),
            token("now", "NOW").since("7.0.0").optional(),
            token("force", "FORCE").since("7.0.0").optional(),
            token("abort", "ABORT").since("7.0.0").optional(),
        ]),
    CommandFacts::new("slaveof", Group::Server, 3)
        .since("1.0.0")
        .about("Older name of REPLICAOF", "O(1)")
        .flags(&[Admin, NoScript, Stale, NoAsyncLoading])
        .arguments(&[PRIMARY])
        .deprecated("5.0.0", "REPLICAOF"),
    CommandFacts::new("slowlog", Group::Server, -2)
        .since("2.2.12")
        .about("Groups the commands about the log of slow commands", "Depends on the subcommand")
        .subcommands(&[
            CommandFacts::new("slowlog|get", Group::Server, -2)
                .since("2.2.12")
                .about("Shows entries of the slow log", "O(N), N entries shown")
                .flags(&[Admin, Loading, Stale])
                .arguments(&[integer("count").optional()])
                .tips(&["request_policy:all_nodes", "nondeterministic_output"]),
            CommandFacts::help("slowlog|help", Group::Server, "6.2.0"),
            CommandFacts::new("slowlog|len", Group::Server, 2)
                .since("2.2.12")
                .about("Counts the entries of the slow log", "O(1)")
                .flags(&[Admin, Loading, Stale])
                .tips(&["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"]),
            CommandFacts::new("slowlog|reset", Group::Server, 2)
                .since("2.2.12")
                .about("Empties the slow log", "O(N), N entries")
                .flags(&[Admin, Loading, Stale])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
        ]),
    CommandFacts::new("swapdb", Group::Server, 3)
        .since("4.0.0")
        .about("Exchanges the contents of two databases", "O(N), N keys watched or waited for in them")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Keyspace, Acl::Dangerous])
        .arguments(&[integer("index1"), integer("index2")]),
    CommandFacts::new("sync", Group::Server, 1)
        .since("1.0.0")
        .about("Begins a full replication stream", "O(1)")
        .flags(&[Admin, NoScript, NoAsyncLoading, NoMulti]),
    CommandFacts::new("time", Group::Server, 1)
        .since("2.6.0")
        .about("Tells the server's clock in seconds and microseconds", "O(1)")
        .flags(&[Loading, Stale, Fast])
        .tips(&["nondeterministic_output"]),
];
