//! The log of version edits: what the tree consists of survives a crash because it is written here first.
//!
//! ```text
//! MANIFEST-NNNNNN = header | record* | zeros                       CURRENT = "MANIFEST-NNNNNN" ' ' crc32c (8 hex) '\n'
//! header (64)     = magic 8 | version u32 | must-understand u32 | number u64 | salt u64 | snapshot end u64 | zero 20 | crc32c u32
//! record          = head crc32c u32 | payload crc32c u32 | length u32 | zero u32 | edit number u64 | payload | zeros to 8
//! ```
//!
//! Both checksums of a record start with the salt, a random number of this file, so nothing that was written elsewhere
//! (or by a user, in a key) passes for a record here. Edit numbers count from 1 without a gap. The records up to the snapshot
//! end repeat the state at the time the file was made; it is named by CURRENT only after all that was synced.
//!
//! Each record is synced before the next is written, and before anyone acts on it. So a crash leaves at most one
//! incomplete record, at the end, and it was never acknowledged: a *tear*. A bad record inside the snapshot, or with the
//! head of a later record anywhere behind it, is *rot*: `Corruption`. Only damage to the very last record looks like a
//! tear; [`Manifest::seal`] puts an empty record behind it when there is time (at close).
//!
//! Nothing is ever written over a tear: opening such a file rolls to a new one. A file that grew to five times what the
//! state needs is rolled before the next edit. Failures until CURRENT is renamed leave the old file in use. From the rename
//! on, and from the first byte of a record on, a failure poisons: what is on the disk is then unknown until a restart reads it.
//!
//! One owner at a time (`&mut self`); waits for the disk, so never called by a thread that must not.

use crate::base::coding::{get_u32, get_u64, put_u32, put_u64};
use crate::base::error::{Error, Result};
use crate::base::limits::MANIFEST_RECORD_BYTES_MAX;
use crate::env::env::{Env, File, OpenMode};
use crate::env::filename::{FileName, temporary_path};
use crate::version::edit::VersionEdit;
use crate::version::state::ManifestState;
use crc32c::{crc32c, crc32c_append};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"HAYPMANI";
const FORMAT_VERSION: u32 = 1;
/// Must-understand feature bits that this version knows.
const FEATURES_KNOWN: u32 = 0;
const HEADER_BYTES: usize = 64;
const RECORD_HEAD_BYTES: usize = 24;
const ALIGNMENT: usize = 8;
/// A manifest below this size is not worth rolling.
const ROLL_BYTES_MIN: u64 = 1 << 20;
/// Space is reserved in steps of this size.
const RESERVE_BYTES: u64 = 64 << 10;
const READ_BYTES: usize = 1 << 20;
/// "MANIFEST-", a number of up to 20 digits, a checksum.
const CURRENT_BYTES_MAX: usize = 64;

/// What the bytes of a manifest say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedManifest {
    /// All edits applied.
    pub state: ManifestState,
    /// Number of the file, from its header.
    pub number: u64,
    /// Where the good records end.
    pub end: u64,
    /// Where the snapshot ends.
    pub snapshot_end: u64,
    /// The number that the next edit gets.
    pub next_edit: u64,
    /// A torn record at `end`, and what is wrong with it.
    pub torn: Option<String>,
    salt: u64,
}

/// Called with offset, number and contents of each edit.
pub type EditVisitor<'a> = &'a mut dyn FnMut(u64, u64, &VersionEdit);

/// Reads a whole manifest from hostile bytes; `path` is only for errors. Pure; this is what fuzzing and tools call.
pub fn decode_manifest(path: &Path, bytes: &[u8], visit: EditVisitor<'_>) -> Result<DecodedManifest> {
    let header = decode_header(path, bytes)?;
    let mut state = ManifestState::default();
    let mut at = HEADER_BYTES;
    let mut next_edit = 1;
    let torn = loop {
        let record = match decode_record(bytes, at, header.salt) {
            Ok(Some(record)) => record,
            Ok(None) => break None,
            Err(what) => {
                let later =
                    (at as u64) < header.snapshot_end || has_later_head(bytes, at, header.salt, next_edit);
                if later {
                    return Err(Error::corruption(path, at as u64, what));
                }
                break Some(what);
            }
        };
        let damaged = |what: String| Error::corruption(path, at as u64, what);
        if record.number != next_edit {
            return Err(damaged(format!("edit {} where {next_edit} should be", record.number)));
        }
        let edit = VersionEdit::decode(record.payload).map_err(|error| match error.newer {
            true => Error::UpgradeRequired { file: path.to_path_buf(), what: error.what },
            false => damaged(format!("{} ({} bytes into the record)", error.what, error.offset)),
        })?;
        state.check(&edit).map_err(|what| damaged(format!("an edit that does not fit: {what}")))?;
        state.apply(&edit);
        visit(at as u64, next_edit, &edit);
        at = record.end;
        next_edit += 1;
    };
    let end = at as u64;
    if end < header.snapshot_end {
        return Err(Error::corruption(path, end, "the snapshot is cut off"));
    }
    state.check_levels().map_err(|what| Error::corruption(path, end, what))?;
    let Header { number, salt, snapshot_end } = header;
    Ok(DecodedManifest { state, number, end, snapshot_end, next_edit, torn, salt })
}

