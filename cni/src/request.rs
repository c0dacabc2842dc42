//! What a runtime asks for, whole and checked, from its environment and standard input.

use std::path::PathBuf;

use serde_json::Value;

use crate::config::{Config, Document, Place};
use crate::environment::{self, Attachment, Command, Pod};
use crate::error::{CniError, Code};
use crate::result::Previous;
use crate::version::Version;

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Make an interface.
    Add(Add),
    /// Take it back.
    Delete(Delete),
    /// Tell whether it is as it was made.
    Check(Check),
    /// Take back all but these.
    Collect(Collect),
    /// Tell whether an ADD could be served.
    Status(Config),
    /// Tell the versions.
    Version,
}

/// ADD.
#[derive(Clone, Debug, PartialEq)]
pub struct Add {
    /// What it will be known by.
    pub attachment: Attachment,
    /// The container's network namespace.
    pub netns: PathBuf,
    /// The Pod, where there is Kubernetes.
    pub pod: Option<Pod>,
    /// How.
    pub config: Config,
}

/// DEL. The namespace is not asked for: with the host's end, the pod's end goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// What is taken back.
    pub attachment: Attachment,
    /// Where its lease is.
    pub place: Place,
    /// Whether the kernel may be hurried.
    pub hurries: bool,
}

/// CHECK.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What is looked at.
    pub attachment: Attachment,
    /// The container's network namespace.
    pub netns: PathBuf,
    /// Where its lease is.
    pub place: Place,
    /// What ADD answered, and later plugins made of it.
    pub previous: Previous,
}

/// GC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collect {
    /// Where the leases are.
    pub place: Place,
    /// What is to stay.
    pub valid: Vec<Attachment>,
    /// Whether the kernel may be hurried.
    pub hurries: bool,
}

/// Reads a request; `version` becomes that of the answer.
///
/// # Errors
/// Where it cannot be understood.
pub fn parse(
    variable: &dyn Fn(&str) -> Option<String>,
    input: &[u8],
    version: &mut Version,
) -> Result<Request, CniError> {
    let command = environment::command(variable)?;
    if command == Command::Version {
        return parse_version(input, version);
    }
    let document = Document::parse(input, version)?;
    check_command(command, *version)?;
    Ok(match command {
        Command::Add => {
            let attachment = environment::attachment(variable)?;
            let arguments = environment::arguments(variable)?;
            let netns = environment::required_netns(variable)?;
            if document.get("prevResult").is_some() {
                return Err(CniError::new(
                    Code::InvalidConfig,
                    "fairlead-cni is not the first plugin of the list",
                    "it makes the pod's interface, so it has to come first; put the others after it",
                ));
            }
            let mut config = document.config()?;
            if config.addresses.is_empty() {
                config.addresses = arguments.addresses;
            }
            Request::Add(Add {
                attachment,
                netns,
                pod: arguments.pod,
                config,
            })
        }
        Command::Delete => Request::Delete(Delete {
            attachment: environment::attachment(variable)?,
            place: document.place()?,
            hurries: document.hurries(),
        }),
        Command::Check => Request::Check(Check {
            attachment: environment::attachment(variable)?,
            netns: environment::required_netns(variable)?,
            place: document.config()?.place,
            previous: previous(&document)?,
        }),
        Command::Collect => Request::Collect(Collect {
            place: document.place()?,
            valid: valid_attachments(&document)?,
            hurries: document.hurries(),
        }),
        Command::Status => Request::Status(document.config()?),
        Command::Version => Request::Version,
    })
}

/// The configuration of a VERSION has no more than the version, and may be missing.
fn parse_version(input: &[u8], version: &mut Version) -> Result<Request, CniError> {
    if !input.trim_ascii().is_empty() {
        let mut asked = Version::NEWEST;
        match Document::parse(input, &mut asked) {
            // A runtime asks to find out what it may speak.
            Err(error) if error.code == Code::IncompatibleVersion => {}
            Err(error) => return Err(error),
            Ok(_) => *version = asked,
        }
    }
    Ok(Request::Version)
}

fn check_command(command: Command, version: Version) -> Result<(), CniError> {
    let (name, first) = match command {
        Command::Check => ("CHECK", Version::V0_4_0),
        Command::Collect => ("GC", Version::V1_1_0),
        Command::Status => ("STATUS", Version::V1_1_0),
        Command::Add | Command::Delete | Command::Version => return Ok(()),
    };
    if version >= first {
        return Ok(());
    }
    Err(CniError::new(
        Code::IncompatibleVersion,
        format!("`cniVersion` is {version}, which has no {name}"),
        format!("{name} came with {first}"),
    ))
}

fn previous(document: &Document) -> Result<Previous, CniError> {
    let Some(value) = document.get("prevResult") else {
        return Err(CniError::new(
            Code::InvalidConfig,
            "`prevResult` is missing",
            "CHECK needs what ADD answered",
        ));
    };
    Previous::parse(value)
}

