//! As much of the tables as may differ, before and after, so that a plan looks at that alone.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use agent_abi::policy::{EndpointV1, IDENTITY_ANYBODY, NO_SET, VerdictV1};
use ipnet::{IpNet, Ipv6Net};

use super::lower::{self, ALL_OF_V4};
use super::{CLOSED, Image, Numbers, Prefix, Room, VerdictPrefix, Verdicts};
use crate::desired::policy::{Difference, PolicyTables, SetKey};

/// What is in `before` or `after`. What is in neither stays as `whole` has it.
pub(super) struct Part<'a> {
    pub(super) whole: &'a Image,
    pub(super) before: Cow<'a, Image>,
    pub(super) after: Image,
}

impl<'a> Part<'a> {
    /// All of it.
    pub(super) fn all(whole: &'a Image, after: Image) -> Self {
        let before = Cow::Borrowed(whole);
        Self {
            whole,
            before,
            after,
        }
    }

    /// What `difference` names. `old` are the numbers of `whole`.
    pub(super) fn of(
        difference: &Difference,
        whole: &'a Image,
        tables: &PolicyTables,
        (old, new): (&Numbers, &Numbers),
    ) -> Self {
        let mut part = Self {
            whole,
            before: Cow::Owned(Image::default()),
            after: Image::default(),
        };
        part.add_verdicts(difference, tables, (old, new));
        part.add_identities(difference, tables, new);
        let is_renumbered = |key: &&SetKey| old.set(key) != new.set(key);
        let renumbered = difference.sets.iter().filter(is_renumbered);
        let renumbered = renumbered.map(|key| old.set(key)).collect();
        part.add_endpoints(difference, tables, new, &renumbered);
        part
    }

    /// Whether `room` holds what there will be.
    pub(super) fn fits(&self, room: Room) -> bool {
        let size = |whole: usize, before: usize, after: usize| whole + after - before;
        let Image {
            identities,
            verdicts,
            endpoints,
        } = &self.after;
        let (whole, before) = (self.whole, &self.before);
        room.new_ones
            && size(
                whole.identities.len(),
                before.identities.len(),
                identities.len(),
            ) <= room.identities
            && size(whole.verdicts.len(), before.verdicts.len(), verdicts.len()) <= room.verdicts
            && size(
                whole.endpoints.len(),
                before.endpoints.len(),
                endpoints.len(),
            ) <= room.endpoints
    }

    fn add_verdicts(
        &mut self,
        difference: &Difference,
        tables: &PolicyTables,
        (old, new): (&Numbers, &Numbers),
    ) {
        let before = &mut self.before.to_mut().verdicts;
        let after = &mut self.after.verdicts;
        for key in &difference.sets {
            let number = old.set(key);
            if number != NO_SET {
                before.extend(lower::of_set(&self.whole.verdicts, number));
            }
            if let Some(set) = tables.sets().get(key) {
                lower::put_set(after, new, key, set);
            }
        }
        let of_kept = difference.of_classes.iter();
        for (key, classes) in of_kept.filter(|(key, _)| !difference.sets.contains(key)) {
            let number = new.set(key);
            for class in classes {
                let identity = old.class(class);
                if identity != IDENTITY_ANYBODY {
                    let there = lower::of_identity(&self.whole.verdicts, number, identity);
                    before.extend(there);
                }
                let entries = tables
                    .sets()
                    .get(key)
                    .and_then(|set| set.classes.get(class));
                if let Some(entries) = entries {
                    lower::put_entries(after, new, (number, new.class(class)), entries);
                }
            }
        }
    }

    fn add_identities(
        &mut self,
        difference: &Difference,
        tables: &PolicyTables,
        numbers: &Numbers,
    ) {
        let mut prefixes: BTreeSet<Prefix> =
            difference.networks.iter().map(lower::prefix).collect();
        // What is wider than IPv4 says of it whether it has an entry.
        if prefixes.iter().any(|(bits, _)| *bits < ALL_OF_V4.0) {
            prefixes.insert(ALL_OF_V4);
        }
        let is_first = |prefix: &Prefix| *prefix == ALL_OF_V4;
        for prefix in prefixes.iter().filter(|prefix| !is_first(prefix)) {
            self.add_identity(*prefix, tables, numbers);
        }
        if prefixes.contains(&ALL_OF_V4) {
            self.add_identity(ALL_OF_V4, tables, numbers);
            let wider = (0, [0; 16])..(ALL_OF_V4.0, [0; 16]);
            let stays = |prefix: &Prefix| !self.before.identities.contains_key(prefix);
            let has_wider = self.after.identities.range(wider.clone()).next().is_some()
                || self
                    .whole
                    .identities
                    .range(wider)
                    .any(|(prefix, _)| stays(prefix));
            if has_wider {
                let v4 = self.after.identities.entry(ALL_OF_V4);
                v4.or_insert(IDENTITY_ANYBODY);
            }
        }
    }

