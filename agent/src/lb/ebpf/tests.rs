//! Plans, carried out on tables in memory, with a reader that looks after every write.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;

use agent_abi::service::{
    FRONTEND_LOCAL_OUTSIDE, FrontendKeyV1, FrontendV2, NEXT_SERVICE, RING_CHUNK, RingChunkV1,
    RingKeyV1, ServiceV2, SlotKeyV1,
};
use ipnet::IpNet;
use model::{Protocol, SessionAffinity, SourceRanges};
use proptest::prelude::*;

use super::entries::frontend_key;
use super::image::{Op, Tables, dismantle, make, sweep};
use crate::desired::{Backend, Choice, Frontend, LbService, Pool, Pools, Scope};

mod room;

/// Units by number, the ids they have, and the content of the rings, which the tables only know
/// digests of.
#[derive(Clone)]
struct Node {
    tables: Tables,
    ids: BTreeMap<u8, u32>,
    rings: BTreeMap<RingKeyV1, RingChunkV1>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            tables: Tables::new(1, 1, 1),
            ids: BTreeMap::new(),
            rings: BTreeMap::new(),
        }
    }
}

type Wanted = BTreeMap<u8, LbService>;
type Resolved = BTreeMap<(FrontendKeyV1, bool), BTreeSet<([u8; 16], [u8; 2])>>;

/// How a unit of these tests is balanced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Style {
    hashed: bool,
    weighted: bool,
    local: bool,
    guarded: bool,
}

pub(super) fn unit(number: u8, frontends: &BTreeSet<u8>, backends: &BTreeSet<u8>) -> LbService {
    styled(number, frontends, backends, Style::default())
}

fn styled(
    number: u8,
    frontends: &BTreeSet<u8>,
    backends: &BTreeSet<u8>,
    style: Style,
) -> LbService {
    let port = NonZeroU16::new(80).unwrap();
    let address = |c, d| IpAddr::V4(Ipv4Addr::new(10, 0, c, d));
    let outside = if style.local {
        Pool::Local
    } else {
        Pool::Cluster
    };
    LbService {
        frontends: frontends
            .iter()
            .map(|f| Frontend {
                address: address(number, *f),
                port,
                protocol: Protocol::Tcp,
                scope: Scope::LoadBalancer,
                inside: Pool::Cluster,
                outside,
                direct_return: false,
            })
            .collect(),
        backends: backends
            .iter()
            .map(|b| Backend {
                address: address(100, *b),
                port,
                local: b % 2 == 0,
                pools: Pools {
                    // The last one of them drains.
                    cluster: *b != 7,
                    local: b % 2 == 0 && *b != 7,
                },
                weight: if style.weighted { u16::from(*b) + 1 } else { 1 },
                node: None,
            })
            .collect(),
        choice: if style.hashed {
            Choice::Hash {
                source: true,
                port: false,
                destination: false,
            }
        } else {
            Choice::Random
        },
        affinity: SessionAffinity::None,
        sources: if style.guarded {
            SourceRanges::Only(vec!["192.0.2.0/24".parse::<IpNet>().unwrap()])
        } else {
            SourceRanges::Everybody
        },
    }
}

/// What packets find: every frontend's backends, for clients inside and outside, walking the
/// tables as the programs do. A slot, backend or part of a ring that is missing is a
/// half-programmed Service.
fn resolve(node: &Node) -> Result<Resolved, String> {
    let tables = &node.tables;
    let mut resolved = Resolved::new();
    for (key, frontend) in tables.frontends() {
        let held = tables
            .services()
            .get(&frontend.service)
            .ok_or("a frontend leads nowhere")?;
        let value = held.value.ok_or("a frontend's service is missing")?;
        for (outside, local) in [
            (false, false),
            (true, frontend.flags & FRONTEND_LOCAL_OUTSIDE != 0),
        ] {
            let pool = value.pools[usize::from(local)];
            let numbers: BTreeSet<u32> = if pool.ring == 0 || pool.slots == 0 {
                (0..pool.slots).collect()
            } else {
                let entry = |at: u32| {
                    let key = RingKeyV1 {
                        ring: pool.ring,
                        chunk: at / u32::try_from(RING_CHUNK).unwrap(),
                    };
                    let chunk = node
                        .rings
                        .get(&key)
                        .ok_or_else(|| format!("{key:?} is missing"))?;
                    Ok::<u32, String>(chunk.slots[at as usize % RING_CHUNK].into())
                };
                (0..pool.ring_size).map(entry).collect::<Result<_, _>>()?
            };
            let mut found = BTreeSet::new();
            for number in numbers {
                let slot = pool.first_slot + number;
                let backend = held
                    .slots
                    .get(&slot)
                    .ok_or_else(|| format!("slot {slot} of {pool:?} is missing"))?;
                let backend = held
                    .backends
                    .get(backend)
                    .ok_or_else(|| format!("backend {backend} is missing"))?;
                found.insert((backend.address, backend.port));
            }
            resolved.insert((*key, outside), found);
        }
    }
    Ok(resolved)
}

