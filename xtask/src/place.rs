//! Where things are in the checkout.

use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a directory of the workspace")
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// Where the binaries are gathered.
pub(crate) fn dist() -> PathBuf {
    target().join("dist")
}
