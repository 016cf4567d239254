//! Makes from `applets/catalog.rs` the table of applets that the executable has, and renders the manual pages, which the
//! executable carries compressed (feature `man`). If `RUNITBOX_ARTIFACTS` names a directory, the pages, shell completions
//! and the list of links are written to it, for packagers. Nothing built is run, so it works for other platforms too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[allow(missing_docs, dead_code, unreachable_pub, reason = "the executable documents it")]
#[path = "applets/catalog.rs"]
mod catalog;

use catalog::{CATALOG, Entry};

fn main() {
    println!("cargo::rerun-if-changed=applets");
    println!("cargo::rerun-if-changed=packaging/completions");
    println!("cargo::rerun-if-env-changed=RUNITBOX_ARTIFACTS");
    println!("cargo::rerun-if-env-changed=RUNITBOX_SVDIR");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let chosen: Vec<&Entry> = CATALOG.iter().filter(|entry| is_chosen(entry)).collect();
    assert!(!chosen.is_empty(), "no applet is chosen: enable at least one feature");
    let pages = pages(&chosen);
    write(&out.join("table.rs"), (table(&chosen) + &page_table(&pages, &out)).as_bytes());
    if let Ok(dir) = env::var("RUNITBOX_ARTIFACTS") {
        artifacts(Path::new(&dir), &chosen, &pages);
    }
}

fn is_chosen(entry: &Entry) -> bool {
    let here = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux");
    (here || !entry.linux_only)
        && env::var_os(format!("CARGO_FEATURE_{}", entry.name.to_uppercase().replace('-', "_"))).is_some()
}

/// Rust source of the table, sorted by name.
fn table(chosen: &[&Entry]) -> String {
    let mut rows = BTreeMap::new();
    for entry in chosen {
        let init_script = entry.init_script.as_ref().map_or_else(
            || "None".to_owned(),
            |script| {
                format!(
                    "Some(svcore::multicall::InitScript {{ synopsis: {:?}, codes: svcore::Codes {{ usage: {}, fatal: {} }} }})",
                    script.synopsis, script.usage_code, script.fatal_code
                )
            },
        );
        let own = (entry.name, entry.about, entry.synopsis, entry.options, entry.verbs);
        let others = entry
            .aliases
            .iter()
            .map(|alias| (alias.name, alias.about, alias.synopsis, alias.options, &[][..]));
        for (name, about, synopsis, options, verbs) in std::iter::once(own).chain(others) {
            let row = format!(
                "svcore::Applet {{ name: {name:?}, family: {:?}, synopsis: {synopsis:?}, about: {about:?}, \
                 options: &{options:?}, verbs: &{verbs:?}, usage_as_typed: {}, with_init: {}, init_script: {init_script}, daemontools: {}, \
                 codes: svcore::Codes {{ usage: {}, fatal: {} }}, main: {}::main }},\n",
                entry.name,
                entry.usage_as_typed,
                entry.with_init,
                entry.daemontools && name != entry.name,
                entry.usage_code,
                entry.fatal_code,
                entry.module,
            );
            assert!(rows.insert(name, row).is_none(), "{name} is there twice");
        }
    }
    rows.into_values().fold("static TABLE: &[svcore::Applet] = &[\n".to_owned(), |all, row| all + &row)
        + "];\n"
}

/// A manual page under one of its names.
struct Page {
    /// The name without the section, such as `sv`.
    name: String,
    /// The section, such as `8`.
    section: String,
    /// It belongs to a program that `--install` leaves out without `--with-init`.
    with_init: bool,
    /// The whole page, or the name and section of the page that this name refers to.
    content: Content,
}

enum Content {
    Text(String),
    SameAs(String),
}

impl Page {
    fn file_name(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }

    /// What the file has in it.
    fn text(&self) -> String {
        match &self.content {
            Content::Text(text) => text.clone(),
            Content::SameAs(other) => format!("{}.so man{}/{other}\n", mark(), self.section),
        }
    }
}

/// The first line of each page. By it `runitbox --install-man` and `APPLET --help` know a page of ours.
fn mark() -> String {
    format!(".\\\" runitbox {}\n", env!("CARGO_PKG_VERSION"))
}

/// The pages of the chosen applets, and those that lie beside the catalog: they are about the whole.
fn pages(chosen: &[&Entry]) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut add = |source: &Path, entry: Option<&Entry>| {
        let text = fs::read_to_string(source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        let part =
            |part: Option<&OsStr>| part.and_then(OsStr::to_str).expect("pages have plain names").to_owned();
        let page = Page {
            name: part(source.file_stem()),
            section: part(source.extension()),
            with_init: entry.is_some_and(|entry| entry.with_init),
            content: Content::Text(mark() + &filled(&text, entry)),
        };
        for alias in entry.filter(|entry| entry.name == page.name).map_or(&[][..], |entry| entry.aliases) {
            pages.push(Page {
                name: alias.name.to_owned(),
                section: page.section.clone(),
                with_init: page.with_init,
                content: Content::SameAs(page.file_name()),
            });
        }
        pages.push(page);
    };
    for source in page_sources(Path::new("applets")) {
        add(&source, None);
    }
    for &entry in chosen {
        let sources = page_sources(&Path::new("applets").join(entry.module));
        assert!(!sources.is_empty(), "{} has no manual page", entry.name);
        for source in sources {
            add(&source, Some(entry));
        }
    }
    pages.sort_by_key(Page::file_name);
    pages
}

