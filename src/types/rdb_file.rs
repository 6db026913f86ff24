//! A dump file of Redis, read into the databases key by key.
//!
//! ```text
//! "REDIS" | version, 4 digits | record | .. | 0xff | CRC-64 u64 LE of all in front of it, or 0 for none
//!
//! 0xfa  two strings: about the file             0xfe length: of this database are the keys from here on
//! 0xfb  two lengths: how many keys              0xf4 three lengths: a slot of a cluster
//! 0xfc  ms u64 LE, 0xfd seconds u32 LE: when the next key expires
//! 0xf8  length, 0xf9 u8: when or how often the next key was used
//! 0xf5  string: a library of functions          0xf7 data of a module
//! else  type of a value | key | value
//! ```
//!
//! The checksum is looked at first, so that nothing comes of a damaged file. Then each key is one command of its own and replaces
//! what was there, so that an import that fails (no space) can be started again.
//! Values of modules and functions are left out, and counted.

use crate::base::crc64::crc64;
use crate::base::stop::Stop;
use crate::encoding::rdb::{Input, RdbError, Reader};
use crate::encoding::rdb_value::read_value;
use crate::store::txn::{Draws, Mode, ReadPoint, Txn};
use crate::types::dump;
use haypile_lsm::env::env::File;
use std::sync::Arc;

const MAGIC: &[u8; 5] = b"REDIS";
const NO_DUMP: RdbError = RdbError::Damaged("this is no dump of Redis");
/// The newest version of a file that is read.
const FILE_VERSION_MAX: u32 = 12;
/// Files of this version on end with a checksum.
const CHECKSUM_VERSION_MIN: u32 = 5;
const BUFFER_BYTES: usize = 1 << 20;
/// What one key and its value may take in memory, in bytes.
const KEY_BYTES_MAX: u64 = 16 << 30;

const SLOT_INFO: u8 = 0xf4;
const FUNCTION: u8 = 0xf5;
const MODULE_AUX: u8 = 0xf7;
const IDLE: u8 = 0xf8;
const FREQUENCY: u8 = 0xf9;
const AUX: u8 = 0xfa;
const RESIZE: u8 = 0xfb;
const EXPIRE_MS: u8 = 0xfc;
const EXPIRE_S: u8 = 0xfd;
const SELECT: u8 = 0xfe;
const END: u8 = 0xff;
/// Type of a value of a module.
const MODULE: u8 = 7;

/// A file that is read from front to back.
pub struct FileInput {
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    /// What of the buffer was taken.
    at: usize,
    /// Where in the file the buffer begins.
    offset: u64,
}

impl FileInput {
    /// From the front.
    pub fn new(file: Arc<dyn File>) -> FileInput {
        FileInput { file, buffer: Vec::new(), at: 0, offset: 0 }
    }

    /// How many bytes were taken.
    pub fn position(&self) -> u64 {
        self.offset + self.at as u64
    }

    fn fill(&mut self) -> Result<(), RdbError> {
        self.offset += self.buffer.len() as u64;
        self.at = 0;
        self.buffer.resize(BUFFER_BYTES, 0);
        let count = self.file.read_at(&mut self.buffer, self.offset)?;
        self.buffer.truncate(count);
        match count {
            0 => Err(RdbError::Damaged("the file ends too early")),
            _ => Ok(()),
        }
    }
}

impl Input for FileInput {
    fn read(&mut self, out: &mut [u8]) -> Result<(), RdbError> {
        let mut filled = 0;
        while filled < out.len() {
            if self.at == self.buffer.len() {
                self.fill()?;
            }
            let count = (self.buffer.len() - self.at).min(out.len() - filled);
            out[filled..filled + count].copy_from_slice(&self.buffer[self.at..self.at + count]);
            self.at += count;
            filled += count;
        }
        Ok(())
    }
}

/// Whether a file is what its checksum says, if it has one.
fn verify(file: &dyn File) -> Result<(), RdbError> {
    const DAMAGED: RdbError = RdbError::Damaged("checksum of the file");
    let length = file.len()?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut crc, mut offset) = (0, 0);
    let end = length.checked_sub(8).ok_or(NO_DUMP)?;
    while offset < end {
        let most = (end - offset).min(BUFFER_BYTES as u64) as usize;
        let count = file.read_at(&mut buffer[..most], offset)?;
        if count == 0 {
            return Err(DAMAGED);
        }
        crc = crc64(crc, &buffer[..count]);
        offset += count as u64;
    }
    let mut written = [0; 8];
    let whole = file.read_at(&mut written, end)? == written.len();
    let written = u64::from_le_bytes(written);
    if whole && (written == 0 || written == crc) { Ok(()) } else { Err(DAMAGED) }
}

/// What came of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Keys that were stored.
    pub keys: u64,
    /// Keys whose time was over.
    pub expired: u64,
    /// Collections without elements.
    pub empty: u64,
    /// Values of modules.
    pub of_modules: u64,
    /// Libraries of functions.
    pub functions: u64,
}

/// Why a file could not be read to its end.
#[derive(Debug)]
pub enum ImportError {
    /// It is no such file, or damaged; the offset near which, if that is known.
    File(u64, RdbError),
    /// A key could not be stored.
    Store(Stop),
}

impl From<Stop> for ImportError {
    fn from(stop: Stop) -> ImportError {
        ImportError::Store(stop)
    }
}

