//! Reads an extended regular expression into the steps of a [`Pattern`](super::Pattern). Pure.

use svcore::decimal;

use super::{Place, Set, Step, is_word};

/// The most steps that an expression may have. `{1000}` makes a thousand of one.
const STEPS_MAX: usize = 10_000;
/// The most groups within each other.
const DEPTH_MAX: usize = 50;

/// The steps of an expression.
///
/// # Errors
///
/// What is wrong with it, in words.
pub(super) fn steps_of(text: &[u8]) -> Result<Vec<Step>, String> {
    let (folds, text) = text.strip_prefix(b"(?i)").map_or((false, text), |rest| (true, rest));
    let mut parser = Parser { rest: text, folds, depth: 0, steps: Vec::new() };
    parser.either()?;
    if !parser.rest.is_empty() {
        return Err("a ) without its (".to_owned());
    }
    parser.steps.push(Step::Found);
    Ok(parser.steps)
}

/// An expression that is being read.
struct Parser<'p> {
    /// What is left of it.
    rest: &'p [u8],
    /// The steps of what was read. Each part of the expression has steps that follow each other and lead to the one after
    /// them; so they can be moved, and repeated.
    steps: Vec<Step>,
    /// Letters match in both cases.
    folds: bool,
    depth: usize,
}

