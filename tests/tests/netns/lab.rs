//! The lab itself, without any agent.

use tests::harness::{Builder, Flow, Traffic, remains};

fn builder(nodes: u8) -> Builder {
    Builder::new(env!("CARGO_BIN_EXE_fairlead-traffic"), nodes)
}

#[test]
fn pods_reach_one_another_and_nothing_stays_behind() {
    let started = std::time::Instant::now();
    let lab = builder(2).pod("a", 1).pod("b", 2).build().unwrap();
    eprintln!("built in {:?}", started.elapsed());
    for v6 in [false, true] {
        for from in ["a", "node1", "node2", "b"] {
            let to = lab.address("b", v6);
            for traffic in [
                Traffic::connect(to, 8080),
                Traffic::hold(to, 9090),
                Traffic::udp(to, 8080),
            ] {
                let report = Flow::run(lab.place(from), &traffic.count(3)).unwrap();
                assert!(
                    report.is_clean() && report.answered == 3,
                    "from {from}: {report:?}"
                );
                assert_eq!(report.spread(), "b 3");
                let own = lab.address(from, v6).to_string();
                if from != "b" {
                    assert_eq!(report.seen_as.into_iter().collect::<Vec<_>>(), [own]);
                }
            }
        }
    }
    let report = Flow::run(
        lab.place("client"),
        &Traffic::connect(lab.address("node1", false), 8080).count(1),
    )
    .unwrap();
    assert_eq!(report.errors.get("refused"), Some(&1), "{report:?}");
    // A Service address that nobody has programmed ends at the router.
    let service = std::net::Ipv4Addr::new(10, 96, 0, 1);
    let report = Flow::run(
        lab.place("a"),
        &Traffic::connect(service, 80)
            .count(1)
            .timeout_milliseconds(300),
    )
    .unwrap();
    assert_eq!(report.answered, 0, "{report:?}");
    let flow = Flow::start(
        lab.place("a"),
        &Traffic::udp(lab.address("b", true), 8080).workers(4),
    )
    .unwrap();
    assert!(flow.stop().unwrap().is_clean());
    let name = lab.name().to_owned();
    assert_ne!(remains(&name).unwrap(), Vec::<String>::new());
    drop(lab);
    assert_eq!(remains(&name).unwrap(), Vec::<String>::new());
    eprintln!("done in {:?}", started.elapsed());
}