struct Header {
    number: u64,
    salt: u64,
    snapshot_end: u64,
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(MAGIC);
        put_u32(&mut out, FORMAT_VERSION);
        put_u32(&mut out, FEATURES_KNOWN);
        put_u64(&mut out, self.number);
        put_u64(&mut out, self.salt);
        put_u64(&mut out, self.snapshot_end);
        out.resize(HEADER_BYTES - 4, 0);
        let crc = crc32c(&out);
        put_u32(&mut out, crc);
        out
    }
}

fn decode_header(path: &Path, bytes: &[u8]) -> Result<Header> {
    let damaged = |what: &str| Error::corruption(path, 0, what);
    let header = bytes.get(..HEADER_BYTES).ok_or_else(|| damaged("shorter than a manifest's header"))?;
    if &header[..8] != MAGIC {
        return Err(damaged("not a manifest"));
    }
    let field = |at: usize| get_u64(header, at).ok_or_else(|| damaged("shorter than a manifest's header"));
    let version = field(8)?;
    if get_u32(header, HEADER_BYTES - 4) != Some(crc32c(&header[..HEADER_BYTES - 4])) {
        return Err(damaged("checksum of the header"));
    }
    let (version, features) = (version as u32, (version >> 32) as u32);
    if version != FORMAT_VERSION || features & !FEATURES_KNOWN != 0 {
        let what = format!("manifest format {version}, features {features:#x}");
        return Err(Error::UpgradeRequired { file: path.to_path_buf(), what });
    }
    Ok(Header { number: field(16)?, salt: field(24)?, snapshot_end: field(32)? })
}

struct Record<'a> {
    number: u64,
    payload: &'a [u8],
    /// Where the next record starts.
    end: usize,
}

fn salted(salt: u64, bytes: &[u8]) -> u32 {
    crc32c_append(crc32c(&salt.to_le_bytes()), bytes)
}

