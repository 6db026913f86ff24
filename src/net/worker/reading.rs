//! One connection's share of a turn: what was left to run, then read, parse, run.
//!
//! All connections read into one buffer of the worker; what a turn leaves of it is kept by the connection (`net/buffer.rs`). A large request is
//! charged for before more of it is read.

use crate::base::args::Args;
use crate::net::buffer::{READ_BYTES_MAX, cut_front};
use crate::net::connection::{Connection, Parked, Pending};
use crate::net::output::UNSENT_BYTES_MAX;
use crate::net::worker::state::{Fate, Worker, set_blocked};
use crate::session::allowance::{Charge, LARGE_REQUEST_BYTES};
use crate::session::clients::{FLAG_CLOSING, FLAG_MONITOR, FLAG_PUBSUB, FLAG_TRACKING};
use haypile_resp::{Limits, Progress, Protocol, ReplyWriter, RequestParser};
use std::io::{self, ErrorKind, Read};
use std::sync::atomic::Ordering;

const RELAXED: Ordering = Ordering::Relaxed;
/// How many commands a step of a TLS handshake counts as.
const HANDSHAKE_COMMANDS: usize = 256;
/// Commands that one connection may run in one turn.
const COMMANDS_PER_TURN: usize = 256;
/// Clients that get what they did not ask for just now.
const FLAGS_PUSHED: u32 = FLAG_PUBSUB | FLAG_TRACKING | FLAG_MONITOR;

impl Worker {
    /// One connection's share of a turn. Returns how many commands it ran.
    pub(super) fn serve(&mut self, connection: &mut Connection) -> (Fate, usize) {
        if connection.info.is_killed() {
            return (Fate::Closes, 0);
        }
        if connection.stream.is_handshaking() {
            return self.shake_hands(connection);
        }
        if !connection.output.has_buffer()
            && let Some(buffer) = self.spare_buffers.pop()
        {
            connection.output.put_back(buffer);
        }
        let protocol = connection.session.as_ref().map_or(Protocol::Resp2, |session| session.protocol);
        let mut reply = ReplyWriter::with_buffer(connection.output.take(), protocol);
        let mut ran = 0;
        self.executor.look_at_clock();
        if let Some(pending) = connection.pending.take() {
            set_blocked(&self.server, connection, false);
            connection.info.argument_bytes.store(0, RELAXED);
            ran += 1;
            let args = pending.args.as_args();
            let more = connection.tail.is_unparsed();
            if let Some(again) =
                self.run_command(connection, &mut reply, args, pending.draws, pending.delayed, more)
            {
                connection.info.argument_bytes.store(pending.args.buffer.len(), RELAXED);
                connection.pending = Some(Pending { args: pending.args, ..again });
            }
        }
        let fate = if connection.parked.is_none() && !connection.closing {
            self.serve_input(connection, &mut reply, &mut ran)
        } else {
            Fate::Stays
        };
        self.executor.release_kept();
        connection.output.put_back(reply.take_buffer());
        connection.output.end_turn();
        connection.drop_unheard();
        connection.tell_output();
        self.server.look_at_memory_of(&connection.info);
        if connection.closing {
            connection.info.set_flag(FLAG_CLOSING, true);
            connection.charge = None;
        }
        if (!connection.output.is_empty() || connection.is_finished()) && !connection.dirty {
            connection.dirty = true;
            self.dirty.push(connection.token);
        }
        if connection.is_given_up() { (Fate::Closes, ran) } else { (fate, ran) }
    }

