//! Reads what gzip has compressed. Sources: RFC 1951 and RFC 1952.
//!
//! The decoder of zlib-rs is made for speed, and has 20 KB. This one has 3 KB, and is fast enough to read logs.

use std::fs::File;
use std::io::{self, Read};

use flate2::Crc;
use svcore::slice;

/// No code is longer, in bits.
const BITS_MAX: u32 = 15;
/// No distance is longer, in bytes.
const WINDOW: usize = 32 * 1024;
/// As much is decompressed before it is returned, in bytes, and a little more.
const STEP: usize = 32 * 1024;
/// As much is read at once, in bytes.
const BLOCK: usize = 32 * 1024;
/// In which order the lengths of the codes for lengths are written.
const ORDER: [u8; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// A compressed file that is read from its beginning on. It may have several members.
pub(super) struct Gunzip {
    input: Input,
    state: State,
    /// What was decompressed: what was returned, as far as a distance may lead, and what was not.
    out: Vec<u8>,
    returned: usize,
    /// Where this member begins in `out`.
    member: usize,
    crc: Crc,
    /// For lengths and bytes, and for distances.
    codes: Codes,
    distances: Codes,
    /// What is wrong. It is returned after what was decompressed before.
    failure: Option<io::Error>,
}

/// What comes next.
#[derive(Debug, Clone, Copy)]
enum State {
    /// A member, or the end of the file.
    Member,
    /// A block. The one before may be the last one.
    Block {
        is_last: bool,
    },
    /// So many bytes that are not compressed.
    Stored {
        left: usize,
        is_last: bool,
    },
    /// Codes.
    Codes {
        is_last: bool,
    },
    End,
}

/// The bits of a file.
struct Input {
    file: File,
    block: Vec<u8>,
    from: usize,
    to: usize,
    /// The next bits, the first one lowest.
    bits: u64,
    count: u32,
}

/// For each row of bits the symbol whose code it begins with, times 16, plus the length of the code; 0 for no code.
#[derive(Default)]
struct Codes(Vec<u16>);

impl Codes {
    /// Codes of these lengths, by symbol. A length of 0 is no code.
    fn set(&mut self, lengths: &[u8]) -> io::Result<()> {
        self.0.clear();
        self.0.resize(1 << BITS_MAX, 0);
        let mut code = 0_u32;
        for length in 1..=BITS_MAX {
            for (symbol, _) in (0_u16..).zip(lengths).filter(|(_, wanted)| u32::from(**wanted) == length) {
                if code >> length != 0 {
                    return Err(damaged());
                }
                let entry = symbol << 4 | u16::try_from(length).unwrap_or(0);
                let first = usize::try_from(code.reverse_bits() >> (32 - length)).unwrap_or(0);
                for place in self.0.iter_mut().skip(first).step_by(1 << length) {
                    *place = entry;
                }
                code = code.saturating_add(1);
            }
            code <<= 1;
        }
        Ok(())
    }
}

impl Input {
    /// The next byte that is not among `bits`, if there is one.
    fn byte(&mut self) -> io::Result<Option<u8>> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
            self.to = loop {
                match self.file.read(&mut self.block) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read?,
                }
            };
        }
        let byte = slice::part(&self.block, ..self.to).get(self.from).copied();
        self.from = self.from.saturating_add(byte.is_some().into());
        Ok(byte)
    }

    /// Reads on until there are so many bits, or no more.
    fn fill(&mut self, count: u32) -> io::Result<()> {
        while self.count < count {
            let Some(byte) = self.byte()? else { break };
            self.bits |= u64::from(byte) << self.count;
            self.count = self.count.saturating_add(8);
        }
        Ok(())
    }

    fn skip(&mut self, count: u32) -> io::Result<()> {
        self.count = self.count.checked_sub(count).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.bits >>= count;
        Ok(())
    }

    /// The number in the next bits, of which there are at most 32.
    fn number(&mut self, count: u32) -> io::Result<usize> {
        self.fill(count)?;
        let number = self.bits & ((1_u64 << count) - 1);
        self.skip(count)?;
        Ok(usize::try_from(number).unwrap_or(usize::MAX))
    }

    /// The symbol of the next code.
    fn symbol(&mut self, codes: &Codes) -> io::Result<usize> {
        self.fill(BITS_MAX)?;
        let row = usize::try_from(self.bits & ((1 << BITS_MAX) - 1)).unwrap_or(0);
        let entry = codes.0.get(row).copied().unwrap_or(0);
        if entry == 0 {
            return Err(damaged());
        }
        self.skip((entry & 15).into())?;
        Ok((entry >> 4).into())
    }

    /// Skips bytes up to a null byte.
    fn skip_text(&mut self) -> io::Result<()> {
        while self.number(8)? != 0 {}
        Ok(())
    }

    /// Reads the head of a member. `false`: the file ends here.
    fn head(&mut self) -> io::Result<bool> {
        self.fill(8)?;
        if self.count == 0 {
            return Ok(false);
        }
        const MAGIC: usize = 0x0008_8b1f;
        let (magic, flags) = (self.number(24)?, self.number(8)?);
        if magic != MAGIC || flags & 0xe0 != 0 {
            return Err(damaged());
        }
        // When it was written, how, and on which system.
        self.number(32)?;
        self.number(16)?;
        if flags & 4 != 0 {
            for _ in 0..self.number(16)? {
                self.number(8)?;
            }
        }
        // The name and a comment.
        for flag in [8, 16] {
            if flags & flag != 0 {
                self.skip_text()?;
            }
        }
        if flags & 2 != 0 {
            self.number(16)?;
        }
        Ok(true)
    }
}

