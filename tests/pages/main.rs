//! The manual pages say what the code does: the same options, files, variables and exit codes.
//!
//! Source files are read as text, so a name counts wherever it moves to. What follows `#[cfg(test)]` in a file, and files
//! called `tests.rs`, do not count.
#![allow(clippy::restriction, unreachable_pub, reason = "a case fails by a panic")]

#[macro_use] // for #[test]
extern crate support_attribute;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[allow(dead_code, missing_docs, reason = "data of the executable")]
#[path = "../../applets/catalog.rs"]
mod catalog;

use catalog::{CATALOG, Entry};
use svcore::policy::PolicyFile;

fn main() -> std::process::ExitCode {
    support::run_cases(env!("CARGO_BIN_EXE_runitbox"))
}

type Words = BTreeSet<String>;

/// Files that are opened and that no page has to name, each with the reason.
const UNTOLD: &[(&str, &str)] = &[
    (".", "the directory itself"),
    ("..", "its parent"),
    ("/", "the root"),
    ("link", "not a file name"),
    ("cwd", "in /proc"),
    ("exe", "in /proc"),
    ("root", "in /proc"),
    ("ns/mnt", "in /proc"),
    ("ns/pid", "in /proc"),
    ("../cwd", "in /proc"),
    ("comm", "in /proc"),
    ("cmdline", "in /proc"),
    ("/proc/1/comm", "in /proc"),
    ("/proc/1/exe", "in /proc"),
    ("/proc/self", "in /proc"),
    ("/proc/self/cgroup", "in /proc"),
    ("/proc/self/mountinfo", "in /proc"),
    ("cgroup.events", "the kernel's"),
    ("cgroup.kill", "the kernel's"),
    ("cgroup.procs", "the kernel's"),
    ("cgroup.subtree_control", "the kernel's"),
    ("cgroup.type", "the kernel's"),
    ("memory.events", "the kernel's"),
    (".runitbox-new-", "there for a moment"),
    (".runitbox-old-", "there for a moment"),
    ("log/.", "the directory log itself"),
    ("owner.new", "there for a moment"),
    ("current.new", "there for a moment"),
    ("previous.new", "there for a moment"),
    (".runitbox-new-", "there for a moment"),
    (".runitbox-old-", "there for a moment"),
    ("/proc", "the kernel's"),
    ("/proc/1", "the kernel's"),
    ("/proc/locks", "the kernel's"),
    ("/proc/1/comm", "the kernel's"),
    ("/proc/1/exe", "the kernel's"),
    ("/proc/self", "the kernel's"),
    ("/proc/self/exe", "the kernel's"),
    ("/proc/self/ns/mnt", "the kernel's"),
    ("/proc/self/ns/pid", "the kernel's"),
    ("/dev/console", "called the console"),
    ("/bin/sh", "a program"),
    ("runsv", "a program"),
    ("svlogd", "a program"),
];

/// Words in C strings that are no file names: arguments, kinds of file systems, process names.
const NO_FILES: &[&str] = &[
    "-c",
    "-w",
    "9",
    "--hosted",
    "--shared",
    "sh",
    "proc",
    "sysfs",
    "devtmpfs",
    "tmpfs",
    "mode=0755",
    "runsvdir",
    "runsvinit",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below `dir` whose names end in `ending`.
fn files_below(dir: &str, ending: &str) -> Vec<PathBuf> {
    let (mut found, mut left) = (Vec::new(), vec![root().join(dir)]);
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.to_str().unwrap().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The code of all source files below `dir`, without tests.
fn code(dir: &str) -> String {
    let sources = files_below(dir, ".rs").into_iter();
    sources
        .filter(|path| !path.ends_with("tests.rs"))
        .map(|path| {
            let text = fs::read_to_string(path).unwrap();
            text.split("#[cfg(test)]\nmod ").next().unwrap().to_owned()
        })
        .collect()
}

/// What stands between `start` and the next `end`, each time.
fn between<'t>(text: &'t str, start: &str, end: &str) -> Vec<&'t str> {
    text.split(start).skip(1).filter_map(|rest| rest.split_once(end)).map(|(word, _)| word).collect()
}

/// A manual page.
struct Page {
    name: String,
    text: String,
}

