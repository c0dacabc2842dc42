//! Maglev's consistent hashing: which member of a set each entry of a ring stands for.
//!
//! The ring is a function of the members' names and weights alone, so every node computes the same
//! one. When a member comes or goes, almost only its own entries change hands.
//!
//! Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016), §3.4.

use agent_abi::Address;
use agent_abi::hash::{finish, mix};

/// Sizes of rings: primes, each about twice the one before. The paper's bound for an uneven share
/// of at most 1 % is 100 entries a member.
const SIZES: [u32; 11] = [
    251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, 65_521, 131_071, 262_139,
];
const ENTRIES_PER_MEMBER: u64 = 100;

/// One of those to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it is known by on every node.
    pub name: Name,
    /// Its share, against the others'; at least 1.
    pub weight: u16,
}

/// What a member is known by.
pub type Name = (Address, [u8; 2]);

/// The entries of the ring of some members: for each, the index of a member. Empty where there is
/// nothing to choose from.
pub fn ring(members: &[Member]) -> Vec<u16> {
    if members.len() < 2 {
        return Vec::new();
    }
    let size = size_for(members.len());
    let mut turns: Vec<Turns> = members
        .iter()
        .map(|member| Turns::new(member, size))
        .collect();
    let heaviest = members
        .iter()
        .map(|member| member.weight)
        .max()
        .unwrap_or(1);
    let slots = usize::try_from(size).unwrap_or(usize::MAX);
    let mut entries: Vec<Option<u16>> = vec![None; slots];
    let mut left = slots;
    while left > 0 {
        for (index, turn) in turns.iter_mut().enumerate() {
            // The heaviest takes an entry in every round, the others as often as their share.
            turn.credit += u32::from(turn.weight);
            if turn.credit < u32::from(heaviest) || left == 0 {
                continue;
            }
            turn.credit -= u32::from(heaviest);
            // A permutation: it comes to a free entry while there is one.
            while let Some(entry) = entries.get_mut(turn.next()) {
                if entry.is_none() {
                    *entry = Some(u16::try_from(index).unwrap_or(u16::MAX));
                    left -= 1;
                    break;
                }
            }
        }
    }
    entries.into_iter().flatten().collect()
}

fn size_for(members: usize) -> u32 {
    let wanted = u64::try_from(members)
        .unwrap_or(u64::MAX)
        .saturating_mul(ENTRIES_PER_MEMBER);
    let fitting = SIZES.into_iter().find(|size| u64::from(*size) >= wanted);
    fitting.unwrap_or(SIZES[SIZES.len() - 1])
}

/// The order in which a member wants entries.
struct Turns {
    at: u32,
    skip: u32,
    size: u32,
    weight: u16,
    credit: u32,
}

impl Turns {
    fn new(member: &Member, size: u32) -> Self {
        Self {
            at: hash(&member.name, 1) % size,
            skip: hash(&member.name, 2) % (size - 1) + 1,
            size,
            weight: member.weight.max(1),
            credit: 0,
        }
    }

    fn next(&mut self) -> usize {
        let at = self.at;
        self.at = (self.at + self.skip) % self.size;
        usize::try_from(at).unwrap_or(usize::MAX)
    }
}

fn hash((address, port): &Name, seed: u32) -> u32 {
    let words = address.chunks_exact(4).map(|word| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(word);
        u32::from_be_bytes(bytes)
    });
    let state = words.fold(seed, mix);
    finish(mix(state, u16::from_be_bytes(*port).into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Member, ring};

    fn member(number: u8, weight: u16) -> Member {
        let mut address = [0; 16];
        address[15] = number;
        Member {
            name: (address, [0, 80]),
            weight,
        }
    }

    fn shares(members: &[Member]) -> Vec<usize> {
        let mut shares = vec![0; members.len()];
        for entry in ring(members) {
            shares[usize::from(entry)] += 1;
        }
        shares
    }

    #[test]
    fn few_members_need_few_entries() {
        assert!(ring(&[]).is_empty());
        assert!(ring(&[member(1, 7)]).is_empty());
        assert_eq!(ring(&[member(1, 1), member(2, 1)]).len(), 251);
        let hundred: Vec<_> = (0..100).map(|number| member(number, 1)).collect();
        assert_eq!(ring(&hundred).len(), 16_381);
    }

    #[test]
    fn shares_follow_the_weights() {
        let shares = shares(&[member(1, 3), member(2, 1), member(3, 2)]);
        let all: usize = shares.iter().sum();
        for (share, weight) in shares.iter().zip([3, 1, 2]) {
            assert!(share.abs_diff(all * weight / 6) <= all / 100, "{shares:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn shares_are_even_and_a_leaving_member_moves_few_others(numbers in proptest::collection::btree_set(0..200_u8, 2..40)) {
            let members: Vec<_> = numbers.iter().map(|number| member(*number, 1)).collect();
            let shares = shares(&members);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", shares);

            let fewer = &members[1..];
            let (before, after) = (ring(&members), ring(fewer));
            if before.len() == after.len() && after.len() > 1 {
                let moved = before.iter().zip(&after).filter(|(b, a)| **b != 0 && **b != **a + 1).count();
                prop_assert!(moved * 4 <= before.len(), "{} of {} moved", moved, before.len());
            }
        }
    }
}
