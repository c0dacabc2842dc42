//! Who is at which address.
//!
//! Pods and nodes claim their addresses; two that claim one happen where a pod's end and the next
//! one's begin are heard in the wrong order, and the one made last has it. A claim of which only
//! the address itself is spoken needs no entry: the network that the policies named has one. So
//! pods that no selector in force means cost nothing in the kernel, however many there are.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::{Kind, ObjectKey};
use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use super::index::TermIndex;
use super::rules::SetKey;
use super::term::{Class, Identity, Term};

/// A pod or a node.
pub(super) type Claimant = (Kind, ObjectKey);

/// Who says to be at an address; the least has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    pub(super) made: Reverse<i64>,
    pub(super) claimant: Claimant,
    pub(super) class: Arc<Class>,
}

/// Addresses and who is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    /// Longest prefix decides; who is at none of them is anybody.
    pub(super) identities: RedBlackTreeMapSync<IpNet, Identity>,
    claims: RedBlackTreeMapSync<IpAddr, Arc<[Claim]>>,
    claimed: RedBlackTreeMapSync<Claimant, Arc<[IpAddr]>>,
    /// How many prefixes a class has.
    pub(super) classes: HashTrieMapSync<Arc<Class>, usize>,
}

/// What a change of addresses brought about.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Prefixes to be settled.
    pub(super) networks: BTreeSet<IpNet>,
    /// Sets that pods came to or left.
    pub(super) sets: BTreeSet<SetKey>,
    /// Classes of which there may be more or fewer, and how many prefixes they had.
    classes: HashMap<Arc<Class>, usize>,
}

impl Addresses {
    /// Puts claims in place of what a pod or node claimed before.
    pub(super) fn claim(
        &mut self,
        claimant: &Claimant,
        claims: Vec<(IpAddr, Claim)>,
        touched: &mut Touched,
    ) {
        let before = self.claimed.get(claimant).cloned();
        for address in before.iter().flat_map(|before| before.iter()) {
            if !claims.iter().any(|(claimed, _)| claimed == address) {
                self.replace(*address, claimant, None, touched);
            }
        }
        let addresses: Arc<[IpAddr]> = claims.iter().map(|(address, _)| *address).collect();
        for (address, claim) in claims {
            self.replace(address, claimant, Some(claim), touched);
        }
        if addresses.is_empty() {
            self.claimed.remove_mut(claimant);
        } else if before.is_none_or(|before| before != addresses) {
            self.claimed.insert_mut(claimant.clone(), addresses);
        }
    }

    fn replace(
        &mut self,
        address: IpAddr,
        claimant: &Claimant,
        claim: Option<Claim>,
        touched: &mut Touched,
    ) {
        let known = self.claims.get(&address).map(AsRef::as_ref);
        let known = known.unwrap_or_default();
        let others = known.iter().filter(|known| known.claimant != *claimant);
        let mut claims: Vec<Claim> = others.cloned().chain(claim).collect();
        claims.sort_unstable();
        if claims == known {
            return;
        }
        touched.networks.insert(address.into());
        if claims.is_empty() {
            self.claims.remove_mut(&address);
        } else {
            self.claims.insert_mut(address, claims.into());
        }
    }

    /// Every pod and node that claims an address of a network.
    pub(super) fn claimants_in(&self, network: &IpNet) -> impl Iterator<Item = &Claimant> {
        let there = self.claims.range(network.network()..=network.broadcast());
        there.flat_map(|(_, claims)| claims.iter().map(|claim| &claim.claimant))
    }

    /// Who has an address.
    pub(super) fn owner(&self, address: IpAddr) -> Option<&Claim> {
        self.claims.get(&address)?.first()
    }

    /// Brings a prefix up to date with who claims it; answers whether it differs.
    pub(super) fn settle(
        &mut self,
        network: &IpNet,
        own: &BTreeSet<IpAddr>,
        index: &TermIndex,
        touched: &mut Touched,
    ) -> bool {
        let before = self.identities.get(network).cloned();
        let after = self.identity(network, own, index);
        if before == after {
            return false;
        }
        if let Some(Identity::Class(class)) = &before {
            self.count(class, false, touched);
        }
        match after {
            Some(identity) => {
                if let Identity::Class(class) = &identity {
                    self.count(class, true, touched);
                }
                self.identities.insert_mut(*network, identity);
            }
            None => drop(self.identities.remove_mut(network)),
        }
        true
    }

    fn identity(
        &self,
        network: &IpNet,
        own: &BTreeSet<IpAddr>,
        index: &TermIndex,
    ) -> Option<Identity> {
        let address = network.addr();
        let is_one = network.prefix_len() == network.max_prefix_len();
        if is_one && own.contains(&address) {
            return Some(Identity::Host);
        }
        let owner = is_one.then(|| self.owner(address)).flatten();
        let is_block = |term: &Arc<Term>| matches!(**term, Term::Block { .. });
        match owner {
            Some(Claim { class, .. })
                if !class.ports.is_empty() || !class.terms.iter().all(is_block) =>
            {
                Some(Identity::Class(Arc::clone(class)))
            }
            _ => {
                let class = index.class_of_network(network)?;
                Some(Identity::Class(Arc::new(class)))
            }
        }
    }

    fn count(&mut self, class: &Arc<Class>, more: bool, touched: &mut Touched) {
        if class.is_anybody() {
            return;
        }
        let count = self.classes.get(class).copied().unwrap_or(0);
        touched.classes.entry(Arc::clone(class)).or_insert(count);
        let count = if more {
            count + 1
        } else {
            count.saturating_sub(1)
        };
        if count == 0 {
            self.classes.remove_mut(class);
        } else {
            self.classes.insert_mut(Arc::clone(class), count);
        }
    }

    /// Classes that are new, and those that are gone.
    pub(super) fn differing(&self, touched: Touched) -> (Vec<Arc<Class>>, Vec<Arc<Class>>) {
        let (mut new, mut gone) = (Vec::new(), Vec::new());
        for (class, before) in touched.classes {
            match (before > 0, self.classes.contains_key(&class)) {
                (false, true) => new.push(class),
                (true, false) => gone.push(class),
                (false, false) | (true, true) => {}
            }
        }
        (new, gone)
    }
}
