//! `chpst` in services of `runsvinit`, without a shell.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::runsvinit::boot;
use support::*;

/// A root with a service whose `run` is for `chpst -@`.
fn root_with(name: &str, body: &str) -> Root {
    let file = format!("etc/service/{name}/run");
    let root = Root::new().file(&file, &format!("#!/sbin/chpst -@\n{body}\n"));
    fs::set_permissions(root.path(&file), fs::Permissions::from_mode(0o755)).unwrap();
    root
}

#[test]
fn a_service_without_a_shell_lives_and_ends() {
    needs_machine();
    let body = "-u :65534:65534 --caps -all,+net_bind_service --no-new-privs\n-C /tmp --umask 077 -b $0\n\
                /usr/bin/perl -e '$SIG{TERM} = sub { print \"ends\\n\"; exit 0 }; $| = 1;\n\
                print \"$< begins @ARGV\\n\"; sleep 1 while 1' argument \"$@\"";
    let mut machine = boot(root_with("web", body), &[]);
    machine.shows("65534 begins argument");
    let status = machine.inside("cat /proc/$(cat /etc/service/web/supervise/pid)/status").out;
    for line in ["CapEff:\t0000000000000400", "CapBnd:\t0000000000000400", "NoNewPrivs:\t1", "Umask:\t0077"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    machine.signal(SIGTERM);
    assert_eq!(machine.ends(), 0);
    machine.shows("ends");
}

#[test]
fn a_mistake_in_a_script_is_on_the_console() {
    needs_machine();
    let machine = boot(root_with("web", "-u :1:1\n\nprog > /file"), &[]);
    machine.shows("chpst: fatal: ./run: line 4: unquoted >: no shell reads this file");
    machine.shows("exited with 100");
}

#[test]
fn the_output_of_one_service_is_given_away_and_that_of_all_is_not() {
    needs_machine();
    let body = "-v --stderr -u :65534:65534 --own-output\n\
                /usr/bin/perl -e '$| = 1; print open(F, \">\", \"/proc/self/fd/1\") ? \"may\\n\" : \"may not\\n\"; sleep 1000'";
    let machine = boot(root_with("web", body), &["--prefix"]);
    machine.shows("web | may\n");
    let machine = boot(root_with("web", &body.replace("--own-output", "")), &["--prefix"]);
    machine.shows("web | may not\n");
    // Without --prefix that is the console.
    let machine = boot(root_with("web", body), &[]);
    machine.shows("chpst: warning: standard output keeps its owner: it is not a pipe");
    machine.shows("may not");
}