    fn add_identity(&mut self, prefix: Prefix, tables: &PolicyTables, numbers: &Numbers) {
        if let Some(known) = self.whole.identities.get(&prefix) {
            self.before.to_mut().identities.insert(prefix, *known);
        }
        let mut networks = networks(&prefix);
        let found = networks.find_map(|network| tables.identities().get(&network));
        if let Some(found) = found {
            let identity = lower::identity(numbers, found);
            self.after.identities.insert(prefix, identity);
        }
    }

    fn add_endpoints(
        &mut self,
        difference: &Difference,
        tables: &PolicyTables,
        numbers: &Numbers,
        renumbered: &BTreeSet<u32>,
    ) {
        let named = difference.endpoints.iter();
        let mut prefixes: BTreeSet<Prefix> = named
            .map(|address| lower::prefix(&IpNet::from(*address)))
            .collect();
        let of_sets = self.whole.endpoints.iter().filter(|(_, endpoint)| {
            let both = [endpoint.ingress, endpoint.egress];
            both.iter()
                .any(|set| *set != NO_SET && renumbered.contains(set))
        });
        prefixes.extend(of_sets.map(|(prefix, _)| *prefix));
        for prefix in prefixes {
            if let Some(known) = self.whole.endpoints.get(&prefix) {
                self.before.to_mut().endpoints.insert(prefix, *known);
            }
            let mut addresses = networks(&prefix).map(|network| network.addr());
            let pod = addresses.find_map(|address| tables.endpoints().get(&address));
            let is_closed = || tables.closed().iter().any(|it| lower::prefix(it) == prefix);
            if let Some(pod) = pod {
                let endpoint = lower::endpoint(numbers, pod);
                self.after.endpoints.insert(prefix, endpoint);
            } else if is_closed() {
                self.after.endpoints.insert(prefix, CLOSED);
            }
        }
    }

    /// The identity that a prefix has, or has from what is around it.
    pub(super) fn identity_before(&self, prefix: &Prefix) -> u32 {
        let found = lower::longest(prefix, |at| self.whole.identities.get(at).copied());
        found.unwrap_or(IDENTITY_ANYBODY)
    }

    /// The same as it will be.
    pub(super) fn identity_after(&self, prefix: &Prefix) -> u32 {
        let of_rest = |at: &Prefix| {
            let stays = !self.before.identities.contains_key(at);
            self.whole.identities.get(at).filter(|_| stays)
        };
        let found = lower::longest(prefix, |at| {
            let of_part = self.after.identities.get(at);
            of_part.or_else(|| of_rest(at)).copied()
        });
        found.unwrap_or(IDENTITY_ANYBODY)
    }

    /// The sets that endpoints have.
    pub(super) fn sets_before(&self) -> BTreeSet<u32> {
        sets_of(self.whole.endpoints.values())
    }

    /// The sets that they will have.
    pub(super) fn sets_after(&self) -> BTreeSet<u32> {
        let whole = self.whole.endpoints.iter();
        let stay = whole.filter(|(prefix, _)| !self.before.endpoints.contains_key(prefix));
        sets_of(
            stay.map(|(_, endpoint)| endpoint)
                .chain(self.after.endpoints.values()),
        )
    }

    /// What a set says of an identity.
    pub(super) fn says_before(&self, set: u32, identity: u32) -> Verdicts {
        owned(lower::of_identity(&self.whole.verdicts, set, identity))
    }

    /// What it will say.
    pub(super) fn says_after(&self, set: u32, identity: u32) -> Verdicts {
        let whole = lower::of_identity(&self.whole.verdicts, set, identity);
        let stay = whole.filter(|(key, _)| !self.before.verdicts.contains_key(key));
        owned(stay.chain(lower::of_identity(&self.after.verdicts, set, identity)))
    }
}

fn owned<'a, Of: Iterator<Item = (&'a VerdictPrefix, &'a VerdictV1)>>(verdicts: Of) -> Verdicts {
    verdicts.map(|(key, verdict)| (*key, *verdict)).collect()
}

fn sets_of<'a, Endpoints: Iterator<Item = &'a EndpointV1>>(endpoints: Endpoints) -> BTreeSet<u32> {
    let sets = endpoints.flat_map(|endpoint| [endpoint.ingress, endpoint.egress]);
    sets.filter(|set| *set != NO_SET).collect()
}

/// The networks that a prefix may be of; of two that are in the tables, the first counts.
fn networks((bits, address): &Prefix) -> impl Iterator<Item = IpNet> {
    let address = Ipv6Addr::from(*address);
    let bits = u8::try_from(*bits).unwrap_or(128);
    let v6 = Ipv6Net::new(address, bits).ok().map(IpNet::from);
    let v4 = address.to_ipv4_mapped().map(IpAddr::V4);
    let v4 = v4.zip(bits.checked_sub(96));
    let v4 = v4.and_then(|(address, bits)| IpNet::new(address, bits).ok());
    v6.into_iter().chain(v4)
}
