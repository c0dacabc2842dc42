//! The variables by which a runtime says what it wants.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::{CniError, Code};

/// `CNI_COMMAND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// ADD.
    Add,
    /// DEL.
    Delete,
    /// CHECK.
    Check,
    /// GC.
    Collect,
    /// STATUS.
    Status,
    /// VERSION.
    Version,
}

/// What an interface of a container is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    #[serde(rename = "containerID")]
    pub container: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
}

/// A Kubernetes Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, where the runtime says it.
    pub uid: Option<String>,
}

/// `CNI_ARGS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Whose interface it is.
    pub pod: Option<Pod>,
    /// Addresses that are asked for.
    pub addresses: Vec<IpAddr>,
}

/// Longest name of an interface (`IFNAMSIZ` less the zero).
const LONGEST_NAME: usize = 15;
const COMMANDS: [(&str, Command); 6] = [
    ("ADD", Command::Add),
    ("DEL", Command::Delete),
    ("CHECK", Command::Check),
    ("GC", Command::Collect),
    ("STATUS", Command::Status),
    ("VERSION", Command::Version),
];

type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// `CNI_COMMAND`.
///
/// # Errors
/// Where it is missing or unknown.
pub fn command(variable: Variable<'_>) -> Result<Command, CniError> {
    let Some(given) = variable("CNI_COMMAND") else {
        return Err(CniError::new(
            Code::InvalidEnvironment,
            "CNI_COMMAND is not set",
            "this program is run by a container runtime, not by hand; see CNI_COMMAND=VERSION",
        ));
    };
    COMMANDS
        .iter()
        .find(|(name, _)| *name == given)
        .map(|(_, command)| *command)
        .ok_or_else(|| {
            CniError::new(
                Code::InvalidEnvironment,
                format!("CNI_COMMAND is `{given}`"),
                "expected ADD, DEL, CHECK, GC, STATUS or VERSION",
            )
        })
}

/// The attachment that is meant.
///
/// # Errors
/// Where its variables are missing or malformed; all are named.
pub fn attachment(variable: Variable<'_>) -> Result<Attachment, CniError> {
    let value = |name| variable(name).unwrap_or_default();
    let (container, ifname) = (value("CNI_CONTAINERID"), value("CNI_IFNAME"));
    let mut wrong = Vec::new();
    if !is_identifier(&container) {
        wrong.push(format!(
            "CNI_CONTAINERID is `{container}`, expected letters, digits, `_`, `.` and `-` after a letter or digit"
        ));
    }
    if !is_interface_name(&ifname) {
        wrong.push(format!(
            "CNI_IFNAME is `{ifname}`, expected 1 to {LONGEST_NAME} bytes without `/`, `:` and spaces"
        ));
    }
    if wrong.is_empty() {
        return Ok(Attachment { container, ifname });
    }
    Err(invalid(
        &wrong.join("; "),
        "the container runtime has to set them",
    ))
}

/// `CNI_NETNS`, where it is set.
pub fn netns(variable: Variable<'_>) -> Option<PathBuf> {
    variable("CNI_NETNS")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// `CNI_NETNS`.
///
/// # Errors
/// Where it is missing.
pub fn required_netns(variable: Variable<'_>) -> Result<PathBuf, CniError> {
    netns(variable).ok_or_else(|| {
        invalid(
            "CNI_NETNS is not set",
            "expected the path of the container's network namespace",
        )
    })
}

/// `CNI_ARGS`.
///
/// # Errors
/// Where it is malformed, or has keys that are unknown and not to be ignored.
pub fn arguments(variable: Variable<'_>) -> Result<Arguments, CniError> {
    let text = variable("CNI_ARGS").unwrap_or_default();
    let (mut namespace, mut name, mut uid) = (None, None, None);
    let (mut unknown, mut ignores) = (Vec::new(), false);
    let mut addresses = Vec::new();
    for pair in text.split(';').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            invalid(
                &format!("CNI_ARGS has `{pair}`"),
                "expected KEY=VALUE;KEY=VALUE",
            )
        })?;
        let some = || Some(value.to_owned()).filter(|value| !value.is_empty());
        match key {
            "K8S_POD_NAMESPACE" => namespace = some(),
            "K8S_POD_NAME" => name = some(),
            "K8S_POD_UID" => uid = some(),
            "K8S_POD_INFRA_CONTAINER_ID" => {}
            "IgnoreUnknown" => ignores = matches!(value, "1" | "true" | "True" | "TRUE"),
            "IP" => addresses.push(address(value).ok_or_else(|| {
                invalid(&format!("CNI_ARGS has IP={value}"), "expected an address")
            })?),
            _ => unknown.push(key),
        }
    }
    if !unknown.is_empty() && !ignores {
        return Err(invalid(
            &format!("CNI_ARGS has unknown keys: {}", unknown.join(", ")),
            "known are K8S_POD_NAMESPACE, K8S_POD_NAME, K8S_POD_UID, IP and IgnoreUnknown=true",
        ));
    }
    let pod = namespace.zip(name);
    Ok(Arguments {
        pod: pod.map(|(namespace, name)| Pod {
            namespace,
            name,
            uid,
        }),
        addresses,
    })
}

