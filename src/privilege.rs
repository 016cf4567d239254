//! Becoming another user, for good, and the capabilities of programs.

use crate::error::{Context, Failed, Result};
use crate::sys::{capabilities, ids};

pub use crate::sys::capabilities::Capabilities;

/// Sets the groups, the group and the user, in this order, since after the last there is no right to do more. Then
/// verifies that they are set, and that there is no way back.
///
/// Groups that are set already are not set again: that would need a right. Any user but root ends up without
/// capabilities; a program that is executed then has those of `kept`. The first of `gids` is the group of the process.
///
/// # Errors
///
/// [`Failed`]. What was changed by then stays changed, so the caller must end.
pub fn become_user(uid: u32, gids: &[u32], kept: u64) -> Result<(), Failed> {
    let gid = gids.first().copied().ok_or_else(|| Failed::without_cause("unable to setgroups"))?;
    if groups_with(gid)? != sorted(gids.to_vec()) {
        ids::set_groups(gids).while_doing(|| "unable to setgroups")?;
    }
    ids::set_gid(gid).while_doing(|| "unable to setgid")?;
    if kept != 0 {
        capabilities::keep_over_setuid(true).while_doing(|| "unable to keep capabilities")?;
    }
    ids::set_uid(uid).while_doing(|| "unable to setuid")?;

    if uid != 0 {
        // The kernel itself does that only when root becomes another user, and not even then if a secure bit forbids it.
        let doing = if kept == 0 { "unable to drop capabilities" } else { "unable to keep capabilities" };
        capabilities::set(kept, kept, true).while_doing(|| doing)?;
    }
    if kept != 0 {
        capabilities::keep_over_setuid(false).while_doing(|| "unable to keep capabilities")?;
    }
    if groups_with(gid)? != sorted(gids.to_vec()) {
        return Err(unchanged("groups did not change"));
    }
    if ids::gids() != [gid; 3] {
        return Err(unchanged("gid did not change"));
    }
    if ids::uids() != [uid; 3] {
        return Err(unchanged("uid did not change"));
    }
    // What is kept cannot be used before a program is executed, so this is no way back either.
    if uid != 0 && ids::become_root().is_ok() {
        return Err(unchanged("there is a way back to root"));
    }
    Ok(())
}

fn unchanged(what: &str) -> Failed {
    Failed::without_cause(["unable to drop privileges: ", what].concat())
}

/// Reduces the bounding set. Has to come before [`become_user`], after which there is no right to do it.
///
/// # Errors
///
/// [`Failed`].
pub fn reduce_bounding_set(from: u64, to: u64) -> Result<(), Failed> {
    capabilities::remove_from_bounding_set(from & !to)
        .while_doing(|| "unable to drop capabilities of the bounding set")
}

/// Sets the inheritable and the ambient set of a process that stays who it is.
///
/// # Errors
///
/// [`Failed`].
pub fn set_capabilities(wanted: Capabilities) -> Result<(), Failed> {
    capabilities::set(wanted.inheritable, wanted.ambient, false).while_doing(|| "unable to set capabilities")
}

/// Verifies that programs get what is wanted, and nothing else.
///
/// # Errors
///
/// [`Failed`].
pub fn verify_capabilities(wanted: Capabilities) -> Result<(), Failed> {
    let (held, _) = capabilities::held().while_doing(|| "unable to get capabilities")?;
    if held == wanted { Ok(()) } else { Err(unchanged("capabilities did not change")) }
}

/// The supplementary groups and `gid`: systems differ in whether the list includes the group of the process.
fn groups_with(gid: u32) -> Result<Vec<u32>, Failed> {
    let mut groups = ids::groups().while_doing(|| "unable to getgroups")?;
    groups.push(gid);
    Ok(sorted(groups))
}

fn sorted(mut ids: Vec<u32>) -> Vec<u32> {
    crate::sort::sort(&mut ids);
    ids.dedup();
    ids
}
