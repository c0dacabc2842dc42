//! Next hops that share a route, and whether they are there.
//!
//! The kernel goes on sending a next hop its share though nobody answers there: a link that another
//! machine has lost looks well from here. So each is asked for its link-layer address every [`ASK`],
//! and the route goes without one that does not answer, while another does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::desired::route::{NextHop, Routes, Way};

/// With three questions a second apart (`ucast_solicit`), a link that is lost is left within 8 s.
pub const ASK: Duration = Duration::from_secs(5);

/// So many are asked at most. The kernel has room for 1,024 neighbours of a family (`gc_thresh3`), the
/// node's pods among them; of next hops beyond, it is known what their traffic tells.
const MOST: usize = 512;

/// A next hop, by the index of its interface.
pub type Key = (u32, IpAddr);

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Its link-layer address, be it by a guess that nothing speaks against.
    Known,
    /// It has not answered.
    Silent,
    /// The question is under way, or nobody has asked.
    Open,
}

/// The next hops of routes with several.
#[derive(Debug, Default)]
pub struct Hops {
    watched: BTreeSet<Key>,
    silent: BTreeSet<Key>,
}

impl Hops {
    /// Watches those of `routes`.
    pub fn watch(&mut self, routes: &Routes, index: impl Fn(&NextHop) -> Option<u32>) {
        let shared = routes.to.values().filter_map(|route| match &route.way {
            Way::Direct(hops) if hops.len() > 1 => Some(hops),
            Way::Direct(_) | Way::Overlay { .. } => None,
        });
        let hops = shared.flatten();
        self.watched = hops
            .filter_map(|hop| Some((index(hop)?, hop.gateway)))
            .collect();
        self.silent.retain(|key| self.watched.contains(key));
    }

    /// Those that are watched.
    pub fn watched(&self) -> &BTreeSet<Key> {
        &self.watched
    }

    /// Those to ask.
    pub fn asked(&self) -> BTreeSet<Key> {
        self.watched.iter().take(MOST).copied().collect()
    }

    /// Whether one is not to be used. It is again once it answers.
    pub fn is_silent(&self, key: &Key) -> bool {
        self.silent.contains(key)
    }

    /// Takes what the kernel knows of all.
    pub fn hear(&mut self, heard: &BTreeMap<Key, Heard>) {
        for (key, heard) in heard {
            match heard {
                _ if !self.watched.contains(key) => {}
                Heard::Known => _ = self.silent.remove(key),
                Heard::Silent => _ = self.silent.insert(*key),
                Heard::Open => {}
            }
        }
    }

    /// Whether that would change something.
    pub fn is_news(&self, key: &Key, heard: Heard) -> bool {
        self.watched.contains(key)
            && match heard {
                Heard::Known => self.is_silent(key),
                Heard::Silent => !self.is_silent(key),
                Heard::Open => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::desired::route::PodRoute;

    #[test]
    fn one_that_does_not_answer_is_left_out_until_it_does() {
        let hop = |gateway: &str, network: &str| NextHop {
            gateway: gateway.parse().unwrap(),
            network: network.parse().unwrap(),
        };
        let mut routes = Routes::default();
        let shared = [
            hop("192.0.2.2", "192.0.2.1/24"),
            hop("198.51.100.2", "198.51.100.1/24"),
        ];
        for (to, hops) in [("10.1.0.0/24", &shared[..]), ("10.2.0.0/24", &shared[..1])] {
            let way = Way::Direct(hops.iter().copied().collect());
            let node = "node".into();
            let to = to.parse().unwrap();
            routes.to.insert_mut(to, PodRoute { node, way });
        }
        let mut hops = Hops::default();
        hops.watch(&routes, |hop| Some(u32::from(hop.network.prefix_len())));
        let key: Key = (24, "198.51.100.2".parse::<IpAddr>().unwrap());
        let stranger: Key = (7, key.1);
        assert_eq!(hops.watched().len(), 2);
        let hear = |hops: &mut Hops, heard| {
            let is_news = hops.is_news(&key, heard);
            hops.hear(&[(key, heard), (stranger, heard)].into());
            (is_news, hops.is_silent(&key))
        };
        assert_eq!(hear(&mut hops, Heard::Open), (false, false));
        assert_eq!(hear(&mut hops, Heard::Silent), (true, true));
        assert_eq!(hear(&mut hops, Heard::Silent), (false, true));
        assert_eq!(hear(&mut hops, Heard::Open), (false, true));
        assert_eq!(hear(&mut hops, Heard::Known), (true, false));
        assert!(!hops.is_silent(&stranger));
        hear(&mut hops, Heard::Silent);
        hops.watch(&Routes::default(), |_| Some(24));
        assert!(hops.watched().is_empty() && !hops.is_silent(&key));
    }
}
