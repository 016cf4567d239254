//! Parses the command line of `chpst` and of its other names into a [`Plan`] of what to change. Pure: no I/O.
//!
//! The fields of a plan are in the order in which the changes are made. Source: chpst(8).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use lexopt::Arg::{Long, Short, Value};
use lexopt::Parser;
use svcore::sort::sort_by;
use svcore::sys::limits::Resource;
use svcore::{Error, Result, decimal, multicall};

use super::caps;

/// What to do if another process holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenLocked {
    /// Wait until it is free (`-l`).
    Wait,
    /// Fail (`-L`).
    Fail,
}

/// What to change before the program starts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) verbose: bool,
    /// The only descriptors from 3 on that the program gets; if empty, it gets all.
    pub(crate) keep: Vec<i32>,
    /// Standard error goes where standard output goes.
    pub(crate) stderr: bool,
    pub(crate) new_session: bool,
    /// How the kernel adjusts its choice of a process to kill when memory is short.
    pub(crate) oom_score: Option<i32>,
    /// Pipes of the service become the new user's.
    pub(crate) own_output: bool,
    pub(crate) envdir: Option<OsString>,
    /// Skip subdirectories of the environment directory; otherwise one is a fatal error.
    pub(crate) skip_directories: bool,
    pub(crate) root: Option<OsString>,
    pub(crate) directory: Option<OsString>,
    pub(crate) umask: Option<u32>,
    /// Added to the nice level; 0 is no change.
    pub(crate) nice: i32,
    /// The user whose ids become the variables UID and GID.
    pub(crate) env_user: Option<OsString>,
    /// The user as whom the program runs.
    pub(crate) user: Option<OsString>,
    /// What happens to the capabilities of the program, in this order; if empty, what always happens.
    pub(crate) caps: Vec<caps::Change>,
    /// `user` and `env_user` are plain account names, not `[:]user[:group...]`.
    pub(crate) plain_account: bool,
    pub(crate) lock: Option<(OsString, WhenLocked)>,
    /// If the lock or the program is not available, exit 0 without a message (`setlock -x`).
    pub(crate) quiet_failure: bool,
    /// Which of standard input, output and error to close.
    pub(crate) close: [bool; 3],
    /// Open all three on `/dev/null`.
    pub(crate) null: bool,
    /// Soft limits in the order in which they are set; `None` means the hard limit.
    pub(crate) limits: Vec<(Resource, Option<u64>)>,
    /// The program gets no rights by executing other programs.
    pub(crate) no_new_privileges: bool,
    /// An option of softlimit has a value that is not a number: which.
    pub(crate) bad_number: Option<String>,
    /// The name that the program gets as its `argv[0]`, if not its own.
    pub(crate) argv0: Option<OsString>,
    /// The program and its arguments; never empty.
    pub(crate) argv: Vec<OsString>,
}

/// What follows `-@`, if that is the first of `args`: the file with the options and the program, and the arguments of the
/// script. In a file from Windows, a carriage return is part of the word, since it ends the first line.
///
/// # Errors
///
/// [`Error::Usage`] if there are other options in the same word, as in a first line `#!/sbin/chpst -@ -u web`, which the
/// kernel passes on as one word.
pub(crate) fn script<'a>(name: &OsStr, args: &'a [OsString]) -> Result<Option<&'a [OsString]>> {
    let Some((word, after)) = args.split_first().filter(|(word, _)| word.as_bytes().starts_with(b"-@"))
    else {
        return Ok(None);
    };
    let plain = name.as_bytes().strip_prefix(b"d").unwrap_or(name.as_bytes());
    if [&b"setuidgid"[..], b"envuidgid", b"envdir", b"pgrphack", b"setlock", b"softlimit"].contains(&plain) {
        return Ok(None);
    }
    match (word.as_bytes(), after.is_empty()) {
        (b"-@" | b"-@\r", false) => Ok(Some(after)),
        (b"-@" | b"-@\r", true) => Err(Error::Usage(Some("option requires an argument -- @".to_owned()))),
        _ => Err(Error::Usage(Some("-@: other options begin on the second line of the file".to_owned()))),
    }
}

