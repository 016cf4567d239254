//! Config, patterns, line cutting and old logs of svlogd: whatever comes in, nothing panics, joined pieces are the input,
//! and a new log is later than all that are there and not the one that goes.
//!
//! `scripts/fuzz 60 svlogd`
#![no_main]
#![allow(dead_code, missing_docs)]

#[path = "../../applets/svlogd/config.rs"]
mod config;
#[path = "../../applets/svlogd/line.rs"]
mod line;
#[path = "../../applets/svlogd/old_log.rs"]
mod old_log;
#[path = "../../applets/svlogd/pattern.rs"]
mod pattern;
#[path = "../../applets/svlogd/stamp.rs"]
mod stamp;

use libfuzzer_sys::fuzz_target;
use line::{Cutter, Piece};
use old_log::{Kind, OldLog};

// The first byte is the limit of a line, the second how the input is cut, the first line a config.
fuzz_target!(|data: &[u8]| {
    let [max, step, rest @ ..] = data else { return };
    let at = memchr::memchr(0, rest).unwrap_or(rest.len());
    let (text, input) = rest.split_at(at);
    let (config, complaints) = config::Config::parse(text, config::Dialect::Hosted);
    assert!(complaints.len() <= text.iter().filter(|&&byte| byte == b'\n').count() + 1);
    names(input, config.keep);
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

/// The input as names of files in a directory, to which an old log is added.
fn names(input: &[u8], keep: u64) {
    let mut old: Vec<OldLog> = input.split(|&byte| byte == b'\n').filter_map(OldLog::from_name).collect();
    for (label, new_label) in old_log::new_labels(&old, svcore::tai::stamp(0, 0)) {
        assert!(old.iter().all(|old| old.label != new_label));
        old.iter_mut().filter(|old| old.label == label).for_each(|old| old.label = new_label);
    }
    let newest = old_log::newest_stamp(&old);
    let (last, label) = svcore::label::next_label(svcore::tai::stamp(0, 0), newest).expect("there is always a later name");
    assert!(old.iter().all(|old| old.label < label));
    old.push(OldLog { label, kind: Kind::Saved });
    let removed = old_log::surplus(&old, keep, Some(last));
    assert!(!removed.contains(&label));
}
