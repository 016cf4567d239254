//! `runitbox --install` and its like: put the names of the applets, or the manual pages, into a directory, and remove them.
//!
//! [`plan`] decides, [`place`] looks at a directory and changes it. A file is replaced or removed only if it is ours: an
//! executable of runitbox of any version, a link to one, or one of its pages. If one is not, all such files are listed and
//! nothing is done.

mod place;
mod plan;

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use place::{Content, Executable, Item, Place};
use plan::{Allowed, Found, Links, Request, Wanted};

use crate::error::{Context, Error, Result};
use crate::multicall::{Applet, SUITE};
use crate::{say, sys};

/// A manual page that the executable carries.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Its name without the section.
    pub name: &'static str,
    /// Its section.
    pub section: &'static str,
    /// It is about a program that is installed only with `--with-init`.
    pub with_init: bool,
    /// What it is.
    pub content: PageContent,
}

/// What a manual page is.
#[derive(Debug, Clone, Copy)]
pub enum PageContent {
    /// A gzip file.
    Compressed(&'static [u8]),
    /// Text, which refers to another page.
    Plain(&'static str),
}

impl Page {
    fn bytes(&self) -> &'static [u8] {
        match self.content {
            PageContent::Compressed(bytes) => bytes,
            PageContent::Plain(text) => text.as_bytes(),
        }
    }

    /// The name of its file, and the name that the file has if it is compressed and this is not, or the other way round.
    fn file_names(&self) -> [String; 2] {
        let plain = format!("{}.{}", self.name, self.section);
        let compressed = format!("{plain}.gz");
        match self.content {
            PageContent::Compressed(_) => [compressed, plain],
            PageContent::Plain(_) => [plain, compressed],
        }
    }
}

/// The lines of the usage, without the name of the program.
pub(crate) const USAGE: [&str; 3] = [
    "--install [-s | --hard] [--with-init] [--root root] dir",
    "--uninstall [--with-init] [--root root] dir",
    "--install-man | --uninstall-man [--with-init] [--root root] dir",
];

/// Does what `option` asks for, or gives `None` if it is none of ours.
pub(crate) fn run(option: &[u8], words: &[OsString], table: &[Applet], pages: &[Page]) -> Option<Result> {
    let names = Allowed { links: true };
    let only = Allowed { links: false };
    match option {
        b"--install" => Some(plan::parse(words, names).and_then(|request| install(&request, table))),
        b"--uninstall" => Some(plan::parse(words, only).and_then(|request| uninstall(&request, table))),
        b"--install-man" => Some(plan::parse(words, only).and_then(|request| install_man(&request, pages))),
        b"--uninstall-man" => {
            Some(plan::parse(words, only).and_then(|request| uninstall_man(&request, pages)))
        }
        _ => None,
    }
}

/// The file that is executed: by /proc with all links followed, or where there is none, as it was called.
fn ourselves() -> Option<PathBuf> {
    let called = || {
        let path = PathBuf::from(sys::start::executed_path()?);
        std::path::absolute(&path).ok().filter(|path| path.exists())
    };
    std::env::current_exe().ok().or_else(called)
}

fn executable() -> Result<Executable> {
    let path = ourselves().ok_or_else(|| Error::fatal("unable to find the executable"))?;
    Executable::open(&path).while_doing(|| [b"unable to open ", path.as_os_str().as_bytes()].concat())
}

fn open(request: &Request) -> Result<Place> {
    Place::open(&request.dir, request.root.as_deref()).while_doing(|| unable_to_open(&request.dir))
}

fn unable_to_open(dir: &Path) -> Vec<u8> {
    [b"unable to open the directory ", dir.as_os_str().as_bytes()].concat()
}

fn c_string(text: impl Into<Vec<u8>>) -> CString {
    CString::new(text).unwrap_or_default()
}

/// Adds what is in the place of each item.
fn looked_at(
    place: &mut Place,
    items: Vec<(Item, bool)>,
    executable: Option<&Executable>,
) -> Result<Vec<Wanted<Item>>> {
    items
        .into_iter()
        .map(|(item, is_init)| {
            let found = place
                .look(&item, executable)
                .while_doing(|| [b"unable to look at ".as_slice(), &place.path_of(&item.name)].concat())?;
            Ok(Wanted { item, is_init, found })
        })
        .collect()
}

/// `--install`.
fn install(request: &Request, table: &[Applet]) -> Result {
    let executable = executable()?;
    let mut place = open(request)?;
    let (copy, content) = way(request, &place, &executable)?;
    let copy = copy.then(|| (Item { name: c_string(SUITE), content: Content::Executable }, false));
    let names = table
        .iter()
        .map(|applet| (Item { name: c_string(applet.name), content: content.clone() }, applet.with_init));
    let items = copy.into_iter().chain(names).collect();
    let wanted = looked_at(&mut place, items, Some(&executable))?;
    let items = plan::to_install(wanted, request.with_init).map_err(|foreign| not_ours(&place, &foreign))?;
    let missing: Vec<&Item> = items.iter().filter(|(_, to_make)| *to_make).map(|(item, _)| item).collect();
    place.exchange(&missing, Some(&executable))?;
    listed("installed in ", &place, items.iter().map(|(item, _)| item));
    Ok(0)
}

/// How the names are made: whether the executable has to be copied first, and what each name is.
fn way(request: &Request, place: &Place, executable: &Executable) -> Result<(bool, Content)> {
    if request.links == Links::InPlace {
        if !place.is_in_root(&executable.path) {
            let path = executable.path.as_os_str().as_bytes();
            return Err(Error::fatal([b"links would lead out of the root, to ", path].concat()));
        }
        let target = plan::relative(&place.real, &executable.path).into_os_string().into_vec();
        return Ok((false, Content::Link(c_string(target))));
    }
    let own_name = executable.path.file_name().unwrap_or(OsStr::new(SUITE));
    let is_here = executable.path.parent() == Some(&place.real);
    let is_linked_here = request.links == Links::Symbolic && place.leads_to(&c_string(SUITE), executable);
    let name = c_string(if is_here { own_name.as_bytes() } else { SUITE.as_bytes() });
    let content = match request.links {
        Links::Hard => Content::HardLink(name),
        Links::Symbolic | Links::InPlace => Content::Link(name),
    };
    Ok((!is_here && !is_linked_here, content))
}

/// `--uninstall`.
fn uninstall(request: &Request, table: &[Applet]) -> Result {
    let mut place = open(request)?;
    let names = table.iter().map(|applet| {
        (Item { name: c_string(applet.name), content: Content::Link(c_string(SUITE)) }, applet.with_init)
    });
    // The executable is the last, so that no name leads to nothing if another cannot be removed.
    let itself = (Item { name: c_string(SUITE), content: Content::Executable }, false);
    let wanted = looked_at(&mut place, names.chain([itself]).collect(), None)?;
    let items = plan::to_remove(wanted, request.with_init).map_err(|init| {
        say::err(&[&line("runitbox: a machine may boot by what is in ", &place, init.iter())]);
        Error::fatal("nothing was removed; to remove these too, add --with-init")
    })?;
    place.remove(&items)?;
    listed("removed from ", &place, items.iter());
    Ok(0)
}

/// The directories of pages, with the pages that belong there.
fn sections<'p>(request: &Request, pages: &'p [Page]) -> Vec<(PathBuf, Vec<&'p Page>)> {
    let mut sections: Vec<(PathBuf, Vec<&Page>)> = Vec::new();
    for page in pages {
        let dir = request.dir.join(format!("man{}", page.section));
        match sections.iter_mut().find(|(other, _)| *other == dir) {
            Some((_, pages)) => pages.push(page),
            None => sections.push((dir, vec![page])),
        }
    }
    sections
}

