//! Runs other programs: at the root of the workspace, without what `cargo xtask` put into the
//! environment, and with an error that shows the command.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::place;

/// A command that runs at the root of the workspace.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(place::root())
        // The agent's build script and target/dist are below it.
        .env("CARGO_TARGET_DIR", place::target())
        .env("PATH", search_path());
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_outer_cargo) {
            command.env_remove(name);
        }
    }
    command
}

/// PATH, and after it where `cargo install` puts bpf-linker, which Debian's cargo does not add.
fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let bin = home.map(|home| home.join("bin"));
    // A directory that cannot be part of PATH is left out of it.
    env::join_paths(env::split_paths(&path).chain(bin)).unwrap_or(path)
}

/// Whether `cargo run` set this for xtask, where it would mislead what xtask runs.
fn is_of_outer_cargo(name: &str) -> bool {
    // What a user may have set for good reason stays: CARGO_HOME, CARGO_TERM_COLOR, CARGO_NET_….
    const PREFIXES: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];
    const NAMES: [&str; 6] = [
        "CARGO",
        "CARGO_BIN_NAME",
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "OUT_DIR",
        // rustup's cargo exports the libraries of its toolchain, which a second toolchain's rustc
        // would load.
        "LD_LIBRARY_PATH",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// `cargo` with the toolchain of the workspace.
pub(crate) fn cargo() -> Command {
    command("cargo")
}

/// Runs a command that has to succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    ensure!(status.success(), "{}: {status}", shown(command));
    Ok(())
}

/// Runs a command and says how it ended.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command
        .status()
        .with_context(|| format!("{}: cannot be started", shown(command)))
}

/// Does something that takes a while, with a line before it and, once done, one with how long it took.
pub(crate) fn phase<T>(name: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    anstream::println!("--- {name}");
    let began = Instant::now();
    let result = act()?;
    let took = began.elapsed().as_secs_f64();
    anstream::println!("--- {name}: done in {took:.1} s");
    Ok(result)
}

/// Standard output of a command that has to succeed; its standard error is not shown.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{}: cannot be started", shown(command)))?;
    ensure!(
        output.status.success(),
        "{}: {}: {}",
        shown(command),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The exit code with which to pass on how a program ended.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let arguments = command.get_args().map(OsStr::to_string_lossy);
    [command.get_program().to_string_lossy()]
        .into_iter()
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::is_of_outer_cargo;

    #[test]
    fn settings_of_the_user_reach_the_inner_cargo() {
        for (name, harmful) in [
            ("CARGO_MANIFEST_DIR", true),
            ("CARGO_PKG_NAME", true),
            ("CARGO", true),
            ("CARGO_HOME", false),
            ("CARGO_NET_OFFLINE", false),
            ("CARGO_TARGET_DIR", false),
            ("RUSTFLAGS", false),
            ("PATH", false),
        ] {
            assert_eq!(is_of_outer_cargo(name), harmful, "{name}");
        }
    }
}
