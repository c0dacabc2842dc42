//! What an ADD answers, in each version of the specification, and what CHECK gets of it. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::environment;
use crate::error::{CniError, Code};
use crate::plan::{Wiring, gateway};
use crate::range::Family;
use crate::version::Version;

/// What an ADD made.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// Interfaces and addresses.
    pub wiring: Wiring,
    /// The container's network namespace, as it was given.
    pub netns: String,
    /// `dns` of the configuration.
    pub dns: Option<Map<String, Value>>,
}

/// What CHECK is told of an earlier ADD. Other plugins may have added interfaces and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Addresses of the container's interface of a name.
    addresses: Vec<(Option<String>, IpAddr)>,
    /// Families with a default route by a gateway of ours.
    pub default_routes: Vec<Family>,
    /// Hardware addresses by the names of interfaces.
    macs: Vec<(String, String)>,
}

/// The pod's end among the interfaces of a result; the host's is the first.
const POD: usize = 1;

impl Made {
    /// The result in a version.
    pub fn to_json(&self, version: Version) -> Value {
        let Self { wiring, netns, dns } = self;
        let mut host = json!({"name": wiring.host.as_str(), "mac": wiring.host_mac.to_string()});
        let mut pod =
            json!({"name": wiring.ifname, "mac": wiring.pod_mac.to_string(), "sandbox": netns});
        if version >= Version::V1_1_0 {
            for interface in [&mut host, &mut pod] {
                interface["mtu"] = json!(wiring.mtu);
            }
        }
        let ips = wiring.addresses.iter().map(|address| {
            let family = Family::of(*address);
            let mut ip = json!({
                "address": IpNet::from(*address).to_string(),
                "gateway": gateway(family),
                "interface": POD,
            });
            // Gone with 1.0.0.
            if version < Version::V1_0_0 {
                ip["version"] = json!(match family {
                    Family::V4 => "4",
                    Family::V6 => "6",
                });
            }
            ip
        });
        let routes = wiring.addresses.iter().map(|address| {
            let family = Family::of(*address);
            json!({"dst": everywhere(family), "gw": gateway(family)})
        });
        let mut result = json!({
            "cniVersion": version,
            "interfaces": [host, pod],
            "ips": ips.collect::<Vec<_>>(),
            "routes": routes.collect::<Vec<_>>(),
        });
        if let Some(dns) = dns {
            result["dns"] = json!(dns);
        }
        result
    }
}

#[derive(Debug, Deserialize)]
struct Written {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Ip>,
    #[serde(default)]
    routes: Vec<Route>,
}

#[derive(Debug, Deserialize)]
struct Interface {
    name: String,
    #[serde(default)]
    mac: String,
}

#[derive(Debug, Deserialize)]
struct Ip {
    address: String,
    interface: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Route {
    dst: String,
    gw: Option<IpAddr>,
}

impl Previous {
    /// Reads a result of any version.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(value: &Value) -> Result<Self, CniError> {
        let Written {
            interfaces,
            ips,
            routes,
        } = Deserialize::deserialize(value).map_err(|error: serde_json::Error| {
            CniError::new(Code::InvalidConfig, "`prevResult` is no result", error)
        })?;
        let name = |index: usize| {
            interfaces
                .get(index)
                .map(|interface| interface.name.clone())
        };
        let by_our_gateway = |route: &Route| {
            let family = Family::of(route.gw?);
            let is_ours = route.dst == everywhere(family) && route.gw == Some(gateway(family));
            is_ours.then_some(family)
        };
        let address = |ip: &Ip| {
            let address = environment::address(&ip.address).ok_or_else(|| {
                let msg = format!("`prevResult` has the address `{}`", ip.address);
                CniError::new(
                    Code::InvalidConfig,
                    msg,
                    "expected an address with its prefix length",
                )
            })?;
            Ok((ip.interface.and_then(name), address))
        };
        Ok(Self {
            addresses: ips.iter().map(address).collect::<Result<_, _>>()?,
            default_routes: routes.iter().filter_map(by_our_gateway).collect(),
            macs: interfaces
                .into_iter()
                .filter(|interface| !interface.mac.is_empty())
                .map(|Interface { name, mac }| (name, mac.to_ascii_lowercase()))
                .collect(),
        })
    }

    /// The addresses that the interface should have: those that are said to be its own, or nobody's.
    pub fn addresses_of(&self, ifname: &str) -> Vec<IpAddr> {
        let is_its = |name: &Option<String>| name.as_deref().is_none_or(|name| name == ifname);
        let its = self.addresses.iter().filter(|(name, _)| is_its(name));
        its.map(|(_, address)| *address).collect()
    }

