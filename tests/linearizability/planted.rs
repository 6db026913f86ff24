//! The checker itself: histories that are wrong in one place are refused, and the right ones beside them are not.

use haypile_resp::Value;

use super::checker::{Observed, check};
use super::key::{Command, Key, Operation, State};
use super::support::random::Random;

type History = Vec<Observed<Key>>;

fn bulk(text: &str) -> Value {
    Value::Bulk(text.as_bytes().to_vec())
}

fn ok() -> Value {
    Value::Simple(b"OK".to_vec())
}

fn set(text: &str) -> Command {
    Command::Set(text.as_bytes().to_vec())
}

fn push(text: &str) -> Command {
    Command::LeftPush(text.as_bytes().to_vec())
}

/// A command from one moment to another, with its answer; or without.
fn did(client: usize, command: Command, times: (u64, u64), reply: impl Into<Option<Value>>) -> Observed<Key> {
    Observed {
        client,
        operation: Operation::One(command),
        follows: false,
        reply: reply.into(),
        called: times.0,
        returned: times.1,
    }
}

fn right(history: History) {
    check::<Key>(State::Nothing, &history).unwrap_or_else(|wrong| panic!("refused: {wrong}"));
}

fn wrong(history: History) {
    assert!(check::<Key>(State::Nothing, &history).is_err(), "accepted: {history:?}");
}

#[test]
fn a_stale_read_is_refused() {
    let history = |read: (u64, u64), value| {
        vec![
            did(0, set("1"), (0, 10), ok()),
            did(0, set("2"), (20, 30), ok()),
            did(1, Command::Get, read, bulk(value)),
        ]
    };
    wrong(history((40, 50), "1"));
    right(history((40, 50), "2"));
    // It may have been before the second SET took effect.
    right(history((25, 50), "1"));
    right(history((0, 9), "1"));
    wrong(history((0, 9), "2"));
}

#[test]
fn reads_that_go_back_are_refused() {
    let history = |first, second| {
        vec![
            did(0, set("1"), (0, 10), ok()),
            did(0, set("2"), (20, 90), ok()),
            did(1, Command::Get, (30, 40), bulk(first)),
            did(2, Command::Get, (50, 60), bulk(second)),
        ]
    };
    wrong(history("2", "1"));
    right(history("1", "2"));
    right(history("2", "2"));
    right(history("1", "1"));
}

#[test]
fn a_lost_update_is_refused() {
    let history = |second| {
        vec![
            did(0, Command::Incr, (0, 20), Value::Integer(1)),
            did(1, Command::Incr, (5, 30), Value::Integer(second)),
            did(2, Command::Get, (40, 50), bulk(&second.to_string())),
        ]
    };
    wrong(history(1));
    wrong(history(3));
    right(history(2));
}

#[test]
fn a_lost_or_doubled_list_element_is_refused() {
    let history = |popped: Value, left: &[&str]| {
        let left = left.iter().map(|element| bulk(element)).collect();
        vec![
            did(0, push("a"), (0, 10), Value::Integer(1)),
            did(1, push("b"), (20, 30), Value::Integer(2)),
            did(2, Command::RightPop, (40, 50), popped),
            did(3, Command::Range, (60, 70), Value::Array(left)),
        ]
    };
    right(history(bulk("a"), &["b"]));
    wrong(history(bulk("a"), &[]));
    wrong(history(bulk("a"), &["b", "a"]));
    wrong(history(bulk("b"), &["a"]));
    wrong(history(Value::Null, &["b"]));
}

#[test]
fn an_element_given_to_two_waiters_is_refused() {
    let popped = |element| Value::Array(vec![bulk(element)]);
    let history = |second: Value| {
        vec![
            did(0, Command::BlockingPop, (0, 40), popped("a")),
            did(1, Command::BlockingPop, (1, 50), second),
            did(2, push("a"), (10, 20), Value::Integer(1)),
            did(2, push("b"), (25, 30), Value::Integer(1)),
        ]
    };
    wrong(history(popped("a")));
    right(history(popped("b")));
}

#[test]
fn an_exec_over_a_changed_key_is_refused() {
    let exec = |reply| Observed::<Key> {
        client: 0,
        operation: Operation::Watched { seen: bulk("1"), commands: vec![set("2")] },
        follows: false,
        reply: Some(reply),
        called: 30,
        returned: 40,
    };
    let before = |between| vec![did(0, set("1"), (0, 10), ok()), did(1, set("7"), between, ok())];
    let with = |mut history: History, reply| {
        history.push(exec(reply));
        history
    };
    wrong(with(before((15, 20)), Value::Array(vec![ok()])));
    right(with(before((15, 20)), Value::NullArray));
    right(with(before((15, 35)), Value::Array(vec![ok()])));
}

