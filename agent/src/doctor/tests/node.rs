//! What a node itself shows.

use super::*;

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
            set(facts, "net.ipv4.ip_local_port_range", "10240\t65535");
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
            warning local-ports: net.ipv4.ip_local_port_range is 10240 to 65535: 1024 to 29999 are given to clients' packets that become the node's, 30000 to 32767 to node ports
                sysctl -w net.ipv4.ip_local_port_range="32768 65535"
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
            agent(facts).network.overlay.as_mut().unwrap().vxlan = None;
            facts.kinds.as_mut().unwrap().ipip = true;
            facts.nft.as_mut().unwrap().extend([
                chain("filter", "INPUT", Hook::Input, true, true),
                chain("mine", "input", Hook::Input, true, true),
            ]);
        },
        expect![[r#"
            warning input-chains: ip filter INPUT drops what no rule of it lets pass
                iptables -I INPUT -p 4 -j ACCEPT
            warning input-chains: ip mine input drops what no rule of it lets pass
                nft insert rule ip mine input ip protocol 4 accept
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
