//! Lists with little code.
//!
//! `collect` is compiled anew for each iterator, with the code that finds the first element a second time: some 300 bytes
//! for each list. Where a list is short and made once, this is as good.

/// Iterators whose elements can be listed.
pub trait Listed: Iterator {
    /// All elements, in their order.
    #[must_use]
    fn listed(self) -> Vec<Self::Item>;
}

impl<I: Iterator> Listed for I {
    fn listed(self) -> Vec<I::Item> {
        let mut list = Vec::new();
        self.for_each(|element| list.push(element));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_what_collect_returns() {
        let numbers = || (0..9_u32).filter(|number| number % 2 == 0).map(|number| number.to_string());
        assert_eq!(numbers().listed(), numbers().collect::<Vec<_>>());
        assert_eq!(std::iter::empty::<u8>().listed(), []);
    }
}
