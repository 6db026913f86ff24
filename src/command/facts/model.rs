//! What is known about a command apart from how it runs.
//!
//! One [`CommandFacts`] per command feeds dispatch (arity, flags, keys), COMMAND and COMMAND DOCS, ACL
//! categories and the generated list of commands. Names, numbers and tokens are the wire contract that
//! clients were written against, as of Redis 7.4; summaries and complexities are ours, and describe this
//! server.
//!
//! The types are built by const functions so that a table reads as a list of facts and costs nothing at
//! start. There are no handlers here: the command table joins them by name. What follows from other facts is
//! computed and not stored: most ACL categories from flags ([`CommandFacts::acl`]), the first-last-step
//! triple of old clients from key specifications ([`CommandFacts::first_last_step`]).

/// The facts about one command or subcommand.
#[derive(Debug)]
pub struct CommandFacts {
    /// In lower case; a subcommand with its container, as in `client|kill`.
    pub name: &'static str,
    /// What the command is about.
    pub group: Group,
    /// Number of arguments, the name included (for a subcommand, both names); negative: at least so many.
    pub arity: i32,
    /// The Redis version that had it first; of an extension, the version of this server.
    pub since: &'static str,
    /// What it does, in one sentence without a full stop.
    pub summary: &'static str,
    /// What it costs in this server.
    pub complexity: &'static str,
    /// How it may be run.
    pub flags: FlagSet,
    /// ACL categories that do not follow from flags. [`Self::acl`] has all.
    pub own_acl: AclSet,
    /// Where its keys are and what it does to them.
    pub keys: &'static [KeySpec],
    /// Its arguments, for hints in clients.
    pub arguments: &'static [Argument],
    /// Advice for proxies and cluster clients.
    pub tips: &'static [&'static str],
    /// Since when not to be used in new programs, and what instead.
    pub deprecated: Option<Deprecation>,
    /// Meant for servers rather than for people.
    pub internal: bool,
    /// A command of this server that Redis has not.
    pub extension: bool,
    /// Commands of a container, such as CONFIG; the container itself then only carries the name.
    pub subcommands: &'static [CommandFacts],
}

/// See [`CommandFacts::deprecated`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deprecation {
    /// The Redis version that deprecated it.
    pub since: &'static str,
    /// What to use.
    pub instead: &'static str,
}

impl CommandFacts {
    /// A command of which only the name, group and arity are known yet.
    pub const fn new(name: &'static str, group: Group, arity: i32) -> Self {
        Self {
            name,
            group,
            arity,
            since: "",
            summary: "",
            complexity: "",
            flags: FlagSet(0),
            own_acl: AclSet(0),
            keys: &[],
            arguments: &[],
            tips: &[],
            deprecated: None,
            internal: false,
            extension: false,
            subcommands: &[],
        }
    }

    /// The HELP of a container.
    pub const fn help(name: &'static str, group: Group, since: &'static str) -> Self {
        Self::new(name, group, 2)
            .since(since)
            .about("Lists the subcommands", "O(1)")
            .flags(&[Flag::Loading, Flag::Stale])
    }

    /// Sets [`Self::since`].
    pub const fn since(mut self, since: &'static str) -> Self {
        self.since = since;
        self
    }

    /// Sets [`Self::summary`] and [`Self::complexity`].
    pub const fn about(mut self, summary: &'static str, complexity: &'static str) -> Self {
        self.summary = summary;
        self.complexity = complexity;
        self
    }

    /// Sets [`Self::flags`].
    pub const fn flags(mut self, flags: &[Flag]) -> Self {
        self.flags = FlagSet::of(flags);
        self
    }

    /// Sets [`Self::own_acl`].
    pub const fn own_acl(mut self, categories: &[Acl]) -> Self {
        self.own_acl = AclSet::of(categories);
        self
    }

    /// Sets [`Self::keys`].
    pub const fn keys(mut self, keys: &'static [KeySpec]) -> Self {
        self.keys = keys;
        self
    }

    /// Sets [`Self::arguments`].
    pub const fn arguments(mut self, arguments: &'static [Argument]) -> Self {
        self.arguments = arguments;
        self
    }

