//! String commands: whole values, parts of them, and numbers kept in them.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{DenyOom, Fast, ReadOnly, Write};
use crate::command::facts::model::KeyFlag::{Access, Delete, Insert, Ow, Ro, Rw, Update, VariableFlags};
use crate::command::facts::model::{
    Acl, Argument, CommandFacts, Group, KeySpec, block, double, integer, key, one_of, string, token,
    unix_time,
};

const KEY: Argument = key("key", 0);

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("append", Group::String, 3)
        .since("2.0.0")
        .about("Adds bytes to the end of a string", "O(1) amortized")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Rw, Insert])])
        .arguments(&[KEY, string("value")]),
    CommandFacts::new("decr", Group::String, 2)
        .since("1.0.0")
        .about("Subtracts one from a number", "O(1)")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Rw, Access, Update])])
        .arguments(&[KEY]),
    CommandFacts::new("decrby", Group::String, 3)
        .since("1.0.0")
        .about("Subtracts an integer from a number", "O(1)")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Rw, Access, Update])])
        .arguments(&[KEY, integer("decrement")]),
    CommandFacts::new("get", Group::String, 2)
        .since("1.0.0")
        .about("Reads a string", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY]),
    CommandFacts::new("getdel", Group::String, 2)
        .since("6.2.0")
        .about("Reads a string and deletes its key", "O(1)")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Rw, Access, Delete])])
        .arguments(&[KEY]),
    CommandFacts::new("getex", Group::String, -2)
        .since("6.2.0")
        .about("Reads a string and changes or removes its expiry", "O(1)")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Rw, Access, Update])])
        .arguments(&[
            KEY,
            one_of(
                "expiration",
                &[
                    integer("seconds").after("EX"),
                    integer("milliseconds").after("PX"),
                    unix_time("unix-time-seconds").after("EXAT"),
                    unix_time("unix-time-milliseconds").after("PXAT"),
                    token("persist", "PERSIST"),
                ],
            )
            .optional(),
        ]),
    CommandFacts::new("getrange", Group::String, 4)
        .since("2.4.0")
        .about("Reads a part of a string", "O(N), N bytes read")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, integer("start"), integer("end")]),
    CommandFacts::new("getset", Group::String, 3)
        .since("1.0.0")
        .about("Writes a string and returns what it replaced", "O(1)")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Rw, Access, Update])])
        .arguments(&[KEY, string("value")])
        .deprecated("6.2.0", "SET with GET"),
    CommandFacts::new("incr", Group::String, 2)
        .since("1.0.0")
        .about("Adds one to a number", "O(1)")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Rw, Access, Update])])
        .arguments(&[KEY]),
    CommandFacts::new("incrby", Group::String, 3)
        .since("1.0.0")
        .about("Adds an integer to a number", "O(1)")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Rw, Access, Update])])
        .arguments(&[KEY, integer("increment")]),
    CommandFacts::new("incrbyfloat", Group::String, 3)
        .since("2.6.0")
        .about("Adds a floating-point amount to a number", "O(1)")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Rw, Access, Update])])
        .arguments(&[KEY, double("increment")]),
    CommandFacts::new("lcs", Group::String, -3)
        .since("7.0.0")
        .about("Finds the longest common subsequence of two strings", "O(N*M), the lengths of the strings")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::range(1, 1, 1, &[Ro, Access])])
        .arguments(&[
            key("key1", 0),
            key("key2", 0),
            token("len", "LEN").optional(),
            token("idx", "IDX").optional(),
            integer("min-match-len").after("MINMATCHLEN").optional(),
            token("withmatchlen", "WITHMATCHLEN").optional(),
        ]),
    CommandFacts::new("mget", Group::String, -2)
        .since("1.0.0")
        .about("Reads many strings at one point in time", "O(N), N keys")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::rest(1, &[Ro, Access])])
        .arguments(&[key("key", 0).multiple()])
        .tips(&["request_policy:multi_shard"]),
    CommandFacts::new("mset", Group::String, -3)
        .since("1.0.1")
        .about("Writes many strings in one step", "O(N), N keys")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::range(1, -1, 2, &[Ow, Update])])
        .arguments(&[block("data", &[KEY, string("value")]).multiple()])
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"]),
    CommandFacts::new("msetnx", Group::String, -3)
        .since("1.0.1")
        .about("Writes many strings in one step, if none of the keys is there", "O(N), N keys")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::range(1, -1, 2, &[Ow, Insert])])
        .arguments(&[block("data", &[KEY, string("value")]).multiple()]),
    CommandFacts::new("psetex", Group::String, 4)
        .since("2.6.0")
        .about("Writes a string that expires after some milliseconds", "O(1)")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Ow, Update])])
        .arguments(&[KEY, integer("milliseconds"), string("value")])
        .deprecated("2.6.12", "SET with PX"),
    CommandFacts::new("set", Group::String, -3)
        .since("1.0.0")
        .about("Writes a string over whatever the key held, with optional conditions and expiry", "O(1)")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Rw, Access, Update, VariableFlags])])
        .arguments(&[
            KEY,
            string("value"),
            one_of("condition", &[token("nx", "NX"), token("xx", "XX")]).since("2.6.12").optional(),
            token("get", "GET").since("6.2.0").optional(),
            one_of(
                "expiration",
                &[
                    integer("seconds").after("EX").since("2.6.12"),
                    integer("milliseconds").after("PX").since("2.6.12"),
                    unix_time("unix-time-seconds").after("EXAT").since("6.2.0"),
                    unix_time("unix-time-milliseconds").after("PXAT").since("6.2.0"),
                    token("keepttl", "KEEPTTL").since("6.0.0"),
                ],
            )
            .optional(),
        ]),
    CommandFacts::new("setex", Group::String, 4)
        .since("2.0.0")
        .about("Writes a string that expires after some seconds", "O(1)")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Ow, Update])])
        .arguments(&[KEY, integer("seconds"), string("value")])
        .deprecated("2.6.12", "SET with EX"),
    CommandFacts::new("setnx", Group::String, 3)
        .since("1.0.0")
        .about("Writes a string if the key is not there", "O(1)")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Ow, Insert])])
        .arguments(&[KEY, string("value")])
        .deprecated("2.6.12", "SET with NX"),
    CommandFacts::new("setrange", Group::String, 4)
        .since("2.2.0")
        .about(
            "Overwrites a part of a string, padding it with zero bytes up to the offset",
            "O(N), N bytes written",
        )
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[KEY, integer("offset"), string("value")]),
    CommandFacts::new("strlen", Group::String, 2)
        .since("2.2.0")
        .about("Tells how many bytes a string has", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Ro])])
        .arguments(&[KEY]),
    CommandFacts::new("substr", Group::String, 4)
        .since("1.0.0")
        .about("Older name of GETRANGE", "O(N), N bytes read")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::String])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, integer("start"), integer("end")])
        .deprecated("2.0.0", "GETRANGE"),
];
