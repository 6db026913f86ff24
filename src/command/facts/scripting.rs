//! Commands about libraries of functions, as far as an empty library needs them.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{AllowBusy, NoScript, Write};
use crate::command::facts::model::{Acl, CommandFacts, Group, one_of, string, token};

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[CommandFacts::new("function", Group::Scripting, -2)
    .since("7.0.0")
    .about("Groups the commands about functions", "Depends on the subcommand")
    .subcommands(&[
        CommandFacts::new("function|flush", Group::Scripting, -2)
            .since("7.0.0")
            .about("Removes all libraries", "O(1)")
            .flags(&[NoScript, Write])
            .own_acl(&[Acl::Scripting])
            .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
            .arguments(&[one_of("flush-type", &[token("async", "ASYNC"), token("sync", "SYNC")]).optional()]),
        CommandFacts::help("function|help", Group::Scripting, "7.0.0").own_acl(&[Acl::Scripting]),
        CommandFacts::new("function|list", Group::Scripting, -2)
            .since("7.0.0")
            .about("Tells which libraries there are", "O(1)")
            .flags(&[NoScript])
            .own_acl(&[Acl::Scripting])
            .tips(&["nondeterministic_output_order"])
            .arguments(&[
                string("library-name-pattern").after("LIBRARYNAME").optional(),
                token("withcode", "WITHCODE").optional(),
            ]),
        CommandFacts::new("function|stats", Group::Scripting, 2)
            .since("7.0.0")
            .about("Tells what runs and how many functions there are", "O(1)")
            .flags(&[NoScript, AllowBusy])
            .own_acl(&[Acl::Scripting])
            .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"]),
    ])];
