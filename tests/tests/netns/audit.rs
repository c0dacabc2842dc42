//! What somebody else changes in the agent's tables.

use agent::sys::map::{List, Table, Trie};
use agent_abi::Address;
use agent_abi::service::{
    ADDRESSES_MAP, BACKENDS_MAP, BackendV2, FRONTENDS_MAP, FrontendKeyV1, FrontendV2, RINGS_MAP,
    RingChunkV1, RingKeyV1, SERVICES_MAP, SLOTS_MAP, SOURCES_MAP, ServiceV2, SlotKeyV1,
    SourceKeyV1,
};
use agent_abi::settings::{SETTINGS_MAP, SettingsV2};
use serde_json::json;
use tests::harness::{AgentOptions, Traffic, eventually};

use crate::cluster::Cluster;
use crate::cluster::From::{Covered, Uncovered};
use crate::cluster::{tcp_and_udp, web};

/// Entries that were found wrong, as the metrics count them.
#[track_caller]
fn expect_counted(cluster: &mut Cluster, expected: &[(&str, &str, u32)]) {
    let agent = cluster.agent("node1");
    let all: u32 = expected.iter().map(|(.., count)| count).sum();
    eventually("what was mended is counted", || {
        let status = agent.status()?;
        let mended = status["apply"]["repaired_total"].as_u64();
        Ok((mended == Some(all.into())).then_some(()))
    })
    .unwrap();
    for (map, kind, count) in expected {
        let name = format!("fairlead_divergence_total{{map=\"{map}\",kind=\"{kind}\"}}");
        let found = agent.metric(&name).unwrap();
        assert_eq!(found, Some(f64::from(*count)), "{name}");
    }
}

#[test]
fn single_entries_are_mended_and_strange_ones_removed() {
    let service = web().endpoints(&["a1", "b1"]);
    let options = AgentOptions::flags(&["--config-sync-period", "1s"]);
    let mut cluster = Cluster::start_with(options, &[&service]);
    let pins = cluster.lab.bpf_root("node1").join("maps");
    let mut frontends: Table<FrontendKeyV1, FrontendV2> =
        Table::open(&pins, FRONTENDS_MAP).unwrap();
    let mut services: Table<u32, ServiceV2> = Table::open(&pins, SERVICES_MAP).unwrap();
    let mut slots: Table<SlotKeyV1, u32> = Table::open(&pins, SLOTS_MAP).unwrap();
    let mut backends: Table<u32, BackendV2> = Table::open(&pins, BACKENDS_MAP).unwrap();
    let (before, of_services) = (frontends.entries().unwrap(), services.entries().unwrap());

    // One of each kind: gone, changed, strange.
    frontends.delete(before[0].0).unwrap();
    let (id, value) = of_services[0];
    services.put(id, ServiceV2 { flags: 99, ..value }).unwrap();
    let stranger = SlotKeyV1 {
        service: 4711,
        slot: 0,
    };
    slots.put(stranger, 1).unwrap();
    backends
        .put(4711, backends.entries().unwrap()[0].1)
        .unwrap();

    eventually("the audit mends it", || {
        let same = frontends.entries().unwrap().len() == before.len()
            && services.get(id).unwrap() == Some(value)
            && slots.get(stranger).unwrap().is_none()
            && backends.get(4711).unwrap().is_none();
        Ok(same.then_some(()))
    })
    .unwrap();
    let counted = [
        (FRONTENDS_MAP, "missing", 1),
        (SERVICES_MAP, "different", 1),
        (SLOTS_MAP, "extra", 1),
        (BACKENDS_MAP, "extra", 1),
    ];
    expect_counted(&mut cluster, &counted);
    for v6 in [false, true] {
        cluster.expect_spread(
            Uncovered("pod-a"),
            Traffic::connect(service.ip(v6), 80),
            &["a1", "b1"],
        );
    }
}

/// Everything that is only there for Services with a hash, source ranges, or for the node itself.
struct Rest {
    rings: Table<RingKeyV1, RingChunkV1>,
    sources: Trie<SourceKeyV1>,
    addresses: Table<Address, u32>,
    settings: List<SettingsV2>,
}

