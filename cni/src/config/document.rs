//! The JSON of a configuration: which keys it may have, and what their values may be.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{AgentAt, Config, Place};
use crate::environment;
use crate::error::{CniError, Code};
use crate::name::Mac;
use crate::range::{Family, Range};
use crate::version::Version;

/// The keys that are understood; those of other tools have a `/` in them.
const KEYS: [&str; 18] = [
    "agentSocket",
    "agentWaitSeconds",
    "args",
    "capabilities",
    "cniVersion",
    "cniVersions",
    "disableCheck",
    "disableGC",
    "dns",
    "ipMasq",
    "mtu",
    "name",
    "prevResult",
    "ranges",
    "rcuExpedited",
    "runtimeConfig",
    "stateDir",
    "type",
];
/// Keys of the specification that ask for what is not done here, when they are not false.
const NOT_HERE: [(&str, &str); 1] =
    [("ipMasq", "masquerading is the agent's: --enable-pod-egress")];
/// A tmpfs: leases go with the pods' namespaces when the node starts anew.
pub(super) const STATE_DIR: &str = "/run/fairlead/cni";
/// An agent that is being upgraded is back within a second or two; the kubelet gives a sandbox four
/// minutes.
const AGENT_WAIT: Duration = Duration::from_secs(20);
/// Smallest MTU of an interface with IPv4 (RFC 791), and with IPv6 (RFC 8200 §5).
const LEAST_MTU: [(Family, u32); 2] = [(Family::V4, 68), (Family::V6, 1280)];
/// Largest that veth takes.
const LARGEST_MTU: u32 = 65_535;

/// A configuration that is JSON, of a version that is spoken here.
#[derive(Clone, Debug)]
pub struct Document(Map<String, Value>);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    ranges: Option<Vec<String>>,
    mtu: Option<u32>,
    agent_socket: Option<PathBuf>,
    agent_wait_seconds: Option<u32>,
    rcu_expedited: Option<bool>,
    dns: Option<Map<String, Value>>,
    runtime_config: Option<RuntimeConfig>,
    args: Option<Args>,
}

/// What the runtime adds for the capabilities that the configuration declares. `portMappings` are
/// served by the agent, from the Pod.
#[derive(Debug, Default, Deserialize)]
struct RuntimeConfig {
    ips: Option<Vec<String>>,
    mac: Option<String>,
    bandwidth: Option<Map<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
struct Args {
    cni: Option<CniArgs>,
}

#[derive(Debug, Default, Deserialize)]
struct CniArgs {
    ips: Option<Vec<String>>,
}

impl Document {
    /// Reads the JSON and its version, which the answer has from here on.
    ///
    /// # Errors
    /// Where it is not JSON, or of a version that is not spoken here.
    pub fn parse(bytes: &[u8], version: &mut Version) -> Result<Self, CniError> {
        let keys: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| {
            let msg = "the network configuration on standard input is not a JSON object";
            CniError::new(Code::Decode, msg, error)
        })?;
        // The specification had no such key before 0.2.0.
        let given = keys
            .get("cniVersion")
            .map_or("\"0.1.0\"".to_owned(), Value::to_string);
        let spoken = keys.get("cniVersion").and_then(Value::as_str);
        *version = spoken.and_then(Version::parse).ok_or_else(|| {
            CniError::new(
                Code::IncompatibleVersion,
                format!("`cniVersion` is {given}"),
                format!(
                    "supported are {}",
                    Version::ALL.map(|v| v.to_string()).join(", ")
                ),
            )
        })?;
        Ok(Self(keys))
    }

    /// A value.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Where the leases are.
    ///
    /// # Errors
    /// Where the network has no proper name.
    pub fn place(&self) -> Result<Place, CniError> {
        let name = self.get("name").and_then(Value::as_str).unwrap_or_default();
        if !environment::is_identifier(name) {
            return Err(invalid(
                format!("`name` is `{name}`"),
                "expected letters, digits, `_`, `.` and `-` after a letter or digit",
            ));
        }
        let state_dir = match self.get("stateDir") {
            None => STATE_DIR.into(),
            Some(Value::String(path)) if path.starts_with('/') => path.into(),
            Some(other) => {
                return Err(invalid(
                    format!("`stateDir` is {other}"),
                    "expected an absolute path",
                ));
            }
        };
        Ok(Place {
            network: name.to_owned(),
            state_dir,
        })
    }

    /// Whether the kernel may be hurried. What is no answer is none.
    pub fn hurries(&self) -> bool {
        self.get("rcuExpedited") == Some(&Value::Bool(true))
    }

