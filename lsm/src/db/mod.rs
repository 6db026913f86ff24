//! The database: commit, reads, background work, recovery.

pub mod publish;
pub mod snapshots;
pub mod delay;
pub mod view;
pub mod state;
pub mod space;
pub mod commit;
pub mod read;
pub mod iter;
pub mod compact;
pub mod flush;
pub mod keyspaces;
pub mod background;
pub mod manual;
pub mod recovery;
pub mod checkpoint;
pub mod verify;
pub mod status;
pub mod db;
