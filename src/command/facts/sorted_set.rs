//! Commands on sorted sets: members in the order of their scores.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{Blocking, DenyOom, Fast, MovableKeys, ReadOnly, Write};
use crate::command::facts::model::KeyFlag::{Access, Delete, Ow, Ro, Rw, Update};
use crate::command::facts::model::{
    Acl, Argument, CommandFacts, Group, KeySpec, block, double, integer, key, one_of, pattern, string, token,
};

const KEY: Argument = key("key", 0);
const KEYS: Argument = KEY.multiple();
const WHERE: Argument = one_of("where", &[token("min", "MIN"), token("max", "MAX")]);
const LIMIT: Argument = block("limit", &[integer("offset"), integer("count")]).after("LIMIT").optional();
const WEIGHTS: Argument = integer("weight").after("WEIGHTS").optional().multiple();
const AGGREGATE: Argument =
    one_of("aggregate", &[token("sum", "SUM"), token("min", "MIN"), token("max", "MAX")])
        .after("AGGREGATE")
        .optional();
const WITH_SCORES: Argument = token("withscores", "WITHSCORES").optional();

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("bzmpop", Group::SortedSet, -5)
        .since("7.0.0")
        .about("ZMPOP that waits while all sorted sets are empty", "O(N+M), N keys, M members taken")
        .flags(&[Write, Blocking, MovableKeys])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::counted(2, &[Rw, Access, Delete])])
        .arguments(&[
            double("timeout"),
            integer("numkeys"),
            KEYS,
            WHERE,
            integer("count").after("COUNT").optional(),
        ]),
    CommandFacts::new("bzpopmax", Group::SortedSet, -3)
        .since("5.0.0")
        .about("ZPOPMAX on the first sorted set that is not empty, waiting while all are", "O(N), N keys")
        .flags(&[Write, Blocking, Fast])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::range(1, -2, 1, &[Rw, Access, Delete])])
        .arguments(&[KEYS, double("timeout")]),
    CommandFacts::new("bzpopmin", Group::SortedSet, -3)
        .since("5.0.0")
        .about("ZPOPMIN on the first sorted set that is not empty, waiting while all are", "O(N), N keys")
        .flags(&[Write, Blocking, Fast])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::range(1, -2, 1, &[Rw, Access, Delete])])
        .arguments(&[KEYS, double("timeout")]),
    CommandFacts::new("zadd", Group::SortedSet, -4)
        .since("1.2.0")
        .about(
            "Adds members with scores or changes their scores, with optional conditions",
            "O(N), N members given",
        )
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[
            KEY,
            one_of("condition", &[token("nx", "NX"), token("xx", "XX")]).since("3.0.2").optional(),
            one_of("comparison", &[token("gt", "GT"), token("lt", "LT")]).since("6.2.0").optional(),
            token("change", "CH").since("3.0.2").optional(),
            token("increment", "INCR").since("3.0.2").optional(),
            block("data", &[double("score"), string("member")]).multiple(),
        ]),
    CommandFacts::new("zcard", Group::SortedSet, 2)
        .since("1.2.0")
        .about("Tells how many members a sorted set has", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ro])])
        .arguments(&[KEY]),
    CommandFacts::new("zcount", Group::SortedSet, 4)
        .since("2.0.0")
        .about("Counts the members with scores in a range", "O(N), N members in the range")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, double("min"), double("max")]),
    CommandFacts::new("zdiff", Group::SortedSet, -3)
        .since("6.2.0")
        .about(
            "Returns what is in the first sorted set and in none of the others",
            "O(N), N members of all sorted sets",
        )
        .flags(&[ReadOnly, MovableKeys])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::counted(1, &[Ro, Access])])
        .arguments(&[integer("numkeys"), KEYS, WITH_SCORES]),
    CommandFacts::new("zdiffstore", Group::SortedSet, -4)
        .since("6.2.0")
        .about(
            "Stores what is in the first sorted set and in none of the others",
            "O(N), N members of all sorted sets",
        )
        .flags(&[Write, DenyOom, MovableKeys])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ow, Update]), KeySpec::counted(2, &[Ro, Access])])
        .arguments(&[key("destination", 0), integer("numkeys"), key("key", 1).multiple()]),
    CommandFacts::new("zincrby", Group::SortedSet, 4)
        .since("1.2.0")
        .about("Adds an amount to the score of a member", "O(1)")
        .flags(&[Write, DenyOom, Fast])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Rw, Access, Update])])
        .arguments(&[KEY, integer("increment"), string("member")]),
    CommandFacts::new("zinter", Group::SortedSet, -3)
        .since("6.2.0")
        .about(
            "Returns what is in all of the sorted sets, with combined scores",
            "O(N*M), N members of the smallest sorted set, M sorted sets",
        )
        .flags(&[ReadOnly, MovableKeys])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::counted(1, &[Ro, Access])])
        .arguments(&[integer("numkeys"), KEYS, WEIGHTS, AGGREGATE, WITH_SCORES]),
    CommandFacts::new("zintercard", Group::SortedSet, -3)
        .since("7.0.0")
        .about(
            "Counts what is in all of the sorted sets, up to a limit",
            "O(N*M), N members of the smallest sorted set, M sorted sets",
        )
        .flags(&[ReadOnly, MovableKeys])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::counted(1, &[Ro, Access])])
        .arguments(&[integer("numkeys"), KEYS, integer("limit").after("LIMIT").optional()]),
    CommandFacts::new("zinterstore", Group::SortedSet, -4)
        .since("2.0.0")
        .about(
            "Stores what is in all of the sorted sets, with combined scores",
            "O(N*M), N members of the smallest sorted set, M sorted sets",
        )
        .flags(&[Write, DenyOom, MovableKeys])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ow, Update]), KeySpec::counted(2, &[Ro, Access])])
        .arguments(&[
            key("destination", 0),
            integer("numkeys"),
            key("key", 1).multiple(),
            WEIGHTS,
            AGGREGATE,
        ]),
    CommandFacts::new("zlexcount", Group::SortedSet, 4)
        .since("2.8.9")
        .about(
            "Counts the members with names in a range, where all scores are equal",
            "O(N), N members in the range",
        )
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("min"), string("max")]),
    CommandFacts::new("zmpop", Group::SortedSet, -4)
        .since("7.0.0")
        .about(
            "Takes members with the lowest or highest scores off the first sorted set that is not empty",
            "O(N+M), N keys, M members taken",
        )
        .flags(&[Write, MovableKeys])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::counted(1, &[Rw, Access, Delete])])
        .arguments(&[integer("numkeys"), KEYS, WHERE, integer("count").after("COUNT").optional()]),
    CommandFacts::new("zmscore", Group::SortedSet, -3)
        .since("6.2.0")
        .about("Reads the scores of many members", "O(N), N members given")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("member").multiple()]),
    CommandFacts::new("zpopmax", Group::SortedSet, -2)
        .since("5.0.0")
        .about("Takes the members with the highest scores", "O(N), N members taken")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Rw, Access, Delete])])
        .arguments(&[KEY, integer("count").optional()]),
    CommandFacts::new("zpopmin", Group::SortedSet, -2)
        .since("5.0.0")
        .about("Takes the members with the lowest scores", "O(N), N members taken")
        .flags(&[Write, Fast])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Rw, Access, Delete])])
        .arguments(&[KEY, integer("count").optional()]),
    CommandFacts::new("zrandmember", Group::SortedSet, -2)
        .since("6.2.0")
        .about("Picks members of a sorted set at random", "O(N), N members in the sorted set")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, block("options", &[integer("count"), WITH_SCORES]).optional()])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("zrange", Group::SortedSet, -4)
        .since("1.2.0")
        .about("Returns members by rank, by score or by name", "O(N+M), N members skipped, M returned")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[
            KEY,
            string("start"),
            string("stop"),
            one_of("sortby", &[token("byscore", "BYSCORE"), token("bylex", "BYLEX")])
                .since("6.2.0")
                .optional(),
            token("rev", "REV").since("6.2.0").optional(),
            block("limit", &[integer("offset"), integer("count")]).after("LIMIT").since("6.2.0").optional(),
            WITH_SCORES,
        ]),
    CommandFacts::new("zrangebylex", Group::SortedSet, -4)
        .since("2.8.9")
        .about("Older form of ZRANGE with BYLEX", "O(N+M), N members skipped, M returned")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("min"), string("max"), LIMIT])
        .deprecated("6.2.0", "ZRANGE with BYLEX"),
    CommandFacts::new("zrangebyscore", Group::SortedSet, -4)
        .since("1.0.5")
        .about("Older form of ZRANGE with BYSCORE", "O(N+M), N members skipped, M returned")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[
            KEY,
            double("min"),
            double("max"),
            token("withscores", "WITHSCORES").since("2.0.0").optional(),
            LIMIT,
        ])
        .deprecated("6.2.0", "ZRANGE with BYSCORE"),
    CommandFacts::new("zrangestore", Group::SortedSet, -5)
        .since("6.2.0")
        .about("Stores members taken by rank, by score or by name", "O(N+M), N members skipped, M stored")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ow, Update]), KeySpec::one(2, &[Ro, Access])])
        .arguments(&[
            key("dst", 0),
            key("src", 1),
            string("min"),
            string("max"),
            one_of("sortby", &[token("byscore", "BYSCORE"), token("bylex", "BYLEX")]).optional(),
            token("rev", "REV").optional(),
            LIMIT,
        ]),
    CommandFacts::new("zrank", Group::SortedSet, -3)
        .since("2.0.0")
        .about("Tells how many members come before a member", "O(N), N members before it")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("member"), token("withscore", "WITHSCORE").optional()]),
    CommandFacts::new("zrem", Group::SortedSet, -3)
        .since("1.2.0")
        .about(
            "Removes members from a sorted set, and the key with the last of them",
            "O(N), N members given",
        )
        .flags(&[Write, Fast])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Rw, Delete])])
        .arguments(&[KEY, string("member").multiple()]),
    CommandFacts::new("zremrangebylex", Group::SortedSet, 4)
        .since("2.8.9")
        .about(
            "Removes the members with names in a range, where all scores are equal",
            "O(N), N members removed",
        )
        .flags(&[Write])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Rw, Delete])])
        .arguments(&[KEY, string("min"), string("max")]),
    CommandFacts::new("zremrangebyrank", Group::SortedSet, 4)
        .since("2.0.0")
        .about("Removes the members between two ranks", "O(N+M), N members skipped, M removed")
        .flags(&[Write])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Rw, Delete])])
        .arguments(&[KEY, integer("start"), integer("stop")]),
    CommandFacts::new("zremrangebyscore", Group::SortedSet, 4)
        .since("1.2.0")
        .about("Removes the members with scores in a range", "O(N), N members removed")
        .flags(&[Write])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Rw, Delete])])
        .arguments(&[KEY, double("min"), double("max")]),
    CommandFacts::new("zrevrange", Group::SortedSet, -4)
        .since("1.2.0")
        .about("Older form of ZRANGE with REV", "O(N+M), N members skipped, M returned")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, integer("start"), integer("stop"), WITH_SCORES])
        .deprecated("6.2.0", "ZRANGE with REV"),
    CommandFacts::new("zrevrangebylex", Group::SortedSet, -4)
        .since("2.8.9")
        .about("Older form of ZRANGE with REV and BYLEX", "O(N+M), N members skipped, M returned")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("max"), string("min"), LIMIT])
        .deprecated("6.2.0", "ZRANGE with REV and BYLEX"),
    CommandFacts::new("zrevrangebyscore", Group::SortedSet, -4)
        .since("2.2.0")
        .about("Older form of ZRANGE with REV and BYSCORE", "O(N+M), N members skipped, M returned")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, double("max"), double("min"), WITH_SCORES, LIMIT])
        .deprecated("6.2.0", "ZRANGE with REV and BYSCORE"),
    CommandFacts::new("zrevrank", Group::SortedSet, -3)
        .since("2.0.0")
        .about("Tells how many members come after a member", "O(N), N members after it")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("member"), token("withscore", "WITHSCORE").optional()]),
    CommandFacts::new("zscan", Group::SortedSet, -3)
        .since("2.8.0")
        .about(
            "Walks over the members of a sorted set, some at each call",
            "O(1) a call; O(N) in all, N members",
        )
        .flags(&[ReadOnly])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[
            KEY,
            integer("cursor"),
            pattern("pattern").after("MATCH").optional(),
            integer("count").after("COUNT").optional(),
        ])
        .tips(&["nondeterministic_output"]),
    CommandFacts::new("zscore", Group::SortedSet, 3)
        .since("1.2.0")
        .about("Reads the score of a member", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("member")]),
    CommandFacts::new("zunion", Group::SortedSet, -3)
        .since("6.2.0")
        .about(
            "Returns what is in any of the sorted sets, with combined scores",
            "O(N), N members of all sorted sets",
        )
        .flags(&[ReadOnly, MovableKeys])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::counted(1, &[Ro, Access])])
        .arguments(&[integer("numkeys"), KEYS, WEIGHTS, AGGREGATE, WITH_SCORES]),
    CommandFacts::new("zunionstore", Group::SortedSet, -4)
        .since("2.0.0")
        .about(
            "Stores what is in any of the sorted sets, with combined scores",
            "O(N), N members of all sorted sets",
        )
        .flags(&[Write, DenyOom, MovableKeys])
        .own_acl(&[Acl::SortedSet])
        .keys(&[KeySpec::one(1, &[Ow, Update]), KeySpec::counted(2, &[Ro, Access])])
        .arguments(&[
            key("destination", 0),
            integer("numkeys"),
            key("key", 1).multiple(),
            WEIGHTS,
            AGGREGATE,
        ]),
];
