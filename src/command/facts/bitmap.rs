//! Commands on the bits of a string.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{DenyOom, Fast, ReadOnly, Write};
use crate::command::facts::model::KeyFlag::{Access, Ow, Ro, Rw, Update, VariableFlags};
use crate::command::facts::model::{
    Acl, Argument, CommandFacts, Group, KeySpec, block, integer, key, one_of, string, token,
};

const KEY: Argument = key("key", 0);

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("bitcount", Group::Bitmap, -2)
        .since("2.6.0")
        .about("Counts the one bits of a string or of a part of it", "O(N), N bytes counted")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Bitmap])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[
            KEY,
            block(
                "range",
                &[
                    integer("start"),
                    integer("end"),
                    one_of("unit", &[token("byte", "BYTE"), token("bit", "BIT")]).since("7.0.0").optional(),
                ],
            )
            .optional(),
        ]),
    CommandFacts::new("bitfield", Group::Bitmap, -2)
        .since("3.2.0")
        .about(
            "Reads, writes and increments integers of any width packed into a string",
            "O(N), N operations",
        )
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::Bitmap])
        .keys(&[KeySpec::one(1, &[Rw, Access, Update, VariableFlags])])
        .arguments(&[
            KEY,
            one_of(
                "operation",
                &[
                    block("get-block", &[string("encoding"), integer("offset")]).after("GET"),
                    block(
                        "write",
                        &[
                            one_of(
                                "overflow-block",
                                &[token("wrap", "WRAP"), token("sat", "SAT"), token("fail", "FAIL")],
                            )
                            .after("OVERFLOW")
                            .optional(),
                            one_of(
                                "write-operation",
                                &[
                                    block(
                                        "set-block",
                                        &[string("encoding"), integer("offset"), integer("value")],
                                    )
                                    .after("SET"),
                                    block(
                                        "incrby-block",
                                        &[string("encoding"), integer("offset"), integer("increment")],
                                    )
                                    .after("INCRBY"),
                                ],
                            ),
                        ],
                    ),
                ],
            )
            .optional()
            .multiple(),
        ]),
    CommandFacts::new("bitfield_ro", Group::Bitmap, -2)
        .since("6.0.0")
        .about("Reads integers of any width packed into a string", "O(N), N operations")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Bitmap])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[
            KEY,
            block("get-block", &[string("encoding"), integer("offset")])
                .after("GET")
                .optional()
                .multiple_with_token(),
        ]),
    CommandFacts::new("bitop", Group::Bitmap, -4)
        .since("2.6.0")
        .about("Combines strings bit by bit and stores the outcome", "O(N), N bytes of the longest string")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::Bitmap])
        .keys(&[KeySpec::one(2, &[Ow, Update]), KeySpec::rest(3, &[Ro, Access])])
        .arguments(&[
            one_of(
                "operation",
                &[token("and", "AND"), token("or", "OR"), token("xor", "XOR"), token("not", "NOT")],
            ),
            key("destkey", 0),
            key("key", 1).multiple(),
        ]),
    CommandFacts::new("bitpos", Group::Bitmap, -3)
        .since("2.8.7")
        .about("Finds the first one or zero bit of a string or of a part of it", "O(N), N bytes searched")
        .flags(&[ReadOnly])
        .own_acl(&[Acl::Bitmap])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[
            KEY,
            integer("bit"),
            block(
                "range",
                &[
                    integer("start"),
                    block(
                        "end-unit-block",
                        &[
                            integer("end"),
                            one_of("unit", &[token("byte", "BYTE"), token("bit", "BIT")])
                                .since("7.0.0")
                                .optional(),
                        ],
                    )
                    .optional(),
                ],
            )
            .optional(),
        ]),
    CommandFacts::new("getbit", Group::Bitmap, 3)
        .since("2.2.0")
        .about("Reads one bit of a string", "O(1)")
        .flags(&[ReadOnly, Fast])
        .own_acl(&[Acl::Bitmap])
        .keys(&[KeySpec::one(1, &[Ro, Access])])
        .arguments(&[KEY, integer("offset")]),
    CommandFacts::new("setbit", Group::Bitmap, 4)
        .since("2.2.0")
        .about("Writes one bit of a string and returns the old one", "O(1)")
        .flags(&[Write, DenyOom])
        .own_acl(&[Acl::Bitmap])
        .keys(&[KeySpec::one(1, &[Rw, Access, Update])])
        .arguments(&[KEY, integer("offset"), integer("value")]),
];
