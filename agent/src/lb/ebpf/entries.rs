//! Frontends, backends and addresses as the maps have them.

use std::net::IpAddr;

use agent_abi::Address;
use agent_abi::service::{
    BACKEND_IN_CLUSTER, BACKEND_IN_LOCAL, BACKEND_LOCAL, BackendV2, FRONTEND_DIRECT_RETURN,
    FRONTEND_EXTERNAL, FRONTEND_LOCAL_INSIDE, FRONTEND_LOCAL_OUTSIDE, FRONTEND_LOOPBACK,
    FRONTEND_NODE_PORT, FRONTEND_SOURCE_RANGES, FrontendKeyV1, FrontendV2,
};
use ipnet::IpNet;
use model::SourceRanges;

use crate::desired::{Backend, Frontend, LbService, Pool, Scope};

/// Length of a prefix in bits of the mapped address.
pub fn prefix_bits(range: &IpNet) -> u32 {
    let mapped = match range {
        IpNet::V4(_) => 96,
        IpNet::V6(_) => 0,
    };
    mapped + u32::from(range.prefix_len())
}

/// The key of a frontend.
pub fn frontend_key(frontend: &Frontend) -> FrontendKeyV1 {
    FrontendKeyV1 {
        address: address(frontend.address),
        port: frontend.port.get().to_be_bytes(),
        protocol: frontend.protocol.number(),
        _pad: 0,
    }
}

pub(super) fn frontend_value(service: u32, frontend: &Frontend, unit: &LbService) -> FrontendV2 {
    let bit = |on: bool, bit: u32| if on { bit } else { 0 };
    let of_scope = match frontend.scope {
        Scope::ClusterIp => 0,
        Scope::NodePort | Scope::HostPort => FRONTEND_NODE_PORT,
        Scope::Loopback => FRONTEND_NODE_PORT | FRONTEND_LOOPBACK,
        Scope::ExternalIp => FRONTEND_EXTERNAL,
        Scope::LoadBalancer => {
            FRONTEND_EXTERNAL
                | bit(
                    unit.sources != SourceRanges::Everybody,
                    FRONTEND_SOURCE_RANGES,
                )
        }
    };
    FrontendV2 {
        service,
        flags: of_scope
            | bit(frontend.inside == Pool::Local, FRONTEND_LOCAL_INSIDE)
            | bit(frontend.outside == Pool::Local, FRONTEND_LOCAL_OUTSIDE)
            | bit(frontend.direct_return, FRONTEND_DIRECT_RETURN),
    }
}

pub(super) fn backend_value(service: u32, backend: &Backend) -> BackendV2 {
    let bit = |on: bool, bit: u16| if on { bit } else { 0 };
    BackendV2 {
        address: address(backend.address),
        port: backend.port.get().to_be_bytes(),
        flags: bit(backend.local, BACKEND_LOCAL)
            | bit(backend.pools.cluster, BACKEND_IN_CLUSTER)
            | bit(backend.pools.local, BACKEND_IN_LOCAL),
        service,
        node: backend.node.map_or([0; 16], address),
    }
}

/// An address as the maps have it.
pub fn address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
