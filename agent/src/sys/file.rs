//! Files that are there in full or not at all, whenever the power goes.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Replaces a file in one step; on disk before this returns.
///
/// # Errors
/// Where its directory cannot be written; the file is as it was then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_as(path, bytes, 0o644)
}

/// The same with permissions of the file's own.
///
/// # Errors
/// Where its directory cannot be written; the file is as it was then.
pub fn replace_as(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let fresh = beside(path);
    let mut options = File::options();
    let mut file = options
        .create(true)
        .write(true)
        .truncate(true)
        .mode(mode)
        .open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    // The rename itself must survive a power cut too.
    path.parent()
        .map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// The file that [`replace`] leaves where it is interrupted.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_stays_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        for text in ["a longer first text", "second"] {
            fs::write(beside(&path), "of an interrupted write").unwrap();
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert!(!beside(&path).exists());
        }
        assert_eq!(beside(&path), directory.path().join("state.json.new"));
    }
}
