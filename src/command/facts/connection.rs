//! Commands about the connection itself.
//!
//! Facts only; see `model.rs` for what they mean. Sorted by name.

use crate::command::facts::model::Flag::{Admin, AllowBusy, Fast, Loading, NoAuth, NoScript, Stale};
use crate::command::facts::model::{
    Acl, Argument, CommandFacts, Group, block, integer, one_of, string, token,
};

const ON_OFF: Argument = one_of("enabled", &[token("on", "ON"), token("off", "OFF")]);

/// The commands of this group, by name.
pub static COMMANDS: &[CommandFacts] = &[
    CommandFacts::new("auth", Group::Connection, -2)
        .since("1.0.0")
        .about("Logs the connection in", "O(N), N passwords of the user")
        .flags(&[NoScript, Loading, Stale, Fast, NoAuth, AllowBusy])
        .own_acl(&[Acl::Connection])
        .arguments(&[string("username").since("6.0.0").optional(), string("password")]),
    CommandFacts::new("client", Group::Connection, -2)
        .since("2.4.0")
        .about("Groups the commands about connections", "Depends on the subcommand")
        .subcommands(&[
            CommandFacts::new("client|caching", Group::Connection, 3)
                .since("6.0.0")
                .about("Says whether the keys of the next command are to be tracked", "O(1)")
                .flags(&[NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection])
                .arguments(&[one_of("mode", &[token("yes", "YES"), token("no", "NO")])]),
            CommandFacts::new("client|getname", Group::Connection, 2)
                .since("2.6.9")
                .about("Tells the name of this connection", "O(1)")
                .flags(&[NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection]),
            CommandFacts::new("client|getredir", Group::Connection, 2)
                .since("6.0.0")
                .about("Tells which connection gets this one's invalidations", "O(1)")
                .flags(&[NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection]),
            CommandFacts::help("client|help", Group::Connection, "5.0.0").own_acl(&[Acl::Connection]),
            CommandFacts::new("client|id", Group::Connection, 2)
                .since("5.0.0")
                .about("Tells the number of this connection", "O(1)")
                .flags(&[NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection]),
            CommandFacts::new("client|info", Group::Connection, 2)
                .since("6.2.0")
                .about("Describes this connection", "O(1)")
                .flags(&[NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection])
                .tips(&["nondeterministic_output"]),
            CommandFacts::new("client|kill", Group::Connection, -3)
                .since("2.4.0")
                .about("Closes connections that match a filter", "O(N), N connections")
                .flags(&[Admin, NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection])
                .arguments(&[one_of(
                    "filter",
                    &[
                        string("old-format").display("ip:port").deprecated_since("2.8.12"),
                        one_of(
                            "new-format",
                            &[
                                integer("client-id").after("ID").since("2.8.12").optional(),
                                one_of(
                                    "client-type",
                                    &[
                                        token("normal", "NORMAL"),
                                        token("master", "MASTER").since("3.2.0"),
                                        token("slave", "SLAVE"),
                                        token("replica", "REPLICA").since("5.0.0"),
                                        token("pubsub", "PUBSUB"),
                                    ],
                                )
                                .after("TYPE")
                                .since("2.8.12")
                                .optional(),
                                string("username").after("USER").optional(),
                                string("addr").after("ADDR").display("ip:port").optional(),
                                string("laddr").after("LADDR").display("ip:port").since("6.2.0").optional(),
                                one_of("skipme", &[token("yes", "YES"), token("no", "NO")])
                                    .after("SKIPME")
                                    .optional(),
                                integer("maxage").after("MAXAGE").since("7.4.0").optional(),
                            ],
                        )
                        .multiple(),
                    ],
                )]),
            CommandFacts::new("client|list", Group::Connection, -2)
                .since("2.4.0")
                .about("Describes connections, one a line", "O(N), N connections")
                .flags(&[Admin, NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection])
                .arguments(&[
                    one_of(
                        "client-type",
                        &[
                            token("normal", "NORMAL"),
                            token("master", "MASTER"),
                            token("replica", "REPLICA"),
                            token("pubsub", "PUBSUB"),
                        ],
                    )
                    .after("TYPE")
                    .since("5.0.0")
                    .optional(),
                    integer("client-id").after("ID").since("6.2.0").optional().multiple(),
                ])
                .tips(&["nondeterministic_output"]),
            CommandFacts::new("client|no-evict", Group::Connection, 3)
                .since("7.0.0")
                .about("Exempts this connection from being closed to save memory", "O(1)")
                .flags(&[Admin, NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection])
                .arguments(&[ON_OFF]),
            CommandFacts::new("client|no-touch", Group::Connection, 3)
                .since("7.2.0")
                .about("Says whether this connection's reads count as uses of keys", "O(1)")
                .flags(&[NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection])
                .arguments(&[ON_OFF]),
            CommandFacts::new("client|pause", Group::Connection, -3)
                .since("3.0.0")
                .about("Holds up the commands of all clients for a while", "O(1)")
                .flags(&[Admin, NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection])
                .arguments(&[
                    integer("timeout"),
                    one_of("mode", &[token("write", "WRITE"), token("all", "ALL")]).since("6.2.0").optional(),
                ]),
            CommandFacts::new("client|reply", Group::Connection, 3)
                .since("3.2.0")
                .about("Says whether this connection gets replies", "O(1)")
                .flags(&[NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection])
                .arguments(&[one_of(
                    "action",
                    &[token("on", "ON"), token("off", "OFF"), token("skip", "SKIP")],
                )]),
            CommandFacts::new("client|setinfo", Group::Connection, 4)
                .since("7.2.0")
                .about("Records which client library is connected", "O(1)")
                .flags(&[NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection])
                .arguments(&[one_of(
                    "attr",
                    &[string("libname").after("LIB-NAME"), string("libver").after("LIB-VER")],
                )])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
            CommandFacts::new("client|setname", Group::Connection, 3)
                .since("2.6.9")
                .about("Names this connection", "O(1)")
                .flags(&[NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection])
                .arguments(&[string("connection-name")])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
            CommandFacts::new("client|tracking", Group::Connection, -3)
                .since("6.0.0")
                .about("Turns notices about changed keys on or off, for caches in the client", "O(1)")
                .flags(&[NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection])
                .arguments(&[
                    one_of("status", &[token("on", "ON"), token("off", "OFF")]),
                    integer("client-id").after("REDIRECT").optional(),
                    string("prefix").after("PREFIX").optional().multiple_with_token(),
                    token("bcast", "BCAST").optional(),
                    token("optin", "OPTIN").optional(),
                    token("optout", "OPTOUT").optional(),
                    token("noloop", "NOLOOP").optional(),
                ]),
            CommandFacts::new("client|trackinginfo", Group::Connection, 2)
                .since("6.2.0")
                .about("Describes the tracking of this connection", "O(1)")
                .flags(&[NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection]),
            CommandFacts::new("client|unblock", Group::Connection, -3)
                .since("5.0.0")
                .about("Ends the wait of another connection's blocking command", "O(1)")
                .flags(&[Admin, NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection])
                .arguments(&[
                    integer("client-id"),
                    one_of("unblock-type", &[token("timeout", "TIMEOUT"), token("error", "ERROR")])
                        .optional(),
                ]),
            CommandFacts::new("client|unpause", Group::Connection, 2)
                .since("6.2.0")
                .about("Ends CLIENT PAUSE", "O(N), N paused connections")
                .flags(&[Admin, NoScript, Loading, Stale])
                .own_acl(&[Acl::Connection]),
        ]),
    CommandFacts::new("echo", Group::Connection, 2)
        .since("1.0.0")
        .about("Returns its argument", "O(1)")
        .flags(&[Loading, Stale, Fast])
        .own_acl(&[Acl::Connection])
        .arguments(&[string("message")]),
    CommandFacts::new("hello", Group::Connection, -1)
        .since("6.0.0")
        .about("Chooses the protocol, may log in and name the connection, and describes the server", "O(1)")
        .flags(&[NoScript, Loading, Stale, Fast, NoAuth, AllowBusy])
        .own_acl(&[Acl::Connection])
        .arguments(&[block(
            "arguments",
            &[
                integer("protover"),
                block("auth", &[string("username"), string("password")]).after("AUTH").optional(),
                string("clientname").after("SETNAME").optional(),
            ],
        )
        .optional()]),
    CommandFacts::new("ping", Group::Connection, -1)
        .since("1.0.0")
        .about("Answers PONG or the given text", "O(1)")
        .flags(&[Fast])
        .own_acl(&[Acl::Connection])
        .arguments(&[string("message").optional()])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
    CommandFacts::new("quit", Group::Connection, -1)
        .since("1.0.0")
        .about("Closes this connection", "O(1)")
        .flags(&[NoScript, Loading, Stale, Fast, NoAuth, AllowBusy])
        .own_acl(&[Acl::Connection])
        .deprecated("7.2.0", "closing the connection"),
    CommandFacts::new("reset", Group::Connection, 1)
        .since("6.2.0")
        .about("Puts this connection back into the state of a new one", "O(1)")
        .flags(&[NoScript, Loading, Stale, Fast, NoAuth, AllowBusy])
        .own_acl(&[Acl::Connection]),
    CommandFacts::new("select", Group::Connection, 2)
        .since("1.0.0")
        .about("Chooses the database for the commands that follow", "O(1)")
        .flags(&[Loading, Stale, Fast])
        .own_acl(&[Acl::Connection])
        .arguments(&[integer("index")]),
];
