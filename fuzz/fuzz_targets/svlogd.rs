//! Config, patterns and line cutting of svlogd: whatever comes in, nothing panics, and joined pieces are the input.
//!
//! `cargo +nightly fuzz run svlogd`
#![no_main]
#![allow(dead_code, missing_docs)]

#[path = "../../applets/svlogd/config.rs"]
mod config;
#[path = "../../applets/svlogd/line.rs"]
mod line;
#[path = "../../applets/svlogd/pattern.rs"]
mod pattern;

use libfuzzer_sys::fuzz_target;
use line::{Cutter, Piece};

// The first byte is the limit of a line, the second how the input is cut, the first line a config.
fuzz_target!(|data: &[u8]| {
    let [max, step, rest @ ..] = data else { return };
    let at = memchr::memchr(0, rest).unwrap_or(rest.len());
    let (text, input) = rest.split_at(at);
    let (config, complaints) = config::Config::parse(text);
    assert!(complaints.len() <= text.iter().filter(|&&byte| byte == b'\n').count() + 1);
    let mut cutter = Cutter::new(usize::from(*max).max(1));
    let (mut held, mut joined) = (Vec::new(), Vec::new());
    for part in input.chunks(usize::from(*step).max(1)) {
        held.extend_from_slice(part);
        let mut left = held.as_slice();
        while let Some(piece) = cutter.cut(&mut left) {
            let (text, newline) = match piece {
                Piece::Line(text) | Piece::End(text) => (text, true),
                Piece::Head(text) | Piece::More(text) => (text, false),
            };
            let _ = config.select(text);
            joined.extend_from_slice(text);
            joined.extend(newline.then_some(b'\n'));
        }
        held = left.to_vec();
        assert!(held.len() < usize::from(*max).max(1));
    }
    joined.extend_from_slice(&held);
    assert_eq!(joined, input);
});
