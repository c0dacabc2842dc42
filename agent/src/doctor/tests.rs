//! Facts to findings, and the page of checks.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use expect_test::{Expect, expect, expect_file};
use rustix::thread::CapabilitySet;

use super::checks::{CHECKS, run};
use super::facts::{Agent, Configuration, Facts, Networkd, Passed, Path, Pins, Seen, Unseen};
use super::finding::Verdict;
use super::report::{self, Report};
use crate::control::network::{Network, NodeRow, OverlayRow};
use crate::control::report::{DeviceRow, SourceRow, Status};
use crate::lb::ebpf::attach::Mode;
use crate::probe::Capabilities;
use crate::sys::firewall::{Chain, Family, Filters, Hook, KeptBy};
use crate::sys::kinds::Kinds;
use crate::sys::links::{Link, LinkKind};
use crate::sys::vxlan::Vxlan;

fn link(name: &str, kind: LinkKind, networks: &[&str]) -> Link {
    Link {
        index: 2,
        name: name.to_owned(),
        kind,
        ethernet: true,
        addresses: networks
            .iter()
            .map(|net| net.split_once('/').unwrap().0.parse().unwrap())
            .collect(),
        sources: Vec::new(),
        routes: [].into(),
        bridge: None,
        networks: networks.iter().map(|net| net.parse().unwrap()).collect(),
        default_route: name.starts_with("eth"),
        mtu: 1500,
    }
}

fn node(name: &str, address: &str, pods: &str) -> NodeRow {
    NodeRow {
        name: name.to_owned(),
        addresses: vec![address.parse().unwrap()],
        pod_networks: vec![pods.parse().unwrap()],
    }
}

/// A node on which nothing is wrong, with an agent.
fn good() -> Facts {
    let settings = [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv4.conf.all.rp_filter", "1"),
        ("net.ipv4.conf.eth0.rp_filter", "1"),
        ("net.ipv4.conf.eth0.forwarding", "1"),
        ("net.ipv4.conf.fairlead-vxlan.rp_filter", "2"),
        ("net.ipv4.conf.fairlead-vxlan.forwarding", "1"),
        ("net.bridge.bridge-nf-call-iptables", "1"),
        ("net.bridge.bridge-nf-call-ip6tables", "0"),
        ("net.netfilter.nf_conntrack_count", "10"),
        ("net.netfilter.nf_conntrack_max", "1000"),
    ];
    let overlay = OverlayRow {
        device: "fairlead-vxlan".to_owned(),
        vxlan: Some((7100, 4789)),
        mtu: 1450,
        peers: vec!["172.31.1.13".parse().unwrap()],
    };
    Facts {
        node: Ok(Capabilities {
            privileges: CapabilitySet::BPF | CapabilitySet::NET_ADMIN,
            bpf: true,
            attach: Mode::Tcx,
            cgroup2: Some("/sys/fs/cgroup".into()),
        }),
        kernel: Ok((6, 12)),
        btf: true,
        kinds: Ok(Kinds {
            veth: true,
            vxlan: true,
            ipip: false,
        }),
        missing_bpffs: Ok(None),
        pins: Ok(Pins::Ours),
        memlock: Some(65536),
        inotify: Ok(true),
        sysctls: settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Ok(Some(value.to_owned()))))
            .collect(),
        links: Ok(vec![
            link("lo", LinkKind::Loopback, &["127.0.0.1/8"]),
            link("eth0", LinkKind::Other, &["172.31.0.11/24"]),
            link("fairlead-vxlan", LinkKind::Other, &[]),
        ]),
        vxlans: Ok(vec![Vxlan {
            name: "fairlead-vxlan".to_owned(),
            vni: 7100,
            port: 4789,
            any_vni: false,
        }]),
        udp_ports: Ok([4789].into()),
        tcp_ports: Ok([20244].into()),
        nft: Ok(vec![chain(
            "filter",
            "FORWARD",
            Hook::Forward,
            false,
            false,
        )]),
        legacy: Ok(Vec::new()),
        ipvs: Ok(0),
        networkd: Ok(None),
        network_manager: Ok(None),
        configurations: Ok(vec![Configuration {
            name: "10-fairlead.conflist".to_owned(),
            own: true,
        }]),
        servers: Ok(Vec::new()),
        agent: Ok(Agent {
            status: Status {
                node: "node1".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..Status::default()
            },
            network: Network {
                synced: true,
                nodes: vec![
                    node("node1", "172.31.0.11", "10.244.1.0/24"),
                    node("node2", "172.31.1.13", "10.244.2.0/24"),
                ],
                services: vec!["10.96.0.1".parse().unwrap()],
                routed: true,
                overlay: Some(overlay),
            },
        }),
        paths: Ok(vec![path("node2", Passed::All)]),
        vxlan: (7100, 4789),
        health_port: 20244,
    }
}

