//! All graphs of few services, and many of more.
#![allow(clippy::arithmetic_side_effects, reason = "a case fails by a panic")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use rustix::process::Pid;

use super::*;
use crate::status::Want;
use crate::tai::stamp;

#[test]
fn a_name_is_a_sibling_and_a_path_a_path() {
    for (path, need, expected) in [
        ("/service/web", "db", "/service/db"),
        ("/service/web/", "db", "/service/db"),
        ("web", "db", "./db"),
        ("/web", "db", "//db"),
        (".", "db", "./../db"),
        ("../..", "db", "../../../db"),
        ("a/../web", "db", "a/../db"),
        ("/service/web", "/srv/db", "/srv/db"),
        ("/service/web", "../x/db", "/service/web/../x/db"),
        ("web", "./db", "web/./db"),
    ] {
        let found = resolve(path.as_bytes(), need.as_bytes());
        assert_eq!(String::from_utf8_lossy(&found), expected, "{path} {need}");
    }
}

#[test]
fn what_ready_means() {
    let status = |state, pid, term| Status {
        since: stamp(0, 0),
        pid: Pid::from_raw(pid),
        paused: false,
        want: Some(Want::Up),
        term,
        state,
    };
    let runs = Known {
        status: status(State::Run, 7, false),
        is_done: false,
        readiness: None,
        is_task: false,
        has_check: false,
    };
    let down = Known { status: status(State::Down, 0, false), ..runs };
    assert_eq!(standing(&runs), Standing::Ready);
    assert_eq!(standing(&Known { has_check: true, ..runs }), Standing::IfChecked);
    assert_eq!(standing(&Known { readiness: Some(true), has_check: true, ..runs }), Standing::Ready);
    assert_eq!(standing(&Known { readiness: Some(false), ..runs }), Standing::NotReady);
    // A task that tells when it is ready is ready then.
    assert_eq!(standing(&Known { is_task: true, has_check: true, ..runs }), Standing::NotReady);
    assert_eq!(standing(&Known { is_task: true, readiness: Some(true), ..runs }), Standing::Ready);
    assert_eq!(standing(&Known { is_task: true, is_done: true, ..down }), Standing::Ready);
    for status in [down.status, status(State::Finish, 8, false), status(State::Run, 7, true)] {
        for readiness in [None, Some(true), Some(false)] {
            assert_eq!(standing(&Known { status, readiness, ..runs }), Standing::NotReady);
        }
    }
}

type Graph = Vec<Vec<usize>>;

/// The graph in which `from` needs `to` if bit `from * services + to` is set.
fn graph(services: usize, bits: u64) -> Graph {
    let edge = |from: usize, to: usize| bits >> (from * services + to) & 1 == 1;
    (0..services).map(|from| (0..services).filter(|&to| edge(from, to)).collect()).collect()
}

/// The graph without the needs that are ignored. `name` is what a service is called.
fn without_ignored(graph: &Graph, ignored: &[Ignored]) -> Graph {
    let is_ignored = |from: usize, to: usize| ignored.iter().any(|it| (it.from, it.to) == (from, to));
    let keep = |(from, needs): (usize, &Vec<usize>)| {
        needs.iter().copied().filter(|&to| !is_ignored(from, to)).collect()
    };
    graph.iter().enumerate().map(keep).collect()
}

/// What can be reached from `from` in one step or more.
fn reached(graph: &Graph, from: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut todo = graph[from].clone();
    while let Some(node) = todo.pop() {
        if found.insert(node) {
            todo.extend(&graph[node]);
        }
    }
    found
}

/// What the supervisor of `of` ignores, which knows only what it can reach, and numbers that in an order of its own.
fn decided_alone(graph: &Graph, of: usize, name: impl Fn(usize) -> usize) -> BTreeSet<usize> {
    let mut known: Vec<usize> = reached(graph, of).into_iter().rev().filter(|&node| node != of).collect();
    known.insert(0, of);
    let number = |node: usize| known.iter().position(|&it| it == node).unwrap();
    let own: Graph = known.iter().map(|&node| graph[node].iter().map(|&to| number(to)).collect()).collect();
    let ignored = cycles(&own, |node| name(known[node]));
    ignored.iter().filter(|it| it.from == 0).map(|it| known[it.to]).collect()
}

/// Starts services one after the other, each when all that it needs is ready, and each that runs becomes ready at some time: `choice`
/// decides what happens next. Returns the order in which they became ready.
fn walked(graph: &Graph, mut choice: impl FnMut(usize) -> usize) -> Vec<usize> {
    let mut runs: Vec<usize> = Vec::new();
    let mut ready: Vec<usize> = Vec::new();
    loop {
        let may_run = |node: &usize| {
            !runs.contains(node) && !ready.contains(node) && graph[*node].iter().all(|to| ready.contains(to))
        };
        let next: Vec<usize> = (0..graph.len()).filter(may_run).collect();
        let events = next.len() + runs.len();
        if events == 0 {
            return ready;
        }
        let event = choice(events);
        match next.get(event) {
            Some(&node) => runs.push(node),
            None => ready.push(runs.remove(event - next.len())),
        }
    }
}

