//! Why a handler did not run to its end.

use crate::base::reply_error::ReplyError;
use haypile_lsm::Error;

/// Returned by a handler that stopped early. Nothing of it has been committed; what was replied is taken back.
#[derive(Debug)]
pub enum Stop {
    /// It needs the disk: run it again on the pool for short cold work.
    NeedsIo,
    /// It is long: run it again on the pool for long commands.
    Budget,
    /// The client gets this error.
    Reply(ReplyError),
    /// The engine failed.
    Engine(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        if error.is_needs_io() { Stop::NeedsIo } else { Stop::Engine(error) }
    }
}

impl From<ReplyError> for Stop {
    fn from(error: ReplyError) -> Stop {
        Stop::Reply(error)
    }
}
