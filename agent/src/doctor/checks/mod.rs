//! The checks: each decides over [`Facts`] alone.
//!
//! `docs/doctor.md` is made from [`CHECKS`], and a test compares the two.

mod cluster;
mod firewall;
mod kernel;
mod others;
mod paths;
mod settings;
mod storage;

use super::facts::{Facts, Seen};
use super::finding::{Finding, Said, Verdict, could_not_tell};

/// One check.
#[derive(Debug)]
pub struct Check {
    /// Name, as `--only` takes it.
    pub name: &'static str,
    /// What it looks at.
    pub looks_at: &'static str,
    /// What suffers where that is not as it should be.
    pub affects: &'static str,
    /// Whether it needs a running agent.
    pub needs_agent: bool,
    look: fn(&Facts) -> Seen<Vec<Said>>,
}

/// Every check.
pub const CHECKS: [Check; 27] = [
    Check {
        name: "privileges",
        looks_at: "CAP_BPF (or CAP_SYS_ADMIN) and CAP_NET_ADMIN of this process",
        affects: "the agent does not start",
        needs_agent: false,
        look: kernel::privileges,
    },
    Check {
        name: "ebpf",
        looks_at: "eBPF in the kernel, its type information (BTF), tcx or clsact",
        affects: "the agent does not start, or programs are replaced by those of others",
        needs_agent: false,
        look: kernel::ebpf,
    },
    Check {
        name: "interfaces",
        looks_at: "whether the kernel makes veth pairs, VXLAN and IPIP devices; tried in a network namespace that goes away again",
        affects: "pods get no interface, or nodes of other subnets are not reached",
        needs_agent: false,
        look: kernel::interfaces,
    },
    Check {
        name: "cgroup2",
        looks_at: "a mounted cgroup v2 hierarchy",
        affects: "TCP is balanced per packet rather than at connect",
        needs_agent: false,
        look: storage::cgroup2,
    },
    Check {
        name: "bpffs",
        looks_at: "a bpffs under --bpf-root",
        affects: "a restart of the agent would lose connections",
        needs_agent: false,
        look: storage::bpffs,
    },
    Check {
        name: "pins",
        looks_at: "pinned maps of another build",
        affects: "the agent does not start",
        needs_agent: false,
        look: storage::pins,
    },
    Check {
        name: "memlock",
        looks_at: "RLIMIT_MEMLOCK, before Linux 5.11",
        affects: "the tables cannot be made",
        needs_agent: false,
        look: storage::memlock,
    },
    Check {
        name: "inotify",
        looks_at: "whether one more inotify instance can be made",
        affects: "--manifests is not followed; kubelet and container runtimes fail as well",
        needs_agent: false,
        look: storage::inotify,
    },
    Check {
        name: "forwarding",
        looks_at: "net.ipv4.ip_forward, net.ipv6.conf.all.forwarding, and the same of each interface",
        affects: "packets of pods do not leave the node, and do not come in",
        needs_agent: false,
        look: settings::forwarding,
    },
    Check {
        name: "rp-filter",
        looks_at: "net.ipv4.conf.*.rp_filter of the overlay and of nodes with several uplinks",
        affects: "packets that come another way than their answers would go are dropped",
        needs_agent: false,
        look: settings::rp_filter,
    },
    Check {
        name: "bridge-netfilter",
        looks_at: "net.bridge.bridge-nf-call-iptables and -ip6tables, where there are bridges",
        affects: "packets between pods of one bridge go through iptables, and its drops",
        needs_agent: false,
        look: settings::bridge_netfilter,
    },
    Check {
        name: "conntrack",
        looks_at: "entries of the kernel's connection tracking",
        affects: "new connections are dropped when the table is full",
        needs_agent: false,
        look: settings::conntrack,
    },
    Check {
        name: "local-ports",
        looks_at: "net.ipv4.ip_local_port_range, beside the ports of translated clients and of Services",
        affects: "a connection of the node itself may take a port that stands for a client's",
        needs_agent: false,
        look: settings::local_ports,
    },
    Check {
        name: "forward-chains",
        looks_at: "base chains at the forward hook of nftables and iptables that drop by default",
        affects: "packets of pods are dropped on their way through the node",
        needs_agent: false,
        look: firewall::forward,
    },
    Check {
        name: "input-chains",
        looks_at: "base chains at the input hook that drop by default and do not name the overlay's port",
        affects: "packets of the overlay are dropped, so pods of other nodes do not reach this node's",
        needs_agent: false,
        look: firewall::input,
    },
    Check {
        name: "leftover-chains",
        looks_at: "chains of kube-proxy, kube-router, Calico, Cilium and Flannel; virtual servers of IPVS",
        affects: "Services lead where an earlier proxy last thought, and pods are under policies of an earlier day",
        needs_agent: false,
        look: firewall::leftovers,
    },
    Check {
        name: "other-dataplanes",
        looks_at: "interfaces of Cilium, Calico, Flannel, Weave, Antrea, kube-router and kube-proxy",
        affects: "two dataplanes give pods addresses, routes and policies",
        needs_agent: false,
        look: others::dataplanes,
    },
    Check {
        name: "overlay-port",
        looks_at: "who else uses the overlay's UDP port and VXLAN identifier",
        affects: "the overlay's device cannot be made",
        needs_agent: false,
        look: others::overlay_port,
    },
    Check {
        name: "health-port",
        looks_at: "who else listens on the port of --health-addr",
        affects: "the agent does not start",
        needs_agent: false,
        look: others::health_port,
    },
    Check {
        name: "cni-configuration",
        looks_at: "CNI configurations that container runtimes take before the agent's",
        affects: "pods are set up by another plugin",
        needs_agent: false,
        look: others::configuration,
    },
    Check {
        name: "networkd",
        looks_at: "ManageForeignRoutes and ManageForeignRoutingPolicyRules of a running systemd-networkd",
        affects: "routes to pods disappear whenever it configures an interface anew",
        needs_agent: false,
        look: others::networkd,
    },
    Check {
        name: "network-manager",
        looks_at: "whether a running NetworkManager is told to leave the agent's interfaces alone",
        affects: "pods and the overlay lose addresses and routes",
        needs_agent: false,
        look: others::network_manager,
    },
    Check {
        name: "pod-networks",
        looks_at: "overlaps of pod networks with those of other nodes, the node's own networks and Services",
        affects: "some addresses lead elsewhere than to their pods",
        needs_agent: true,
        look: cluster::pod_networks,
    },
    Check {
        name: "mtu",
        looks_at: "packets of full size to each other node that may not be fragmented, outside of the overlay and through it",
        affects: "connections open and then hang when they carry large packets",
        needs_agent: true,
        look: paths::mtu,
    },
    Check {
        name: "reach",
        looks_at: "answers to echo requests from each other node, to those outside of the overlay and to those through it",
        affects: "pods of those nodes are not reached",
        needs_agent: true,
        look: paths::reach,
    },
    Check {
        name: "api-server",
        looks_at: "whether the agent hears of every kind; without one, whether API servers answer",
        affects: "changes of the cluster are not followed",
        needs_agent: false,
        look: cluster::api_server,
    },
    Check {
        name: "agent",
        looks_at: "whether what the running agent wants is in force",
        affects: "Services, policies or routes are not as the cluster has them",
        needs_agent: true,
        look: cluster::agent,
    },
];

/// Runs the checks of these names; all of them where there is none.
pub fn run(facts: &Facts, only: &[String]) -> Vec<Finding> {
    let wanted = |check: &&Check| only.is_empty() || only.iter().any(|name| name == check.name);
    CHECKS
        .iter()
        .filter(wanted)
        .flat_map(|check| {
            let said = (check.look)(facts);
            let said = said.unwrap_or_else(|unseen| vec![could_not_tell(unseen.0)]);
            said.into_iter().map(|said| check.finding(said))
        })
        .collect()
}

impl Check {
    fn finding(&self, said: Said) -> Finding {
        let Said {
            verdict,
            found,
            remedy,
        } = said;
        let is_wrong = matches!(verdict, Verdict::Failure | Verdict::Warning);
        Finding {
            check: self.name.to_owned(),
            verdict,
            found,
            affects: is_wrong.then(|| self.affects.to_owned()),
            remedy,
        }
    }
}
