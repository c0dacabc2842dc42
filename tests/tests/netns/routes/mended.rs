//! What somebody else changes in the tables of interfaces and of pods' networks.

use std::path::Path;

use agent::sys::map::{Table, Trie};
use agent_abi::egress::{EGRESS_MAP, EGRESS_SOURCES_MAP, EgressAddressV1, EgressSourceV1};
use agent_abi::fast_path::{FAST_DEVICES_MAP, FastDeviceV1, POD_NETWORKS_MAP};
use agent_abi::policy::{INTERFACES_MAP, InterfaceAddressV1, PolicyAddressV1};
use agent_abi::tunnel::TUNNELS_MAP;
use tests::harness::{Flow, Traffic, eventually};

use super::{Families, Network};

/// The tables that are written as interfaces and pods come and go.
struct Maps {
    egress: Trie<EgressAddressV1>,
    sources: Table<u32, EgressSourceV1>,
    tunnels: Table<u32, u32>,
    interfaces: Trie<InterfaceAddressV1>,
    devices: Table<u32, FastDeviceV1>,
    networks: Trie<PolicyAddressV1>,
}

/// Keys and values as text, sorted: all that is to be the same again.
type Content = Vec<Vec<String>>;

impl Maps {
    fn open(pins: &Path) -> Self {
        Self {
            egress: Trie::open(pins, EGRESS_MAP).unwrap(),
            sources: Table::open(pins, EGRESS_SOURCES_MAP).unwrap(),
            tunnels: Table::open(pins, TUNNELS_MAP).unwrap(),
            interfaces: Trie::open(pins, INTERFACES_MAP).unwrap(),
            devices: Table::open(pins, FAST_DEVICES_MAP).unwrap(),
            networks: Trie::open(pins, POD_NETWORKS_MAP).unwrap(),
        }
    }

    fn content(&self) -> Content {
        fn shown<T: std::fmt::Debug>(entries: Vec<T>) -> Vec<String> {
            let mut shown: Vec<_> = entries.iter().map(|entry| format!("{entry:?}")).collect();
            shown.sort();
            shown
        }
        vec![
            shown(self.egress.entries().unwrap()),
            shown(self.sources.entries().unwrap()),
            shown(self.tunnels.entries().unwrap()),
            shown(self.interfaces.entries().unwrap()),
            shown(self.devices.entries().unwrap()),
            shown(self.networks.entries().unwrap()),
        ]
    }

    /// Takes an entry of each away, changes one, and adds a strange one.
    fn damage(&mut self) {
        let egress = self.egress.entries().unwrap();
        let [((bits, key), _), ((changed_bits, changed), value), ..] = egress[..] else {
            panic!("{egress:?}");
        };
        self.egress.delete(bits, key).unwrap();
        self.egress.put(changed_bits, changed, value ^ 1).unwrap();
        let strange = EgressAddressV1 { address: [99; 16] };
        self.egress.put(128, strange, 2).unwrap();

        let (uplink, source) = self.sources.entries().unwrap()[0];
        self.sources.delete(uplink).unwrap();
        self.sources.put(4711, source).unwrap();
        let (overlay, mtu) = self.tunnels.entries().unwrap()[0];
        self.tunnels.put(overlay, mtu - 100).unwrap();
        let ((bits, key), _) = self.interfaces.entries().unwrap()[0];
        self.interfaces.delete(bits, key).unwrap();
        let (index, _) = self.devices.entries().unwrap()[0];
        self.devices.delete(index).unwrap();
        let ((bits, key), _) = self.networks.entries().unwrap()[0];
        self.networks.delete(bits, key).unwrap();
    }
}

#[test]
fn tables_of_interfaces_and_of_pods_networks_are_mended() {
    let network = Network::start(Families::Both, 1500, &["--config-sync-period", "1s"]);
    network.await_routes("node1", 4);
    let agent = &network.agents["node1"];
    let mut maps = Maps::open(&network.lab.bpf_root("node1").join("maps"));
    // Until pods and routes are all known.
    let mut last = Content::new();
    eventually("the tables are filled", || {
        let now = maps.content();
        let stands = now == last && now.iter().all(|entries| !entries.is_empty());
        last = now;
        std::thread::sleep(std::time::Duration::from_secs(1));
        Ok(stands.then_some(()))
    })
    .unwrap();
    let before = maps.content();
    maps.damage();
    assert_ne!(maps.content(), before);
    eventually("the audit mends it", || {
        Ok((maps.content() == before).then_some(()))
    })
    .unwrap();
    for (map, kind) in [
        (EGRESS_MAP, "missing"),
        (EGRESS_MAP, "different"),
        (EGRESS_MAP, "extra"),
        (EGRESS_SOURCES_MAP, "missing"),
        (EGRESS_SOURCES_MAP, "extra"),
        (TUNNELS_MAP, "different"),
        (INTERFACES_MAP, "missing"),
        (FAST_DEVICES_MAP, "missing"),
        (POD_NETWORKS_MAP, "missing"),
    ] {
        let name = format!("fairlead_divergence_total{{map=\"{map}\",kind=\"{kind}\"}}");
        eventually(&name, || {
            Ok((agent.metric(&name)? == Some(1.0)).then_some(()))
        })
        .unwrap();
    }
    for to in ["d", "b", "c"] {
        let traffic = Traffic::connect(network.lab.address(to, false), 8080).count(5);
        let report = Flow::run(network.lab.place("a"), &traffic).unwrap();
        assert!(report.is_clean(), "{to}: {report:?}");
    }
}
