//! `fairlead-cni`: the CNI plugin (CNI specification 1.1.0).
//!
//! This build answers VERSION and tells, in the specification's error form, that it makes no pod
//! network: so a runtime that is pointed at it by mistake says why, and leaves no half-made pod.

use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::{Value, json};

const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const NEWEST: &str = "1.1.0";
/// "Invalid necessary environment variables" (specification, section "Error").
const INVALID_ENVIRONMENT: u32 = 4;
/// Codes from 100 on are a plugin's own.
const NO_POD_NETWORK: u32 = 100;

fn main() -> ExitCode {
    let (answer, code) = answer(env::var("CNI_COMMAND").ok().as_deref());
    match writeln!(io::stdout(), "{answer}") {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What to print, and how to end.
fn answer(command: Option<&str>) -> (Value, ExitCode) {
    match command {
        Some("VERSION") => (
            json!({"cniVersion": NEWEST, "supportedVersions": VERSIONS}),
            ExitCode::SUCCESS,
        ),
        Some(command @ ("ADD" | "DEL" | "CHECK" | "GC" | "STATUS")) => {
            let details = "keep the cluster's present CNI plugin in /etc/cni/net.d; fairlead-agent works beside it";
            (
                error(
                    NO_POD_NETWORK,
                    &format!("{command}: this build of fairlead-cni makes no pod network"),
                    details,
                ),
                ExitCode::FAILURE,
            )
        }
        Some(other) => {
            let msg = format!("CNI_COMMAND is `{other}`");
            (
                error(
                    INVALID_ENVIRONMENT,
                    &msg,
                    "expected ADD, DEL, CHECK, GC, STATUS or VERSION",
                ),
                ExitCode::FAILURE,
            )
        }
        None => {
            let details =
                "this program is run by a container runtime, not by hand; see CNI_COMMAND=VERSION";
            (
                error(INVALID_ENVIRONMENT, "CNI_COMMAND is not set", details),
                ExitCode::FAILURE,
            )
        }
    }
}

fn error(code: u32, msg: &str, details: &str) -> Value {
    json!({"cniVersion": NEWEST, "code": code, "msg": msg, "details": details})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_answered_and_everything_else_is_an_error_with_a_remedy() {
        let (version, _) = answer(Some("VERSION"));
        assert_eq!(
            version["supportedVersions"].as_array().map(Vec::len),
            Some(VERSIONS.len())
        );
        for (command, code) in [
            (Some("ADD"), 100),
            (Some("GC"), 100),
            (Some("add"), 4),
            (None, 4),
        ] {
            let (error, _) = answer(command);
            assert_eq!(error["code"], code, "{command:?}");
            assert!(
                error["details"]
                    .as_str()
                    .is_some_and(|details| !details.is_empty()),
                "{command:?}"
            );
        }
    }
}
