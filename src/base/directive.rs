//! What the configuration knows of one directive: how its value is written, when it may change, what becomes of it.
//!
//! Each directive has a class. *Honoured*: it does what it does in Redis, or is our own. *Inert*: accepted, kept, shown by CONFIG GET,
//! without effect here (the start says which ones were given). *Refused*: any value but the default would break safety or meaning,
//! and the reason is said.

/// What becomes of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It has its effect.
    Honoured,
    /// It is accepted and has none.
    Inert,
    /// Only its default is accepted; why.
    Refused(&'static str),
}

/// When a directive may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At start and by CONFIG SET.
    Always,
    /// At start only.
    Start,
    /// At start only, because changing it remotely would be dangerous.
    Protected,
    /// At start only; CONFIG SET to the value that it has is fine, to another says this.
    Fixed(&'static str),
    /// As `Protected`, and where those may be changed, as `Fixed`.
    ProtectedFixed(&'static str),
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `yes` or `no`.
    Bool,
    /// A whole number within bounds.
    Integer(i64, i64),
    /// A number of bytes, with `k`, `kb`, `m`, .. allowed.
    Memory(u64, u64),
    /// As `Memory`, or a percentage.
    MemoryOrPercent,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Anything.
    Text,
    /// Any number of words.
    Words,
    /// Pairs of seconds and changes.
    Save,
    /// Class and three numbers, several times.
    OutputLimits,
    /// The letters of keyspace events.
    Events,
    /// An octal number.
    Octal,
    /// Any of these words; none is the first of them alone.
    Flags(&'static [&'static str]),
}

impl Kind {
    /// Whether its value is several words.
    pub fn takes_several(self) -> bool {
        matches!(self, Kind::Words | Kind::Save | Kind::OutputLimits | Kind::Flags(_))
    }
}

/// One directive.
#[derive(Debug)]
pub struct Directive {
    /// Its name.
    pub name: &'static str,
    /// Its older name.
    pub alias: Option<&'static str>,
    /// How its value is written.
    pub kind: Kind,
    /// Its default, in the form CONFIG GET shows.
    pub default: &'static str,
    /// When it may change.
    pub when: When,
    /// What becomes of it.
    pub class: Class,
    /// Whether only its full name shows it.
    pub hidden: bool,
}

/// A directive with all its marks.
pub const fn row(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    when: When,
    class: Class,
) -> Directive {
    Directive { name, alias: None, kind, default, when, class, hidden: false }
}

/// One that may change at any time.
pub const fn honoured(name: &'static str, kind: Kind, default: &'static str) -> Directive {
    row(name, kind, default, When::Always, Class::Honoured)
}

/// One that is set at start only.
pub const fn honoured_start(name: &'static str, kind: Kind, default: &'static str) -> Directive {
    row(name, kind, default, When::Start, Class::Honoured)
}

/// One without effect, that may change at any time.
pub const fn inert(name: &'static str, kind: Kind, default: &'static str) -> Directive {
    row(name, kind, default, When::Always, Class::Inert)
}

/// One without effect, set at start only.
pub const fn inert_start(name: &'static str, kind: Kind, default: &'static str) -> Directive {
    row(name, kind, default, When::Start, Class::Inert)
}

/// One that is refused, with the reason.
pub const fn refused(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    reason: &'static str,
) -> Directive {
    row(name, kind, default, When::Always, Class::Refused(reason))
}

impl Directive {
    /// With an older name.
    pub const fn alias(mut self, alias: &'static str) -> Directive {
        self.alias = Some(alias);
        self
    }

    /// Shown by its full name only.
    pub const fn hidden(mut self) -> Directive {
        self.hidden = true;
        self
    }

    /// Set at start only; CONFIG SET to another value says this.
    pub const fn fixed(mut self, why: &'static str) -> Directive {
        self.when = match self.when {
            When::Protected => When::ProtectedFixed(why),
            _ => When::Fixed(why),
        };
        self
    }
}
