//! The facts about commands beside those of a real redis-server: COMMAND and COMMAND DOCS, field by field.
//!
//! Ours are rendered by the code that answers clients, and are of all commands, also those that no function runs yet. What
//! is compared: arity, flags, first-last-step, ACL categories, tips, key specifications, group, first version,
//! deprecation and the tree of arguments. What is not: summaries, costs and histories, which are our own words or not there.
//! Besides, which words of [`LINES`] are keys: COMMAND GETKEYSANDFLAGS.
//!
//! The control is redis-server 7.0. Where `HAYPILE_REDIS8` names a later one (7.4 is the version that the facts are of),
//! that is a control too. A command or argument later than a control is not asked of it. Every other difference stands in
//! [`EXCEPTIONS`]; one that is no longer there fails as well. Before 7.2 arguments had other names and no display texts;
//! there only the shape of the tree is compared.
#![expect(
    clippy::disallowed_methods,
    reason = "a test outside the server reads clocks and files as any program"
)]

#[expect(dead_code, reason = "each test binary takes its part of what they share")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use haypile::base::args::OwnedArgs;
use haypile::base::stop::Stop;
use haypile::command::command_cmd::{keys_of, write_docs, write_info, write_keys};
use haypile::command::facts::all;
use haypile::command::spec::{Class, Context, Table};
use haypile_resp::{Protocol, ReplyReader, ReplyWriter, Value};

use support::client::{Client, bulk, render};
use support::program::Program;
use support::server::Server;

/// Major times a hundred plus minor.
type Version = u32;

/// 7.2 is not told apart from 7.0.
const BEFORE_7_4: Range<Version> = 0..704;
const FROM_8_0: Range<Version> = 800..Version::MAX;
const FROM_8_2: Range<Version> = 802..Version::MAX;

/// In controls of these versions these fields of these commands differ, for the reason given.
type Exception = (Range<Version>, &'static [&'static str], &'static [&'static str], &'static str);

const EXCEPTIONS: &[Exception] = &[
    (
        BEFORE_7_4,
        &["blmove", "blpop", "brpop", "brpoplpush", "bzpopmax", "bzpopmin"],
        &["flags"],
        "not from scripts then",
    ),
    (BEFORE_7_4, &["wait"], &["flags", "categories"], "not from scripts then, and not called blocking"),
    (BEFORE_7_4, &["cluster|shards", "cluster|slots"], &["flags"], "not while loading then"),
    (BEFORE_7_4, &["sinterstore"], &["keys"], "said to read its destination then"),
    (
        BEFORE_7_4,
        &["command|getkeys", "command|getkeysandflags"],
        &["arity", "arguments"],
        "a command without arguments came later",
    ),
    (BEFORE_7_4, &["zrank", "zrevrank"], &["arity", "arguments"], "WITHSCORE came later"),
    (BEFORE_7_4, &["hscan"], &["arguments"], "NOVALUES came later"),
    (BEFORE_7_4, &["client|pause"], &["since"], "a development version then"),
    (
        BEFORE_7_4,
        &["psetex", "quit", "setex", "setnx"],
        &["doc_flags", "deprecated_since"],
        "deprecated later, from a day before",
    ),
    (BEFORE_7_4, &["acl|deluser", "acl|save", "acl|setuser"], &["tips"], "tips came later"),
    (BEFORE_7_4, &["client|setname", "config|resetstat", "config|rewrite"], &["tips"], "tips came later"),
    (BEFORE_7_4, &["latency|reset", "msetnx", "randomkey", "scan"], &["tips"], "other tips then"),
    (
        BEFORE_7_4,
        &["client|list", "config|get", "module|loadex", "psubscribe"],
        &["arguments"],
        "repeated in blocks of one then",
    ),
    (BEFORE_7_4, &["bitop", "client|kill"], &["arguments"], "words that were not enumerated then"),
    (
        BEFORE_7_4,
        &["geohash", "geopos", "pfmerge"],
        &["arguments"],
        "not told then that they may be left out",
    ),
    (
        BEFORE_7_4,
        &["georadius", "georadiusbymember", "migrate", "xinfo|stream"],
        &["arguments"],
        "alternatives were grouped otherwise then",
    ),
    (FROM_8_0, &["hexpire", "hexpireat", "hpexpire", "hpexpireat"], &["flags"], "also without memory since"),
    (FROM_8_0, &["hpttl", "httl"], &["tips"], "tips came later"),
    (FROM_8_2, &["bitop"], &["arguments"], "DIFF, DIFF1, ANDOR and ONE came later"),
    (FROM_8_2, &["xadd", "xtrim"], &["arguments"], "KEEPREF, DELREF and ACKED came later"),
];

