//! Where recordings lie: names that cannot leave the recordings directory, templates that make
//! them, and the marker beside a file that is being written.
//!
//! Every file of a recorder is made through [`Directory`]. It must never follow a symbolic link or
//! replace a file that is there.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, ResolveFlags};
use time::UtcDateTime;

/// What a recording's name ends in.
const SUFFIX: &str = ".mp4";

/// What that of a picture of one does.
const PICTURE_SUFFIX: &str = ".jpg";

/// What the name of a marker ends in; it begins with a dot.
pub(super) const MARKER_SUFFIX: &str = ".recording";

/// A name and its marker's must fit what file systems allow (255 bytes).
const MAX_COMPONENT_BYTES: usize = 200;

/// Longest path in bytes.
const MAX_PATH_BYTES: usize = 1024;

/// Directories in a path.
const MAX_DEPTH: usize = 16;

/// Why a path cannot be recorded to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// It has no name, or a part of it has none.
    #[error("a path has names between its slashes, none of them empty")]
    Empty,
    /// It would leave the directory, or hide.
    #[error(
        "`{0}` is no name in a path: recordings stay in their directory, and no name begins with a dot"
    )]
    Component(String),
    /// Too long.
    #[error(
        "the path is too long: at most {MAX_DEPTH} names of {MAX_COMPONENT_BYTES} bytes, {MAX_PATH_BYTES} bytes in all"
    )]
    Length,
    /// An unknown word in braces.
    #[error("`{{{0}}}` is unknown in a template: use {{stream}}, {{date}}, {{time}}, {{part}}")]
    Template(String),
}

/// A checked path below the recordings directory, ending in `.mp4` or `.jpg`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordingPath(String);

impl RecordingPath {
    /// Checks a path; `.mp4` is added if it ends otherwise.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn parse(path: &str) -> Result<Self, PathError> {
        Self::ending(path, SUFFIX)
    }

    /// Checks the path of a picture; `.jpg` is added if it ends otherwise.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn picture(path: &str) -> Result<Self, PathError> {
        Self::ending(path, PICTURE_SUFFIX)
    }

    fn ending(path: &str, suffix: &str) -> Result<Self, PathError> {
        let mut path = path.to_owned();
        if !path.ends_with(suffix) {
            path.push_str(suffix);
        }
        if path.len() > MAX_PATH_BYTES || path.split('/').count() > MAX_DEPTH {
            return Err(PathError::Length);
        }
        for component in path.split('/') {
            if component.is_empty() || component == suffix {
                return Err(PathError::Empty);
            }
            if component.starts_with('.') || component.chars().any(char::is_control) {
                return Err(PathError::Component(component.escape_debug().to_string()));
            }
            if component.len() > MAX_COMPONENT_BYTES {
                return Err(PathError::Length);
            }
        }
        Ok(Self(path))
    }

    /// The path, relative to the recordings directory.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn split(&self) -> (Option<&str>, &str) {
        match self.0.rsplit_once('/') {
            Some((parent, name)) => (Some(parent), name),
            None => (None, &self.0),
        }
    }
}

/// A path with words in braces: `{stream}`, `{date}` (2026-11-25), `{time}` (132028, both UTC),
/// `{part}` (1, 2, ...). Without `{part}`, parts after the first get `-2`, `-3` ... added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(String);

impl Template {
    /// Checks a template.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let template = Self(text.to_owned());
        template.path("stream", UNIX_EPOCH, 1)?;
        Ok(template)
    }

    /// The path of a part that begins at `now`.
    ///
    /// # Errors
    /// [`PathError`]: with this stream it is too long.
    pub fn path(
        &self,
        stream: &str,
        now: SystemTime,
        part: u32,
    ) -> Result<RecordingPath, PathError> {
        let (date, time) = date_and_time(now);
        let mut path = String::new();
        let mut rest = self.0.as_str();
        let mut has_part = false;
        while let Some((before, after)) = rest.split_once('{') {
            path.push_str(before);
            let (word, after) = after
                .split_once('}')
                .ok_or_else(|| PathError::Template(after.to_owned()))?;
            match word {
                "stream" => path.push_str(stream.trim_start_matches('.')),
                "date" => path.push_str(&date),
                "time" => path.push_str(&time),
                "part" => {
                    has_part = true;
                    path.push_str(&part.to_string());
                }
                unknown => return Err(PathError::Template(unknown.to_owned())),
            }
            rest = after;
        }
        path.push_str(rest);
        if !has_part && part > 1 {
            let stem = path.strip_suffix(SUFFIX).unwrap_or(&path);
            path = format!("{stem}-{part}");
        }
        RecordingPath::parse(&path)
    }
}

/// Date and time of day in UTC.
fn date_and_time(now: SystemTime) -> (String, String) {
    let now = UtcDateTime::from(now);
    let (year, month, day) = now.to_calendar_date();
    let (hour, minute, second) = now.time().as_hms();
    (
        format!("{year:04}-{:02}-{day:02}", u8::from(month)),
        format!("{hour:02}{minute:02}{second:02}"),
    )
}

/// The recordings directory.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
    /// Opened with the first file: a server that records nothing makes no directory.
    root: Arc<OnceLock<OwnedFd>>,
}

/// A file that nobody had before, and its marker.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) file: File,
    pub(super) marker: Option<Marker>,
}

/// Says that a file is being written, for as long as it is there: one whose lock nobody holds was
/// left by a crash.
#[derive(Debug)]
pub(super) struct Marker {
    parent: OwnedFd,
    name: String,
    /// Holds the lock.
    _lock: OwnedFd,
}

impl Marker {
    /// The file is complete.
    pub(super) fn remove(self) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(
            &self.parent,
            &self.name,
            AtFlags::empty(),
        )?)
    }
}