    /// One step of finding out how to encrypt: as far as what has arrived goes. It counts as many commands, as it costs about as much.
    #[cold]
    fn shake_hands(&mut self, connection: &mut Connection) -> (Fate, usize) {
        match connection.stream.shake_hands() {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                connection.readable = false;
                return (Fate::Stays, HANDSHAKE_COMMANDS);
            }
            Err(error) => {
                let address = &connection.info.address;
                self.server
                    .log('-', &format!("Error accepting a client connection: {error} (addr={address})"));
                return (Fate::Closes, HANDSHAKE_COMMANDS);
            }
        }
        // What came with its last step is there already, and no edge will tell.
        connection.readable = true;
        if let Some(refusal) = connection.refusal {
            let mut output = connection.output.take();
            output.extend_from_slice(refusal);
            connection.output.put_back(output);
            connection.closing = true;
            self.counters().connections_rejected.fetch_add(1, RELAXED);
        }
        if !connection.output.is_empty() && !connection.dirty {
            connection.dirty = true;
            self.dirty.push(connection.token);
        }
        (Fate::Stays, HANDSHAKE_COMMANDS)
    }

    /// Reads and runs what was read.
    pub(super) fn serve_input(
        &mut self,
        connection: &mut Connection,
        reply: &mut ReplyWriter,
        ran: &mut usize,
    ) -> Fate {
        let mut shared = std::mem::take(&mut self.read_buffer);
        let small = connection.tail.is_small();
        let unparsed = connection.tail.is_unparsed();
        let mut parser = match connection.tail.take_parser() {
            Some(parser) => parser,
            None => match self.parser.take() {
                Some(mut parser) => {
                    parser.reset();
                    parser
                }
                None => Box::new(RequestParser::new(Limits::DEFAULT)),
            },
        };
        parser.set_limits(Limits {
            bulk_bytes_max: self.server.settings.bulk_bytes_max.load(RELAXED) as usize,
            ..Limits::DEFAULT
        });
        let front = if small { connection.tail.move_to(&mut shared) } else { 0 };
        let mut filled = front;
        if !unparsed && connection.readable {
            match self.read(connection, shared.get_mut(front..front + READ_BYTES_MAX).unwrap_or_default()) {
                Ok(count) => {
                    filled += count;
                    self.executor.look_at_clock();
                }
                Err(_) => {
                    self.read_buffer = shared;
                    self.parser = Some(parser);
                    return Fate::Closes;
                }
            }
        }
        connection.info.query_bytes.store(connection.tail.len() + filled, RELAXED);
        self.server.look_at_memory_of(&connection.info);
        if connection.info.is_killed() {
            self.read_buffer = shared;
            self.parser = Some(parser);
            return Fate::Closes;
        }
        let (taken, lacking);
        let fate = if small {
            let input = shared.get(..filled).unwrap_or_default();
            (taken, lacking) = self.run_input(connection, reply, &mut parser, input, ran);
            let rest = input.get(taken..).unwrap_or_default().to_vec();
            self.keep_rest(connection, rest, parser, lacking.is_none())
        } else {
            let input = connection.tail.take_with(shared.get(..filled).unwrap_or_default());
            (taken, lacking) = self.run_input(connection, reply, &mut parser, &input, ran);
            self.keep_rest(connection, cut_front(input, taken), parser, lacking.is_none())
        };
        let request_bytes = lacking.map_or(0, |lacking| connection.tail.len().saturating_add(lacking));
        if request_bytes > LARGE_REQUEST_BYTES || connection.charge.is_some() {
            self.charge(connection, *ran > 0, request_bytes);
        }
        self.read_buffer = shared;
        fate
    }

    /// Parses and runs commands of `input`. Returns how many bytes were taken, and how many at least the command that is left lacks;
    /// `None` if what is left may hold whole commands.
    pub(super) fn run_input(
        &mut self,
        connection: &mut Connection,
        reply: &mut ReplyWriter,
        parser: &mut RequestParser,
        input: &[u8],
        ran: &mut usize,
    ) -> (usize, Option<usize>) {
        let mut taken = 0;
        let before = *ran;
        // Commands that have been looked at before their turn.
        let mut looked_at = 0usize;
        // As `Output::is_full` counts: else a connection that is not full ran nothing, turn after turn.
        let full = connection.output.sent_front() + UNSENT_BYTES_MAX;
        loop {
            if *ran >= COMMANDS_PER_TURN || reply.len() >= full {
                connection.info.commands.fetch_add((*ran - before) as u64, RELAXED);
                return (taken, None);
            }
            let Some(session) = connection.session.as_ref() else { break };
            parser.set_authenticated(session.authenticated || !self.server.users.asks_for_password());
            let rest = input.get(taken..).unwrap_or_default();
            let consumed = match parser.parse(rest) {
                Ok(Progress::Complete { consumed }) => consumed,
                Ok(Progress::Incomplete { wanted_bytes }) => {
                    connection.info.commands.fetch_add((*ran - before) as u64, RELAXED);
                    return (taken, Some(wanted_bytes));
                }
                Err(error) => {
                    reply.error(&format!("ERR {error}"));
                    connection.closing = true;
                    break;
                }
            };
            taken += consumed;
            if parser.arguments().is_empty() {
                continue;
            }
            *ran += 1;
            let args = Args::new(parser.source(rest), parser.arguments());
            looked_at = looked_at.saturating_sub(1);
            let more = consumed < rest.len();
            if looked_at == 0 && more {
                let ahead = rest.get(consumed..).unwrap_or_default();
                looked_at = self.executor.look_ahead(connection.info.db(), ahead);
            }
            if let Some(again) = self.run_command(connection, reply, args, None, false, more) {
                let args = args.to_owned();
                connection.info.argument_bytes.store(args.buffer.len(), RELAXED);
                connection.pending = Some(Pending { args, ..again });
            }
            if matches!(connection.parked, Some(Parked::Pool)) {
                self.warm_ahead(connection, input.get(taken..).unwrap_or_default());
            }
            if connection.parked.is_some() || connection.closing {
                break;
            }
            if connection.info.flags() & FLAGS_PUSHED != 0 && self.shared.mailbox.has_mail() {
                // It may be for this very client, whom it reaches behind this reply and before the next.
                connection.info.commands.fetch_add((*ran - before) as u64, RELAXED);
                return (taken, None);
            }
        }
        connection.info.commands.fetch_add((*ran - before) as u64, RELAXED);
        (taken, None)
    }

    /// One read. A short one says that the socket is empty.
    pub(super) fn read(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match connection.stream.read(buffer) {
                Ok(0) => {
                    connection.readable = false;
                    connection.ended = true;
                    return Ok(0);
                }
                Ok(count) => {
                    // After a hang-up no further edge comes: read until the end says so itself.
                    connection.readable =
                        !connection.stream.is_drained(count, buffer.len()) || connection.hung_up;
                    let counters = self.counters();
                    counters.net_input_bytes.fetch_add(count as u64, RELAXED);
                    counters.reads_processed.fetch_add(1, RELAXED);
                    connection.info.net_input_bytes.fetch_add(count as u64, RELAXED);
                    connection.info.touch(self.now_ms);
                    return Ok(count);
                }
                // All that a peer sent before it went has been run.
                Err(error) if error.kind() == ErrorKind::WouldBlock && !connection.unheard => {
                    connection.readable = false;
                    return Ok(0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps what was not run for the next turn.
    pub(super) fn keep_rest(
        &mut self,
        connection: &mut Connection,
        rest: Vec<u8>,
        parser: Box<RequestParser>,
        more: bool,
    ) -> Fate {
        connection.info.query_bytes.store(rest.len(), RELAXED);
        if connection.closing || rest.is_empty() {
            self.parser = Some(parser);
            connection.tail.clear();
            return Fate::Stays;
        }
        if rest.len() as u64 > self.server.settings.query_bytes_max.load(RELAXED) {
            self.counters().query_limit_disconnections.fetch_add(1, RELAXED);
            return Fate::Closes;
        }
        connection.tail.keep(rest, Some(parser), more);
        Fate::Stays
    }

    /// Charges for a request that is or may become large, before more of it is read; gives back what was charged for one that is
    /// over. A command that is to be run again keeps its charge beside its words.
    #[cold]
    pub(super) fn charge(&mut self, connection: &mut Connection, command_ran: bool, request_bytes: usize) {
        if connection.pending.is_some() {
            return;
        }
        if command_ran || connection.closing || request_bytes <= LARGE_REQUEST_BYTES {
            connection.charge = None;
        }
        if request_bytes > LARGE_REQUEST_BYTES && !connection.closing {
            let allowance = &self.server.allowance;
            let charge = connection.charge.get_or_insert_with(|| Box::new(Charge::new(allowance)));
            if !charge.grow(request_bytes) {
                self.waiting_for_memory.push((connection.token, connection.info.id));
            }
        }
    }

    /// Goes on with connections for which there is memory now.
    pub(super) fn look_for_memory(&mut self) {
        if self.waiting_for_memory.is_empty() {
            return;
        }
        // Read before asking: what changes later is asked for again.
        let changes = self.server.allowance.changes();
        if changes == self.memory_changes {
            return;
        }
        self.memory_changes = changes;
        let mut waiting = std::mem::take(&mut self.waiting_for_memory);
        waiting.retain(|&(token, client)| {
            let Some(Some(connection)) = self.connections.get_mut(token) else { return false };
            if connection.info.id != client {
                return false;
            }
            let waits = connection.charge.as_mut().is_some_and(|charge| !charge.ask_again());
            if !waits {
                self.make_ready(token);
            }
            waits
        });
        self.waiting_for_memory = waiting;
    }
}
