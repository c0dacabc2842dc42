//! The policy maps as they are in the kernel; the only writer of them.
//!
//! What to write is decided in `image`; here it is one system call each.

use std::collections::BTreeMap;
use std::path::Path;

use agent_abi::connection::{EPOCH_NEVER, EPOCH_UNJUDGED};
use agent_abi::policy::{
    ALLOCATOR_MAP, ENDPOINTS_MAP, EPOCH_MAP, EndpointV1, IDENTITIES_MAP, NEXT_IDENTITY, NEXT_RULE,
    NEXT_SET, PolicyAddressV1, VERDICTS_MAP, VerdictKeyV1, VerdictV1,
};

use super::image::{Image, Op, Prefix, Room};
use crate::applier::Usage;
use crate::sys::map::{List, TableError, Trie};

/// The open policy maps.
#[derive(Debug)]
pub struct Maps {
    identities: Trie<PolicyAddressV1>,
    verdicts: Trie<VerdictKeyV1, VerdictV1>,
    endpoints: Trie<PolicyAddressV1, EndpointV1>,
    allocator: List<u32>,
    epoch: List<u32>,
}

impl Maps {
    /// Opens the maps pinned in the directory `pins`.
    ///
    /// # Errors
    /// Where one of them is not there: the programs have not been loaded.
    pub fn open(pins: &Path) -> Result<Self, TableError> {
        Ok(Self {
            identities: Trie::open(pins, IDENTITIES_MAP)?,
            verdicts: Trie::open(pins, VERDICTS_MAP)?,
            endpoints: Trie::open(pins, ENDPOINTS_MAP)?,
            allocator: List::open(pins, ALLOCATOR_MAP)?,
            epoch: List::open(pins, EPOCH_MAP)?,
        })
    }

    /// Reads the maps, and the next free numbers of identities, sets and rules.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn read(&self) -> Result<(Image, [u32; 3]), TableError> {
        let verdicts = self.verdicts.entries()?.into_iter();
        let image = Image {
            identities: by_prefix(self.identities.entries()?),
            verdicts: verdicts
                .map(|((bits, key), value)| ((key, bits), value))
                .collect(),
            endpoints: by_prefix(self.endpoints.entries()?),
        };
        let next = |index| self.allocator.get(index);
        let free = [next(NEXT_IDENTITY)?, next(NEXT_SET)?, next(NEXT_RULE)?];
        Ok((image, free))
    }

    /// Does one write.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn write(&mut self, op: Op) -> Result<(), TableError> {
        let key = |address| PolicyAddressV1 { address };
        match op {
            Op::Reserve([identity, set, rule]) => {
                self.allocator.set(NEXT_IDENTITY, identity)?;
                self.allocator.set(NEXT_SET, set)?;
                self.allocator.set(NEXT_RULE, rule)
            }
            Op::PutVerdict((prefix, bits), value) => self.verdicts.put(bits, prefix, value),
            Op::PutIdentity((bits, address), value) => {
                self.identities.put(bits, key(address), value)
            }
            Op::PutEndpoint((bits, address), value) => {
                self.endpoints.put(bits, key(address), value)
            }
            Op::DeleteEndpoint((bits, address)) => self.endpoints.delete(bits, key(address)),
            Op::DeleteIdentity((bits, address)) => self.identities.delete(bits, key(address)),
            Op::DeleteVerdict((prefix, bits)) => self.verdicts.delete(bits, prefix),
        }
    }

    /// Has connections judged again that were let through before.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn advance(&mut self) -> Result<(), TableError> {
        let next = match self.epoch.get(0)?.wrapping_add(1) {
            EPOCH_NEVER => EPOCH_UNJUDGED + 1,
            next => next,
        };
        self.epoch.set(0, next)
    }

    /// Empties the tables: every pod passes first, then nobody is known.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn clear(&mut self) -> Result<(), TableError> {
        let (image, _) = self.read()?;
        let endpoints = image.endpoints.into_keys().map(Op::DeleteEndpoint);
        let identities = image.identities.into_keys().map(Op::DeleteIdentity);
        let verdicts = image.verdicts.into_keys().map(Op::DeleteVerdict);
        endpoints
            .chain(identities)
            .chain(verdicts)
            .try_for_each(|op| self.write(op))
    }

    /// How much there is room for.
    pub fn room(&self) -> Room {
        let size = |max: u32| usize::try_from(max).unwrap_or(usize::MAX);
        Room {
            identities: size(self.identities.max()),
            verdicts: size(self.verdicts.max()),
            endpoints: size(self.endpoints.max()),
            new_ones: true,
        }
    }

    /// How full the maps are that hold `image`.
    pub fn usage(&self, image: &Image) -> Vec<Usage> {
        let usage = |map, used: usize, max: u32| Usage {
            map,
            used: used as u64,
            max: max.into(),
        };
        vec![
            usage(
                IDENTITIES_MAP,
                image.identities.len(),
                self.identities.max(),
            ),
            usage(VERDICTS_MAP, image.verdicts.len(), self.verdicts.max()),
            usage(ENDPOINTS_MAP, image.endpoints.len(), self.endpoints.max()),
        ]
    }
}

fn by_prefix<V>(entries: Vec<((u32, PolicyAddressV1), V)>) -> BTreeMap<Prefix, V> {
    let entries = entries.into_iter();
    entries
        .map(|((bits, key), value)| ((bits, key.address), value))
        .collect()
}