    /// The whole configuration.
    ///
    /// # Errors
    /// Where it has a key that is unknown, or a value that makes no sense.
    pub fn config(&self) -> Result<Config, CniError> {
        let place = self.place()?;
        self.known_keys()?;
        let written: Written = serde_json::from_value(Value::Object(self.0.clone()))
            .map_err(|error| invalid(format!("network `{}`", place.network), &error.to_string()))?;
        let Written {
            ranges,
            mtu,
            agent_socket,
            agent_wait_seconds,
            rcu_expedited,
            dns,
            runtime_config,
            args,
        } = written;
        let RuntimeConfig {
            ips,
            mac,
            bandwidth,
        } = runtime_config.unwrap_or_default();
        if bandwidth.is_some_and(|limits| !limits.is_empty()) {
            return Err(invalid(
                "`runtimeConfig.bandwidth` is given to fairlead-cni".to_owned(),
                "declare the capability at the plugin `bandwidth`, later in the list",
            ));
        }
        let of_args = args.and_then(|args| args.cni).and_then(|cni| cni.ips);
        let asked = ips.or(of_args).unwrap_or_default();
        let ranges = ranges_of(ranges.as_deref())?;
        if let Some(mtu) = mtu {
            check_mtu(mtu, &ranges)?;
        }
        let wait =
            agent_wait_seconds.map_or(AGENT_WAIT, |seconds| Duration::from_secs(seconds.into()));
        Ok(Config {
            place,
            ranges,
            mtu,
            agent: agent_socket.map(|socket| AgentAt { socket, wait }),
            dns,
            addresses: asked
                .iter()
                .map(|text| address(text))
                .collect::<Result<_, _>>()?,
            mac: mac.as_deref().map(hardware_address).transpose()?,
            hurries: rcu_expedited.unwrap_or_default(),
        })
    }

    fn known_keys(&self) -> Result<(), CniError> {
        for (key, value) in &self.0 {
            let unsupported = |details: &str| {
                let msg = format!("unsupported field `{key}`: {value}");
                Err(CniError::new(Code::UnsupportedField, msg, details))
            };
            let not_here = NOT_HERE.iter().find(|(name, _)| name == key);
            match not_here {
                Some((_, why)) if *value != Value::Bool(false) => return unsupported(why),
                _ if key.contains('/') || KEYS.contains(&key.as_str()) => {}
                _ => return unsupported(&format!("known are {}", KEYS.join(", "))),
            }
        }
        Ok(())
    }
}

fn ranges_of(networks: Option<&[String]>) -> Result<Vec<Range>, CniError> {
    let Some(networks) = networks else {
        return Err(invalid(
            "`ranges` is missing".to_owned(),
            "expected the node's pod networks, such as [\"10.244.1.0/24\", \"fd00:10:244:1::/64\"]",
        ));
    };
    let parse = |text: &String| {
        let network: IpNet = text.parse().map_err(|_| {
            invalid(
                format!("`ranges` has `{text}`"),
                "expected a network, such as 10.244.1.0/24",
            )
        })?;
        Range::new(network)
    };
    let ranges: Vec<Range> = networks.iter().map(parse).collect::<Result<_, _>>()?;
    for (index, range) in ranges.iter().enumerate() {
        if let Some(other) = ranges[..index].iter().find(|other| other.overlaps(range)) {
            let (a, b) = (other.network(), range.network());
            return Err(invalid(
                format!("`ranges` has {a} and {b}"),
                "they overlap; an address may be in one only",
            ));
        }
    }
    Ok(ranges)
}

fn check_mtu(mtu: u32, ranges: &[Range]) -> Result<(), CniError> {
    let of_ranges = LEAST_MTU
        .iter()
        .filter(|(family, _)| ranges.iter().any(|range| range.family() == *family));
    let least = of_ranges.map(|(_, least)| *least).max().unwrap_or_default();
    if (least..=LARGEST_MTU).contains(&mtu) {
        return Ok(());
    }
    Err(invalid(
        format!("`mtu` is {mtu}"),
        &format!("expected {least} to {LARGEST_MTU} for the families of `ranges`"),
    ))
}

fn address(text: &str) -> Result<IpAddr, CniError> {
    environment::address(text)
        .ok_or_else(|| invalid(format!("`ips` has `{text}`"), "expected an address"))
}

fn hardware_address(text: &str) -> Result<Mac, CniError> {
    Mac::parse(text)
        .filter(|mac| mac.is_unicast())
        .ok_or_else(|| {
            invalid(
                format!("`runtimeConfig.mac` is `{text}`"),
                "expected a unicast address, such as 0a:58:0a:f4:01:05",
            )
        })
}

fn invalid(msg: String, details: &str) -> CniError {
    CniError::new(Code::InvalidConfig, msg, details)
}
