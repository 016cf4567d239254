//! A pod: containers that share `/dev/shm`, and volumes, and have services of the same names.

use std::fs;
use std::path::Path;

use super::{Container, Engine, engine};
use support::*;

/// The pod of `etc/kubernetes` with two containers of its image, `one` and `two`.
struct Pod<'e> {
    engine: &'e Engine,
    name: &'static str,
}

impl<'e> Pod<'e> {
    fn play(engine: &'e Engine, name: &'static str, change: impl Fn(String) -> String) -> Self {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/kubernetes/pod.yaml");
        let example = fs::read_to_string(example).unwrap();
        let (head, rest) = example.split_once("    - name: services\n").unwrap();
        let (container, volumes) = rest.split_once("  volumes:\n").unwrap();
        let container = container.replace("services:latest", "localhost/services:latest");
        let container = |name: &str| format!("    - name: {name}\n{container}");
        let pod = format!(
            "{}{}{}  volumes:\n{volumes}",
            head.replace("  name: services\n", &format!("  name: {name}\n")),
            container("one"),
            container("two")
        );
        let file = engine.dir.join(format!("{name}.yaml"));
        fs::write(&file, change(pod)).unwrap();
        let played = engine.podman(&["kube", "play", "--network", "none", file.to_str().unwrap()]);
        assert!(played.status.success(), "{played:?}");
        Pod { engine, name }
    }

    fn container(&self, name: &str) -> Container<'e> {
        Container { engine: self.engine, name: format!("{}-{name}", self.name) }
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        self.engine.podman(&["pod", "rm", "-f", "-t", "0", self.name]);
    }
}

fn status(container: &Container<'_>, name: &str) -> String {
    container.exec(&["/sbin/sv", "status", name]).out
}

fn begins(container: &Container<'_>) -> usize {
    container.messages().matches("web begins").count()
}

/// Each container's `sv` sees and changes its own services and nothing else.
fn each_is_its_own(pod: &Pod<'_>) {
    let (one, two) = (pod.container("one"), pod.container("two"));
    // The services of both run: neither finds its state taken by the other.
    for container in [&one, &two] {
        container.shows("web begins");
        container.shows("db begins");
        let health = container.exec(&["/sbin/sv", "health"]);
        assert_eq!((health.code, health.out.as_str()), (Some(0), ""), "{health:?} {}", container.messages());
        assert!(!container.messages().contains("fatal"), "{}", container.messages());
    }
    // A restart is one's own.
    let restarted = two.exec(&["/sbin/sv", "-w", "60", "restart", "web"]);
    assert_eq!(restarted.code, Some(0), "{restarted:?}");
    eventually("two's web began again", || begins(&two) == 2);
    assert_eq!(begins(&one), 1, "{}", one.messages());
    // So is a stop, and what status and health then say.
    let stopped = one.exec(&["/sbin/sv", "-w", "60", "stop", "db"]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    assert!(status(&one, "db").starts_with("down: db: "), "{}", status(&one, "db"));
    assert!(status(&two, "db").starts_with("run: db: "), "{}", status(&two, "db"));
    // The process that it names is in this container.
    for container in [&one, &two] {
        let said = status(container, "web");
        let pid = said.split_once("(pid ").unwrap().1.split(')').next().unwrap().to_owned();
        let top = pod.engine.podman(&["top", &container.name, "pid", "args"]);
        let top = String::from_utf8(top.stdout).unwrap();
        let line = top.lines().find(|line| line.split_whitespace().next() == Some(&pid));
        assert!(line.is_some_and(|line| line.contains("run")), "{said} {top}");
    }
    // When the first goes, the second stays; and it is not healthier than it is.
    one.stops_at_once();
    assert!(status(&two, "web").starts_with("run: web: "), "{}", status(&two, "web"));
    assert_eq!(two.exec(&["/sbin/sv", "health"]).code, Some(0));
    two.stops_at_once();
}

/// podman makes the pause container of a pod from catatonit.
fn pod_engine() -> &'static Engine {
    needs_program("catatonit");
    engine()
}

/// podman makes the volume at `/run` root's, so that a user's state is in `/dev/shm`, which is the whole pod's.
#[test]
fn containers_of_a_pod_that_share_shm_have_services_of_their_own() {
    let engine = pod_engine();
    each_is_its_own(&Pod::play(engine, "shm", |pod| pod));
}

/// As in Kubernetes, where everybody may write to such a volume: both containers have their state there.
#[test]
fn containers_of_a_pod_that_share_run_have_services_of_their_own() {
    let engine = pod_engine();
    let as_root = |pod: String| {
        let (user, not_root) = ("        runAsUser: 1000\n", "        runAsNonRoot: true\n");
        assert!(pod.contains(user) && pod.contains(not_root));
        pod.replace(user, "").replace(not_root, "")
    };
    each_is_its_own(&Pod::play(engine, "run", as_root));
}
