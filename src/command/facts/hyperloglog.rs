//! Commands on HyperLogLogs.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{Admin, DenyOom, Fast, MayReplicate, ReadOnly, Write};
use crate::command::facts::model::KeyFlag::{Access, Insert, Ro, Rw};
use crate::command::facts::model::{Acl, CommandFacts, Group, KeySpec, key, string};

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("pfadd", Group::HyperLogLog, -2)
        .since("2.8.9")
        .about("Adds elements to a HyperLogLog, making it if it is not there", "O(N), N elements")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::HyperLogLog])
        .keys(&[KeySpec::one(1, &[Rw, Insert])])
        .arguments(&[key("key", 0), string("element").optional().multiple()]),
    CommandFacts::new("pfcount", Group::HyperLogLog, -2)
        .since("2.8.9")
        .about(
            "Estimates how many different elements were added to HyperLogLogs, taken together",
            "O(1) for one key whose count is known, else O(N), N keys",
        )
        .flags(&[ReadOnly, MayReplicate])
        .own_acl(&[Acl::HyperLogLog])
        .keys(&[KeySpec::rest(1, &[Rw, Access])])
        .arguments(&[key("key", 0).multiple()]),
    CommandFacts::new("pfdebug", Group::HyperLogLog, 3)
        .since("2.8.9")
        .about("Looks inside a HyperLogLog, for tests", "O(1)")
        .flags(&[Write, DenyOom, Admin])
        .own_acl(&[Acl::HyperLogLog])
        .keys(&[KeySpec::one(2, &[Rw, Access])])
        .arguments(&[string("subcommand"), key("key", 0)])
        .internal(),
    CommandFacts::new("pfmerge", Group::HyperLogLog, -2)
        .since("2.8.9")
        .about("Makes a HyperLogLog the union of itself and others", "O(N), N keys")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::HyperLogLog])
        .keys(&[KeySpec::one(1, &[Rw, Access, Insert]), KeySpec::rest(2, &[Ro, Access])])
        .arguments(&[key("destkey", 0), key("sourcekey", 1).optional().multiple()]),
    CommandFacts::new("pfselftest", Group::HyperLogLog, 1)
        .since("2.8.9")
        .about("Tests the code behind the HyperLogLog commands", "O(1), about a second")
        .flags(&[Admin])
        .own_acl(&[Acl::HyperLogLog])
        .internal(),
];
