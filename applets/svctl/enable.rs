//! `svctl enable` and `svctl disable`.

use svcore::{Failed, Result};

use super::Asked;

/// Not there yet.
pub(super) fn enable(_asked: &Asked) -> Result {
    Err(Failed::without_cause("not there yet").into())
}

/// Not there yet.
pub(super) fn disable(_asked: &Asked) -> Result {
    Err(Failed::without_cause("not there yet").into())
}