    /// The hardware address that the interface should have, where that is said.
    pub fn mac_of(&self, ifname: &str) -> Option<&str> {
        let its = self.macs.iter().find(|(name, _)| name == ifname);
        its.map(|(_, mac)| mac.as_str())
    }
}

fn everywhere(family: Family) -> &'static str {
    match family {
        Family::V4 => "0.0.0.0/0",
        Family::V6 => "::/0",
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::environment::Attachment;
    use crate::name::{End, HostInterface, Mac};

    fn made() -> Made {
        let attachment = Attachment {
            container: "c0ffee".to_owned(),
            ifname: "eth0".to_owned(),
        };
        Made {
            wiring: Wiring {
                host: HostInterface::of(&attachment),
                host_mac: Mac::of(&attachment, End::Host),
                ifname: "eth0".to_owned(),
                pod_mac: Mac([2, 0, 0, 0, 0, 1]),
                mtu: 1450,
                addresses: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
                pod: None,
            },
            netns: "/run/netns/c0ffee".to_owned(),
            dns: None,
        }
    }

    #[track_caller]
    fn check(version: Version, expected: &Expect) {
        expected.assert_eq(&made().to_json(version).to_string());
    }

    #[test]
    fn a_result_has_the_shape_of_its_version() {
        check(
            Version::V0_3_1,
            &expect![[
                r#"{"cniVersion":"0.3.1","interfaces":[{"mac":"02:1f:90:60:51:d0","name":"fl29b0d20012e60"},{"mac":"02:00:00:00:00:01","name":"eth0","sandbox":"/run/netns/c0ffee"}],"ips":[{"address":"10.0.0.2/32","gateway":"169.254.1.1","interface":1,"version":"4"},{"address":"fd00::2/128","gateway":"fe80::1","interface":1,"version":"6"}],"routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"},{"dst":"::/0","gw":"fe80::1"}]}"#
            ]],
        );
        check(
            Version::V1_0_0,
            &expect![[
                r#"{"cniVersion":"1.0.0","interfaces":[{"mac":"02:1f:90:60:51:d0","name":"fl29b0d20012e60"},{"mac":"02:00:00:00:00:01","name":"eth0","sandbox":"/run/netns/c0ffee"}],"ips":[{"address":"10.0.0.2/32","gateway":"169.254.1.1","interface":1},{"address":"fd00::2/128","gateway":"fe80::1","interface":1}],"routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"},{"dst":"::/0","gw":"fe80::1"}]}"#
            ]],
        );
        check(
            Version::V1_1_0,
            &expect![[
                r#"{"cniVersion":"1.1.0","interfaces":[{"mac":"02:1f:90:60:51:d0","mtu":1450,"name":"fl29b0d20012e60"},{"mac":"02:00:00:00:00:01","mtu":1450,"name":"eth0","sandbox":"/run/netns/c0ffee"}],"ips":[{"address":"10.0.0.2/32","gateway":"169.254.1.1","interface":1},{"address":"fd00::2/128","gateway":"fe80::1","interface":1}],"routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"},{"dst":"::/0","gw":"fe80::1"}]}"#
            ]],
        );
        let mut old = made().to_json(Version::V0_3_1);
        old["cniVersion"] = json!("0.4.0");
        assert_eq!(made().to_json(Version::V0_4_0), old);
    }

    #[test]
    fn name_servers_of_the_configuration_are_passed_on() {
        let dns = json!({"nameservers": ["10.0.0.1"], "search": ["local"]});
        let made = Made {
            dns: dns.as_object().cloned(),
            ..made()
        };
        assert_eq!(made.to_json(Version::V1_0_0)["dns"], dns);
    }

    #[test]
    fn an_own_result_is_understood_in_every_version() {
        for version in Version::ALL {
            let mut json = made().to_json(version);
            // What a later plugin may add.
            json["interfaces"]
                .as_array_mut()
                .unwrap()
                .push(json!({"name": "net1"}));
            json["ips"]
                .as_array_mut()
                .unwrap()
                .push(json!({"address": "192.0.2.9/24", "interface": 2}));
            let previous = Previous::parse(&json).unwrap();
            assert_eq!(previous.addresses_of("eth0"), made().wiring.addresses);
            assert_eq!(previous.mac_of("eth0"), Some("02:00:00:00:00:01"));
            assert_eq!(previous.mac_of("net1"), None);
            assert_eq!(previous.default_routes, [Family::V4, Family::V6]);
        }
        let error = Previous::parse(&json!({"ips": [{"address": "ten"}]})).unwrap_err();
        assert_eq!(error.code, Code::InvalidConfig);
    }
}
