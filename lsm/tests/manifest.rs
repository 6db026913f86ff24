//! The manifest on disks that crash, fill up, fail and rot.
//!
//! One script of random but valid edits drives all tests; the states after each edit are remembered, and whatever happens to
//! the disk, opening must give one of those that the failure allows, or name the damage.

use haypile_lsm::base::error::Error;
use haypile_lsm::base::hooks::Note;
use haypile_lsm::base::key::SEQUENCE_MAX;
use haypile_lsm::base::options::KeyspaceOptions;
use haypile_lsm::base::rng::Rng;
use haypile_lsm::env::env::Env;
use haypile_lsm::env::fault_env::{Fault, FaultEnv, FaultKind, Operations};
use haypile_lsm::env::mem_env::{CrashPolicy, MemEnv};
use haypile_lsm::version::edit::{FileAdded, FileRemoved, KeyspaceCreated, LogEnd, VersionEdit};
use haypile_lsm::version::file_meta::FileMeta;
use haypile_lsm::version::manifest::{Manifest, decode_current, decode_manifest};
use haypile_lsm::version::state::ManifestState;
use haypile_lsm::{Db, Options, ReadOptions};
use proptest::prelude::*;
use std::path::Path;
use std::sync::{Arc, Mutex};

const DIR: &str = "/db";
const ROLL_BYTES: u64 = 2 << 10;

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn disk() -> Arc<MemEnv> {
    let env = MemEnv::new();
    env.create_dir_all(dir()).unwrap();
    env.sync_dir(Path::new("/")).unwrap();
    env
}

/// A file that no other overlaps.
fn file(number: u64, sequence: u64) -> Arc<FileMeta> {
    let key = number.to_be_bytes().to_vec();
    Arc::new(FileMeta {
        number,
        bytes: 100 * number,
        entries: 10,
        deletes: number % 3,
        delete_run: number % 2 * (number % 3),
        range_deletes: 0,
        smallest: key.clone(),
        largest: key,
        largest_inclusive: true,
        smallest_sequence: sequence.saturating_sub(5),
        largest_sequence: sequence,
        created_ms: 1_000 * number,
    })
}

/// Some edit that fits `state`.
fn next_edit(state: &ManifestState, rng: &mut Rng) -> VersionEdit {
    let mut edit = VersionEdit::default();
    let ids = state.keyspaces.keys().copied().collect::<Vec<_>>();
    if ids.is_empty() || (ids.len() < 4 && rng.one_in(8)) {
        let id = state.next_keyspace;
        edit.keyspaces_created.push(KeyspaceCreated {
            id,
            name: format!("keyspace-{id}"),
            options: KeyspaceOptions::default(),
        });
        return edit;
    }
    let keyspace = ids[rng.below(ids.len() as u64) as usize];
    let files = state.keyspaces[&keyspace].files.values().collect::<Vec<_>>();
    match rng.below(8) {
        0 if ids.len() > 2 => edit.keyspaces_dropped.push(keyspace),
        1 | 2 if !files.is_empty() => {
            // A move, or a merge of one into two.
            let (level, meta) = files[rng.below(files.len() as u64) as usize];
            edit.files_removed.push(FileRemoved { keyspace, level: *level, number: meta.number });
            let number = state.next_file_number;
            let outputs = if rng.one_in(2) {
                vec![meta.clone()]
            } else {
                vec![file(number, meta.largest_sequence), file(number + 1, meta.largest_sequence)]
            };
            for meta in outputs {
                edit.files_added.push(FileAdded { keyspace, level: (level + 1).min(6), meta });
            }
        }
        3 => {
            let segment = state.first_needed_segment + 3;
            edit.log_ends.push(LogEnd { segment, lsn: state.last_sequence });
        }
        4 => edit.notes_acknowledged = state.notes.keys().copied().take(3).collect(),
        _ => {
            let sequence = state.last_sequence + 1 + rng.below(50);
            let meta = file(state.next_file_number + rng.below(3), sequence);
            edit.files_added.push(FileAdded { keyspace, level: 0, meta });
            edit.flushed.push((keyspace, sequence));
            edit.first_needed_segment = Some(state.first_needed_segment + rng.below(2));
            edit.log_start = Some(state.log_start + rng.below(2));
            let bytes = vec![7; rng.below(20) as usize];
            edit.notes_added.push(Note { id: state.next_note, keyspace, bytes });
        }
    }
    edit
}