/// Parses `args`, which were typed after `name`.
///
/// # Errors
///
/// [`Error::Usage`].
pub(crate) fn parse(name: &OsStr, args: &[OsString]) -> Result<Plan> {
    let mut parser = Parser::from_args(args);
    // As with getopt, `-e=x` names the directory `=x`.
    parser.set_short_equals(false);
    let name = name.as_bytes();
    match name.strip_prefix(b"d").unwrap_or(name) {
        b"setuidgid" => {
            let (user, argv) = operand_and_program(parser)?;
            Ok(Plan { user: Some(user), plain_account: true, argv, ..Plan::default() })
        }
        b"envuidgid" => {
            let (user, argv) = operand_and_program(parser)?;
            Ok(Plan { env_user: Some(user), plain_account: true, argv, ..Plan::default() })
        }
        b"envdir" => {
            let (dir, argv) = operand_and_program(parser)?;
            Ok(Plan { envdir: Some(dir), argv, ..Plan::default() })
        }
        b"pgrphack" => Ok(Plan { new_session: true, argv: program(parser)?, ..Plan::default() }),
        b"setlock" => setlock(parser),
        b"softlimit" => softlimit(parser),
        _ => chpst(parser),
    }
}

fn chpst(mut parser: Parser) -> Result<Plan> {
    let mut plan = Plan { skip_directories: true, ..Plan::default() };
    while let Some(arg) = parser.next()? {
        let letter = if let Short(letter) = arg { letter } else { '-' };
        let mut limit = |resources: &[Resource], parser: &mut Parser| -> Result<()> {
            let value = parser.value()?;
            let value = limit_of(&value).ok_or_else(|| Error::WrongValue(not_a_number(letter, &value)))?;
            plan.limits.extend(resources.iter().map(|&resource| (resource, value)));
            Ok(())
        };
        match arg {
            Short('u') => plan.user = Some(parser.value()?),
            Short('U') => plan.env_user = Some(parser.value()?),
            Short('b') => plan.argv0 = Some(parser.value()?),
            Short('e') => plan.envdir = Some(parser.value()?),
            Short('/') => plan.root = Some(parser.value()?),
            Short('C') => plan.directory = Some(parser.value()?),
            Short('n') => {
                let value = parser.value()?;
                plan.nice = nice_of(&value).ok_or_else(|| Error::WrongValue(not_a_number(letter, &value)))?;
            }
            Short('l') => set_lock(&mut plan, parser.value()?, WhenLocked::Wait)?,
            Short('L') => set_lock(&mut plan, parser.value()?, WhenLocked::Fail)?,
            Short('m') => {
                limit(&[Resource::Data, Resource::Stack, Resource::Memlock, Resource::As], &mut parser)?;
            }
            Short('d') => limit(&[Resource::Data], &mut parser)?,
            Short('o') => limit(&[Resource::Nofile], &mut parser)?,
            Short('p') => limit(&[Resource::Nproc], &mut parser)?,
            Short('f') => limit(&[Resource::Fsize], &mut parser)?,
            Short('c') => limit(&[Resource::Core], &mut parser)?,
            Short('r') => limit(&[Resource::Rss], &mut parser)?,
            Short('t') => limit(&[Resource::Cpu], &mut parser)?,
            Short('v') => plan.verbose = true,
            Short('V') => return Err(multicall::version()),
            Short('P') => plan.new_session = true,
            Short('0') => plan.close[0] = true,
            Short('1') => plan.close[1] = true,
            Short('2') => plan.close[2] = true,
            Short('N') => plan.null = true,
            Long("stderr") => plan.stderr = true,
            Long("own-output") => plan.own_output = true,
            Long("no-new-privs") => plan.no_new_privileges = true,
            Long("keep-fd") => {
                let number = value_of("--keep-fd", &mut parser, "is no number from 3 on", descriptor_of)?;
                plan.keep.push(number);
            }
            Long("umask") => {
                let mask = value_of("--umask", &mut parser, "is no octal number up to 777", umask_of)?;
                plan.umask = Some(mask);
            }
            Long("oom-score") => {
                let score =
                    value_of("--oom-score", &mut parser, "is no number from -1000 to 1000", oom_score_of)?;
                plan.oom_score = Some(score);
            }
            Long("caps") => {
                let value = parser.value()?;
                let list = value.to_str().ok_or_else(|| value.display().to_string());
                let changes = list.and_then(|list| caps::parse(list).map_err(str::to_owned));
                plan.caps = changes.map_err(|item| {
                    wrong_value("--caps", &item, "is not - or + with the name of a capability or all")
                })?;
            }
            Value(program) => {
                plan.argv = program_and_arguments(program, &mut parser)?;
                if plan.own_output && plan.user.is_none() {
                    return Err(Error::Usage(Some("--own-output: there is no -u".to_owned())));
                }
                return Ok(with_final_limits(plan));
            }
            // Stock chpst has no long options and takes this one for `--`, the option `-`.
            Long(name) => return Err(Error::Usage(Some(format!("unknown option --{name}")))),
            other => return Err(other.unexpected().into()),
        }
    }
    Err(Error::usage())
}

