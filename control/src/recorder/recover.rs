//! On start: finds the recordings that a crash left open, checks them, cuts off what is not whole,
//! and closes them.
//!
//! Called once, before anything is recorded. It must never touch a file that somebody writes: the
//! lock of its marker says so.

use std::io;
use std::path::Path;

use super::path::{Directory, MARKER_SUFFIX, NewFile};
use super::scan::{Scan, set_duration};

/// Directories deeper than this are not looked into.
const MAX_DEPTH: usize = 16;

/// A file that was left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Its path, relative to the recordings directory.
    pub path: String,
    /// What is there now; nothing if not even the head was whole, and the file was removed.
    pub kept_bytes: u64,
    /// What was cut off.
    pub cut_bytes: u64,
    /// Whole fragments in it.
    pub fragments: u64,
}

/// Closes all that was left open.
///
/// # Errors
/// If the directory cannot be read. A file that cannot be closed is logged, and left as it is.
pub fn recover(directory: &Directory) -> io::Result<Vec<Recovered>> {
    let mut left = Vec::new();
    if !directory.path().exists() {
        return Ok(Vec::new());
    }
    find(directory.path(), &mut String::new(), 0, &mut left)?;
    let mut recovered = Vec::new();
    for path in left {
        match close(directory, &path) {
            Ok(Some(one)) => {
                tracing::warn!(
                    path,
                    kept_bytes = one.kept_bytes,
                    cut_bytes = one.cut_bytes,
                    fragments = one.fragments,
                    "closed a recording that a crash had left open"
                );
                recovered.push(one);
            }
            Ok(None) => {}
            Err(error) => tracing::error!(path, %error, "cannot close a recording left open"),
        }
    }
    Ok(recovered)
}

/// The files that have a marker, by path.
fn find(root: &Path, at: &mut String, depth: usize, left: &mut Vec<String>) -> io::Result<()> {
    for entry in std::fs::read_dir(root.join(at.as_str()))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let before = at.len();
        if !at.is_empty() {
            at.push('/');
        }
        let kind = entry.file_type()?;
        if kind.is_dir() && depth < MAX_DEPTH && !name.starts_with('.') {
            at.push_str(&name);
            find(root, at, depth + 1, left)?;
        } else if kind.is_file()
            && let Some(name) = name
                .strip_prefix('.')
                .and_then(|n| n.strip_suffix(MARKER_SUFFIX))
        {
            left.push(format!("{at}{name}"));
        }
        at.truncate(before);
    }
    Ok(())
}

fn close(directory: &Directory, path: &str) -> io::Result<Option<Recovered>> {
    let (parent, name) = match path.rsplit_once('/') {
        Some((parent, name)) => (Some(parent), name),
        None => (None, path),
    };
    let Some(NewFile { file, marker }) = directory.adopt(parent, name)? else {
        return Ok(None);
    };
    let len = file.metadata()?.len();
    let (mut kept_bytes, mut fragments) = (0, 0);
    if let Some(mut scan) = Scan::open(&file)? {
        let mut duration = 0;
        while let Some(fragment) = scan.next()? {
            fragments += 1;
            duration = duration.max(super::finish::movie_end(&scan.moov, &fragment.moof));
        }
        kept_bytes = scan.whole_len();
        set_duration(&file, &scan, duration)?;
    }
    if fragments == 0 {
        // Nothing was recorded: such a file plays nowhere.
        kept_bytes = 0;
        std::fs::remove_file(directory.path().join(path))?;
    } else {
        file.set_len(kept_bytes)?;
        file.sync_data()?;
    }
    if let Some(marker) = marker {
        marker.remove()?;
    }
    Ok(Some(Recovered {
        path: path.to_owned(),
        kept_bytes,
        cut_bytes: len.saturating_sub(kept_bytes),
        fragments,
    }))
}
