//! Commands on places on the earth, kept in sorted sets.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{DenyOom, MovableKeys, ReadOnly, Write};
use crate::command::facts::model::KeyFlag::{Access, Ow, Ro, Rw, Update};
use crate::command::facts::model::{
    Acl, Argument, CommandFacts, Group, KeySpec, block, double, integer, key, one_of, string, token,
};

const KEY: Argument = key("key", 0);
const UNIT: Argument =
    one_of("unit", &[token("m", "M"), token("km", "KM"), token("ft", "FT"), token("mi", "MI")]);
const ORDER: Argument = one_of("order", &[token("asc", "ASC"), token("desc", "DESC")]).optional();
const COUNT: Argument =
    block("count-block", &[integer("count").after("COUNT"), token("any", "ANY").optional()]).optional();
const COUNT_6_2: Argument =
    block("count-block", &[integer("count").after("COUNT"), token("any", "ANY").since("6.2.0").optional()])
        .optional();
const STORE: Argument = one_of(
    "store",
    &[
        key("storekey", 1).after("STORE").display("key"),
        key("storedistkey", 2).after("STOREDIST").display("key"),
    ],
)
.optional();
const WITH_COORD: Argument = token("withcoord", "WITHCOORD").optional();
const WITH_DIST: Argument = token("withdist", "WITHDIST").optional();
const WITH_HASH: Argument = token("withhash", "WITHHASH").optional();
const FROM: Argument = one_of(
    "from",
    &[
        string("member").after("FROMMEMBER"),
        block("fromlonlat", &[double("longitude"), double("latitude")]).after("FROMLONLAT"),
    ],
);
const CIRCLE: Argument = block("circle", &[double("radius").after("BYRADIUS"), UNIT]);
const BOX: Argument = block("box", &[double("width").after("BYBOX"), double("height"), UNIT]);

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("geoadd", Group::Geo, -5)
        .since("3.2.0")
        .about("Adds named places to a sorted set", "O(N), N places given")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::Geo])
        .keys(&[KeySpec::one(1, &[Rw, Update])])
        .arguments(&[
            KEY,
            one_of("condition", &[token("nx", "NX"), token("xx", "XX")]).since("6.2.0").optional(),
            token("change", "CH").since("6.2.0").optional(),
            block("data", &[double("longitude"), double("latitude"), string("member")]).multiple(),
        ]),
    CommandFacts::new("geodist", Group::Geo, -4)
        .since("3.2.0")
        .about("Tells the distance between two places", "O(1)")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Geo])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("member1"), string("member2"), UNIT.optional()]),
    CommandFacts::new("geohash", Group::Geo, -2)
        .since("3.2.0")
        .about("Returns places as standard geohash texts", "O(N), N members given")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Geo])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("member").optional().multiple()]),
    CommandFacts::new("geopos", Group::Geo, -2)
        .since("3.2.0")
        .about("Reads the coordinates of places", "O(N), N members given")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Geo])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, string("member").optional().multiple()]),
    CommandFacts::new("georadius", Group::Geo, -6)
        .since("3.2.0")
        .about(
            "Older form of GEOSEARCH and GEOSEARCHSTORE around coordinates",
            "O(N), N places near the area",
        )
        .flags(&[Write, DenyOom, MovableKeys])
        .own_acl(&[Acl::Geo])
        .keys(&[
            KeySpec::one(1, &[Ro, Access]),
            KeySpec::one_after_keyword("STORE", 6, &[Ow, Update]),
            KeySpec::one_after_keyword("STOREDIST", 6, &[Ow, Update]),
        ])
        .arguments(&[
            KEY,
            double("longitude"),
            double("latitude"),
            double("radius"),
            UNIT,
            WITH_COORD,
            WITH_DIST,
            WITH_HASH,
            COUNT_6_2,
            ORDER,
            STORE,
        ])
        .deprecated("6.2.0", "GEOSEARCH or GEOSEARCHSTORE with BYRADIUS"),
    CommandFacts::new("georadius_ro", Group::Geo, -6)
        .since("3.2.10")
        .about("GEORADIUS that never stores", "O(N), N places near the area")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Geo])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[
            KEY,
            double("longitude"),
            double("latitude"),
            double("radius"),
            UNIT,
            WITH_COORD,
            WITH_DIST,
            WITH_HASH,
            COUNT_6_2,
            ORDER,
        ])
        .deprecated("6.2.0", "GEOSEARCH with BYRADIUS"),
    CommandFacts::new("georadiusbymember", Group::Geo, -5)
        .since("3.2.0")
        .about("Older form of GEOSEARCH and GEOSEARCHSTORE around a member", "O(N), N places near the area")
        .flags(&[Write, DenyOom, MovableKeys])
        .own_acl(&[Acl::Geo])
        .keys(&[
            KeySpec::one(1, &[Ro, Access]),
            KeySpec::one_after_keyword("STORE", 5, &[Ow, Update]),
            KeySpec::one_after_keyword("STOREDIST", 5, &[Ow, Update]),
        ])
        .arguments(&[
            KEY,
            string("member"),
            double("radius"),
            UNIT,
            WITH_COORD,
            WITH_DIST,
            WITH_HASH,
            COUNT,
            ORDER,
            STORE,
        ])
        .deprecated("6.2.0", "GEOSEARCH or GEOSEARCHSTORE with BYRADIUS and FROMMEMBER"),
    CommandFacts::new("georadiusbymember_ro", Group::Geo, -5)
        .since("3.2.10")
        .about("GEORADIUSBYMEMBER that never stores", "O(N), N places near the area")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Geo])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[
            KEY,
            string("member"),
            double("radius"),
            UNIT,
            WITH_COORD,
            WITH_DIST,
            WITH_HASH,
            COUNT,
            ORDER,
        ])
        .deprecated("6.2.0", "GEOSEARCH with BYRADIUS and FROMMEMBER"),
    CommandFacts::new("geosearch", Group::Geo, -7)
        .since("6.2.0")
        .about("Finds the places within a circle or a box", "O(N), N places near the area")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Geo])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[
            KEY,
            FROM,
            one_of("by", &[CIRCLE, BOX]),
            ORDER,
            COUNT,
            WITH_COORD,
            WITH_DIST,
            WITH_HASH,
        ]),
    CommandFacts::new("geosearchstore", Group::Geo, -8)
        .since("6.2.0")
        .about("Stores the places within a circle or a box", "O(N), N places near the area")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::Geo])
        .keys(&[KeySpec::one(1, &[Ow, Update]), KeySpec::one(2, &[Ro, Access])])
        .arguments(&[
            key("destination", 0),
            key("source", 1),
            FROM,
            one_of("by", &[CIRCLE, BOX]),
            ORDER,
            COUNT,
            token("storedist", "STOREDIST").optional(),
        ]),
];
