//! What a pure state machine asks its caller to do.

/// Actions to be done one after the other.
///
/// There is no limit to their number, so none can get lost. No memory is allocated while there is none.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actions<A>(Vec<A>);

impl<A> Actions<A> {
    /// Nothing is to be done.
    pub const fn none() -> Self {
        Actions(Vec::new())
    }

    /// These actions, and `action` after them.
    pub fn then(mut self, action: A) -> Self {
        self.0.push(action);
        self
    }

    /// These actions, and `others` after them.
    pub fn and(mut self, mut others: Self) -> Self {
        self.0.append(&mut others.0);
        self
    }
}

impl<A> From<A> for Actions<A> {
    fn from(action: A) -> Self {
        Actions::none().then(action)
    }
}

impl<A> IntoIterator for Actions<A> {
    type Item = A;
    type IntoIter = std::vec::IntoIter<A>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_kept() {
        let actions = Actions::from(1).then(2).and(Actions::none()).and(Actions::from(3).then(4));
        assert_eq!(actions.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}
