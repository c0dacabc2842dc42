//! The CNI plugin: gives a pod an interface, addresses and routes, and takes them back.
//!
//! Environment and standard input become a [`request::Request`]; [`plan`] says which steps an ADD
//! takes; [`add`] takes them and undoes them where one fails; [`result`] is the answer in the
//! version that was asked for. Leases are kept by [`store`]. What is pure: `request` and what it
//! is made of, `choose`, `plan`, `result`, `message`.

pub mod add;
pub mod agent;
pub mod check;
pub mod choose;
pub mod config;
pub mod delete;
pub mod environment;
pub mod error;
pub mod message;
pub mod name;
pub mod namespace;
pub mod netlink;
pub mod plan;
pub mod range;
pub mod rcu;
pub mod reclaim;
pub mod repair;
pub mod request;
pub mod result;
pub mod status;
pub mod store;
pub mod version;

use std::io;

use serde_json::{Value, json};

use error::{CniError, Code};
use request::Request;
use version::Version;

/// What goes to standard output, and how the process ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Nothing for the commands that answer by their exit code alone.
    pub output: Option<Value>,
    /// Whether the exit code is 0.
    pub succeeded: bool,
}

/// Answers one invocation: variables of the environment, and standard input.
pub fn answer(variable: &dyn Fn(&str) -> Option<String>, input: io::Result<Vec<u8>>) -> Answer {
    let mut version = Version::NEWEST;
    let outcome = read(input)
        .and_then(|bytes| request::parse(variable, &bytes, &mut version))
        .and_then(|request| serve(request, version));
    match outcome {
        Ok(output) => Answer {
            output,
            succeeded: true,
        },
        Err(error) => Answer {
            output: Some(error.to_json(version)),
            succeeded: false,
        },
    }
}

fn read(input: io::Result<Vec<u8>>) -> Result<Vec<u8>, CniError> {
    input.map_err(|error| {
        CniError::new(
            Code::Io,
            "the network configuration cannot be read from standard input",
            error,
        )
    })
}

fn serve(request: Request, version: Version) -> Result<Option<Value>, CniError> {
    match request {
        Request::Add(request) => add::add(&request).map(|made| Some(made.to_json(version))),
        Request::Delete(request) => delete::delete(&request).map(|()| None),
        Request::Check(request) => check::check(&request).map(|()| None),
        Request::Collect(request) => delete::collect(&request).map(|()| None),
        Request::Status(config) => status::status(&config).map(|()| None),
        Request::Version => Ok(Some(json!({
            "cniVersion": version,
            "supportedVersions": Version::ALL,
        }))),
    }
}
