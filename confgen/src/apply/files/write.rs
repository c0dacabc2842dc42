//! Files and links that are there as a whole or not at all.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, symlink,
};
use std::path::{Path, PathBuf};

use super::FilesError;

/// Who owns what is written, and who else may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// Owner; `None` is the user of this process.
    pub user: Option<u32>,
    /// Group; `None` is the group of this process.
    pub group: Option<u32>,
    /// Mode of files that others may read.
    pub mode: u32,
    /// Mode of keys, and of configurations with keys in them.
    pub private_mode: u32,
    /// Mode of directories.
    pub directory_mode: u32,
}

impl Default for Ownership {
    fn default() -> Self {
        Self {
            user: None,
            group: None,
            mode: 0o640,
            private_mode: 0o600,
            directory_mode: 0o750,
        }
    }
}

impl Ownership {
    /// Mode of directories that hold private files alone.
    const PRIVATE_DIRECTORY_MODE: u32 = 0o700;

    fn give(&self, path: &Path) -> io::Result<()> {
        if self.user.is_some() || self.group.is_some() {
            chown(path, self.user, self.group)?;
        }
        Ok(())
    }

    fn file_mode(&self, is_private: bool) -> u32 {
        if is_private {
            self.private_mode
        } else {
            self.mode
        }
    }
}

/// Writes a new file and its content through to the disk. An existing file is an error.
pub(super) fn new_file(
    path: &Path,
    content: &[u8],
    is_private: bool,
    ownership: &Ownership,
) -> Result<(), FilesError> {
    let attempt = || {
        let mode = ownership.file_mode(is_private);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            // Nobody else reads it before it has its owner.
            .mode(mode & 0o700)
            .open(path)?;
        file.write_all(content)?;
        ownership.give(path)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.sync_all()
    };
    attempt().map_err(|error| FilesError::of("write", path, error))
}

/// Makes a directory; one that is there stays as it is.
pub(super) fn directory(
    path: &Path,
    is_private: bool,
    ownership: &Ownership,
) -> Result<(), FilesError> {
    if path.is_dir() {
        return Ok(());
    }
    let mode = if is_private {
        Ownership::PRIVATE_DIRECTORY_MODE
    } else {
        ownership.directory_mode
    };
    let attempt = || {
        DirBuilder::new()
            .recursive(true)
            .mode(mode & 0o700)
            .create(path)?;
        ownership.give(path)?;
        // The umask takes bits away at creation.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
    };
    attempt().map_err(|error| FilesError::of("make the directory", path, error))
}

/// Writes a directory's entries through to the disk: without it, a rename may not outlive a crash.
pub(super) fn sync_directory(path: &Path) -> Result<(), FilesError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| FilesError::of("sync", path, error))
}

/// Renames over whatever is there, and syncs the directory.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), FilesError> {
    std::fs::rename(from, to).map_err(|error| FilesError::of("rename to", to, error))?;
    to.parent().map_or(Ok(()), sync_directory)
}

/// Points a symbolic link elsewhere, at once for every reader.
pub(super) fn link(link: &Path, target: &Path) -> Result<(), FilesError> {
    let beside = temporary(link);
    let made = remove(&beside).and_then(|()| symlink(target, &beside));
    made.map_err(|error| FilesError::of("make the link", &beside, error))?;
    rename(&beside, link)
}

/// A name in the same directory that [`is_temporary`] knows again.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    path.with_file_name(format!("{TEMPORARY}{name}"))
}

const TEMPORARY: &str = ".fairlead-new.";

/// Whether a name is one of [`temporary`], left behind by a killed run.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// Removes a file, a link or a whole directory; what is not there is removed already.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
