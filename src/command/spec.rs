//! What a command is to the dispatcher: its facts, its function, and on which thread that function may run.

use crate::base::args::Args;
use crate::base::stop::Stop;
use crate::command::facts::CommandFacts;
use crate::session::server_state::ServerState;
use crate::session::session::Session;
use crate::store::txn::Txn;
use haypile_resp::ReplyWriter;

/// All that a running command may touch.
pub struct Context<'a> {
    /// The server: configuration, statistics, clients.
    pub server: &'a ServerState,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// On the worker, memory only; on a pool if that is not enough.
    Inline,
    /// Always on the slow pool (KEYS, SAVE).
    Slow,
    /// On the slow pool with the gate closed: nothing else runs meanwhile (FLUSHALL, FLUSHDB, SWAPDB, DEBUG RELOAD).
    Exclusive,
}

/// One command: a row of the table.
pub struct Command {
    /// Name, arity, flags, keys, documentation.
    pub facts: &'static CommandFacts,
    /// Its function.
    pub handler: Handler,
    /// Where it runs.
    pub class: Class,
}
