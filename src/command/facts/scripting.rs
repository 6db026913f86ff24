//! Commands about scripts and about libraries of functions.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{
    AllowBusy, DenyOom, MovableKeys, NoMandatoryKeys, NoScript, ReadOnly, SkipMonitor, Stale, Write,
};
use crate::command::facts::model::KeyFlag::{Access, Ro, Rw, Update};
use crate::command::facts::model::{Acl, CommandFacts, Group, KeySpec, integer, key, one_of, string, token};

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("eval", Group::Scripting, -3)
        .since("2.6.0")
        .about("Runs a script", "Depends on the script")
        .flags(&[NoScript, Stale, SkipMonitor, NoMandatoryKeys, MovableKeys])
        .own_acl(&[Acl::Scripting])
        .keys(&[KeySpec::counted(2, &[Rw, Access, Update])])
        .arguments(&[
            string("script"),
            integer("numkeys"),
            key("key", 0).optional().multiple(),
            string("arg").optional().multiple(),
        ]),
    CommandFacts::new("eval_ro", Group::Scripting, -3)
        .since("7.0.0")
        .about("Runs a script that may not change data", "Depends on the script")
        .flags(&[ReadOnly, NoScript, Stale, SkipMonitor, NoMandatoryKeys, MovableKeys])
        .own_acl(&[Acl::Scripting])
        .keys(&[KeySpec::counted(2, &[Ro, Access])])
        .arguments(&[
            string("script"),
            integer("numkeys"),
            key("key", 0).optional().multiple(),
            string("arg").optional().multiple(),
        ]),
    CommandFacts::new("evalsha", Group::Scripting, -3)
        .since("2.6.0")
        .about("Runs a script that the server has, named by its SHA-1", "Depends on the script")
        .flags(&[NoScript, Stale, SkipMonitor, NoMandatoryKeys, MovableKeys])
        .own_acl(&[Acl::Scripting])
        .keys(&[KeySpec::counted(2, &[Rw, Access, Update])])
        .arguments(&[
            string("sha1"),
            integer("numkeys"),
            key("key", 0).optional().multiple(),
            string("arg").optional().multiple(),
        ]),
    CommandFacts::new("evalsha_ro", Group::Scripting, -3)
        .since("7.0.0")
        .about("Runs a script that the server has and that may not change data", "Depends on the script")
        .flags(&[ReadOnly, NoScript, Stale, SkipMonitor, NoMandatoryKeys, MovableKeys])
        .own_acl(&[Acl::Scripting])
        .keys(&[KeySpec::counted(2, &[Ro, Access])])
        .arguments(&[
            string("sha1"),
            integer("numkeys"),
            key("key", 0).optional().multiple(),
            string("arg").optional().multiple(),
        ]),
    CommandFacts::new("fcall", Group::Scripting, -3)
        .since("7.0.0")
        .about("Calls a function", "Depends on the function")
        .flags(&[NoScript, Stale, SkipMonitor, NoMandatoryKeys, MovableKeys])
        .own_acl(&[Acl::Scripting])
        .keys(&[KeySpec::counted(2, &[Rw, Access, Update])])
        .arguments(&[
            string("function"),
            integer("numkeys"),
            key("key", 0).optional().multiple(),
            string("arg").optional().multiple(),
        ]),
    CommandFacts::new("fcall_ro", Group::Scripting, -3)
        .since("7.0.0")
        .about("Calls a function that may not change data", "Depends on the function")
        .flags(&[ReadOnly, NoScript, Stale, SkipMonitor, NoMandatoryKeys, MovableKeys])
        .own_acl(&[Acl::Scripting])
        .keys(&[KeySpec::counted(2, &[Ro, Access])])
        .arguments(&[
            string("function"),
            integer("numkeys"),
            key("key", 0).optional().multiple(),
            string("arg").optional().multiple(),
        ]),
    CommandFacts::new("function", Group::Scripting, -2)
        .since("7.0.0")
        .about("Groups the commands about functions", "Depends on the subcommand")
        .subcommands(&[
            CommandFacts::new("function|delete", Group::Scripting, 3)
                .since("7.0.0")
                .about("Removes a library and its functions", "O(1)")
                .flags(&[Write, NoScript])
                .own_acl(&[Acl::Scripting])
                .arguments(&[string("library-name")])
                .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
            CommandFacts::new("function|dump", Group::Scripting, 2)
                .since("7.0.0")
                .about("Serializes all libraries for FUNCTION RESTORE", "O(N), N libraries")
                .flags(&[NoScript])
                .own_acl(&[Acl::Scripting]),
            CommandFacts::new("function|flush", Group::Scripting, -2)
                .since("7.0.0")
                .about("Removes all libraries", "O(1)")
                .flags(&[Write, NoScript])
                .own_acl(&[Acl::Scripting])
                .arguments(&[
                    one_of("flush-type", &[token("async", "ASYNC"), token("sync", "SYNC")]).optional()
                ])
                .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
            CommandFacts::help("function|help", Group::Scripting, "7.0.0").own_acl(&[Acl::Scripting]),
            CommandFacts::new("function|kill", Group::Scripting, 2)
                .since("7.0.0")
                .about("Stops the function that runs, if it has changed nothing yet", "O(1)")
                .flags(&[NoScript, AllowBusy])
                .own_acl(&[Acl::Scripting])
                .tips(&["request_policy:all_shards", "response_policy:one_succeeded"]),
            CommandFacts::new("function|list", Group::Scripting, -2)
                .since("7.0.0")
                .about("Tells which libraries there are", "O(1)")
                .flags(&[NoScript])
                .own_acl(&[Acl::Scripting])
                .arguments(&[
                    string("library-name-pattern").after("LIBRARYNAME").optional(),
                    token("withcode", "WITHCODE").optional(),
                ])
                .tips(&["nondeterministic_output_order"]),
            CommandFacts::new("function|load", Group::Scripting, -3)
                .since("7.0.0")
                .about("Loads a library of functions", "O(1)")
                .flags(&[Write, DenyOom, NoScript])
                .own_acl(&[Acl::Scripting])
                .arguments(&[token("replace", "REPLACE").optional(), string("function-code")])
                .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
            CommandFacts::new("function|restore", Group::Scripting, -3)
                .since("7.0.0")
                .about("Loads libraries from what FUNCTION DUMP returned", "O(N), N libraries")
                .flags(&[Write, DenyOom, NoScript])
                .own_acl(&[Acl::Scripting])
                .arguments(&[
                    string("serialized-value"),
                    one_of(
                        "policy",
                        &[token("flush", "FLUSH"), token("append", "APPEND"), token("replace", "REPLACE")],
                    )
                    .optional(),
                ])
                .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
            CommandFacts::new("function|stats", Group::Scripting, 2)
                .since("7.0.0")
                .about("Tells what runs and how many functions there are", "O(1)")
                .flags(&[NoScript, AllowBusy])
                .own_acl(&[Acl::Scripting])
                .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"]),
        ]),
    CommandFacts::new("script", Group::Scripting, -2)
        .since("2.6.0")
        .about("Groups the commands about scripts", "Depends on the subcommand")
        .subcommands(&[
            CommandFacts::new("script|debug", Group::Scripting, 3)
                .since("3.2.0")
                .about("Says how the scripts of this connection are debugged", "O(1)")
                .flags(&[NoScript])
                .own_acl(&[Acl::Scripting])
                .arguments(&[one_of(
                    "mode",
                    &[token("yes", "YES"), token("sync", "SYNC"), token("no", "NO")],
                )]),
            CommandFacts::new("script|exists", Group::Scripting, -3)
                .since("2.6.0")
                .about("Tells which scripts the server has", "O(N), N scripts asked for")
                .flags(&[NoScript])
                .own_acl(&[Acl::Scripting])
                .arguments(&[string("sha1").multiple()])
                .tips(&["request_policy:all_shards", "response_policy:agg_logical_and"]),
            CommandFacts::new("script|flush", Group::Scripting, -2)
                .since("2.6.0")
                .about("Forgets all scripts", "O(N), N scripts")
                .flags(&[NoScript])
                .own_acl(&[Acl::Scripting])
                .arguments(&[one_of("flush-type", &[token("async", "ASYNC"), token("sync", "SYNC")])
                    .since("6.2.0")
                    .optional()])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
            CommandFacts::help("script|help", Group::Scripting, "5.0.0").own_acl(&[Acl::Scripting]),
            CommandFacts::new("script|kill", Group::Scripting, 2)
                .since("2.6.0")
                .about("Stops the script that runs, if it has changed nothing yet", "O(1)")
                .flags(&[NoScript, AllowBusy])
                .own_acl(&[Acl::Scripting])
                .tips(&["request_policy:all_shards", "response_policy:one_succeeded"]),
            CommandFacts::new("script|load", Group::Scripting, 3)
                .since("2.6.0")
                .about("Keeps a script for EVALSHA", "O(1)")
                .flags(&[NoScript, Stale])
                .own_acl(&[Acl::Scripting])
                .arguments(&[string("script")])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
        ]),
];