impl std::fmt::Display for ImportError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ImportError::File(offset, error) => write!(f, "near byte {offset}: {error}"),
            ImportError::Store(Stop::Reply(error)) => error.fmt(f),
            ImportError::Store(Stop::Engine(error)) => error.fmt(f),
            ImportError::Store(stop) => write!(f, "{stop:?}"),
        }
    }
}

/// Reads a file into the databases. Nobody else uses them. `progress` is told now and then.
pub fn import(
    txn: &mut Txn,
    file: Arc<dyn File>,
    now_ms: u64,
    progress: &mut dyn FnMut(&Imported, u64),
) -> Result<Imported, ImportError> {
    let mut reader = Reader::new(FileInput::new(Arc::clone(&file)), KEY_BYTES_MAX);
    let version = read_version(&mut reader).map_err(|error| ImportError::File(0, error))?;
    if version >= CHECKSUM_VERSION_MIN {
        verify(file.as_ref()).map_err(|error| ImportError::File(0, error))?;
    }
    let mut import = Import { txn, imported: Imported::default(), now_ms, database: 0, expire_ms: 0 };
    match import.run(&mut reader, progress) {
        Ok(()) => Ok(import.imported),
        Err(Failure::Read(error)) => Err(ImportError::File(reader.input().position(), error)),
        Err(Failure::Store(stop)) => Err(ImportError::Store(stop)),
    }
}

enum Failure {
    Read(RdbError),
    Store(Stop),
}

impl From<RdbError> for Failure {
    fn from(error: RdbError) -> Failure {
        Failure::Read(error)
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Failure {
        Failure::Store(stop)
    }
}

struct Import<'t> {
    txn: &'t mut Txn,
    imported: Imported,
    now_ms: u64,
    database: usize,
    /// Of the next key.
    expire_ms: u64,
}

impl Import<'_> {
    fn run(
        &mut self,
        reader: &mut Reader<FileInput>,
        progress: &mut dyn FnMut(&Imported, u64),
    ) -> Result<(), Failure> {
        const PROGRESS_KEYS: u64 = 100_000;
        loop {
            reader.allow(KEY_BYTES_MAX);
            match reader.u8()? {
                END => return Ok(()),
                AUX => {
                    reader.owned_string()?;
                    reader.owned_string()?;
                }
                SELECT => {
                    let database = usize::try_from(reader.length()?).unwrap_or(usize::MAX);
                    if self.txn.store().database(database).is_none() {
                        return Err(RdbError::Damaged("it has more databases than there are here").into());
                    }
                    self.database = database;
                }
                RESIZE => {
                    reader.length()?;
                    reader.length()?;
                }
                SLOT_INFO => {
                    for _ in 0..3 {
                        reader.length()?;
                    }
                }
                EXPIRE_MS => self.expire_ms = reader.u64()?,
                EXPIRE_S => {
                    self.expire_ms = u64::from(u32::from_le_bytes(reader.array()?)) * 1000;
                }
                IDLE => drop(reader.length()?),
                FREQUENCY => drop(reader.u8()?),
                FUNCTION => {
                    reader.owned_string()?;
                    self.imported.functions += 1;
                }
                MODULE_AUX => {
                    for _ in 0..3 {
                        reader.length()?;
                    }
                    skip_module_data(reader)?;
                }
                kind => {
                    self.key(reader, kind)?;
                    self.expire_ms = 0;
                    if self.imported.keys > 0 && self.imported.keys.is_multiple_of(PROGRESS_KEYS) {
                        progress(&self.imported, reader.input().position());
                    }
                }
            }
        }
    }

    fn key(&mut self, reader: &mut Reader<FileInput>, kind: u8) -> Result<(), Failure> {
        let key = reader.owned_string()?;
        if kind == MODULE {
            reader.length()?;
            skip_module_data(reader)?;
            self.imported.of_modules += 1;
            return Ok(());
        }
        let value = match read_value(reader, kind) {
            Err(RdbError::Empty) => {
                self.imported.empty += 1;
                return Ok(());
            }
            value => value?,
        };
        if self.expire_ms != 0 && self.expire_ms <= self.now_ms {
            self.imported.expired += 1;
            return Ok(());
        }
        let draws = Draws { now_ms: self.now_ms, seed: 0 };
        self.txn.begin(self.database, Mode::Pool, draws, ReadPoint::Latest);
        let at = self.txn.at(&key)?;
        let slot = self.txn.load(at)?;
        dump::store(self.txn, at, &slot.before, &value, self.expire_ms)?;
        self.txn.recycle(slot);
        self.txn.commit().map_err(Stop::Engine)?;
        self.imported.keys += 1;
        Ok(())
    }
}

fn read_version(reader: &mut Reader<FileInput>) -> Result<u32, RdbError> {
    if reader.array::<5>()? != *MAGIC {
        return Err(NO_DUMP);
    }
    let digits = reader.array::<4>()?;
    let version = std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok());
    match version.ok_or(NO_DUMP)? {
        version @ 1..=FILE_VERSION_MAX => Ok(version),
        _ => Err(RdbError::Damaged("it is of a version that is not known here")),
    }
}

/// Skips what a module wrote: pieces, each with its type in front.
fn skip_module_data(reader: &mut Reader<FileInput>) -> Result<(), RdbError> {
    loop {
        match reader.length()? {
            0 => return Ok(()),
            1 | 2 => drop(reader.length()?),
            3 => drop(reader.array::<4>()?),
            4 => drop(reader.array::<8>()?),
            5 => drop(reader.owned_string()?),
            _ => return Err(RdbError::Damaged("data of a module")),
        }
    }
}
