//! Runs the cases.
//!
//! The built-in harness decides before a case runs whether it is ignored, but whether there is root, a namespace or a
//! program is known at run time only. So the targets have `harness = false` and this instead: its output and its
//! options are the usual ones, but a case that calls one of the functions of `needs` in vain counts as ignored.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::process::{Command, ExitCode};
use std::sync::Mutex;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{number_of, programs, read};

/// A test function.
pub struct Case {
    /// With its modules, the first of which is the target.
    pub name: &'static str,
    /// The function.
    pub run: fn(),
}

inventory::collect!(Case);

/// Registers a function as a [`Case`]; `#[test]` calls it.
#[doc(hidden)]
#[macro_export]
macro_rules! register {
    ($function:ident) => {
        $crate::inventory::submit! {
            $crate::Case { name: concat!(module_path!(), "::", stringify!($function)), run: $function }
        }
    };
}

/// Why a case stops without a result.
pub(crate) struct NotRun(pub(crate) String);

/// How many cases of a target may fail once and pass the second time, where [`TWICE`] is set.
const AT_MOST_TWICE: usize = 2;

/// Names a file. Where it is set a case that fails runs once more, and its first failure is appended to that file: a noisy
/// machine alone fails no target, and what it hides is reported.
const TWICE: &str = "RUNITBOX_TESTS_TWICE";

/// The cases that failed the first time, and how.
static FAILED_ONCE: Mutex<Vec<(&str, String)>> = Mutex::new(Vec::new());

thread_local! {
    static IS_IN_CASE: Cell<bool> = const { Cell::new(false) };
    /// The message of the panic of this thread's case.
    static MESSAGE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The `main` of a target: runs the cases that the command line asks for, several at once. Only the target knows where
/// our executable is, from the variable `CARGO_BIN_EXE_runitbox`.
pub fn run_cases(executable: &'static str) -> ExitCode {
    run_with(executable, Arguments::from_args())
}

/// The same, one case after the other, in a process that has no other thread.
pub fn run_cases_on_the_main_thread(executable: &'static str) -> ExitCode {
    run_with(executable, Arguments { test_threads: Some(1), ..Arguments::from_args() })
}

fn run_with(executable: &'static str, mut arguments: Arguments) -> ExitCode {
    restore_signals();
    programs::set_executable(executable);
    let threads = || number_of("RUST_TEST_THREADS").and_then(|number| usize::try_from(number).ok());
    arguments.test_threads = arguments.test_threads.or_else(threads);
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| if IS_IN_CASE.get() { keep(info) } else { usual(info) }));
    let mut cases: Vec<&Case> = inventory::iter::<Case>.into_iter().collect();
    cases.sort_unstable_by_key(|case| case.name);
    let trial = |case: &'static Case| {
        let name = case.name.split_once("::").map_or(case.name, |(_, name)| name);
        Trial::ignorable_test(name, || run_one(case))
    };
    let conclusion = libtest_mimic::run(&arguments, cases.into_iter().map(trial).collect());
    programs::remove_scratch();
    report_failed_once();
    conclusion.exit_code()
}

/// Starts this process again if it ignores HUP, INT or QUIT: what a shell runs in the background or `nohup` runs does, and
/// so would the services of the cases, which are told to end by these signals.
fn restore_signals() {
    const IS_RESTORED: &str = "RUNITBOX_TESTS_SIGNALS_RESTORED";
    const HUP_INT_QUIT: u64 = 0b111;
    let status = read("/proc/self/status");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    if ignored & HUP_INT_QUIT == 0 || std::env::var_os(IS_RESTORED).is_some() {
        return;
    }
    let Ok(executable) = std::env::current_exe() else { return };
    let mut again = Command::new("env");
    again.arg("--default-signal=HUP,INT,QUIT").arg(executable).args(std::env::args_os().skip(1));
    // It returns only if it fails. Then the cases run as they can.
    let _ = again.env(IS_RESTORED, "1").exec();
}

fn report_failed_once() {
    let Some(report) = std::env::var_os(TWICE) else { return };
    let mut report = OpenOptions::new().create(true).append(true).open(report).unwrap();
    for (name, message) in FAILED_ONCE.lock().unwrap().iter() {
        writeln!(report, "{name}\n{message}\n").unwrap();
    }
}

fn run_one(case: &Case) -> Result<Completion, Failed> {
    let result = try_one(case);
    let Err(failed) = &result else { return result };
    if std::env::var_os(TWICE).is_none() {
        return result;
    }
    let mut failed_once = FAILED_ONCE.lock().unwrap();
    if failed_once.len() == AT_MOST_TWICE {
        return result;
    }
    failed_once.push((case.name, failed.message().unwrap_or_default().to_owned()));
    drop(failed_once);
    try_one(case)
}

fn try_one(case: &Case) -> Result<Completion, Failed> {
    IS_IN_CASE.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(case.run));
    IS_IN_CASE.set(false);
    let Err(payload) = outcome else { return Ok(Completion::Completed) };
    match payload.downcast::<NotRun>() {
        Ok(not_run) => Ok(Completion::ignored_with(not_run.0)),
        Err(payload) => Err(MESSAGE.take().unwrap_or_else(|| text_of(&*payload)).into()),
    }
}

/// Keeps the message of a panic, for the list of failures at the end.
fn keep(info: &PanicHookInfo<'_>) {
    let mut message = info.to_string();
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        let backtrace = backtrace.to_string();
        // Below that it is the same for all cases.
        for line in backtrace.lines().take_while(|line| !line.contains("support::cases::try_one")) {
            message += "\n";
            message += line;
        }
    }
    MESSAGE.set(Some(message));
}

/// The message of a panic that did not begin here, such as that of a thread which was joined.
fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}
