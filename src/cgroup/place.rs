//! Where the control group of a service is. Without I/O.

use std::ffi::{CStr, CString};

use crate::files::Identity;

/// The name of the group into which a supervisor moves itself, so that its own group may pass controllers on. The supervisor
/// of a unit of systemd has the same one with `DelegateSubgroup=supervisor`.
pub(super) const SUPERVISOR: &str = "supervisor";
/// How many bytes of the name of a service are in the name of its group. The kernel allows 255 for all of that.
const NAME_MAX: usize = 180;

/// The path of our control group of version 2, in the content of `/proc/self/cgroup`; `None` if there is none.
fn own_group(text: &[u8]) -> Option<&[u8]> {
    text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))
}

/// The path of the group below which services have theirs: our own, or the one above if ours is named [`SUPERVISOR`].
///
/// `own` is the content of `/proc/self/cgroup`.
pub(super) fn base_group(own: &[u8]) -> Option<Vec<u8>> {
    let own = own_group(own)?;
    let above = own.strip_suffix(SUPERVISOR.as_bytes()).and_then(|above| above.strip_suffix(b"/"));
    let base = above.unwrap_or(own);
    Some(if base.is_empty() { b"/".to_vec() } else { base.to_vec() })
}

/// Whether a process is in a group, or below it, whose path ends with `path`. `of_process` is the content of its file `cgroup`
/// in `/proc`.
pub(super) fn is_in(of_process: &[u8], path: &[u8]) -> bool {
    let Some(group) = own_group(of_process) else { return false };
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let names: Vec<&[u8]> = group.split(|&byte| byte == b'/').collect();
    let wanted: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
    names.windows(wanted.len()).any(|part| part == wanted)
}

/// The directories that may be the group `group`, by the content of `/proc/self/mountinfo`; the last one mounted is first.
pub(super) fn directories_of(group: &[u8], mounts: &[u8]) -> Vec<CString> {
    let mut found: Vec<CString> =
        mounts.split(|&byte| byte == b'\n').filter_map(|line| directory_in_mount(group, line)).collect();
    found.reverse();
    found
}

/// The directory of `group` in the mount that a line of `mountinfo` describes. Source: proc_pid_mountinfo(5).
fn directory_in_mount(group: &[u8], line: &[u8]) -> Option<CString> {
    let mut fields = line.split(|&byte| byte == b' ');
    let (root, point) = (unescaped(fields.nth(3)?), unescaped(fields.next()?));
    // Optional fields end with a hyphen. Then comes the type.
    fields.find(|field| *field == b"-")?;
    if fields.next()? != b"cgroup2" {
        return None;
    }
    // What is mounted is the part of the tree from `root` on.
    let below = if root == b"/" { group } else { group.strip_prefix(root.as_slice())? };
    let is_whole_name = below.is_empty() || below.starts_with(b"/");
    if !is_whole_name || below.split(|&byte| byte == b'/').any(|name| name == b"..") {
        return None;
    }
    CString::new([point.as_slice(), below].concat()).ok()
}

/// A path of `mountinfo`, in which some bytes are written as `\` and three octal digits.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let code = match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        plain.push(code.unwrap_or(byte));
        rest = after.get(if code.is_some() { 3 } else { 0 }..).unwrap_or_default();
    }
    plain
}

/// The name of the group of the service `name`, whose directory is `identity`: `sv.NAME.DEVICE-INODE`.
///
/// A directory has one supervisor at a time, which the lock in `supervise` sees to. So a group of this name that is there
/// already belonged to an earlier supervisor of the same service. The first part keeps the name apart from the files of
/// controllers, such as `memory.max`. Bytes of NAME that are not printable, slashes and backslashes are written as `\xNN`.
pub(super) fn group_name(name: &[u8], identity: Identity) -> CString {
    let mut written = Vec::new();
    for &byte in name {
        if byte.is_ascii_graphic() && byte != b'/' && byte != b'\\' {
            written.push(byte);
        } else {
            written.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        }
    }
    if written.len() > NAME_MAX {
        // Instances of a template have the same directory, so their names must stay different.
        let mark = format!("~{:016x}", hash(name));
        written.truncate(NAME_MAX.saturating_sub(mark.len()));
        written.extend_from_slice(mark.as_bytes());
    }
    let identity = format!(".{:x}-{:x}", identity.device, identity.inode);
    CString::new([b"sv.", written.as_slice(), identity.as_bytes()].concat()).unwrap_or_default()
}

/// The name of one of the groups of a service whose first one is called `name`: `NAME`, `NAME.1` and so on.
pub(super) fn numbered(name: &CStr, number: u32) -> CString {
    let mut numbered = name.to_bytes().to_vec();
    if number > 0 {
        numbered.extend_from_slice(format!(".{number}").as_bytes());
    }
    CString::new(numbered).unwrap_or_default()
}

/// FNV-1a.
fn hash(text: &[u8]) -> u64 {
    text.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The controller that a file of a service's `cgroup` needs; `None` if it needs none.
///
/// # Errors
///
/// The file may not be written at all: it is no setting of a controller, or would change which processes are in the group.
pub(super) fn controller_of(file: &[u8]) -> Result<Option<&[u8]>, &'static str> {
    let dot = file.iter().position(|&byte| byte == b'.').filter(|dot| *dot > 0);
    let Some(controller) = dot.and_then(|dot| file.get(..dot)) else {
        return Err("not the name of a setting");
    };
    match controller {
        b"cgroup" if file.starts_with(b"cgroup.max.") => Ok(None),
        b"cgroup" => Err("only the supervisor writes to that"),
        controller if controller.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'_') => {
            Ok(Some(controller))
        }
        _ => Err("not the name of a setting"),
    }
}