    /// Sets [`Self::tips`].
    pub const fn tips(mut self, tips: &'static [&'static str]) -> Self {
        self.tips = tips;
        self
    }

    /// Sets [`Self::deprecated`].
    pub const fn deprecated(mut self, since: &'static str, instead: &'static str) -> Self {
        self.deprecated = Some(Deprecation { since, instead });
        self
    }

    /// Sets [`Self::internal`].
    pub const fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Sets [`Self::extension`].
    pub const fn extension(mut self) -> Self {
        self.extension = true;
        self
    }

    /// Sets [`Self::subcommands`].
    pub const fn subcommands(mut self, subcommands: &'static [CommandFacts]) -> Self {
        self.subcommands = subcommands;
        self
    }

    /// The name without the container's.
    pub fn own_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, own)| own)
    }

    /// Whether `count` arguments, the name included, are a number the command takes.
    pub fn accepts(&self, count: usize) -> bool {
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        if self.arity < 0 { count >= -self.arity } else { count == self.arity }
    }

    /// Whether its first argument is a key.
    pub fn begins_with_key(&self) -> bool {
        self.keys.first().is_some_and(|spec| matches!(spec.begin, BeginSearch::Index(1)))
    }

    /// All ACL categories: its own and those that follow from its flags.
    pub const fn acl(&self) -> AclSet {
        let mut acl = self.own_acl;
        if self.flags.has(Flag::Write) {
            acl = acl.with(Acl::Write);
        }
        if self.flags.has(Flag::ReadOnly) && !acl.has(Acl::Scripting) {
            acl = acl.with(Acl::Read);
        }
        if self.flags.has(Flag::Admin) {
            acl = acl.with(Acl::Admin).with(Acl::Dangerous);
        }
        if self.flags.has(Flag::PubSub) {
            acl = acl.with(Acl::PubSub);
        }
        if self.flags.has(Flag::Blocking) {
            acl = acl.with(Acl::Blocking);
        }
        acl.with(if self.flags.has(Flag::Fast) { Acl::Fast } else { Acl::Slow })
    }

    /// The keys as old clients know them: index of the first, of the last (negative: from the end) and the
    /// step between them; zeros if there are none at fixed places. Neighbouring specifications count as one
    /// range.
    pub fn first_last_step(&self) -> (i32, i32, i32) {
        let fixed = |spec: &KeySpec| match (spec.begin, spec.find) {
            (BeginSearch::Index(first), FindKeys::Range { last, step, .. }) => {
                Some((first, if last >= 0 { first + last } else { last }, step))
            }
            _ => None,
        };
        if let [only] = self.keys {
            return fixed(only).unwrap_or((0, 0, 0));
        }
        let mut whole: Option<(i32, i32, i32)> = None;
        for (first, last, step) in self.keys.iter().filter_map(fixed).filter(|(_, _, step)| *step == 1) {
            whole = match whole {
                None => Some((first, last, step)),
                Some((start, end, _)) if end >= 0 && first == end + 1 => Some((start, last, step)),
                apart => apart,
            };
        }
        whole.unwrap_or((0, 0, 0))
    }
}

/// What a command is about, as COMMAND DOCS groups them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Group {
    Generic,
    String,
    List,
    Set,
    SortedSet,
    Hash,
    PubSub,
    Transactions,
    Connection,
    Server,
    Scripting,
    HyperLogLog,
    Cluster,
    Geo,
    Stream,
    Bitmap,
}

impl Group {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::SortedSet => "sorted-set",
            Self::Hash => "hash",
            Self::PubSub => "pubsub",
            Self::Transactions => "transactions",
            Self::Connection => "connection",
            Self::Server => "server",
            Self::Scripting => "scripting",
            Self::HyperLogLog => "hyperloglog",
            Self::Cluster => "cluster",
            Self::Geo => "geo",
            Self::Stream => "stream",
            Self::Bitmap => "bitmap",
        }
    }
}

