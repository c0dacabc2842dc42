//! What the programs count, per CPU.

use bytemuck::{Pod, Zeroable};

/// Per-CPU array of `u64`, indexed by [`Counter`].
pub const COUNTERS_MAP: &str = "COUNTERS_V2";

/// Index into [`COUNTERS_MAP`]. New counters are appended; numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Counter {
    /// `connect` calls given to a backend.
    SocketConnections = 0,
    /// `connect` calls refused: the Service has no endpoint.
    SocketRejected = 1,
    /// Connections begun by a packet.
    PacketConnections = 2,
    /// Packets translated, both directions.
    PacketsTranslated = 3,
    /// Packets answered with RST or ICMP unreachable: the Service has no endpoint.
    PacketsRejected = 4,
    /// UDP flows moved because their backend was gone.
    FlowsRebalanced = 5,
    /// Dropped: no source port was free.
    DropNoPort = 6,
    /// Dropped: the connection table refused the entry.
    DropTableFull = 7,
    /// Dropped: the slot or backend of a Service could not be found.
    DropNoBackend = 8,
    /// Dropped: a helper refused to change or send the packet.
    DropFailed = 9,
    /// Dropped: a fragment or header the programs cannot translate.
    DropUnsupported = 10,
    /// Dropped: no route to the backend or back to the client.
    DropNoRoute = 11,
    /// Dropped: traffic policy Local, and no endpoint of the Service is on this node.
    DropNoLocalEndpoint = 12,
    /// Dropped: the client is in none of the Service's `loadBalancerSourceRanges`.
    DropSourceRange = 13,
    /// ICMP errors translated.
    ErrorsTranslated = 14,
    /// Later fragments translated.
    FragmentsTranslated = 15,
    /// Packets sent to the backend's node as they are.
    TunnelSent = 16,
    /// Packets received so.
    TunnelReceived = 17,
    /// Dropped: does not fit the tunnel; the sender was told.
    DropTooBig = 18,
    /// Connections that both sides have sent for.
    ConnectionsPromoted = 19,
    /// Packets sent to the backend's node before the stack saw them.
    XdpSent = 20,
    /// Later fragments kept until their first one comes.
    FragmentsHeld = 21,
    /// Kept fragments whose first one came.
    FragmentsReleased = 22,
    /// Later fragments that could not be kept, too long or too many, and passed untranslated.
    FragmentsNotHeld = 23,
    /// Dropped: a network policy lets nothing like it come to the pod.
    DropPolicyIngress = 24,
    /// Dropped: a network policy lets nothing like it leave the pod.
    DropPolicyEgress = 25,
    /// Connections that an audited policy would drop.
    PolicyAudited = 26,
    /// Events of `agent_abi::flow` that nobody read in time.
    FlowsLost = 27,
    /// Dropped: the source is none of the addresses of the pod that sent it.
    DropSpoofed = 28,
    /// Connections of pods that left the cluster under the node's address.
    EgressConnections = 29,
    /// Packets between pods that skipped the host's stack.
    FastPath = 30,
    /// Segments that open TCP connections and were asked to announce shorter ones.
    SegmentsClamped = 31,
}

/// Every counter, with its name in metrics and tables.
pub const COUNTERS: [(Counter, &str); 32] = [
    (Counter::SocketConnections, "socket_connections"),
    (Counter::SocketRejected, "socket_rejected"),
    (Counter::PacketConnections, "packet_connections"),
    (Counter::PacketsTranslated, "packets_translated"),
    (Counter::PacketsRejected, "packets_rejected"),
    (Counter::FlowsRebalanced, "flows_rebalanced"),
    (Counter::DropNoPort, "drop_no_port"),
    (Counter::DropTableFull, "drop_table_full"),
    (Counter::DropNoBackend, "drop_no_backend"),
    (Counter::DropFailed, "drop_failed"),
    (Counter::DropUnsupported, "drop_unsupported"),
    (Counter::DropNoRoute, "drop_no_route"),
    (Counter::DropNoLocalEndpoint, "drop_no_local_endpoint"),
    (Counter::DropSourceRange, "drop_source_range"),
    (Counter::ErrorsTranslated, "errors_translated"),
    (Counter::FragmentsTranslated, "fragments_translated"),
    (Counter::TunnelSent, "tunnel_sent"),
    (Counter::TunnelReceived, "tunnel_received"),
    (Counter::DropTooBig, "drop_too_big"),
    (Counter::ConnectionsPromoted, "connections_established"),
    (Counter::XdpSent, "xdp_sent"),
    (Counter::FragmentsHeld, "fragments_held"),
    (Counter::FragmentsReleased, "fragments_released"),
    (Counter::FragmentsNotHeld, "fragments_not_held"),
    (Counter::DropPolicyIngress, "drop_policy_ingress"),
    (Counter::DropPolicyEgress, "drop_policy_egress"),
    (Counter::PolicyAudited, "policy_audited"),
    (Counter::FlowsLost, "flows_lost"),
    (Counter::DropSpoofed, "drop_spoofed"),
    (Counter::EgressConnections, "egress_connections"),
    (Counter::FastPath, "fast_path"),
    (Counter::SegmentsClamped, "segments_clamped"),
];

/// Per-CPU hash: service id (`u32`) → [`TrafficV1`].
pub const TRAFFIC_MAP: &str = "TRAFFIC_V2";

/// What passed through one service. Packets of connections balanced at `connect` do not pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct TrafficV1 {
    /// Connections begun.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Their bytes, network header and up.
    pub bytes_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
}

const _: () = assert!(size_of::<TrafficV1>() == 40);
const _: () = {
    let mut index = 0;
    while index < COUNTERS.len() {
        assert!(
            COUNTERS[index].0 as usize == index,
            "COUNTERS is indexed by Counter"
        );
        index += 1;
    }
};
