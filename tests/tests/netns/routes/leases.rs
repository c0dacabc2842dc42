//! Leases at the agent's start.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use tests::harness::eventually;

use super::{Families, Network};

/// Longer than the agent waits for a lease's interface.
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn leases_of_pods_that_are_gone_are_freed_when_the_agent_starts() {
    let mut network = Network::build(Families::Both, 1500, &[]);
    let leases = network.cni("node1", "leases/fairlead/leases");
    fs::create_dir_all(&leases).unwrap();
    let write = |name: &str, age: Duration| {
        let file = File::create(leases.join(name)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    };
    // Half of the pods are there.
    let (gone, there) = ("fl0000000000001", "fl0000000000002");
    write(&format!("{gone},10.244.1.71,fd00:244:1::71"), LONG);
    write(&format!("{there},10.244.1.72,fd00:244:1::72"), LONG);
    write("fl0000000000003,10.244.1.73", Duration::ZERO);
    let node = network.lab.place("node1").namespace.clone();
    node.ip(&format!("link add {there} type veth peer name other\n"))
        .unwrap();
    network.start_agent("node1");
    let names = || {
        let entries = fs::read_dir(&leases).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    eventually("the lease is freed", || {
        Ok((!names().iter().any(|name| name.starts_with(gone))).then_some(()))
    })
    .unwrap();
    assert_eq!(names().len(), 2, "{:?}", names());
    // The log says so after it is done.
    let log = || fs::read_to_string(network.lab.directory().join("node1/agent.log"));
    eventually("the log tells of the lease", || {
        Ok(log()?.contains("10.244.1.71").then_some(()))
    })
    .unwrap();
    let log = log().unwrap();
    let mut freed = log.lines().filter(|line| line.contains("lease freed"));
    assert!(freed.all(|line| !line.contains("10.244.1.72")), "{log}");
}
