//! The container's network namespace, and the way into it and back.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{CniError, Code};

const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace that is not the caller's.
#[derive(Debug)]
pub struct Namespace {
    it: File,
    own: File,
}

impl Namespace {
    /// Opens the namespace of `CNI_NETNS`.
    ///
    /// # Errors
    /// Where it is not there, is none, or is the node's own.
    pub fn open(path: &Path) -> Result<Self, CniError> {
        let invalid = |details: &str| {
            let msg = format!("CNI_NETNS is {}", path.display());
            CniError::new(Code::InvalidEnvironment, msg, details)
        };
        let it = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(CniError::new(
                    Code::UnknownContainer,
                    format!("CNI_NETNS is {}, which does not exist", path.display()),
                    "the container has ended",
                ));
            }
            Err(error) => return Err(invalid(&error.to_string())),
        };
        let own = File::open(OWN)
            .map_err(|error| CniError::file(Path::new(OWN), "cannot be opened", &error))?;
        let identity = |file: &File| file.metadata().map(|of| (of.dev(), of.ino()));
        match (identity(&it), identity(&own)) {
            (Ok(it), Ok(own)) if it == own => {
                return Err(invalid(
                    "that is the node's own; a pod with hostNetwork needs no plugin",
                ));
            }
            _ => {}
        }
        let namespace = Self { it, own };
        match namespace.within(|| ()) {
            Ok(()) => Ok(namespace),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                Err(invalid("that is no network namespace"))
            }
            Err(error) => Err(invalid(&error.to_string())),
        }
    }

    /// Its descriptor.
    pub fn as_raw_fd(&self) -> RawFd {
        self.it.as_raw_fd()
    }

    /// Does something in the namespace, with the calling thread.
    ///
    /// # Errors
    /// Where the kernel refuses the way in or back.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(self.it.as_fd(), network)?;
        let done = work();
        move_into_link_name_space(self.own.as_fd(), network)?;
        Ok(done)
    }
}