/// Commands of later versions that are not ours.
const NOT_OURS: &[&str] = &["cluster|slot-stats", "xackdel", "xdelex"];

/// Whose keys both are asked for. `""` is the empty word.
const LINES: &str = r#"
set k v
set k v get
set k v get ex 10
set k v ex 10
bitfield k get u8 0
bitfield k get u8 0 set u8 0 1
bitfield k incrby u8 0 1
bitfield_ro k get u8 0
mset a 1 b 2
mset a 1 b
bitop and d a b c
lcs a b
copy a b db 1
rename a b
object encoding k
object help
memory usage k samples 5
memory doctor
sort k
sort k store d
sort k by w_* get o_* get # limit 0 10 store d
sort k by store get x
sort k store a store b
sort k store
sort_ro k by w_* get o_*
migrate h 1 k 0 100
migrate h 1 k 0 100 copy replace
migrate h 1 "" 0 100 keys a b
migrate h 1 "" 0 100 copy auth keys keys a b
migrate h 1 k 0 100 keys a b
migrate h 1 "" 0 100 auth2 keys keys keys a
restore k 0 x replace
eval script 0
eval script 2 a b c
eval script -1 a
eval script x a
eval script 5 a
eval_ro script 1 a
fcall f 0
fcall f 1 a
script load x
lmove a b left right
lmpop 2 a b left
lmpop 0 left right
lmpop 3 a b left
blmpop 0 2 a b left
blpop a b 0
rpoplpush a b
sdiffstore d a b
sinter a b
sintercard 2 a b limit 1
smove a b m
zadd k 1 a
zunionstore d 2 a b weights 1 2
zunionstore d 3 a b
zunionstore d 0 a b
zunion 2 a b withscores
zdiffstore d 1 a
zrangestore d s 0 1
zmpop 1 a min
bzmpop 1 2 a b min
bzpopmin a b 0
zintercard 1 a
hset k f v
hexpire k 10 fields 1 f
geoadd k 1 1 m
georadius k 1 1 1 km
georadius k 1 1 1 km store d
georadius k 1 1 1 km storedist d
georadius k 1 1 1 km store d storedist e
georadiusbymember k m 1 km store d
georadiusbymember k m 1 km asc storedist d
georadius_ro k 1 1 1 km
geosearchstore d s frommember m byradius 1 km
pfadd k a
pfcount a b
pfmerge d a b
pfdebug encoding k
xadd k * f v
xread streams a b 0 0
xread count 1 block 0 streams a b 0 0
xread count 1
xread streams a b 0
xread count streams streams a 0
xreadgroup group g c streams a b > >
xreadgroup group streams c count 1 streams a >
xgroup create k g $
xgroup help
xinfo stream k full
xinfo help
xclaim k g c 1 1-1
spublish ch m
ssubscribe a b
subscribe a
publish a b
watch a b
ping
get
get a b
nosuch a
config get x
config nosuch
flushall
client kill x
debug object k
restore-asking k 0 v
"#;

/// The fields of a command by name, as text that is equal where they mean the same.
type Fields = BTreeMap<String, String>;

#[test]
fn facts_equal_those_of_redis() {
    for control in Program::controls() {
        eprintln!("control: {}", control.version);
        let version = version_of(&control.version);
        let server = Server::start_program("facts", control, &[]);
        let mut client = server.client();
        client.call(&["HELLO", "3"]);
        let mut differences = compare(version, &ours(version), &ask(&mut client, version));
        differences.sort();
        differences.extend(compare_keys(version, &mut client));
        assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    }
}

