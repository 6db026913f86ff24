//! Commands on keys of any type: expiry, names, copies, iteration.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{
    Blocking, DenyOom, Fast, MovableKeys, NoMulti, NoScript, ReadOnly, Write,
};
use crate::command::facts::model::KeyFlag::{Access, Delete, Incomplete, Insert, Ow, Rm, Ro, Rw, Update};
use crate::command::facts::model::{
    Acl, Argument, CommandFacts, Group, KeySpec, block, integer, key, key_pattern, one_of, pattern, string,
    token, unix_time,
};

const KEY: Argument = key("key", 0);
const CONDITION: Argument =
    one_of("condition", &[token("nx", "NX"), token("xx", "XX"), token("gt", "GT"), token("lt", "LT")])
        .since("7.0.0")
        .optional();
const LIMIT: Argument = block("limit", &[integer("offset"), integer("count")]).after("LIMIT").optional();
const BY: Argument = key_pattern("by-pattern", 1).after("BY").display("pattern").optional();
const GET: Argument =
    key_pattern("get-pattern", 1).after("GET").display("pattern").optional().multiple_with_token();
const ORDER: Argument = one_of("order", &[token("asc", "ASC"), token("desc", "DESC")]).optional();
const KEYS_MAX: Argument = integer("count").after("LIMIT").optional();
const MATCH: Argument = pattern("pattern").after("MATCH").optional();
const ALPHA: Argument = token("sorting", "ALPHA").optional();

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("copy", Group::Generic, -3)
        .since("6.2.0")
        .about("Makes a second key with the same value", "O(N), N elements; O(1) for a string")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::one(1, &[Ro, Access]), KeySpec::one(2, &[Ow, Update])])
        .arguments(&[
            key("source", 0),
            key("destination", 1),
            integer("destination-db").after("DB").optional(),
            token("replace", "REPLACE").optional(),
        ]),
    CommandFacts::new("del", Group::Generic, -2)
        .since("1.0.0")
        .about("Deletes keys of any type", "O(N), N keys, whatever they hold")
        .flags(&[Write])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::rest(1, &[Rm, Delete])])
        .arguments(&[key("key", 0).multiple()])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"]),
    CommandFacts::new("dump", Group::Generic, 2)
        .since("2.6.0")
        .about("Serializes the value of a key for RESTORE", "O(N), N bytes of the value")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("exists", Group::Generic, -2)
        .since("1.0.0")
        .about("Counts how many of the given keys are there", "O(N), N keys")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::rest(1, &[Ro])])
        .arguments(&[key("key", 0).multiple()])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"]),
    CommandFacts::new("expire", Group::Generic, -3)
        .since("1.0.0")
        .about("Lets a key expire after some seconds", "O(1)")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[KEY, integer("seconds"), CONDITION]),
    CommandFacts::new("expireat", Group::Generic, -3)
        .since("1.2.0")
        .about("Lets a key expire at a Unix time in seconds", "O(1)")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[KEY, unix_time("unix-time-seconds"), CONDITION]),
    CommandFacts::new("expiretime", Group::Generic, 2)
        .since("7.0.0")
        .about("Tells the Unix time in seconds at which a key expires", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY]),
    CommandFacts::new("keys", Group::Generic, 2)
        .since("1.0.0")
        .about("Lists all keys of the database that match a pattern", "O(N), N keys in the database")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Keyspace, Acl::Dangerous])
        .arguments(&[pattern("pattern")])
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"]),
    CommandFacts::new("migrate", Group::Generic, -6)
        .since("2.6.0")
        .about("Moves keys to another server, by DUMP here and RESTORE there", "O(N), N bytes of the values")
        .flags(&[Write, MovableKeys])
        .own_acl(&[Acl::Keyspace, Acl::Dangerous])
        .keys(&[
            KeySpec::one(3, &[Rw, Access, Delete]),
            KeySpec::after_keyword("KEYS", -2, &[Rw, Access, Delete, Incomplete]),
        ])
        .arguments(&[
            string("host"),
            integer("port"),
            one_of("key-selector", &[KEY, token("empty-string", "")]),
            integer("destination-db"),
            integer("timeout"),
            token("copy", "COPY").since("3.0.0").optional(),
            token("replace", "REPLACE").since("3.0.0").optional(),
            one_of(
                "authentication",
                &[
                    string("auth").after("AUTH").display("password").since("4.0.7"),
                    block("auth2", &[string("username"), string("password")]).after("AUTH2").since("6.0.0"),
                ],
            )
            .optional(),
            key("keys", 1).after("KEYS").display("key").since("3.0.6").optional().multiple(),
        ])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("move", Group::Generic, 3)
        .since("1.0.0")
        .about("Moves a key to another database", "O(1)")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::one(1, &[Rw, Access, Update])])
        .arguments(&[KEY, integer("db")]),
    CommandFacts::new("object", Group::Generic, -2)
        .since("2.2.3")
        .about("Groups the commands that look at how a value is kept", "Depends on the subcommand")
        .subcommands(&[
            CommandFacts::new("object|encoding", Group::Generic, 3)
                .since("2.2.3")
                .about("Names the representation in which a value is kept", "O(1)")
                .flags(&[ReadOnly])
                .own_acl(&[Acl::Keyspace])
                .keys(&[KeySpec::one(2, &[Ro])])
                .arguments(&[KEY])
                .tips(&["nondeterministic_output"]),
            CommandFacts::new("object|freq", Group::Generic, 3)
                .since("4.0.0")
                .about("Tells how often a key is used, on a logarithmic scale", "O(1)")
                .flags(&[ReadOnly])
                .own_acl(&[Acl::Keyspace])
                .keys(&[KeySpec::one(2, &[Ro])])
                .arguments(&[KEY])
                .tips(&["nondeterministic_output"]),
            CommandFacts::help("object|help", Group::Generic, "6.2.0").own_acl(&[Acl::Keyspace]),
            CommandFacts::new("object|idletime", Group::Generic, 3)
                .since("2.2.3")
                .about("Tells how many seconds ago a key was last used", "O(1)")
                .flags(&[ReadOnly])
                .own_acl(&[Acl::Keyspace])
                .keys(&[KeySpec::one(2, &[Ro])])
                .arguments(&[KEY])
                .tips(&["nondeterministic_output"]),
            CommandFacts::new("object|refcount", Group::Generic, 3)
                .since("2.2.3")
                .about("Tells how many references a value has", "O(1)")
                .flags(&[ReadOnly])
                .own_acl(&[Acl::Keyspace])
                .keys(&[KeySpec::one(2, &[Ro])])
                .arguments(&[KEY])
                .tips(&["nondeterministic_output"]),
        ]),
    CommandFacts::new("persist", Group::Generic, 2)
        .since("2.2.0")
        .about("Takes the expiry off a key", "O(1)")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[KEY]),
    CommandFacts::new("pexpire", Group::Generic, -3)
        .since("2.6.0")
        .about("Lets a key expire after some milliseconds", "O(1)")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[KEY, integer("milliseconds"), CONDITION]),
    CommandFacts::new("pexpireat", Group::Generic, -3)
        .since("2.6.0")
        .about("Lets a key expire at a Unix time in milliseconds", "O(1)")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[KEY, unix_time("unix-time-milliseconds"), CONDITION]),
    CommandFacts::new("pexpiretime", Group::Generic, 2)
        .since("7.0.0")
        .about("Tells the Unix time in milliseconds at which a key expires", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY]),
    CommandFacts::new("pkpatternmatchdel", Group::Generic, -2)
        .since("0.1.0")
        .about(
            "Deletes keys of any type that match a pattern, up to a number of them",
            "O(N), N keys in the database",
        )
        .flags(&[Write, NoMulti, NoScript])
        .own_acl(&[Acl::Keyspace, Acl::Dangerous])
        .arguments(&[pattern("pattern"), integer("max").optional()])
        .extension(),
    CommandFacts::new("pkrscanrange", Group::Generic, -4)
        .since("0.1.0")
        .about(
            "Lists keys of one type that lie between two names, from the last to the first",
            "O(N), N keys visited",
        )
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Keyspace])
        .arguments(&[string("type"), string("start"), string("end"), MATCH, KEYS_MAX])
        .extension(),
    CommandFacts::new("pkscanrange", Group::Generic, -4)
        .since("0.1.0")
        .about(
            "Lists keys of one type that lie between two names, in the order of their names",
            "O(N), N keys visited",
        )
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Keyspace])
        .arguments(&[string("type"), string("start"), string("end"), MATCH, KEYS_MAX])
        .extension(),
    CommandFacts::new("pttl", Group::Generic, 2)
        .since("2.6.0")
        .about("Tells how many milliseconds a key has left", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("randomkey", Group::Generic, 1)
        .since("1.0.0")
        .about("Picks any key of the database", "O(1)")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Keyspace])
        .tips(&["request_policy:all_shards", "response_policy:special", "nondeterministic_output"]),
    CommandFacts::new("rename", Group::Generic, 3)
        .since("1.0.0")
        .about("Gives a value another key, replacing what was there", "O(1)")
        .flags(&[Write])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::one(1, &[Rw, Access, Delete]), KeySpec::one(2, &[Ow, Update])])
        .arguments(&[KEY, key("newkey", 1)]),
    CommandFacts::new("renamenx", Group::Generic, 3)
        .since("1.0.0")
        .about("Gives a value another key, if that one is free", "O(1)")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::one(1, &[Rw, Access, Delete]), KeySpec::one(2, &[Ow, Insert])])
        .arguments(&[KEY, key("newkey", 1)]),
    CommandFacts::new("restore", Group::Generic, -4)
        .since("2.6.0")
        .about("Makes a key from what DUMP returned", "O(N), N bytes of the value")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::Keyspace, Acl::Dangerous])
        .keys(&[KeySpec::one(1, &[Ow, Update])])
        .arguments(&[
            KEY,
            integer("ttl"),
            string("serialized-value"),
            token("replace", "REPLACE").since("3.0.0").optional(),
            token("absttl", "ABSTTL").since("5.0.0").optional(),
            integer("seconds").after("IDLETIME").since("5.0.0").optional(),
            integer("frequency").after("FREQ").since("5.0.0").optional(),
        ]),
    CommandFacts::new("scan", Group::Generic, -2)
        .since("2.8.0")
        .about("Walks over the keys of the database, some at each call", "O(1) a call; O(N) in all, N keys")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Keyspace])
        .arguments(&[
            integer("cursor"),
            MATCH,
            integer("count").after("COUNT").optional(),
            string("type").after("TYPE").since("6.0.0").optional(),
        ])
        .tips(&["nondeterministic_output", "request_policy:special", "response_policy:special"]),
    CommandFacts::new("sort", Group::Generic, -2)
        .since("1.0.0")
        .about(
            "Sorts the elements of a list, set or sorted set, and may store the outcome",
            "O(N+M*log(M)), N elements read, M returned",
        )
        .flags(&[Write, DenyOom, MovableKeys])
        .own_acl(&[Acl::Set, Acl::SortedSet, Acl::List, Acl::Dangerous])
        .keys(&[
            KeySpec::one(1, &[Ro, Access]),
            KeySpec::unknown(&[Ro, Access]),
            KeySpec::unknown(&[Ow, Update]),
        ])
        .arguments(&[KEY, BY, LIMIT, GET, ORDER, ALPHA, key("destination", 2).after("STORE").optional()]),
    CommandFacts::new("sort_ro", Group::Generic, -2)
        .since("7.0.0")
        .about(
            "Sorts the elements of a list, set or sorted set, and never stores",
            "O(N+M*log(M)), N elements read, M returned",
        )
        .flags(&[ReadOnly, MovableKeys])
        .own_acl(&[Acl::Set, Acl::SortedSet, Acl::List, Acl::Dangerous])
        .keys(&[KeySpec::one(1, &[Ro, Access]), KeySpec::unknown(&[Ro, Access])])
        .arguments(&[KEY, BY, LIMIT, GET, ORDER, ALPHA]),
    CommandFacts::new("touch", Group::Generic, -2)
        .since("3.2.1")
        .about("Marks keys as just used and counts those that are there", "O(N), N keys")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::rest(1, &[Ro])])
        .arguments(&[key("key", 0).multiple()])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"]),
    CommandFacts::new("ttl", Group::Generic, 2)
        .since("1.0.0")
        .about("Tells how many seconds a key has left", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("type", Group::Generic, 2)
        .since("1.0.0")
        .about("Names the type of a value", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::one(1, &[Ro])])
        .arguments(&[KEY]),
    CommandFacts::new("unlink", Group::Generic, -2)
        .since("4.0.0")
        .about(
            "Deletes keys and leaves their space to be reclaimed later",
            "O(N), N keys, whatever they hold",
        )
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Keyspace])
        .keys(&[KeySpec::rest(1, &[Rm, Delete])])
        .arguments(&[key("key", 0).multiple()])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"]),
    CommandFacts::new("wait", Group::Generic, 3)
        .since("3.0.0")
        .about("Waits until replicas have received this connection's writes", "O(1)")
        .flags(&[Blocking])
        .own_acl(&[Acl::Connection])
        .arguments(&[integer("numreplicas"), integer("timeout")])
        .tips(&["request_policy:all_shards", "response_policy:agg_min"]),
    CommandFacts::new("waitaof", Group::Generic, 4)
        .since("7.2.0")
        .about("Waits until this connection's writes are on disk here and on replicas", "O(1)")
        .flags(&[Blocking])
        .own_acl(&[Acl::Connection])
        .arguments(&[integer("numlocal"), integer("numreplicas"), integer("timeout")])
        .tips(&["request_policy:all_shards", "response_policy:agg_min"]),
];
