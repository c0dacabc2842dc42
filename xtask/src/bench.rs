use std::ffi::OsString;
use std::process::ExitCode;
pub(crate) fn bench(_: &str, _: &[OsString]) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
