//! Records one behind the other, handed out as many at a time as the engine can.

use crate::base::stop::Stop;
use haypile_lsm::Iter;
use std::ops::ControlFlow;

/// Hands what follows the first `skipped` bytes of each key, and its value, to `f`, from the one that `iter` stands on, forward or in reverse,
/// until it breaks or fails: then `iter` stands on that one, else nowhere.
pub fn for_each(
    iter: &mut Iter,
    reverse: bool,
    skipped: usize,
    mut f: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, Stop>,
) -> Result<(), Stop> {
    let mut result = Ok(());
    let give = |tail: &[u8], value: &[u8]| {
        f(tail, value).unwrap_or_else(|stop| {
            result = Err(stop);
            ControlFlow::Break(())
        })
    };
    let walked = match reverse {
        false => iter.for_each_tail(skipped, give),
        true => iter.for_each_tail_back(skipped, give),
    };
    // What ended the walk comes first: behind it there is only what became of stepping off.
    result?;
    Ok(walked?)
}
