//! What an import does to each file: it writes what it wrote before, and keeps what people changed. Without I/O.
//!
//! | wanted | written before | found                | what follows                               |
//! |--------|----------------|----------------------|--------------------------------------------|
//! | yes    | any            | as wanted            | nothing                                    |
//! | yes    | any            | no service directory | it is created                              |
//! | yes    | no             | no file              | it is created                              |
//! | yes    | yes            | no file              | kept: somebody removed it                  |
//! | yes    | yes            | as written before    | it is updated                              |
//! | yes    | yes or no      | something else       | kept: somebody changed or made it          |
//! | no     | yes            | as written before    | it is removed, with `--prune`              |
//! | no     | yes            | something else       | kept: somebody changed it                  |
//! | no     | yes            | no file              | it is forgotten                            |

/// The first line of the file that lists what was written.
const HEAD: &[u8] = b"svctl import 1";

/// Tells a file from others: a checksum of its content, and of whether it is executable. Nobody is to be kept from making
/// another file with the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checksum(u64);

impl Checksum {
    /// That of a file. This is FNV-1a.
    pub(super) fn of(content: &[u8], is_executable: bool) -> Self {
        const START: u64 = 0xcbf2_9ce4_8422_2325;
        const FACTOR: u64 = 0x0100_0000_01b3;
        let add = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(FACTOR);
        Checksum(content.iter().chain(&[u8::from(is_executable)]).fold(START, add))
    }
}

/// What is at the place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// There is not even the directory of the service.
    NoService,
    /// The service has no such file.
    NoFile,
    /// A regular file.
    File(Checksum),
    /// Something else, or something that cannot be read.
    Other,
}

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// It is as it is to be.
    Nothing,
    Create,
    Update,
    /// It is kept, since it is not as it was written.
    Keep(Why),
    Remove,
    /// It is neither wanted nor there.
    Forget,
}

/// Why a file is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody changed it since it was written.
    Changed,
    /// Somebody removed it since it was written.
    Removed,
    /// Somebody else wrote it.
    Foreign,
}

/// What to do to a file, from the table at the head.
pub(super) fn decide(wanted: Option<Checksum>, written: Option<Checksum>, found: Found) -> Act {
    match (wanted, written, found) {
        (Some(wanted), _, Found::File(found)) if wanted == found => Act::Nothing,
        (Some(_), _, Found::NoService) | (Some(_), None, Found::NoFile) => Act::Create,
        (Some(_), Some(_), Found::NoFile) => Act::Keep(Why::Removed),
        (Some(_), Some(written), Found::File(found)) if written == found => Act::Update,
        (None, Some(written), Found::File(found)) if written == found => Act::Remove,
        (None, _, Found::NoService | Found::NoFile) => Act::Forget,
        (_, Some(_), Found::File(_) | Found::Other) => Act::Keep(Why::Changed),
        (_, None, Found::File(_) | Found::Other) => Act::Keep(Why::Foreign),
    }
}

/// What the line begins with that names the file of variables.
const VARIABLES: &[u8] = b"variables ";

/// The files that imports wrote, by their paths in the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    files: Vec<(Vec<u8>, Checksum)>,
    /// The file of variables that the services read, by its path from the directory of the Procfile.
    variables: Option<Vec<u8>>,
}

impl Manifest {
    /// Reads it; lines that are not understood are skipped, so that what they name counts as somebody else's.
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut manifest = Manifest::default();
        let mut lines = text.split(|&byte| byte == b'\n');
        if lines.next() != Some(HEAD) {
            return manifest;
        }
        for line in lines {
            if let Some(path) = line.strip_prefix(VARIABLES) {
                manifest.set_variables(path);
            } else if let Some((sum, path)) = line.split_at_checked(16)
                && let Some(path) = path.strip_prefix(b" ").filter(|path| is_path(path))
                && let Some(sum) =
                    std::str::from_utf8(sum).ok().and_then(|sum| u64::from_str_radix(sum, 16).ok())
            {
                manifest.set(path, Checksum(sum));
            }
        }
        manifest
    }

    /// Its text.
    pub(super) fn text(&self) -> Vec<u8> {
        let mut text = [HEAD, b"\n"].concat();
        if let Some(path) = &self.variables {
            text.extend_from_slice(&[VARIABLES, path, b"\n"].concat());
        }
        for (path, sum) in &self.files {
            text.extend_from_slice(format!("{:016x} ", sum.0).as_bytes());
            text.extend_from_slice(path);
            text.push(b'\n');
        }
        text
    }

    /// The file of variables that the services read, by its path from the directory of the Procfile.
    pub(super) fn variables(&self) -> Option<&[u8]> {
        self.variables.as_deref()
    }

    /// Notes the file of variables. A path that needs more than a line is not noted.
    pub(super) fn set_variables(&mut self, path: &[u8]) {
        self.variables = Some(path.to_vec()).filter(|path| !path.is_empty() && !path.contains(&b'\n'));
    }

    /// What was written at a path.
    pub(super) fn get(&self, path: &[u8]) -> Option<Checksum> {
        self.files.iter().find(|(its, _)| its == path).map(|(_, sum)| *sum)
    }

    /// Notes what was written at a path.
    pub(super) fn set(&mut self, path: &[u8], sum: Checksum) {
        match self.files.iter_mut().find(|(its, _)| its == path) {
            Some(entry) => entry.1 = sum,
            None => self.files.push((path.to_vec(), sum)),
        }
    }

    /// Forgets a path.
    pub(super) fn remove(&mut self, path: &[u8]) {
        if let Some(place) = self.files.iter().position(|(its, _)| its == path) {
            self.files.remove(place);
        }
    }

    /// All paths.
    pub(super) fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.files.iter().map(|(path, _)| path.as_slice())
    }

    /// The services that have a path here, each once.
    pub(super) fn services(&self) -> Vec<&[u8]> {
        let mut services = Vec::new();
        for path in self.paths() {
            let service = service_of(path);
            if !services.contains(&service) {
                services.push(service);
            }
        }
        services
    }
}

