//! What a case needs. Where that is missing, the case ends at once and counts as ignored; with `CI` set it fails.

use std::collections::BTreeMap;
use std::panic;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use crate::cases::NotRun;

/// Ends the case unless `is_met`; `what` completes the sentence "the case needs".
#[track_caller]
pub fn needs(what: &str, is_met: bool) {
    if is_met {
        return;
    }
    assert!(std::env::var_os("CI").is_none(), "CI has to have what this case needs: {what}");
    // Unlike panic!, this prints nothing.
    panic::resume_unwind(Box::new(NotRun(format!("needs {what}"))));
}

/// The case needs what the machine may not have, also that of CI: there, too, it counts as ignored. `instead` has a case
/// for the same that can run.
#[track_caller]
pub fn needs_or_else(what: &str, is_met: bool, instead: &str) {
    if !is_met {
        panic::resume_unwind(Box::new(NotRun(format!("needs {what}; {instead} has a case for the same"))));
    }
}

/// The case needs to be root.
#[track_caller]
pub fn needs_root() {
    needs("root", rustix::process::geteuid().is_root());
}

/// The case needs a program of the machine, such as `strace`.
#[track_caller]
pub fn needs_program(name: &str) {
    let directories = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    needs(name, directories.iter().any(|directory| Path::new(directory).join(name).exists()));
}

/// The case needs a program of Debian's runit.
#[track_caller]
pub fn needs_stock(program: &str) {
    let directories = ["/usr/bin", "/usr/sbin"];
    let is_there = directories.iter().any(|directory| Path::new(directory).join(program).exists());
    needs("Debian's runit (apt-get install runit)", is_there);
}

/// The case needs the namespaces that `unshare` makes with these options.
#[track_caller]
pub fn needs_unshare(options: &str) {
    static TRIED: Mutex<BTreeMap<String, bool>> = Mutex::new(BTreeMap::new());
    let works = *TRIED.lock().unwrap().entry(options.to_owned()).or_insert_with(|| {
        let tried = Command::new("unshare").args(options.split(' ')).arg("true").output();
        tried.is_ok_and(|output| output.status.success())
    });
    needs(&format!("namespaces (unshare {options})"), works);
}

/// The case needs user and PID namespaces.
#[track_caller]
pub fn needs_namespaces() {
    needs_unshare("-Urpf --mount-proc");
}
