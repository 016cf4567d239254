//! Messages to `notification-socket` that come with descriptors.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use support::*;

use super::ready::{assert_flood_is_cheap, children_of, connected, is_ready, is_unready, perl};

/// How long the close of a [`Lingering`] socket takes.
const LINGER: Duration = Duration::from_secs(20);
/// Nobody may be held up for so long.
const SOON: Duration = Duration::from_secs(8);

/// Sends a message with a descriptor. Returns whether there was room for it, if it does not wait for that.
fn send_with(socket: &UnixDatagram, text: &str, fd: BorrowedFd<'_>, flags: SendFlags) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(socket, &[IoSlice::new(text.as_bytes())], &mut control, flags).is_ok()
}

/// The other side of a connection that does not read: who closes the one side last waits for [`LINGER`].
struct Lingering(TcpStream);

/// Sends `count` such sides, and has them no more.
fn send_lingering(socket: &UnixDatagram, count: usize) -> Vec<Lingering> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let one = || {
        let mut side = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        set_socket_linger(&side, Some(LINGER)).unwrap();
        side.set_nonblocking(true).unwrap();
        while side.write(&[b'x'; 65536]).is_ok() {}
        assert!(send_with(socket, "READY=1", side.as_fd(), SendFlags::empty()));
        Lingering(listener.accept().unwrap().0)
    };
    std::iter::repeat_with(one).take(count).collect()
}

/// A service `web` that tells that it is ready when there is its file `0`, and another one.
fn start_two(tree: &mut Tree) {
    needs_program("perl");
    tree.define("web", &perl(&["READY=1"]));
    tree.file("web", "notification-socket", "");
    tree.link("web");
    tree.sleeper("other");
    tree.start();
    eventually("up", || tree.is_up("web") && is_unready(tree, "web") && tree.is_up("other"));
}

#[test]
fn descriptors_whose_close_takes_long_hold_up_nobody() {
    under_each_supervisor(|tree| {
        start_two(tree);
        let soon = |what: &str, words: &[&str]| {
            let begin = Instant::now();
            let outcome = tree.sv(words);
            assert_eq!(outcome.code, Some(0), "{what}: {outcome:?}");
            assert!(begin.elapsed() < SOON, "{what}: {:?}", begin.elapsed());
        };
        let _others = send_lingering(&connected(tree, "web"), 5);
        soon("restart of another", &["-w", "15", "restart", "other"]);
        let begin = Instant::now();
        tree.file("web", "0", "");
        eventually("ready", || is_ready(tree, "web"));
        assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
        // Its socket is closed with what is in the queue.
        let others = send_lingering(&connected(tree, "web"), 5);
        soon("restart", &["-w", "15", "restart", "web"]);
        // Nobody has the socket any more.
        for mut other in others {
            other.0.set_read_timeout(Some(SOON)).unwrap();
            let mut buffer = vec![0; 1 << 20];
            while other.0.read(&mut buffer).unwrap() > 0 {}
        }
        assert_eq!(tree.messages(), "");
    });
}

#[test]
fn strangers_who_send_descriptors_without_end_occupy_nobody() {
    under_each_supervisor(|tree| {
        start_two(tree);
        let socket = connected(tree, "web");
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_flood_is_cheap(tree, || {
            std::thread::sleep(Duration::from_millis(1));
            send_with(&socket, "READY=1", null.as_fd(), SendFlags::DONTWAIT)
        });
        assert_eq!(tree.sv(&["stop", "web"]).code, Some(0));
    });
}

#[test]
fn a_message_with_a_descriptor_counts_and_is_published_before_that_is_closed() {
    needs_program("perl");
    needs(
        "systemd-notify (apt-get install systemd)",
        std::path::Path::new("/usr/bin/systemd-notify").exists(),
    );
    under_each_supervisor(|tree| {
        let notify =
            "systemd-notify --status=works --ready && cp supervise/state seen.new && mv seen.new seen";
        tree.define("web", &format!("{notify}\nexec sleep 1000"));
        tree.file("web", "notification-socket", "");
        tree.link("web");
        tree.start();
        eventually("seen", || tree.root.join("sv/web/seen").exists());
        let seen = tree.read("web", "seen");
        assert!(seen.contains("ready @") && seen.contains("works"), "{seen}");
    });
}

#[test]
fn a_service_is_not_aborted_while_its_messages_wait_behind_those_of_strangers() {
    needs_program("perl");
    under_each_supervisor(|tree| {
        let alive = r#"for (;;) { send($socket, "WATCHDOG=1", 0, pack_sockaddr_un($to)) or die; select(undef, undef, undef, 0.1); last if -e "end"; }
sleep 1000"#;
        tree.define("web", &perl(&["READY=1"]).replace("sleep 1000", alive));
        tree.file("web", "notification-socket", "");
        tree.file("web", "watchdog", "1500");
        tree.file("web", "0", "");
        tree.link("web");
        tree.start();
        eventually("ready", || is_ready(tree, "web"));
        let pid = tree.pid("web");
        let socket = connected(tree, "web");
        // The queue has room for ten.
        let _others: Vec<_> = (0..3).flat_map(|_| send_lingering(&socket, 9)).collect();
        assert_eq!((tree.pid("web"), tree.messages()), (pid, String::new()));
        tree.file("web", "end", "");
        eventually("aborted", || tree.messages().contains("was silent for 1500 ms"));
    });
}

#[test]
fn where_no_process_can_be_had_it_is_tried_again() {
    needs_program("perl");
    needs_program("strace");
    let tree = Tree::new();
    tree.define("web", &perl(&["READY=1"]));
    tree.file("web", "notification-socket", "");
    tree.link("web");
    // The first clone(2) is that of `./run`. C libraries differ in what fork(3) calls.
    let inject = "exec strace -o strace.out -e trace=clone,fork -e inject=clone:error=EAGAIN:when=2..4 \
                  -e inject=fork:error=EAGAIN:when=1..3 $0 service";
    let run = run_file("/bin/sh").args(&["-c", inject]).arg(program("runsvinit"));
    let mut init = run.dir(tree.root.path()).start(&tree.root.join("err"));
    eventually("up", || tree.is_up("web") && is_unready(&tree, "web"));
    let socket = connected(&tree, "web");
    let null = std::fs::File::open("/dev/null").unwrap();
    assert!(send_with(&socket, "READY=1", null.as_fd(), SendFlags::DONTWAIT));
    tree.file("web", "0", "");
    eventually("ready", || is_ready(&tree, "web"));
    let trace = tree.root.read("strace.out");
    assert_eq!(trace.matches("INJECTED").count(), 3, "{trace}");
    send(&tree.root.join("sv/web/supervise/control"), "d");
    // strace passes no signal on.
    kill(*children_of(init.pid()).last().unwrap(), SIGTERM);
    eventually("ended", || init.ended().is_some());
}