impl Node {
    /// Every write that leads to `wanted`, done one by one until `stop` says so.
    fn converge(&mut self, wanted: &Wanted, mut after: impl FnMut(&Self, Op) -> bool) -> usize {
        let mut done = 0;
        let mut write = |node: &mut Self, op: Op| {
            node.tables.commit(op);
            match op {
                Op::PutRing(key, value) => drop(node.rings.insert(key, value)),
                Op::DeleteRing(key) => drop(node.rings.remove(&key)),
                Op::Allocate { .. }
                | Op::PutBackend(..)
                | Op::PutSlot(..)
                | Op::PutService(..)
                | Op::PutSource(_)
                | Op::PutFrontend(..)
                | Op::DeleteFrontend(_)
                | Op::DeleteSlot(_)
                | Op::DeleteSource(_)
                | Op::DeleteBackend { .. }
                | Op::DeleteService(_) => {}
            }
            done += 1;
            after(node, op)
        };
        for (number, unit) in wanted {
            let id = *self
                .ids
                .entry(*number)
                .or_insert_with(|| self.tables.next(NEXT_SERVICE));
            for op in make(id, unit, &self.tables) {
                if !write(self, op) {
                    return done;
                }
            }
        }
        let owned: BTreeSet<u32> = self.ids.values().copied().collect();
        let strangers = self
            .tables
            .services()
            .keys()
            .filter(|id| !owned.contains(id))
            .copied();
        let all: Vec<(u32, Option<&LbService>)> = strangers
            .map(|id| (id, None))
            .chain(
                self.ids
                    .iter()
                    .map(|(number, id)| (*id, wanted.get(number))),
            )
            .collect();
        for (id, unit) in all {
            for op in dismantle(id, unit, &self.tables) {
                if !write(self, op) {
                    return done;
                }
            }
        }
        for op in sweep(&self.tables) {
            if !write(self, op) {
                return done;
            }
        }
        self.ids.retain(|number, _| wanted.contains_key(number));
        done
    }

    /// A new process: ids are found through the frontends.
    fn restarted(&self, wanted: &Wanted) -> Self {
        let mut taken = BTreeSet::new();
        let ids = wanted.iter().filter_map(|(number, unit)| {
            Some((
                *number,
                self.tables.id_of(unit).filter(|id| taken.insert(*id))?,
            ))
        });
        Self {
            ids: ids.collect(),
            ..self.clone()
        }
    }
}

