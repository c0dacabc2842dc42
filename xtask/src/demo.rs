//! `cargo xtask demo`: sets up, builds and runs `fairlead-demo`.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::{Result, anyhow};

use crate::build::{self, Profile};
use crate::{place, run, setup};

/// Becomes the demo: its exit code is that of the task, and Ctrl-C reaches it alone, which then
/// takes its lab down before the shell goes on.
pub(crate) fn demo(arguments: &[OsString]) -> Result<Infallible> {
    setup::setup()?;
    build::build(Profile::Dev)?;
    let mut command = run::command(place::dist().join("fairlead-demo"));
    let error = command.args(arguments).exec();
    Err(anyhow!(error).context(format!("{}: cannot be started", run::shown(&command))))
}
