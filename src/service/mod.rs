//! One supervised service, and many of them.
//!
//! [`machine`] and [`pair`] decide, without I/O, in the words of [`words`]; [`perform`] does what they ask; [`host`] waits and tells.

pub mod host;
pub mod machine;
pub mod pair;
mod perform;
pub mod words;

pub use perform::{Late, Outputs, Service};
