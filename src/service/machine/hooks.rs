//! Which hooks run.

use crate::control::Hook;

/// A set of hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct HookSet(u16);

impl HookSet {
    const fn bit(hook: Hook) -> u16 {
        const { assert!(Hook::COUNT <= u16::BITS as usize) };
        1_u16.wrapping_shl(hook.index())
    }

    /// Adds a hook. Returns whether it was not in the set before.
    const fn insert(&mut self, hook: Hook) -> bool {
        let is_new = self.0 & Self::bit(hook) == 0;
        self.0 |= Self::bit(hook);
        is_new
    }

    /// Removes a hook. Returns whether it was in the set.
    const fn remove(&mut self, hook: Hook) -> bool {
        let was_there = self.0 & Self::bit(hook) != 0;
        self.0 &= !Self::bit(hook);
        was_there
    }
}

/// The hooks that run. No hook runs twice at a time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RunningHooks {
    running: HookSet,
    /// Those that were asked for while they ran, and are to run once more.
    again: HookSet,
}

impl RunningHooks {
    /// Asks for a hook. Returns whether to start it now: if it still runs, it is started again at its end.
    pub(super) const fn ask_for(&mut self, hook: Hook) -> bool {
        let is_new = self.running.insert(hook);
        if !is_new {
            self.again.insert(hook);
        }
        is_new
    }

    /// A hook ended. Returns whether it was asked for once more.
    pub(super) const fn ended(&mut self, hook: Hook) -> bool {
        self.running.remove(hook);
        self.again.remove(hook)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_runs_once_at_a_time_and_once_more_if_asked_meanwhile() {
        let mut hooks = RunningHooks::default();
        assert!(hooks.ask_for(Hook::Up) && hooks.ask_for(Hook::Exit));
        assert!(!hooks.ask_for(Hook::Up) && !hooks.ask_for(Hook::Up));
        assert!(hooks.ended(Hook::Up) && !hooks.ended(Hook::Exit));
        assert!(hooks.ask_for(Hook::Up));
        assert!(!hooks.ended(Hook::Up));
    }
}
