//! `runitbox --install` and its like: put the names of the applets, or the manual pages, into a directory, and remove them.
//!
//! [`plan`] decides, [`directory`] looks at a directory and changes it. A file is replaced or removed only if it is ours: an
//! executable of runitbox of any version, a link to one, or one of its pages. If one is not, all such files are listed and
//! nothing is done.

mod directory;
mod plan;

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use directory::{Content, Executable, InstallDirectory, Item};
use plan::{Action, Links, Request, Wanted};

use crate::error::{Context, Error, Failed, Result};
use crate::multicall::{Applet, SUITE};
use crate::{own_file, say, sort};

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

/// Does what `option` asks for. `None` if it is not one of the options of this module.
pub(crate) fn run(option: &[u8], words: &[OsString], table: &[Applet], pages: &[Page]) -> Option<Result> {
    let action = plan::action(option)?;
    Some(plan::parse(words, action).and_then(|request| match action {
        Action::Install => install(&request, table),
        Action::Uninstall => uninstall(&request, table),
        Action::InstallPages => install_pages(&request, pages),
        Action::UninstallPages => uninstall_pages(&request, pages),
    }))
}

fn executable() -> Result<Executable> {
    let path = own_file::path().ok_or_else(|| Failed::without_cause("unable to find the executable"))?;
    let file = Executable::open(&path);
    Ok(file.while_doing(|| [b"unable to open ", path.as_os_str().as_bytes()].concat())?)
}

fn refused(why: impl Into<Vec<u8>>) -> Error {
    Failed::without_cause(why).into()
}

fn unable_to_open(dir: &Path) -> Vec<u8> {
    [b"unable to open the directory ", dir.as_os_str().as_bytes()].concat()
}

fn c_string(text: impl Into<Vec<u8>>) -> CString {
    CString::new(text.into()).unwrap_or_default()
}

/// A directory, the items that are to be there, and whether each is for booting a machine.
type Lot = (InstallDirectory, Vec<(Item, bool)>);

/// Adds what is in the place of each item.
fn looked_at(lot: Lot, executable: Option<&Executable>) -> Result<(InstallDirectory, Vec<Wanted<Item>>)> {
    let (mut directory, items) = lot;
    let mut wanted = Vec::with_capacity(items.len());
    for (item, is_init) in items {
        let found = directory
            .look(&item, executable)
            .while_doing(|| [b"unable to look at ".as_slice(), &directory.path_of(&item.name)].concat())?;
        wanted.push(Wanted { item, is_init, found });
    }
    Ok((directory, wanted))
}

/// Puts all items in their places, or none where one place holds what is not ours.
fn install_items(request: &Request, lots: Vec<Lot>, executable: Option<&Executable>) -> Result {
    let mut ready = Vec::new();
    let mut is_refused = false;
    for lot in lots {
        let (directory, wanted) = looked_at(lot, executable)?;
        match plan::to_install(wanted, request.with_init) {
            Ok(items) => ready.push((directory, items)),
            Err(foreign) => {
                is_refused = true;
                for item in foreign {
                    let path = directory.path_of(&item.name);
                    say::err_line(&[SUITE.as_bytes(), b": not part of runitbox: ", &path]);
                }
            }
        }
    }
    if is_refused {
        let dir = request.dir.as_os_str().as_bytes();
        return Err(refused([b"nothing was installed in ", dir].concat()));
    }
    for (directory, items) in ready {
        let is_made = |item: &Item| !matches!(item.content, Content::OtherForm(_));
        let items: Vec<&(Item, bool)> = items.iter().filter(|(item, _)| is_made(item)).collect();
        let missing: Vec<&Item> = items.iter().filter(|it| it.1).map(|it| &it.0).collect();
        directory.exchange(&missing, executable)?;
        let all: Vec<&Item> = items.iter().map(|it| &it.0).collect();
        say::out(&[&line("installed in ", &directory, &all)]);
    }
    Ok(0)
}

/// Removes all items that are ours.
fn remove_items(request: &Request, lots: Vec<Lot>) -> Result {
    for lot in lots {
        let (directory, wanted) = looked_at(lot, None)?;
        match plan::to_remove(wanted, request.with_init) {
            Ok(items) => {
                let items: Vec<&Item> = items.iter().collect();
                directory.remove(&items)?;
                say::out(&[&line("removed from ", &directory, &items)]);
            }
            Err(init) => {
                let init: Vec<&Item> = init.iter().collect();
                say::err(&[&line("runitbox: a machine may boot by what is in ", &directory, &init)]);
                return Err(refused("nothing was removed; to remove these too, add --with-init"));
            }
        }
    }
    Ok(0)
}

