//! `svctl import`.

use svcore::{Failed, Result};

use super::Asked;

/// Not there yet.
pub(super) fn run(_asked: &Asked) -> Result {
    Err(Failed::without_cause("not there yet").into())
}
