//! `--grep`: extended regular expressions, as grep -E has them. Pure.
//!
//! A line is matched in a time that grows with its length times that of the expression, whatever both are: all ways to
//! match are followed at the same time, and none is tried again. Where a match can be after a byte depends on where it
//! could be before, and on the byte; so that is remembered, and most bytes cost one look into a table. What a group matched
//! is not remembered, so there are no back references. A crate for this would be a third of all that `svctl` may weigh.

mod parser;

use crate::svctl::map::Map;

/// A set of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Set([u128; 2]);

impl Set {
    const NONE: Set = Set([0, 0]);
    const ALL: Set = Set([u128::MAX, u128::MAX]);

    fn of(is_in: &dyn Fn(u8) -> bool) -> Self {
        let mut set = Set::NONE;
        for byte in (0..=255).filter(|byte| is_in(*byte)) {
            set = set.or(Set::one(byte));
        }
        set
    }

    const fn one(byte: u8) -> Self {
        let bit = 1_u128 << (byte & 127);
        if byte < 128 { Set([bit, 0]) } else { Set([0, bit]) }
    }

    const fn or(self, other: Set) -> Self {
        Set([self.0[0] | other.0[0], self.0[1] | other.0[1]])
    }

    const fn without(self, other: Set) -> Self {
        Set([self.0[0] & !other.0[0], self.0[1] & !other.0[1]])
    }

    const fn has(&self, byte: u8) -> bool {
        let half = if byte < 128 { self.0[0] } else { self.0[1] };
        half >> (byte & 127) & 1 == 1
    }

    /// Each letter in both cases.
    fn folded(self) -> Self {
        Set::of(&|byte| self.has(byte.to_ascii_lowercase()) || self.has(byte.to_ascii_uppercase()))
    }
}

/// Where nothing matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    LineStart,
    LineEnd,
    WordEdge,
    NoWordEdge,
}

/// A step of an expression that was made ready.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// One byte of a set; then the next step.
    Byte(Set),
    /// The steps that are so many further on, both of them.
    Both(isize, isize),
    /// Nothing, but only here; then the next step.
    At(Place),
    /// The line matches.
    Found,
}

/// An expression that was made ready.
#[derive(Debug)]
pub(super) struct Pattern {
    steps: Vec<Step>,
    /// Whether a match depends on the next byte, too, so that nothing can be remembered.
    has_word_edge: bool,
    threads: Threads,
    next: Threads,
    to_follow: Vec<usize>,
    known: Vec<Known>,
    numbers: Map<Vec<usize>, usize>,
}

/// Steps at which a match can be, and where it can be after each byte.
#[derive(Debug)]
struct Known {
    list: Vec<usize>,
    /// The line matches.
    is_found: bool,
    /// The line matches if it ends here.
    is_found_at_end: bool,
    /// The number of what is known after each byte.
    after: Box<[usize; 256]>,
}

/// Nothing is known yet after this byte.
const UNKNOWN: usize = usize::MAX;
/// As much is remembered, some kilobytes each.
const KNOWN_MAX: usize = 500;

/// The steps at which a match can be, each once.
#[derive(Debug, Default)]
struct Threads {
    list: Vec<usize>,
    is_in: Vec<bool>,
}

impl Threads {
    fn clear(&mut self) {
        for step in self.list.drain(..) {
            if let Some(is_in) = self.is_in.get_mut(step) {
                *is_in = false;
            }
        }
    }

