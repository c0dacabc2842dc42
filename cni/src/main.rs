//! `fairlead-cni`: the CNI plugin. What it does is in the library.

use std::env;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut stdin = io::stdin();
    let mut network = Vec::new();
    // By hand there is no configuration, and waiting for one looks like a hang.
    let read = match stdin.is_terminal() {
        true => Ok(0),
        false => stdin.read_to_end(&mut network),
    };
    let answer = cni::answer(&|name| env::var(name).ok(), read.map(|_| network));
    let written = match &answer.output {
        Some(json) => writeln!(io::stdout(), "{json}"),
        None => Ok(()),
    };
    match (written, answer.succeeded) {
        (Ok(()), true) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