#[cold]
fn damaged() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

impl Gunzip {
    /// Reads a file from where it stands.
    pub(super) fn new(file: File) -> Self {
        Gunzip {
            input: Input { file, block: vec![0; BLOCK], from: 0, to: 0, bits: 0, count: 0 },
            state: State::Member,
            out: Vec::new(),
            returned: 0,
            member: 0,
            crc: Crc::new(),
            codes: Codes::default(),
            distances: Codes::default(),
            failure: None,
        }
    }

    /// The compressed file.
    pub(super) const fn file(&self) -> &File {
        &self.input.file
    }

    /// Decompresses some more.
    fn step(&mut self) -> io::Result<()> {
        self.state = match self.state {
            State::Member if self.input.head()? => {
                self.crc.reset();
                self.member = self.out.len();
                State::Block { is_last: false }
            }
            State::Member | State::End => State::End,
            State::Block { is_last: true } => {
                let crc = self.input.number(self.input.count % 8).and_then(|_| self.input.number(32))?;
                let length = self.input.number(32)?;
                let is_right = |number: u32, wanted| usize::try_from(number).is_ok_and(|it| it == wanted);
                if !is_right(self.crc.sum(), crc) || !is_right(self.crc.amount(), length) {
                    return Err(damaged());
                }
                State::Member
            }
            State::Block { is_last: false } => self.begin_block()?,
            State::Stored { left: 0, is_last } => State::Block { is_last },
            State::Stored { left, is_last } => {
                let length = left.min(STEP);
                for _ in 0..length {
                    let byte = self.input.number(8)?;
                    self.out.push(u8::try_from(byte).unwrap_or(0));
                }
                State::Stored { left: left.saturating_sub(length), is_last }
            }
            State::Codes { is_last } => {
                if self.decode()? {
                    State::Block { is_last }
                } else {
                    self.state
                }
            }
        };
        Ok(())
    }

    fn begin_block(&mut self) -> io::Result<State> {
        let is_last = self.input.number(1)? == 1;
        match self.input.number(2)? {
            0 => {
                self.input.number(self.input.count % 8)?;
                let (left, inverted) = (self.input.number(16)?, self.input.number(16)?);
                if left ^ 0xffff != inverted {
                    return Err(damaged());
                }
                return Ok(State::Stored { left, is_last });
            }
            1 => {
                let mut lengths = [8_u8; 288];
                for (symbol, length) in lengths.iter_mut().enumerate() {
                    match symbol {
                        144..256 => *length = 9,
                        256..280 => *length = 7,
                        _ => {}
                    }
                }
                self.codes.set(&lengths)?;
                self.distances.set(&[5; 30])?;
            }
            2 => self.read_codes()?,
            _ => return Err(damaged()),
        }
        Ok(State::Codes { is_last })
    }

