//! What of the node matters to what is wanted.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use model::{Cluster, IpFamily, ObjectKey};

use super::egress::EgressOptions;
use super::route::RouterOptions;

/// What the operator decides about addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Where node ports are served.
    pub node_ports: NodePortAddresses,
    /// Whether they are served on loopback addresses too.
    pub loopback: bool,
    /// `--service-external-ip-range`: external IPs outside are not served; with none, none is.
    pub external_ranges: Vec<IpNet>,
    /// `--strict-external-ip-validation=false` serves external IPs of any range.
    pub any_external: bool,
}

/// `--nodeport-addresses`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The addresses of the Node object.
    #[default]
    Primary,
    /// Every address of the node's interfaces.
    All,
    /// Those of them within these networks.
    Within(Vec<IpNet>),
}

/// The node that something is wanted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeContext {
    /// The node's name.
    pub name: Arc<str>,
    /// Its zone (`topology.kubernetes.io/zone`).
    pub zone: Option<Arc<str>>,
    /// Addresses of the Node object; internal ones first, else in its order.
    pub addresses: Vec<IpAddr>,
    /// Addresses on which node ports are served.
    pub port_addresses: BTreeSet<IpAddr>,
    /// Every address of the node that others can reach it by; what comes from there may always
    /// reach its pods.
    pub own: BTreeSet<IpAddr>,
    /// Where its pods' addresses are from (`spec.podCIDRs`).
    pub pod_cidrs: Vec<IpNet>,
    /// `--netpol-default-deny`: pods that are not known yet may neither send nor receive.
    pub default_deny: bool,
    /// What the operator decides.
    pub exposure: Arc<Exposure>,
    /// Largest packet that every uplink takes, in bytes; 0 where not known.
    pub mtu: u32,
    /// Addresses of the Node object as its interfaces have them, each with its network.
    pub networks: BTreeSet<IpNet>,
    /// Addresses of its interfaces that are of a network there. One that stands alone may be a
    /// Service's: keepalived's, or on the dummy interface of kube-router or kube-proxy.
    pub interfaces: BTreeSet<IpAddr>,
    /// How pods of other nodes are reached, where routes are kept (`--run-router`).
    pub router: Option<RouterOptions>,
    /// What pods send out of the cluster leaves under the node's address (`--enable-pod-egress`).
    pub egress: Option<Arc<EgressOptions>>,
}

impl NodeContext {
    /// The context of the node `name`, with no addresses where the cluster does not know it.
    /// `own` are the addresses of its interfaces. Nothing is denied to pods that are not known.
    pub fn of(
        cluster: &Cluster,
        name: &Arc<str>,
        exposure: &Arc<Exposure>,
        own: &BTreeSet<IpAddr>,
        mtu: u32,
    ) -> Self {
        let key = ObjectKey::cluster_scoped(name);
        let node = cluster.node(&key);
        let addresses = addresses_of(cluster, &key);
        let served = |address: &&IpAddr| !address.is_loopback() && !is_link_local(**address);
        let port_addresses = match &exposure.node_ports {
            NodePortAddresses::Primary => addresses.iter().copied().collect(),
            NodePortAddresses::All => own.iter().filter(served).copied().collect(),
            NodePortAddresses::Within(networks) => own
                .iter()
                .filter(served)
                .filter(|address| networks.iter().any(|network| network.contains(*address)))
                .copied()
                .collect(),
        };
        let reachable = own.iter().filter(served).copied();
        Self {
            name: Arc::clone(name),
            own: reachable.chain(addresses.iter().copied()).collect(),
            pod_cidrs: node.map_or(Vec::new(), |node| node.pod_cidrs.clone()),
            default_deny: false,
            zone: node.and_then(|node| node.zone.clone()),
            addresses,
            port_addresses,
            exposure: Arc::clone(exposure),
            mtu,
            networks: BTreeSet::new(),
            interfaces: BTreeSet::new(),
            router: None,
            egress: None,
        }
    }

    /// The first address of a family, for source translation.
    pub fn address(&self, family: IpFamily) -> Option<IpAddr> {
        self.addresses
            .iter()
            .copied()
            .find(|address| IpFamily::of(*address) == family)
    }

    /// Whether the address is the node's own. One of an interface that stands alone may be a Service's,
    /// which kube-vip or keepalived has put there.
    pub fn owns(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address) || self.interfaces.contains(&address)
    }

    /// The loopback address on which node ports are served.
    pub fn loopback(&self, family: IpFamily) -> Option<IpAddr> {
        self.exposure.loopback.then_some(match family {
            IpFamily::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpFamily::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        })
    }
}

/// Addresses of a Node object; internal ones first.
pub fn addresses_of(cluster: &Cluster, node: &ObjectKey) -> Vec<IpAddr> {
    let node = cluster.node(node);
    let mut addresses: Vec<_> = node
        .into_iter()
        .flat_map(|node| node.addresses.clone())
        .collect();
    addresses.sort_by_key(|address| address.address_type);
    addresses
        .into_iter()
        .map(|address| address.address)
        .collect()
}

/// Addresses of all Node objects.
pub(super) fn addresses_of_all(cluster: &Cluster) -> Arc<BTreeSet<IpAddr>> {
    let nodes = cluster.nodes();
    let addresses = nodes.flat_map(|(_, node)| node.addresses.iter().map(|known| known.address));
    Arc::new(addresses.collect())
}

/// Whether an address means something on one link alone.
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
