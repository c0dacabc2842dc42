//! What somebody else changes in the agent's tables.

use agent::sys::map::Table;
use agent_abi::service::{
    BACKENDS_MAP, BackendV2, FRONTENDS_MAP, FrontendKeyV1, FrontendV2, SERVICES_MAP, SLOTS_MAP,
    ServiceV2, SlotKeyV1,
};
use tests::harness::{AgentOptions, Traffic, eventually};

use crate::cluster::Cluster;
use crate::cluster::From::Uncovered;
use crate::cluster::web;

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
    let status = cluster.agent("node1").status().unwrap();
    assert_eq!(status["apply"]["repaired_total"], 4, "{status}");
    for v6 in [false, true] {
        cluster.expect_spread(
            Uncovered("pod-a"),
            Traffic::connect(service.ip(v6), 80),
            &["a1", "b1"],
        );
    }
}
