//! Whether a new connection keeps its source address: `agent-ebpf`'s `source` over plain values.

use agent_abi::service::{
    BACKEND_LOCAL, BackendV2, FRONTEND_EXTERNAL, FRONTEND_LOOPBACK, FRONTEND_NODE_PORT, FrontendV2,
};
use agent_abi::settings::{SETTING_MASQUERADE_ALL, SettingsV2};
use agent_abi::{Address, is_v4};

/// Where a packet meets the programs first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// It comes in from another machine.
    Uplink,
    /// It comes from a pod.
    Workload,
    /// It leaves the node's own network.
    Egress,
}

/// What becomes of the source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Translation {
    /// Nothing.
    Keep,
    /// It becomes the Service's address.
    Hairpin,
    /// It becomes the node's address.
    Node(Address),
}

/// Decides for the first packet of a connection, and says why.
pub fn translation(
    hook: Hook,
    client: &Address,
    frontend: FrontendV2,
    backend: &BackendV2,
    settings: &SettingsV2,
) -> (Translation, &'static str) {
    if backend.address == *client {
        return (
            Translation::Hairpin,
            "the backend is the client itself, which would drop a packet from its own address",
        );
    }
    let all = settings.flags & SETTING_MASQUERADE_ALL != 0;
    let is_of_cluster = frontend.flags & (FRONTEND_NODE_PORT | FRONTEND_EXTERNAL) == 0;
    let (translate, reason) = match hook {
        Hook::Uplink if backend.flags & BACKEND_LOCAL == 0 => {
            (true, "the backend's reply would not pass this node")
        }
        Hook::Uplink | Hook::Workload if all => (true, "--masquerade-all"),
        Hook::Uplink if is_of_cluster && is_off_cluster(settings, client) == Some(true) => {
            (true, "a client outside of --cluster-cidr at a cluster IP")
        }
        Hook::Uplink => (
            false,
            "the backend is on this node, so its reply passes here",
        ),
        Hook::Workload => (false, "the reply comes back to the pod through this node"),
        Hook::Egress if frontend.flags & FRONTEND_LOOPBACK != 0 => {
            (true, "nobody can answer to a loopback address")
        }
        Hook::Egress => (false, "the node's own packets have its address already"),
    };
    let node = if is_v4(client) {
        settings.node_v4
    } else {
        settings.node_v6
    };
    match (translate, node == [0; 16]) {
        (false, _) => (Translation::Keep, reason),
        (true, false) => (Translation::Node(node), reason),
        (true, true) => (
            Translation::Keep,
            "it would become the node's address, but the Node has none of this family",
        ),
    }
}

/// Whether `--cluster-cidr` does not hold the address; `None` where it is not given for the family.
pub(super) fn is_off_cluster(settings: &SettingsV2, address: &Address) -> Option<bool> {
    let (network, bits) = if is_v4(address) {
        (settings.cluster_v4, settings.cluster_v4_bits)
    } else {
        (settings.cluster_v6, settings.cluster_v6_bits)
    };
    let differing = u128::from_be_bytes(network) ^ u128::from_be_bytes(*address);
    (bits != 0).then_some(differing.leading_zeros() < bits)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Hook, Translation, translation};
    use crate::lb::ebpf::entries::address;
    use agent_abi::Address;
    use agent_abi::service::{
        BACKEND_LOCAL, BackendV2, FRONTEND_EXTERNAL, FRONTEND_LOOPBACK, FRONTEND_NODE_PORT,
        FrontendV2,
    };
    use agent_abi::settings::{SETTING_MASQUERADE_ALL, SettingsV2};
    use bytemuck::Zeroable as _;

    fn of(text: &str) -> Address {
        address(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn the_source_changes_only_where_the_reply_would_miss_this_node_or_it_is_asked_for() {
        let node = Translation::Node(of("172.31.0.1"));
        let (cidr, all) = (true, SETTING_MASQUERADE_ALL);
        let keep = Translation::Keep;
        for (hook, client, frontend, local, cluster, settings, expected) in [
            (
                Hook::Uplink,
                "172.30.0.2",
                FRONTEND_NODE_PORT,
                false,
                false,
                0,
                node,
            ),
            (
                Hook::Uplink,
                "172.30.0.2",
                FRONTEND_NODE_PORT,
                true,
                false,
                0,
                keep,
            ),
            (
                Hook::Uplink,
                "172.30.0.2",
                FRONTEND_NODE_PORT,
                true,
                cidr,
                0,
                keep,
            ),
            (
                Hook::Uplink,
                "172.30.0.2",
                FRONTEND_EXTERNAL,
                true,
                cidr,
                0,
                keep,
            ),
            (
                Hook::Uplink,
                "172.30.0.2",
                FRONTEND_NODE_PORT,
                true,
                false,
                all,
                node,
            ),
            (Hook::Uplink, "172.30.0.2", 0, true, false, 0, keep),
            (Hook::Uplink, "172.30.0.2", 0, true, cidr, 0, node),
            (Hook::Uplink, "10.244.9.9", 0, true, cidr, 0, keep),
            (Hook::Uplink, "10.245.0.1", 0, true, cidr, 0, node),
            (Hook::Workload, "10.244.1.5", 0, false, cidr, 0, keep),
            (Hook::Workload, "10.244.1.5", 0, false, false, all, node),
            (
                Hook::Workload,
                "10.244.1.2",
                0,
                true,
                false,
                all,
                Translation::Hairpin,
            ),
            (Hook::Egress, "172.31.0.1", 0, false, cidr, all, keep),
            (
                Hook::Egress,
                "127.0.0.1",
                FRONTEND_NODE_PORT | FRONTEND_LOOPBACK,
                true,
                false,
                0,
                node,
            ),
            (
                Hook::Uplink,
                "fd00:30::2",
                FRONTEND_NODE_PORT,
                false,
                false,
                0,
                keep,
            ),
        ] {
            let backend = BackendV2 {
                address: of("10.244.1.2"),
                flags: if local { BACKEND_LOCAL } else { 0 },
                ..BackendV2::zeroed()
            };
            let settings = SettingsV2 {
                node_v4: of("172.31.0.1"),
                cluster_v4: of("10.244.0.0"),
                cluster_v4_bits: if cluster { 96 + 16 } else { 0 },
                flags: settings,
                ..SettingsV2::zeroed()
            };
            let frontend = FrontendV2 {
                service: 1,
                flags: frontend,
            };
            let (found, reason) = translation(hook, &of(client), frontend, &backend, &settings);
            assert_eq!(found, expected, "{hook:?} {client} {frontend:?}: {reason}");
        }
    }
}