/// An enum of names on the wire, in the order in which they are sent, and a set of them.
macro_rules! named_set {
    (
        $(#[$enum_doc:meta])* $name:ident,
        $(#[$set_doc:meta])* $set:ident,
        $($(#[$doc:meta])* $variant:ident = $text:literal,)+
    ) => {
        $(#[$enum_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every one, in the order in which they are sent.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        $(#[$set_doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $set(u32);

        impl $set {
            /// The set of these.
            pub const fn of(members: &[$name]) -> Self {
                let mut set = Self(0);
                let mut index = 0;
                while index < members.len() {
                    set = set.with(members[index]);
                    index += 1;
                }
                set
            }

            /// This set and one more.
            pub const fn with(self, member: $name) -> Self {
                Self(self.0 | 1 << member as u32)
            }

            /// Whether `member` is in it.
            pub const fn has(self, member: $name) -> bool {
                self.0 & 1 << member as u32 != 0
            }

            /// Whether the two have a member in common.
            pub const fn meets(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// Whether nothing is in it.
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// The members, in the order in which they are sent.
            pub fn iter(self) -> impl Iterator<Item = $name> {
                $name::ALL.iter().copied().filter(move |member| self.has(*member))
            }
        }

        const _: () = assert!($name::ALL.len() <= 32);
    };
}

named_set! {
    /// How a command may be run.
    Flag,
    /// A set of [`Flag`].
    FlagSet,
    /// Changes data.
    Write = "write",
    /// Reads data and changes none.
    ReadOnly = "readonly",
    /// Refused while over `maxmemory`.
    DenyOom = "denyoom",
    /// For administrators.
    Admin = "admin",
    /// About subscriptions.
    PubSub = "pubsub",
    /// Not from scripts.
    NoScript = "noscript",
    /// May keep its client waiting.
    Blocking = "blocking",
    /// Also while data is being loaded.
    Loading = "loading",
    /// Also on a replica that has lost its primary.
    Stale = "stale",
    /// Not shown by MONITOR.
    SkipMonitor = "skip_monitor",
    /// Not kept in the slow log.
    SkipSlowlog = "skip_slowlog",
    /// Works in a slot that is being imported.
    Asking = "asking",
    /// Constant or logarithmic time.
    Fast = "fast",
    /// Before authentication.
    NoAuth = "no_auth",
    /// Reads, but its effect may be replicated.
    MayReplicate = "may_replicate",
    /// Has key specifications but may name no key.
    NoMandatoryKeys = "no_mandatory_keys",
    /// Not while data is loaded in the background.
    NoAsyncLoading = "no_async_loading",
    /// Not inside a transaction.
    NoMulti = "no_multi",
    /// Also while a script keeps the server busy.
    AllowBusy = "allow_busy",
    /// Has keys that first-last-step does not tell.
    MovableKeys = "movablekeys",
}

named_set! {
    /// A category of commands for access rules.
    Acl,
    /// A set of [`Acl`].
    AclSet,
    /// About keys whatever they hold.
    Keyspace = "keyspace",
    /// Reads data.
    Read = "read",
    /// Changes data.
    Write = "write",
    /// About sets.
    Set = "set",
    /// About sorted sets.
    SortedSet = "sortedset",
    /// About lists.
    List = "list",
    /// About hashes.
    Hash = "hash",
    /// About strings.
    String = "string",
    /// About bits in strings.
    Bitmap = "bitmap",
    /// About HyperLogLogs.
    HyperLogLog = "hyperloglog",
    /// About places on the earth.
    Geo = "geo",
    /// About streams.
    Stream = "stream",
    /// About subscriptions.
    PubSub = "pubsub",
    /// For administrators.
    Admin = "admin",
    /// Constant or logarithmic time.
    Fast = "fast",
    /// Not fast.
    Slow = "slow",
    /// May keep its client waiting.
    Blocking = "blocking",
    /// Not for every program.
    Dangerous = "dangerous",
    /// About connections.
    Connection = "connection",
    /// About transactions.
    Transaction = "transaction",
    /// About scripts.
    Scripting = "scripting",
}

named_set! {
    /// What a command does to a key: one of the first four, then what happens to the data.
    KeyFlag,
    /// A set of [`KeyFlag`].
    KeyFlagSet,
    /// Reads the value.
    Ro = "RO",
    /// Reads and changes it.
    Rw = "RW",
    /// Overwrites it unread.
    Ow = "OW",
    /// Removes it.
    Rm = "RM",
    /// Returns or copies data of the user.
    Access = "access",
    /// Changes data depending on what is there.
    Update = "update",
    /// Adds data and changes none.
    Insert = "insert",
    /// Deletes data.
    Delete = "delete",
    /// Not a key, but routed like one.
    NotKey = "not_key",
    /// There may be more keys than the specification finds.
    Incomplete = "incomplete",
    /// Depends on the arguments.
    VariableFlags = "variable_flags",
}

/// Where some keys of a command are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// Where to begin.
    pub begin: BeginSearch,
    /// How to find them from there.
    pub find: FindKeys,
    /// What is done to them.
    pub flags: KeyFlagSet,
}

/// Where the search for keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeginSearch {
    /// At this argument; the command's name is 0.
    Index(i32),
    /// After this word, looked for from `start` on (negative: backwards, from the end).
    Keyword {
        /// In capital letters.
        keyword: &'static str,
        /// Index of the first candidate.
        start: i32,
    },
    /// Only the command itself can tell.
    Unknown,
}

/// How keys are found from where the search begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindKeys {
    /// Every `step`-th argument up to `last`, which counts from the beginning, or from the end if negative.
    /// With a `limit` above 1 and `last` -1, only so large a part of the rest.
    Range {
        /// Index of the last key.
        last: i32,
        /// Arguments from key to key.
        step: i32,
        /// The part of the rest: 2 for a half, and so on.
        limit: i32,
    },
    /// An argument tells how many keys there are. Indexes count from the beginning.
    Count {
        /// Index of the number of keys.
        count: i32,
        /// Index of the first key.
        first: i32,
        /// Arguments from key to key.
        step: i32,
    },
    /// Only the command itself can tell.
    Unknown,
}

impl KeySpec {
    /// One key, at `index`.
    pub const fn one(index: i32, flags: &[KeyFlag]) -> Self {
        Self::range(index, 0, 1, flags)
    }

    /// Keys from `index` to the end.
    pub const fn rest(index: i32, flags: &[KeyFlag]) -> Self {
        Self::range(index, -1, 1, flags)
    }

    /// Keys from `index` on, every `step`-th; see [`FindKeys::Range`].
    pub const fn range(index: i32, last: i32, step: i32, flags: &[KeyFlag]) -> Self {
        let find = FindKeys::Range { last, step, limit: 0 };
        Self { begin: BeginSearch::Index(index), find, flags: KeyFlagSet::of(flags) }
    }

    /// A number of keys at `index`, and the keys right after it.
    pub const fn counted(index: i32, flags: &[KeyFlag]) -> Self {
        let find = FindKeys::Count { count: 0, first: 1, step: 1 };
        Self { begin: BeginSearch::Index(index), find, flags: KeyFlagSet::of(flags) }
    }

    /// Keys from the word `keyword` to the end.
    pub const fn after_keyword(keyword: &'static str, start: i32, flags: &[KeyFlag]) -> Self {
        let find = FindKeys::Range { last: -1, step: 1, limit: 0 };
        Self { begin: BeginSearch::Keyword { keyword, start }, find, flags: KeyFlagSet::of(flags) }
    }

    /// The one key behind the word `keyword`.
    pub const fn one_after_keyword(keyword: &'static str, start: i32, flags: &[KeyFlag]) -> Self {
        let find = FindKeys::Range { last: 0, step: 1, limit: 0 };
        Self { begin: BeginSearch::Keyword { keyword, start }, find, flags: KeyFlagSet::of(flags) }
    }

    /// Keys behind the word `keyword`: the first half of what follows it.
    pub const fn half_after_keyword(keyword: &'static str, start: i32, flags: &[KeyFlag]) -> Self {
        let find = FindKeys::Range { last: -1, step: 1, limit: 2 };
        Self { begin: BeginSearch::Keyword { keyword, start }, find, flags: KeyFlagSet::of(flags) }
    }

    /// Keys that only the command can find.
    pub const fn unknown(flags: &[KeyFlag]) -> Self {
        Self { begin: BeginSearch::Unknown, find: FindKeys::Unknown, flags: KeyFlagSet::of(flags) }
    }
}

/// An argument of a command, for hints in clients.
#[derive(Debug)]
pub struct Argument {
    /// A name, unique among its siblings.
    pub name: &'static str,
    /// What it is.
    pub kind: ArgumentKind,
    /// What a hint shows, if not the name.
    pub display: Option<&'static str>,
    /// A fixed word in front of it; for [`ArgumentKind::PureToken`], all of it.
    pub token: Option<&'static str>,
    /// The Redis version that had it first, if later than the command.
    pub since: Option<&'static str>,
    /// The Redis version that deprecated it.
    pub deprecated_since: Option<&'static str>,
    /// Index of the key specification that finds it.
    pub key_spec: Option<u8>,
    /// May be left out.
    pub optional: bool,
    /// May be repeated.
    pub multiple: bool,
    /// Repeated together with its token.
    pub multiple_token: bool,
    /// Parts of a block, or alternatives.
    pub parts: &'static [Argument],
}

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ArgumentKind {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

impl ArgumentKind {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Double => "double",
            Self::Key => "key",
            Self::Pattern => "pattern",
            Self::UnixTime => "unix-time",
            Self::PureToken => "pure-token",
            Self::OneOf => "oneof",
            Self::Block => "block",
        }
    }
}

impl Argument {
    /// A mandatory argument without anything else.
    pub const fn new(name: &'static str, kind: ArgumentKind) -> Self {
        Self {
            name,
            kind,
            display: None,
            token: None,
            since: None,
            deprecated_since: None,
            key_spec: None,
            optional: false,
            multiple: false,
            multiple_token: false,
            parts: &[],
        }
    }

    /// Sets [`Self::display`].
    pub const fn display(mut self, display: &'static str) -> Self {
        self.display = Some(display);
        self
    }

    /// Sets [`Self::token`].
    pub const fn after(mut self, token: &'static str) -> Self {
        self.token = Some(token);
        self
    }

    /// Sets [`Self::since`].
    pub const fn since(mut self, since: &'static str) -> Self {
        self.since = Some(since);
        self
    }

    /// Sets [`Self::deprecated_since`].
    pub const fn deprecated_since(mut self, since: &'static str) -> Self {
        self.deprecated_since = Some(since);
        self
    }

    /// Sets [`Self::optional`].
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Sets [`Self::multiple`].
    pub const fn multiple(mut self) -> Self {
        self.multiple = true;
        self
    }

    /// Sets [`Self::multiple`] and [`Self::multiple_token`].
    pub const fn multiple_with_token(mut self) -> Self {
        self.multiple = true;
        self.multiple_token = true;
        self
    }
}

/// Any bytes.
pub const fn string(name: &'static str) -> Argument {
    Argument::new(name, ArgumentKind::String)
}

/// A whole number.
pub const fn integer(name: &'static str) -> Argument {
    Argument::new(name, ArgumentKind::Integer)
}

/// A floating-point number.
pub const fn double(name: &'static str) -> Argument {
    Argument::new(name, ArgumentKind::Double)
}

/// A key that the key specification at index `spec` finds.
pub const fn key(name: &'static str, spec: u8) -> Argument {
    let mut argument = Argument::new(name, ArgumentKind::Key);
    argument.key_spec = Some(spec);
    argument
}

/// A glob pattern.
pub const fn pattern(name: &'static str) -> Argument {
    Argument::new(name, ArgumentKind::Pattern)
}

/// A glob pattern of keys that the key specification at index `spec` stands for.
pub const fn key_pattern(name: &'static str, spec: u8) -> Argument {
    let mut argument = pattern(name);
    argument.key_spec = Some(spec);
    argument
}

/// A point in time.
pub const fn unix_time(name: &'static str) -> Argument {
    Argument::new(name, ArgumentKind::UnixTime)
}

/// A fixed word.
pub const fn token(name: &'static str, token: &'static str) -> Argument {
    Argument::new(name, ArgumentKind::PureToken).after(token)
}

/// Exactly one of `parts`.
pub const fn one_of(name: &'static str, parts: &'static [Argument]) -> Argument {
    let mut argument = Argument::new(name, ArgumentKind::OneOf);
    argument.parts = parts;
    argument
}

/// All of `parts`, in order.
pub const fn block(name: &'static str, parts: &'static [Argument]) -> Argument {
    let mut argument = Argument::new(name, ArgumentKind::Block);
    argument.parts = parts;
    argument
}
