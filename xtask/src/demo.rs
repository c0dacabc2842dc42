//! `cargo xtask demo`: sets up, builds and runs `fairlead-demo`.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use crate::build::{self, Profile};
use crate::{place, run, setup};

/// Runs the demo; its exit code is ours.
pub(crate) fn demo(arguments: &[OsString]) -> Result<ExitCode> {
    setup::setup()?;
    build::build(Profile::Dev)?;
    let mut command = run::command(place::dist().join("fairlead-demo"));
    Ok(run::exit_code(run::status(command.args(arguments))?))
}
