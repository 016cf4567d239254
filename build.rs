//! Makes from `applets/catalog.rs` the table of applets that the executable has; and, if `RUNITBOX_ARTIFACTS` names
//! a directory, manual pages, shell completions and the list of links in it, for packagers. The executable carries
//! none of these, and nothing built is run, so it works for other platforms too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

#[allow(missing_docs, dead_code, unreachable_pub, reason = "the executable documents it")]
#[path = "applets/catalog.rs"]
mod catalog;

use catalog::{CATALOG, Entry};

fn main() {
    println!("cargo::rerun-if-changed=applets");
    println!("cargo::rerun-if-env-changed=RUNITBOX_ARTIFACTS");
    println!("cargo::rerun-if-env-changed=RUNITBOX_SVDIR");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let chosen: Vec<&Entry> = CATALOG.iter().filter(|entry| is_chosen(entry)).collect();
    assert!(!chosen.is_empty(), "no applet is chosen: enable at least one feature");
    fs::write(Path::new(&out).join("table.rs"), table(&chosen)).expect("cannot write the table");
    if let Ok(dir) = env::var("RUNITBOX_ARTIFACTS") {
        artifacts(Path::new(&dir), &chosen);
    }
}

fn is_chosen(entry: &Entry) -> bool {
    /// What process 1 of Linux is and does.
    const LINUX_ONLY: [&str; 4] = ["runit", "runit_init", "runsvinit", "utmpset"];
    let here = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    (here || !LINUX_ONLY.contains(&entry.module))
        && env::var_os(format!("CARGO_FEATURE_{}", entry.module.to_uppercase())).is_some()
}

/// Rust source of the table, sorted by name.
fn table(chosen: &[&Entry]) -> String {
    let mut rows = BTreeMap::new();
    for entry in chosen {
        let own = (entry.name, entry.about, entry.synopsis, entry.options, entry.verbs);
        let others = entry
            .aliases
            .iter()
            .map(|alias| (alias.name, alias.about, alias.synopsis, alias.options, &[][..]));
        for (name, about, synopsis, options, verbs) in std::iter::once(own).chain(others) {
            let row = format!(
                "svcore::Applet {{ name: {name:?}, family: {:?}, synopsis: {synopsis:?}, about: {about:?}, \
                 options: &{options:?}, verbs: &{verbs:?}, usage_as_typed: {}, \
                 codes: svcore::Codes {{ usage: {}, fatal: {} }}, main: {}::main }},\n",
                entry.name, entry.usage_as_typed, entry.usage_code, entry.fatal_code, entry.module,
            );
            assert!(rows.insert(name, row).is_none(), "{name} is there twice");
        }
    }
    rows.into_values().fold("static TABLE: &[svcore::Applet] = &[\n".to_owned(), |all, row| all + &row)
        + "];\n"
}

fn artifacts(dir: &Path, chosen: &[&Entry]) {
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("cannot make a directory");
        fs::write(path, text).expect("cannot write an artifact");
    };
    let mut links = String::new();
    let mut names = Vec::new();
    for entry in chosen {
        let source = format!("applets/{}/{}.8", entry.module, entry.name);
        let page = fs::read_to_string(&source).unwrap_or_else(|error| panic!("{source}: {error}"));
        write(&format!("man8/{}.8", entry.name), &filled(&page, entry));
        for name in std::iter::once(entry.name).chain(entry.aliases.iter().map(|alias| alias.name)) {
            writeln!(links, "{} {name}", entry.dir).expect("memory");
            names.push(name);
        }
        for alias in entry.aliases {
            write(&format!("man8/{}.8", alias.name), &format!(".so man8/{}.8\n", entry.name));
        }
    }
    let page = fs::read_to_string("applets/runitbox.8").expect("applets/runitbox.8");
    write("man8/runitbox.8", &page.replace("@VERSION@", env!("CARGO_PKG_VERSION")));
    write("links", &links);
    let all = names.join(" ");
    write(
        "completions/bash/runitbox",
        &format!("complete -W \"{all} --list --version --help --install\" runitbox\n"),
    );
    let words = "status health up down once exit pause cont hup alarm interrupt quit 1 2 term kill start stop shutdown \
                 restart reload try-restart check force-stop force-shutdown force-reload force-restart";
    write(
        "completions/bash/sv",
        &format!(
            "_sv() {{\n\tlocal dir=${{SVDIR:-}} d\n\tfor d in /service /etc/service /var/service; do [ -z \"$dir\" ] && \
             [ -d $d ] && dir=$d; done\n\tif [ \"$COMP_CWORD\" = 1 ]; then COMPREPLY=($(compgen -W \"{words}\" -- \
             \"${{COMP_WORDS[1]}}\"))\n\telse COMPREPLY=($(cd \"$dir\" 2>/dev/null && compgen -d -- \
             \"${{COMP_WORDS[COMP_CWORD]}}\")); fi\n}}\ncomplete -F _sv sv\n"
        ),
    );
    write(
        "completions/zsh/_sv",
        &format!(
            "#compdef sv\n_arguments '-v[wait and report]' '-w[seconds to wait]:seconds' '1:command:({words})' \
             '*:service:_path_files -/ -W \"${{SVDIR:-/service}}\"'\n"
        ),
    );
    write(
        "completions/fish/sv.fish",
        &format!(
            "complete -c sv -f\ncomplete -c sv -n __fish_is_first_arg -a '{words}'\n\
             complete -c sv -n 'not __fish_is_first_arg' -a '(set -q SVDIR; or set -l SVDIR /service; ls $SVDIR)'\n"
        ),
    );
}

/// A manual page with synopsis, options and version in place.
fn filled(page: &str, entry: &Entry) -> String {
    let mut options = String::new();
    for (option, meaning) in entry.options {
        write!(options, ".It {}\n{}\n", quoted(option), meaning.replace('\n', " ")).expect("memory");
    }
    page.replace("@SYNOPSIS@", &quoted(entry.synopsis))
        .replace("@OPTIONS@", options.trim_end())
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
}

/// Text as one macro argument that mdoc does not take for macros.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\n', " ").replace('-', "\\-").replace('"', "\\(dq"))
}
