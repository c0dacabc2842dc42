//! Settings of this network namespace.

use std::io;
use std::path::PathBuf;

/// Value of a setting named as in `net.ipv4.ip_forward`; `None` where the kernel has none.
///
/// # Errors
/// Where it cannot be read.
pub fn get(name: &str) -> io::Result<Option<String>> {
    match std::fs::read_to_string(path(name)) {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Changes a setting.
///
/// # Errors
/// Where the kernel refuses the value.
pub fn set(name: &str, value: &str) -> io::Result<()> {
    std::fs::write(path(name), value)
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name.replace('.', "/"))
}