/// The attachments of a GC. A missing list is no empty one: that would take every pod's network.
fn valid_attachments(document: &Document) -> Result<Vec<Attachment>, CniError> {
    // Runtimes of the first drafts of 1.1.0 know the second name only.
    let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"];
    let value = keys.iter().find_map(|key| document.get(key));
    let list = value.cloned().unwrap_or(Value::Null);
    serde_json::from_value(list).map_err(|error| {
        CniError::new(
            Code::InvalidConfig,
            format!("`{}` is missing or malformed", keys[0]),
            format!("{error}; nothing was removed"),
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn asked(command: &str, version: &str, more: &Value) -> Result<Request, (Code, String)> {
        let mut keys = json!({"cniVersion": version, "name": "pods", "type": "fairlead-cni",
            "ranges": ["10.0.0.0/24"]});
        for (key, value) in more.as_object().unwrap() {
            keys[key] = value.clone();
        }
        let variable = |name: &str| {
            let value = match name {
                "CNI_COMMAND" => command,
                "CNI_CONTAINERID" => "c1",
                "CNI_IFNAME" => "eth0",
                "CNI_NETNS" => "/run/netns/c1",
                "CNI_ARGS" => "IP=10.0.0.9",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let mut spoken = Version::NEWEST;
        parse(&variable, keys.to_string().as_bytes(), &mut spoken)
            .map_err(|error| (error.code, error.to_string()))
    }

    #[track_caller]
    fn refused(command: &str, version: &str, more: &Value, code: Code, word: &str) {
        let (found, text) = asked(command, version, more).unwrap_err();
        assert_eq!(found, code, "{text}");
        assert!(text.contains(word), "{text}");
    }

    #[test]
    fn commands_exist_from_the_version_that_has_them() {
        let attachments = json!({"cni.dev/valid-attachments": []});
        refused(
            "CHECK",
            "0.3.1",
            &json!({}),
            Code::IncompatibleVersion,
            "CHECK",
        );
        refused("GC", "1.0.0", &attachments, Code::IncompatibleVersion, "GC");
        refused(
            "STATUS",
            "1.0.0",
            &json!({}),
            Code::IncompatibleVersion,
            "STATUS",
        );
        assert!(matches!(
            asked("GC", "1.1.0", &attachments),
            Ok(Request::Collect(_))
        ));
        assert!(matches!(
            asked("STATUS", "1.1.0", &json!({})),
            Ok(Request::Status(_))
        ));
        for version in Version::ALL {
            assert!(matches!(
                asked("ADD", &version.to_string(), &json!({})),
                Ok(Request::Add(_))
            ));
        }
    }

    #[test]
    fn what_the_runtime_gives_goes_before_its_arguments() {
        let addresses = |more: &Value| match asked("ADD", "1.1.0", more) {
            Ok(Request::Add(add)) => add.config.addresses,
            other => panic!("{other:?}"),
        };
        assert_eq!(addresses(&json!({}))[0].to_string(), "10.0.0.9");
        let given = json!({"runtimeConfig": {"ips": ["10.0.0.8"]}});
        assert_eq!(addresses(&given)[0].to_string(), "10.0.0.8");
    }

    #[test]
    fn a_plugin_that_makes_the_interface_is_the_first() {
        refused(
            "ADD",
            "1.0.0",
            &json!({"prevResult": {"ips": []}}),
            Code::InvalidConfig,
            "first",
        );
        refused(
            "CHECK",
            "1.0.0",
            &json!({}),
            Code::InvalidConfig,
            "prevResult",
        );
    }

    #[test]
    fn a_collection_without_a_list_removes_nothing() {
        refused(
            "GC",
            "1.1.0",
            &json!({}),
            Code::InvalidConfig,
            "valid-attachments",
        );
        refused(
            "GC",
            "1.1.0",
            &json!({"cni.dev/valid-attachments": [{"containerID": "c"}]}),
            Code::InvalidConfig,
            "ifname",
        );
        let old = json!({"cni.dev/attachments": [{"containerID": "c", "ifname": "eth0"}]});
        match asked("GC", "1.1.0", &old) {
            Ok(Request::Collect(collect)) => assert_eq!(collect.valid[0].container, "c"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_deletion_asks_for_no_more_than_it_needs() {
        let mut broken = json!({"ranges": "none", "unknown": 1, "mtu": -1, "prevResult": 7});
        for (written, hurries) in [
            (json!(true), true),
            (json!(false), false),
            (json!(1), false),
        ] {
            broken["rcuExpedited"] = written;
            match asked("DEL", "1.0.0", &broken) {
                Ok(Request::Delete(delete)) => {
                    assert_eq!(delete.place.network, "pods");
                    assert_eq!(delete.hurries, hurries);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_version_is_told_to_whoever_asks() {
        let variable = |name: &str| (name == "CNI_COMMAND").then(|| "VERSION".to_owned());
        for (input, expected) in [
            ("", Version::NEWEST),
            (" \n", Version::NEWEST),
            (r#"{"cniVersion": "0.4.0"}"#, Version::V0_4_0),
            (r#"{"cniVersion": "9.9.9"}"#, Version::NEWEST),
        ] {
            let mut version = Version::NEWEST;
            assert_eq!(
                parse(&variable, input.as_bytes(), &mut version),
                Ok(Request::Version)
            );
            assert_eq!(version, expected);
        }
        let mut version = Version::NEWEST;
        let error = parse(&variable, b"{", &mut version).unwrap_err();
        assert_eq!(error.code, Code::Decode);
    }
}