/// The number behind `name` in a file of lines `NAME NUMBER`, such as `memory.events`.
pub(super) fn number_of(name: &[u8], text: &[u8]) -> Option<u64> {
    text.split(|&byte| byte == b'\n').find_map(|line| {
        let number = line.strip_prefix(name)?.strip_prefix(b" ")?;
        crate::decimal::whole(number).filter(|_| !number.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: Identity = Identity { device: 0xfe01, inode: 0x1a2b };

    fn directories(group: &str, mounts: &str) -> Vec<String> {
        let found = directories_of(group.as_bytes(), mounts.as_bytes());
        found.into_iter().map(|dir| dir.into_string().unwrap()).collect()
    }

    #[test]
    fn the_base_is_our_own_group_or_the_one_above_that_of_supervisors() {
        let base = |text: &str| base_group(text.as_bytes()).map(|base| String::from_utf8(base).unwrap());
        assert_eq!(base("9:pids:/x\n0::/\n").as_deref(), Some("/"));
        assert_eq!(base("0::/system.slice/runit.service\n").as_deref(), Some("/system.slice/runit.service"));
        assert_eq!(base("0::/a/supervisor\n").as_deref(), Some("/a"));
        assert_eq!(base("0::/supervisor\n").as_deref(), Some("/"));
        assert_eq!(base("0::/a/mysupervisor\n").as_deref(), Some("/a/mysupervisor"));
        assert_eq!(base("9:pids:/x\n"), None);
    }

    #[test]
    fn a_process_is_in_a_group_and_in_those_above() {
        let is = |group: &str, path: &str| is_in(format!("1:x:/\n0::{group}\n").as_bytes(), path.as_bytes());
        assert!(is("/a/sv.web.1-2", "/a/sv.web.1-2") && is("/a/sv.web.1-2/x", "sv.web.1-2"));
        assert!(!is("/a/sv.web.1-2", "sv.web.1") && !is("/a", "/a/sv.web.1-2") && !is("/", "sv.web.1-2"));
    }

    #[test]
    fn the_directory_is_found_in_each_kind_of_mount() {
        let whole = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(directories("/", whole), ["/sys/fs/cgroup/"]);
        assert_eq!(directories("/a.slice/b", whole), ["/sys/fs/cgroup/a.slice/b"]);
        let hybrid = "30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                      31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      32 30 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        assert_eq!(directories("/", hybrid), ["/sys/fs/cgroup/unified/"]);
        // A container without a namespace for control groups sees only its part.
        let part = "35 24 0:30 /docker/12 /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(directories("/docker/12", part), ["/sys/fs/cgroup"]);
        assert_eq!(directories("/docker/12/x", part), ["/sys/fs/cgroup/x"]);
        assert_eq!(directories("/docker/123", part), [] as [&str; 0]);
        assert_eq!(directories("/", part), [] as [&str; 0]);
        // Our group is outside of our namespace.
        assert_eq!(directories("/../other", whole), [] as [&str; 0]);
        let odd = "35 24 0:30 / /mnt/a\\040b\\134 rw - cgroup2 none rw\n";
        assert_eq!(directories("/x", &format!("{whole}{odd}")), ["/mnt/a b\\/x", "/sys/fs/cgroup/x"]);
    }

    #[test]
    fn names_are_those_of_services_and_no_two_are_the_same() {
        let name = |name: &[u8]| group_name(name, ID).into_string().unwrap();
        assert_eq!(name(b"web"), "sv.web.fe01-1a2b");
        assert_eq!(name(b"a b\n/\\\xff"), "sv.a\\x20b\\x0a\\x2f\\x5c\\xff.fe01-1a2b");
        let (one, other) = (name(&[b'a'; 255]), name(&[b'a'; 254]));
        assert!(one != other && one.len() < 255, "{one}");
    }

    #[test]
    fn only_settings_of_controllers_are_written() {
        assert_eq!(controller_of(b"memory.max"), Ok(Some(b"memory".as_slice())));
        assert_eq!(controller_of(b"hugetlb.2MB.max"), Ok(Some(b"hugetlb".as_slice())));
        assert_eq!(controller_of(b"cgroup.max.descendants"), Ok(None));
        for name in ["cgroup.procs", "cgroup.kill", "cgroup.subtree_control", "memory", ".max", "-memory.max"]
        {
            assert!(controller_of(name.as_bytes()).is_err(), "{name}");
        }
    }

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let text = b"low 0\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!((number_of(b"oom_kill", text), number_of(b"oom", text)), (Some(2), Some(3)));
        assert_eq!(
            (number_of(b"populated", b"populated 1\nfrozen 0\n"), number_of(b"x", b"x \n")),
            (Some(1), None)
        );
    }

    proptest! {
        #[test]
        fn a_name_is_one_the_kernel_takes(name: Vec<u8>) {
            let made = group_name(&name, Identity { device: u64::MAX, inode: u64::MAX });
            let made = numbered(&made, 99);
            let made = made.to_bytes();
            prop_assert!(made.len() <= 255 && made.starts_with(b"sv."));
            prop_assert!(made.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'/'));
        }

        #[test]
        fn no_content_is_a_panic(own: Vec<u8>, mounts: Vec<u8>) {
            let _ = (base_group(&own), directories_of(b"/a", &mounts), controller_of(&own), number_of(b"a", &own));
        }
    }
}
