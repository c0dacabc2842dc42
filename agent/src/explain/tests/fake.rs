//! Tables with what a cluster asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use agent_abi::Address;
use agent_abi::connection::{ConnectionV3, TupleV1};
use agent_abi::egress::EgressSourceV1;
use agent_abi::service::{
    AffinityKeyV1, AffinityV1, BackendV2, FrontendKeyV1, FrontendV2, NEXT_SERVICE, RingChunkV1,
    RingKeyV1, ServiceV2, SlotKeyV1,
};
use agent_abi::settings::SettingsV2;
use model::k8s::reduce;
use model::{Cluster, Event, Kind};
use serde_json::Value;

use super::cluster::objects;
use crate::desired::egress::{Egress, EgressOptions};
use crate::desired::node::Exposure;
use crate::desired::{Desired, NodeContext};
use crate::devices::fast_path::FastPath;
use crate::egress::image::entries;
use crate::explain::lookups::{Looked, Lookups};
use crate::lb::ebpf::entries::address;
use crate::lb::ebpf::image::{Op, SourceRange, Tables, make};
use crate::lb::ebpf::settings::{Translation, settings};
use crate::sys::map::TableError;

/// A cluster, what it asks for, and tables.
pub(super) struct Scene {
    pub(super) cluster: Cluster,
    pub(super) desired: Desired,
    pub(super) tables: FakeTables,
    pub(super) fast_path: FastPath,
    pub(super) policed: bool,
}

/// The kernel's tables.
#[derive(Debug)]
pub(super) struct FakeTables {
    pub(super) frontends: BTreeMap<FrontendKeyV1, FrontendV2>,
    pub(super) services: BTreeMap<u32, ServiceV2>,
    pub(super) backends: BTreeMap<u32, BackendV2>,
    pub(super) affinity: BTreeMap<AffinityKeyV1, AffinityV1>,
    pub(super) connections: BTreeMap<TupleV1, ConnectionV3>,
    pub(super) now: u64,
    slots: BTreeMap<SlotKeyV1, u32>,
    rings: BTreeMap<RingKeyV1, RingChunkV1>,
    sources: Vec<SourceRange>,
    egress: Option<Arc<Egress>>,
    settings: SettingsV2,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self::of(objects(), None)
    }

    /// The same where what leaves the cluster is masqueraded, but for some networks.
    pub(super) fn masquerading(excluded: &[&str]) -> Self {
        let excluded = excluded.iter().map(|text| text.parse().unwrap()).collect();
        let egress = EgressOptions {
            excluded,
            ..EgressOptions::default()
        };
        Self::of(objects(), Some(egress))
    }

    /// The same where network policy is on.
    pub(super) fn policed(policies: Vec<(Kind, Value)>) -> Self {
        let mut objects = objects();
        objects.extend(policies);
        Self {
            policed: true,
            ..Self::of(objects, None)
        }
    }

    fn of(objects: Vec<(Kind, Value)>, egress: Option<EgressOptions>) -> Self {
        let mut cluster = Cluster::default();
        for (kind, object) in objects {
            let reduced = reduce(kind, &object);
            let key = reduced.key.clone();
            cluster.apply(Event::Applied {
                kind,
                key,
                object: reduced.object,
                problems: reduced.problems,
            });
        }
        let exposure = Exposure {
            loopback: true,
            ..Exposure::default()
        };
        let mut node = NodeContext::of(
            &cluster,
            &"node1".into(),
            &Arc::new(exposure),
            &BTreeSet::new(),
            1500,
        );
        node.egress = egress.map(Arc::new);
        let desired = Desired::compile(&cluster, node);
        let tables = FakeTables::of(&desired);
        Self {
            cluster,
            desired,
            tables,
            fast_path: FastPath::default(),
            policed: false,
        }
    }

    /// Id of the backend of `shop/web` at an address.
    pub(super) fn backend(&self, at: &str) -> u32 {
        self.backend_of("shop/web", at)
    }

    pub(super) fn backend_of(&self, service: &str, at: &str) -> u32 {
        let service = self.service_of(service);
        let at = address(at.parse::<IpAddr>().unwrap());
        let mut backends = self.tables.backends.iter();
        let found = backends.find(|(_, value)| value.service == service && value.address == at);
        *found.unwrap().0
    }

    /// Id of the first unit of a Service.
    pub(super) fn service_of(&self, service: &str) -> u32 {
        let mut units = self.desired.services.iter();
        let (_, unit) = units
            .find(|(key, _)| key.owner.key().to_string() == service)
            .unwrap();
        let key = crate::lb::ebpf::entries::frontend_key(unit.frontends.first().unwrap());
        self.tables.frontends[&key].service
    }
}

