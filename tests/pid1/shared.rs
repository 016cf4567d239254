//! Two containers that share what they can: image, volume, `/dev/shm`, `/run`.

use support::*;

/// `$1`: where the services are; `$2`: what both have as `/dev/shm`, `$3`: as `/run`.
const SET_UP: &str = r#"
mount -t proc proc /proc
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount --bind "$2" /dev/shm
mount --bind "$3" /run
[ "$4" = rw ] || mount -o remount,bind,ro /run
exec runsvinit "$1"
"#;

/// A PID and a mount namespace with `runsvinit` as process 1.
struct Container(Process1);

impl Container {
    fn new(root: &TempDir, err: &str, run: &str) -> Self {
        let dir = |name: &str| root.join(name).to_str().unwrap().to_owned();
        let unshare = run_file("/usr/bin/unshare")
            .args(&["--pid", "--fork", "--mount", "--propagation", "private", "--kill-child"])
            .args(&["sh", "-ec", SET_UP, "sh", &dir("img"), &dir("shm"), &dir("run"), run]);
        Container(Process1::start(unshare, "runsvinit", &root.join(err)))
    }

    fn sv(&self, words: &[&str]) -> Outcome {
        let init = self.0.pid.to_string();
        run_file("/usr/bin/nsenter").args(&["-t", &init, "-p", "-m", "sv"]).args(words).go()
    }

    fn pid(&self, name: &str) -> Option<i32> {
        let out = self.sv(&["status", name]).out;
        out.strip_prefix("run: ")?.split_once("(pid ")?.1.split_once(')')?.0.parse().ok()
    }

    fn stops(mut self) {
        self.0.signal(SIGTERM);
        self.0.exit_code();
    }
}

#[test]
fn two_containers_that_share_everything_see_each_their_own_services() {
    needs_namespaces();
    needs_root();
    // The state is in what was shared memory, and in what was `/run`.
    for run in ["ro", "rw"] {
        let root = TempDir::new();
        for name in ["web", "db"] {
            root.script(&format!("img/{name}/run"), "exec sleep 1000");
            root.script(&format!("img/{name}/log/run"), "exec cat");
        }
        for dir in ["shm", "run"] {
            std::fs::create_dir(root.join(dir)).unwrap();
        }
        let first = Container::new(&root, "err1", run);
        eventually("first", || first.sv(&["health"]).code == Some(0));
        let second = Container::new(&root, "err2", run);
        eventually("second", || second.sv(&["health"]).code == Some(0));
        assert_eq!((root.read("err1").as_str(), root.read("err2").as_str()), ("", ""));
        let names = if run == "ro" { "shm/runit-0" } else { "run/runit/supervise" };
        assert!(root.join(names).join("web.1").exists() && root.join(names).join("web.log.1").exists());
        let before = first.pid("web").unwrap();
        // Its own processes: the numbers are those of its namespace.
        let in_second = second.pid("web").unwrap();
        assert_eq!(second.sv(&["-w60", "restart", "web"]).code, Some(0));
        assert_ne!(second.pid("web").unwrap(), in_second);
        assert_eq!(first.pid("web"), Some(before));
        assert_eq!(second.sv(&["-w60", "down", "web", "db"]).code, Some(0));
        assert!(first.pid("web") == Some(before) && first.pid("db").is_some());
        // What is left of the first is not taken for its own by the second, nor the other way round.
        first.stops();
        assert!(second.sv(&["status", "web"]).out.starts_with("down: web: "));
        let third = Container::new(&root, "err3", run);
        eventually("third", || third.sv(&["health"]).code == Some(0));
        assert!(second.sv(&["status", "web"]).out.starts_with("down: web: "));
        assert!(!root.join(names).join("web.2").exists());
        second.stops();
        assert_eq!(third.sv(&["health"]).code, Some(0));
    }
}
