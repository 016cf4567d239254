//! What a verb of the command line asks for. Without I/O. Source: sv(8).

use svcore::Signal;
use svcore::client::request::{Request, Until, Waits};
use svcore::control::Command;

/// What a verb asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Print the status.
    Status,
    /// Find out whether everything that is wanted up is up and well.
    Health,
    /// Send commands to the service.
    Do(Request),
}

/// What `word` asks for; `None` if it is no verb. As an init script, other words with an `s` are not `status`.
///
/// The words listed in full come first, then the first letter counts: Debian's scripts call `sv int`, and `usr1` has
/// always been `up`.
pub(crate) fn verb(word: &[u8], init_script: bool) -> Option<Verb> {
    use Command::{Continue, Down, Exit, Kill, Once, Pause, Restart, Send, Term, Up};
    const RESTART: &[Command] = &[Restart, Up];
    const RESTARTED: &[Until] = &[Until::Replaced, Until::Continued, Until::Up];
    const RELOADED: &[Until] = &[Until::Replaced, Until::Continued];
    let quiet = |commands, until| Request { commands, until, waits: Waits::IfAsked, kill: false };
    let waited = |commands, until| Request { waits: Waits::Always, ..quiet(commands, until) };
    let forced = |commands, until| Request { kill: true, ..waited(commands, until) };
    Some(Verb::Do(match word {
        b"start" => waited(&[Up], &[Until::Up]),
        b"stop" => waited(&[Down], &[Until::Down]),
        b"shutdown" => waited(&[Exit], &[Until::Unsupervised]),
        b"restart" => waited(RESTART, RESTARTED),
        b"reload" => waited(&[Send(Signal::HUP)], &[]),
        b"try-restart" => waited(&[Restart], RELOADED),
        b"check" => Request::CHECK,
        b"force-stop" => forced(&[Down], &[Until::Down]),
        b"force-shutdown" => forced(&[Exit], &[Until::Unsupervised]),
        b"force-reload" => forced(&[Restart], RELOADED),
        b"force-restart" => forced(RESTART, RESTARTED),
        b"status" => return Some(Verb::Status),
        b"health" if !init_script => return Some(Verb::Health),
        [b's', ..] if !init_script => return Some(Verb::Status),
        [b'D', ..] => forced(&[Down], &[Until::Down]),
        [b'T', ..] => forced(&[Restart], RELOADED),
        [b'X' | b'E', ..] => forced(&[Exit], &[Until::Unsupervised]),
        [b'u', ..] => quiet(&[Up], &[Until::Up]),
        [b'd', ..] => quiet(&[Down], &[Until::Down]),
        [b'o', ..] => quiet(&[Once], &[Until::Once]),
        [b'p', ..] => quiet(&[Pause], &[Until::Paused]),
        [b'c', ..] => quiet(&[Continue], &[Until::Continued]),
        [b'h', ..] => quiet(&[Send(Signal::HUP)], &[]),
        [b'a', ..] => quiet(&[Send(Signal::ALRM)], &[]),
        [b'i', ..] => quiet(&[Send(Signal::INT)], &[]),
        [b'q', ..] => quiet(&[Send(Signal::QUIT)], &[]),
        [b'1', ..] => quiet(&[Send(Signal::USR1)], &[]),
        [b'2', ..] => quiet(&[Send(Signal::USR2)], &[]),
        [b't', ..] => quiet(&[Term], &[Until::Replaced]),
        [b'k', ..] => quiet(&[Kill], &[Until::Replaced]),
        [b'x' | b'e', ..] => quiet(&[Exit], &[Until::Unsupervised]),
        _ => return None,
    }))
}

/// Whether a word is the beginning of one of `words`, or a letter of stock that is no such beginning.
pub(crate) fn is_known<'w>(word: &[u8], mut words: impl Iterator<Item = &'w str>) -> bool {
    matches!(word, [b'D' | b'T' | b'X' | b'E' | b'x'])
        || !word.is_empty() && words.any(|known| known.as_bytes().starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(word: &str) -> String {
        match verb(word.as_bytes(), false) {
            None => "usage".to_owned(),
            Some(Verb::Status) => "status".to_owned(),
            Some(Verb::Health) => "health".to_owned(),
            Some(Verb::Do(request)) => {
                let bytes = String::from_utf8(request.bytes()).unwrap();
                let wait = if request.waits == Waits::Always { "+" } else { "" };
                let kill = if request.kill { "!" } else { "" };
                format!("{bytes}{wait}{kill}")
            }
        }
    }

    #[test]
    fn words_and_letters_are_those_of_runit() {
        for (words, expected) in [
            ("u up usr1", "u"),
            ("d down", "d"),
            ("o once", "o"),
            ("p pause", "p"),
            ("c cont checks", "c"),
            ("h hup heal healthy", "h"),
            ("health", "health"),
            ("a alarm", "a"),
            ("i int interrupt", "i"),
            ("q quit", "q"),
            ("1", "1"),
            ("2", "2"),
            ("t term try", "t"),
            ("k kill", "k"),
            ("e x exit", "x"),
            ("s st stat status starts", "status"),
            ("start", "u+"),
            ("stop", "d+"),
            ("shutdown", "x+"),
            ("restart", "tcu+"),
            ("reload", "h+"),
            ("try-restart", "tc+"),
            ("check", "+"),
            ("force-stop D Down", "d+!"),
            ("force-reload T", "tc+!"),
            ("force-restart", "tcu+!"),
            ("force-shutdown X E", "x+!"),
            ("r restar f force force-x z - U K", "usage"),
        ] {
            for word in words.split(' ') {
                assert_eq!(bytes(word), expected, "{word}");
            }
        }
        assert_eq!(bytes(""), "usage");
    }

    #[test]
    fn only_beginnings_of_words_and_letters_of_stock_are_known() {
        let sv = crate::TABLE.iter().find(|applet| applet.name == "sv").unwrap();
        let known = |word: &str| is_known(word.as_bytes(), sv.verbs.iter().map(|(name, _)| *name));
        for word in
            "s st status u up d down o p pa c h a i int q 1 2 t term k e x exit D T X E force-s health"
                .split(' ')
        {
            assert!(known(word), "{word}");
        }
        for word in ["", "enable", "enabel", "disable", "usr1", "statuss", "Down", "U", "kil-", "xx", "dwon"]
        {
            assert!(!known(word), "{word}");
        }
    }

    #[test]
    fn an_init_script_knows_status_by_its_full_name_only() {
        assert_eq!(verb(b"status", true), Some(Verb::Status));
        assert_eq!(verb(b"stat", true), None);
        assert!(verb(b"condrestart", true).is_some());
    }
}
