//! Commands on hashes: fields with values, and the expiry of fields.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{DenyOom, Fast, ReadOnly, Write};
use crate::command::facts::model::KeyFlag::{Access, Delete, Insert, Ro, Rw, Update};
use crate::command::facts::model::{
    Acl, Argument, CommandFacts, Group, KeySpec, block, double, integer, key, one_of, pattern, string, token,
    unix_time,
};

const KEY: Argument = key("key", 0);
const FIELDS: Argument = block("fields", &[integer("numfields"), string("field").multiple()]).after("FIELDS");
const CONDITION: Argument =
    one_of("condition", &[token("nx", "NX"), token("xx", "XX"), token("gt", "GT"), token("lt", "LT")])
        .optional();
const DATA: Argument = block("data", &[string("field"), string("value")]).multiple();
const MATCH: Argument = pattern("pattern").after("MATCH").optional();
const LIMIT: Argument = integer("count").after("LIMIT").optional();

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("hdel", Group::Hash, -3)
        .since("2.0.0")
        .about("Deletes fields of a hash, and the key with the last of them", "O(N), N fields given")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Rw, Delete])])
        .arguments(&[KEY, string("field").multiple()]),
    CommandFacts::new("hexists", Group::Hash, 3)
        .since("2.0.0")
        .about("Tells whether a hash has a field", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Ro])])
        .arguments(&[KEY, string("field")]),
    CommandFacts::new("hexpire", Group::Hash, -6)
        .since("7.4.0")
        .about("Lets fields of a hash expire after some seconds", "O(N), N fields given")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[KEY, integer("seconds"), CONDITION, FIELDS]),
    CommandFacts::new("hexpireat", Group::Hash, -6)
        .since("7.4.0")
        .about("Lets fields of a hash expire at a Unix time in seconds", "O(N), N fields given")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[KEY, unix_time("unix-time-seconds"), CONDITION, FIELDS]),
    CommandFacts::new("hexpiretime", Group::Hash, -5)
        .since("7.4.0")
        .about("Tells the Unix time in seconds at which fields of a hash expire", "O(N), N fields given")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, FIELDS]),
    CommandFacts::new("hget", Group::Hash, 3)
        .since("2.0.0")
        .about("Reads one field of a hash", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("field")]),
    CommandFacts::new("hgetall", Group::Hash, 2)
        .since("2.0.0")
        .about("Reads all fields of a hash, names and values", "O(N), N fields in the hash")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY])
        .tips(&["nondeterministic_output_order"]),
    CommandFacts::new("hgetdel", Group::Hash, -5)
        .since("8.0.0")
        .about("Reads fields of a hash and deletes them", "O(N), N fields given")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Rw, Access, Delete])])
        .arguments(&[KEY, FIELDS]),
    CommandFacts::new("hgetex", Group::Hash, -5)
        .since("8.0.0")
        .about("Reads fields of a hash and changes or removes their expiry", "O(N), N fields given")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Hash])
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
            FIELDS,
        ]),
    CommandFacts::new("hincrby", Group::Hash, 4)
        .since("2.0.0")
        .about("Adds an integer to the number in a field", "O(1)")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Rw, Access, Update])])
        .arguments(&[KEY, string("field"), integer("increment")]),
    CommandFacts::new("hincrbyfloat", Group::Hash, 4)
        .since("2.6.0")
        .about("Adds a floating-point amount to the number in a field", "O(1)")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Rw, Access, Update])])
        .arguments(&[KEY, string("field"), double("increment")]),
    CommandFacts::new("hkeys", Group::Hash, 2)
        .since("2.0.0")
        .about("Lists the names of all fields of a hash", "O(N), N fields in the hash")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY])
        .tips(&["nondeterministic_output_order"]),
    CommandFacts::new("hlen", Group::Hash, 2)
        .since("2.0.0")
        .about("Tells how many fields a hash has", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Ro])])
        .arguments(&[KEY]),
    CommandFacts::new("hmget", Group::Hash, -3)
        .since("2.0.0")
        .about("Reads many fields of a hash", "O(N), N fields given")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("field").multiple()]),
    CommandFacts::new("hmset", Group::Hash, -4)
        .since("2.0.0")
        .about("Older form of HSET", "O(N), N fields given")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[KEY, DATA])
        .deprecated("4.0.0", "HSET"),
    CommandFacts::new("hpersist", Group::Hash, -5)
        .since("7.4.0")
        .about("Takes the expiry off fields of a hash", "O(N), N fields given")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[KEY, FIELDS]),
    CommandFacts::new("hpexpire", Group::Hash, -6)
        .since("7.4.0")
        .about("Lets fields of a hash expire after some milliseconds", "O(N), N fields given")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[KEY, integer("milliseconds"), CONDITION, FIELDS]),
    CommandFacts::new("hpexpireat", Group::Hash, -6)
        .since("7.4.0")
        .about("Lets fields of a hash expire at a Unix time in milliseconds", "O(N), N fields given")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[KEY, unix_time("unix-time-milliseconds"), CONDITION, FIELDS]),
    CommandFacts::new("hpexpiretime", Group::Hash, -5)
        .since("7.4.0")
        .about("Tells the Unix time in milliseconds at which fields of a hash expire", "O(N), N fields given")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, FIELDS]),
    CommandFacts::new("hpttl", Group::Hash, -5)
        .since("7.4.0")
        .about("Tells how many milliseconds fields of a hash have left", "O(N), N fields given")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, FIELDS]),
    CommandFacts::new("hrandfield", Group::Hash, -2)
        .since("6.2.0")
        .about("Picks fields of a hash at random", "O(N), N fields in the hash")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[
            KEY,
            block("options", &[integer("count"), token("withvalues", "WITHVALUES").optional()]).optional(),
        ])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("hscan", Group::Hash, -3)
        .since("2.8.0")
        .about("Walks over the fields of a hash, some at each call", "O(1) a call; O(N) in all, N fields")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[
            KEY,
            integer("cursor"),
            MATCH,
            integer("count").after("COUNT").optional(),
            token("novalues", "NOVALUES").optional(),
        ])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("hset", Group::Hash, -4)
        .since("2.0.0")
        .about("Writes fields of a hash", "O(N), N fields given")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[KEY, DATA]),
    CommandFacts::new("hsetex", Group::Hash, -6)
        .since("8.0.0")
        .about("Writes fields of a hash with their expiry, with optional conditions", "O(N), N fields given")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[
            KEY,
            one_of("condition", &[token("fnx", "FNX"), token("fxx", "FXX")]).optional(),
            one_of(
                "expiration",
                &[
                    integer("seconds").after("EX"),
                    integer("milliseconds").after("PX"),
                    unix_time("unix-time-seconds").after("EXAT"),
                    unix_time("unix-time-milliseconds").after("PXAT"),
                    token("keepttl", "KEEPTTL"),
                ],
            )
            .optional(),
            block("fields", &[integer("numfields"), DATA]).after("FIELDS"),
        ]),
    CommandFacts::new("hsetnx", Group::Hash, 4)
        .since("2.0.0")
        .about("Writes a field of a hash if it is not there", "O(1)")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Rw, Insert])])
        .arguments(&[KEY, string("field"), string("value")]),
    CommandFacts::new("hstrlen", Group::Hash, 3)
        .since("3.2.0")
        .about("Tells how many bytes the value of a field has", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Ro])])
        .arguments(&[KEY, string("field")]),
    CommandFacts::new("httl", Group::Hash, -5)
        .since("7.4.0")
        .about("Tells how many seconds fields of a hash have left", "O(N), N fields given")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, FIELDS]),
    CommandFacts::new("hvals", Group::Hash, 2)
        .since("2.0.0")
        .about("Reads the values of all fields of a hash", "O(N), N fields in the hash")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY])
        .tips(&["nondeterministic_output_order"]),
    CommandFacts::new("pkhrscanrange", Group::Hash, -4)
        .since("0.1.0")
        .about(
            "Reads fields of a hash that lie between two names, from the last to the first",
            "O(N), N fields visited",
        )
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("start"), string("end"), MATCH, LIMIT])
        .extension(),
    CommandFacts::new("pkhscanrange", Group::Hash, -4)
        .since("0.1.0")
        .about(
            "Reads fields of a hash that lie between two names, in the order of their names",
            "O(N), N fields visited",
        )
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Hash])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("start"), string("end"), MATCH, LIMIT])
        .extension(),
];