/// The service of a file.
pub(super) fn service_of(path: &[u8]) -> &[u8] {
    path.split(|&byte| byte == b'/').next().unwrap_or_default()
}

/// Whether a path is one that an import writes: a manifest that somebody else wrote cannot make us remove other files.
fn is_path(path: &[u8]) -> bool {
    let mut parts = path.splitn(2, |&byte| byte == b'/');
    parts.next().is_some_and(super::procfile::is_name)
        && parts.next().is_some_and(|file| super::FILES.iter().any(|known| known.as_bytes() == file))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: Checksum = Checksum(1);
    const NEW: Checksum = Checksum(2);
    const THEIRS: Found = Found::File(Checksum(3));

    #[test]
    fn what_people_changed_is_kept() {
        for (wanted, written, found, expected) in [
            (Some(NEW), None, Found::NoService, Act::Create),
            (Some(NEW), Some(OLD), Found::NoService, Act::Create),
            (Some(NEW), None, Found::NoFile, Act::Create),
            (Some(NEW), Some(OLD), Found::NoFile, Act::Keep(Why::Removed)),
            (Some(NEW), Some(OLD), Found::File(OLD), Act::Update),
            (Some(NEW), Some(OLD), Found::File(NEW), Act::Nothing),
            (Some(NEW), None, Found::File(NEW), Act::Nothing),
            (Some(NEW), Some(OLD), THEIRS, Act::Keep(Why::Changed)),
            (Some(NEW), Some(OLD), Found::Other, Act::Keep(Why::Changed)),
            (Some(NEW), None, THEIRS, Act::Keep(Why::Foreign)),
            (None, Some(OLD), Found::File(OLD), Act::Remove),
            (None, Some(OLD), THEIRS, Act::Keep(Why::Changed)),
            (None, Some(OLD), Found::NoFile, Act::Forget),
        ] {
            assert_eq!(decide(wanted, written, found), expected, "{wanted:?} {written:?} {found:?}");
        }
    }

    #[test]
    fn a_checksum_knows_the_mode() {
        assert_ne!(Checksum::of(b"a", true), Checksum::of(b"a", false));
        assert_ne!(Checksum::of(b"a", true), Checksum::of(b"b", true));
    }

    #[test]
    fn a_manifest_names_nothing_but_files_of_services() {
        let text = b"svctl import 1\n0000000000000001 web/run\n0000000000000002 ../x/run\n0000000000000003 a/supervise\n\
                     x\n0000000000000004 .a/run\n0000000000000005 b/log/run\n";
        let manifest = Manifest::parse(text);
        assert_eq!(manifest.paths().collect::<Vec<_>>(), [&b"web/run"[..], b"b/log/run"]);
        assert_eq!(manifest.services(), [&b"web"[..], b"b"]);
        assert_eq!(Manifest::parse(b"other\n0000000000000001 web/run\n"), Manifest::default());
    }

    proptest! {
        #[test]
        fn a_manifest_reads_back(entries in prop::collection::vec(("[a-z_][a-z0-9.@+-]{0,8}", any::<u64>()), 0..6)) {
            let mut manifest = Manifest::default();
            for (name, sum) in &entries {
                manifest.set(format!("{name}/run").as_bytes(), Checksum(*sum));
                manifest.set_variables(format!("{name} {sum}").as_bytes());
            }
            prop_assert_eq!(Manifest::parse(&manifest.text()), manifest);
        }

        #[test]
        fn any_text_can_be_read(text: Vec<u8>) {
            let _ = Manifest::parse(&text);
        }
    }
}