/// COMMAND GETKEYSANDFLAGS of every line of [`LINES`].
fn compare_keys(version: Version, client: &mut Client) -> Vec<String> {
    let table = table_of_all();
    let mut differences = Vec::new();
    for line in LINES.lines().filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split(' ').map(|word| if word == "\"\"" { "" } else { word }).collect();
        let known =
            table.find(words[0].as_bytes()).is_none_or(|command| !later(command.facts.since, version));
        // Before 7.4, GETKEYS itself wanted a command with an argument.
        if !known || (BEFORE_7_4.contains(&version) && words.len() < 2) {
            continue;
        }
        let owned = OwnedArgs::from_words(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
        let mut reply = ReplyWriter::new(Protocol::Resp3);
        match keys_of(&table, &owned.as_args()) {
            Ok(keys) => write_keys(&mut reply, &keys),
            Err(error) => reply.error(error.text()),
        }
        let ours = canonical(&read_one(reply.buffer()), version);
        let asked: Vec<&str> = ["COMMAND", "GETKEYSANDFLAGS"].into_iter().chain(words).collect();
        let theirs = canonical(&client.call(&asked), version);
        if ours != theirs {
            differences.push(format!("keys of {line}:\n    ours   {ours}\n    theirs {theirs}"));
        }
    }
    differences
}

fn read_one(bytes: &[u8]) -> Value {
    let mut reader = ReplyReader::default();
    reader.feed(bytes);
    reader.next().expect("a well-formed reply").expect("a complete reply")
}

/// All commands, those that no function runs yet as well.
fn table_of_all() -> Table {
    Table::new(all::commands(), &|_| Some((nothing, Class::Inline)))
}

fn nothing(_: &mut Context<'_>) -> Result<(), Stop> {
    Ok(())
}

fn compare(
    version: Version,
    ours: &BTreeMap<String, Fields>,
    theirs: &BTreeMap<String, Fields>,
) -> Vec<String> {
    let mut differences = Vec::new();
    let mut excused: BTreeSet<(&str, &str)> = EXCEPTIONS
        .iter()
        .filter(|(versions, ..)| versions.contains(&version))
        .flat_map(|(_, names, fields, _)| {
            names.iter().flat_map(|name| fields.iter().map(|field| (*name, *field)))
        })
        .collect();
    let nothing = String::new();
    for (name, ours) in ours {
        let Some(theirs) = theirs.get(name) else {
            differences.push(format!("{name}: the control has no such command"));
            continue;
        };
        for field in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
            let (ours, theirs) = (ours.get(field).unwrap_or(&nothing), theirs.get(field).unwrap_or(&nothing));
            if ours != theirs && !excused.remove(&(name.as_str(), field.as_str())) {
                differences.push(format!("{name} {field}:\n    ours   {ours}\n    theirs {theirs}"));
            }
        }
    }
    differences.extend(
        excused.iter().map(|(name, field)| format!("{name} {field}: an exception without a difference")),
    );
    let unknown =
        theirs.keys().filter(|name| !ours.contains_key(*name) && !NOT_OURS.contains(&name.as_str()));
    differences.extend(unknown.map(|name| format!("{name}: we know nothing of it")));
    differences
}

/// The facts of every command that a server of this version has, as our own code sends them.
fn ours(version: Version) -> BTreeMap<String, Fields> {
    let table = table_of_all();
    let mut commands = BTreeMap::new();
    for command in table.top().filter(|command| !command.facts.extension) {
        let mut reply = ReplyWriter::new(Protocol::Resp3);
        write_info(&mut reply, &table, command);
        write_docs(&mut reply, &table, command);
        let mut reader = ReplyReader::default();
        reader.feed(reply.buffer());
        let mut next = || reader.next().expect("a well-formed reply").expect("a complete reply");
        read_info(&next(), version, &mut commands);
        let name = text(&next());
        read_docs(&name, &next(), version, &mut commands);
    }
    commands.retain(|_, fields: &mut Fields| !later(fields.get("since").map_or("", String::as_str), version));
    commands
}