impl FakeTables {
    fn of(desired: &Desired) -> Self {
        let mut fake = Self {
            frontends: BTreeMap::new(),
            services: BTreeMap::new(),
            backends: BTreeMap::new(),
            affinity: BTreeMap::new(),
            connections: BTreeMap::new(),
            now: 1_000_000_000_000,
            slots: BTreeMap::new(),
            rings: BTreeMap::new(),
            sources: Vec::new(),
            egress: desired.egress.clone(),
            settings: settings(&desired.node, &Translation::default()),
        };
        let mut tables = Tables::new(1, 1, 1);
        for (_, unit) in &desired.services {
            for op in make(tables.next(NEXT_SERVICE), unit, &tables) {
                tables.commit(op);
                fake.commit(op);
            }
        }
        fake
    }

    fn commit(&mut self, op: Op) {
        match op {
            Op::PutBackend(id, value) => drop(self.backends.insert(id, value)),
            Op::PutRing(key, value) => drop(self.rings.insert(key, value)),
            Op::PutSlot(key, backend) => drop(self.slots.insert(key, backend)),
            Op::PutService(id, value) => drop(self.services.insert(id, value)),
            Op::PutSource(range) => self.sources.push(range),
            Op::PutFrontend(key, value) => drop(self.frontends.insert(key, value)),
            Op::Allocate { .. } => {}
            Op::DeleteFrontend(_)
            | Op::DeleteSlot(_)
            | Op::DeleteSource(_)
            | Op::DeleteBackend { .. }
            | Op::DeleteService(_)
            | Op::DeleteRing(_) => panic!("a first apply only adds: {op:?}"),
        }
    }
}

impl Lookups for FakeTables {
    fn frontend(&self, key: FrontendKeyV1) -> Looked<FrontendV2> {
        Ok(self.frontends.get(&key).copied())
    }

    fn service(&self, id: u32) -> Looked<ServiceV2> {
        Ok(self.services.get(&id).copied())
    }

    fn slot(&self, key: SlotKeyV1) -> Looked<u32> {
        Ok(self.slots.get(&key).copied())
    }

    fn backend(&self, id: u32) -> Looked<BackendV2> {
        Ok(self.backends.get(&id).copied())
    }

    fn ring(&self, key: RingKeyV1) -> Looked<RingChunkV1> {
        Ok(self.rings.get(&key).copied())
    }

    fn affinity(&self, key: AffinityKeyV1) -> Looked<AffinityV1> {
        Ok(self.affinity.get(&key).copied())
    }

    fn connection(&self, key: TupleV1) -> Looked<ConnectionV3> {
        Ok(self.connections.get(&key).copied())
    }

    fn opening(&self, _: TupleV1) -> Looked<ConnectionV3> {
        Ok(None)
    }

    fn is_source_allowed(&self, service: u32, address: Address) -> Result<bool, TableError> {
        let address = u128::from_be_bytes(address);
        Ok(self.sources.iter().any(|SourceRange { bits, key }| {
            let differing = u128::from_be_bytes(key.address) ^ address;
            key.service == service && differing.leading_zeros() >= bits - 32
        }))
    }

    fn egress(&self, at: Address) -> Looked<u32> {
        let at = u128::from_be_bytes(at);
        let entries = entries(self.egress.as_deref());
        let holding = entries.iter().filter(|((bits, key), _)| {
            (u128::from_be_bytes(key.address) ^ at).leading_zeros() >= *bits
        });
        let longest = holding.max_by_key(|((bits, _), _)| *bits);
        Ok(longest.map(|(_, value)| *value))
    }

    fn egress_sources(&self) -> Result<Vec<EgressSourceV1>, TableError> {
        let of = |text: &str| address(text.parse::<IpAddr>().unwrap());
        Ok(vec![EgressSourceV1 {
            v4: of("172.31.0.1"),
            v6: [0; 16],
        }])
    }

    fn settings(&self) -> Result<SettingsV2, TableError> {
        Ok(self.settings)
    }

    fn now(&self) -> u64 {
        self.now
    }
}
