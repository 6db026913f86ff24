//! `lsm-dump` over a small database in a real folder: it finds everything there is, and names what is damaged.

use haypile_lsm::env::env::OpenMode;
use haypile_lsm::env::filename::FileName;
use haypile_lsm::{Compression, Db, Env, KeyspaceOptions, Options, OsEnv, WriteBatch, WriteOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

fn dump(path: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lsm-dump")).arg(path).args(flags).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no \"{part}\" in:\n{text}");
    }
}

/// A folder that goes away with it.
struct Folder(Arc<OsEnv>, PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let env = OsEnv::new();
        let path = std::env::temp_dir().join(format!("haypile-{name}-{}", std::process::id()));
        env.remove_dir_all(&path).unwrap();
        Folder(env, path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = self.0.remove_dir_all(&self.1);
    }
}

fn flip(env: &OsEnv, path: &Path, offset: u64) {
    let file = env.open(path, OpenMode::ReadWrite).unwrap();
    let mut byte = [0];
    assert_eq!(file.read_at(&mut byte, offset).unwrap(), 1);
    file.write_at(&[byte[0] ^ 0x40], offset).unwrap();
}

fn find(env: &OsEnv, dir: &Path, kind: fn(FileName) -> bool) -> PathBuf {
    let names = env.list(dir).unwrap();
    dir.join(names.iter().find(|name| FileName::parse(name).is_some_and(kind)).unwrap())
}

#[test]
fn shows_all_and_names_damage() {
    let folder = Folder::new("dump");
    let (env, dir) = (&folder.0, &folder.1);
    let db = Db::open(env.clone(), dir, Options::tiny()).unwrap();
    let plain =
        KeyspaceOptions { block_bytes: 256, compression: Compression::None, ..KeyspaceOptions::default() };
    let ks = db.keyspace_or_create("fruit", plain).unwrap();
    for i in 0..40 {
        db.put(ks, format!("apple{i:02}").as_bytes(), b"red or green").unwrap();
    }
    // Somebody still reads at this moment, so the flush keeps what follows.
    let snapshot = db.snapshot();
    db.delete(ks, b"apple07").unwrap();
    db.delete_range(ks, b"apple30", b"apple33").unwrap();
    db.flush(ks).unwrap();
    drop(snapshot);
    let mut batch = WriteBatch::new();
    batch.put(ks, b"pear", b"yellow").unwrap();
    batch.delete(ks, b"apple01").unwrap();
    batch.set_annotation(b"note").unwrap();
    db.write(&batch, &WriteOptions::default()).unwrap();
    db.put(ks, b"quince", &[b'q'; 500]).unwrap();
    db.close().unwrap();

    let (code, text) = dump(dir, &["--keys"]);
    assert_eq!(code, Some(0), "{text}");
    has(
        &text,
        &[
            "names MANIFEST-",
            "\"fruit\"",
            "put apple39 = 12 bytes",
            "delete range [apple30, apple33)",
            ":pear = 6 bytes",
            "annotation 4",
            "durable up to",
            "the log ends: 44 batches",
            "footer of table",
            "edit 1",
        ],
    );
    assert!(!text.contains("DAMAGED"), "{text}");
    has(&dump(dir, &["--values"]).1, &["= 6 bytes: yellow", "qqqq..", "red or green"]);
    has(&dump(dir, &["--blocks"]).1, &["top index:", "filter:", "data:", "entries"]);

    // One bad data block: named by its offset, and everything else is still shown.
    let table = find(env, dir, |name| matches!(name, FileName::Table(_)));
    flip(env, &table, 100);
    let (code, text) = dump(&table, &["--keys"]);
    assert_eq!(code, Some(1), "{text}");
    has(
        &text,
        &["DAMAGED at offset 0: data block", "put apple39 = 12 bytes", "properties:", "footer of table"],
    );

    // One bad record: what lies behind it is still shown.
    let wal = find(env, dir, |name| matches!(name, FileName::Segment(_)));
    flip(env, &wal, 70);
    let (code, text) = dump(&wal, &["--keys"]);
    assert_eq!(code, Some(1), "{text}");
    has(&text, &["DAMAGED at offset 64:", ":quince = 500 bytes", "the log ends: 0 batches"]);

    let manifest = find(env, dir, |name| matches!(name, FileName::Manifest(_)));
    flip(env, &manifest, 66);
    let (code, text) = dump(dir, &[]);
    assert_eq!(code, Some(1), "{text}");
    has(&text, &["DAMAGED at offset 64: head of a record", "footer of table"]);
}

#[test]
fn strange_arguments_and_files() {
    let folder = Folder::new("dump-strange");
    let (env, dir) = (&folder.0, &folder.1);
    assert_eq!(dump(dir, &["--nonsense"]).0, Some(2));
    assert_eq!(dump(&dir.join("nothing"), &[]).0, Some(1));
    env.create_dir_all(dir).unwrap();
    for (name, bytes) in
        [("000001.sst", &b"HAYTABLE"[..]), ("000001.wal", b""), ("MANIFEST-000001", b"x"), ("CURRENT", b"y")]
    {
        env.open(&dir.join(name), OpenMode::CreateNew).unwrap().write_at(bytes, 0).unwrap();
    }
    let (code, text) = dump(dir, &["--keys", "--blocks"]);
    assert_eq!(code, Some(1));
    has(
        &text,
        &[
            "too short for a table",
            "prepared, not begun",
            "shorter than a manifest",
            "does not name a manifest",
        ],
    );
}
