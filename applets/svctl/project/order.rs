//! The order in which services stop: first those that nobody needs. Without I/O.

/// A service and what it needs, by name.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: Vec<u8>,
    pub(super) needs: Vec<Vec<u8>>,
}

/// The rank of each service: all of rank 0 stop first, together, then those of rank 1. A service comes after all that need
/// it; in a cycle nobody comes first.
pub(super) fn ranks(nodes: &[Node]) -> Vec<usize> {
    let mut ranks: Vec<usize> = vec![0; nodes.len()];
    // Without a cycle nobody has as many dependents above it as there are services.
    for _ in 0..nodes.len() {
        let mut is_stable = true;
        for (node, rank) in nodes.iter().zip(ranks.clone()) {
            let next = rank.saturating_add(1);
            for (needed, its) in nodes.iter().zip(&mut ranks) {
                let is_needed = node.name != needed.name && node.needs.contains(&needed.name);
                if is_needed && *its < next && next < nodes.len() {
                    *its = next;
                    is_stable = false;
                }
            }
        }
        if is_stable {
            break;
        }
    }
    ranks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranked(services: &[(&str, &str)]) -> Vec<usize> {
        let node = |(name, needs): &(&str, &str)| Node {
            name: name.as_bytes().to_vec(),
            needs: needs.split_whitespace().map(|need| need.as_bytes().to_vec()).collect(),
        };
        ranks(&services.iter().map(node).collect::<Vec<_>>())
    }

    #[test]
    fn dependents_stop_before_what_they_need() {
        assert_eq!(
            ranked(&[("db", ""), ("app", "db cache"), ("cache", ""), ("web", "app"), ("x", "")]),
            [2, 1, 2, 0, 0]
        );
        assert_eq!(ranked(&[("a", "a nosuch")]), [0]);
        assert_eq!(ranked(&[]), []);
    }

    proptest! {
        #[test]
        fn each_comes_after_all_that_need_it(edges in prop::collection::vec((0usize..7, 0usize..7), 0..12)) {
            // Without cycles: a service needs only later ones.
            let name = |index: usize| index.to_string().into_bytes();
            let nodes: Vec<Node> = (0..7).map(|index| Node {
                name: name(index),
                needs: edges.iter().filter(|(from, to)| *from == index && to > from).map(|(_, to)| name(*to)).collect(),
            }).collect();
            let ranks = ranks(&nodes);
            for (from, to) in edges.iter().filter(|(from, to)| to > from) {
                prop_assert!(ranks[*from] < ranks[*to]);
            }
        }

        #[test]
        fn cycles_have_an_end(edges in prop::collection::vec((0usize..5, 0usize..5), 0..20)) {
            let name = |index: usize| index.to_string().into_bytes();
            let nodes: Vec<Node> = (0..5).map(|index| Node {
                name: name(index),
                needs: edges.iter().filter(|(from, _)| *from == index).map(|(_, to)| name(*to)).collect(),
            }).collect();
            prop_assert!(ranks(&nodes).iter().all(|rank| *rank < 5));
        }
    }
}
