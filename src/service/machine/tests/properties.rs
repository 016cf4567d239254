//! Rules that hold whatever happens in whatever order.

use proptest::prelude::*;

use super::world::World;
use super::{played, state};
use crate::process::Ended;
use crate::service::step::Event;
use crate::status::{self, Want};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is typed, however late the news (`.`) comes, whenever the service (`!`) or another process (`?`) ends: no
    /// rule is broken, and in the end the service is what was last asked for.
    #[test]
    fn no_sequence_breaks_the_rules(
        script in r"([udoxtkpchaiq12!?\-]\.{0,3}){0,60}",
        last in "[udx]",
        has_finish: bool,
        has_hooks: bool,
    ) {
        let mut world = played(&script, has_finish, has_hooks);
        let letter = last.chars().next().unwrap();
        world.play(letter);
        // A signal that a hook stood in for was not sent: such a service is ended from outside.
        for _ in 0..4 {
            world.settle();
            if letter != 'u' && world.child.is_some() {
                world.end(Ended::Code(0));
            }
        }
        prop_assert_eq!(&world.broken, &[] as &[&str]);
        let expected = match letter {
            'u' => (status::State::Run, Want::Up),
            'd' => (status::State::Down, Want::Down),
            _ => (status::State::Down, Want::Exit),
        };
        prop_assert_eq!(state(&world), expected);
    }

    /// The status never contradicts itself.
    #[test]
    fn the_status_is_consistent(script in r"([udoxtkpc!\-]\.{0,3}){0,40}", has_finish: bool, has_hooks: bool) {
        let mut world = World::new(has_finish, has_hooks);
        world.handle(Event::Tick);
        for letter in script.chars() {
            world.play(letter);
            let status = world.machine.status();
            prop_assert!((status.state == status::State::Run) <= status.pid.is_some());
            prop_assert!((status.state == status::State::Down) <= (status.pid.is_none() && !status.term));
            prop_assert!(status.term <= (status.state == status::State::Run));
            prop_assert_eq!(status.pid, world.child.map(|(pid, _, _)| pid));
        }
    }
}