/// An address, with or without a prefix length, which says nothing here.
pub fn address(text: &str) -> Option<IpAddr> {
    let plain = text.parse().ok();
    plain.or_else(|| text.parse().ok().map(|network: IpNet| network.addr()))
}

/// Names of containers and networks.
pub fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn is_interface_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len())
        && !matches!(text, "." | "..")
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

fn invalid(msg: &str, details: &str) -> CniError {
    CniError::new(Code::InvalidEnvironment, msg, details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_arguments(text: &str, expected: Result<&str, &str>) {
        let parsed = arguments(&|_| Some(text.to_owned()));
        let shown = parsed.map(|arguments| {
            let pod = arguments.pod.map(|pod| {
                let uid = pod.uid.unwrap_or_default();
                format!("{}/{} {uid}", pod.namespace, pod.name)
            });
            format!("{} {:?}", pod.unwrap_or_default(), arguments.addresses)
        });
        let shown = shown.map_err(|error| (error.code, error.msg));
        let expected = expected.map(str::to_owned);
        assert_eq!(
            shown,
            expected.map_err(|msg| (Code::InvalidEnvironment, msg.to_owned()))
        );
    }

    #[test]
    fn arguments_name_the_pod_and_its_addresses() {
        check_arguments("", Ok(" []"));
        check_arguments(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u;X=y",
            Ok("shop/web-0 u []"),
        );
        check_arguments("IP=10.0.0.5/24;IP=fd00::5", Ok(" [10.0.0.5, fd00::5]"));
        check_arguments("K8S_POD_NAME=web", Ok(" []"));
        check_arguments("X=y;Z=", Err("CNI_ARGS has unknown keys: X, Z"));
        check_arguments("IP=ten", Err("CNI_ARGS has IP=ten"));
        check_arguments("IP", Err("CNI_ARGS has `IP`"));
    }

    #[track_caller]
    fn check_attachment(container: &str, ifname: &str, wrong: &[&str]) {
        let parsed = attachment(&|name| {
            let value = match name {
                "CNI_CONTAINERID" => container,
                _ => ifname,
            };
            Some(value.to_owned()).filter(|value| !value.is_empty())
        });
        let msg = parsed.map_or_else(|error| error.msg, |_| String::new());
        for name in ["CNI_CONTAINERID", "CNI_IFNAME"] {
            assert_eq!(msg.contains(name), wrong.contains(&name), "{msg}");
        }
    }

    #[test]
    fn every_variable_that_is_missing_or_malformed_is_named() {
        check_attachment("c0ffee_1.x-2", "eth0", &[]);
        check_attachment("", "", &["CNI_CONTAINERID", "CNI_IFNAME"]);
        check_attachment("../up", "eth0", &["CNI_CONTAINERID"]);
        for ifname in ["a/b", "..", "a:1", "a b", "sixteen-bytes-xx"] {
            check_attachment("c", ifname, &["CNI_IFNAME"]);
        }
    }

    #[test]
    fn a_command_is_one_of_six_in_capitals() {
        let parse = |text: Option<&str>| command(&|_| text.map(str::to_owned));
        for (name, expected) in COMMANDS {
            assert_eq!(parse(Some(name)), Ok(expected));
        }
        for wrong in [None, Some("add"), Some("")] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.code, Code::InvalidEnvironment);
            assert!(error.msg.contains("CNI_COMMAND"));
        }
    }
}
