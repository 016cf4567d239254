//! `svctl log`: what svlogd has written.
#![allow(dead_code)]
mod content;
mod directory;
mod filter;
mod lines;
mod pattern;
mod seek;
mod stamp;
use svcore::{Failed, Result};

use super::Asked;

/// Not there yet.
pub(super) fn run(_asked: &Asked) -> Result {
    Err(Failed::without_cause("not there yet").into())
}
