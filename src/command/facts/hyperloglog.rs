//! Commands that count distinct elements approximately.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{Admin, DenyOom, Fast, ReadOnly, Write};
use crate::command::facts::model::KeyFlag::{Access, Insert, Ro, Rw};
use crate::command::facts::model::{Acl, Argument, CommandFacts, Group, KeySpec, key, string};

const KEY: Argument = key("key", 0);
const KEYS: Argument = KEY.multiple();

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("pfadd", Group::HyperLogLog, -2)
        .since("2.8.9")
        .about(
            "Adds elements to a HyperLogLog, which counts distinct ones in little space",
            "O(N), N elements given",
        )
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::HyperLogLog])
        .keys(&[KeySpec::one(1, &[Rw, Insert])])
        .arguments(&[KEY, string("element").optional().multiple()]),
    CommandFacts::new("pfcount", Group::HyperLogLog, -2)
        .since("2.8.9")
        .about("Estimates how many distinct elements one or many HyperLogLogs have seen", "O(N), N keys")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::HyperLogLog])
        .keys(&[KeySpec::rest(1, &[Rw, Access])])
        .arguments(&[KEYS]),
    CommandFacts::new("pfdebug", Group::HyperLogLog, 3)
        .since("2.8.9")
        .about("Shows the inside of a HyperLogLog, for tests", "O(1)")
        .flags(&[Write, DenyOom, Admin])
        .own_acl(&[Acl::HyperLogLog])
        .keys(&[KeySpec::one(2, &[Rw, Access])])
        .arguments(&[string("subcommand"), KEY])
        .internal(),
    CommandFacts::new("pfmerge", Group::HyperLogLog, -2)
        .since("2.8.9")
        .about("Joins HyperLogLogs into one", "O(N), N keys")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::HyperLogLog])
        .keys(&[KeySpec::one(1, &[Rw, Access, Insert]), KeySpec::rest(2, &[Ro, Access])])
        .arguments(&[key("destkey", 0), key("sourcekey", 1).optional().multiple()]),
    CommandFacts::new("pfselftest", Group::HyperLogLog, 1)
        .since("2.8.9")
        .about("Tests the HyperLogLog code of the server", "O(1)")
        .flags(&[Admin])
        .own_acl(&[Acl::HyperLogLog])
        .internal(),
];
