//! Local stand-in for the seam; the real one comes with the session floor.
#![expect(missing_docs)]
use crate::base::args::Args;
use crate::store::txn::Txn;
use haypile_resp::ReplyWriter;
pub struct Context<'a> {
    pub txn: &'a mut Txn,
    pub reply: &'a mut ReplyWriter,
    pub args: Args<'a>,
}