/// The pages as files; under each of the two names that a page may have if `both`.
fn page_items(pages: &[&Page], both: bool) -> Vec<(Item, bool)> {
    let mut items = Vec::new();
    for page in pages {
        for name in page.file_names().into_iter().take(if both { 2 } else { 1 }) {
            items.push((
                Item { name: c_string(name), content: Content::Page(page.bytes().to_owned()) },
                page.with_init,
            ));
        }
    }
    items
}

/// `--install-man`.
fn install_man(request: &Request, pages: &[Page]) -> Result {
    if pages.is_empty() {
        return Err(Error::fatal("this executable was built without the feature man: it has no pages"));
    }
    let root = request.root.as_deref();
    Place::open_or_make(&request.dir, root).map(drop).while_doing(|| unable_to_open(&request.dir))?;
    let mut ready = Vec::new();
    let mut is_refused = false;
    for (dir, pages) in sections(request, pages) {
        let mut place = Place::open_or_make(&dir, root).while_doing(|| unable_to_open(&dir))?;
        let wanted = looked_at(&mut place, page_items(&pages, true), None)?;
        let twins = wanted.iter().skip(1).step_by(2).map(|it| it.found);
        // A page that another program compressed in another way, or did not compress, is in the way as well.
        let is_foreign: Vec<bool> = twins.map(|found| found == Found::NotOurs).collect();
        let pairs = wanted.into_iter().step_by(2).zip(is_foreign);
        let wanted = pairs.map(|(it, is_foreign)| Wanted {
            found: if is_foreign { Found::NotOurs } else { it.found },
            ..it
        });
        match plan::to_install(wanted.collect(), request.with_init) {
            Ok(items) => ready.push((place, items)),
            Err(foreign) => {
                list_not_ours(&place, &foreign);
                is_refused = true;
            }
        }
    }
    if is_refused {
        return Err(nothing_installed(&request.dir));
    }
    for (place, items) in ready {
        let missing: Vec<&Item> =
            items.iter().filter(|(_, to_make)| *to_make).map(|(item, _)| item).collect();
        place.exchange(&missing, None)?;
        listed("installed in ", &place, items.iter().map(|(item, _)| item));
    }
    Ok(0)
}

