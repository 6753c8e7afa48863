//! Files that are there as a whole: after a crash it is the old one or the new one.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Replaces a file, or makes it: written beside its name (`.new`), synced, renamed, the folder synced. Mode 0600.
///
/// # Errors
/// The disk does not take it; then the old file is there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = Draft::new(path)?;
    draft.file.write_all(bytes)?;
    draft.publish()
}

/// A file that is not in its place yet: `.new` behind its name. What is dropped unpublished is removed.
#[derive(Debug)]
pub struct Draft<'a> {
    /// To be written to.
    pub file: File,
    draft: PathBuf,
    path: &'a Path,
}

impl<'a> Draft<'a> {
    /// Begins one, with mode 0600, in the place of one that a crash has left.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn new(path: &'a Path) -> io::Result<Self> {
        let draft = path.with_file_name([path.file_name().unwrap_or_default(), ".new".as_ref()].into_iter().collect::<OsString>());
        let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
        Ok(Self { file, draft, path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.draft
    }

    /// Puts it in the place of the old file, synced.
    ///
    /// # Errors
    /// The disk does not take it; then the old file is there.
    pub fn publish(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.draft, self.path)?;
        File::open(self.path.parent().unwrap_or(self.path))?.sync_all()
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // After `publish` it is gone already.
        let _ = fs::remove_file(&self.draft);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_a_crash_left_of_a_draft_is_no_obstacle_and_nothing_of_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        fs::write(folder.path().join("state.json.new"), "a longer draft that was torn").unwrap();
        for text in ["old", "new"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let nowhere = folder.path().join("gone/state.json");
        assert_eq!(replace(&nowhere, b"x").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
