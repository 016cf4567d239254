//! The capabilities that `chpst --caps` leaves to the program. Pure: no I/O.
//!
//! Source: chpst(8), capabilities(7).

use svcore::privilege::Capabilities;

/// The names of all capabilities, each at the place of its number.
const NAMES: &str = "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable \
                     net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio \
                     sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time \
                     sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog \
                     wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore";

/// One item of the list: `-` or `+`, and a name or `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The program cannot have these by any means.
    Remove(u64),
    /// The program has these from the start.
    Add(u64),
}

const ALL: u64 = u64::MAX;

/// Parses a list such as `-all,+net_bind_service`. `CAP_` in front of a name is ignored, and so is case.
///
/// # Errors
///
/// The item that is wrong.
pub(crate) fn parse(list: &str) -> Result<Vec<Change>, &str> {
    let change = |item: &str| {
        let name = item.get(1..)?.to_ascii_lowercase();
        let name = name.strip_prefix("cap_").unwrap_or(&name);
        let set = match name {
            "all" => ALL,
            name => 1 << NAMES.split(' ').position(|known| known == name)?,
        };
        match item.as_bytes().first() {
            Some(b'-') => Some(Change::Remove(set)),
            Some(b'+') => Some(Change::Add(set)),
            _ => None,
        }
    };
    list.split(',').map(|item| change(item).ok_or(item)).collect()
}

/// What is to be left of `held`, after the changes in their order. `permitted` is what may be added.
///
/// # Errors
///
/// The name of a capability that cannot be added.
pub(crate) fn wanted(
    changes: &[Change],
    held: Capabilities,
    permitted: u64,
) -> Result<Capabilities, &'static str> {
    let mut wanted = held;
    for change in changes {
        match *change {
            Change::Remove(set) => {
                wanted.bounding &= !set;
                wanted.inheritable &= !set;
                wanted.ambient &= !set;
            }
            Change::Add(set) => {
                let available = held.bounding & permitted;
                let missing = set & !available;
                if set != ALL && missing != 0 {
                    let number = usize::try_from(missing.trailing_zeros()).unwrap_or(0);
                    return Err(NAMES.split(' ').nth(number).unwrap_or_default());
                }
                wanted.bounding |= set & available;
                wanted.inheritable |= set & available;
                wanted.ambient |= set & available;
            }
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Root's, of a kernel with the capabilities 0 to 40.
    const ROOT: u64 = (1 << 41) - 1;

    fn of(list: &str, held: Capabilities, permitted: u64) -> Result<Capabilities, &'static str> {
        wanted(&parse(list).unwrap(), held, permitted)
    }

    const HELD: Capabilities = Capabilities { bounding: ROOT, inheritable: 0, ambient: 0 };

    #[test]
    fn names_have_the_numbers_of_the_kernel() {
        for (name, number) in
            [("chown", 0), ("net_bind_service", 10), ("sys_admin", 21), ("setfcap", 31), ("bpf", 39)]
        {
            assert_eq!(parse(&format!("+{name}")), Ok(vec![Change::Add(1 << number)]), "{name}");
        }
        assert_eq!(parse("-CAP_Checkpoint_Restore"), Ok(vec![Change::Remove(1 << 40)]));
    }

    #[test]
    fn what_is_no_item_is_returned() {
        for (list, item) in
            [("", ""), ("all", "all"), ("-all,", ""), ("-all,+net", "+net"), ("+", "+"), ("é", "é")]
        {
            assert_eq!(parse(list), Err(item));
        }
    }

    #[test]
    fn changes_hold_in_their_order() {
        let only = Capabilities { bounding: 1 << 10, inheritable: 1 << 10, ambient: 1 << 10 };
        assert_eq!(of("-all,+net_bind_service", HELD, ROOT), Ok(only));
        assert_eq!(of("+net_bind_service,-all", HELD, ROOT), Ok(Capabilities::default()));
        let without = Capabilities { bounding: ROOT & !(1 << 13), ..HELD };
        assert_eq!(of("-net_raw", HELD, ROOT), Ok(without));
        assert_eq!(of("+all", HELD, 5), Ok(Capabilities { bounding: ROOT, inheritable: 5, ambient: 5 }));
    }

    #[test]
    fn what_is_not_held_cannot_be_added() {
        assert_eq!(of("-all,+net_raw", HELD, 0), Err("net_raw"));
        assert_eq!(of("+kill", Capabilities::default(), ROOT), Err("kill"));
    }
}
