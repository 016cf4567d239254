//! `svlogd` in a directory that is not its own.