    /// Reads the codes of a block. Their lengths are compressed, too.
    fn read_codes(&mut self) -> io::Result<()> {
        let input = &mut self.input;
        let symbols = input.number(5)?.saturating_add(257);
        let all = input.number(5)?.saturating_add(1).saturating_add(symbols);
        let known = input.number(4)?.saturating_add(4);
        let mut lengths = [0_u8; 19];
        for place in ORDER.iter().take(known) {
            let length = u8::try_from(input.number(3)?).unwrap_or(0);
            if let Some(place) = lengths.get_mut(usize::from(*place)) {
                *place = length;
            }
        }
        self.codes.set(&lengths)?;
        let mut lengths: Vec<u8> = Vec::with_capacity(320);
        while lengths.len() < all {
            let symbol = input.symbol(&self.codes)?;
            let (length, times) = match symbol {
                16 => {
                    let before = lengths.last().copied().ok_or_else(damaged)?;
                    (before, input.number(2)?.saturating_add(3))
                }
                17 => (0, input.number(3)?.saturating_add(3)),
                18 => (0, input.number(7)?.saturating_add(11)),
                length => (u8::try_from(length).unwrap_or(0), 1),
            };
            lengths.resize(lengths.len().saturating_add(times), length);
        }
        if lengths.len() != all {
            return Err(damaged());
        }
        let (of_codes, of_distances) = lengths.split_at_checked(symbols).ok_or_else(damaged)?;
        self.codes.set(of_codes)?;
        self.distances.set(of_distances)
    }

    /// Decompresses until there is something to return. Whether the block ended.
    fn decode(&mut self) -> io::Result<bool> {
        let enough = self.out.len().saturating_add(STEP);
        while self.out.len() < enough {
            let symbol = self.input.symbol(&self.codes)?;
            if let Ok(byte) = u8::try_from(symbol) {
                self.out.push(byte);
                continue;
            }
            let mut length = match symbol.saturating_sub(257) {
                _ if symbol == 256 => return Ok(true),
                short @ 0..8 => short.saturating_add(3),
                28 => 258,
                row @ 8..28 => self.amount(row, 4, 3)?,
                _ => return Err(damaged()),
            };
            let distance = match self.input.symbol(&self.distances)? {
                short @ 0..4 => short.saturating_add(1),
                row @ 4..30 => self.amount(row, 2, 1)?,
                _ => return Err(damaged()),
            };
            let from = self.out.len().checked_sub(distance).filter(|from| *from >= self.member);
            let from = from.ok_or_else(damaged)?;
            // The bytes may be repeated before all of them are there.
            while length > 0 {
                let now = length.min(distance);
                self.out.extend_from_within(from..from.saturating_add(now));
                length = length.saturating_sub(now);
            }
        }
        Ok(false)
    }

    /// A length or a distance of which some bits follow: `in_row` symbols have as many each, and the smallest one is `least`.
    fn amount(&mut self, symbol: usize, in_row: usize, least: usize) -> io::Result<usize> {
        let more = u32::try_from(symbol / in_row).unwrap_or(0).saturating_sub(1);
        let begin = symbol % in_row + in_row;
        Ok((begin << more).saturating_add(self.input.number(more)?).saturating_add(least))
    }

    /// Decompresses until there is something to return, or nothing more. A failure is kept.
    fn fill(&mut self) {
        let unused = self.out.len().saturating_sub(WINDOW);
        self.out.drain(..unused);
        self.member = self.member.saturating_sub(unused);
        self.returned = self.out.len();
        while self.out.len() == self.returned && !matches!(self.state, State::End) && self.failure.is_none() {
            let before = self.out.len();
            self.failure = self.step().err();
            self.crc.update(slice::part(&self.out, before..));
        }
    }
}