impl Directory {
    /// The directory at `path`; it is made with the first file.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            root: Arc::default(),
        }
    }

    fn root(&self) -> io::Result<&OwnedFd> {
        if let Some(root) = self.root.get() {
            return Ok(root);
        }
        std::fs::create_dir_all(&self.path)?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.path, flags, Mode::empty())?;
        Ok(self.root.get_or_init(|| root))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is something with this name.
    #[must_use]
    pub fn has(&self, path: &RecordingPath) -> bool {
        let at = self.path.join(path.as_str());
        std::fs::symlink_metadata(at).is_ok()
    }

    /// Makes a file with its marker, and the directories it lies in.
    pub(super) fn create(&self, path: &RecordingPath) -> io::Result<NewFile> {
        let (parent, name) = path.split();
        let parent = self.parent(parent)?;
        let marker = marker_name(name);
        let lock = open_beneath(&parent, &marker, OFlags::CREATE | OFlags::RDWR)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let marker = Marker {
            parent: parent.try_clone()?,
            name: marker,
            _lock: lock,
        };
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
        match open_beneath(&parent, name, flags) {
            Ok(file) => Ok(NewFile {
                file: file.into(),
                marker: Some(marker),
            }),
            Err(error) => {
                marker.remove()?;
                Err(error)
            }
        }
    }

    /// Writes a whole file at once, and the directories it lies in. One that is there is not replaced.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, path: &RecordingPath, content: &[u8]) -> io::Result<()> {
        let (parent, name) = path.split();
        let parent = self.parent(parent)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let mut file = File::from(open_beneath(&parent, name, flags)?);
        file.write_all(content)
    }

    /// The lock of a marker that was found; `None` if somebody is writing the file.
    pub(super) fn adopt(&self, parent: Option<&str>, name: &str) -> io::Result<Option<NewFile>> {
        let parent = self.parent(parent)?;
        let marker = marker_name(name);
        let lock = open_beneath(&parent, &marker, OFlags::RDWR)?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        let marker = Marker {
            parent: parent.try_clone()?,
            name: marker,
            _lock: lock,
        };
        match open_beneath(&parent, name, OFlags::RDWR) {
            Ok(file) => Ok(Some(NewFile {
                file: file.into(),
                marker: Some(marker),
            })),
            // The crash came between the two.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                marker.remove()?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn parent(&self, path: Option<&str>) -> io::Result<OwnedFd> {
        let mut at = self.root()?.try_clone()?;
        for component in path.iter().flat_map(|path| path.split('/')) {
            match rustix::fs::mkdirat(&at, component, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            at = open_beneath(&at, component, OFlags::DIRECTORY | OFlags::RDONLY)?;
        }
        Ok(at)
    }
}

/// The marker of the file with this name.
fn marker_name(name: &str) -> String {
    format!(".{name}{MARKER_SUFFIX}")
}

fn open_beneath(at: &OwnedFd, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let mode = match flags.contains(OFlags::CREATE) {
        true => Mode::from_raw_mode(0o666),
        false => Mode::empty(),
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(rustix::fs::openat2(
        at,
        name,
        flags | OFlags::CLOEXEC,
        mode,
        resolve,
    )?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test's unwrap is an assertion

    use super::*;

    #[test]
    fn no_path_leaves_the_directory() {
        for bad in [
            "",
            "/",
            "/etc/x.mp4",
            "../x.mp4",
            "a/../b.mp4",
            "a//b.mp4",
            ".hidden",
            "a/.b.mp4",
            "a/",
            "x\0.mp4",
            "x\n.mp4",
            ".mp4",
        ] {
            assert!(RecordingPath::parse(bad).is_err(), "{bad:?}");
        }
        for (good, path) in [("a", "a.mp4"), ("a/b.mp4", "a/b.mp4"), ("ä b", "ä b.mp4")] {
            assert_eq!(RecordingPath::parse(good).unwrap().as_str(), path);
        }
        assert_eq!(
            RecordingPath::parse(&"x".repeat(300)),
            Err(PathError::Length)
        );
    }

    #[test]
    fn templates_name_stream_date_and_part() {
        let at = UNIX_EPOCH + std::time::Duration::from_secs(1_709_210_096);
        let template = Template::parse("{stream}/{date}-{time}.mp4").unwrap();
        assert_eq!(
            template.path("cam", at, 1).unwrap().as_str(),
            "cam/2024-02-29-123456.mp4"
        );
        assert_eq!(
            template.path("cam", at, 3).unwrap().as_str(),
            "cam/2024-02-29-123456-3.mp4"
        );
        let numbered = Template::parse("x-{part}").unwrap();
        assert_eq!(numbered.path("cam", at, 2).unwrap().as_str(), "x-2.mp4");
        assert!(matches!(
            Template::parse("{nope}"),
            Err(PathError::Template(_))
        ));
        assert!(Template::parse("../{stream}").is_err());
        assert!(Template::parse("{stream").is_err());
    }

    #[test]
    fn a_link_out_of_the_directory_is_not_followed() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(outside.path(), inside.path().join("link")).unwrap();
        let directory = Directory::new(inside.path());
        let path = RecordingPath::parse("link/x.mp4").unwrap();
        assert!(directory.create(&path).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_is_there_is_not_replaced_and_a_live_one_is_not_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path());
        let path = RecordingPath::parse("a/x.mp4").unwrap();
        let new = directory.create(&path).unwrap();
        assert!(directory.create(&path).is_err());
        assert!(directory.adopt(Some("a"), "x.mp4").unwrap().is_none());
        new.marker.unwrap().remove().unwrap();
        assert!(directory.create(&path).is_err());
        assert!(directory.has(&path));
    }
}
