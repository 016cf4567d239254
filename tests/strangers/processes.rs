//! Processes of a stranger with the name of a supervisor: they are neither followed nor told anything.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::*;

/// Runs `script` where no usual service directory is, and no process that the script has not begun. In front of it:
/// `$stranger` becomes nobody, and `await NAME` waits for a process of that name.
fn alone(root: &TempDir, script: &str) -> Outcome {
    needs_root();
    needs_unshare("-mpf --mount-proc");
    let script = format!(
        "mount -t tmpfs none /etc; mount -t tmpfs none /var; unset SVDIR
         stranger='setpriv --reuid 65534 --regid 65534 --clear-groups'
         await() {{ until cat /proc/[0-9]*/comm | grep -qx $1; do sleep 0.01; done; }}
         {script}"
    );
    run_file("/usr/bin/unshare")
        .args(&["-mpf", "--mount-proc", "--kill-child", "sh", "-c", &script])
        .dir(root.path())
        .go()
}

/// `evil/100000` is a directory of a service whose check leaves a file, and `runsvinit`, which is sleep, serves it.
fn prepared() -> TempDir {
    let root = TempDir::new();
    root.script("evil/100000/web/run", "exec sleep 1000");
    root.script("evil/100000/web/check", "id -u >../../../seen");
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).unwrap();
    for (name, mode) in [("runsvinit", 0o755), ("set-id/runsvinit", 0o4755)] {
        let file = root.file(name, fs::read("/bin/sleep").unwrap());
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    }
    root
}

/// A supervisor for `web`, so that there is something to see.
const SERVE: &str =
    "runsv evil/100000/web & until sv status ./evil/100000/web >/dev/null 2>&1; do sleep 0.01; done";

#[test]
fn the_tree_of_a_strangers_process_is_not_taken() {
    for program in ["runsvinit", "set-id/runsvinit"] {
        let root = prepared();
        let outcome = alone(
            &root,
            &format!(
                "{SERVE}; cd evil; $stranger ../{program} 100000 & await runsvinit; cd /; sv status web; sv health"
            ),
        );
        assert_eq!(
            outcome.out, "fail: web: unable to change to service directory: file does not exist\n",
            "{program}: {outcome:?}"
        );
        assert!(!root.join("seen").exists(), "{program}: its check was run by us");
    }
}

#[test]
fn the_tree_of_roots_process_is_taken() {
    let root = prepared();
    let outcome = alone(
        &root,
        &format!("{SERVE}; cd evil; ../runsvinit 100000 & await runsvinit; cd /; sv -w60 check web"),
    );
    assert!(outcome.out.starts_with("ok: run: web: (pid "), "{outcome:?}");
    assert!(root.join("seen").exists());
}

#[test]
fn a_strangers_process_is_not_told_to_halt() {
    let root = prepared();
    let outcome = alone(
        &root,
        "$stranger ./runsvinit 100000 & await runsvinit; runsvinit --halt 3; await runsvinit; kill -0 $! && echo lives",
    );
    assert_eq!(outcome.out, "lives\n", "{outcome:?}");
    assert_eq!(outcome.err, "runsvinit: fatal: no runsvinit runs here\n");
}

#[test]
fn a_hint_does_not_count_strangers_processes_and_many_cost_little() {
    let root = prepared();
    let outcome = alone(
        &root,
        "cd evil; for i in 1 2 3 4 5 6 7 8; do $stranger ../runsvinit 100000 & done; await runsvinit; \
         SVDIR=$PWD/100000 sv -v status web; SVDIR=$PWD/100000 sv start web",
    );
    assert!(outcome.err.starts_with("  no runsvdir serves /"), "{outcome:?}");
    let is_told = |line: &str| line.starts_with("warning: web: unable to open supervise/");
    assert!(outcome.out.lines().count() == 2 && outcome.out.lines().all(is_told), "{outcome:?}");
}
