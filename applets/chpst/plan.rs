//! The command line of `chpst` and of its other names -> what is to be changed. Without I/O.
//!
//! The order of the fields is the order in which they are done. Source: chpst(8).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use lexopt::Arg::{Short, Value};
use lexopt::Parser;
use svcore::sys::privilege::Resource;
use svcore::{Error, Result, decimal, multicall};

/// What is done about a lock that somebody else has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locked {
    /// Wait for it.
    Wait,
    /// Fail.
    Fail,
}

/// What to change before the program starts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) verbose: bool,
    pub(crate) new_session: bool,
    pub(crate) envdir: Option<OsString>,
    /// A directory in the environment directory is no reason to stop.
    pub(crate) skip_directories: bool,
    pub(crate) root: Option<OsString>,
    pub(crate) directory: Option<OsString>,
    /// Added to the nice level; 0 is no change.
    pub(crate) nice: i32,
    /// Whose ids go into the environment.
    pub(crate) env_user: Option<OsString>,
    /// Who it becomes.
    pub(crate) user: Option<OsString>,
    /// `user` and `env_user` are plain account names.
    pub(crate) plain_account: bool,
    pub(crate) lock: Option<(OsString, Locked)>,
    /// No lock, or no program, is no failure and nothing to be said.
    pub(crate) quiet_failure: bool,
    pub(crate) close: [bool; 3],
    pub(crate) null: bool,
    /// Soft limits in the order in which they are set; `None` is the hard limit.
    pub(crate) limits: Vec<(Resource, Option<u64>)>,
    /// softlimit was given a number that is none.
    pub(crate) bad_number: bool,
    pub(crate) argv0: Option<OsString>,
    /// The program and its arguments; never empty.
    pub(crate) argv: Vec<OsString>,
}

/// The plan that `args` make under the name `name`.
///
/// # Errors
///
/// [`Error::Usage`].
pub(crate) fn parse(name: &OsStr, args: &[OsString]) -> Result<Plan> {
    let mut parser = Parser::from_args(args);
    // `-e=x` names the directory `=x`, as getopt has it.
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
        let mut limit = |resources: &[Resource], parser: &mut Parser| -> Result<()> {
            let value = limit_of(&parser.value()?)?;
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
            Short('n') => plan.nice = nice_of(&parser.value()?)?,
            Short('l') => set_lock(&mut plan, parser.value()?, Locked::Wait)?,
            Short('L') => set_lock(&mut plan, parser.value()?, Locked::Fail)?,
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
            Value(program) => {
                plan.argv = rest(program, &mut parser)?;
                return Ok(in_order(plan));
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Err(Error::usage())
}

fn softlimit(mut parser: Parser) -> Result<Plan> {
    let mut plan = Plan::default();
    while let Some(arg) = parser.next()? {
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
                plan.argv = rest(program, &mut parser)?;
                return Ok(in_order(plan));
            }
            other => return Err(other.unexpected().into()),
        };
        let value = parser.value()?;
        let value = match limit_of(&value) {
            _ if value == "=" => None,
            Ok(value) => value,
            Err(_) => return Ok(Plan { bad_number: true, ..plan }),
        };
        plan.limits.extend(resources.iter().map(|&resource| (resource, value)));
    }
    Err(Error::usage())
}

fn setlock(mut parser: Parser) -> Result<Plan> {
    let mut locked = Locked::Wait;
    let mut quiet_failure = false;
    while let Some(arg) = parser.next()? {
        match arg {
            Short('n') => locked = Locked::Fail,
            Short('N') => locked = Locked::Wait,
            Short('x') => quiet_failure = true,
            Short('X') => quiet_failure = false,
            Value(file) => {
                let argv: Vec<OsString> = parser.raw_args()?.collect();
                if argv.is_empty() {
                    return Err(Error::usage());
                }
                return Ok(Plan { lock: Some((file, locked)), quiet_failure, argv, ..Plan::default() });
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Err(Error::usage())
}

/// One after the other as chpst(8) lists them; for each resource the last option holds.
fn in_order(mut plan: Plan) -> Plan {
    let mut last: Vec<(Resource, Option<u64>)> = Vec::new();
    for (resource, value) in plan.limits {
        last.retain(|(earlier, _)| *earlier != resource);
        last.push((resource, value));
    }
    last.sort_by_key(|(resource, _)| *resource);
    plan.limits = last;
    plan
}

fn set_lock(plan: &mut Plan, file: OsString, locked: Locked) -> Result<()> {
    if plan.lock.is_some() {
        return Err(Error::usage());
    }
    plan.lock = Some((file, locked));
    Ok(())
}

/// No options, the program at once.
fn program(mut parser: Parser) -> Result<Vec<OsString>> {
    match parser.next()? {
        Some(Value(program)) => rest(program, &mut parser),
        Some(other) => Err(other.unexpected().into()),
        None => Err(Error::usage()),
    }
}

fn operand_and_program(parser: Parser) -> Result<(OsString, Vec<OsString>)> {
    let mut words = program(parser)?.into_iter();
    let operand = words.next().ok_or_else(Error::usage)?;
    let argv: Vec<OsString> = words.collect();
    if argv.is_empty() { Err(Error::usage()) } else { Ok((operand, argv)) }
}

/// The first operand ends the options: all after it is the program's.
fn rest(program: OsString, parser: &mut Parser) -> Result<Vec<OsString>> {
    Ok(std::iter::once(program).chain(parser.raw_args()?).collect())
}

/// A limit; the largest numbers mean the hard limit, as infinity always did.
fn limit_of(text: &OsStr) -> Result<Option<u64>> {
    let value = decimal::whole(text.as_bytes()).ok_or_else(Error::usage)?;
    Ok(i64::try_from(value).is_ok().then_some(value))
}

/// `N`, `+N` or `-N`.
fn nice_of(text: &OsStr) -> Result<i32> {
    let (sign, digits) = match text.as_bytes() {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] | digits => (1, digits),
    };
    let value = decimal::whole(digits).ok_or_else(Error::usage)?;
    Ok(sign * i32::try_from(value).unwrap_or(i32::MAX))
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
        matches!(plan_as(name, words), Err(Error::Usage(_)))
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
        assert!(plan_as("softlimit", &["-a", "x", "prog"]).unwrap().bad_number);
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
    fn setlock_waits_unless_told_otherwise() {
        let lock = |words: &[&str]| plan_as("dsetlock", words).unwrap().lock.unwrap().1;
        assert_eq!(lock(&["file", "prog"]), Locked::Wait);
        assert_eq!(lock(&["-N", "file", "prog"]), Locked::Wait);
        assert_eq!(lock(&["-n", "file", "prog"]), Locked::Fail);
    }
}
