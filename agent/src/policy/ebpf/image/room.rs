//! Which sets of verdicts go into tables that are too small for all.

use std::collections::{BTreeMap, BTreeSet};

use agent_abi::policy::{ENDPOINT_CLOSED, EndpointV1, NO_SET};

use super::{Image, Prefix, endpoints, identities};

/// An endpoint that may neither send nor receive.
pub const CLOSED: EndpointV1 = EndpointV1 {
    ingress: NO_SET,
    egress: NO_SET,
    flags: ENDPOINT_CLOSED,
    _pad: 0,
};

/// How much may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Identities there is room for.
    pub identities: usize,
    /// Verdicts there is room for.
    pub verdicts: usize,
    /// Endpoints there is room for.
    pub endpoints: usize,
    /// Whether sets and identities are written that are not in the tables as they should be. Old and
    /// new ones stand beside each other for a moment, so of a table that is nearly full the old ones
    /// go first.
    pub new_ones: bool,
}

/// Sets that are not in force as they should be, for want of room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacking {
    /// There is none for them; whom they go for is closed.
    pub verdicts: BTreeSet<u32>,
    /// There is none for peers that they forbid something; whom they go for is closed.
    pub open: BTreeSet<u32>,
    /// There is none for peers that they allow something; the rest of them is in force.
    pub narrow: BTreeSet<u32>,
    /// Pods that there is no room for; they are closed.
    pub endpoints: BTreeSet<Prefix>,
}

impl Room {
    /// Without bounds.
    pub const UNBOUNDED: Self = Self {
        identities: usize::MAX,
        verdicts: usize::MAX,
        endpoints: usize::MAX,
        new_ones: true,
    };

    /// Takes out what there is no room for, the largest sets first, and closes whom it cannot do
    /// without.
    pub(super) fn fit(self, image: &Image, target: &mut Image) -> Lacking {
        let identities::Unfit { open, mut narrow } =
            identities::fit(self.identities, self.new_ones, image, target);
        let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
        for (key, _) in target.verdicts.keys() {
            *sizes.entry(key.set).or_default() += 1;
        }
        let mut out = open.clone();
        if !self.new_ones {
            let verdicts = target.verdicts.iter();
            let missing =
                verdicts.filter(|(key, verdict)| image.verdicts.get(key) != Some(verdict));
            out.extend(missing.map(|((key, _), _)| key.set));
        }
        let mut total: usize = sizes
            .iter()
            .filter(|(set, _)| !out.contains(set))
            .map(|(_, size)| size)
            .sum();
        let mut by_size: Vec<(usize, u32)> =
            sizes.iter().map(|(set, size)| (*size, *set)).collect();
        by_size.sort_unstable();
        while total > self.verdicts
            && let Some((size, set)) = by_size.pop()
        {
            if out.insert(set) {
                total -= size;
            }
        }
        if !out.is_empty() {
            target
                .verdicts
                .retain(|(key, _), _| !out.contains(&key.set));
            for endpoint in target.endpoints.values_mut() {
                if out.contains(&endpoint.ingress) || out.contains(&endpoint.egress) {
                    *endpoint = CLOSED;
                }
            }
        }
        narrow.retain(|set| !out.contains(set));
        out.retain(|set| !open.contains(set));
        Lacking {
            verdicts: out,
            open,
            narrow,
            endpoints: endpoints::fit(self.endpoints, image, target),
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_abi::policy::{NO_RULE, OUTCOME_ALLOW, VerdictKeyV1, VerdictV1};

    use super::*;

    /// Sets of these sizes, each of an endpoint of the same number.
    fn image(sizes: &[(u32, u8)]) -> Image {
        let mut image = Image::default();
        for (set, size) in sizes {
            for port in 0..*size {
                let key = VerdictKeyV1 {
                    set: *set,
                    identity: 0,
                    protocol: 6,
                    _pad: 0,
                    port: [0, port],
                };
                let verdict = VerdictV1 {
                    rule: NO_RULE,
                    outcome: OUTCOME_ALLOW,
                    _pad: [0; 3],
                };
                image.verdicts.insert((key, 88), verdict);
            }
            let endpoint = EndpointV1 {
                ingress: *set,
                egress: NO_SET,
                flags: 0,
                _pad: 0,
            };
            image.endpoints.insert((*set, [0; 16]), endpoint);
        }
        image
    }

    #[track_caller]
    fn check(verdicts: usize, new_ones: bool, before: &[(u32, u8)], expected: &[u32]) {
        let sizes = [(1, 5), (2, 20), (3, 7)];
        let mut target = image(&sizes);
        let room = Room {
            verdicts,
            new_ones,
            ..Room::UNBOUNDED
        };
        let out = room.fit(&image(before), &mut target).verdicts;
        assert_eq!(out, expected.iter().copied().collect());
        for (set, size) in sizes {
            let found = target.verdicts.keys().filter(|(key, _)| key.set == set);
            let (found, whole) = (found.count(), usize::from(size));
            assert_eq!(found, if out.contains(&set) { 0 } else { whole });
            let closed = target.endpoints[&(set, [0; 16])] == CLOSED;
            assert_eq!(closed, out.contains(&set), "{set}");
        }
    }

    #[test]
    fn the_largest_sets_are_left_out_and_their_pods_closed() {
        check(32, true, &[], &[]);
        check(31, true, &[], &[2]);
        check(12, true, &[], &[2]);
        check(11, true, &[], &[2, 3]);
        check(0, true, &[], &[1, 2, 3]);
        check(usize::MAX, false, &[(1, 5), (2, 19)], &[2, 3]);
        check(4, false, &[(1, 5)], &[1, 2, 3]);
    }
}
