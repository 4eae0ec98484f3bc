//! The directory of recordings, and that nothing outside of it is opened whatever a path says.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::Serialize;

/// Longest path within the directory, in bytes.
const MAX_PATH_BYTES: usize = 1024;

/// Files listed at most, and how deep directories are looked into.
const MAX_LISTED: usize = 10_000;
const MAX_DEPTH: usize = 8;

/// What is listed: the endings of MP4 files.
const ENDINGS: [&str; 3] = ["mp4", "m4v", "mov"];

/// Why a recording was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The path leads out of the directory, or is none.
    #[error("`{0}` is no path within the directory of recordings; name a file relative to it")]
    Path(String),
    /// There is no such file.
    #[error("there is no recording `{0}`")]
    Missing(String),
    /// It is a directory, a device, a pipe.
    #[error("`{0}` is not a regular file")]
    NotAFile(String),
    /// The system says no.
    #[error("cannot open the recording `{path}`: {source}")]
    Open {
        /// Which.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A recording in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recording {
    /// Path within the directory.
    pub path: String,
    /// Length in bytes.
    pub bytes: u64,
    /// When it was last written, in seconds since 1970.
    pub modified_s: u64,
}

/// The directory that recordings are in; clones name the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recordings {
    directory: PathBuf,
}

impl Recordings {
    /// Recordings in `directory`, which need not exist yet.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Opens a recording for reading. The kernel sees to it that neither `..` nor a symbolic link
    /// leads out of the directory (openat2, `RESOLVE_BENEATH`).
    ///
    /// # Errors
    /// [`RecordingError`].
    pub fn open(&self, path: &str) -> Result<File, RecordingError> {
        let outside = || RecordingError::Path(path.chars().take(100).collect());
        let is_plain = Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if path.is_empty() || path.len() > MAX_PATH_BYTES || path.contains('\0') || !is_plain {
            return Err(outside());
        }
        let failed = |errno: Errno| match errno {
            Errno::NOENT | Errno::NOTDIR => RecordingError::Missing(path.to_owned()),
            Errno::XDEV | Errno::LOOP => outside(),
            errno => RecordingError::Open {
                path: path.to_owned(),
                source: errno.into(),
            },
        };
        let directory = rustix::fs::openat(
            CWD,
            &self.directory,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(failed)?;
        // Non-blocking: a pipe would be waited for before it can be refused.
        let file = rustix::fs::openat2(
            &directory,
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        )
        .map_err(failed)?;
        let file = File::from(file);
        match file.metadata() {
            Ok(metadata) if metadata.is_file() => Ok(file),
            Ok(_) => Err(RecordingError::NotAFile(path.to_owned())),
            Err(source) => Err(RecordingError::Open {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// All MP4 files in the directory and below, the latest first. Links are not followed.
    #[must_use]
    pub fn list(&self) -> Vec<Recording> {
        let mut all = Vec::new();
        self.list_into(&self.directory, 0, &mut all);
        all.sort_by(|a: &Recording, b| b.modified_s.cmp(&a.modified_s).then(a.path.cmp(&b.path)));
        all
    }

    fn list_into(&self, directory: &Path, depth: usize, all: &mut Vec<Recording>) {
        let Ok(entries) = std::fs::read_dir(directory) else {
            return;
        };
        for entry in entries.flatten() {
            if all.len() >= MAX_LISTED {
                return;
            }
            // That of the entry itself: of a link, not of what it leads to.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let path = entry.path();
            if metadata.is_dir() && depth < MAX_DEPTH {
                self.list_into(&path, depth + 1, all);
            } else if metadata.is_file() && is_mp4(&path) {
                all.extend(self.listed(&path, &metadata));
            }
        }
    }

    fn listed(&self, path: &Path, metadata: &std::fs::Metadata) -> Option<Recording> {
        let since_1970 = metadata
            .modified()
            .ok()
            .and_then(|modified| modified.duration_since(std::time::UNIX_EPOCH).ok());
        Some(Recording {
            path: path
                .strip_prefix(&self.directory)
                .ok()?
                .to_str()?
                .to_owned(),
            bytes: metadata.len(),
            modified_s: since_1970.map_or(0, |duration| duration.as_secs()),
        })
    }
}

fn is_mp4(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| {
        ENDINGS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(ending))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is the failed test
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directories() -> (tempfile::TempDir, Recordings) {
        let all = tempfile::tempdir().unwrap();
        let inside = all.path().join("recordings");
        std::fs::create_dir_all(inside.join("deeper")).unwrap();
        std::fs::write(all.path().join("secret.mp4"), b"secret").unwrap();
        std::fs::write(inside.join("a.mp4"), b"a").unwrap();
        std::fs::write(inside.join("deeper/b.MOV"), b"bb").unwrap();
        std::fs::write(inside.join("notes.txt"), b"no").unwrap();
        (all, Recordings::new(inside))
    }

    #[test]
    fn recordings_are_opened_by_their_path_within_the_directory() {
        let (_all, recordings) = directories();
        assert_eq!(
            recordings.open("a.mp4").unwrap().metadata().unwrap().len(),
            1
        );
        assert_eq!(
            recordings
                .open("deeper/b.MOV")
                .unwrap()
                .metadata()
                .unwrap()
                .len(),
            2
        );
        assert!(matches!(
            recordings.open("c.mp4"),
            Err(RecordingError::Missing(_))
        ));
        assert!(matches!(
            recordings.open("deeper"),
            Err(RecordingError::NotAFile(_))
        ));
    }

    #[test]
    fn no_path_leaves_the_directory() {
        let (all, recordings) = directories();
        let secret = all.path().join("secret.mp4");
        symlink(&secret, recordings.directory().join("absolute.mp4")).unwrap();
        symlink("../secret.mp4", recordings.directory().join("relative.mp4")).unwrap();
        symlink("..", recordings.directory().join("up")).unwrap();
        for path in [
            "../secret.mp4",
            "deeper/../../secret.mp4",
            secret.to_str().unwrap(),
            "absolute.mp4",
            "relative.mp4",
            "up/secret.mp4",
            "",
            "a.mp4\0",
        ] {
            let opened = recordings.open(path);
            assert!(
                matches!(opened, Err(RecordingError::Path(_))),
                "{path}: {opened:?}"
            );
        }
    }

    #[test]
    fn a_link_that_stays_inside_is_followed() {
        let (_all, recordings) = directories();
        symlink("deeper/b.MOV", recordings.directory().join("latest.mp4")).unwrap();
        assert_eq!(
            recordings
                .open("latest.mp4")
                .unwrap()
                .metadata()
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn the_list_has_the_mp4_files_only_and_no_links() {
        let (all, recordings) = directories();
        symlink(all.path(), recordings.directory().join("everything")).unwrap();
        let mut paths: Vec<_> = recordings
            .list()
            .into_iter()
            .map(|found| found.path)
            .collect();
        paths.sort();
        assert_eq!(paths, ["a.mp4", "deeper/b.MOV"]);
    }
}