impl Parser<'_> {
    fn take(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn take_if(&mut self, prefix: &[u8]) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn either(&mut self) -> Result<(), String> {
        let mut begin = self.steps.len();
        let mut ends = Vec::new();
        self.sequence()?;
        while self.take_if(b"|") {
            let length = self.length_from(begin);
            self.steps.insert(begin, Step::Both(1, length.saturating_add(2)));
            ends.push(self.steps.len());
            self.steps.push(Step::Found);
            begin = self.steps.len();
            self.sequence()?;
        }
        for end in ends {
            let length = self.length_from(end);
            if let Some(step) = self.steps.get_mut(end) {
                *step = Step::Both(length, length);
            }
        }
        Ok(())
    }

    fn sequence(&mut self) -> Result<(), String> {
        while !matches!(self.rest, [] | [b'|' | b')', ..]) {
            let begin = self.steps.len();
            self.one()?;
            while let Some((at_least, at_most)) = self.count()? {
                self.repeat(begin, at_least, at_most)?;
            }
        }
        Ok(())
    }

    /// How many steps there are from this one on.
    fn length_from(&self, begin: usize) -> isize {
        isize::try_from(self.steps.len().saturating_sub(begin)).unwrap_or(isize::MAX)
    }

    /// Repeats the steps from `begin` on so many times at least, and at most.
    fn repeat(&mut self, begin: usize, at_least: usize, at_most: Option<usize>) -> Result<(), String> {
        let part = self.steps.split_off(begin);
        let length = isize::try_from(part.len().saturating_add(1)).unwrap_or(isize::MAX);
        let more = at_most.map_or(2, |at_most| at_most.saturating_sub(at_least));
        let steps = at_least.saturating_add(more).saturating_mul(part.len()).saturating_add(more);
        if steps > STEPS_MAX.saturating_sub(begin) {
            return Err("it is too long".to_owned());
        }
        for _ in 0..at_least {
            self.steps.extend_from_slice(&part);
        }
        match at_most {
            None => {
                self.steps.push(Step::Both(1, length.saturating_add(1)));
                self.steps.extend_from_slice(&part);
                let back = length.saturating_neg();
                self.steps.push(Step::Both(back, back));
            }
            Some(_) => {
                let more = isize::try_from(more).unwrap_or(0);
                for left in (1..=more).rev() {
                    self.steps.push(Step::Both(1, left.saturating_mul(length)));
                    self.steps.extend_from_slice(&part);
                }
            }
        }
        Ok(())
    }

    /// How often the part before is repeated, at least and at most. `None`: nothing tells, or nothing more.
    fn count(&mut self) -> Result<Option<(usize, Option<usize>)>, String> {
        let count = match self.rest {
            [b'{', b'0'..=b'9' | b',', ..] => self.count_in_braces()?,
            [first @ (b'*' | b'+' | b'?'), rest @ ..] => {
                self.rest = rest;
                ((*first == b'+').into(), (*first == b'?').then_some(1))
            }
            _ => return Ok(None),
        };
        // `*?` finds a shorter match, but a match all the same.
        self.take_if(b"?");
        Ok(Some(count))
    }

    /// `{2}`, `{2,}`, `{,5}` or `{2,5}`.
    fn count_in_braces(&mut self) -> Result<(usize, Option<usize>), String> {
        const WRONG: &str = "what is in { } is not a count up to 1000";
        self.take();
        let at_least = self.number();
        let at_most = if self.take_if(b",") { self.number() } else { at_least };
        let is_right = self.take_if(b"}")
            && at_least.unwrap_or(0) <= 1000
            && at_most.is_none_or(|most| most <= 1000 && at_least.unwrap_or(0) <= most);
        if is_right { Ok((at_least.unwrap_or(0), at_most)) } else { Err(WRONG.to_owned()) }
    }

    fn number(&mut self) -> Option<usize> {
        let (number, rest) = decimal::leading(self.rest);
        let is_there = rest.len() < self.rest.len();
        self.rest = rest;
        is_there.then(|| usize::try_from(number).unwrap_or(usize::MAX))
    }

    /// One part: a character, a set, a group or a place.
    fn one(&mut self) -> Result<(), String> {
        let Some(byte) = self.take() else { return Ok(()) };
        let step = match byte {
            b'.' => return self.any_character(Set::NONE),
            b'[' => return self.set(),
            b'(' => return self.group(),
            b'*' | b'+' | b'?' => return Err("nothing before *, + or ? to repeat".to_owned()),
            b'^' => Step::At(Place::LineStart),
            b'$' => Step::At(Place::LineEnd),
            b'\\' => match self.take() {
                None => return Err("nothing after the last \\".to_owned()),
                Some(b'b') => Step::At(Place::WordEdge),
                Some(b'B') => Step::At(Place::NoWordEdge),
                Some(letter @ (b'D' | b'W' | b'S')) => {
                    let except = class(letter.to_ascii_lowercase()).unwrap_or(Set::NONE);
                    return self.any_character(except);
                }
                Some(letter) => Step::Byte(match class(letter) {
                    Some(set) => set,
                    None => self.fold(Set::one(escaped(letter)?)),
                }),
            },
            byte => Step::Byte(self.fold(Set::one(byte))),
        };
        self.steps.push(step);
        // A character of more than one byte, so that what follows repeats all of it.
        if !byte.is_ascii() {
            for _ in 0..3 {
                match self.rest {
                    [byte, rest @ ..] if CONTINUES.has(*byte) => {
                        self.steps.push(Step::Byte(Set::one(*byte)));
                        self.rest = rest;
                    }
                    _ => break,
                }
            }
        }
        self.check_length()
    }

    fn check_length(&self) -> Result<(), String> {
        if self.steps.len() > STEPS_MAX { Err("it is too long".to_owned()) } else { Ok(()) }
    }

    /// What is in parentheses; the first is read already.
    fn group(&mut self) -> Result<(), String> {
        if !self.take_if(b"?:") && self.rest.starts_with(b"?") {
            return Err("after ( no ? is understood but (?:, and (?i) at the start".to_owned());
        }
        self.depth = self.depth.saturating_add(1);
        if self.depth > DEPTH_MAX {
            return Err("too many groups within each other".to_owned());
        }
        self.either()?;
        if !self.take_if(b")") {
            return Err("a ( without its )".to_owned());
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    /// Any character, or any byte that is none, but for those of a set in ASCII.
    fn any_character(&mut self, except: Set) -> Result<(), String> {
        let begins = Set::ALL.without(CONTINUES).without(except);
        // `[\x00-\x7f\xc0-\xff][\x80-\xbf]*|[\x80-\xbf]`
        self.steps.extend([
            Step::Both(1, 6),
            Step::Byte(begins),
            Step::Both(1, 3),
            Step::Byte(CONTINUES),
            Step::Both(-2, -2),
            Step::Both(2, 2),
            Step::Byte(CONTINUES),
        ]);
        self.check_length()
    }

    fn fold(&self, set: Set) -> Set {
        if self.folds { set.folded() } else { set }
    }

    /// A set such as `[a-z_]` or `[^0-9]`, of characters of ASCII.
    fn set(&mut self) -> Result<(), String> {
        const UNENDED: &str = "a [ without its ]";
        let is_not = self.take_if(b"^");
        let mut all = Set::NONE;
        let mut is_first = true;
        loop {
            // A `]` at the start is one of the set.
            if !is_first && self.take_if(b"]") {
                break;
            }
            is_first = false;
            if let Some((_, is_in)) =
                NAMED.iter().find(|(name, _)| self.take_if(format!("[:{name}:]").as_bytes()))
            {
                all = all.or(Set::of(&|byte| is_in(&byte)));
                continue;
            }
            let from = match self.take().ok_or(UNENDED)? {
                b'\\' => {
                    let letter = self.take().ok_or(UNENDED)?;
                    if let Some(set) = class(letter) {
                        all = all.or(set);
                        continue;
                    }
                    escaped(letter)?
                }
                byte => byte,
            };
            let to = match self.rest {
                [b'-', last, ..] if *last != b']' => {
                    self.take();
                    match self.take().ok_or(UNENDED)? {
                        b'\\' => escaped(self.take().ok_or(UNENDED)?)?,
                        byte => byte,
                    }
                }
                _ => from,
            };
            if !from.is_ascii() || !to.is_ascii() {
                return Err("in [ ] only ASCII is understood; write (ä|ö) instead of [äö]".to_owned());
            }
            if from > to {
                return Err("a range in [ ] ends before its start".to_owned());
            }
            all = all.or(Set::of(&|byte| (from..=to).contains(&byte)));
        }
        let all = self.fold(all);
        if is_not {
            return self.any_character(all);
        }
        self.steps.push(Step::Byte(all));
        self.check_length()
    }
}

/// The bytes that continue a character in UTF-8.
const CONTINUES: Set = Set([0, 0xffff_ffff_ffff_ffff]);

/// The set of `\d`, `\w` or `\s`.
fn class(letter: u8) -> Option<Set> {
    let is_in: IsIn = match letter {
        b'd' => u8::is_ascii_digit,
        b'w' => |byte| is_word(*byte),
        b's' => is_space,
        _ => return None,
    };
    Some(Set::of(&|byte| is_in(&byte)))
}

const fn is_space(byte: &u8) -> bool {
    byte.is_ascii_whitespace() || *byte == 0x0b
}

/// Whether a byte is in a set.
type IsIn = fn(&u8) -> bool;

/// The sets of POSIX by their names.
const NAMED: &[(&str, IsIn)] = &[
    ("alpha", u8::is_ascii_alphabetic),
    ("digit", u8::is_ascii_digit),
    ("alnum", u8::is_ascii_alphanumeric),
    ("upper", u8::is_ascii_uppercase),
    ("lower", u8::is_ascii_lowercase),
    ("space", is_space),
    ("punct", u8::is_ascii_punctuation),
    ("xdigit", u8::is_ascii_hexdigit),
];

/// What a character after a backslash stands for.
fn escaped(letter: u8) -> Result<u8, String> {
    match letter {
        b't' => Ok(b'\t'),
        b'n' => Ok(b'\n'),
        b'r' => Ok(b'\r'),
        b'e' => Ok(0x1b),
        letter if letter.is_ascii_alphanumeric() || !letter.is_ascii() => {
            Err(format!("\\{} is not understood", char::from(letter)))
        }
        letter => Ok(letter),
    }
}
