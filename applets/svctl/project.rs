//! `svctl up` and `svctl down`.

use svcore::{Failed, Result};

use super::Asked;

/// Not there yet.
pub(super) fn up(_asked: &Asked) -> Result {
    Err(Failed::without_cause("not there yet").into())
}

/// Not there yet.
pub(super) fn down(_asked: &Asked) -> Result {
    Err(Failed::without_cause("not there yet").into())
}