fn expected(wanted: &Wanted) -> Resolved {
    let resolve = |unit: &LbService| {
        let members = |pool| -> BTreeSet<_> {
            let members = unit.pool(pool);
            members
                .map(|b| {
                    (
                        super::entries::address(b.address),
                        b.port.get().to_be_bytes(),
                    )
                })
                .collect()
        };
        let of_frontend = |frontend: &Frontend| {
            let key = frontend_key(frontend);
            [
                ((key, false), members(frontend.inside)),
                ((key, true), members(frontend.outside)),
            ]
        };
        unit.frontends
            .iter()
            .flat_map(of_frontend)
            .collect::<Vec<_>>()
    };
    wanted.values().flat_map(resolve).collect()
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let sets = (
        proptest::collection::btree_set(0..4_u8, 1..3),
        proptest::collection::btree_set(0..8_u8, 0..6),
        proptest::array::uniform4(any::<bool>()),
    );
    proptest::collection::btree_map(0..4_u8, sets, 0..4).prop_map(|units| {
        units
            .into_iter()
            .map(
                |(number, (frontends, backends, [hashed, weighted, local, guarded]))| {
                    let style = Style {
                        hashed,
                        weighted,
                        local,
                        guarded,
                    };
                    (number, styled(number, &frontends, &backends, style))
                },
            )
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The end does not depend on the way, and no packet on the way sees half a Service.
    #[test]
    fn any_states_in_any_order_end_in_the_same_maps(states in proptest::collection::vec(wanted(), 1..6)) {
        let mut node = Node::default();
        let mut before = Resolved::new();
        for wanted in &states {
            let target = expected(wanted);
            let mut seen = Ok(());
            node.converge(wanted, |node, op| {
                seen = seen.clone().and_then(|()| {
                    let now = resolve(node).map_err(|what| format!("after {op:?}: {what}"))?;
                    // A frontend that goes may see its Service's new backends until it is gone.
                    for (key, found) in now.iter().filter(|(key, _)| target.contains_key(key)) {
                        // Third byte of the address: the unit. All its frontends share what it has.
                        let of_unit = |resolved: &Resolved| -> BTreeSet<_> {
                            let same = resolved.iter().filter(|((other, _), _)| other.address[14] == key.0.address[14]);
                            same.flat_map(|(_, found)| found.clone()).collect()
                        };
                        let allowed = of_unit(&before).union(&of_unit(&target)).copied().collect();
                        if !found.is_subset(&allowed) {
                            return Err(format!("after {op:?}: {key:?} leads to a stranger"));
                        }
                        let was_served = before.get(key).is_some_and(|b| !b.is_empty());
                        let stays_served = target.get(key).is_some_and(|b| !b.is_empty());
                        if found.is_empty() && was_served && stays_served {
                            return Err(format!("after {op:?}: {key:?} rejects for a moment"));
                        }
                    }
                    Ok(())
                });
                true
            });
            prop_assert_eq!(seen, Ok(()));
            prop_assert_eq!(resolve(&node), Ok(target.clone()));
            prop_assert_eq!(node.converge(wanted, |_, _| true), 0, "a second plan is empty");
            prop_assert_eq!(node.restarted(wanted).converge(wanted, |_, _| true), 0, "a restart writes nothing");
            before = target;
        }
        let mut direct = Node::default();
        let last = states.last().cloned().unwrap_or_default();
        direct.converge(&last, |_, _| true);
        prop_assert_eq!(resolve(&direct), resolve(&node));
    }

    /// Killed after any write, the next process finds its way, and no id comes to mean another
    /// backend.
    #[test]
    fn a_crash_after_any_write_is_recovered_from(first in wanted(), second in wanted(), third in wanted(), stop in 0..40_usize) {
        let mut node = Node::default();
        let mut meanings: BTreeMap<u32, ([u8; 16], u32)> = BTreeMap::new();
        let mut reused = None;
        let mut note = |op: Op| {
            if let Op::PutBackend(id, value) = op {
                let meaning = (value.address, value.service);
                if *meanings.entry(id).or_insert(meaning) != meaning {
                    reused = Some(id);
                }
            }
        };
        node.converge(&first, |_, op| { note(op); true });
        let mut left = stop;
        node.converge(&second, |_, op| { note(op); left = left.saturating_sub(1); left > 0 });
        let mut node = node.restarted(&third);
        node.converge(&third, |_, op| { note(op); true });
        prop_assert_eq!(resolve(&node), Ok(expected(&third)));
        prop_assert_eq!(node.restarted(&third).converge(&third, |_, _| true), 0);
        prop_assert_eq!(reused, None);
    }
}

#[test]
fn the_cost_of_a_change_does_not_depend_on_the_size_of_the_service() {
    let cost = |endpoints: u8| {
        let all: BTreeSet<u8> = (0..endpoints).collect();
        let mut node = Node::default();
        node.converge(
            &Wanted::from([(1, unit(1, &BTreeSet::from([0]), &all))]),
            |_, _| true,
        );
        let mut fewer = all.clone();
        fewer.remove(&1);
        let removed = node.converge(
            &Wanted::from([(1, unit(1, &BTreeSet::from([0]), &fewer))]),
            |_, _| true,
        );
        let added = node.converge(
            &Wanted::from([(1, unit(1, &BTreeSet::from([0]), &all))]),
            |_, _| true,
        );
        (removed, added)
    };
    assert_eq!(cost(4), cost(200));
    assert_eq!(cost(4), (4, 4));
}

#[test]
fn leftovers_of_another_life_are_removed() {
    let mut node = Node::default();
    for op in [
        Op::Allocate {
            index: NEXT_SERVICE,
            next: 9,
        },
        Op::PutService(7, ServiceV2::default()),
        Op::PutSlot(
            SlotKeyV1 {
                service: 8,
                slot: 0,
            },
            4,
        ),
        Op::PutFrontend(
            frontend_key(&unit(9, &BTreeSet::from([0]), &BTreeSet::new()).frontends[0]),
            FrontendV2 {
                service: 5,
                flags: 0,
            },
        ),
    ] {
        node.tables.commit(op);
    }
    let wanted = Wanted::from([(1, unit(1, &BTreeSet::from([0]), &BTreeSet::from([1])))]);
    node.converge(&wanted, |_, _| true);
    assert_eq!(resolve(&node), Ok(expected(&wanted)));
    assert_eq!(node.tables.usage(), [1, 1, 1, 1, 0, 0]);
}

#[test]
fn equal_sets_share_a_ring_and_the_last_user_takes_it_away() {
    let hashed = Style {
        hashed: true,
        ..Style::default()
    };
    let set = BTreeSet::from([1, 2, 3]);
    let with = |number, backends| styled(number, &BTreeSet::from([0]), backends, hashed);
    let mut node = Node::default();
    node.converge(&Wanted::from([(1, with(1, &set))]), |_, _| true);
    let alone = node.tables.usage()[4];
    let both = Wanted::from([(1, with(1, &set)), (2, with(2, &set))]);
    node.converge(&both, |_, _| true);
    assert_eq!(node.tables.usage()[4], alone, "a second unit adds no ring");
    node.converge(&Wanted::from([(2, with(2, &set))]), |_, _| true);
    assert_eq!(node.tables.usage()[4], alone);
    node.converge(&Wanted::new(), |_, _| true);
    assert_eq!(node.tables.usage(), [0; 6]);
}