    /// Adds a step; whether it was not there yet.
    fn add(&mut self, step: usize) -> bool {
        match self.is_in.get_mut(step) {
            Some(is_in @ false) => {
                *is_in = true;
                self.list.push(step);
                true
            }
            _ => false,
        }
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl Pattern {
    /// Makes an expression ready.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub(super) fn new(text: &[u8]) -> Result<Self, String> {
        let steps = parser::steps_of(text)?;
        let is_in = vec![false; steps.len()];
        let threads = || Threads { list: Vec::new(), is_in: is_in.clone() };
        let is_edge = |step: &Step| matches!(step, Step::At(Place::WordEdge | Place::NoWordEdge));
        Ok(Pattern {
            has_word_edge: steps.iter().any(is_edge),
            steps,
            threads: threads(),
            next: threads(),
            to_follow: Vec::new(),
            known: Vec::new(),
            numbers: Map::default(),
        })
    }

    /// Adds a step and what can be reached from it without a byte. Whether the line matches then.
    fn follow(
        steps: &[Step],
        threads: &mut Threads,
        to_follow: &mut Vec<usize>,
        step: usize,
        is_at: &dyn Fn(Place) -> bool,
    ) -> bool {
        to_follow.push(step);
        while let Some(step) = to_follow.pop() {
            if !threads.add(step) {
                continue;
            }
            match steps.get(step) {
                Some(Step::Both(one, other)) => {
                    to_follow.push(step.saturating_add_signed(*one));
                    to_follow.push(step.saturating_add_signed(*other));
                }
                Some(Step::At(place)) if is_at(*place) => to_follow.push(step.saturating_add(1)),
                Some(Step::Found) => {
                    to_follow.clear();
                    return true;
                }
                Some(Step::At(_) | Step::Byte(_)) | None => {}
            }
        }
        false
    }

    /// Whether a part of the line matches.
    pub(super) fn matches(&mut self, line: &[u8]) -> bool {
        if self.has_word_edge {
            return self.matches_by_following(line);
        }
        if self.known.is_empty() {
            self.threads.clear();
            let is_at = |place| place == Place::LineStart;
            let is_found = Self::follow(&self.steps, &mut self.threads, &mut self.to_follow, 0, &is_at);
            self.number_of_threads(is_found);
        }
        let mut number = 0;
        for byte in line {
            let Some(known) = self.known.get(number) else { return false };
            if known.is_found {
                return true;
            }
            let after = known.after.get(usize::from(*byte)).copied();
            number = after.filter(|after| *after != UNKNOWN).unwrap_or_else(|| self.learn(number, *byte));
        }
        self.known.get(number).is_some_and(|known| known.is_found || known.is_found_at_end)
    }

    /// Finds out where a match can be after a byte. Returns the number of that.
    fn learn(&mut self, number: usize, byte: u8) -> usize {
        self.threads.clear();
        let list = self.known.get(number).map_or(&[][..], |known| &known.list);
        let mut is_found = false;
        for step in list {
            if let Some(Step::Byte(set)) = self.steps.get(*step)
                && set.has(byte)
            {
                let next = step.saturating_add(1);
                is_found |=
                    Self::follow(&self.steps, &mut self.threads, &mut self.to_follow, next, &|_| false);
            }
        }
        // A match can begin after each byte.
        is_found |= Self::follow(&self.steps, &mut self.threads, &mut self.to_follow, 0, &|_| false);
        let is_full = self.known.len() >= KNOWN_MAX;
        if is_full {
            // What is known at the start of a line stays.
            self.known.truncate(1);
            self.numbers.clear();
            if let Some(start) = self.known.first_mut() {
                start.after.fill(UNKNOWN);
            }
        }
        let after = self.number_of_threads(is_found);
        if let Some(known) = self.known.get_mut(number).filter(|_| !is_full)
            && let Some(place) = known.after.get_mut(usize::from(byte))
        {
            *place = after;
        }
        after
    }

    /// The number of what is known where a match can be at the steps of `threads`.
    fn number_of_threads(&mut self, is_found: bool) -> usize {
        let mut list = self.threads.list.clone();
        svcore::sort::sort(&mut list);
        if let Some(number) = self.numbers.get(&list) {
            return *number;
        }
        let is_start = self.known.is_empty();
        let at_end = |place| place == Place::LineEnd || is_start && place == Place::LineStart;
        self.next.clear();
        let mut is_found_at_end = false;
        for step in &list {
            if let Some(Step::At(Place::LineEnd)) = self.steps.get(*step) {
                let next = step.saturating_add(1);
                is_found_at_end |=
                    Self::follow(&self.steps, &mut self.next, &mut self.to_follow, next, &at_end);
            }
        }
        let number = self.known.len();
        if !is_start {
            self.numbers.set(list.clone(), number);
        }
        self.known.push(Known { list, is_found, is_found_at_end, after: Box::new([UNKNOWN; 256]) });
        number
    }

    /// The same, without remembering anything.
    fn matches_by_following(&mut self, line: &[u8]) -> bool {
        let Pattern { steps, threads, next, to_follow, .. } = self;
        threads.clear();
        let mut before = None;
        let mut rest = line;
        loop {
            let after = rest.first().copied();
            if Self::follow(steps, threads, to_follow, 0, &|place| place_is(place, before, after)) {
                return true;
            }
            let Some((byte, following)) = rest.split_first() else { return false };
            next.clear();
            for step in &threads.list {
                if let Some(Step::Byte(set)) = steps.get(*step)
                    && set.has(*byte)
                    && Self::follow(steps, next, to_follow, step.saturating_add(1), &|place| {
                        place_is(place, Some(*byte), following.first().copied())
                    })
                {
                    return true;
                }
            }
            std::mem::swap(threads, next);
            before = Some(*byte);
            rest = following;
        }
    }
}

/// Whether a place is between these two bytes, where `None` stands for the start or the end of the line.
fn place_is(place: Place, before: Option<u8>, after: Option<u8>) -> bool {
    let is_edge = || before.is_some_and(is_word) != after.is_some_and(is_word);
    match place {
        Place::LineStart => before.is_none(),
        Place::LineEnd => after.is_none(),
        Place::WordEdge => is_edge(),
        Place::NoWordEdge => !is_edge(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(pattern: &str, line: &str) -> bool {
        Pattern::new(pattern.as_bytes())
            .unwrap_or_else(|why| panic!("{pattern}: {why}"))
            .matches(line.as_bytes())
    }

    #[test]
    fn expressions_are_those_of_grep() {
        for (pattern, matching, others) in [
            ("", "a|", ""),
            ("error", "error|an error!|eerror", "eror|Error|"),
            ("^error$", "error", "an error|error!"),
            ("^$", "", "a"),
            ("a.c", "abc|a\u{e4}c|xa.cx", "ac|abbc"),
            ("^a.c$", "a\u{1f600}c", "a\u{e4}\u{e4}c"),
            ("ab*c", "ac|abc|abbbc", "a|abb"),
            ("ab+c", "abc|abbbc", "ac"),
            ("^ab?c$", "ac|abc", "abbc"),
            ("^a{2,3}$", "aa|aaa", "a|aaaa"),
            ("^(ab){2}$", "abab", "ab|ababab"),
            ("^a{,2}$", "|a|aa", "aaa"),
            ("^a{2,}$", "aa|aaaaaa", "a"),
            ("cat|dog", "a cat|dogs", "cow"),
            ("^(cat|dog)s?$", "cat|dogs", "cats and dogs"),
            ("^(|a)b$", "b|ab", "aab"),
            ("[a-c]x", "ax|cx", "dx|x"),
            ("^[^a-c]$", "d|\u{e4}", "a|dd"),
            ("[]x]", "]|x", "["),
            ("[^]x]", "[", "]|x"),
            ("[a-]", "a|-", "b"),
            (r"^\d+\.\d*$", "1.|12.5", ".5|1x5"),
            (r"\bweb\b", "web|a web!|web-1", "webs|cobweb"),
            (r"\Beb", "web", "eb"),
            (r"^\S+\s\w", "a b|a\t_", "ab| a b"),
            (r"^\W$", "-|\u{e4}", "a"),
            ("(?i)Error [a-c]", "ERROR B|error a", "err"),
            ("[[:digit:][:upper:]]", "x1|X", "x"),
            (r"[\d\]]", "5|]", "d"),
            ("\u{e4}+$", "\u{e4}\u{e4}", "a"),
            ("a{x", "a{x", "ax"),
            ("(a*)*b", "b|aab", "aa"),
            ("(^a|b$)", "ax|xb", "xax"),
            ("$^", "", "a"),
            (r"a\|b", "a|b", ""),
        ] {
            if pattern != r"a\|b" {
                for line in matching.split('|') {
                    assert!(found(pattern, line), "{pattern} does not match {line}");
                }
                for line in others.split('|').filter(|line| !line.is_empty()) {
                    assert!(!found(pattern, line), "{pattern} matches {line}");
                }
            }
        }
        assert!(found(r"a\|b", "a|b") && !found(r"a\|b", "a"));
        assert!(Pattern::new(b"x").unwrap().matches(b"\xff\xfex"));
        assert!(Pattern::new(b"^..x").unwrap().matches(b"\xff\xfex"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "(", ")", "a)", "(a", "[a", "[", "*", "+a", "a|*", r"\", r"\1", "a{1001}", "a{3,2}", "a{1",
            "(?=a)", "[z-a]", "[ä]", r"\q",
        ] {
            assert!(Pattern::new(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Pattern::new("(".repeat(1000).as_bytes()).is_err());
        assert!(Pattern::new("((a{1000}){1000}){1000}".as_bytes()).is_err());
        assert!(Pattern::new("((.{1,500}){1,500}){1,500}".as_bytes()).is_err());
        // This has no step at all.
        assert!(Pattern::new("((((){1000}){1000}){1000}){1000}".as_bytes()).unwrap().matches(b""));
    }

    /// A part of an expression.
    #[derive(Debug, Clone)]
    enum Part {
        Byte(&'static str, &'static [u8]),
        At(&'static str, Place),
        Sequence(Vec<Part>),
        Either(Vec<Part>),
        Repeated(Box<Part>, usize, Option<usize>),
    }

    impl Part {
        fn text(&self) -> String {
            let all = |parts: &[Part]| parts.iter().map(Part::text).collect::<Vec<_>>();
            match self {
                Part::Byte(text, _) | Part::At(text, _) => (*text).to_owned(),
                Part::Sequence(parts) => all(parts).concat(),
                Part::Either(parts) => format!("({})", all(parts).join("|")),
                Part::Repeated(part, 0, None) => format!("({})*", part.text()),
                Part::Repeated(part, 1, None) => format!("({})+?", part.text()),
                Part::Repeated(part, 0, Some(1)) => format!("({})?", part.text()),
                Part::Repeated(part, least, None) => format!("({}){{{least},}}", part.text()),
                Part::Repeated(part, least, Some(most)) => format!("({}){{{least},{most}}}", part.text()),
            }
        }

        /// Whether it matches at a place, by trying one way after the other; `then` is what has to follow.
        fn tries(&self, line: &[u8], at: usize, then: &mut dyn FnMut(usize) -> bool) -> bool {
            match self {
                Part::Byte(_, bytes) => line.get(at).is_some_and(|byte| bytes.contains(byte)) && then(at + 1),
                Part::At(_, place) => {
                    let before = at.checked_sub(1).map(|at| line[at]);
                    place_is(*place, before, line.get(at).copied()) && then(at)
                }
                Part::Sequence(parts) => match parts.split_first() {
                    None => then(at),
                    Some((first, rest)) => {
                        let rest = Part::Sequence(rest.to_vec());
                        first.tries(line, at, &mut |at| rest.tries(line, at, then))
                    }
                },
                Part::Either(parts) => parts.iter().any(|part| part.tries(line, at, then)),
                Part::Repeated(part, at_least, at_most) => {
                    if *at_least == 0 && then(at) {
                        return true;
                    }
                    if *at_most == Some(0) {
                        return false;
                    }
                    let fewer = Part::Repeated(
                        part.clone(),
                        at_least.saturating_sub(1),
                        at_most.map(|most| most - 1),
                    );
                    part.tries(line, at, &mut |next| {
                        (next > at || *at_least > 0) && fewer.tries(line, next, then)
                    })
                }
            }
        }
    }

    fn parts() -> impl Strategy<Value = Part> {
        let one = prop::sample::select(vec![
            Part::Byte("a", b"a"),
            Part::Byte("b", b"b"),
            Part::Byte("[ab]", b"ab"),
            Part::Byte("[^a]", b"bc_ "),
            Part::Byte(".", b"abc_ "),
            Part::At("^", Place::LineStart),
            Part::At("$", Place::LineEnd),
            Part::At("\\b", Place::WordEdge),
        ]);
        one.prop_recursive(3, 10, 3, |part| {
            let some = || prop::collection::vec(part.clone(), 0..4);
            prop_oneof![
                some().prop_map(Part::Sequence),
                prop::collection::vec(part.clone(), 1..4).prop_map(Part::Either),
                (part.clone(), 0..3_usize, prop::option::of(0..3_usize)).prop_map(|(part, least, more)| {
                    Part::Repeated(Box::new(part), least, more.map(|more| least + more))
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        /// The same lines match as by trying all ways, one after the other.
        #[test]
        fn all_ways_are_followed(part in parts(), line in "[abc_ ]{0,8}") {
            let mut ready = Pattern::new(part.text().as_bytes()).unwrap();
            let line = line.as_bytes();
            let expected = (0..=line.len()).any(|at| part.tries(line, at, &mut |_| true));
            prop_assert_eq!(ready.matches(line), expected);
            // Nothing of one line remains for the next.
            prop_assert_eq!(ready.matches(line), expected);
        }

        /// No text makes it fail, or take long.
        #[test]
        fn any_text_is_read(pattern in prop::collection::vec(any::<u8>(), 0..20), line in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(mut ready) = Pattern::new(&pattern) {
                ready.matches(&line);
            }
        }
    }
}
