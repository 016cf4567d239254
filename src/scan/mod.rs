//! The directory of service directories: what is in it, and which services are to be started and stopped for that.
//!
//! [`Scan`] decides, without I/O; [`Directory`] looks.

mod directory;
mod leaving;
mod plan;
mod retry;
mod targets;

pub use directory::Directory;
pub use leaving::Leaving;
pub use plan::{Found, Kind, Listing, Plan, Scan, again_at};
pub use retry::Retry;