impl Page {
    /// The words of each macro line that has `name` as one of its macros, from that macro on.
    fn lines_with(&self, name: &str) -> Vec<Vec<String>> {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix('.'));
        lines
            .filter_map(|line| {
                let words: Vec<String> = words_of(line);
                let at = words.iter().position(|word| word == name)?;
                Some(words[at..].to_vec())
            })
            .collect()
    }

    /// All arguments of a macro, such as `Pa`.
    fn arguments(&self, name: &str) -> Words {
        self.lines_with(name).iter().flat_map(|words| arguments_of(words, name)).collect()
    }

    /// The options that `.It` lines describe, with their dashes.
    fn described_options(&self) -> Words {
        self.lines_with("It").iter().flat_map(|words| options_of(words)).collect()
    }

    /// The options that any line names.
    fn options(&self) -> Words {
        self.lines_with("Fl").iter().flat_map(|words| options_of(words)).collect()
    }

    fn section(&self, name: &str) -> &str {
        let start = format!(".Sh {name}\n");
        let section = self.text.split(&start).nth(1).unwrap_or_else(|| panic!("{}: no {name}", self.name));
        section.split("\n.Sh ").next().unwrap()
    }
}

/// The words of a line; what is in quotes is one.
fn words_of(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('"').enumerate() {
        if number % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// The arguments of one macro among the words of a line: up to the next macro.
fn arguments_of(words: &[String], name: &str) -> Words {
    let is_macro = |word: &str| {
        word.len() == 2
            && word.starts_with(char::is_uppercase)
            && word.ends_with(|last: char| last.is_ascii_lowercase())
    };
    let mut inside = false;
    let mut found = Words::new();
    for word in words {
        if is_macro(word) {
            inside = word == name;
        } else if inside && word.starts_with(|first: char| !matches!(first, ',' | '.' | ')' | ';')) {
            found.insert(word.replace("\\&", "").replace("\\-", "-"));
        } else if inside && word.starts_with('.') && word.len() > 1 {
            found.insert(word.clone());
        }
    }
    found
}

/// `Fl a` is `-a`; `Fl 0 , 1` is `-0` and `-1`; `Fl abc` is three options; `Fl -halt` is `--halt`.
fn options_of(words: &[String]) -> Words {
    let arguments = arguments_of(words, "Fl");
    let options = arguments.iter().flat_map(|word| match word.strip_prefix('-') {
        Some(long) => vec![format!("--{long}")],
        None => word.chars().map(|letter| format!("-{letter}")).collect(),
    });
    options.collect()
}

fn page(path: &Path) -> Page {
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    Page { name, text: fs::read_to_string(path).unwrap() }
}

/// A part of a page.
fn part(name: &str, text: &str) -> Page {
    Page { name: name.to_owned(), text: text.to_owned() }
}

/// All pages.
fn pages() -> Vec<Page> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for section in [".5", ".7", ".8"] {
        paths.extend(files_below("applets", section));
    }
    assert!(paths.len() >= CATALOG.len() + 3, "{paths:?}");
    paths.iter().map(|path| page(path)).collect()
}

fn page_of(entry: &Entry) -> Page {
    page(&root().join(format!("applets/{}/{}.8", entry.module, entry.name)))
}

fn page_named(name: &str) -> Page {
    pages().into_iter().find(|page| page.name == name).unwrap_or_else(|| panic!("no page {name}"))
}

/// The words in the first column of a table of options.
fn first_column(options: &[(&str, &str)]) -> Vec<String> {
    options.iter().flat_map(|(option, _)| option.split_whitespace()).map(str::to_owned).collect()
}

fn all_options(entry: &Entry) -> Vec<String> {
    let of_aliases = entry.aliases.iter().flat_map(|alias| first_column(alias.options));
    first_column(entry.options).into_iter().chain(of_aliases).collect()
}

/// The options that the code of an applet takes.
fn options_in_code(entry: &Entry) -> Words {
    let code = code(&format!("applets/{}", entry.module));
    let short = between(&code, "Short('", "')").into_iter().map(|letter| format!("-{letter}"));
    let long = between(&code, "Long(\"", "\")").into_iter().map(|word| format!("--{word}"));
    // Those without an option parser compare words.
    let words = between(&code, "b\"-", "\"").into_iter().map(|word| format!("-{word}"));
    let words = words.filter(|word| word.len() == 2 || word.starts_with("--"));
    // svctl has them as its help shows them: `-w, --wait sec`.
    let shown = between(&code, "shown: \"", "\"").into_iter();
    let shown = shown.flat_map(|text| text.split([',', ' ']).map(str::to_owned).collect::<Vec<_>>());
    let shown = shown.filter(|word| word.starts_with('-'));
    short.chain(long).chain(words).chain(shown).collect()
}

/// Fails with all that is missing.
#[track_caller]
fn none(what: &str, missing: Vec<String>) {
    assert!(missing.is_empty(), "{what}:\n  {}", missing.join("\n  "));
}

#[test]
fn the_help_and_the_page_of_an_applet_have_the_same_options() {
    let mut missing = Vec::new();
    for entry in CATALOG {
        let page = page_of(entry);
        let (told, described) = (page.options(), page.described_options());
        let mut known = options_in_code(entry);
        for word in all_options(entry) {
            // `-tt` is `-t` twice.
            let option = match word.strip_prefix('-') {
                Some(letters) if letters.len() > 1 && !letters.starts_with('-') => word[..2].to_owned(),
                Some(_) => word.clone(),
                None => continue,
            };
            if !told.contains(&option) {
                missing.push(format!("{}: no {word}, which --help has", page.name));
            }
            known.insert(option);
        }
        known.extend(["--help".to_owned(), "--".to_owned()]);
        for option in described.difference(&known) {
            missing.push(format!("{}: {option}, which the code does not have", page.name));
        }
        for option in known.difference(&told).filter(|option| *option != "--" && *option != "--help") {
            missing.push(format!("{}: no {option}, which the code has", page.name));
        }
    }
    none("options", missing);
}

#[test]
fn the_synopsis_has_all_options() {
    let mut missing = Vec::new();
    for entry in CATALOG {
        let page = page_of(entry);
        let synopsis = Page { name: String::new(), text: page.section("SYNOPSIS").to_owned() };
        let synopsis = synopsis.options();
        for option in first_column(entry.options).iter().filter(|word| word.starts_with('-')) {
            let short = if option.starts_with("--") { option.as_str() } else { &option[..2] };
            // The version is asked for alone.
            if short != "-V" && !synopsis.contains(short) {
                missing.push(format!("{}: no {option} in its synopsis", page.name));
            }
        }
    }
    none("synopses", missing);
}

#[test]
fn sv_has_a_description_of_each_command() {
    let sv = CATALOG.iter().find(|entry| entry.name == "sv").unwrap();
    let described: Words =
        page_of(sv).lines_with("It").iter().flat_map(|words| arguments_of(words, "Cm")).collect();
    let commands: Words = first_column(sv.verbs).into_iter().collect();
    assert!(commands.len() > 25, "{commands:?}");
    none("commands that sv(8) does not describe", commands.difference(&described).cloned().collect());
    none("commands that sv does not have", described.difference(&commands).cloned().collect());
}

#[test]
fn each_file_that_the_code_opens_is_on_a_page() {
    let told: Words = pages().iter().flat_map(|page| page.arguments("Pa")).collect();
    let strings = code("src") + &code("applets");
    let strings = between(&strings, "c\"", "\"");
    let files: Words = strings
        .into_iter()
        // Literals with anything else in them are no C strings, or have a variable part.
        .filter(|word| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.-_".contains(&byte)))
        .filter(|word| !word.is_empty() && !NO_FILES.contains(word))
        .map(str::to_owned)
        .collect();
    for known in ["down-signal", "essential", "finish", "/etc/runit/boot.d", "config"] {
        assert!(
            files.contains(known),
            "{known} is not found in the code: is it looked for in the right way?"
        );
    }
    let on_a_page = |file: &str| told.contains(file) || told.contains(&format!("{file}/"));
    let is_told = |file: &str| {
        let plain = file.strip_prefix("./").unwrap_or(file);
        on_a_page(plain)
            || on_a_page(&format!("log/{plain}"))
            || plain.strip_prefix("log/").is_some_and(on_a_page)
            || UNTOLD.iter().any(|(name, _)| *name == file)
    };
    none("files that no page names", files.into_iter().filter(|file| !is_told(file)).collect());
}

#[test]
fn each_file_of_a_service_on_the_page_is_in_the_code() {
    let page = page_named("runit-service.5");
    let code = code("src") + &code("applets");
    let commands: Words = between(&code, "b'", "' => Command::").into_iter().map(str::to_owned).collect();
    assert!(commands.len() >= 14, "the letters of commands are not found in the code: {commands:?}");
    let mut hooks = Words::new();
    let mut missing = Vec::new();
    for name in page.lines_with("It").iter().flat_map(|words| arguments_of(words, "Pa")) {
        if let Some(letter) = name.strip_prefix("control/") {
            // The table has the directory alone.
            hooks.extend((!letter.is_empty()).then(|| letter.to_owned()));
            continue;
        }
        let last = name.trim_end_matches('/').rsplit('/').next().unwrap();
        if ![format!("\"{last}\""), format!("/{last}\"")].iter().any(|literal| code.contains(literal)) {
            missing.push(name);
        }
    }
    none("files that the code does not know", missing);
    // `o` has none.
    let expected: Words = commands.into_iter().filter(|letter| letter != "o").collect();
    assert_eq!(hooks, expected, "the programs in control/");
}

#[test]
fn the_table_of_files_has_each_policy_and_each_file_of_the_page() {
    let page = page_named("runit-service.5");
    let (table, described) = page.text.split_at(page.text.find(".Sh FILES OF THE SERVICE\n").unwrap());
    let (table, described) = (part("table", table), part("described", described));
    let in_table: Words = table.lines_with("It").iter().flat_map(|words| arguments_of(words, "Pa")).collect();
    // All programs of control/ are one line of the table, and a file of a service may be one of its log service.
    let of_page = |section: &str| -> Words {
        let section = part(section, described.section(section));
        let items = section.lines_with("It");
        let names = items.iter().flat_map(|words| arguments_of(words, "Pa"));
        names.map(|name| if name.starts_with("control/") { "control/".to_owned() } else { name }).collect()
    };
    let policies: Words = PolicyFile::ALL.map(|file| file.name().to_str().unwrap().to_owned()).into();
    let mut described_policies = of_page("POLICIES");
    assert!(described_policies.remove(".on-failure"));
    let plain: Words = described_policies.iter().map(|name| name.trim_end_matches('/').to_owned()).collect();
    assert_eq!(plain, policies, "the policies of the page, and those of the code");

    let mut all = of_page("FILES OF THE SERVICE");
    all.extend(of_page("POLICIES"));
    all.extend(of_page("FILES OF THE LOG SERVICE"));
    // A second name in a line of the table says when a change takes effect; it is in the table itself.
    assert_eq!(in_table, all, "the table, and the files of the page");
}

#[test]
fn the_table_of_files_says_what_is_ours() {
    let page = page_named("runit-service.5");
    let (table, described) = page.text.split_at(page.text.find(".Sh FILES OF THE SERVICE\n").unwrap());
    let described = part("described", described);
    let mut ours: Words = PolicyFile::ALL.map(|file| file.name().to_str().unwrap().to_owned()).into();
    ours.insert(".on-failure".to_owned());
    for section in ["FILES OF THE SERVICE", "FILES OF THE LOG SERVICE"] {
        let section = part(section, described.section(section));
        let marked = section
            .lines_with("It")
            .into_iter()
            .filter(|words| words.ends_with(&["Bq".to_owned(), "ours".to_owned()]));
        ours.extend(marked.flat_map(|words| arguments_of(&words, "Pa")));
    }
    let lines = table.lines().filter_map(|line| line.strip_prefix(".It Pa ")?.split_once(" Ta "));
    let wrong: Vec<String> = lines
        .filter(|(name, more)| {
            let last = name.trim_end_matches('/').rsplit('/').next().unwrap();
            more.starts_with("ours ") != (ours.contains(*name) || ours.contains(last))
        })
        .map(|(name, _)| name.to_owned())
        .collect();
    none("files that are marked as stock's and as ours", wrong);
}

#[test]
fn runsv_describes_each_byte_of_control() {
    let code = code("src");
    let commands: Words = between(&code, "b'", "' => Command::").into_iter().map(str::to_owned).collect();
    let section = page_named("runsv.8").section("CONTROL").to_owned();
    let section = Page { name: "runsv.8".to_owned(), text: section };
    let described: Words =
        section.lines_with("It").iter().flat_map(|words| arguments_of(words, "Li")).collect();
    assert_eq!(described, commands);
}

#[test]
fn each_letter_of_config_is_described() {
    let code = code("applets/svlogd");
    let section = page_named("svlogd.8").section("CONFIG FILE").to_owned();
    let section = Page { name: "svlogd.8".to_owned(), text: section };
    let described: Words = section
        .lines_with("It")
        .iter()
        .flat_map(|words| arguments_of(words, "Cm"))
        .map(|word| word.chars().take(1).collect())
        .collect();
    for letter in &described {
        assert!(code.contains(&format!("b'{letter}'")), "{letter} is not in the code");
    }
    let expected: Words = "snNt!pu+-eEU".chars().map(String::from).collect();
    assert_eq!(described, expected);
}

#[test]
fn each_variable_that_the_code_reads_is_on_a_page() {
    let told: Words = pages().iter().flat_map(|page| page.arguments("Ev")).collect();
    let code = code("src") + &code("applets");
    let mut read: Words = between(&code, "var_os(\"", "\")").into_iter().map(str::to_owned).collect();
    read.extend(between(&code, "VARIABLE: &str = \"", "\"").into_iter().map(str::to_owned));
    for known in ["SVDIR", "RUNITBOX_STATE"] {
        assert!(read.contains(known), "{known} is not found in the code");
    }
    none("variables that no page names", read.difference(&told).cloned().collect());
}

#[test]
fn the_exit_codes_of_failures_are_on_the_page() {
    let mut missing = Vec::new();
    for entry in CATALOG {
        let page = page_of(entry);
        let section = page.section("EXIT STATUS");
        let numbers: Vec<&str> = section.split(|letter: char| !letter.is_ascii_digit()).collect();
        for code in [entry.usage_code, entry.fatal_code] {
            // runit has no usage.
            if !numbers.contains(&code.to_string().as_str()) {
                missing.push(format!("{}: {code}", page.name));
            }
        }
    }
    none("exit codes", missing);
}

#[test]
fn each_page_has_all_its_sections() {
    let mut missing = Vec::new();
    for page in pages() {
        let mut wanted = vec!["NAME", "DESCRIPTION", "EXAMPLES", "SEE ALSO"];
        if page.name.ends_with(".8") {
            wanted.extend(["SYNOPSIS", "ENVIRONMENT", "FILES", "EXIT STATUS"]);
        }
        for section in wanted {
            if !page.text.contains(&format!("\n.Sh {section}\n")) {
                missing.push(format!("{}: {section}", page.name));
            }
        }
        let left = page.text.replace("@VERSION@", "");
        for word in between(&left, "@", "@").into_iter().filter(|word| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        }) {
            missing.push(format!("{}: nothing fills @{word}@", page.name));
        }
    }
    none("sections", missing);
}

#[test]
fn each_reference_leads_to_a_page_of_ours_or_of_the_system() {
    const OF_THE_SYSTEM: [&str; 5] = ["ps.1", "flock.2", "sd_notify.3", "setsid.1", "systemd-notify.1"];
    let ours: Words = pages().into_iter().map(|page| page.name).collect();
    let mut missing = Vec::new();
    for page in pages() {
        for words in page.lines_with("Xr") {
            for reference in words.split(|word| word == "Xr").skip(1) {
                let name = format!("{}.{}", reference[0], reference[1]);
                if !ours.contains(&name) && !OF_THE_SYSTEM.contains(&name.as_str()) {
                    missing.push(format!("{}: {name}", page.name));
                }
            }
        }
    }
    none("references", missing);
}

#[test]
fn mandoc_finds_no_fault() {
    support::needs_program("mandoc");
    for section in [".5", ".7", ".8"] {
        for page in files_below("applets", section) {
            let output =
                Command::new("mandoc").args(["-Tlint", "-W", "warning"]).arg(&page).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            // That a page is not installed is no fault of ours.
            let faults: Vec<&str> =
                text.lines().filter(|line| !line.contains("outdated mandoc.db")).collect();
            assert!(faults.is_empty(), "{faults:#?}");
        }
    }
}

#[test]
fn no_heading_begins_with_a_macro() {
    // mandoc and groff take such a word for a macro, and leave it out.
    const MACROS: [&str; 12] = ["An", "Ar", "At", "Do", "Em", "In", "It", "No", "Pa", "So", "Sy", "Up"];
    let mut wrong = Vec::new();
    for page in pages() {
        let headings = page.text.lines().filter_map(|line| {
            let heading = line.strip_prefix(".Ss ").or_else(|| line.strip_prefix(".Sh "))?;
            MACROS.contains(&heading.split(' ').next()?).then(|| format!("{}: {heading}", page.name))
        });
        wrong.extend(headings);
    }
    none("headings", wrong);
}

#[test]
fn lines_of_examples_fit_a_terminal() {
    let mut long = Vec::new();
    for page in pages() {
        for block in between(&page.text, ".Bd -literal", "\n.Ed") {
            let lines = block.lines().skip(1).filter(|line| line.len() > 74);
            long.extend(lines.map(|line| format!("{}: {line}", page.name)));
        }
    }
    none("lines of more than 74 characters", long);
}