/// The facts of every command that a server of Redis has.
fn ask(client: &mut Client, version: Version) -> BTreeMap<String, Fields> {
    let mut commands = BTreeMap::new();
    for info in elements(&client.call(&["COMMAND"])) {
        read_info(info, version, &mut commands);
    }
    for (name, docs) in pairs(&client.call(&["COMMAND", "DOCS"])) {
        read_docs(&text(name), docs, version, &mut commands);
    }
    // Commands of modules that are built in.
    commands.retain(|_, fields: &mut Fields| fields.contains_key("since"));
    commands
}

/// One element of the reply to COMMAND, with its subcommands.
fn read_info(info: &Value, version: Version, commands: &mut BTreeMap<String, Fields>) {
    let [name, arity, flags, first, last, step, categories, tips, keys, subcommands] = elements(info) else {
        panic!("COMMAND: {}", render(info));
    };
    let mut fields = Fields::new();
    let mut tell = |field: &str, value: &Value| fields.insert(field.to_string(), canonical(value, version));
    tell("arity", arity);
    tell("flags", flags);
    tell("first", first);
    tell("last", last);
    tell("step", step);
    tell("categories", categories);
    tell("tips", tips);
    // Their order matters: arguments refer to them by index.
    tell("keys", &Value::Array(elements(keys).to_vec()));
    commands.insert(text(name), fields);
    for subcommand in elements(subcommands) {
        read_info(subcommand, version, commands);
    }
}

/// One pair of the reply to COMMAND DOCS, with its subcommands.
fn read_docs(name: &str, docs: &Value, version: Version, commands: &mut BTreeMap<String, Fields>) {
    let fields = commands.get_mut(name).unwrap_or_else(|| panic!("COMMAND does not tell of {name}"));
    for (field, value) in pairs(docs) {
        let field = text(field);
        if ["group", "since", "doc_flags", "deprecated_since", "arguments"].contains(&field.as_str()) {
            let told = if field == "since" { text(value) } else { canonical(value, version) };
            fields.insert(field, told);
        }
    }
    for (field, value) in pairs(docs) {
        if text(field) == "subcommands" {
            for (name, docs) in pairs(value) {
                read_docs(&text(name), docs, version, commands);
            }
        }
    }
}

/// A value as text: sets and maps sorted; notes out; arguments later than `version` out; before 7.2, what arguments are called
/// out as well.
fn canonical(value: &Value, version: Version) -> String {
    match value {
        Value::Set(values) => {
            let values: BTreeSet<String> = values.iter().map(|value| canonical(value, version)).collect();
            format!("~[{}]", values.into_iter().collect::<Vec<_>>().join(" "))
        }
        Value::Array(values) => {
            let values: Vec<String> = values
                .iter()
                .filter(|value| !is_later_argument(value, version))
                .map(|value| canonical(value, version))
                .collect();
            format!("[{}]", values.join(" "))
        }
        Value::Map(pairs) => {
            let names: &[&str] = if version < 702 { &["name", "display_text"] } else { &[] };
            let pairs: BTreeMap<String, String> = pairs
                .iter()
                .map(|(key, value)| (text(key), canonical(value, version)))
                .filter(|(key, _)| key != "notes" && !names.contains(&key.as_str()))
                .collect();
            let pairs: Vec<String> = pairs.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
            format!("{{{}}}", pairs.join(" "))
        }
        other => render(other),
    }
}

fn is_later_argument(value: &Value, version: Version) -> bool {
    let Value::Map(pairs) = value else { return false };
    pairs.iter().any(|(key, since)| text(key) == "since" && later(&text(since), version))
}

/// Whether what came with `since` is not in a server of `version`.
fn later(since: &str, version: Version) -> bool {
    version_of(since) > version
}

/// The first number of the form `7.0.15` in a text.
fn version_of(text: &str) -> Version {
    let from = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
    let mut numbers =
        text[from..].split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    next() * 100 + next()
}

fn text(value: &Value) -> String {
    match value {
        Value::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => String::from_utf8_lossy(bulk(other).unwrap_or_else(|| panic!("no text: {}", render(other))))
            .into_owned(),
    }
}

fn elements(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) | Value::Set(values) => values,
        other => panic!("no array: {}", render(other)),
    }
}

fn pairs(value: &Value) -> &[(Value, Value)] {
    match value {
        Value::Map(pairs) => pairs,
        other => panic!("no map: {}", render(other)),
    }
}
