//! Becoming another user, for good.

use crate::error::{Context, Failed, Result};
use crate::sys::ids;

/// Sets the groups, the group and the user, in this order, since after the last there is no right to do more. Then
/// verifies that they are set, and that there is no way back.
///
/// Groups that are set already are not set again: that would need a right. Any user but root ends up without
/// capabilities. The first of `gids` is the group of the process.
///
/// # Errors
///
/// [`Failed`]. What was changed by then stays changed, so the caller must end.
pub fn become_user(uid: u32, gids: &[u32]) -> Result<(), Failed> {
    let gid = gids.first().copied().ok_or_else(|| Failed::without_cause("unable to setgroups"))?;
    if groups_with(gid)? != sorted(gids.to_vec()) {
        ids::set_groups(gids).while_doing(|| "unable to setgroups")?;
    }
    ids::set_gid(gid).while_doing(|| "unable to setgid")?;
    ids::set_uid(uid).while_doing(|| "unable to setuid")?;

    let wrong = |what: &str| Failed::without_cause(format!("unable to drop privileges: {what}"));
    if uid != 0 {
        ids::clear_capabilities().while_doing(|| "unable to drop capabilities")?;
    }
    if groups_with(gid)? != sorted(gids.to_vec()) {
        return Err(wrong("groups did not change"));
    }
    if ids::gids() != [gid; 3] {
        return Err(wrong("gid did not change"));
    }
    if ids::uids() != [uid; 3] {
        return Err(wrong("uid did not change"));
    }
    if uid != 0 && ids::become_root().is_ok() {
        return Err(wrong("there is a way back to root"));
    }
    Ok(())
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
