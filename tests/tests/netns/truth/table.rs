//! Who reaches whom by what, and whether.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use model::Protocol;
use tests::traffic::{Batch, Found, Target, Way};

use super::Traffic;
use super::world::World;

const PORTS: [u16; 2] = [8080, 9090];

/// One thing to try.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Probe {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) v6: bool,
    pub(super) way: Way,
    pub(super) port: u16,
}

impl Probe {
    /// As policies see it.
    pub(super) fn traffic(&self) -> Traffic {
        match self.way {
            Way::Tcp => Traffic::Port(Protocol::Tcp, self.port),
            Way::Udp | Way::KeptUdp => Traffic::Port(Protocol::Udp, self.port),
            Way::Sctp => Traffic::Port(Protocol::Sctp, self.port),
            Way::Icmp => Traffic::Icmp,
        }
    }

    fn target(&self, world: &World) -> Target {
        Target {
            way: self.way,
            address: world.address(&self.to, self.v6),
            port: self.port,
        }
    }
}

/// Probes, and whether each is to be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table(BTreeMap<Probe, (bool, Option<Found>)>);

impl Table {
    /// Every probe there is.
    pub(super) fn of(world: &World, is_open: impl Fn(&Probe) -> bool) -> Self {
        let mut table = Self::default();
        for from in world.places() {
            for to in world.places() {
                for v6 in [false, true] {
                    for (way, ports) in [
                        (Way::Tcp, &PORTS[..]),
                        (Way::Udp, &PORTS),
                        (Way::KeptUdp, &PORTS[..1]),
                        (Way::Sctp, &PORTS),
                        (Way::Icmp, &[0]),
                    ] {
                        for port in ports {
                            let probe = Probe {
                                from: from.to_owned(),
                                to: to.to_owned(),
                                v6,
                                way,
                                port: *port,
                            };
                            let open = is_open(&probe);
                            table.0.insert(probe, (open, None));
                        }
                    }
                }
            }
        }
        table
    }

    /// What each place has to try.
    pub(super) fn batches(
        &self,
        world: &World,
        timeout_milliseconds: u64,
    ) -> BTreeMap<&str, Batch> {
        let mut batches = BTreeMap::new();
        for probe in self.0.keys() {
            let batch = batches.entry(probe.from.as_str()).or_insert(Batch {
                timeout_milliseconds,
                targets: Vec::new(),
            });
            batch.targets.push(probe.target(world));
        }
        batches
    }

    /// Those of `from` that were found otherwise. The batch has them in the order of the table.
    pub(super) fn compare(&self, from: &str, batch: &Batch, found: &[Found]) -> Self {
        let of_place = self.0.iter().filter(|(probe, _)| probe.from == from);
        let mut wrong = Self::default();
        for (((probe, (open, _)), target), found) in of_place.zip(&batch.targets).zip(found) {
            assert_eq!((probe.way, probe.port), (target.way, target.port));
            let right = match found {
                Found::Open => *open,
                Found::Silent => !open,
                Found::Refused | Found::Failed => false,
            };
            if !right {
                wrong.0.insert(probe.clone(), (*open, Some(*found)));
            }
        }
        wrong
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any of them is to be closed.
    pub(super) fn has_closed(&self) -> bool {
        self.0.values().any(|(open, _)| !open)
    }

    fn count(&self, open: bool) -> usize {
        self.0.values().filter(|(is, _)| *is == open).count()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 30;
        for (probe, (_, found)) in self.0.iter().take(SHOWN) {
            let Probe {
                from,
                to,
                v6,
                way,
                port,
            } = probe;
            let family = if *v6 { "IPv6" } else { "IPv4" };
            writeln!(f, "  {from} > {to} {family} {way:?} {port}: {found:?}")?;
        }
        match self.0.len().checked_sub(SHOWN) {
            Some(more @ 1..) => writeln!(f, "  and {more} more"),
            _ => Ok(()),
        }
    }
}

/// How much was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) open: usize,
    pub(super) closed: usize,
    pub(super) tables: usize,
    spent: Duration,
}

impl Tally {
    pub(super) fn add(&mut self, tried: &Table, spent: Duration) {
        self.open += tried.count(true);
        self.closed += tried.count(false);
        self.tables += 1;
        self.spent += spent;
    }
}