/// The states and edits of a script, computed without a disk.
fn script(count: usize, seed: u64) -> (Vec<VersionEdit>, Vec<ManifestState>) {
    let mut rng = Rng::new(seed);
    let mut states = vec![ManifestState::new(77)];
    let mut edits = Vec::new();
    for _ in 0..count {
        let mut state = states[states.len() - 1].clone();
        let edit = next_edit(&state, &mut rng);
        state.check(&edit).unwrap();
        state.apply(&edit);
        edits.push(edit);
        states.push(state);
    }
    (edits, states)
}

fn replay(edits: &[VersionEdit]) -> ManifestState {
    edits.iter().fold(ManifestState::default(), |mut state, edit| {
        state.check(edit).unwrap();
        state.apply(edit);
        state
    })
}

#[test]
fn appends_rolls_and_recovers() {
    let env = disk();
    let (edits, states) = script(400, 1);
    let (mut manifest, state) = Manifest::create(env.clone(), dir(), 77).unwrap();
    assert_eq!(state, states[0]);
    let mut files = vec![manifest.path().to_path_buf()];
    for (at, edit) in edits.iter().enumerate() {
        manifest.set_roll_bytes_min(ROLL_BYTES);
        manifest.append(edit).unwrap();
        assert_eq!(manifest.state(), &states[at + 1]);
        assert!(env.is_synced(manifest.path()) && env.is_name_synced(manifest.path()));
        if files[files.len() - 1] != manifest.path() {
            files.push(manifest.path().to_path_buf());
        }
        if at % 50 == 0 {
            drop(manifest);
            let (recovered, state) = Manifest::recover(env.clone(), dir()).unwrap();
            assert_eq!(state, states[at + 1]);
            manifest = recovered;
        }
    }
    assert!(files.len() > 3, "{files:?}");
    assert_eq!(env.list(dir()).unwrap().len(), 2, "old manifests are removed");
    assert!(manifest.bytes() < 5 * 64 * 400);
    assert_eq!(Manifest::read(env.as_ref(), dir(), &mut |_, _, _| {}).unwrap(), states[400]);
    assert!(matches!(Manifest::create(env, dir(), 1), Err(Error::InvalidArgument(_))));
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let env = disk();
    let (mut manifest, _) = Manifest::create(env.clone(), dir(), 77).unwrap();
    let created =
        |id: u32, name: &str| KeyspaceCreated { id, name: name.into(), options: KeyspaceOptions::default() };
    let added = |level, number| FileAdded { keyspace: 0, level, meta: file(number, 9) };
    let edit = VersionEdit {
        keyspaces_created: vec![created(0, "a")],
        files_added: vec![added(0, 1)],
        notes_added: vec![Note { id: 0, keyspace: 0, bytes: vec![] }],
        log_ends: vec![LogEnd { segment: 5, lsn: 9 }],
        ..VersionEdit::default()
    };
    manifest.append(&edit).unwrap();
    let (state, bytes) = (manifest.state().clone(), manifest.bytes());
    let bad = [
        VersionEdit { history: Some(78), ..VersionEdit::default() },
        VersionEdit { keyspaces_created: vec![created(0, "b")], ..VersionEdit::default() },
        VersionEdit { keyspaces_created: vec![created(1, "a")], ..VersionEdit::default() },
        VersionEdit { keyspaces_dropped: vec![3], ..VersionEdit::default() },
        VersionEdit { keyspaces_dropped: vec![0, 0], ..VersionEdit::default() },
        VersionEdit { files_added: vec![added(1, 1)], ..VersionEdit::default() },
        VersionEdit { files_added: vec![added(1, 2), added(2, 2)], ..VersionEdit::default() },
        VersionEdit {
            files_removed: vec![FileRemoved { keyspace: 0, level: 1, number: 1 }],
            ..VersionEdit::default()
        },
        VersionEdit { flushed: vec![(1, 1)], ..VersionEdit::default() },
        VersionEdit {
            notes_added: vec![Note { id: 0, keyspace: 0, bytes: vec![] }],
            ..VersionEdit::default()
        },
        VersionEdit { log_ends: vec![LogEnd { segment: 4, lsn: 3 }], ..VersionEdit::default() },
    ];
    for edit in bad {
        assert!(matches!(manifest.append(&edit), Err(Error::InvalidArgument(_))), "{edit}");
        assert_eq!((manifest.state(), manifest.bytes()), (&state, bytes));
    }
    assert_eq!(Manifest::recover(env, dir()).unwrap().1, state);
}

