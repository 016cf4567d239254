//! The capabilities of this process, one bit for each; see capabilities(7).

/// Those of this process that programs it executes can get: the bounding, the inheritable and the ambient set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The most that a program can ever have.
    pub bounding: u64,
    /// What a program may inherit.
    pub inheritable: u64,
    /// What a program has from the start, whoever runs it.
    pub ambient: u64,
}

#[cfg(target_os = "linux")]
mod here {
    use super::Capabilities;
    use std::io;

    use rustix::io::Errno;
    use rustix::thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_ambient_set,
        capability_is_in_bounding_set, clear_ambient_capability_set, configure_capability_in_ambient_set,
        remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
    };

    /// The capabilities in a set, each as a set of its own.
    fn each(set: u64) -> impl Iterator<Item = CapabilitySet> {
        (0..u64::BITS)
            .map(|number| 1 << number)
            .filter(move |bit| set & bit != 0)
            .map(CapabilitySet::from_bits_retain)
    }

    /// The capabilities for which `is_in` holds. A kernel refuses to be asked for one that it does not know.
    fn all_in(is_in: impl Fn(CapabilitySet) -> rustix::io::Result<bool>) -> io::Result<u64> {
        let mut set = 0;
        for one in each(u64::MAX) {
            match is_in(one) {
                Ok(true) => set |= one.bits(),
                Ok(false) | Err(Errno::INVAL) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(set)
    }

    /// The capabilities that programs can get, and those that this process may use.
    ///
    /// # Errors
    ///
    /// That of capget(2) or prctl(2).
    pub fn held() -> io::Result<(Capabilities, u64)> {
        let sets = capabilities(None)?;
        let held = Capabilities {
            bounding: all_in(capability_is_in_bounding_set)?,
            inheritable: sets.inheritable.bits(),
            ambient: all_in(capability_is_in_ambient_set)?,
        };
        Ok((held, sets.permitted.bits()))
    }

    /// Removes capabilities from the bounding set.
    ///
    /// # Errors
    ///
    /// That of prctl(2): without CAP_SETPCAP there is no right to.
    pub(crate) fn remove_from_bounding_set(set: u64) -> io::Result<()> {
        each(set).try_for_each(|one| Ok(remove_capability_from_bounding_set(one)?))
    }

    /// Whether the permitted capabilities stay when root becomes another user.
    ///
    /// # Errors
    ///
    /// That of prctl(2).
    pub(crate) fn keep_over_setuid(keep: bool) -> io::Result<()> {
        Ok(set_keep_capabilities(keep)?)
    }

    /// Sets the inheritable and the ambient set. With `nothing_else` the process itself keeps no others, and can use none
    /// until it executes a program.
    ///
    /// # Errors
    ///
    /// That of capset(2) or prctl(2).
    pub(crate) fn set(inheritable: u64, ambient: u64, nothing_else: bool) -> io::Result<()> {
        match clear_ambient_capability_set() {
            // A kernel before 4.3 has none.
            Err(Errno::INVAL) if ambient == 0 => {}
            cleared => cleared?,
        }
        let inheritable = CapabilitySet::from_bits_retain(inheritable);
        let others = if nothing_else {
            CapabilitySets { effective: CapabilitySet::empty(), permitted: inheritable, inheritable }
        } else {
            CapabilitySets { inheritable, ..capabilities(None)? }
        };
        set_capabilities(None, others)?;
        each(ambient).try_for_each(|one| Ok(configure_capability_in_ambient_set(one, true)?))
    }

    /// From now on neither this process nor its children get rights by executing a program.
    ///
    /// # Errors
    ///
    /// That of prctl(2).
    pub fn set_no_new_privileges() -> io::Result<()> {
        Ok(rustix::thread::set_no_new_privs(true)?)
    }
}

#[cfg(not(target_os = "linux"))]
#[allow(missing_docs, clippy::missing_errors_doc, reason = "documented above")]
mod here {
    use super::Capabilities;
    use std::io;

    fn unknown<T>() -> io::Result<T> {
        Err(rustix::io::Errno::NOSYS.into())
    }

    pub fn held() -> io::Result<(Capabilities, u64)> {
        unknown()
    }

    pub(crate) fn remove_from_bounding_set(_set: u64) -> io::Result<()> {
        unknown()
    }

    pub(crate) fn keep_over_setuid(_keep: bool) -> io::Result<()> {
        unknown()
    }

    /// Without capabilities there is nothing to give up.
    pub(crate) fn set(inheritable: u64, ambient: u64, _nothing_else: bool) -> io::Result<()> {
        if inheritable | ambient == 0 { Ok(()) } else { unknown() }
    }

    pub fn set_no_new_privileges() -> io::Result<()> {
        unknown()
    }
}

pub use here::{held, set_no_new_privileges};
pub(crate) use here::{keep_over_setuid, remove_from_bounding_set, set};