/// The files of a directory that are called like manual pages: `NAME.SECTION`.
fn page_sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut sources: Vec<PathBuf> = entries.map(|entry| entry.expect("can be read").path()).collect();
    sources.retain(|path| {
        path.extension().and_then(OsStr::to_str).is_some_and(|section| section.parse::<u8>().is_ok())
    });
    sources.sort();
    sources
}

/// Rust source of the pages that the executable carries; none without the feature `man`.
fn page_table(pages: &[Page], out: &Path) -> String {
    let mut rows = "static PAGES: &[svcore::Page] = &[\n".to_owned();
    for page in if cfg!(feature = "man") { pages } else { &[] } {
        let file = format!("{}.gz", page.file_name());
        let content = match &page.content {
            Content::Text(text) => {
                write(&out.join(&file), &compressed(text));
                // Not the path itself: the source is the same wherever it is built.
                format!(
                    "svcore::PageContent::Compressed(include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{file}\")))"
                )
            }
            Content::SameAs(_) => format!("svcore::PageContent::Plain({:?})", page.text()),
        };
        writeln!(
            rows,
            "svcore::Page {{ name: {:?}, section: {:?}, with_init: {}, content: {content} }},",
            page.name, page.section, page.with_init
        )
        .expect("memory");
    }
    rows + "];\n"
}

/// A gzip file, the same for the same text. By its comment, too, a page of ours is known: see [`mark`].
#[cfg(feature = "man")]
fn compressed(text: &str) -> Vec<u8> {
    use std::io::Write;
    let comment = format!("runitbox {}", env!("CARGO_PKG_VERSION"));
    let mut file = flate2::GzBuilder::new().comment(comment).write(Vec::new(), flate2::Compression::best());
    file.write_all(text.as_bytes()).expect("memory");
    file.finish().expect("memory")
}

#[cfg(not(feature = "man"))]
fn compressed(_text: &str) -> Vec<u8> {
    Vec::new()
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().expect("has a parent")).expect("cannot make a directory");
    fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn artifacts(dir: &Path, chosen: &[&Entry], pages: &[Page]) {
    for page in pages {
        write(&dir.join(format!("man{}", page.section)).join(page.file_name()), page.text().as_bytes());
    }
    let mut links = String::new();
    let mut names = Vec::new();
    for entry in chosen {
        for name in std::iter::once(entry.name).chain(entry.aliases.iter().map(|alias| alias.name)) {
            let init = if entry.with_init { " init" } else { "" };
            writeln!(links, "{} {name}{init}", entry.dir).expect("memory");
            names.push(name);
        }
    }
    write(&dir.join("links"), links.as_bytes());
    const VERBS: &str = "status health up down once exit pause cont hup alarm interrupt quit 1 2 term kill start stop \
                         shutdown restart reload try-restart check force-stop force-shutdown force-reload force-restart";
    let svctl = chosen.iter().find(|entry| entry.name == "svctl");
    let commands: Vec<&str> =
        svctl.map_or(&[][..], |entry| entry.verbs).iter().map(|(name, _)| *name).collect();
    let of_svctl = ["bash/svctl", "zsh/_svctl", "fish/svctl.fish"];
    let always =
        ["bash/runitbox", "bash/sv", "zsh/_runitbox", "zsh/_sv", "fish/runitbox.fish", "fish/sv.fish"];
    for name in always.iter().chain(of_svctl.iter().filter(|_| svctl.is_some())) {
        let source = Path::new("packaging/completions").join(name);
        let text =
            fs::read_to_string(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        let text = text.replace("@NAMES@", &names.join(" ")).replace("@VERBS@", VERBS);
        let text = text.replace("@COMMANDS@", &commands.join(" "));
        write(&dir.join("completions").join(name), text.as_bytes());
    }
}

/// A manual page with synopsis, options and version in place.
fn filled(page: &str, entry: Option<&Entry>) -> String {
    let page = page.replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    let Some(entry) = entry else { return page };
    let mut options = String::new();
    for (option, meaning) in entry.options {
        write!(options, ".It {}\n{}\n", quoted(option), meaning.replace('\n', " ")).expect("memory");
    }
    page.replace("@SYNOPSIS@", &quoted(entry.synopsis)).replace("@OPTIONS@", options.trim_end())
}

/// Text as one macro argument that mdoc does not take for macros.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\n', " ").replace('-', "\\-").replace('"', "\\(dq"))
}
