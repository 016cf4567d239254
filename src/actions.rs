//! What a pure state machine asks its caller to do.

/// Actions to be done one after the other.
///
/// The first few are kept without memory of the heap, which process 1 does not ask for once it runs. None gets lost:
/// more of them go to the heap.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actions<A> {
    first: [Option<A>; FEW],
    more: Vec<A>,
}

/// How many actions need no memory of the heap: as many as any event of ours has.
const FEW: usize = 6;

impl<A> Actions<A> {
    /// Nothing is to be done.
    pub const fn none() -> Self {
        Actions { first: [const { None }; FEW], more: Vec::new() }
    }

    /// These actions, and `action` after them.
    pub fn then(mut self, action: A) -> Self {
        match self.first.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(action),
            None => self.more.push(action),
        }
        self
    }

    /// These actions, and `others` after them.
    pub fn and(self, others: Self) -> Self {
        others.into_iter().fold(self, Actions::then)
    }
}

impl<A> From<A> for Actions<A> {
    fn from(action: A) -> Self {
        Actions::none().then(action)
    }
}

impl<A> IntoIterator for Actions<A> {
    type Item = A;
    type IntoIter =
        std::iter::Chain<std::iter::Flatten<std::array::IntoIter<Option<A>, FEW>>, std::vec::IntoIter<A>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().flatten().chain(self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_kept_however_many_there_are() {
        let actions = Actions::from(1).then(2).and(Actions::none()).and(Actions::from(3).then(4));
        assert_eq!(actions.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
        let many = (0..20).fold(Actions::none(), Actions::then);
        assert_eq!(many.into_iter().collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    }
}
