//! Programs of others that tell when they are ready.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use support::*;

/// The program of a package of Debian.
fn of_package(package: &str, places: &[&str]) -> PathBuf {
    let found = places.iter().map(Path::new).find(|path| path.exists());
    needs(&format!("{} (apt-get install {package})", places[0]), found.is_some());
    found.unwrap().to_owned()
}

/// Enables the service `name`, and returns once it is ready; `is_true` tells whether it really is.
#[track_caller]
fn is_ready_only_when_it_is(tree: &mut Tree, name: &str, is_true: impl Fn(&Tree) -> bool) {
    tree.link(name);
    tree.start();
    eventually("up", || tree.is_up(name));
    let mut ready = None;
    let seen = holds_soon(|| {
        ready = tree.fact(name, "ready");
        ready.as_ref().is_some_and(|since| since.starts_with('@'))
    });
    assert!(seen, "{ready:?}: {}", tree.messages());
    assert!(is_true(tree), "{}", tree.messages());
    let status = tree.sv(&["status", name]).out;
    assert!(status.contains(", ready "), "{status}");
    assert_eq!(tree.sv(&["stop", name]).code, Some(0));
    assert_eq!(tree.fact(name, "ready"), None);
}

fn is_socket(tree: &Tree, path: &str) -> bool {
    std::os::unix::net::UnixStream::connect(tree.root.join(path)).is_ok()
}

#[test]
fn redis_tells_it_by_the_socket() {
    let redis = of_package("redis-server", &["/usr/bin/redis-server"]);
    under_each_supervisor(|tree| {
        tree.define(
            "redis",
            &format!(
                "exec {} --supervised systemd --port 0 --unixsocket ./socket --save '' --daemonize no 2>&1",
                redis.display()
            ),
        );
        tree.file("redis", "notification-socket", "");
        is_ready_only_when_it_is(tree, "redis", |tree| {
            let message = tree.fact("redis", "message").unwrap_or_default();
            is_socket(tree, "sv/redis/socket") && message.starts_with("Ready to accept connections")
        });
    });
}

#[test]
fn postgres_tells_it_by_the_socket_as_its_own_user() {
    needs_root();
    let versions = ["/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/16/bin"];
    let bin = of_package("postgresql", &versions);
    let passwd = read("/etc/passwd");
    needs("the user postgres", passwd.lines().any(|line| line.starts_with("postgres:")));
    under_each_supervisor(|tree| {
        tree.define(
            "db",
            &format!(
                "exec 2>&1\nexec chpst -u postgres {}/postgres -D data -k \"$PWD/data\" -c listen_addresses=",
                bin.display()
            ),
        );
        // So that its user can go there.
        let dir = tree.root.join("sv/db");
        let open = run_file("/bin/chmod").args(&["go+rx"]).arg(tree.root.path()).arg(tree.root.join("sv"));
        assert_eq!(open.arg(&dir).go().code, Some(0));
        std::fs::create_dir(dir.join("data")).unwrap();
        let given = run_file("/bin/chown").arg("postgres:").arg(dir.join("data")).go();
        assert_eq!(given.code, Some(0), "{given:?}");
        let made = run("chpst")
            .args(&["-u", "postgres", bin.join("initdb").to_str().unwrap(), "-N", "-D", "data"])
            .dir(&dir)
            .go();
        assert_eq!(made.code, Some(0), "{made:?}");
        tree.file("db", "notification-socket", "");
        is_ready_only_when_it_is(tree, "db", |tree| {
            let pid = tree.pid("db").unwrap();
            let is_dropped = std::fs::metadata(format!("/proc/{pid}")).unwrap().uid() != 0;
            is_dropped && is_socket(tree, "sv/db/data/.s.PGSQL.5432")
        });
    });
}

#[test]
fn programs_of_s6_tell_it_by_the_descriptor() {
    let server = of_package("s6", &["/usr/bin/s6-ipcserver", "/bin/s6-ipcserver"]);
    let log = of_package("s6", &["/usr/bin/s6-log", "/bin/s6-log"]);
    under_each_supervisor(|tree| {
        // It uses descriptor 1 for that.
        tree.define("server", &format!("exec {} -1 socket cat >&5", server.display()));
        tree.file("server", "notification-fd", "5\n");
        is_ready_only_when_it_is(tree, "server", |tree| is_socket(tree, "sv/server/socket"));
    });
    under_each_supervisor(|tree| {
        let run = format!("mkfifo in 2>/dev/null\nexec {} -d 3 t ./main <>in", log.display());
        tree.define("log", &run);
        tree.file("log", "notification-fd", "3\n");
        is_ready_only_when_it_is(tree, "log", |tree| tree.root.join("sv/log/main/lock").exists());
    });
}

#[test]
fn systemd_notify_tells_it_for_a_script() {
    let notify = of_package("systemd", &["/usr/bin/systemd-notify", "/bin/systemd-notify"]);
    under_each_supervisor(|tree| {
        let notify = notify.display();
        tree.define("script", &format!("{notify} --status=works --ready && : >told\nexec sleep 1000"));
        tree.file("script", "notification-socket", "");
        is_ready_only_when_it_is(tree, "script", |tree| {
            tree.fact("script", "message").as_deref() == Some("works")
        });
    });
}