/// All rules, for one graph and one order of names.
fn check(graph: &Graph, name: impl Fn(usize) -> usize + Copy, mut choice: impl FnMut(usize) -> usize) {
    let ignored = cycles(graph, name);
    assert_eq!(has_cycle(graph), !ignored.is_empty());
    let rest = without_ignored(graph, &ignored);
    for node in 0..graph.len() {
        assert!(!reached(&rest, node).contains(&node), "a cycle remains: {graph:?}");
        // Those who decide alone agree.
        let own: BTreeSet<usize> = ignored.iter().filter(|it| it.from == node).map(|it| it.to).collect();
        assert_eq!(decided_alone(graph, node, name), own, "{graph:?} {node}");
    }
    for (number, Ignored { from, to, way }) in ignored.iter().enumerate() {
        if ignored.iter().take(number).any(|before| before.from == *from) {
            assert!(way.is_empty(), "{graph:?}");
            continue;
        }
        assert!(graph[*from].contains(to));
        assert_eq!((way.first(), way.last()), (Some(to), Some(from)), "{graph:?}");
        assert!(way.windows(2).all(|pair| rest[pair[0]].contains(&pair[1])), "{graph:?} {way:?}");
    }
    // Nobody waits for ever.
    assert_eq!(walked(&rest, &mut choice).len(), graph.len(), "{graph:?}");
    // They end in an order in which nobody ends before those who need it.
    let mut order = EndOrder::new(graph.clone(), name);
    let mut may_end = order.first();
    let mut ended: Vec<usize> = Vec::new();
    while !may_end.is_empty() {
        let node = may_end.remove(choice(may_end.len()));
        assert!(order.may_end(node));
        assert!((0..graph.len()).all(|other| !rest[other].contains(&node) || ended.contains(&other)));
        ended.push(node);
        may_end.extend(order.ended(node));
        assert_eq!(order.ended(node), []);
    }
    assert_eq!(ended.len(), graph.len(), "{graph:?}");
}

#[test]
fn all_graphs_of_up_to_four_services() {
    let mut seed = 1_usize;
    let mut choice = |number: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % number
    };
    for services in 1..=4_usize {
        // That a service needs itself is a cycle of its own; with four, it would only take time.
        let of_itself = (0..services).fold(0_u64, |bits, node| bits | 1 << (node * services + node));
        let is_left_out = |bits: u64| services == 4 && bits & of_itself != 0;
        for bits in (0..1_u64 << (services * services)).filter(|bits| !is_left_out(*bits)) {
            let graph = graph(services, bits);
            let is_reversed = bits.count_ones() % 2 == 1;
            check(&graph, |node| if is_reversed { services - node } else { node }, &mut choice);
        }
    }
}

#[test]
fn a_graph_without_cycles_keeps_all_needs() {
    let chain: Graph = (0..5000).map(|node| if node == 0 { vec![] } else { vec![node - 1] }).collect();
    assert_eq!(cycles(&chain, |node| node), []);
    let mut ring = chain;
    ring[0] = vec![4999];
    let ignored = cycles(&ring, |node| node);
    assert_eq!((ignored.len(), ignored[0].from, ignored[0].to), (1, 1, 0));
    assert_eq!(ignored[0].way.len(), 5000);
}

#[test]
fn two_that_need_each_other_start_in_the_order_of_their_names_backwards() {
    // The walk begins with `a`, so the need of `b` is ignored, and `b` starts first.
    let names = ["b", "a"];
    let both = vec![vec![1], vec![0]];
    assert_eq!(cycles(&both, |node| names[node]), [Ignored { from: 0, to: 1, way: vec![1, 0] }]);
    assert_eq!(cycles(&[vec![0, 0]], |node| node), [Ignored { from: 0, to: 0, way: vec![0] }]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn graphs_of_up_to_eight_services(
        services in 5..=8_usize,
        bits: u64,
        thin: u64,
        thinner: u64,
        names: [u8; 8],
        choices in prop::collection::vec(any::<prop::sample::Index>(), 32),
    ) {
        let mut choices = choices.iter().cycle();
        let mut choice = |number: usize| choices.next().unwrap().index(number);
        for bits in [bits, bits & thin, bits & thin & thinner] {
            let graph = graph(services, bits);
            check(&graph, |node| usize::from(names[node]) * 8 + node, &mut choice);
        }
    }
}
