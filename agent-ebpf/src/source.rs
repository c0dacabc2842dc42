//! Whether a new connection keeps its source address.
//!
//! The source is translated only where the reply would otherwise not pass this node again, or
//! where the operator asked for it.

use agent_abi::connection::TupleV1;
use agent_abi::hash::{finish, mix};
use agent_abi::service::{
    BACKEND_LOCAL, BackendV2, FRONTEND_EXTERNAL, FRONTEND_LOOPBACK, FRONTEND_NODE_PORT, FrontendV2,
};
use agent_abi::settings::{SETTING_MASQUERADE_ALL, SettingsV2};
use agent_abi::{Address, is_v4};

use crate::maps;
use crate::packet::{Hook, same_address};

/// Source ports for translated connections: below Linux's ephemeral ports (32768) and Kubernetes'
/// node ports (30000), so that they meet neither the node's own connections nor a frontend.
const FIRST_PORT: u16 = 1024;
const LAST_PORT: u16 = 29_999;

/// What becomes of the source address.
pub(crate) enum Translation {
    Keep,
    /// The backend is the client itself: it sees the Service's address.
    Hairpin,
    /// The node's own address.
    Node(Address),
}

/// Decides for a packet `tuple` to `frontend` that goes to `backend`.
#[inline(always)]
pub(crate) fn translation(
    hook: Hook,
    tuple: &TupleV1,
    frontend: &FrontendV2,
    backend: &BackendV2,
) -> Translation {
    if same_address(&backend.address, &tuple.source) {
        return Translation::Hairpin;
    }
    let Some(settings) = maps::settings() else {
        return Translation::Keep;
    };
    let node = if is_v4(&tuple.source) {
        &settings.node_v4
    } else {
        &settings.node_v6
    };
    let translate = match hook {
        Hook::UplinkIngress => {
            backend.flags & BACKEND_LOCAL == 0
                || settings.flags & SETTING_MASQUERADE_ALL != 0
                || (frontend.flags & (FRONTEND_NODE_PORT | FRONTEND_EXTERNAL) == 0
                    && is_off_cluster(settings, &tuple.source) == Some(true))
        }
        Hook::WorkloadIngress => settings.flags & SETTING_MASQUERADE_ALL != 0,
        // The node's own packets already have its address, but for those to a loopback address.
        Hook::Egress => frontend.flags & FRONTEND_LOOPBACK != 0,
    };
    if translate && !same_address(node, &[0; 16]) {
        Translation::Node(*node)
    } else {
        Translation::Keep
    }
}

/// Where a connection looks for a free source port.
///
/// First at a place of the client's own port: the ports of one client never meet there, and when it
/// takes one anew, the backend sees the same port with the later sequence numbers and timestamps that
/// its socket in TIME-WAIT wants (RFC 6191), instead of those of another connection. Then in blocks;
/// the client's address and port say which, so clients seldom meet, and a search is short.
pub(crate) struct Ports {
    seed: u32,
}

const BLOCK: u32 = 64;
const PORTS: u32 = (LAST_PORT - FIRST_PORT) as u32;
const BLOCKS: u32 = PORTS / BLOCK;
/// Ports that are tried in a block before the next one.
const PER_BLOCK: u32 = 8;

impl Ports {
    /// `reply` is what the backend's packets become: the client is its destination.
    #[inline(always)]
    pub(crate) fn of(reply: &TupleV1) -> Self {
        let client = &reply.destination;
        let [.., a, b, c, d] = *client;
        let [_, _, _, _, e, f, g, h, ..] = *client;
        let state = mix(
            mix(0, u32::from_be_bytes([a, b, c, d])),
            u32::from_be_bytes([e, f, g, h]),
        );
        let [p0, p1] = reply.destination_port;
        let port = u32::from_be_bytes([0, 0, p0, p1]);
        Self {
            seed: (finish(state) >> 1) + port,
        }
    }

    /// The port of an attempt, network order.
    #[inline(always)]
    pub(crate) fn nth(&self, attempt: u32) -> [u8; 2] {
        if attempt == 0 {
            let port = u32::from(FIRST_PORT) + self.seed % PORTS;
            return [(port >> 8) as u8, port as u8];
        }
        let block = finish(mix(self.seed, attempt / PER_BLOCK)) % BLOCKS;
        let within = (self.seed + attempt) % BLOCK;
        let port = u32::from(FIRST_PORT) + block * BLOCK + within;
        [(port >> 8) as u8, port as u8]
    }
}

/// Whether a client is of the cluster, as far as is known: on this node, or of `--cluster-cidr`.
#[inline(always)]
pub(crate) fn is_inside(hook: Hook, client: &Address) -> bool {
    hook.is_inside()
        || maps::settings().is_some_and(|settings| is_off_cluster(settings, client) == Some(false))
}

/// Whether `--cluster-cidr` does not hold the address; `None` where it is not given for the family.
#[inline(always)]
fn is_off_cluster(settings: &SettingsV2, address: &Address) -> Option<bool> {
    let (network, bits) = if is_v4(address) {
        (&settings.cluster_v4, settings.cluster_v4_bits)
    } else {
        (&settings.cluster_v6, settings.cluster_v6_bits)
    };
    let (network_high, network_low) = halves(network);
    let (high, low) = halves(address);
    (bits != 0).then_some(
        (network_high ^ high) & mask(bits) != 0
            || (network_low ^ low) & mask(bits.saturating_sub(64)) != 0,
    )
}

/// The first `bits` bits of 64; the target has no 128-bit shift.
#[inline(always)]
fn mask(bits: u32) -> u64 {
    match bits {
        0 => 0,
        1..64 => u64::MAX << (64 - bits),
        _ => u64::MAX,
    }
}

#[inline(always)]
fn halves(address: &Address) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    (
        u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        u64::from_be_bytes([i, j, k, l, m, n, o, p]),
    )
}
