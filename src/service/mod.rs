//! One supervised service, and many of them.
//!
//! From the bottom up: [`step`] names the events and actions; [`machine`] decides about one process and [`departure`]
//! about who leaves first, both without I/O; [`perform`] does the actions; [`host`] waits for any number of services
//! and passes each what concerns it.

pub(crate) mod departure;
mod failure;
pub mod host;
pub(crate) mod machine;
mod perform;
pub(crate) mod step;

pub use perform::{Late, Outputs, Service, Unit};
