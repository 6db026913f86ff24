//! Commands on streams: entries in the order of their ids, and consumer groups.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{Blocking, DenyOom, Fast, MovableKeys, ReadOnly, Write};
use crate::command::facts::model::KeyFlag::{Access, Delete, Insert, Ro, Rw, Update};
use crate::command::facts::model::{
    Acl, Argument, CommandFacts, Group, KeySpec, block, integer, key, one_of, string, token, unix_time,
};

const KEY: Argument = key("key", 0);
const KEYS: Argument = KEY.multiple();
const COUNT: Argument = integer("count").after("COUNT").optional();
const STRATEGY: Argument =
    one_of("strategy", &[token("maxlen", "MAXLEN"), token("minid", "MINID").since("6.2.0")]);
const OPERATOR: Argument = one_of("operator", &[token("equal", "="), token("approximately", "~")]).optional();
const LIMIT: Argument = integer("count").after("LIMIT").since("6.2.0").optional();
const STREAMS: Argument = block("streams", &[KEYS, string("id").multiple()]).after("STREAMS");
const START_ID: Argument = one_of("id-selector", &[string("id"), token("new-id", "$")]);

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("xack", Group::Stream, -4)
        .since("5.0.0")
        .about("Marks entries as handled by a consumer group", "O(N), N ids given")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[KEY, string("group"), string("id").multiple()]),
    CommandFacts::new("xadd", Group::Stream, -5)
        .since("5.0.0")
        .about("Appends an entry to a stream, and may trim it", "O(N), N entries trimmed")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[
            KEY,
            token("nomkstream", "NOMKSTREAM").since("6.2.0").optional(),
            block("trim", &[STRATEGY, OPERATOR, string("threshold"), LIMIT]).optional(),
            one_of("id-selector", &[token("auto-id", "*"), string("id")]),
            block("data", &[string("field"), string("value")]).multiple(),
        ])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("xautoclaim", Group::Stream, -6)
        .since("6.2.0")
        .about(
            "Gives a consumer the entries that others have left unhandled for long",
            "O(N), N entries visited",
        )
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Rw, Delete])])
        .arguments(&[
            KEY,
            string("group"),
            string("consumer"),
            string("min-idle-time"),
            string("start"),
            COUNT,
            token("justid", "JUSTID").optional(),
        ])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("xclaim", Group::Stream, -6)
        .since("5.0.0")
        .about("Gives a consumer the named entries that others have left unhandled", "O(N), N ids given")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[
            KEY,
            string("group"),
            string("consumer"),
            string("min-idle-time"),
            string("id").multiple(),
            integer("ms").after("IDLE").optional(),
            unix_time("unix-time-milliseconds").after("TIME").optional(),
            integer("count").after("RETRYCOUNT").optional(),
            token("force", "FORCE").optional(),
            token("justid", "JUSTID").optional(),
            string("lastid").after("LASTID").optional(),
        ])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("xdel", Group::Stream, -3)
        .since("5.0.0")
        .about("Deletes entries of a stream", "O(N), N ids given")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Rw, Delete])])
        .arguments(&[KEY, string("id").multiple()]),
    CommandFacts::new("xgroup", Group::Stream, -2)
        .since("5.0.0")
        .about("Groups the commands about consumer groups", "Depends on the subcommand")
        .subcommands(&[
            CommandFacts::new("xgroup|create", Group::Stream, -5)
                .since("5.0.0")
                .about("Makes a consumer group", "O(1)")
                .flags(&[Write, DenyOom])
                .own_acl(&[Acl::Stream])
                .keys(&[KeySpec::one(2, &[Rw, Insert])])
                .arguments(&[
                    KEY,
                    string("group"),
                    START_ID,
                    token("mkstream", "MKSTREAM").optional(),
                    integer("entriesread").after("ENTRIESREAD").display("entries-read").optional(),
                ]),
            CommandFacts::new("xgroup|createconsumer", Group::Stream, 5)
                .since("6.2.0")
                .about("Makes a consumer in a group", "O(1)")
                .flags(&[Write, DenyOom])
                .own_acl(&[Acl::Stream])
                .keys(&[KeySpec::one(2, &[Rw, Insert])])
                .arguments(&[KEY, string("group"), string("consumer")]),
            CommandFacts::new("xgroup|delconsumer", Group::Stream, 5)
                .since("5.0.0")
                .about(
                    "Removes a consumer and what it has not handled",
                    "O(N), N pending entries of the consumer",
                )
                .flags(&[Write])
                .own_acl(&[Acl::Stream])
                .keys(&[KeySpec::one(2, &[Rw, Delete])])
                .arguments(&[KEY, string("group"), string("consumer")]),
            CommandFacts::new("xgroup|destroy", Group::Stream, 4)
                .since("5.0.0")
                .about("Removes a consumer group", "O(N), N pending entries of the group")
                .flags(&[Write])
                .own_acl(&[Acl::Stream])
                .keys(&[KeySpec::one(2, &[Rw, Delete])])
                .arguments(&[KEY, string("group")]),
            CommandFacts::help("xgroup|help", Group::Stream, "5.0.0").own_acl(&[Acl::Stream]),
            CommandFacts::new("xgroup|setid", Group::Stream, -5)
                .since("5.0.0")
                .about("Moves the place up to which a group has delivered", "O(1)")
                .flags(&[Write])
                .own_acl(&[Acl::Stream])
                .keys(&[KeySpec::one(2, &[Rw, Update])])
                .arguments(&[
                    KEY,
                    string("group"),
                    START_ID,
                    integer("entriesread").after("ENTRIESREAD").display("entries-read").optional(),
                ]),
        ]),
    CommandFacts::new("xinfo", Group::Stream, -2)
        .since("5.0.0")
        .about("Groups the commands that look into streams", "Depends on the subcommand")
        .subcommands(&[
            CommandFacts::new("xinfo|consumers", Group::Stream, 4)
                .since("5.0.0")
                .about("Describes the consumers of a group", "O(N), N consumers")
                .flags(&[ReadOnly])
                .own_acl(&[Acl::Stream])
                .keys(&[KeySpec::one(2, &[Ro, Access])])
                .arguments(&[KEY, string("group")])
                .tips(&["nondeterministic_output"]),
            CommandFacts::new("xinfo|groups", Group::Stream, 3)
                .since("5.0.0")
                .about("Describes the consumer groups of a stream", "O(N), N groups")
                .flags(&[ReadOnly])
                .own_acl(&[Acl::Stream])
                .keys(&[KeySpec::one(2, &[Ro, Access])])
                .arguments(&[KEY]),
            CommandFacts::help("xinfo|help", Group::Stream, "5.0.0").own_acl(&[Acl::Stream]),
            CommandFacts::new("xinfo|stream", Group::Stream, -3)
                .since("5.0.0")
                .about("Describes a stream, with FULL also its entries and groups", "O(N), N entries shown")
                .flags(&[ReadOnly])
                .own_acl(&[Acl::Stream])
                .keys(&[KeySpec::one(2, &[Ro, Access])])
                .arguments(&[KEY, block("full-block", &[token("full", "FULL"), COUNT]).optional()]),
        ]),
    CommandFacts::new("xlen", Group::Stream, 2)
        .since("5.0.0")
        .about("Tells how many entries a stream has", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Ro])])
        .arguments(&[KEY]),
    CommandFacts::new("xpending", Group::Stream, -3)
        .since("5.0.0")
        .about(
            "Lists entries that were delivered to a group and are not handled yet",
            "O(N), N entries listed; without a range, N consumers",
        )
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[
            KEY,
            string("group"),
            block(
                "filters",
                &[
                    integer("min-idle-time").after("IDLE").since("6.2.0").optional(),
                    string("start"),
                    string("end"),
                    integer("count"),
                    string("consumer").optional(),
                ],
            )
            .optional(),
        ])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("xrange", Group::Stream, -4)
        .since("5.0.0")
        .about("Returns the entries between two ids", "O(N), N entries returned")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("start"), string("end"), COUNT]),
    CommandFacts::new("xread", Group::Stream, -4)
        .since("5.0.0")
        .about(
            "Returns entries of streams after given ids, or waits for some",
            "O(N+M), N keys, M entries returned",
        )
        .flags(&[ReadOnly, Blocking, MovableKeys])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::half_after_keyword("STREAMS", 1, &[Ro, Access])])
        .arguments(&[COUNT, integer("milliseconds").after("BLOCK").optional(), STREAMS]),
    CommandFacts::new("xreadgroup", Group::Stream, -7)
        .since("5.0.0")
        .about(
            "Delivers entries of streams to a consumer of a group, or waits for some",
            "O(N+M), N keys, M entries delivered",
        )
        .flags(&[Write, Blocking, MovableKeys])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::half_after_keyword("STREAMS", 4, &[Ro, Access])])
        .arguments(&[
            block("group-block", &[string("group"), string("consumer")]).after("GROUP"),
            COUNT,
            integer("milliseconds").after("BLOCK").optional(),
            token("noack", "NOACK").optional(),
            STREAMS,
        ]),
    CommandFacts::new("xrevrange", Group::Stream, -4)
        .since("5.0.0")
        .about("Returns the entries between two ids, from the last to the first", "O(N), N entries returned")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("end"), string("start"), COUNT]),
    CommandFacts::new("xsetid", Group::Stream, -3)
        .since("5.0.0")
        .about("Sets the last id of a stream, for replication", "O(1)")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[
            KEY,
            string("last-id"),
            integer("entries-added").after("ENTRIESADDED").since("7.0.0").optional(),
            string("max-deleted-id").after("MAXDELETEDID").since("7.0.0").optional(),
        ]),
    CommandFacts::new("xtrim", Group::Stream, -4)
        .since("5.0.0")
        .about("Removes the oldest entries of a stream", "O(N), N entries removed")
        .flags(&[Write])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Rw, Delete])])
        .arguments(&[KEY, block("trim", &[STRATEGY, OPERATOR, string("threshold"), LIMIT])])
        .tips(&["nondeterministic_output"]),
];
