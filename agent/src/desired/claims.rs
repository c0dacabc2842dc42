//! Who owns an address and port that several Services claim: whose cluster IP it is, then the oldest,
//! then the first by name.
//!
//! The API server gives a cluster IP to one Service. Were age alone to decide, an older Service could
//! take a younger one's through its external addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use model::{Problem, Protocol, Reason};
use rpds::RedBlackTreeMapSync;

use super::compiled::Compiled;
use super::{Frontend, LbServiceKey, Scope};

/// What is claimed: two frontends of different scope may not share it either.
type Address = (IpAddr, NonZeroU16, Protocol);

/// What a claim rests on, creation time and unit; the least of them owns the address.
type Claim = (Right, i64, LbServiceKey);

/// What a claim rests on, the better one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Right {
    /// It is the Service's cluster IP.
    ClusterIp,
    /// Somebody wrote it to an object, or the port is on every node.
    Asked,
}

/// Every claim in the cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    /// In order; a list, since most addresses have one.
    by_address: RedBlackTreeMapSync<Address, Box<[Claim]>>,
}

impl Claims {
    /// The claims of all Services, with no earlier ones.
    pub(super) fn of(all: &[Option<Arc<Compiled>>]) -> Self {
        let all = all.iter().flatten();
        let mut claims: Vec<(Address, Claim)> =
            all.flat_map(|compiled| each_claim(compiled)).collect();
        claims.sort_unstable();
        claims.dedup();
        let same_address = |a: &(Address, Claim), b: &(Address, Claim)| a.0 == b.0;
        let by_address = claims.chunk_by(same_address).filter_map(|claims| {
            let (address, _) = claims.first()?;
            let claims = claims.iter().map(|(_, claim)| claim.clone());
            Some((*address, claims.collect()))
        });
        Self {
            by_address: by_address.collect(),
        }
    }

    /// Replaces the claims of one Service. The answer are the units whose addresses may have
    /// another owner now, the Service's own among them.
    pub(super) fn replace(
        &mut self,
        old: Option<&Compiled>,
        new: Option<&Compiled>,
    ) -> BTreeSet<LbServiceKey> {
        let claims_of = |one: Option<&Compiled>| {
            one.into_iter()
                .flat_map(each_claim)
                .collect::<BTreeSet<_>>()
        };
        let (before, after) = (claims_of(old), claims_of(new));
        let own = [old, new]
            .into_iter()
            .flatten()
            .flat_map(|compiled| compiled.units.iter().map(|(key, _)| key.clone()));
        let mut affected: BTreeSet<LbServiceKey> = own.collect();
        for (address, claim) in before.symmetric_difference(&after) {
            let known = self.by_address.get(address).into_iter().flatten();
            let mut claims: BTreeSet<Claim> = known.cloned().collect();
            affected.extend(claims.iter().map(|(.., key)| key.clone()));
            if after.contains(&(*address, claim.clone())) {
                claims.insert(claim.clone());
            } else {
                claims.remove(claim);
            }
            if claims.is_empty() {
                self.by_address.remove_mut(address);
            } else {
                let claims = claims.into_iter().collect();
                self.by_address.insert_mut(*address, claims);
            }
        }
        affected
    }

    /// Those of `frontends` that `key` owns, and a problem for each of the others.
    pub(super) fn won_by(
        &self,
        key: &LbServiceKey,
        frontends: &Arc<[Frontend]>,
    ) -> (Arc<[Frontend]>, Vec<Problem>) {
        let mut won = Vec::new();
        let mut problems = Vec::new();
        for frontend in frontends.iter() {
            let owner = self
                .by_address
                .get(&address_of(frontend))
                .and_then(|claims| claims.first());
            match owner {
                Some((right, _, owner)) if owner != key => {
                    problems.push(lost(key, frontend, *right, owner));
                }
                _ => won.push(*frontend),
            }
        }
        if problems.is_empty() {
            return (Arc::clone(frontends), problems);
        }
        (won.into(), problems)
    }
}

/// What one Service claims.
fn each_claim(compiled: &Compiled) -> impl Iterator<Item = (Address, Claim)> {
    let created = compiled.created_unix_seconds;
    compiled.units.iter().flat_map(move |(key, unit)| {
        unit.frontends.iter().map(move |frontend| {
            let claim = (right(frontend), created, key.clone());
            (address_of(frontend), claim)
        })
    })
}

fn right(frontend: &Frontend) -> Right {
    match frontend.scope {
        Scope::ClusterIp => Right::ClusterIp,
        Scope::NodePort
        | Scope::Loopback
        | Scope::HostPort
        | Scope::ExternalIp
        | Scope::LoadBalancer => Right::Asked,
    }
}

fn address_of(frontend: &Frontend) -> Address {
    (frontend.address, frontend.port, frontend.protocol)
}

fn lost(key: &LbServiceKey, frontend: &Frontend, right: Right, owner: &LbServiceKey) -> Problem {
    let owner = &owner.owner;
    let message = match (right, self::right(frontend)) {
        (Right::ClusterIp, Right::Asked) => format!("{frontend} is a cluster IP of {owner}"),
        _ => format!("{frontend} belongs to the older {owner}"),
    };
    Problem::new(
        key.owner.kind(),
        key.owner.key().clone(),
        "spec.ports",
        message,
        format!(
            "port `{}` is not served at this address; give one of the two another address or port",
            key.port
        ),
    )
    .because(Reason::Conflict)
}
