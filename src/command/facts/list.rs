//! Commands on lists, at both ends and between, and their waiting forms.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{Blocking, DenyOom, Fast, MovableKeys, ReadOnly, Write};
use crate::command::facts::model::KeyFlag::{Access, Delete, Insert, Ro, Rw, Update};
use crate::command::facts::model::{
    Acl, Argument, CommandFacts, Group, KeySpec, double, integer, key, one_of, string, token,
};

const KEY: Argument = key("key", 0);
const KEYS: Argument = KEY.multiple();
const ELEMENTS: Argument = string("element").multiple();
const WHERE: Argument = one_of("where", &[token("left", "LEFT"), token("right", "RIGHT")]);
const WHERE_FROM: Argument = one_of("wherefrom", &[token("left", "LEFT"), token("right", "RIGHT")]);
const WHERE_TO: Argument = one_of("whereto", &[token("left", "LEFT"), token("right", "RIGHT")]);

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("blmove", Group::List, 6)
        .since("6.2.0")
        .about("LMOVE that waits while the list is empty", "O(1)")
        .flags(&[Write, DenyOom, Blocking])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Rw, Access, Delete]), KeySpec::one(2, &[Rw, Insert])])
        .arguments(&[key("source", 0), key("destination", 1), WHERE_FROM, WHERE_TO, double("timeout")]),
    CommandFacts::new("blmpop", Group::List, -5)
        .since("7.0.0")
        .about("LMPOP that waits while all lists are empty", "O(N+M), N keys, M elements taken")
        .flags(&[Write, Blocking, MovableKeys])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::counted(2, &[Rw, Access, Delete])])
        .arguments(&[
            double("timeout"),
            integer("numkeys"),
            KEYS,
            WHERE,
            integer("count").after("COUNT").optional(),
        ]),
    CommandFacts::new("blpop", Group::List, -3)
        .since("2.0.0")
        .about(
            "Takes the first element of the first list that is not empty, or waits for one",
            "O(N), N keys",
        )
        .flags(&[Write, Blocking])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::range(1, -2, 1, &[Rw, Access, Delete])])
        .arguments(&[KEYS, double("timeout")]),
    CommandFacts::new("brpop", Group::List, -3)
        .since("2.0.0")
        .about("Takes the last element of the first list that is not empty, or waits for one", "O(N), N keys")
        .flags(&[Write, Blocking])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::range(1, -2, 1, &[Rw, Access, Delete])])
        .arguments(&[KEYS, double("timeout")]),
    CommandFacts::new("brpoplpush", Group::List, 4)
        .since("2.2.0")
        .about("Older name of BLMOVE from RIGHT to LEFT", "O(1)")
        .flags(&[Write, DenyOom, Blocking])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Rw, Access, Delete]), KeySpec::one(2, &[Rw, Insert])])
        .arguments(&[key("source", 0), key("destination", 1), double("timeout")])
        .deprecated("6.2.0", "BLMOVE with RIGHT and LEFT"),
    CommandFacts::new("lindex", Group::List, 3)
        .since("1.0.0")
        .about("Reads the element at a position of a list", "O(N), N elements between it and the nearer end")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, integer("index")]),
    CommandFacts::new("linsert", Group::List, 5)
        .since("2.2.0")
        .about(
            "Puts an element before or after the first one that equals a value",
            "O(N), N elements before the place",
        )
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Rw, Insert])])
        .arguments(&[
            KEY,
            one_of("where", &[token("before", "BEFORE"), token("after", "AFTER")]),
            string("pivot"),
            string("element"),
        ]),
    CommandFacts::new("llen", Group::List, 2)
        .since("1.0.0")
        .about("Tells how many elements a list has", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Ro])])
        .arguments(&[KEY]),
    CommandFacts::new("lmove", Group::List, 5)
        .since("6.2.0")
        .about("Takes an element off one end of a list and puts it on an end of another", "O(1)")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Rw, Access, Delete]), KeySpec::one(2, &[Rw, Insert])])
        .arguments(&[key("source", 0), key("destination", 1), WHERE_FROM, WHERE_TO]),
    CommandFacts::new("lmpop", Group::List, -4)
        .since("7.0.0")
        .about(
            "Takes elements off an end of the first list that is not empty",
            "O(N+M), N keys, M elements taken",
        )
        .flags(&[Write, MovableKeys])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::counted(1, &[Rw, Access, Delete])])
        .arguments(&[integer("numkeys"), KEYS, WHERE, integer("count").after("COUNT").optional()]),
    CommandFacts::new("lpop", Group::List, -2)
        .since("1.0.0")
        .about("Takes elements off the head of a list", "O(N), N elements taken")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Rw, Access, Delete])])
        .arguments(&[KEY, integer("count").since("6.2.0").optional()]),
    CommandFacts::new("lpos", Group::List, -3)
        .since("6.0.6")
        .about("Finds the positions of elements that equal a value", "O(N), N elements compared")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[
            KEY,
            string("element"),
            integer("rank").after("RANK").optional(),
            integer("num-matches").after("COUNT").optional(),
            integer("len").after("MAXLEN").optional(),
        ]),
    CommandFacts::new("lpush", Group::List, -3)
        .since("1.0.0")
        .about("Puts elements in front of the head of a list", "O(N), N elements given")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Rw, Insert])])
        .arguments(&[KEY, ELEMENTS]),
    CommandFacts::new("lpushx", Group::List, -3)
        .since("2.2.0")
        .about("Puts elements in front of the head of a list, if the list is there", "O(N), N elements given")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Rw, Insert])])
        .arguments(&[KEY, ELEMENTS]),
    CommandFacts::new("lrange", Group::List, 4)
        .since("1.0.0")
        .about(
            "Reads the elements between two positions",
            "O(N+M), N elements between the nearer end and the range, M in the range",
        )
        .flags(&[ReadOnly])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, integer("start"), integer("stop")]),
    CommandFacts::new("lrem", Group::List, 4)
        .since("1.0.0")
        .about("Removes elements that equal a value", "O(N), N elements compared")
        .flags(&[Write])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Rw, Delete])])
        .arguments(&[KEY, integer("count"), string("element")]),
    CommandFacts::new("lset", Group::List, 4)
        .since("1.0.0")
        .about("Overwrites the element at a position", "O(N), N elements between it and the nearer end")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[KEY, integer("index"), string("element")]),
    CommandFacts::new("ltrim", Group::List, 4)
        .since("1.0.0")
        .about("Removes the elements outside two positions", "O(N), N elements removed")
        .flags(&[Write])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Rw, Delete])])
        .arguments(&[KEY, integer("start"), integer("stop")]),
    CommandFacts::new("rpop", Group::List, -2)
        .since("1.0.0")
        .about("Takes elements off the tail of a list", "O(N), N elements taken")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Rw, Access, Delete])])
        .arguments(&[KEY, integer("count").since("6.2.0").optional()]),
    CommandFacts::new("rpoplpush", Group::List, 3)
        .since("1.2.0")
        .about("Older name of LMOVE from RIGHT to LEFT", "O(1)")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Rw, Access, Delete]), KeySpec::one(2, &[Rw, Insert])])
        .arguments(&[key("source", 0), key("destination", 1)])
        .deprecated("6.2.0", "LMOVE with RIGHT and LEFT"),
    CommandFacts::new("rpush", Group::List, -3)
        .since("1.0.0")
        .about("Puts elements behind the tail of a list", "O(N), N elements given")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Rw, Insert])])
        .arguments(&[KEY, ELEMENTS]),
    CommandFacts::new("rpushx", Group::List, -3)
        .since("2.2.0")
        .about("Puts elements behind the tail of a list, if the list is there", "O(N), N elements given")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::List])
        .keys(&[KeySpec::one(1, &[Rw, Insert])])
        .arguments(&[KEY, ELEMENTS]),
];