/// A disk as a crash left it, and how many edits were acknowledged by then (`None`: the database was not yet made).
type Image = (Arc<MemEnv>, Option<usize>);

/// Runs a script, and clones the disk before each change under each policy.
fn crash_images(edits: &[VersionEdit], policies: &[CrashPolicy]) -> Vec<Image> {
    let env = disk();
    let images = Arc::new(Mutex::new(Vec::new()));
    let acknowledged = Arc::new(Mutex::new(None));
    let hook = {
        let (env, images, acknowledged) = (Arc::downgrade(&env), images.clone(), acknowledged.clone());
        let policies = policies.to_vec();
        move |nth: u64, _: haypile_lsm::env::mem_env::Operation<'_>| {
            let Some(env) = env.upgrade() else { return };
            for policy in &policies {
                images.lock().unwrap().push((env.crash_clone(*policy, nth), *acknowledged.lock().unwrap()));
            }
        }
    };
    env.set_operation_hook(Some(Arc::new(hook)));
    let (mut manifest, _) = Manifest::create(env.clone(), dir(), 77).unwrap();
    *acknowledged.lock().unwrap() = Some(0);
    manifest.set_roll_bytes_min(ROLL_BYTES);
    for (at, edit) in edits.iter().enumerate() {
        manifest.append(edit).unwrap();
        *acknowledged.lock().unwrap() = Some(at + 1);
    }
    manifest.seal().unwrap();
    env.set_operation_hook(None);
    Arc::try_unwrap(images).map(|images| images.into_inner().unwrap()).unwrap_or_default()
}

#[test]
fn a_crash_at_any_moment_keeps_what_was_acknowledged() {
    let policies = [
        CrashPolicy::ProcessKill,
        CrashPolicy::DropUnsynced,
        CrashPolicy::KeepRandom { percent: 30 },
        CrashPolicy::KeepRandom { percent: 70 },
        CrashPolicy::Reorder,
    ];
    let (edits, states) = script(120, 2);
    let images = crash_images(&edits, &policies);
    assert!(images.len() > 1_000, "{}", images.len());
    let mut torn = 0;
    for (nth, (env, acknowledged)) in images.into_iter().enumerate() {
        let Some(acknowledged) = acknowledged else {
            if !Manifest::exists(env.as_ref(), dir()).unwrap() {
                Manifest::create(env.clone(), dir(), 77).unwrap();
            }
            assert_eq!(Manifest::recover(env, dir()).unwrap().1, states[0]);
            continue;
        };
        let (mut manifest, state) = Manifest::recover(env.clone(), dir()).unwrap();
        let at = [acknowledged, acknowledged + 1].into_iter().find(|&at| states.get(at) == Some(&state));
        let Some(at) = at else { panic!("image {nth}: neither before nor after edit {acknowledged}") };
        torn += usize::from(at == acknowledged);
        assert_eq!(env.list(dir()).unwrap().len(), 2);
        // Once opened, a power cut takes nothing of it back, and it goes on from there.
        let again = env.crash_clone(CrashPolicy::DropUnsynced, nth as u64);
        assert_eq!(Manifest::recover(again, dir()).unwrap().1, state);
        if let Some(edit) = edits.get(at) {
            manifest.append(edit).unwrap();
            let again = env.crash_clone(CrashPolicy::DropUnsynced, nth as u64);
            assert_eq!(Manifest::recover(again, dir()).unwrap().1, states[at + 1]);
        }
    }
    assert!(torn > 100);
}

