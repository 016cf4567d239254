//! The two programs that one service directory can stand for.

/// Which of the two supervised programs of a service directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The service itself.
    Main,
    /// Its log service, in the directory `log`.
    Log,
}

impl Role {
    /// How messages call the `supervise` directory.
    #[must_use]
    pub(crate) const fn supervise(self) -> &'static str {
        match self {
            Role::Main => "supervise",
            Role::Log => "log/supervise",
        }
    }
}
