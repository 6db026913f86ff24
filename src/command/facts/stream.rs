//! Commands on streams.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{Blocking, DenyOom, Fast, ReadOnly, Write};
use crate::command::facts::model::KeyFlag::{Access, Delete, Insert, Ro, Rw, Update};
use crate::command::facts::model::{
    Acl, Argument, BeginSearch, CommandFacts, FindKeys, Group, KeyFlagSet, KeySpec, block, integer, key,
    one_of, string, token, unix_time,
};

const KEY: Argument = key("key", 0);
const COUNT: Argument = integer("count").after("COUNT").optional();
const START: Argument = string("start");
const END: Argument = string("end");

const TRIM_PARTS: &[Argument] = &[
    one_of("strategy", &[token("maxlen", "MAXLEN"), token("minid", "MINID").since("6.2.0")]),
    one_of("operator", &[token("equal", "="), token("approximately", "~")]).optional(),
    string("threshold"),
    integer("count").after("LIMIT").since("6.2.0").optional(),
];
const ID_OR_LAST: Argument = one_of("id-selector", &[string("id"), token("new-id", "$")]);
const ENTRIES_READ: Argument =
    integer("entriesread").display("entries-read").after("ENTRIESREAD").since("7.0.0").optional();

/// The keys behind STREAMS: the first half of the words there.
const fn streams(start: i32) -> KeySpec {
    KeySpec {
        begin: BeginSearch::Keyword { keyword: "STREAMS", start },
        find: FindKeys::Range { last: -1, step: 1, limit: 2 },
        flags: KeyFlagSet::of(&[Ro, Access]),
    }
}