#[test]
fn damage_is_named_or_harmless() {
    let env = disk();
    let (edits, states) = script(60, 3);
    let (mut manifest, _) = Manifest::create(env.clone(), dir(), 77).unwrap();
    edits[..40].iter().for_each(|edit| manifest.append(edit).unwrap());
    manifest.set_roll_bytes_min(64);
    edits[40..42].iter().for_each(|edit| manifest.append(edit).unwrap());
    manifest.set_roll_bytes_min(1 << 20);
    edits[42..].iter().for_each(|edit| manifest.append(edit).unwrap());
    manifest.seal().unwrap();
    let (path, end) = (manifest.path().to_path_buf(), manifest.bytes() as usize);
    let bytes = env.read_file(&path).unwrap();
    let mut refused = 0;
    for at in 0..end + 40 {
        for mask in [1, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= mask;
            match decode_manifest(&path, &damaged, &mut |_, _, _| {}) {
                Ok(decoded) => assert_eq!(decoded.state, states[60], "byte {at}"),
                Err(Error::Corruption { file, offset, .. }) => {
                    assert!(file == path && offset <= at as u64);
                    refused += 1;
                }
                Err(Error::UpgradeRequired { file, .. }) => assert_eq!(file, path),
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(refused > 3 * (end - 40) * 9 / 10, "only padding and the seal are harmless: {refused} of {end}");
    // A lost tail looks like a tear, but never inside the snapshot.
    let decoded = decode_manifest(&path, &bytes, &mut |_, _, _| {}).unwrap();
    assert!(decoded.torn.is_none() && decoded.snapshot_end > 64 && decoded.end == end as u64);
    for len in 0..end {
        match decode_manifest(&path, &bytes[..len], &mut |_, _, _| {}) {
            Ok(decoded) => {
                assert!(states[40..].contains(&decoded.state) && len as u64 >= decoded.snapshot_end)
            }
            Err(error) => assert!(error.is_corruption() && (len as u64) < decoded.snapshot_end),
        }
    }
    // CURRENT has one spelling.
    let current = env.read_file(&dir().join("CURRENT")).unwrap();
    let number = decode_current(&path, &current).unwrap();
    assert_eq!(number, decoded.number);
    for at in 0..current.len() {
        for mask in 1..=255 {
            let mut damaged = current.clone();
            damaged[at] ^= mask;
            assert!(decode_current(&path, &damaged).unwrap_err().is_corruption());
        }
        assert!(decode_current(&path, &current[..at]).unwrap_err().is_corruption());
    }
    // A manifest under another's name.
    env.write_file(&path, &bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).unwrap();
    assert!(Manifest::recover(env.clone(), dir()).unwrap_err().is_corruption());
    env.remove(&path).unwrap();
    assert!(Manifest::recover(env, dir()).unwrap_err().is_corruption());
}

#[test]
fn newer_formats_are_told_from_damage() {
    let env = disk();
    let (manifest, _) = Manifest::create(env.clone(), dir(), 77).unwrap();
    let mut bytes = env.read_file(manifest.path()).unwrap();
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    let error = decode_manifest(manifest.path(), &bytes, &mut |_, _, _| {}).unwrap_err();
    assert!(matches!(error, Error::UpgradeRequired { .. }));
}

/// Fails every changing operation in turn, once or from there on.
#[test]
fn a_failure_at_any_moment_is_before_or_after() {
    let (edits, states) = script(40, 4);
    for kind in [FaultKind::Eio, FaultKind::NoSpace, FaultKind::ShortWrite] {
        for sticky in [false, true] {
            for nth in 0.. {
                let disk = disk();
                let env = FaultEnv::new(disk.clone());
                let (mut manifest, _) = Manifest::create(env.clone(), dir(), 77).unwrap();
                manifest.set_roll_bytes_min(ROLL_BYTES / 2);
                env.inject(Fault { nth, sticky, ..Fault::once(Operations::MUTATING, kind) });
                let mut acknowledged = 0;
                let failed = edits.iter().find_map(|edit| {
                    let result = manifest.append(edit);
                    acknowledged += usize::from(result.is_ok());
                    result.err()
                });
                env.clear();
                let missed = env.hits() == 0;
                match failed {
                    Some(error) if manifest.poisoned().is_some() => {
                        assert!(!matches!(error, Error::Poisoned(_)), "the first error is the real one");
                        let again = manifest.append(&edits[acknowledged]);
                        assert!(matches!(again, Err(Error::Poisoned(_))));
                    }
                    // Not poisoned: nothing was written, and it heals.
                    Some(_) => {
                        assert_eq!(manifest.state(), &states[acknowledged]);
                        edits[acknowledged..].iter().for_each(|edit| manifest.append(edit).unwrap());
                        acknowledged = edits.len();
                    }
                    None => {}
                }
                for policy in [CrashPolicy::ProcessKill, CrashPolicy::DropUnsynced, CrashPolicy::Reorder] {
                    let state = Manifest::recover(disk.crash_clone(policy, nth), dir()).unwrap().1;
                    let allowed = &states[acknowledged..(acknowledged + 2).min(states.len())];
                    assert!(allowed.contains(&state), "{kind:?} at {nth}, sticky {sticky}, {policy:?}");
                }
                if missed {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_full_disk_heals() {
    let env = disk();
    let (edits, states) = script(200, 5);
    let (mut manifest, _) = Manifest::create(env.clone(), dir(), 77).unwrap();
    manifest.set_roll_bytes_min(ROLL_BYTES);
    let mut refused = 0;
    for (at, edit) in edits.iter().enumerate() {
        env.set_capacity_bytes(Some(env.used_bytes()));
        if let Err(error) = manifest.append(edit) {
            assert!(error.is_no_space() && manifest.poisoned().is_none());
            refused += 1;
            env.set_capacity_bytes(None);
            manifest.append(edit).unwrap();
        }
        assert_eq!(manifest.state(), &states[at + 1]);
    }
    assert!(refused > 0);
    env.set_capacity_bytes(None);
    assert_eq!(Manifest::recover(env, dir()).unwrap().1, states[200]);
}

proptest! {
    #[test]
    fn a_snapshot_gives_the_state_back(count in 0usize..150, seed: u64) {
        let (_, states) = script(count, seed);
        let state = &states[count];
        prop_assert_eq!(&replay(&state.snapshot()), state);
        prop_assert_eq!(state.check_levels(), Ok(()));
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode_manifest(dir(), &bytes, &mut |_, _, _| {});
        let _ = decode_current(dir(), &bytes);
    }
}

#[test]
fn a_large_state_is_a_snapshot_of_many_edits() {
    let env = disk();
    let (mut manifest, _) = Manifest::create(env.clone(), dir(), 77).unwrap();
    let options = KeyspaceOptions::default();
    let mut edit = VersionEdit::default();
    edit.keyspaces_created.push(KeyspaceCreated { id: 0, name: "a".into(), options });
    for number in 1..=40 {
        let mut meta = FileMeta::clone(&file(number, number));
        meta.smallest.resize(100_000, 1);
        meta.largest.clone_from(&meta.smallest);
        edit.files_added.push(FileAdded { keyspace: 0, level: 6, meta: Arc::new(meta) });
    }
    manifest.append(&edit).unwrap();
    assert!(manifest.state().snapshot().len() > 5);
    manifest.set_roll_bytes_min(0);
    manifest.append(&VersionEdit::default()).unwrap();
    assert_ne!(manifest.path(), dir().join("MANIFEST-000001"));
    assert_eq!(&Manifest::recover(env, dir()).unwrap().1, manifest.state());
}

/// Numbers on the disk size nothing: a keyspace of a huge number is a keyspace like any other, until the numbers end.
#[test]
fn a_huge_keyspace_number_costs_nothing() {
    let env = disk();
    let id = u32::MAX - 3;
    let mut state = ManifestState::new(77);
    let mut edit = VersionEdit::default();
    let options = KeyspaceOptions::default();
    edit.keyspaces_created.push(KeyspaceCreated { id, name: "far".into(), options });
    state.check(&edit).unwrap();
    state.apply(&edit);
    Manifest::create_with(env.clone(), dir(), state).unwrap();
    let db = Db::open(env, dir(), Options::tiny()).unwrap();
    assert_eq!((db.keyspace("far"), db.default_keyspace()), (Some(id), id + 1));
    db.put(id, b"key", b"value").unwrap();
    assert_eq!(db.get(id, b"key", &ReadOptions::default()).unwrap().as_deref(), Some(&b"value"[..]));
    assert_eq!(db.keyspace_or_create("the last", options).unwrap(), id + 2);
    assert!(db.keyspace_or_create("one more", options).is_err(), "every number was used");
    db.drop_keyspace(id + 1).unwrap();
    assert!(db.put(id + 1, b"key", b"").is_err());
    db.put(id + 2, b"key", b"").unwrap();
}

#[test]
fn a_database_at_the_end_of_its_sequence_numbers_is_refused() {
    let env = disk();
    let state = ManifestState { last_sequence: SEQUENCE_MAX, ..ManifestState::new(77) };
    Manifest::create_with(env.clone(), dir(), state).unwrap();
    let error = Db::open(env, dir(), Options::tiny()).unwrap_err();
    assert!(error.is_corruption() && error.to_string().contains("MANIFEST"), "{error}");
}