fn softlimit(mut parser: Parser) -> Result<Plan> {
    let mut plan = Plan::default();
    while let Some(arg) = parser.next()? {
        let letter = if let Short(letter) = arg { letter } else { '-' };
        let resources: &[Resource] = match arg {
            Short('a') => &[Resource::As],
            Short('c') => &[Resource::Core],
            Short('d') => &[Resource::Data],
            Short('f') => &[Resource::Fsize],
            Short('l') => &[Resource::Memlock],
            Short('m') => &[Resource::Data, Resource::Stack, Resource::Memlock, Resource::As],
            Short('o') => &[Resource::Nofile],
            Short('p') => &[Resource::Nproc],
            Short('r') => &[Resource::Rss],
            Short('s') => &[Resource::Stack],
            Short('t') => &[Resource::Cpu],
            Value(program) => {
                plan.argv = program_and_arguments(program, &mut parser)?;
                return Ok(with_final_limits(plan));
            }
            other => return Err(other.unexpected().into()),
        };
        let value = parser.value()?;
        let value = match limit_of(&value) {
            _ if value == "=" => None,
            Some(value) => value,
            None => return Ok(Plan { bad_number: Some(not_a_number(letter, &value)), ..plan }),
        };
        plan.limits.extend(resources.iter().map(|&resource| (resource, value)));
    }
    Err(Error::usage())
}