fn encode_record(out: &mut Vec<u8>, salt: u64, number: u64, payload: &[u8]) {
    let start = out.len();
    put_u32(out, 0);
    put_u32(out, salted(salt, payload));
    put_u32(out, payload.len() as u32);
    put_u32(out, 0);
    put_u64(out, number);
    let crc = salted(salt, &out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

/// Reads the head at `at`: payload checksum, payload length and edit number.
fn decode_head(bytes: &[u8], at: usize, salt: u64) -> Option<(u32, usize, u64)> {
    let head = bytes.get(at..at.checked_add(RECORD_HEAD_BYTES)?)?;
    let length = get_u32(head, 8)? as usize;
    let plausible = get_u32(head, 12)? == 0 && length <= MANIFEST_RECORD_BYTES_MAX;
    (plausible && get_u32(head, 0)? == salted(salt, &head[4..])).then_some(())?;
    Some((get_u32(head, 4)?, length, get_u64(head, 16)?))
}

/// The record at `at`; `None` if nothing was ever written there; else what is wrong.
fn decode_record(bytes: &[u8], at: usize, salt: u64) -> std::result::Result<Option<Record<'_>>, String> {
    let Some((crc, length, number)) = decode_head(bytes, at, salt) else {
        let blank = bytes.get(at..).is_none_or(|rest| rest.iter().all(|&byte| byte == 0));
        return if blank { Ok(None) } else { Err("head of a record".into()) };
    };
    let start = at + RECORD_HEAD_BYTES;
    let Some(payload) = bytes.get(start..start + length) else { return Err("a record is cut off".into()) };
    if salted(salt, payload) != crc {
        return Err("checksum of a record".into());
    }
    // The padding of a last record may be missing; nothing is said there.
    let end = (start + length).next_multiple_of(ALIGNMENT).min(bytes.len());
    Ok(Some(Record { number, payload, end }))
}

/// Whether a record younger than `expected` was begun anywhere behind `at`. Then the one at `at` was once complete.
fn has_later_head(bytes: &[u8], at: usize, salt: u64, expected: u64) -> bool {
    let places = (at + ALIGNMENT..bytes.len()).step_by(ALIGNMENT);
    let later = |place: usize| {
        // The number first: it is cheaper to look at than the checksum, and seldom right by chance.
        let number = get_u64(bytes, place + 16).unwrap_or(0);
        let possible = expected < number && number - expected <= (bytes.len() / RECORD_HEAD_BYTES) as u64;
        possible && decode_head(bytes, place, salt).is_some()
    };
    places.into_iter().any(later)
}

/// The manifest in use, open for appending.
#[derive(Debug)]
pub struct Manifest {
    env: Arc<dyn Env>,
    dir: PathBuf,
    path: PathBuf,
    file: Arc<dyn File>,
    number: u64,
    salt: u64,
    /// Where the next record goes.
    end: u64,
    /// Below it, space is reserved.
    reserved: u64,
    next_edit: u64,
    /// At this size the file is rolled.
    roll_at: u64,
    roll_bytes_min: u64,
    /// Whether the last record, if it were damaged, would be missed or tell nothing.
    sealed: bool,
    state: ManifestState,
    poison: Option<String>,
}

impl Manifest {
    /// Whether the folder holds a database.
    pub fn exists(env: &dyn Env, dir: &Path) -> Result<bool> {
        env.exists(&FileName::Current.path(dir))
    }

    /// Makes the manifest of a new database. On return it is on the disk. Error: `InvalidArgument` if there is one.
    pub fn create(env: Arc<dyn Env>, dir: &Path, history: u64) -> Result<(Manifest, ManifestState)> {
        Manifest::create_with(env, dir, ManifestState::new(history))
    }

    /// The same of a database that holds something already: the folder names a manifest only once all of `state` is in it.
    pub fn create_with(
        env: Arc<dyn Env>,
        dir: &Path,
        state: ManifestState,
    ) -> Result<(Manifest, ManifestState)> {
        if Manifest::exists(env.as_ref(), dir)? {
            return Err(Error::invalid(format!("{} holds a database", dir.display())));
        }
        let written = write_manifest(env.as_ref(), dir, 1, &state)?;
        let temporary = prepare_current(env.as_ref(), dir, 1)?;
        commit_current(env.as_ref(), dir, &temporary)?;
        let manifest = Manifest::of(env, dir, written, state.clone());
        Ok((manifest, state))
    }

    /// Opens the manifest that CURRENT names, makes sure that what was read is on the disk, and removes what an earlier crash
    /// left of others.
    pub fn recover(env: Arc<dyn Env>, dir: &Path) -> Result<(Manifest, ManifestState)> {
        let number = read_current(env.as_ref(), dir)?;
        let path = FileName::Manifest(number).path(dir);
        let file = open_named(env.as_ref(), dir, &path, OpenMode::ReadWrite)?;
        let bytes = read_all(file.as_ref())?;
        let mut ends_in_seal = false;
        let decoded = decode_named(&path, number, &bytes, &mut |_, _, edit| ends_in_seal = edit.is_empty())?;
        // The last record, or CURRENT itself, may have been read from the page cache of a process that died.
        file.sync()?;
        env.sync_dir(dir)?;
        let written = Written {
            file,
            path,
            number,
            salt: decoded.salt,
            end: decoded.end,
            reserved: bytes.len() as u64,
            snapshot_end: decoded.snapshot_end,
            next_edit: decoded.next_edit,
        };
        let mut manifest = Manifest::of(env, dir, written, decoded.state);
        manifest.sealed = ends_in_seal || manifest.end == decoded.snapshot_end;
        if decoded.torn.is_some() || !manifest.end.is_multiple_of(ALIGNMENT as u64) {
            manifest.roll()?;
        }
        manifest.remove_others()?;
        let state = manifest.state.clone();
        Ok((manifest, state))
    }

    /// Reads the state without changing anything, for opening read-only and for tools.
    pub fn read(env: &dyn Env, dir: &Path, visit: EditVisitor<'_>) -> Result<ManifestState> {
        let number = read_current(env, dir)?;
        let path = FileName::Manifest(number).path(dir);
        let file = open_named(env, dir, &path, OpenMode::Read)?;
        Ok(decode_named(&path, number, &read_all(file.as_ref())?, visit)?.state)
    }

    fn of(env: Arc<dyn Env>, dir: &Path, written: Written, state: ManifestState) -> Manifest {
        let mut manifest = Manifest {
            env,
            dir: dir.to_path_buf(),
            path: written.path,
            file: written.file,
            number: written.number,
            salt: written.salt,
            end: written.end,
            reserved: written.reserved,
            next_edit: written.next_edit,
            roll_at: 0,
            roll_bytes_min: ROLL_BYTES_MIN,
            sealed: true,
            state,
            poison: None,
        };
        manifest.set_roll_at(written.snapshot_end);
        manifest
    }

    fn set_roll_at(&mut self, snapshot_end: u64) {
        self.roll_at = self.roll_bytes_min.max(snapshot_end.saturating_mul(5));
    }

    /// What all edits so far come to.
    pub fn state(&self) -> &ManifestState {
        &self.state
    }

    /// The file in use.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length, reserved space not counted.
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// Why it takes no more edits, if so.
    pub fn poisoned(&self) -> Option<&str> {
        self.poison.as_deref()
    }

    /// Rolls at this size (or at five times the size of the state, if that is more); for tests.
    pub fn set_roll_bytes_min(&mut self, bytes: u64) {
        self.roll_bytes_min = bytes;
        self.roll_at = self.roll_at.min(bytes.max(HEADER_BYTES as u64));
    }

    /// Appends an edit, syncs it, applies it. Errors: `InvalidArgument` if it does not fit the state or is too large, `NoSpace`
    /// (it heals), both with nothing written; `Poisoned`, or the error that poisons: whether the edit will be there after
    /// a restart is then unknown.
    pub fn append(&mut self, edit: &VersionEdit) -> Result<()> {
        if let Some(why) = &self.poison {
            return Err(Error::Poisoned(why.clone()));
        }
        self.state.check(edit).map_err(|what| Error::invalid(format!("version edit: {what}")))?;
        let payload = edit.encode();
        if payload.len() > MANIFEST_RECORD_BYTES_MAX {
            return Err(Error::invalid(format!("a version edit of {} bytes is too large", payload.len())));
        }
        self.roll_if_due()?;
        let mut record = Vec::with_capacity(payload.len() + RECORD_HEAD_BYTES + ALIGNMENT);
        encode_record(&mut record, self.salt, self.next_edit, &payload);
        self.reserve(self.end + record.len() as u64)?;
        let written = self.file.write_at(&record, self.end).and_then(|()| self.file.sync());
        written.map_err(|error| self.poison(error))?;
        self.end += record.len() as u64;
        self.next_edit += 1;
        self.sealed = edit.is_empty();
        self.state.apply(edit);
        Ok(())
    }

    /// Makes damage to the last edit distinguishable from a torn one, by a record behind it. Errors as [`append`](Self::append).
    pub fn seal(&mut self) -> Result<()> {
        if self.sealed { Ok(()) } else { self.append(&VersionEdit::default()) }
    }

    /// Makes sure that writing up to `end` cannot meet a full disk.
    fn reserve(&mut self, end: u64) -> Result<()> {
        if end > self.reserved {
            let roomy = end.next_multiple_of(RESERVE_BYTES);
            let reserved = self.file.allocate(roomy).map(|()| roomy);
            self.reserved = reserved.or_else(|_| self.file.allocate(end).map(|()| end))?;
        }
        Ok(())
    }

    fn poison(&mut self, error: Error) -> Error {
        self.poison = Some(error.to_string());
        error
    }

    fn roll_if_due(&mut self) -> Result<()> {
        if self.end < self.roll_at {
            return Ok(());
        }
        match self.roll() {
            Err(error) if self.poison.is_some() => Err(error),
            // The old file still serves; the next try comes when it has grown by as much again.
            Err(_) => {
                self.roll_at = self.end.saturating_mul(2);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Goes on in a new file that starts with a snapshot of the state.
    fn roll(&mut self) -> Result<()> {
        let (env, number) = (Arc::clone(&self.env), self.number.saturating_add(1));
        let written = write_manifest(env.as_ref(), &self.dir, number, &self.state)?;
        let temporary = prepare_current(env.as_ref(), &self.dir, number)?;
        commit_current(env.as_ref(), &self.dir, &temporary).map_err(|error| self.poison(error))?;
        // Garbage from here on; if it stays, the next opening removes it.
        let _ = env.remove(&self.path);
        let (snapshot_end, roll_bytes_min) = (written.snapshot_end, self.roll_bytes_min);
        *self = Manifest::of(env, &self.dir, written, std::mem::take(&mut self.state));
        self.roll_bytes_min = roll_bytes_min;
        self.set_roll_at(snapshot_end);
        Ok(())
    }

    /// Removes manifests that are not in use and a CURRENT that was being made.
    fn remove_others(&self) -> Result<()> {
        for name in self.env.list(&self.dir)? {
            let path = self.dir.join(name);
            let other = matches!(FileName::parse(&path), Some(FileName::Manifest(n)) if n != self.number);
            if other || path == temporary_path(&FileName::Current.path(&self.dir)) {
                self.env.remove(&path)?;
            }
        }
        Ok(())
    }
}

/// A manifest file and where to go on in it.
struct Written {
    file: Arc<dyn File>,
    path: PathBuf,
    number: u64,
    salt: u64,
    end: u64,
    reserved: u64,
    snapshot_end: u64,
    next_edit: u64,
}

/// Writes and syncs a manifest that holds a snapshot of `state`; nothing names it yet.
fn write_manifest(env: &dyn Env, dir: &Path, number: u64, state: &ManifestState) -> Result<Written> {
    let path = FileName::Manifest(number).path(dir);
    let file = create_anew(env, &path)?;
    let salt = env.random_u64();
    let mut end = HEADER_BYTES as u64;
    let mut next_edit = 1;
    let mut record = Vec::new();
    for edit in state.snapshot() {
        record.clear();
        encode_record(&mut record, salt, next_edit, &edit.encode());
        file.write_at(&record, end)?;
        end += record.len() as u64;
        next_edit += 1;
    }
    file.write_at(&Header { number, salt, snapshot_end: end }.encode(), 0)?;
    file.sync()?;
    Ok(Written { file, path, number, salt, end, reserved: end, snapshot_end: end, next_edit })
}

/// Writes a CURRENT for `number` under a temporary name, and puts all names so far on the disk.
fn prepare_current(env: &dyn Env, dir: &Path, number: u64) -> Result<PathBuf> {
    let temporary = temporary_path(&FileName::Current.path(dir));
    let file = create_anew(env, &temporary)?;
    let name = FileName::Manifest(number).to_string();
    file.write_at(format!("{name} {:08x}\n", crc32c(name.as_bytes())).as_bytes(), 0)?;
    file.sync()?;
    env.sync_dir(dir)?;
    Ok(temporary)
}

/// The moment of truth. After an error either manifest may be the one in use.
fn commit_current(env: &dyn Env, dir: &Path, temporary: &Path) -> Result<()> {
    env.rename(temporary, &FileName::Current.path(dir))?;
    env.sync_dir(dir)
}

/// Makes an empty file where a crash may have left an unused one.
fn create_anew(env: &dyn Env, path: &Path) -> Result<Arc<dyn File>> {
    if env.exists(path)? {
        env.remove(path)?;
    }
    env.open(path, OpenMode::CreateNew)
}

/// The number of the manifest in use.
fn read_current(env: &dyn Env, dir: &Path) -> Result<u64> {
    let path = FileName::Current.path(dir);
    let file = env.open(&path, OpenMode::Read)?;
    let mut bytes = [0; CURRENT_BYTES_MAX];
    let len = file.read_at(&mut bytes, 0)?;
    decode_current(&path, bytes.get(..len).unwrap_or_default())
}

/// Reads the contents of CURRENT from hostile bytes; `path` is only for errors.
pub fn decode_current(path: &Path, bytes: &[u8]) -> Result<u64> {
    let decoded = || {
        let line = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
        let (name, crc) = line.split_once(' ')?;
        let FileName::Manifest(number) = FileName::parse(Path::new(name))? else { return None };
        // Written and compared as text, so that there is one spelling.
        (name == FileName::Manifest(number).to_string() && crc == format!("{:08x}", crc32c(name.as_bytes())))
            .then_some(number)
    };
    decoded().ok_or_else(|| Error::corruption(path, 0, "it does not name a manifest"))
}

/// Opens the manifest that CURRENT names. If it is missing, CURRENT is wrong; this is not "no database here".
fn open_named(env: &dyn Env, dir: &Path, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
    env.open(path, mode).map_err(|error| {
        let what = || format!("it names {}, which is missing", path.display());
        if error.is_not_found() { Error::corruption(&FileName::Current.path(dir), 0, what()) } else { error }
    })
}

fn decode_named(path: &Path, number: u64, bytes: &[u8], visit: EditVisitor<'_>) -> Result<DecodedManifest> {
    let decoded = decode_manifest(path, bytes, visit)?;
    if decoded.number != number {
        return Err(Error::corruption(path, 16, format!("this is manifest {}", decoded.number)));
    }
    Ok(decoded)
}

fn read_all(file: &dyn File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let start = bytes.len();
        bytes.resize(start + READ_BYTES, 0);
        let count = file.read_at(&mut bytes[start..], start as u64)?.min(READ_BYTES);
        bytes.truncate(start + count);
        if count < READ_BYTES {
            return Ok(bytes);
        }
    }
}
