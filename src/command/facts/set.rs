//! Commands on sets: members without order.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{DenyOom, Fast, MovableKeys, ReadOnly, Write};
use crate::command::facts::model::KeyFlag::{Access, Delete, Insert, Ow, Ro, Rw, Update};
use crate::command::facts::model::{
    Acl, Argument, CommandFacts, Group, KeySpec, integer, key, pattern, string,
};

const KEY: Argument = key("key", 0);
const KEYS: Argument = KEY.multiple();

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("sadd", Group::Set, -3)
        .since("1.0.0")
        .about("Adds members to a set", "O(N), N members given")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::one(1, &[Rw, Insert])])
        .arguments(&[KEY, string("member").multiple()]),
    CommandFacts::new("scard", Group::Set, 2)
        .since("1.0.0")
        .about("Tells how many members a set has", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::one(1, &[Ro])])
        .arguments(&[KEY]),
    CommandFacts::new("sdiff", Group::Set, -2)
        .since("1.0.0")
        .about("Returns what is in the first set and in none of the others", "O(N), N members of all sets")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::rest(1, &[Ro, Access])])
        .arguments(&[KEYS])
        .tips(&["nondeterministic_output_order"]),
    CommandFacts::new("sdiffstore", Group::Set, -3)
        .since("1.0.0")
        .about("Stores what is in the first set and in none of the others", "O(N), N members of all sets")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::one(1, &[Ow, Update]), KeySpec::rest(2, &[Ro, Access])])
        .arguments(&[key("destination", 0), key("key", 1).multiple()]),
    CommandFacts::new("sinter", Group::Set, -2)
        .since("1.0.0")
        .about("Returns what is in all of the sets", "O(N*M), N members of the smallest set, M sets")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::rest(1, &[Ro, Access])])
        .arguments(&[KEYS])
        .tips(&["nondeterministic_output_order"]),
    CommandFacts::new("sintercard", Group::Set, -3)
        .since("7.0.0")
        .about(
            "Counts what is in all of the sets, up to a limit",
            "O(N*M), N members of the smallest set, M sets",
        )
        .flags(&[ReadOnly, MovableKeys])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::counted(1, &[Ro, Access])])
        .arguments(&[integer("numkeys"), KEYS, integer("limit").after("LIMIT").optional()]),
    CommandFacts::new("sinterstore", Group::Set, -3)
        .since("1.0.0")
        .about("Stores what is in all of the sets", "O(N*M), N members of the smallest set, M sets")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::one(1, &[Ow, Update]), KeySpec::rest(2, &[Ro, Access])])
        .arguments(&[key("destination", 0), key("key", 1).multiple()]),
    CommandFacts::new("sismember", Group::Set, 3)
        .since("1.0.0")
        .about("Tells whether a set has a member", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::one(1, &[Ro])])
        .arguments(&[KEY, string("member")]),
    CommandFacts::new("smembers", Group::Set, 2)
        .since("1.0.0")
        .about("Returns all members of a set", "O(N), N members")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY])
        .tips(&["nondeterministic_output_order"]),
    CommandFacts::new("smismember", Group::Set, -3)
        .since("6.2.0")
        .about("Tells of each of many members whether a set has it", "O(N), N members given")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("member").multiple()]),
    CommandFacts::new("smove", Group::Set, 4)
        .since("1.0.0")
        .about("Moves a member from one set to another", "O(1)")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::one(1, &[Rw, Access, Delete]), KeySpec::one(2, &[Rw, Insert])])
        .arguments(&[key("source", 0), key("destination", 1), string("member")]),
    CommandFacts::new("spop", Group::Set, -2)
        .since("1.0.0")
        .about("Takes members out of a set at random", "O(N), N members in the set")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::one(1, &[Rw, Access, Delete])])
        .arguments(&[KEY, integer("count").since("3.2.0").optional()])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("srandmember", Group::Set, -2)
        .since("1.0.0")
        .about("Picks members of a set at random", "O(N), N members in the set")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, integer("count").since("2.6.0").optional()])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("srem", Group::Set, -3)
        .since("1.0.0")
        .about("Removes members from a set, and the key with the last of them", "O(N), N members given")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::one(1, &[Rw, Delete])])
        .arguments(&[KEY, string("member").multiple()]),
    CommandFacts::new("sscan", Group::Set, -3)
        .since("2.8.0")
        .about("Walks over the members of a set, some at each call", "O(1) a call; O(N) in all, N members")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[
            KEY,
            integer("cursor"),
            pattern("pattern").after("MATCH").optional(),
            integer("count").after("COUNT").optional(),
        ])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("sunion", Group::Set, -2)
        .since("1.0.0")
        .about("Returns what is in any of the sets", "O(N), N members of all sets")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::rest(1, &[Ro, Access])])
        .arguments(&[KEYS])
        .tips(&["nondeterministic_output_order"]),
    CommandFacts::new("sunionstore", Group::Set, -3)
        .since("1.0.0")
        .about("Stores what is in any of the sets", "O(N), N members of all sets")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::Set])
        .keys(&[KeySpec::one(1, &[Ow, Update]), KeySpec::rest(2, &[Ro, Access])])
        .arguments(&[key("destination", 0), key("key", 1).multiple()]),
];
