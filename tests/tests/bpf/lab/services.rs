//! Services of the node, written into its tables as the agent writes them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use agent::desired::{Backend, Choice, Frontend, LbService, Pool, Pools, Scope};
use agent::lb::ebpf::image::{dismantle, make, sweep};
use agent::lb::ebpf::maps::Maps;
use agent::sys::map::Table;
use agent_abi::connection::{CONNECTIONS_MAP, ConnectionV3, OPENING_MAP, TupleV1};
use agent_abi::service::{ADDRESSES_MAP, NEXT_SERVICE};
use model::{Protocol, SessionAffinity, SourceRanges};

use super::Lab;

impl Lab {
    /// Adds a service: `udp 10.96.0.10:53 172.31.0.1:30053`, backends `10.244.1.5:5353 10.244.2.7:5353`.
    /// Frontends on the node's own addresses are node ports, those in 192.0.2.0/24 external IPs,
    /// those in 203.0.113.0/24 a load balancer's; backends 10.244.1.* are local. The answer is its
    /// id.
    #[track_caller]
    pub(crate) fn service(&mut self, protocol: &str, frontends: &str, backends: &str) -> u32 {
        self.service_with(protocol, frontends, backends, |_| {})
    }

    /// The same, changed before it is written.
    #[track_caller]
    pub(crate) fn service_with(
        &mut self,
        protocol: &str,
        frontends: &str,
        backends: &str,
        change: impl FnOnce(&mut LbService),
    ) -> u32 {
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "sctp" => Protocol::Sctp,
            _ => Protocol::Udp,
        };
        let mut unit = LbService {
            frontends: frontends
                .split_whitespace()
                .map(|text| frontend(text, protocol))
                .collect(),
            backends: backends.split_whitespace().map(backend).collect(),
            choice: Choice::Random,
            affinity: SessionAffinity::None,
            sources: SourceRanges::Everybody,
        };
        change(&mut unit);
        let id = self.tables.next(NEXT_SERVICE);
        self.units.insert(id, unit);
        self.apply(id);
        id
    }

    /// Changes a service as the agent does: first what adds, then what removes.
    #[track_caller]
    pub(crate) fn change(&mut self, id: u32, change: impl FnOnce(&mut LbService)) {
        change(self.units.get_mut(&id).unwrap());
        self.apply(id);
    }

    /// Replaces the backends of a service.
    #[track_caller]
    pub(crate) fn set_backends(&mut self, id: u32, backends: &str) {
        self.change(id, |unit| {
            unit.backends = backends.split_whitespace().map(backend).collect();
        });
    }

    /// The same as [`Lab::change`], with a look at the node after every single write.
    #[track_caller]
    pub(crate) fn change_watched(
        &mut self,
        id: u32,
        change: impl FnOnce(&mut LbService),
        watch: impl FnMut(&mut Self),
    ) {
        change(self.units.get_mut(&id).unwrap());
        self.apply_watched(id, watch);
    }

    /// Takes every service away, and every connection with it.
    #[track_caller]
    pub(crate) fn clear(&mut self) {
        for id in std::mem::take(&mut self.units).into_keys() {
            self.apply(id);
        }
        for name in [CONNECTIONS_MAP, OPENING_MAP] {
            let mut table = Table::<TupleV1, ConnectionV3>::open_lru(&self.pins, name).unwrap();
            for (key, _) in table.entries().unwrap() {
                table.delete(key).unwrap();
            }
        }
    }

    #[track_caller]
    fn apply(&mut self, id: u32) {
        self.apply_watched(id, |_| {});
    }

    #[track_caller]
    fn apply_watched(&mut self, id: u32, mut watch: impl FnMut(&mut Self)) {
        let unit = self.units.get(&id).cloned();
        let unit = unit.as_ref();
        let mut maps = Maps::open(&self.pins).unwrap();
        let mut addresses = Table::open(&self.pins, ADDRESSES_MAP).unwrap();
        for step in [
            |id, unit: Option<&_>, tables: &_| {
                unit.map_or_else(Vec::new, |unit| make(id, unit, tables))
            },
            |id, unit: Option<&_>, tables: &_| dismantle(id, unit, tables),
            |_, _: Option<&_>, tables: &_| sweep(tables),
        ] {
            for op in step(id, unit, &self.tables) {
                maps.write(op).unwrap();
                if let Some(change) = self.addresses.follow(&op, &self.tables) {
                    change.write(&mut addresses).unwrap();
                }
                self.tables.commit(op);
                watch(self);
            }
        }
    }
}

/// A frontend as [`Lab::service`] reads it.
#[track_caller]
pub(crate) fn frontend(text: &str, protocol: Protocol) -> Frontend {
    let endpoint: SocketAddr = text.parse().unwrap();
    let scope = if text.starts_with("172.31.0.1:") || text.starts_with("[fd00::1]") {
        Scope::NodePort
    } else if text.starts_with("192.0.2.") {
        Scope::ExternalIp
    } else if text.starts_with("203.0.113.") || text.starts_with("[fd00:1b::") {
        Scope::LoadBalancer
    } else if endpoint.ip().is_loopback() {
        Scope::Loopback
    } else {
        Scope::ClusterIp
    };
    Frontend {
        address: endpoint.ip(),
        port: NonZeroU16::new(endpoint.port()).unwrap(),
        protocol,
        scope,
        inside: Pool::Cluster,
        outside: Pool::Cluster,
        direct_return: false,
    }
}

/// A backend as [`Lab::service`] reads it; it is in the local pool where it is local.
#[track_caller]
pub(crate) fn backend(text: &str) -> Backend {
    let endpoint: SocketAddr = text.parse().unwrap();
    let local = matches!(endpoint.ip(), IpAddr::V4(v4) if v4.octets()[2] == 1)
        || text.starts_with("[fd00:10::");
    Backend {
        address: endpoint.ip(),
        port: NonZeroU16::new(endpoint.port()).unwrap(),
        local,
        pools: Pools {
            cluster: true,
            local,
        },
        weight: 1,
        node: None,
    }
}

/// Changes the backends of a unit as a set; they end in order.
pub(crate) fn edit_backends(unit: &mut LbService, change: impl FnOnce(&mut BTreeSet<Backend>)) {
    let mut backends = unit.backends.iter().copied().collect();
    change(&mut backends);
    unit.backends = backends.into_iter().collect();
}

/// Turns direct return on or off at every frontend of a unit.
pub(crate) fn set_direct(unit: &mut LbService, direct_return: bool) {
    let frontends = unit.frontends.iter().map(|frontend| Frontend {
        direct_return,
        ..*frontend
    });
    unit.frontends = frontends.collect();
}

/// Gives every backend of a unit its node's address.
pub(crate) fn set_nodes(unit: &mut LbService, node_of: impl Fn(&Backend) -> Option<IpAddr>) {
    let backends = unit.backends.iter().map(|backend| Backend {
        node: node_of(backend),
        ..*backend
    });
    unit.backends = backends.collect();
}