impl Read for Gunzip {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.returned == self.out.len() {
            self.fill();
        }
        let rest = slice::part(&self.out, self.returned..);
        if rest.is_empty()
            && let Some(failure) = &self.failure
        {
            return Err(failure
                .raw_os_error()
                .map_or_else(|| failure.kind().into(), io::Error::from_raw_os_error));
        }
        let length = Read::read(&mut &*rest, buffer)?;
        self.returned = self.returned.saturating_add(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use flate2::{Compression, GzBuilder};
    use proptest::prelude::*;

    use super::*;

    fn compressed(text: &[u8], level: u32) -> Vec<u8> {
        let builder = GzBuilder::new().filename("name").comment("a comment").extra(vec![1; 300]).mtime(7);
        let mut encoder = builder.write(Vec::new(), Compression::new(level));
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// What is read, and what is wrong after it.
    fn read(bytes: &[u8]) -> (Vec<u8>, Option<io::ErrorKind>) {
        let path = std::env::temp_dir().join(format!("runitbox-inflate-{:?}", std::thread::current().id()));
        let mut file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        let mut out = Vec::new();
        let failure = Gunzip::new(file).read_to_end(&mut out).err();
        (out, failure.map(|error| error.kind()))
    }

    /// Lines as a log has them, several blocks of them.
    fn log(lines: u32) -> Vec<u8> {
        let line =
            |number: u32| format!("{number} {:x} GET /a/{}\n", number.wrapping_mul(0x9e37_79b9), number % 97);
        (0..lines).flat_map(|number| line(number).into_bytes()).collect()
    }

    #[test]
    fn what_each_level_compresses_is_read() {
        for text in [Vec::new(), b"a".to_vec(), vec![b'x'; 300_000], log(30_000)] {
            for level in 0..10 {
                assert_eq!(read(&compressed(&text, level)), (text.clone(), None), "level {level}");
            }
        }
    }

    #[test]
    fn several_members_are_one_text() {
        let (one, other) = (log(5000), b"the end\n".to_vec());
        let both = [compressed(&one, 6), compressed(&other, 0)].concat();
        assert_eq!(read(&both), ([one, other].concat(), None));
    }

    #[test]
    fn before_the_damage_all_is_read() {
        let text = log(30_000);
        let whole = compressed(&text, 6);
        let (part, failure) = read(&whole[..whole.len() / 2]);
        assert_eq!(failure, Some(io::ErrorKind::UnexpectedEof));
        assert!(part.len() > text.len() / 3 && text.starts_with(&part));
        let mut wrong = whole.clone();
        let last = wrong.len() - 5;
        wrong[last] ^= 1;
        assert_eq!(read(&wrong), (text, Some(io::ErrorKind::InvalidData)));
        assert_eq!(read(&[whole, b"more".to_vec()].concat()).1, Some(io::ErrorKind::InvalidData));
        assert_eq!((read(b"").1, read(b"\x1f\x8b").1), (None, Some(io::ErrorKind::UnexpectedEof)));
    }

    proptest! {
        /// With few different bytes, so that much is repeated.
        #[test]
        fn any_text_is_read(text in prop::collection::vec(0..4_u8, 0..3000), level in 0..10_u32) {
            prop_assert_eq!(read(&compressed(&text, level)), (text, None));
        }

        /// It does not panic, and agrees with the other decoder on what is right.
        #[test]
        fn damaged_bytes_are_never_believed(lines in 1..300_u32, at: prop::sample::Index, flip in 1..255_u8) {
            let mut bytes = compressed(&log(lines), 6);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let mut out = Vec::new();
            let other = flate2::read::MultiGzDecoder::new(&*bytes).read_to_end(&mut out);
            let (text, failure) = read(&bytes);
            if failure.is_none() {
                prop_assert!(other.is_ok());
                prop_assert_eq!(text, out);
            }
        }
    }
}