const STREAMS: Argument =
    block("streams", &[key("key", 0).multiple(), string("id").multiple()]).after("STREAMS");

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("xack", Group::Stream, -4)
        .since("5.0.0")
        .about("Takes entries off what a group has pending", "O(N), N ids")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[KEY, string("group"), string("id").multiple()]),
    CommandFacts::new("xadd", Group::Stream, -5)
        .since("5.0.0")
        .about("Adds an entry to a stream, and may trim it", "O(1); with trimming O(N), N entries removed")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[
            KEY,
            token("nomkstream", "NOMKSTREAM").since("6.2.0").optional(),
            block("trim", TRIM_PARTS).optional(),
            one_of("id-selector", &[token("auto-id", "*"), string("id")]),
            block("data", &[string("field"), string("value")]).multiple(),
        ])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("xautoclaim", Group::Stream, -6)
        .since("6.2.0")
        .about("Makes a consumer the owner of what others have had pending for too long", "O(N), N ids looked at")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Rw, Access, Delete])])
        .arguments(&[
            KEY,
            string("group"),
            string("consumer"),
            string("min-idle-time"),
            START,
            COUNT,
            token("justid", "JUSTID").optional(),
        ])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("xclaim", Group::Stream, -6)
        .since("5.0.0")
        .about("Makes a consumer the owner of entries that are pending", "O(N), N ids")
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
        .about("Deletes entries of a stream and counts them", "O(N), N ids")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Rw, Delete])])
        .arguments(&[KEY, string("id").multiple()]),
    CommandFacts::new("xgroup", Group::Stream, -2)
        .since("5.0.0")
        .about("Groups the commands for consumer groups", "Depends on the subcommand")
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
                    ID_OR_LAST,
                    token("mkstream", "MKSTREAM").optional(),
                    ENTRIES_READ,
                ]),
            CommandFacts::new("xgroup|createconsumer", Group::Stream, 5)
                .since("6.2.0")
                .about("Makes a consumer of a group", "O(1)")
                .flags(&[Write, DenyOom])
                .own_acl(&[Acl::Stream])
                .keys(&[KeySpec::one(2, &[Rw, Insert])])
                .arguments(&[KEY, string("group"), string("consumer")]),
            CommandFacts::new("xgroup|delconsumer", Group::Stream, 5)
                .since("5.0.0")
                .about("Deletes a consumer and what it has pending", "O(N), N entries pending")
                .flags(&[Write])
                .own_acl(&[Acl::Stream])
                .keys(&[KeySpec::one(2, &[Rw, Delete])])
                .arguments(&[KEY, string("group"), string("consumer")]),
            CommandFacts::new("xgroup|destroy", Group::Stream, 4)
                .since("5.0.0")
                .about("Deletes a consumer group", "O(1)")
                .flags(&[Write])
                .own_acl(&[Acl::Stream])
                .keys(&[KeySpec::one(2, &[Rw, Delete])])
                .arguments(&[KEY, string("group")]),
            CommandFacts::help("xgroup|help", Group::Stream, "5.0.0").own_acl(&[Acl::Stream]),
            CommandFacts::new("xgroup|setid", Group::Stream, -5)
                .since("5.0.0")
                .about("Sets where a consumer group goes on to read", "O(1)")
                .flags(&[Write])
                .own_acl(&[Acl::Stream])
                .keys(&[KeySpec::one(2, &[Rw, Update])])
                .arguments(&[KEY, string("group"), ID_OR_LAST, ENTRIES_READ]),
        ]),
    CommandFacts::new("xinfo", Group::Stream, -2)
        .since("5.0.0")
        .about("Groups the commands that look into streams", "Depends on the subcommand")
        .subcommands(&[
            CommandFacts::new("xinfo|consumers", Group::Stream, 4)
                .since("5.0.0")
                .about("Lists the consumers of a group", "O(N), N consumers")
                .flags(&[ReadOnly])
                .own_acl(&[Acl::Stream])
                .keys(&[KeySpec::one(2, &[Ro, Access])])
                .arguments(&[KEY, string("group")])
                .tips(&["nondeterministic_output"]),
            CommandFacts::new("xinfo|groups", Group::Stream, 3)
                .since("5.0.0")
                .about("Lists the consumer groups of a stream", "O(N), N groups")
                .flags(&[ReadOnly])
                .own_acl(&[Acl::Stream])
                .keys(&[KeySpec::one(2, &[Ro, Access])])
                .arguments(&[KEY]),
            CommandFacts::help("xinfo|help", Group::Stream, "5.0.0").own_acl(&[Acl::Stream]),
            CommandFacts::new("xinfo|stream", Group::Stream, -3)
                .since("5.0.0")
                .about("Tells what there is to know about a stream", "O(1); with FULL O(N), N entries shown")
                .flags(&[ReadOnly])
                .own_acl(&[Acl::Stream])
                .keys(&[KeySpec::one(2, &[Ro, Access])])
                .arguments(&[
                    KEY,
                    block("full-block", &[token("full", "FULL"), COUNT]).since("6.0.0").optional(),
                ]),
        ]),
    CommandFacts::new("xlen", Group::Stream, 2)
        .since("5.0.0")
        .about("Counts the entries of a stream", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Ro])])
        .arguments(&[KEY]),
    CommandFacts::new("xpending", Group::Stream, -3)
        .since("5.0.0")
        .about("Shows what a group has pending", "O(N), N entries looked at or consumers")
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
                    START,
                    END,
                    integer("count"),
                    string("consumer").optional(),
                ],
            )
            .optional(),
        ])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("xrange", Group::Stream, -4)
        .since("5.0.0")
        .about("Returns the entries between two ids, oldest first", "O(N), N entries returned")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, START, END, COUNT]),
    CommandFacts::new("xread", Group::Stream, -4)
        .since("5.0.0")
        .about("Returns entries behind given ids of streams, and may wait for some", "O(N), N entries returned")
        .flags(&[Blocking, ReadOnly])
        .own_acl(&[Acl::Stream])
        .keys(&[streams(1)])
        .arguments(&[COUNT, integer("milliseconds").after("BLOCK").optional(), STREAMS]),
    CommandFacts::new("xreadgroup", Group::Stream, -7)
        .since("5.0.0")
        .about(
            "Returns entries to a consumer that its group has not had, or that it has pending, and may wait for some",
            "O(N), N entries returned",
        )
        .flags(&[Blocking, Write])
        .own_acl(&[Acl::Stream])
        .keys(&[streams(4)])
        .arguments(&[
            block("group-block", &[string("group"), string("consumer")]).after("GROUP"),
            COUNT,
            integer("milliseconds").after("BLOCK").optional(),
            token("noack", "NOACK").optional(),
            STREAMS,
        ]),
    CommandFacts::new("xrevrange", Group::Stream, -4)
        .since("5.0.0")
        .about("Returns the entries between two ids, newest first", "O(N), N entries returned")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Stream])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, END, START, COUNT]),
    CommandFacts::new("xsetid", Group::Stream, -3)
        .since("5.0.0")
        .about("Sets what a stream says of its past, for programs that copy streams", "O(1)")
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
        .arguments(&[KEY, block("trim", TRIM_PARTS)])
        .tips(&["nondeterministic_output"]),
];