fn path(node: &str, passed: Passed) -> Path {
    Path {
        node: node.to_owned(),
        to: "172.31.1.13".parse().unwrap(),
        device: "eth0".to_owned(),
        size: 1500,
        passed,
    }
}

fn chain(table: &str, name: &str, hook: Hook, drops: bool, lets_some_pass: bool) -> Chain {
    Chain {
        kept_by: KeptBy::Nft,
        family: Family::Ip,
        table: table.to_owned(),
        name: name.to_owned(),
        filters: Some(Filters {
            hook,
            drops,
            lets_some_pass,
            ports: [].into(),
        }),
    }
}

fn agent(facts: &mut Facts) -> &mut Agent {
    facts.agent.as_mut().unwrap()
}

fn unseen<T>(why: &str) -> Seen<T> {
    Err(Unseen(why.to_owned()))
}

fn set(facts: &mut Facts, name: &str, value: &str) {
    facts
        .sysctls
        .insert(name.to_owned(), Ok(Some(value.to_owned())));
}

/// What is not as it should be on the good node after a change, each check's on lines of its own.
#[track_caller]
fn check(change: impl FnOnce(&mut Facts), expected: Expect) {
    let mut facts = good();
    change(&mut facts);
    let mut text = String::new();
    for found in run(&facts, &[]) {
        if matches!(found.verdict, Verdict::Ok | Verdict::NotApplicable) {
            continue;
        }
        writeln!(
            text,
            "{} {}: {}",
            found.verdict.as_str(),
            found.check,
            found.found
        )
        .unwrap();
        if let Some(remedy) = found.remedy {
            writeln!(text, "    {remedy}").unwrap();
        }
    }
    expected.assert_eq(&text);
}

#[test]
fn nothing_is_wrong_on_a_good_node() {
    check(|_| {}, expect![[""]]);
}

