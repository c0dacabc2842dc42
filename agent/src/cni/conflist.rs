//! What stands in CNI configurations: the agent's own, and kube-router's, whose subnet is kept
//! current. Pure.

use std::path::Path;

use cni::config::{Document, Place};
use cni::version::Version;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

/// The plugin's name, and that of its program.
pub const PLUGIN: &str = "fairlead-cni";
/// Name of the network; leases are kept by it.
pub const NETWORK: &str = "fairlead";
/// What runtimes of any age read; newer ones take the best of `cniVersions`.
const VERSION: &str = "1.0.0";
const VERSIONS: [&str; 2] = [VERSION, "1.1.0"];

/// The agent's configuration.
pub fn own(
    ranges: &[IpNet],
    mtu: Option<u32>,
    socket: &Path,
    state_dir: &Path,
    hurries: bool,
) -> String {
    let ranges: Vec<String> = ranges.iter().map(IpNet::to_string).collect();
    let mut plugin = json!({
        "type": PLUGIN,
        "ranges": ranges,
        "agentSocket": socket,
        "stateDir": state_dir,
        "capabilities": {"portMappings": true, "ips": true, "mac": true},
    });
    if hurries {
        plugin["rcuExpedited"] = true.into();
    }
    // Without it the plugin takes the uplink's.
    if let Some(mtu) = mtu {
        plugin["mtu"] = mtu.into();
    }
    let list = json!({
        "cniVersion": VERSION,
        "cniVersions": VERSIONS,
        "name": NETWORK,
        "plugins": [plugin],
    });
    format!("{list:#}\n")
}

/// Whether a configuration is the agent's: its first plugin is, as it makes the pod's interface.
pub fn is_own(text: &str) -> bool {
    let parsed: Option<Value> = serde_json::from_str(text).ok();
    parsed.is_some_and(|list| list["plugins"][0]["type"] == PLUGIN)
}

/// Where the plugin keeps the leases of a configuration's pods, where it is the plugin's: its first
/// plugin is, whoever has written it.
pub fn place(text: &str) -> Option<Place> {
    let list: Value = serde_json::from_str(text).ok()?;
    let mut plugin = match list.get("plugins") {
        Some(plugins) => plugins[0].clone(),
        None => list.clone(),
    };
    let keys = plugin.as_object_mut()?;
    // As the runtime hands it on.
    for key in ["name", "cniVersion"] {
        keys.insert(key.to_owned(), list[key].clone());
    }
    let mut version = Version::NEWEST;
    let document = Document::parse(plugin.to_string().as_bytes(), &mut version).ok()?;
    let is_plugin = document.get("type")? == PLUGIN;
    document.place().ok().filter(|_| is_plugin)
}

/// A configuration of `bridge` with `host-local`, or a list with them, with these subnets and this
/// MTU; `None` where it has them already. Nothing else in it is touched.
///
/// # Errors
/// What it is not.
pub fn with_subnets(
    text: &str,
    ranges: &[IpNet],
    mtu: Option<u32>,
) -> Result<Option<String>, String> {
    let before: Value =
        serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    let mut after = before.clone();
    let not_one = || "has no plugin `bridge` with the addresses of `host-local`".to_owned();
    let bridge = bridge(&mut after).ok_or_else(not_one)?;
    if let Some(mtu) = mtu {
        bridge.insert("mtu".to_owned(), mtu.into());
    }
    let ipam = bridge.get_mut("ipam").and_then(Value::as_object_mut);
    set_subnets(ipam.ok_or_else(not_one)?, ranges);
    Ok((after != before).then(|| format!("{after:#}\n")))
}

/// The part of the configuration that makes the interface, and says where addresses come from.
fn bridge(config: &mut Value) -> Option<&mut Map<String, Value>> {
    let is_bridge =
        |plugin: &Value| plugin["type"] == "bridge" && plugin["ipam"]["type"] == "host-local";
    let plugin = match config.get("plugins") {
        Some(_) => config["plugins"]
            .as_array_mut()?
            .iter_mut()
            .find(|p| is_bridge(p))?,
        None if is_bridge(config) => config,
        None => return None,
    };
    plugin.as_object_mut()
}