/// `--uninstall-man`.
fn uninstall_man(request: &Request, pages: &[Page]) -> Result {
    for (dir, pages) in sections(request, pages) {
        let mut place = match Place::open(&dir, request.root.as_deref()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            place => place.while_doing(|| unable_to_open(&dir))?,
        };
        let wanted = looked_at(&mut place, page_items(&pages, true), None)?;
        // A page boots no machine.
        let items = plan::to_remove(wanted, true).unwrap_or_default();
        place.remove(&items)?;
        listed("removed from ", &place, items.iter());
    }
    Ok(0)
}

/// Says what was done.
fn listed<'i>(what: &str, place: &Place, items: impl Iterator<Item = &'i Item>) {
    say::out(&[&line(what, place, items)]);
}

/// A line with a directory and the names in it.
fn line<'i>(what: &str, place: &Place, items: impl Iterator<Item = &'i Item>) -> Vec<u8> {
    let mut line = [what.as_bytes(), place.shown.as_os_str().as_bytes(), b":"].concat();
    for item in items {
        line.push(b' ');
        line.extend_from_slice(item.name.to_bytes());
    }
    [&say::printable(&line), b"\n".as_slice()].concat()
}

fn list_not_ours(place: &Place, items: &[Item]) {
    for item in items {
        say::err_line(&[SUITE.as_bytes(), b": not part of runitbox: ", &place.path_of(&item.name)]);
    }
}

fn nothing_installed(dir: &Path) -> Error {
    Error::fatal([b"nothing was installed in ", dir.as_os_str().as_bytes()].concat())
}

fn not_ours(place: &Place, items: &[Item]) -> Error {
    list_not_ours(place, items);
    nothing_installed(&place.shown)
}

/// Whether `man FAMILY` shows a page of ours: manuals are looked for where man(1) looks, beside the directories of `PATH`.
pub(crate) fn has_page(family: &str, pages: &[Page]) -> bool {
    let Some(page) = pages.iter().find(|page| page.name == family) else { return false };
    let beside = |dir: PathBuf| dir.parent().map(|prefix| [prefix.join("share/man"), prefix.join("man")]);
    let dirs: Vec<PathBuf> = match std::env::var_os("MANPATH").filter(|path| !path.is_empty()) {
        Some(path) => std::env::split_paths(&path).collect(),
        None => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let beside = std::env::split_paths(&path).filter_map(beside).flatten();
            beside.chain(["/usr/local/share/man", "/usr/share/man"].map(PathBuf::from)).collect()
        }
    };
    let files = dirs
        .iter()
        .filter(|dir| dir.is_absolute())
        .flat_map(|dir| page.file_names().map(|name| dir.join(format!("man{}", page.section)).join(name)));
    files
        .filter_map(|file| place::read_page(&file))
        .next()
        .is_some_and(|file| plan::is_page_of_ours(&file, page.bytes()))
}