#[test]
fn without_an_agent_what_it_knows_is_not_taken_for_good() {
    check(
        |facts| {
            facts.agent = unseen("no agent answers");
            facts.paths = unseen("no agent answers");
            facts.servers = unseen("no API server is named");
            facts.tcp_ports = Ok([].into());
        },
        expect![[r#"
            could not tell pod-networks: no agent answers
            could not tell mtu: no agent answers
            could not tell reach: no agent answers
            could not tell api-server: no API server is named
            could not tell agent: no agent answers
        "#]],
    );
}

#[test]
fn nothing_that_cannot_be_read_is_taken_for_good() {
    let mut facts = good();
    let why = || Unseen("hidden".to_owned());
    facts.node = Err(why());
    facts.kernel = Err(why());
    facts.kinds = Err(why());
    facts.missing_bpffs = Err(why());
    facts.pins = Err(why());
    facts.inotify = Err(why());
    facts.sysctls = BTreeMap::new();
    facts.links = Err(why());
    facts.vxlans = Err(why());
    facts.udp_ports = Err(why());
    facts.tcp_ports = Err(why());
    facts.nft = Err(why());
    facts.legacy = Err(why());
    facts.ipvs = Err(why());
    facts.networkd = Err(why());
    facts.network_manager = Err(why());
    facts.configurations = Err(why());
    facts.servers = Err(why());
    facts.agent = Err(why());
    facts.paths = Err(why());
    for found in run(&facts, &[]) {
        assert_eq!(found.verdict, Verdict::CouldNotTell, "{found:?}");
    }
}

#[test]
fn settings() {
    check(
        |facts| {
            set(facts, "net.ipv4.ip_forward", "0");
            set(facts, "net.ipv6.conf.all.forwarding", "0");
            set(facts, "net.ipv4.conf.fairlead-vxlan.rp_filter", "0");
            set(facts, "net.netfilter.nf_conntrack_count", "900");
            let bridge = link("cni0", LinkKind::Bridge, &[]);
            facts.links.as_mut().unwrap().push(bridge);
        },
        expect![[r#"
            FAILURE forwarding: net.ipv4.ip_forward is 0
                sysctl -w net.ipv4.ip_forward=1, and look in /etc/sysctl.d for who sets it to 0
            warning forwarding: net.ipv6.conf.all.forwarding is 0
                sysctl -w net.ipv6.conf.all.forwarding=1, and look in /etc/sysctl.d for who sets it to 0
            warning rp-filter: strict on fairlead-vxlan, which the agent makes loose: packets of nodes pass only while a rule leads their answers back by it
                sysctl -w net.ipv4.conf.fairlead-vxlan.rp_filter=2
            warning bridge-netfilter: net.bridge.bridge-nf-call-iptables is 1, and there is cni0
                sysctl -w net.bridge.bridge-nf-call-iptables=0, unless another program of this node relies on it
            warning conntrack: 900 of 1000 entries are in use
                sysctl -w net.netfilter.nf_conntrack_max=2000
        "#]],
    );
    check(
        |facts| {
            set(facts, "net.ipv4.conf.eth0.forwarding", "0");
            set(facts, "net.netfilter.nf_conntrack_count", "1000");
            let mut second = link("eth1", LinkKind::Other, &["192.0.2.1/24"]);
            second.index = 4;
            facts.links.as_mut().unwrap().push(second);
            set(facts, "net.ipv4.conf.eth1.rp_filter", "2");
            set(facts, "net.ipv4.conf.eth1.forwarding", "1");
        },
        expect![[r#"
            FAILURE forwarding: net.ipv4.conf.eth0.forwarding is 0: what comes in there is not forwarded
                sysctl -w net.ipv4.conf.eth0.forwarding=1, and with systemd-networkd IPForward=yes in its .network file
            warning rp-filter: strict on eth0, one of several uplinks: packets whose answers would leave by another are dropped
                sysctl -w net.ipv4.conf.eth0.rp_filter=2
            FAILURE conntrack: 1000 of 1000 entries are in use
                sysctl -w net.netfilter.nf_conntrack_max=2000
        "#]],
    );
    check(
        |facts| {
            set(facts, "net.ipv4.ip_forward", "0");
            facts.agent = unseen("no agent answers");
        },
        expect![[r#"
            warning forwarding: net.ipv4.ip_forward is 0; the agent sets it at its start
                sysctl -w net.ipv4.ip_forward=1, and look in /etc/sysctl.d for who sets it to 0
            FAILURE health-port: somebody listens on TCP port 20244
                find it with ss -ltnp sport = :20244 and end it, or give the agent another --health-addr
            could not tell pod-networks: no agent answers
            could not tell agent: no agent answers
        "#]],
    );
}

#[test]
fn chains() {
    check(
        |facts| {
            let mut v6 = chain("filter", "FORWARD", Hook::Forward, true, true);
            v6.family = Family::Ip6;
            let mut legacy = chain("filter", "FORWARD", Hook::Forward, true, false);
            legacy.kept_by = KeptBy::Legacy;
            let mut named = chain("inet-filter", "input", Hook::Input, true, true);
            named.filters.as_mut().unwrap().ports = [22, 4789].into();
            facts.nft = Ok(vec![
                chain("filter", "FORWARD", Hook::Forward, true, false),
                v6,
                chain("mine", "forward", Hook::Forward, true, true),
                chain("firewalld", "filter_FORWARD", Hook::Forward, true, true),
                chain("filter", "INPUT", Hook::Input, true, true),
                chain("mine", "input", Hook::Input, true, true),
                chain("firewalld", "filter_INPUT", Hook::Input, true, true),
                named,
            ]);
            facts.legacy = Ok(vec![legacy]);
        },
        expect![[r#"
            FAILURE forward-chains: ip filter FORWARD drops everything
                iptables -P FORWARD ACCEPT
            warning forward-chains: ip6 filter FORWARD drops what no rule of it lets pass
                ip6tables -P FORWARD ACCEPT
            warning forward-chains: ip mine forward drops what no rule of it lets pass
                nft chain ip mine forward '{ policy accept ; }', and no last rule that drops
            warning forward-chains: ip firewalld filter_FORWARD drops what no rule of it lets pass
                firewall-cmd --permanent --zone=trusted --add-source=POD-NETWORK for each pod network, then firewall-cmd --reload
            FAILURE forward-chains: ip filter FORWARD (iptables-legacy) drops everything
                iptables-legacy -P FORWARD ACCEPT
            warning input-chains: ip filter INPUT drops what no rule of it lets pass
                iptables -I INPUT -p udp --dport 4789 -j ACCEPT
            warning input-chains: ip mine input drops what no rule of it lets pass
                nft insert rule ip mine input udp dport 4789 accept
            warning input-chains: ip firewalld filter_INPUT drops what no rule of it lets pass
                firewall-cmd --permanent --add-port=4789/udp, then firewall-cmd --reload
        "#]],
    );
    check(
        |facts| {
            let of_ufw = Chain {
                filters: None,
                ..chain("filter", "ufw-user-forward", Hook::Forward, false, false)
            };
            facts.nft = Ok(vec![
                chain("filter", "FORWARD", Hook::Forward, true, true),
                of_ufw,
            ]);
            facts.legacy =
                unseen("chains of iptables-legacy: cannot be read: Operation not permitted");
        },
        expect![[r#"
            warning forward-chains: ip filter FORWARD drops what no rule of it lets pass
                ufw default allow routed
            could not tell forward-chains: chains of iptables-legacy: cannot be read: Operation not permitted
            could not tell input-chains: chains of iptables-legacy: cannot be read: Operation not permitted
            could not tell leftover-chains: chains of iptables-legacy: cannot be read: Operation not permitted
        "#]],
    );
    check(
        |facts| {
            let named = |table: &str, name: &str| Chain {
                filters: None,
                ..chain(table, name, Hook::Forward, false, false)
            };
            facts.nft = Ok(vec![
                named("filter", "KUBE-POD-FW-ABC"),
                named("nat", "KUBE-SVC-ABC"),
                named("nat", "KUBE-SERVICES"),
                named("kube-proxy", "services"),
                named("filter", "cali-FORWARD"),
                // kubelet makes these two whatever the proxy.
                named("mangle", "KUBE-KUBELET-CANARY"),
                named("filter", "KUBE-FIREWALL"),
            ]);
            facts.ipvs = Ok(3);
        },
        expect![[r#"
            warning leftover-chains: there are chains of Calico
                remove its DaemonSet, and restart the node
            warning leftover-chains: there are chains of kube-proxy
                remove its DaemonSet, then kube-proxy --cleanup
            warning leftover-chains: there are chains of kube-router
                kube-router --cleanup-config
            warning leftover-chains: IPVS has 3 virtual servers
                remove the proxy that made them, then ipvsadm --clear
        "#]],
    );
}

#[test]
fn others() {
    check(
        |facts| {
            let links = facts.links.as_mut().unwrap();
            for name in [
                "cilium_host",
                "cilium_net",
                "kube-ipvs0",
                "kube-bridge",
                "calico1",
                "cali123",
            ] {
                links.push(link(name, LinkKind::Veth, &[]));
            }
            for name in ["calico1", "cali123"] {
                set(facts, &format!("net.ipv4.conf.{name}.forwarding"), "1");
            }
            let of = |name: &str, vni, port, any_vni| Vxlan {
                name: name.to_owned(),
                vni,
                port,
                any_vni,
            };
            facts.vxlans.as_mut().unwrap().extend([
                of("same", 7100, 4789, false),
                of("other", 1, 4789, false),
                of("any", 0, 4789, true),
                of("elsewhere", 7100, 8472, false),
            ]);
            facts.networkd = Ok(Some(Networkd {
                routes: true,
                rules: false,
            }));
            facts.network_manager = Ok(Some(vec!["interface-name:fairlead-*".to_owned()]));
            let first = Configuration {
                name: "05-cilium.conflist".to_owned(),
                own: false,
            };
            facts.configurations.as_mut().unwrap().insert(0, first);
        },
        expect![[r#"
            FAILURE other-dataplanes: cilium_host is there, an interface of Cilium
                remove Cilium's DaemonSet; where that is done: ip link del cilium_host
            warning other-dataplanes: kube-ipvs0 is there, an interface of kube-proxy
                remove kube-proxy's DaemonSet; where that is done: ip link del kube-ipvs0
            warning other-dataplanes: kube-bridge is there, an interface of kube-router
                remove kube-router's DaemonSet; where that is done: ip link del kube-bridge
            FAILURE other-dataplanes: calico1 is there, an interface of Calico
                remove Calico's DaemonSet; where that is done: ip link del calico1
            FAILURE overlay-port: same has UDP port 4789 and identifier 7100 already
                ip link del same, or another --overlay-encap-port on every node
            warning overlay-port: other shares UDP port 4789, with identifier 1; both work while their other options are alike
                ip link del other, or another --overlay-encap-port on every node
            FAILURE overlay-port: any takes everything that comes to UDP port 4789
                ip link del any, or another --overlay-encap-port on every node
            FAILURE cni-configuration: 05-cilium.conflist comes before 10-fairlead.conflist
                move 05-cilium.conflist away, or give the agent a --cni-conf-name that sorts before it
            FAILURE networkd: ManageForeignRoutes is on
                put `[Network]` and ManageForeignRoutes=no into /etc/systemd/networkd.conf.d/fairlead.conf, then systemctl restart systemd-networkd
            warning network-manager: it is not told to leave fairlead-* and fl* alone
                put `[keyfile]` and unmanaged-devices=interface-name:fairlead-*;interface-name:fl* into /etc/NetworkManager/conf.d/fairlead.conf, then systemctl reload NetworkManager
        "#]],
    );
    check(
        |facts| {
            facts.agent = unseen("no agent answers");
            facts.vxlans = Ok(Vec::new());
            facts.networkd = Ok(Some(Networkd {
                routes: true,
                rules: true,
            }));
            let patterns = ["interface-name:=fairlead-*", "interface-name:fl*"];
            facts.network_manager = Ok(Some(patterns.map(str::to_owned).to_vec()));
            facts.configurations = Ok(vec![Configuration {
                name: "05-cilium.conflist".to_owned(),
                own: false,
            }]);
            facts.servers = Ok(vec![
                ("https://10.0.0.1/".to_owned(), Ok("v1.35.0".to_owned())),
                (
                    "https://10.0.0.2/".to_owned(),
                    Err("connection refused".to_owned()),
                ),
            ]);
        },
        expect![[r#"
            FAILURE overlay-port: a socket that is not of a VXLAN device of this network namespace has UDP port 4789
                find it with ss -lunp sport = :4789 and end its program, or have another --overlay-encap-port on every node
            FAILURE health-port: somebody listens on TCP port 20244
                find it with ss -ltnp sport = :20244 and end it, or give the agent another --health-addr
            warning cni-configuration: 05-cilium.conflist would come before the agent's 10-fairlead.conflist
                move 05-cilium.conflist away, or give the agent a --cni-conf-name that sorts before it
            warning networkd: ManageForeignRoutes and ManageForeignRoutingPolicyRules is on
                put `[Network]` and ManageForeignRoutes=no and ManageForeignRoutingPolicyRules=no into /etc/systemd/networkd.conf.d/fairlead.conf, then systemctl restart systemd-networkd
            could not tell pod-networks: no agent answers
            FAILURE api-server: https://10.0.0.2/: connection refused
                name an API server that answers with --master, or mend the kubeconfig
            could not tell agent: no agent answers
        "#]],
    );
}

#[test]
fn kernel_and_storage() {
    check(
        |facts| {
            let node = facts.node.as_mut().unwrap();
            node.privileges = CapabilitySet::NET_ADMIN;
            node.bpf = false;
            node.cgroup2 = None;
            facts.kinds = Ok(Kinds {
                veth: false,
                vxlan: false,
                ipip: false,
            });
            facts.kernel = Ok((5, 10));
            facts.inotify = Ok(false);
            facts.missing_bpffs = Ok(Some("/sys/fs/bpf".into()));
            facts.pins = Ok(Pins::Strange(
                "/sys/fs/bpf/fairlead/maps/X_V9 is of another build".to_owned(),
            ));
        },
        expect![[r#"
            FAILURE privileges: this process lacks CAP_BPF
                run the agent, and this command, as root; in a container as a privileged one
            FAILURE ebpf: no `bpf` in /proc/filesystems
                use a kernel with CONFIG_BPF_SYSCALL
            FAILURE interfaces: no veth pairs can be made
                load the module: modprobe veth
            FAILURE interfaces: no VXLAN device can be made, which the overlay is of
                load the module: modprobe vxlan
            warning cgroup2: cgroup v2 is not mounted
                mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with systemd.unified_cgroup_hierarchy=1
            FAILURE bpffs: none on /sys/fs/bpf, though an agent runs
                restart the agent, which mounts one; in a container with mountPropagation Bidirectional
            FAILURE pins: /sys/fs/bpf/fairlead/maps/X_V9 is of another build
                start that build again, or give up its connections: fairlead-agent --cleanup-config
            FAILURE memlock: 65536 bytes may be locked
                LimitMEMLOCK=infinity in the unit of the agent or of the container runtime
            FAILURE inotify: all inotify instances of this user are in use
                sysctl -w fs.inotify.max_user_instances=1024
        "#]],
    );
    check(
        |facts| agent(facts).network.overlay.as_mut().unwrap().vxlan = None,
        expect![[r#"
            FAILURE interfaces: no IPIP device can be made, which the overlay is of
                load the module: modprobe ipip; or have --overlay-encap vxlan on every node
        "#]],
    );
}

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

#[test]
fn every_finding_that_is_wrong_says_in_one_line_what_to_do() {
    let mut facts = good();
    set(&mut facts, "net.ipv4.ip_forward", "0");
    facts.nft = unseen("chains of nftables: cannot be read");
    let report = Report::of(run(&facts, &[]));
    for found in &report.findings {
        let is_wrong = matches!(found.verdict, Verdict::Failure | Verdict::Warning);
        assert_eq!(found.remedy.is_some(), is_wrong, "{found:?}");
        assert!(
            found.remedy.iter().all(|remedy| !remedy.contains('\n')),
            "{found:?}"
        );
    }
    let only = ["forwarding", "rp-filter", "input-chains"].map(str::to_owned);
    let report = Report::of(run(&facts, &only));
    expect![[r#"
        FAILURE  forwarding: net.ipv4.ip_forward is 0
                 affects  packets of pods do not leave the node, and do not come in
                 remedy   sysctl -w net.ipv4.ip_forward=1, and look in /etc/sysctl.d for who sets it to 0

        VERDICT         CHECK         FOUND
        could not tell  input-chains  chains of nftables: cannot be read
        ok              rp-filter     nothing that strict filters would drop

        1 failures, 0 warnings, 1 could not tell, 1 ok, 0 not applicable
    "#]].assert_eq(&report::table(&report));
    expect![[r#"
        {
          "version": "0.1.0",
          "summary": {
            "failures": 1,
            "warnings": 0,
            "could_not_tell": 0,
            "ok": 0,
            "not_applicable": 0
          },
          "findings": [
            {
              "check": "forwarding",
              "verdict": "failure",
              "found": "net.ipv4.ip_forward is 0",
              "affects": "packets of pods do not leave the node, and do not come in",
              "remedy": "sysctl -w net.ipv4.ip_forward=1, and look in /etc/sysctl.d for who sets it to 0"
            }
          ]
        }"#]]
        .assert_eq(&serde_json::to_string_pretty(&Report::of(run(&facts, &only[..1]))).unwrap());
}

/// `docs/doctor.md` says what the checks say. `UPDATE_EXPECT=1 cargo test -p agent` writes it.
#[test]
fn the_page_of_checks_is_up_to_date() {
    let mut page = PAGE.to_owned();
    for check in &CHECKS {
        let agent = if check.needs_agent { "yes" } else { "no" };
        let row = [check.name, check.looks_at, check.affects, agent];
        let [name, looks_at, affects, agent] = row.map(|cell| cell.replace('|', "\\|"));
        writeln!(page, "| `{name}` | {looks_at} | {affects} | {agent} |").unwrap();
    }
    expect_file!["../../../docs/doctor.md"].assert_eq(&page);
}

const PAGE: &str = "\
# fairlead-agent doctor

Looks at what on a node stands in the way, before installing and while the agent runs, and says to each finding what it affects and what to do about it, in one line.
It changes nothing on the node: interfaces are tried in a network namespace of its own, and what is sent are echo requests to other nodes (`--no-probe` leaves them out).
The exit status is 1 where a check fails, else 0; 2 where the arguments make no sense.

```
fairlead-agent doctor                        # all checks, for people
fairlead-agent doctor --only mtu,reach       # some of them
fairlead-agent doctor --kubeconfig FILE      # before installing: does the API server answer?
fairlead-agent doctor -o json                # for machines
fairlead-agent doctor --list                 # the names
```

## Verdicts

| verdict | in JSON | meaning |
|---|---|---|
| FAILURE | `failure` | something does not work, or will not |
| warning | `warning` | something may not work |
| could not tell | `could-not-tell` | what is needed to know could not be read; why is said |
| ok | `ok` | as it should be |
| not applicable | `not-applicable` | there is nothing of the kind on this node |

## JSON

An object with `version` (of the program), `summary` (`failures`, `warnings`, `could_not_tell`, `ok`, `not_applicable`: how many findings) and `findings`, the worst first.
A finding has `check`, `verdict`, `found`, and of a failure or a warning `affects` and `remedy`, which are null else.
A check may have several findings, and has at least one.
Names and verdicts stay as they are; fields and checks may be added.

## Checks

Those that need an agent could not tell without one.

| check | looks at | affects | needs an agent |
|---|---|---|---|
";
