//! Which pods go into a table that is too small for all.
//!
//! A pod that is not in it may send and receive as it likes, so one entry around all addresses closes
//! those that are left out. Pods without rules need no entry where nothing around them is closed.

use std::collections::BTreeSet;

use agent_abi::policy::NO_SET;

use super::{CLOSED, Image, Prefix, lower};

/// Every address.
const EVERYBODY: Prefix = (0, [0; 16]);

/// Takes out of `target` the pods that are more than `room`, and answers which of them are closed
/// thereby. Rules that are in force stay.
pub(super) fn fit(room: usize, image: &Image, target: &mut Image) -> BTreeSet<Prefix> {
    // The entry around all of them comes before what it is for goes, and goes after what takes its
    // place, so there is always room for it.
    let spare = room.saturating_sub(1);
    if target.endpoints.len() <= spare {
        return BTreeSet::new();
    }
    let is_one = |prefix: &Prefix| prefix.0 == 128;
    let has_rules = |prefix: &Prefix| {
        let endpoint = target.endpoints.get(prefix);
        endpoint.is_some_and(|it| (it.ingress, it.egress, it.flags) != (NO_SET, NO_SET, 0))
    };
    let mut order: Vec<(bool, bool, bool, Prefix)> = target
        .endpoints
        .keys()
        .map(|prefix| {
            let is_new = !image.endpoints.contains_key(prefix);
            (is_one(prefix), !has_rules(prefix), is_new, *prefix)
        })
        .collect();
    order.sort_unstable();
    let networks: BTreeSet<Prefix> = target.endpoints.keys().copied().collect();
    let is_around = |prefix: &Prefix| {
        let around = |at: &Prefix| (!is_one(at) && networks.contains(at)).then_some(());
        lower::longest(prefix, around).is_some()
    };
    let left_out = order.iter().skip(spare).map(|(.., prefix)| *prefix);
    let left_out: BTreeSet<Prefix> = left_out.collect();
    let passes = |prefix: &Prefix| !has_rules(prefix) && !is_around(prefix);
    let pass = left_out.iter().all(passes);
    let endpoints = &mut target.endpoints;
    endpoints.retain(|prefix, _| !left_out.contains(prefix));
    if pass {
        return BTreeSet::new();
    }
    if room > 0 {
        endpoints.insert(EVERYBODY, CLOSED);
    }
    left_out
}

#[cfg(test)]
mod tests {
    use agent_abi::policy::{ENDPOINT_CLOSED, EndpointV1};

    use super::*;

    /// Pods by a number and whether rules go for them, and networks that are closed.
    fn image(pods: &[(u8, bool)], networks: &[Prefix]) -> Image {
        let pods = pods.iter().map(|(number, has_rules)| {
            let endpoint = EndpointV1 {
                ingress: if *has_rules { 7 } else { NO_SET },
                egress: NO_SET,
                flags: 0,
                _pad: 0,
            };
            ((128, [*number; 16]), endpoint)
        });
        let networks = networks.iter().map(|network| (*network, CLOSED));
        Image {
            endpoints: pods.chain(networks).collect(),
            ..Image::default()
        }
    }

    /// What becomes of a pod: nothing goes for it, its rules, or it is closed.
    fn fate(image: &Image, number: u8) -> &'static str {
        let found = lower::longest(&(128, [number; 16]), |at| image.endpoints.get(at));
        match found {
            None => "free",
            Some(endpoint) if endpoint.flags & ENDPOINT_CLOSED != 0 => "closed",
            Some(endpoint) if endpoint.ingress == NO_SET => "free",
            Some(_) => "rules",
        }
    }

    #[track_caller]
    fn check(room: usize, before: &Image, after: &Image, fates: &[&str], closed: &[u8]) {
        let mut target = after.clone();
        let told = fit(room, before, &mut target);
        let expected = closed.iter().map(|number| (128, [*number; 16])).collect();
        assert_eq!(told, expected);
        assert!(target.endpoints.len() <= room, "{target:?}");
        for (number, expected) in (1..).zip(fates) {
            assert_eq!(fate(&target, number), *expected, "{number}: {target:?}");
        }
    }

    #[test]
    fn pods_that_do_not_fit_are_closed_unless_nothing_goes_for_them() {
        let none = Image::default();
        let pods = image(&[(1, true), (2, true), (3, true), (4, false)], &[]);
        check(5, &none, &pods, &["rules", "rules", "rules", "free"], &[]);
        // Who has no rules is free without an entry.
        check(4, &none, &pods, &["rules", "rules", "rules", "free"], &[]);
        check(
            2,
            &none,
            &pods,
            &["rules", "closed", "closed", "closed"],
            &[2, 3, 4],
        );
        // What is in force stays.
        let before = image(&[(3, true)], &[]);
        check(
            2,
            &before,
            &pods,
            &["closed", "closed", "rules", "closed"],
            &[1, 2, 4],
        );
        // In a network that is closed, nobody is free without an entry.
        let within = image(&[(1, true), (4, false)], &[(4, [0; 16])]);
        check(2, &none, &within, &["closed"], &[1, 4]);
        // One more has room as soon as the entry that closes has its own too.
        let closing = image(&[(1, true)], &[EVERYBODY]);
        let three = image(&[(1, true), (2, true), (3, true)], &[]);
        check(3, &closing, &three, &["rules", "rules", "closed"], &[3]);
        check(4, &closing, &three, &["rules", "rules", "rules"], &[]);
    }
}