/// A line with a directory and the names in it.
fn line(what: &str, directory: &InstallDirectory, items: &[&Item]) -> Vec<u8> {
    let mut line = [what.as_bytes(), directory.shown.as_os_str().as_bytes(), b":"].concat();
    for item in items {
        line.push(b' ');
        line.extend_from_slice(item.name.to_bytes());
    }
    [&say::printable(&line), b"\n".as_slice()].concat()
}

/// The names of the applets as items.
fn names(table: &[Applet], content: &Content) -> Vec<(Item, bool)> {
    let item = |applet: &Applet| Item { name: c_string(applet.name), content: content.clone() };
    table.iter().map(|applet| (item(applet), applet.with_init)).collect()
}

/// The executable as an item.
fn itself() -> (Item, bool) {
    (Item { name: c_string(SUITE), content: Content::Executable }, false)
}

fn open(request: &Request) -> Result<InstallDirectory> {
    let directory = InstallDirectory::open(&request.dir, request.root.as_deref());
    Ok(directory.while_doing(|| unable_to_open(&request.dir))?)
}

/// `--install`.
fn install(request: &Request, table: &[Applet]) -> Result {
    let executable = executable()?;
    let directory = open(request)?;
    let (is_copied, content) = way(request, &directory, &executable)?;
    let mut items = names(table, &content);
    if is_copied {
        items.insert(0, itself());
    }
    install_items(request, vec![(directory, items)], Some(&executable))
}

/// How the names are made: whether the executable has to be copied first, and what each name is.
fn way(request: &Request, directory: &InstallDirectory, executable: &Executable) -> Result<(bool, Content)> {
    if request.links == Links::InPlace {
        if !directory.is_in_root(&executable.path) {
            let path = executable.path.as_os_str().as_bytes();
            return Err(refused([b"links would lead out of the root, to ", path].concat()));
        }
        let target = plan::relative(&directory.real, &executable.path).into_os_string().into_vec();
        return Ok((false, Content::Link(c_string(target))));
    }
    let own_name = executable.path.file_name().unwrap_or(OsStr::new(SUITE));
    let is_here = executable.path.parent() == Some(&directory.real);
    let is_linked_here = request.links == Links::Symbolic && directory.leads_to(&c_string(SUITE), executable);
    let name = c_string(if is_here { own_name.as_bytes() } else { SUITE.as_bytes() });
    let content = match request.links {
        Links::Hard => Content::HardLink(name),
        Links::Symbolic | Links::InPlace => Content::Link(name),
    };
    Ok((!is_here && !is_linked_here, content))
}

/// `--uninstall`.
fn uninstall(request: &Request, table: &[Applet]) -> Result {
    let directory = open(request)?;
    let mut items = names(table, &Content::Link(c_string(SUITE)));
    // The executable is the last, so that no name leads to nothing if another cannot be removed.
    items.push(itself());
    remove_items(request, vec![(directory, items)])
}

/// The sections of the manual.
fn sections(pages: &[Page]) -> Vec<&'static str> {
    let mut sections: Vec<&str> = pages.iter().map(|page| page.section).collect();
    sort::sort(&mut sections);
    sections.dedup();
    sections
}

/// The pages of a section as items.
fn page_items(pages: &[Page], section: &str) -> Vec<(Item, bool)> {
    let mut items = Vec::new();
    for page in pages.iter().filter(|page| page.section == section) {
        let [name, other] = page.file_names();
        let bytes = page.bytes().to_owned();
        items.push((Item { name: c_string(name), content: Content::Page(bytes.clone()) }, page.with_init));
        items.push((Item { name: c_string(other), content: Content::OtherForm(bytes) }, page.with_init));
    }
    items
}

/// `--install-man`.
fn install_pages(request: &Request, pages: &[Page]) -> Result {
    if pages.is_empty() {
        return Err(refused("this executable was built without the feature man: it has no pages"));
    }
    let make = |dir: &Path| {
        InstallDirectory::open_or_make(dir, request.root.as_deref()).while_doing(|| unable_to_open(dir))
    };
    drop(make(&request.dir)?);
    let mut lots = Vec::new();
    for section in sections(pages) {
        lots.push((make(&request.dir.join(format!("man{section}")))?, page_items(pages, section)));
    }
    install_items(request, lots, None)
}

/// `--uninstall-man`.
fn uninstall_pages(request: &Request, pages: &[Page]) -> Result {
    let mut lots = Vec::new();
    for section in sections(pages) {
        let dir = request.dir.join(format!("man{section}"));
        match InstallDirectory::open(&dir, request.root.as_deref()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            directory => {
                let directory = directory.while_doing(|| unable_to_open(&dir))?;
                // No machine boots by a page.
                let items = page_items(pages, section).into_iter().map(|(item, _)| (item, false));
                lots.push((directory, items.collect()));
            }
        }
    }
    remove_items(request, lots)
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
        .filter_map(|file| directory::read_page(&file))
        .next()
        .is_some_and(|file| plan::is_page_of_ours(&file, page.bytes()))
}