type Content = (
    Vec<(RingKeyV1, RingChunkV1)>,
    Vec<(u32, SourceKeyV1)>,
    Vec<(Address, u32)>,
    SettingsV2,
);

impl Rest {
    fn content(&self) -> Content {
        let mut rings = self.rings.entries().unwrap();
        let mut sources = self.sources.keys().unwrap();
        let mut addresses = self.addresses.entries().unwrap();
        rings.sort_unstable();
        sources.sort_unstable();
        addresses.sort_unstable();
        (rings, sources, addresses, self.settings.get(0).unwrap())
    }
}

#[test]
fn rings_sources_addresses_and_settings_are_mended_too() {
    let balancer = [
        "203.0.113.80".parse().unwrap(),
        "fd00:1b::80".parse().unwrap(),
    ];
    let service = web()
        .load_balancer(&balancer)
        .annotation("fairlead.io/scheduler", "mh")
        // The one range is within the other, which a look-up finds in its place.
        .spec(
            "loadBalancerSourceRanges",
            json!(["172.30.0.0/16", "172.30.0.0/24", "fd00:30::/64"]),
        )
        .endpoints(&["a1", "a2", "b1"]);
    let options = AgentOptions::flags(&["--config-sync-period", "1s"]);
    let mut cluster = Cluster::start_with(options, &[&service]);
    let pins = cluster.lab.bpf_root("node1").join("maps");
    let mut maps = Rest {
        rings: Table::open(&pins, RINGS_MAP).unwrap(),
        sources: Trie::open(&pins, SOURCES_MAP).unwrap(),
        addresses: Table::open(&pins, ADDRESSES_MAP).unwrap(),
        settings: List::open(&pins, SETTINGS_MAP).unwrap(),
    };
    let before = maps.content();
    let (rings, sources, addresses, settings) = before.clone();
    assert!(rings.len() >= 2, "{rings:?}");

    // A mended part of a ring must not depend on its neighbours: the first is gone, the last changed.
    maps.rings.delete(rings[0].0).unwrap();
    let (key, value) = rings[rings.len() - 1];
    let mut slots = value.slots;
    slots[0] ^= 1;
    maps.rings.put(key, RingChunkV1 { slots }).unwrap();
    maps.rings
        .put(
            RingKeyV1 {
                ring: 4711,
                chunk: 0,
            },
            value,
        )
        .unwrap();

    let longest = |(bits, _): &&(u32, SourceKeyV1)| *bits == 32 + 96 + 24;
    let (bits, key) = *sources.iter().find(longest).unwrap();
    maps.sources.delete(bits, key).unwrap();
    let stranger = SourceKeyV1 {
        service: 4711,
        ..key
    };
    maps.sources.put(bits, stranger, 1).unwrap();

    maps.addresses.delete(addresses[0].0).unwrap();
    maps.addresses.put(addresses[1].0, 99).unwrap();
    maps.addresses.put([99; 16], 1).unwrap();
    let changed = SettingsV2 {
        udp_seconds: 1,
        ..settings
    };
    maps.settings.set(0, changed).unwrap();

    eventually("the audit mends it", || {
        Ok((maps.content() == before).then_some(()))
    })
    .unwrap();
    let counted = [
        (RINGS_MAP, "missing", 1),
        (RINGS_MAP, "different", 1),
        (RINGS_MAP, "extra", 1),
        (SOURCES_MAP, "missing", 1),
        (SOURCES_MAP, "extra", 1),
        (ADDRESSES_MAP, "missing", 1),
        (ADDRESSES_MAP, "different", 1),
        (ADDRESSES_MAP, "extra", 1),
        (SETTINGS_MAP, "different", 1),
    ];
    expect_counted(&mut cluster, &counted);
    for v6 in [false, true] {
        for traffic in tcp_and_udp(service.ip(v6), 80) {
            let report = cluster.run(Covered("pod-a"), &traffic.count(5));
            assert!(report.is_clean(), "{report:?}");
        }
    }
}