/// One subnet stands in `subnet`; where `ranges` is there, or a subnet of each family is wanted, all
/// stand in that, each in the place of the one of its family.
fn set_subnets(ipam: &mut Map<String, Value>, ranges: &[IpNet]) {
    if let ([subnet], None) = (ranges, ipam.get("ranges")) {
        ipam.insert("subnet".to_owned(), json!(subnet.to_string()));
        return;
    }
    ipam.remove("subnet");
    let sets = ipam.entry("ranges").or_insert_with(|| json!([]));
    let Some(sets) = sets.as_array_mut() else {
        *sets = ranges
            .iter()
            .map(|range| json!([{"subnet": range.to_string()}]))
            .collect();
        return;
    };
    let family_of = |set: &Value| {
        let subnet: Option<IpNet> = set[0]["subnet"].as_str()?.parse().ok();
        subnet.map(|subnet| subnet.addr().is_ipv4())
    };
    for range in ranges {
        let same = |set: &&mut Value| family_of(set) == Some(range.addr().is_ipv4());
        match sets.iter_mut().find(same) {
            Some(set) if set[0]["subnet"] == json!(range.to_string()) => {}
            // Bounds and a gateway are of the subnet that was there.
            Some(set) => *set = json!([{"subnet": range.to_string()}]),
            None => sets.push(json!([{"subnet": range.to_string()}])),
        }
    }
    let wanted = |set: &Value| {
        let family = family_of(set);
        ranges
            .iter()
            .any(|range| family == Some(range.addr().is_ipv4()))
    };
    sets.retain(wanted);
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn leases_are_where_a_configuration_of_the_plugin_says() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let found = place(text).map(|place| (place.network, place.state_dir));
            let expected = expected.map(|(name, directory)| (name.to_owned(), directory.into()));
            assert_eq!(found, expected, "{text}");
        };
        let with = |plugin: &str| {
            format!(
                r#"{{"cniVersion": "1.0.0", "name": "pods", "plugins": [{plugin}, {{"type": "portmap"}}]}}"#
            )
        };
        let plugin = r#"{"type": "fairlead-cni", "ranges": []}"#;
        check(&with(plugin), Some(("pods", "/run/fairlead/cni")));
        let elsewhere = r#"{"type": "fairlead-cni", "stateDir": "/var/lib/pods"}"#;
        check(&with(elsewhere), Some(("pods", "/var/lib/pods")));
        let alone = r#"{"cniVersion": "0.4.0", "name": "one", "type": "fairlead-cni"}"#;
        check(alone, Some(("one", "/run/fairlead/cni")));
        let relative = r#"{"type": "fairlead-cni", "stateDir": "pods"}"#;
        let strange = r#"{"cniVersion": "1.0.0", "name": "../x", "type": "fairlead-cni"}"#;
        for text in [
            &with(r#"{"type": "bridge"}"#),
            &with(relative),
            &with("7"),
            strange,
            "{",
            "[]",
        ] {
            check(text, None);
        }
    }

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_list_has_what_the_plugin_reads() {
        let ranges = networks(&["10.244.1.0/24", "fd00:244:1::/64"]);
        let list = own(
            &ranges,
            Some(1450),
            Path::new("/run/a.sock"),
            Path::new("/run/cni"),
            true,
        );
        expect![[r#"
            {
              "cniVersion": "1.0.0",
              "cniVersions": [
                "1.0.0",
                "1.1.0"
              ],
              "name": "fairlead",
              "plugins": [
                {
                  "agentSocket": "/run/a.sock",
                  "capabilities": {
                    "ips": true,
                    "mac": true,
                    "portMappings": true
                  },
                  "mtu": 1450,
                  "ranges": [
                    "10.244.1.0/24",
                    "fd00:244:1::/64"
                  ],
                  "rcuExpedited": true,
                  "stateDir": "/run/cni",
                  "type": "fairlead-cni"
                }
              ]
            }
        "#]]
        .assert_eq(&list);
        assert!(is_own(&list));
        let least = own(&ranges, None, Path::new("/a"), Path::new("/b"), false);
        assert!(!least.contains("mtu") && !least.contains("rcuExpedited"));
        for other in [
            "",
            "[]",
            r#"{"type": "bridge"}"#,
            r#"{"plugins": [{"type": "bridge"}, {"type": "fairlead-cni"}]}"#,
        ] {
            assert!(!is_own(other), "{other}");
        }
    }

    #[track_caller]
    fn check(before: &Value, ranges: &[&str], expected: &Value) {
        let ranges = networks(ranges);
        let after = with_subnets(&before.to_string(), &ranges, None).unwrap();
        let after = after.expect("it differs");
        let found: Value = serde_json::from_str(&after).unwrap();
        assert_eq!(found, *expected);
        assert_eq!(with_subnets(&after, &ranges, None), Ok(None));
    }

    #[test]
    fn of_kube_routers_configuration_the_subnet_alone_changes() {
        let conf = |ipam: Value| {
            json!({"cniVersion": "0.3.0", "name": "kubernetes", "type": "bridge", "bridge": "kube-bridge",
                "isDefaultGateway": true, "hairpinMode": true, "ipam": ipam})
        };
        let list = |ipam: Value| {
            json!({"cniVersion": "0.3.0", "name": "mynet", "plugins": [conf(ipam),
                {"type": "portmap", "capabilities": {"snat": true}}]})
        };
        let empty = json!({"type": "host-local"});
        let one = json!({"type": "host-local", "subnet": "10.244.1.0/24"});
        check(&conf(empty.clone()), &["10.244.1.0/24"], &conf(one.clone()));
        check(&list(empty.clone()), &["10.244.1.0/24"], &list(one.clone()));
        let moved = json!({"type": "host-local", "subnet": "10.244.9.0/24"});
        check(&list(one.clone()), &["10.244.9.0/24"], &list(moved));
        let both = json!({"type": "host-local", "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00::/64"}]]});
        check(
            &list(one),
            &["10.244.1.0/24", "fd00::/64"],
            &list(both.clone()),
        );
        check(
            &conf(empty),
            &["10.244.1.0/24", "fd00::/64"],
            &conf(both.clone()),
        );
        let v6 = json!({"type": "host-local", "ranges": [[{"subnet": "fd00::/64"}]]});
        check(&conf(both), &["fd00::/64"], &conf(v6));
    }

    #[test]
    fn what_is_no_bridge_is_left_alone() {
        let ranges = networks(&["10.244.1.0/24"]);
        for other in [
            "{",
            "{}",
            r#"{"type": "bridge", "ipam": {"type": "dhcp"}}"#,
            r#"{"plugins": [{"type": "ptp", "ipam": {"type": "host-local"}}]}"#,
        ] {
            assert!(with_subnets(other, &ranges, None).is_err(), "{other}");
        }
    }
}