fn setlock(mut parser: Parser) -> Result<Plan> {
    let mut when_locked = WhenLocked::Wait;
    let mut quiet_failure = false;
    while let Some(arg) = parser.next()? {
        match arg {
            Short('n') => when_locked = WhenLocked::Fail,
            Short('N') => when_locked = WhenLocked::Wait,
            Short('x') => quiet_failure = true,
            Short('X') => quiet_failure = false,
            Value(file) => {
                let argv: Vec<OsString> = parser.raw_args()?.collect();
                if argv.is_empty() {
                    return Err(Error::usage());
                }
                return Ok(Plan { lock: Some((file, when_locked)), quiet_failure, argv, ..Plan::default() });
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Err(Error::usage())
}

/// Limits in the order in which chpst(8) lists the resources; for each resource the last option counts.
fn with_final_limits(mut plan: Plan) -> Plan {
    let mut last: Vec<(Resource, Option<u64>)> = Vec::new();
    for (resource, value) in plan.limits {
        last.retain(|(earlier, _)| *earlier != resource);
        last.push((resource, value));
    }
    sort_by(&mut last, |(one, _), (other, _)| one < other);
    plan.limits = last;
    plan
}

fn set_lock(plan: &mut Plan, file: OsString, when_locked: WhenLocked) -> Result<()> {
    if plan.lock.is_some() {
        return Err(Error::WrongValue("-l and -L: there can be one lock only".to_owned()));
    }
    plan.lock = Some((file, when_locked));
    Ok(())
}

/// The program and its arguments, for a name that has no options.
fn program(mut parser: Parser) -> Result<Vec<OsString>> {
    match parser.next()? {
        Some(Value(program)) => program_and_arguments(program, &mut parser),
        Some(other) => Err(other.unexpected().into()),
        None => Err(Error::usage()),
    }
}

/// One operand, and the program with its arguments, for a name that has no options.
fn operand_and_program(parser: Parser) -> Result<(OsString, Vec<OsString>)> {
    let mut words = program(parser)?.into_iter();
    let operand = words.next().ok_or_else(Error::usage)?;
    let argv: Vec<OsString> = words.collect();
    if argv.is_empty() { Err(Error::usage()) } else { Ok((operand, argv)) }
}

/// The first operand is the program and ends the options: all words after it are the program's arguments.
fn program_and_arguments(program: OsString, parser: &mut Parser) -> Result<Vec<OsString>> {
    Ok(std::iter::once(program).chain(parser.raw_args()?).collect())
}

/// The value of a long option that stock does not have, so it is said what is wrong with it.
fn value_of<T>(option: &str, parser: &mut Parser, wrong: &str, read: fn(&[u8]) -> Option<T>) -> Result<T> {
    let value = parser.value()?;
    read(value.as_bytes()).ok_or_else(|| wrong_value(option, &value.display().to_string(), wrong))
}

fn wrong_value(option: &str, value: &str, wrong: &str) -> Error {
    Error::Usage(Some(format!("{option}: \"{value}\" {wrong}")))
}

/// Digits of this base, and at least one.
fn number_of(text: &[u8], base: u32) -> Option<i32> {
    let digits = str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    i32::from_str_radix(digits, base).ok()
}

/// A descriptor that chpst has no other option for.
fn descriptor_of(text: &[u8]) -> Option<i32> {
    number_of(text, 10).filter(|number| *number >= 3)
}

fn umask_of(text: &[u8]) -> Option<u32> {
    u32::try_from(number_of(text, 8)?).ok().filter(|mask| *mask <= 0o777)
}

fn oom_score_of(text: &[u8]) -> Option<i32> {
    let score = match text {
        [b'-', digits @ ..] => -number_of(digits, 10)?,
        [b'+', digits @ ..] | digits => number_of(digits, 10)?,
    };
    (-1000..=1000).contains(&score).then_some(score)
}

fn not_a_number(option: char, value: &OsStr) -> String {
    format!("-{option} {}: not a number", value.display())
}

/// The value of a limit, if it is a number; `Some(None)` for numbers above 2^63 - 1, which have always meant the hard
/// limit.
#[allow(clippy::option_option, reason = "a missing number differs from a missing limit")]
fn limit_of(text: &OsStr) -> Option<Option<u64>> {
    let value = decimal::whole(text.as_bytes())?;
    Some(i64::try_from(value).is_ok().then_some(value))
}

/// An increment of the nice level: `N`, `+N` or `-N`.
fn nice_of(text: &OsStr) -> Option<i32> {
    let (sign, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] | digits => (1, digits),
    };
    Some(sign * i32::try_from(decimal::whole(digits)?).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_as(name: &str, words: &[&str]) -> Result<Plan> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        parse(OsStr::new(name), &words)
    }

    fn plan(words: &[&str]) -> Plan {
        plan_as("chpst", words).unwrap()
    }

    fn is_usage(name: &str, words: &[&str]) -> bool {
        matches!(plan_as(name, words), Err(Error::Usage(_) | Error::WrongValue(_)))
    }

    #[test]
    fn options_end_at_the_program() {
        let plan = plan(&["-Pv0", "-uweb", "-e", "./env", "prog", "-v", "--", "-u"]);
        assert_eq!(plan.argv, ["prog", "-v", "--", "-u"]);
        assert_eq!((plan.user, plan.envdir), (Some("web".into()), Some("./env".into())));
        assert_eq!(plan.close, [true, false, false]);
        assert!(plan.verbose && plan.new_session);
    }

    #[test]
    fn a_command_line_without_program_is_wrong() {
        for (name, words) in [
            ("chpst", &[][..]),
            ("chpst", &["-v"]),
            ("chpst", &["-x", "prog"]),
            ("chpst", &["--foo", "prog"]),
            ("chpst", &["-u"]),
            ("chpst", &["-l", "a", "-L", "b", "prog"]),
            ("envdir", &["dir"]),
            ("setlock", &["file"]),
            ("pgrphack", &["-v"]),
            ("softlimit", &["-a", "1"]),
            ("chpst", &["-o", "=", "prog"]),
            ("chpst", &["-n", "1x", "prog"]),
            ("chpst", &["-m", "-1", "prog"]),
        ] {
            assert!(is_usage(name, words), "{name} {words:?}");
        }
    }

    #[test]
    fn softlimit_tells_a_bad_number_from_a_bad_option() {
        let plan = plan_as("softlimit", &["-a", "x", "prog"]).unwrap();
        assert_eq!(plan.bad_number.as_deref(), Some("-a x: not a number"));
        assert!(is_usage("softlimit", &["-x", "1", "prog"]));
    }

    #[test]
    fn the_last_limit_of_a_kind_holds() {
        use Resource::{As, Data, Memlock, Nofile, Stack};
        let limits = plan(&["-d", "1", "-m", "2", "-o", "3", "-d", "4", "prog"]).limits;
        let expected =
            [(Data, Some(4)), (Stack, Some(2)), (Memlock, Some(2)), (As, Some(2)), (Nofile, Some(3))];
        assert_eq!(limits, expected);
    }

    #[test]
    fn the_largest_numbers_are_the_hard_limit_and_nothing_is_zero() {
        let limit = |text| plan(&["-o", text, "prog"]).limits;
        assert_eq!(limit("18446744073709551615"), [(Resource::Nofile, None)]);
        assert_eq!(limit("9223372036854775808"), [(Resource::Nofile, None)]);
        assert_eq!(limit("9223372036854775807"), [(Resource::Nofile, Some(i64::MAX as u64))]);
        assert_eq!(limit(""), [(Resource::Nofile, Some(0))]);
        assert_eq!(plan_as("softlimit", &["-o", "=", "prog"]).unwrap().limits, [(Resource::Nofile, None)]);
    }

    #[test]
    fn nice_levels_have_signs() {
        for (text, inc) in [("5", 5), ("+5", 5), ("-5", -5), ("", 0), ("-", 0)] {
            assert_eq!(plan(&["-n", text, "prog"]).nice, inc, "{text}");
        }
    }

    #[test]
    fn long_options_have_values_within_bounds() {
        let all =
            plan(&["--umask", "027", "--keep-fd=3", "--keep-fd", "9", "--oom-score=-5", "--stderr", "prog"]);
        assert_eq!((all.umask, all.oom_score, all.stderr), (Some(0o27), Some(-5), true));
        assert_eq!(all.keep, [3, 9]);
        for words in [
            ["--umask", "8"],
            ["--umask", "1000"],
            ["--umask", ""],
            ["--umask", "+22"],
            ["--keep-fd", "2"],
            ["--keep-fd", "-1"],
            ["--keep-fd", "99999999999"],
            ["--oom-score", "1001"],
            ["--oom-score", "-1001"],
            ["--oom-score", "--5"],
            ["--caps", "net_raw"],
            ["--stderr=1", "x"],
            ["--own-output", "x"],
            ["--umas", "22"],
        ] {
            assert!(is_usage("chpst", &[words[0], words[1], "prog"]), "{words:?}");
        }
    }

    #[test]
    fn a_script_is_named_by_the_first_word_alone() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let script = |name: &str, args: &[&str]| {
            script(OsStr::new(name), &words(args)).map(|it| it.map(<[_]>::to_vec))
        };
        assert_eq!(script("chpst", &["-@", "./run", "a"]).unwrap(), Some(words(&["./run", "a"])));
        assert_eq!(script("chpst", &["-@\r", "./run"]).unwrap(), Some(words(&["./run"])));
        assert_eq!(script("chpst", &["-v", "-@", "./run"]).unwrap(), None);
        assert_eq!(script("denvdir", &["-@", "./run"]).unwrap(), None);
        assert!(script("chpst", &["-@"]).is_err());
        assert!(script("chpst", &["-@ -u web", "./run"]).is_err());
    }

    #[test]
    fn setlock_waits_unless_told_otherwise() {
        let lock = |words: &[&str]| plan_as("dsetlock", words).unwrap().lock.unwrap().1;
        assert_eq!(lock(&["file", "prog"]), WhenLocked::Wait);
        assert_eq!(lock(&["-N", "file", "prog"]), WhenLocked::Wait);
        assert_eq!(lock(&["-n", "file", "prog"]), WhenLocked::Fail);
    }
}
