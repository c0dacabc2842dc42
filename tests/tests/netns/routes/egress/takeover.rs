//! From a kernel's masquerade, as kube-router and kube-proxy have it, to the agent's.

use super::*;

/// Rules of the first node as kube-router has them for its pods' way out, of both families.
const MASQUERADE: [(&str, &str, &str); 2] = [
    ("iptables", "10.244.1.0/24", "10.244.0.0/16"),
    ("ip6tables", "fd00:244:1::/64", "fd00:244::/32"),
];

/// Adds or deletes these rules.
#[track_caller]
fn masquerade(lab: &Lab, what: &str) {
    for (program, pods, cluster) in MASQUERADE {
        let line = format!("-t nat {what} POSTROUTING -s {pods} ! -d {cluster} -j MASQUERADE");
        let mut command = lab.place("node1").command(program);
        let status = command.args(line.split(' ')).status().unwrap();
        assert!(status.success(), "{program} {line}");
    }
}

/// Connections that these rules have translated.
#[track_caller]
fn masqueraded(lab: &Lab) -> u64 {
    let counted = MASQUERADE.map(|(program, ..)| {
        let mut command = lab.place("node1").command(program);
        let command = command.args("-t nat -L POSTROUTING -v -x -n".split(' '));
        let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let mut lines = text.lines().filter(|line| line.contains("MASQUERADE"));
        let line = lines.next().unwrap_or_else(|| panic!("{text}"));
        let packets = line.split_whitespace().next().unwrap();
        packets.parse::<u64>().unwrap()
    });
    counted.iter().sum()
}

/// Takes every connection of a node out of the kernel's table.
fn forget_connections(lab: &Lab) {
    use agent::sys::conntrack;
    let work = || {
        for flow in conntrack::dump()? {
            conntrack::delete(&flow.original)?;
        }
        Ok(())
    };
    lab.place("node1").namespace.run(work).unwrap();
}

#[test]
fn connections_that_the_kernel_masqueraded_go_on_and_new_ones_are_the_agents_without_its_rules() {
    let mut network = Network::build(Families::Both, 1500, &[]);
    // As every firewall has it. Without any rule that asks for it, the kernel's tracking ends with the
    // last rule that masquerades, and so do the connections.
    for (program, ..) in MASQUERADE {
        let line = "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
        let mut command = network.lab.place("node1").command(program);
        assert!(command.args(line.split(' ')).status().unwrap().success());
    }
    masquerade(&network.lab, "-A");
    let _outside = listen(&network.lab);
    let hold = |network: &Network| {
        [false, true].map(|v6| {
            let to = network.lab.address("client", v6);
            [Traffic::hold(to, PORT), Traffic::udp(to, PORT)].map(|traffic| {
                let traffic = traffic.workers(4).every_milliseconds(5);
                Flow::start(&network.lab.uncovered("a"), &traffic).unwrap()
            })
        })
    };
    let expect_kept = |network: &Network, flows: [[Flow; 2]; 2]| {
        for (flow, v6) in flows.into_iter().zip([false, true]) {
            for flow in flow {
                let report = crate::cluster::expect_clean(flow);
                let node = network.lab.address("node1", v6).to_string();
                assert_eq!(report.seen_as.into_iter().collect::<Vec<_>>(), [node]);
            }
        }
    };
    let of_before = hold(&network);
    expect_seen_as(&network, "a", "node1");
    let by_kernel = masqueraded(&network.lab);
    assert!(by_kernel >= 4 * 4, "{by_kernel}");
    network.start_ready("node1");
    let log = network.agents["node1"].log();
    assert!(log.contains("took over"), "{log}");
    let begun = |network: &Network| {
        let metric = network.agents["node1"].metric("fairlead_egress_connections_total");
        metric.unwrap().unwrap_or_default()
    };
    // Its first packet goes through the stack: while the rules are there, a new one is the kernel's.
    let (rules, own) = (masqueraded(&network.lab), begun(&network));
    expect_seen_as(&network, "a", "node1");
    assert!(masqueraded(&network.lab) >= rules + 14 && begun(&network) < own + 1.0);
    let of_between = hold(&network);
    masquerade(&network.lab, "-D");
    let own = begun(&network);
    expect_seen_as(&network, "a", "node1");
    assert!(begun(&network) >= own + 14.0, "{own} {}", begun(&network));
    let of_after = hold(&network);
    std::thread::sleep(Duration::from_millis(300));
    expect_kept(&network, of_between);
    // The others need nothing of the kernel's.
    forget_connections(&network.lab);
    std::thread::sleep(Duration::from_millis(500));
    expect_kept(&network, of_before);
    expect_kept(&network, of_after);
}