#[test]
fn a_pipeline_out_of_order_is_refused() {
    let history = |read: &str, follows| {
        vec![
            did(0, set("1"), (0, 90), ok()),
            Observed { follows, ..did(0, set("2"), (0, 100), ok()) },
            did(1, Command::Get, (110, 120), bulk(read)),
        ]
    };
    right(history("2", true));
    wrong(history("1", true));
    // Two that are only under way at once may be in either order.
    right(history("1", false));
    // Nobody knows whether the first happened; the second did not without it.
    let cut = |read: Value| {
        vec![
            did(0, set("1"), (0, 90), None),
            Observed { follows: true, ..did(0, Command::Incr, (0, 100), None) },
            did(1, Command::Get, (50, 60), read),
        ]
    };
    right(cut(bulk("2")));
    right(cut(bulk("1")));
    right(cut(Value::Null));
    for read in [(50, 60), (100, 120), (110, 120)] {
        let cut_short = |follows| {
            vec![
                did(0, Command::Incr, (0, 100), None),
                Observed { follows, ..did(0, push("a"), (0, 100), None) },
                did(1, Command::Range, read, Value::Array(vec![bulk("a")])),
            ]
        };
        wrong(cut_short(true));
        right(cut_short(false));
    }
}

#[test]
fn half_a_transaction_is_refused() {
    let history = |read: Value| {
        vec![
            Observed {
                client: 0,
                operation: Operation::Transaction(vec![set("1"), Command::Incr]),
                follows: false,
                reply: Some(Value::Array(vec![ok(), Value::Integer(2)])),
                called: 0,
                returned: 100,
            },
            did(1, Command::Get, (40, 50), read),
        ]
    };
    wrong(history(bulk("1")));
    right(history(bulk("2")));
    right(history(Value::Null));
}

#[test]
fn what_nobody_answered_happens_once_or_never_and_not_later() {
    // The write is under way when the server is killed at 50.
    let history = |reads: [Value; 3]| {
        let mut history = vec![did(0, set("1"), (0, 10), ok()), did(1, set("2"), (20, 50), None)];
        for (number, read) in reads.into_iter().enumerate() {
            let called = [30, 60, 80][number];
            history.push(did(2, Command::Get, (called, called + 10), read));
        }
        history
    };
    let (one, two) = (|| bulk("1"), || bulk("2"));
    right(history([one(), one(), one()]));
    right(history([one(), two(), two()]));
    right(history([two(), two(), two()]));
    // Seen, and lost by the kill; not there after the kill, and there later; an acknowledged write lost.
    wrong(history([two(), one(), one()]));
    wrong(history([one(), one(), two()]));
    wrong(history([one(), Value::Null, Value::Null]));
    // Twice.
    let increments = |found| {
        vec![
            did(0, Command::Incr, (0, 10), Value::Integer(1)),
            did(1, Command::Incr, (20, 50), None),
            did(2, Command::Get, (60, 70), bulk(found)),
        ]
    };
    right(increments("1"));
    right(increments("2"));
    wrong(increments("3"));
}

/// Histories made by a key that does one thing at a time are accepted, whatever overlaps; with one answer changed they are not.
#[test]
fn made_histories_are_accepted_and_spoiled_ones_are_not() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut history = made(&mut random);
        right_from(&history, seed);
        let reads: Vec<usize> = history
            .iter()
            .enumerate()
            .filter(|(_, one)| matches!(one.operation, Operation::One(Command::Get)) && one.reply.is_some())
            .map(|(index, _)| index)
            .collect();
        let spoiled = random.pick(&reads);
        history[spoiled].reply = Some(bulk("never written"));
        assert!(check::<Key>(State::Nothing, &history).is_err(), "seed {seed}");
    }
}

fn right_from(history: &History, seed: u64) {
    if let Err(wrong) = check::<Key>(State::Nothing, history) {
        panic!("seed {seed}: {wrong}");
    }
}

/// Each operation takes effect at a moment of its own, and is under way for a while on both sides of it.
fn made(random: &mut Random) -> History {
    const CLIENTS: usize = 6;
    let mut free_from = [0u64; CLIENTS];
    let mut state = State::Nothing;
    let mut history = Vec::new();
    for step in 1..200u64 {
        let moment = step * 10;
        let client = random.below(CLIENTS as u64) as usize;
        if free_from[client] >= moment {
            continue;
        }
        let command = match random.below(5) {
            0 => set(&step.to_string()),
            1 => Command::Incr,
            2 => Command::Del,
            _ => Command::Get,
        };
        let called = moment - random.below((moment - free_from[client]).min(60));
        let returned = moment + random.below(60);
        free_from[client] = returned + 1;
        let reply = command.answer(&mut state);
        let unknown = random.chance(30);
        history.push(did(client, command, (called, returned), (!unknown).then_some(reply)));
    }
    let found = Command::Get.answer(&mut state);
    history.push(did(0, Command::Get, (10_000, 10_001), found));
    history
}
