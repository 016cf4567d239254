//! Logs of services without `log/run`. Stock runit has no such thing.

mod ours;
