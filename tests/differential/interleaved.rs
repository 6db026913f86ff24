//! Several connections that take turns, each with its own transactions and watched keys.
//!
//! One command at a time, to the same connection of each server, and its answer before the next: so who changes a watched key, and
//! when, is the same everywhere. Keys to watch are those of recent commands, and commands go mostly to few keys, so about as many
//! transactions are called off as run; [`Sessions::report`] makes sure that both happen.

use super::generator::{Check, Generator, Step, is_key, may_be_queued};
use super::{DIFFERENCES_MAX, REPEATED_MAX, Stream, exact};
use crate::support::client::render_command;
use crate::support::random::Random;
use haypile_resp::Value;
use std::collections::VecDeque;

/// Commands shown with a difference.
const RECENT: usize = 150;

/// See the module.
pub struct Sessions {
    stream: Stream,
    generator: Generator,
    random: Random,
    /// What is queued on each connection; `None` outside of a transaction.
    queued: Vec<Option<Vec<Step>>>,
    /// How many connections there are: two to four, by the seed.
    connections: usize,
    ran: u64,
    called_off: u64,
    /// What was sent of late, and on which connection.
    recent: VecDeque<(usize, String)>,
}

impl Sessions {
    pub fn new(stream: Stream, seed: u64) -> Sessions {
        let mut sessions = Sessions {
            stream,
            generator: Generator::new(seed, false),
            random: Random::new(seed ^ 0x5eed),
            queued: Vec::new(),
            connections: 2 + Random::new(seed ^ 0xc0).below(3) as usize,
            ran: 0,
            called_off: 0,
            recent: VecDeque::new(),
        };
        sessions.start_over();
        sessions
    }

    pub fn run(&mut self, commands: u64) {
        let mut next_walk = 1000;
        while self.stream.sent < commands
            && self.stream.differences.len() < DIFFERENCES_MAX
            && self.stream.repeated < REPEATED_MAX
        {
            let connection = self.random.below(self.connections as u64) as usize;
            let step = self.draw(connection);
            let known = self.stream.differences.len();
            if !self.send(connection, step) {
                if self.stream.differences.len() > known {
                    for (connection, command) in &self.recent {
                        eprintln!("    {connection}: {command}");
                    }
                }
                self.start_over();
            } else if self.stream.sent >= next_walk {
                self.stream.walk();
                self.start_over();
                next_walk = self.stream.sent + 1000;
            }
        }
    }

    /// Prints and fails on differences; and if no transaction ran, or none was called off.
    pub fn report(mut self) {
        eprintln!("{} transactions ran, {} were called off", self.ran, self.called_off);
        self.stream.report("interleaved");
        assert!(self.ran > 0 && self.called_off > 0, "ran {}, called off {}", self.ran, self.called_off);
    }

    fn draw(&mut self, connection: usize) -> Step {
        let inside = self.queued[connection].is_some();
        match self.random.below(100) {
            0..9 => exact(&["MULTI"]),
            9..21 if inside => exact(&["EXEC"]),
            21..23 => exact(&["DISCARD"]),
            23..25 => exact(&["UNWATCH"]),
            25..40 if !inside => self.watch(),
            _ => loop {
                let step = self.generator.step();
                // Of places equally far away each server names another first.
                let name = step.command[0].to_ascii_lowercase();
                let is_place = name.starts_with(b"geo");
                // Those that may leave a list as it was: Redis takes its watchers for disturbed all the same.
                let may_do_nothing = [&b"ltrim"[..], b"lmove", b"blmove", b"rpoplpush", b"brpoplpush"];
                if may_be_queued(&step) && !is_place && !may_do_nothing.contains(&&name[..]) {
                    return step;
                }
            },
        }
    }

    /// WATCH of some keys that were named of late.
    fn watch(&mut self) -> Step {
        let recent: Vec<Vec<u8>> = self.stream.history.iter().rev().take(30).flatten().cloned().collect();
        let keys: Vec<Vec<u8>> = recent.into_iter().filter(|word| is_key(word)).collect();
        let mut step = exact(&["WATCH"]);
        for _ in 0..=self.random.below(3) {
            let key = keys.get(self.random.below(keys.len().max(1) as u64) as usize);
            step.command.push(key.cloned().unwrap_or_else(|| b"s0".to_vec()));
        }
        step
    }

    /// Sends a command on one connection; whether all servers agree.
    fn send(&mut self, connection: usize, step: Step) -> bool {
        self.take_turn(connection);
        let bytes = {
            let mut bytes = Vec::new();
            super::encode(&mut bytes, &step.command);
            bytes
        };
        self.stream.remember(&step.command);
        let answers: Vec<Value> = self.stream.exchange(&bytes, 1).into_iter().flatten().collect();
        let line = format!("{} -> {}", render_command(&step.command), super::shown(&answers[0]));
        self.recent.push_back((connection, line));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        self.take_turn(connection);
        let is = |name: &str| step.command[0].eq_ignore_ascii_case(name.as_bytes());
        let queued = Value::Simple(b"QUEUED".to_vec());
        if is("EXEC")
            && let Some(steps) = self.queued[connection].take()
        {
            return self.compare_exec(&steps, &answers);
        }
        if is("MULTI") && self.queued[connection].is_none() {
            self.queued[connection] = Some(Vec::new());
        } else if is("DISCARD") {
            self.queued[connection] = None;
        } else if answers[0] == queued
            && let Some(steps) = &mut self.queued[connection]
        {
            let agreed = answers.iter().all(|answer| *answer == queued);
            let same = agreed || self.stream.compare(&step.command, Check::Exact, &answers);
            steps.push(step);
            return same && agreed;
        }
        self.stream.compare(&step.command, step.check, &answers)
    }

    fn compare_exec(&mut self, steps: &[Step], answers: &[Value]) -> bool {
        let lists: Vec<&Vec<Value>> = answers
            .iter()
            .filter_map(|answer| match answer {
                Value::Array(list) if list.len() == steps.len() => Some(list),
                _ => None,
            })
            .collect();
        if lists.len() < answers.len() {
            let error = matches!(answers[0], Value::Error(_));
            self.called_off += u64::from(!error);
            return self.stream.compare(&[b"EXEC".to_vec()], Check::Exact, answers);
        }
        self.ran += 1;
        steps.iter().enumerate().all(|(index, step)| {
            let answers: Vec<Value> = lists.iter().map(|list| list[index].clone()).collect();
            self.stream.compare(&step.command, step.check, &answers)
        })
    }

    /// Puts a connection in the place of the one that [`Stream`] speaks through, or back.
    fn take_turn(&mut self, connection: usize) {
        for peer in &mut self.stream.peers {
            std::mem::swap(&mut peer.client, &mut peer.others[connection]);
        }
    }

    /// Begins with empty servers and new connections.
    fn start_over(&mut self) {
        self.stream.empty_all();
        let protocol = self.stream.protocol.to_string();
        for peer in &mut self.stream.peers {
            peer.others = (0..self.connections).map(|_| peer.server.client()).collect();
            for client in &mut peer.others {
                client.call(&["HELLO", protocol.as_str()]);
            }
        }
        self.queued = vec![None; self.connections];
    }
}
