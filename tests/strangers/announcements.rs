//! The file in which a `runsvinit` announces the directory that it serves: who believes it, and when.

use support::*;

/// Runs `script` as root where no usual service directory exists, and where `/run` and `/dev/shm` are empty. In front of
/// it: `await COMMAND` waits until the command succeeds, `is_told` tells whether `sv` finds the service `db`, which is in
/// the directory `told` only, and `announce PID START` writes a file like that of process PID, which serves `told`.
fn alone(root: &TempDir, script: &str) -> Outcome {
    needs_root();
    needs_unshare("-mpf --mount-proc");
    let script = format!(
        r#"for dir in etc var run dev/shm; do mount -t tmpfs -o mode=755 none /$dir; done; unset SVDIR
        stranger='setpriv --reuid 65534 --regid 65534 --clear-groups'
        ns=$(stat -Lc %i /proc/self/ns/pid)
        await() {{ until "$@" >/dev/null 2>&1; do sleep 0.01; done; }}
        start_of() {{ cut -d ' ' -f 22 /proc/$1/stat; }}
        announce() {{ printf '%s %s %s\n%s\n' $1 $2 $ns "$PWD/told" >/run/runit/serves.$ns.$1; }}
        is_told() {{ if sv status db | grep -q 'open supervise'; then echo told; else echo no; fi; }}
        {script}"#
    );
    run_file("/usr/bin/unshare")
        .args(&["-mpf", "--mount-proc", "--kill-child", "sh", "-c", &script])
        .dir(root.path())
        .go()
}

/// A directory `told` with a service `db`, a directory `sv` with a service `web`, and a `runsvinit` that is sleep.
fn prepared() -> TempDir {
    let root = TempDir::new();
    root.script("told/db/run", "exec sleep 1000");
    root.script("sv/web/run", "exec sleep 1000");
    std::fs::copy("/bin/sleep", root.join("runsvinit")).unwrap();
    root
}

#[test]
fn a_file_is_believed_only_if_it_is_roots_and_about_this_very_process() {
    let root = prepared();
    let outcome = alone(
        &root,
        "./runsvinit 1000 & pid=$!; await grep -qx runsvinit /proc/$pid/comm; start=$(start_of $pid)
         file=/run/runit/serves.$ns.$pid; mkdir -m 755 /run/runit
         announce $pid $start; is_told
         echo 'of a process that had this number before'; announce $pid $((start - 1)); is_told
         echo 'that a stranger owns'; announce $pid $start; chown 65534 $file; is_told
         echo 'that others may write'; chown 0 $file; chmod 666 $file; is_told
         echo 'that has another name'; chmod 644 $file; ln $file /run/runit/other; is_told
         echo 'that is a link'; mv $file /run/runit/elsewhere; ln -sf elsewhere $file; is_told
         echo 'where everybody may put files'; rm $file /run/runit/other; announce $pid $start; chmod 1777 /run/runit; is_told
         echo 'and again'; chmod 755 /run/runit; is_told",
    );
    let told: Vec<&str> = outcome.out.lines().filter(|line| ["told", "no"].contains(line)).collect();
    assert_eq!(told, ["told", "no", "no", "no", "no", "no", "no", "told"], "{outcome:?}");
}

#[test]
fn where_everybody_may_put_files_it_announces_in_another_place() {
    let root = prepared();
    let outcome = alone(
        &root,
        "mkdir /run/runit; chmod 1777 /run/runit
         runsvinit -w 5 told & pid=$!
         $stranger sh -c \"printf '%s %s %s\\n%s\\n' $pid $(start_of $pid) $ns $PWD/sv >/run/runit/serves.$ns.$pid\"
         await [ -e /dev/shm/runit-0/serves.$ns.$pid ]; await sv status db; sv status web
         kill $pid; wait $pid; ls /dev/shm/runit-0",
    );
    let not_there = "fail: web: unable to change to service directory: file does not exist\n";
    assert_eq!(outcome.out, not_there, "{outcome:?}");
}

#[test]
fn a_file_of_an_ended_process_is_removed_by_the_next() {
    let root = prepared();
    let outcome = alone(
        &root,
        "mkdir -m 755 /run/runit; echo 1 1 1 >/run/runit/serves.1.1
         runsvinit sv & pid=$!; await [ -e /run/runit/serves.$ns.$pid ]; kill -9 $pid; wait $pid
         ls /run/runit | grep -c serves
         # Of another user.
         touch /run/runit/serves.$ns.99999; chown 65534 /run/runit/serves.$ns.99999
         # Of a process that lives, but is another than before.
         announce $$ 1
         runsvinit told & pid=$!; await [ -e /run/runit/serves.$ns.$pid ]
         ls /run/runit | sed s/$ns/NS/\\;s/$pid/PID/; kill $pid; wait $pid; ls /run/runit | grep -c serves",
    );
    let left = "2\nserves.1.1\nserves.NS.PID\nserves.NS.99999\n2\n";
    assert_eq!(outcome.out, left, "{outcome:?}");
}

#[test]
fn without_a_place_for_the_file_the_first_word_counts() {
    let root = prepared();
    let outcome = alone(
        &root,
        "mount -t tmpfs none /mnt; cp -r told sv /mnt
         mount --bind /tmp /tmp
         for dir in run dev/shm tmp; do mount -o remount,bind,ro /$dir; done
         runsvinit /mnt/told & first=$!; await sv status db; echo found
         kill $first; wait $first
         runsvinit -v -w 5 /mnt/told & await env SVDIR=/mnt/told sv status db; sv status db; SVDIR=/mnt/told sv -w 60 start db",
    );
    let mut lines = outcome.out.lines();
    assert_eq!(lines.next(), Some("found"), "{outcome:?}");
    let not_there = "fail: db: unable to change to service directory: file does not exist";
    assert_eq!(lines.next(), Some(not_there), "{outcome:?}");
    assert!(lines.next().is_some_and(|line| line.starts_with("ok: run: db: (pid ")), "{outcome:?}");
    assert!(outcome.err.contains("runsvinit: info: the directory is announced nowhere: sv may need SVDIR\n"));
}

#[test]
fn a_process_of_an_inner_pid_namespace_is_found_by_its_numbers_there() {
    let root = prepared();
    let outcome = alone(
        &root,
        "unshare -pf --kill-child runsvinit -w 5 told & await sv status db; sv -w 5 start db; ls /run/runit | sed s/$ns/ours/",
    );
    let (found, file) = outcome.out.split_once('\n').unwrap_or_default();
    assert!(found.starts_with("ok: run: db: (pid "), "{outcome:?}");
    assert!(file.ends_with(".1\n") && !file.contains("ours"), "{outcome:?}");
}
