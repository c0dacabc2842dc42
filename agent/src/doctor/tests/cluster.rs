//! What only an agent knows: networks, ways, itself.

use super::*;

#[test]
fn networks_of_the_cluster() {
    check(
        |facts| {
            let network = &mut agent(facts).network;
            network
                .nodes
                .push(node("node3", "172.31.0.13", "10.244.0.0/16"));
            network
                .nodes
                .push(node("node4", "172.31.0.14", "172.31.0.0/25"));
            network.services.push("10.244.2.7".parse().unwrap());
        },
        expect![[r#"
            FAILURE pod-networks: 10.244.1.0/24 of this node overlaps 10.244.0.0/16 of node node3
                delete the younger of the Nodes node1 and node3, and have it register anew with another spec.podCIDRs
            FAILURE pod-networks: 172.31.0.0/25 of node node4 overlaps 172.31.0.0/24 of eth0
                give the nodes' networks and --cluster-cidr of the controller manager ranges that do not overlap
            FAILURE pod-networks: 10.244.2.0/24 of node node2 holds 10.244.2.7, the address of a Service
                give --service-cluster-ip-range of the API server and --cluster-cidr of the controller manager ranges that do not overlap
            FAILURE pod-networks: 10.244.0.0/16 of node node3 holds 10.244.2.7, the address of a Service
                give --service-cluster-ip-range of the API server and --cluster-cidr of the controller manager ranges that do not overlap
        "#]],
    );
    check(
        |facts| agent(facts).network.nodes.clear(),
        expect![[r#"
        FAILURE pod-networks: the cluster has no Node node1
            give the agent the Node's name with --hostname-override
    "#]],
    );
    check(
        |facts| agent(facts).network.nodes[0].pod_networks.clear(),
        expect![[r#"
            FAILURE pod-networks: Node node1 has no spec.podCIDRs
                run the controller manager with --allocate-node-cidrs and --cluster-cidr, or set spec.podCIDRs
        "#]],
    );
    check(
        |facts| agent(facts).network.synced = false,
        expect![[r#"
        could not tell pod-networks: the agent has not heard of all Nodes and Services yet
    "#]],
    );
    // A bridge of pods has an address of their network.
    check(
        |facts| {
            facts.links.as_mut().unwrap().push(link(
                "kube-bridge",
                LinkKind::Bridge,
                &["10.244.1.1/24"],
            ));
            set(facts, "net.ipv4.conf.kube-bridge.forwarding", "1");
            set(facts, "net.bridge.bridge-nf-call-iptables", "0");
            let kept = Configuration {
                name: "10-kuberouter.conf".to_owned(),
                own: false,
            };
            facts.configurations = Ok(vec![kept]);
        },
        expect![[""]],
    );
}

#[test]
fn ways_to_other_nodes() {
    check(
        |facts| {
            facts.paths = Ok(vec![
                path("node2", Passed::UpTo(1400)),
                path("node3", Passed::Nothing),
            ]);
        },
        expect![[r#"
            FAILURE mtu: packets of 1500 bytes by eth0 do not reach node2 (172.31.1.13); 1400 bytes do
                ip link set eth0 mtu 1400, for good in the node's network configuration; or raise the MTU of what lies between
            warning reach: node3 (172.31.1.13) does not answer echo requests by eth0
                see whether the node is up, and whether ICMP is let through: path MTU discovery needs it too
        "#]],
    );
    check(
        |facts| facts.paths = Ok(vec![path("node2", Passed::Nothing)]),
        expect![[r#"
            could not tell mtu: no other node answers echo requests; see `reach`
            warning reach: node2 (172.31.1.13) does not answer echo requests by eth0
                see whether the node is up, and whether ICMP is let through: path MTU discovery needs it too
        "#]],
    );
    check(|facts| facts.paths = Ok(Vec::new()), expect![[""]]);
}

#[test]
fn ways_through_the_overlay() {
    check(
        |facts| {
            facts.paths = Ok(vec![
                path("node3", Passed::All),
                carried("node3", Passed::UpTo(1350)),
            ]);
        },
        expect![[r#"
            FAILURE mtu: packets of 1450 bytes by fairlead-vxlan do not reach node3 (172.31.1.13); 1350 bytes do
                start the agents with --mtu=1400, or let datagrams of any size to UDP port 4789 and their fragments through between the nodes
        "#]],
    );
    check(
        |facts| {
            facts.paths = Ok(vec![
                path("node3", Passed::All),
                carried("node3", Passed::Nothing),
            ]);
        },
        expect![[r#"
            FAILURE reach: node3 (172.31.1.13) answers echo requests, but none that go through fairlead-vxlan
                let UDP port 4789 through between the nodes, in their own firewalls and in the network's; and see whether an agent with the same --overlay-vni and --overlay-encap-port runs there
        "#]],
    );
    let by_ipip = |passed| Path {
        device: "fairlead-ipip".to_owned(),
        size: 1480,
        carrier: Some(Carrier {
            port: None,
            overhead: 20,
        }),
        ..path("node3", passed)
    };
    for (passed, expected) in [
        (
            Passed::UpTo(1380),
            expect![[r#"
                FAILURE mtu: packets of 1480 bytes by fairlead-ipip do not reach node3 (172.31.1.13); 1380 bytes do
                    start the agents with --mtu=1400, or let IP in IP (protocol 4) of any size through between the nodes
            "#]],
        ),
        (
            Passed::Nothing,
            expect![[r#"
                FAILURE reach: node3 (172.31.1.13) answers echo requests, but none that go through fairlead-ipip
                    let IP in IP (protocol 4) through between the nodes, in their own firewalls and in the network's; and see whether an agent with --overlay-encap ipip runs there
            "#]],
        ),
    ] {
        check(
            |facts| facts.paths = Ok(vec![path("node3", Passed::All), by_ipip(passed)]),
            expected,
        );
    }
    // A node that is down is told once.
    check(
        |facts| {
            facts.paths = Ok(vec![
                path("node3", Passed::Nothing),
                carried("node3", Passed::Nothing),
            ]);
        },
        expect![[r#"
            could not tell mtu: no other node answers echo requests; see `reach`
            warning reach: node3 (172.31.1.13) does not answer echo requests by eth0
                see whether the node is up, and whether ICMP is let through: path MTU discovery needs it too
        "#]],
    );
}

#[test]
fn what_the_agent_says_of_itself() {
    check(
        |facts| {
            let status = &mut agent(facts).status;
            status.version = "9.9.9".to_owned();
            status.apply.failures = vec!["Service shop/web: the table is full".to_owned()];
            status.sources = vec![SourceRow {
                kind: "Pod".to_owned(),
                state: "degraded".to_owned(),
                reason: Some("403 Forbidden".to_owned()),
            }];
            status.devices = vec![DeviceRow {
                name: "eth0".to_owned(),
                role: "uplink".to_owned(),
                error: Some("no such device".to_owned()),
            }];
        },
        expect![[r#"
            FAILURE api-server: Pod is not followed: 403 Forbidden
                see that an API server answers at --master or the kubeconfig's server, and that the agent's role may list and watch
            warning agent: the agent is 9.9.9, this command 0.1.0
                use the command of the agent's own version
            FAILURE agent: not in force: Service shop/web: the table is full
                mend what it names; the agent tries again by itself
            FAILURE agent: no programs on eth0: no such device
                mend what it names; the agent tries again every few seconds
        "#]],
    );
}
