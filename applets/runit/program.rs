//! Starts the programs of process 1: stages, scripts, and the fallback.

use std::ffi::CStr;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use svcore::exec;
use svcore::say::Class;
use svcore::sys::spawn::{Program, Search, Stream, Terminal, spawn};

use super::console::{self, report};
use super::stages::Event;

/// What a program gets as its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// The console, for writing only.
    WriteOnlyConsole,
    /// The console, as the controlling terminal of the program's session.
    Terminal,
}

/// Starts a program without arguments.
pub(crate) fn start(path: &CStr, input: Input) -> Event {
    start_with(&[path], &[path], input)
}

/// Starts the first of `files` that can be executed. It gets the console as its output, if there is one, and leads a
/// session of its own. A failure is reported.
pub(crate) fn start_with(files: &[&CStr], argv: &[&CStr], input: Input) -> Event {
    let output = console::open_for_program(OFlags::WRONLY);
    let terminal = match input {
        Input::WriteOnlyConsole => None,
        Input::Terminal => console::open_for_program(OFlags::RDWR),
    };
    let program = Program {
        files,
        search: Search(exec::path_rule),
        argv,
        stdin: stream(terminal.as_ref().or(output.as_ref())),
        stdout: stream(output.as_ref()),
        stderr: stream(output.as_ref()),
        terminal: if terminal.is_some() { Terminal::Controlling } else { Terminal::Inherit },
        new_session: true,
        ..Program::default()
    };
    let error = match spawn(&program) {
        Ok(pid) => return Event::Started(pid),
        Err(error) => error,
    };
    let path = files.first().map_or(b"".as_slice(), |path| path.to_bytes());
    let why = svcore::error::reason(&error.cause).as_bytes();
    if error.lacks_process() {
        report(Class::Fatal, &[b"unable to fork for \"", path, b"\" pausing: ", why]);
        Event::NoProcess
    } else {
        report(Class::Fatal, &[b"unable to start child: ", path, b": ", why]);
        Event::NotStarted
    }
}

fn stream(file: Option<&OwnedFd>) -> Stream<'_> {
    file.map_or(Stream::Inherit, |file| Stream::Is(file.as_fd()))
}
