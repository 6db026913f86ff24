//! What a command is to the dispatcher: its facts, its function, on which thread that function may run; and the table of all.
//!
//! The table is built once, at start, by the file that knows all handlers; here is only its shape, so that handlers (COMMAND, INFO) can
//! read it through their [`Context`].

use crate::base::args::{Args, is_keyword};
use crate::base::stop::Stop;
use crate::command::facts::model::{CommandFacts, Flag, KeyFlag};
use crate::session::server_state::ServerState;
use crate::session::session::Session;
use crate::store::txn::Txn;
use haypile_resp::ReplyWriter;

/// All that a running command may touch.
pub struct Context<'a> {
    /// The server: configuration, statistics, clients.
    pub server: &'a ServerState,
    /// All commands.
    pub table: &'a Table,
    /// The connection that asked.
    pub session: &'a mut Session,
    /// Reads and staged effects of this command.
    pub txn: &'a mut Txn,
    /// Where the reply goes.
    pub reply: &'a mut ReplyWriter,
    /// The command's name and arguments.
    pub args: Args<'a>,
}

/// A command's function. On `Err` the caller truncates the reply to where it was and abandons the transaction, so a function
/// may stop anywhere.
pub type Handler = fn(&mut Context<'_>) -> Result<(), Stop>;

/// Where a command runs.
#[derive(Clone, Copy, Debug)]
pub enum Class {
    /// On the worker, memory only; on a pool if that is not enough.
    Inline,
    /// Always on the slow pool (KEYS, SAVE).
    Slow,
    /// On the slow pool with the gate closed: nothing else runs meanwhile (FLUSHALL, FLUSHDB, SWAPDB, DEBUG RELOAD).
    Exclusive,
    /// As its words say (DEBUG).
    ByWords(fn(&Args<'_>) -> Class),
}

/// Commands that leave the gate while they wait, or between batches; none of them relies on what it saw before it was back.
const LEAVING_GATE: &[&str] = &["migrate", "pkpatternmatchdel"];

/// Commands whose replies may be huge.
const STREAMED: &[&str] = &[
    "hgetall",
    "hkeys",
    "hvals",
    "keys",
    "lrange",
    "sdiff",
    "sinter",
    "smembers",
    "sort",
    "sort_ro",
    "sunion",
    "xrange",
    "xrevrange",
    "zdiff",
    "zinter",
    "zrange",
    "zrangebylex",
    "zrangebyscore",
    "zrevrange",
    "zrevrangebylex",
    "zrevrangebyscore",
    "zunion",
];

/// One command: a row of the table.
#[derive(Debug)]
pub struct Command {
    /// Name, arity, flags, keys, documentation.
    pub facts: &'static CommandFacts,
    /// What clients call it: its name, unless the configuration renames it; nothing if they cannot.
    pub called: &'static str,
    /// Its function. `None` for a container, whose subcommands have theirs.
    pub handler: Option<Handler>,
    /// Where it runs.
    pub class: Class,
    /// Whether it takes the locks of its keys: it writes, or it reads and keeps what it found out (PFCOUNT, WATCH).
    pub always_locks: bool,
    /// A pause of writes holds it up: it writes, or may (PFCOUNT), or is heard elsewhere (PUBLISH).
    pub replicates: bool,
    /// EXEC: its keys are those of the queued commands.
    pub runs_queue: bool,
    /// After MULTI it is not queued but run at once.
    pub is_never_queued: bool,
    /// It may be run in part and then again from the start: it changes nothing but data and the selected database.
    pub restarts: bool,
    /// What it changes of a key does not count as a change of the key, unless that comes or goes (as in Redis: groups of streams).
    pub is_quiet: bool,
    /// It concerns no data, and runs outside the gate.
    pub is_outside: bool,
    /// Its number in the table, by which statistics are kept.
    pub index: usize,
    /// Numbers of its subcommands.
    pub subcommands: Vec<usize>,
}

impl Command {
    fn new(facts: &'static CommandFacts, handler: Option<Handler>, class: Class, index: usize) -> Command {
        const NEVER_QUEUED: &[&str] = &["exec", "discard", "multi", "watch", "quit", "reset"];
        const QUIET: &[&str] = &["xreadgroup", "xack", "xclaim", "xautoclaim", "xsetid"];
        let on_data = facts.flags.has(Flag::Write) || facts.flags.has(Flag::ReadOnly);
        Command {
            facts,
            called: facts.name,
            handler,
            class,
            // WATCH enters under the locks of its keys.
            always_locks: always_locks(facts) || facts.name == "watch",
            replicates: always_locks(facts)
                || facts.flags.has(Flag::MayReplicate)
                || ["publish", "spublish"].contains(&facts.name),
            runs_queue: facts.name == "exec",
            is_never_queued: NEVER_QUEUED.contains(&facts.name),
            restarts: on_data
                || ["select", "ping", "echo", "time", "publish", "spublish"].contains(&facts.name),
            is_outside: is_outside(facts.name),
            is_quiet: QUIET.contains(&facts.name) || facts.name.starts_with("xgroup|"),
            index,
            subcommands: Vec::new(),
        }
    }

    /// Where it runs with these words.
    pub fn class(&self, args: &Args<'_>) -> Class {
        match self.class {
            Class::ByWords(choose) => choose(args),
            class => class,
        }
    }

    /// Whether it may be out of the gate for a while when it runs on a pool: it works in batches, or waits for others.
    pub fn leaves_gate(&self) -> bool {
        LEAVING_GATE.contains(&self.facts.name)
    }

    /// Whether its reply may leave in pieces while it runs on a pool. It only reads, and everything it reads is of one moment.
    pub fn streams(&self, args: &Args<'_>) -> bool {
        STREAMED.contains(&self.facts.name) && !self.locks_keys(args)
    }

    /// Whether it changes data.
    pub fn writes(&self) -> bool {
        self.facts.flags.has(Flag::Write)
    }

    /// Whether its keys are locked while it runs: it writes, or it may wait for them (XREAD BLOCK), and then nothing may come between
    /// its look at them and its wait.
    pub fn locks_keys(&self, args: &Args<'_>) -> bool {
        // Without STORE it only reads.
        let only_sorts = || self.facts.name == "sort" && !args.iter().any(|word| is_keyword(word, "STORE"));
        self.always_locks && !only_sorts()
            || self.facts.flags.has(Flag::Blocking) && args.iter().any(|word| is_keyword(word, "BLOCK"))
    }
}

/// All commands and subcommands, found by name in any case without allocating.
#[derive(Debug)]
pub struct Table {
    commands: Vec<Command>,
    /// Numbers of the commands that are no subcommands and have a name.
    top: Vec<usize>,
    /// Open addressing over hashes of folded names; at most half full. `u16::MAX` is a free place.
    places: Vec<u16>,
}

/// Commands that neither read nor change data: they go on while FLUSHALL or a long EXEC has the database to itself. Of containers,
/// all subcommands.
const OUTSIDE: &[&str] = &[
    "acl", "auth", "bgsave", "client", "command", "compact", "config", "echo", "hello", "info", "lastsave",
    "latency", "ping", "role", "slowlog", "time",
];

fn is_outside(name: &str) -> bool {
    let (container, own) = name.split_once('|').unwrap_or((name, ""));
    // MEMORY USAGE looks at a key.
    OUTSIDE.contains(&container) || container == "memory" && own != "usage"
}

const FREE: u16 = u16::MAX;

fn hash(name: &[u8]) -> usize {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in name {
        hash = (hash ^ u64::from(byte | 0x20)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (hash ^ (hash >> 29)) as usize
}

fn always_locks(facts: &CommandFacts) -> bool {
    let changes_key = facts.keys.iter().any(|spec| spec.flags.has(KeyFlag::Rw));
    facts.flags.has(Flag::Write) || facts.flags.has(Flag::ReadOnly) && changes_key
}

impl Table {
    /// A table of `rows`: every command that has a handler, or subcommands that have.
    pub fn new(
        facts: impl Iterator<Item = &'static CommandFacts>,
        handler: &dyn Fn(&str) -> Option<(Handler, Class)>,
    ) -> Table {
        let (mut commands, mut top): (Vec<Command>, Vec<usize>) = (Vec::new(), Vec::new());
        for facts in facts {
            let found = handler(facts.name);
            let subcommands: Vec<_> =
                facts.subcommands.iter().filter_map(|sub| Some((sub, handler(sub.name)?))).collect();
            if found.is_none() && subcommands.is_empty() {
                continue;
            }
            let index = commands.len();
            top.push(index);
            let class = found.map_or(Class::Inline, |(_, class)| class);
            let mut command = Command::new(facts, found.map(|(handler, _)| handler), class, index);
            command.subcommands = (index + 1..=index + subcommands.len()).collect();
            commands.push(command);
            for (sub, (handler, class)) in subcommands {
                commands.push(Command::new(sub, Some(handler), class, commands.len()));
            }
        }
        let mut table = Table { commands, top, places: Vec::new() };
        table.place();
        table
    }

    /// Enters what commands are called.
    fn place(&mut self) {
        let size = (self.commands.len() * 2).next_power_of_two().max(2);
        self.places = vec![FREE; size];
        for &index in &self.top {
            let mut at = hash(self.commands[index].called.as_bytes()) & (size - 1);
            while self.places[at] != FREE {
                at = (at + 1) & (size - 1);
            }
            self.places[at] = index as u16;
        }
    }

    /// Calls a command otherwise, or nothing: then no client can run it. Errors are Redis's words.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), &'static str> {
        let index = self.find(from.as_bytes()).ok_or("No such command in rename-command")?.index;
        if to.is_empty() {
            self.top.retain(|&other| other != index);
        } else if self.find(to.as_bytes()).is_some_and(|other| other.index != index) {
            return Err("Target command name already exists");
        }
        // Once for each line of a configuration, and a table lives as long as the process.
        self.commands[index].called = String::leak(to.to_string());
        self.place();
        Ok(())
    }

    /// Whether clients can run a command or subcommand, under whatever name.
    pub fn is_reachable(&self, command: &Command) -> bool {
        let container = command.facts.name.split('|').next().unwrap_or_default();
        self.top().any(|top| top.facts.name == container)
    }

    /// A command that is no subcommand, by what clients call it.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<&Command> {
        let mask = self.places.len() - 1;
        let mut at = hash(name) & mask;
        loop {
            let place = *self.places.get(at)?;
            let command = self.commands.get(place as usize)?;
            if command.called.as_bytes().eq_ignore_ascii_case(name) {
                return Some(command);
            }
            at = (at + 1) & mask;
        }
    }

    /// A subcommand of a container.
    pub fn find_subcommand(&self, container: &Command, name: &[u8]) -> Option<&Command> {
        container
            .subcommands
            .iter()
            .filter_map(|&index| self.commands.get(index))
            .find(|command| command.facts.own_name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// A command or, as `config|get`, a subcommand.
    pub fn find_full(&self, name: &[u8]) -> Option<&Command> {
        let mut parts = name.splitn(2, |&byte| byte == b'|');
        let command = self.find(parts.next()?)?;
        match parts.next() {
            Some(sub) => self.find_subcommand(command, sub),
            None => Some(command),
        }
    }

    /// Command number `index`.
    pub fn get(&self, index: usize) -> Option<&Command> {
        self.commands.get(index)
    }

    /// The commands that are no subcommands, without those that clients cannot run.
    pub fn top(&self) -> impl ExactSizeIterator<Item = &Command> {
        self.top.iter().map(|&index| &self.commands[index])
    }

    /// All commands, subcommands behind their containers.
    pub fn all(&self) -> impl ExactSizeIterator<Item = &Command> {
        self.commands.iter()
    }

    /// How many, subcommands included.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }
}
