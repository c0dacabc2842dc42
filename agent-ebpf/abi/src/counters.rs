//! What the programs count, per CPU.

/// Per-CPU array of `u64`, indexed by [`Counter`].
pub const COUNTERS_MAP: &str = "COUNTERS_V1";

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
}

/// Every counter, with its name in metrics and tables.
pub const COUNTERS: [(Counter, &str); 12] = [
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
];

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
