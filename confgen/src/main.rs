//! `fairlead-confgen`: the companion of the agent on edge nodes.

use std::process::ExitCode;

use clap::Parser as _;
use confgen::commands::{Arguments, run, status_of};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("fairlead-confgen: {error:#}");
            ExitCode::from(status_of(&error))
        }
    }
}
