//! The tables of the fast path; the only writer of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use agent_abi::fast_path::{FAST_DEVICES_MAP, FastDeviceV1, POD_NETWORKS_MAP};
use agent_abi::policy::PolicyAddressV1;

use crate::divergence::{self, Divergences};
use crate::sys::map::{Table, TableError, Trie};

/// Value of `POD_NETWORKS`.
const IS_OF_PODS: u32 = 1;

/// Contents of the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// By index.
    pub devices: BTreeMap<u32, FastDeviceV1>,
    /// Networks of pods of other nodes.
    pub networks: BTreeSet<(u32, PolicyAddressV1)>,
}

/// `FAST_DEVICES`, `POD_NETWORKS` and what is known of them.
#[derive(Debug)]
pub struct FastPaths {
    devices: Table<u32, FastDeviceV1>,
    networks: Trie<PolicyAddressV1>,
    known: Option<Tables>,
}

impl FastPaths {
    /// The maps pinned in the directory `pins`.
    ///
    /// # Errors
    /// Where the programs have not been loaded.
    pub fn open(pins: &Path) -> Result<Self, TableError> {
        Ok(Self {
            devices: Table::open(pins, FAST_DEVICES_MAP)?,
            networks: Trie::open(pins, POD_NETWORKS_MAP)?,
            known: None,
        })
    }

    /// Makes them hold `wanted`. What is no longer so goes first: an interface's index may be
    /// another's.
    ///
    /// # Errors
    /// Where the kernel refuses; the next call reads the tables back.
    pub fn follow(&mut self, wanted: Tables) -> Result<(), TableError> {
        let known = match self.known.take() {
            Some(known) => known,
            None => self.read()?,
        };
        for index in known.devices.keys() {
            if !wanted.devices.contains_key(index) {
                self.devices.delete(*index)?;
            }
        }
        for (bits, key) in known.networks.difference(&wanted.networks) {
            self.networks.delete(*bits, *key)?;
        }
        for (bits, key) in wanted.networks.difference(&known.networks) {
            self.networks.put(*bits, *key, IS_OF_PODS)?;
        }
        for (index, device) in &wanted.devices {
            if known.devices.get(index) != Some(device) {
                self.devices.put(*index, *device)?;
            }
        }
        self.known = Some(wanted);
        Ok(())
    }

    /// Reads them back, and counts what is not as it was written; the next [`Self::follow`] mends it.
    ///
    /// # Errors
    /// Where the kernel refuses; the next call reads the tables back.
    pub fn audit(&mut self, found: &mut Divergences) -> Result<(), TableError> {
        let Some(written) = self.known.take() else {
            return Ok(());
        };
        let there = self.read()?;
        divergence::compare(FAST_DEVICES_MAP, &written.devices, &there.devices, found);
        let keys = |tables: &Tables| -> BTreeMap<_, ()> {
            let keys = tables.networks.iter();
            keys.map(|key| (*key, ())).collect()
        };
        divergence::compare(POD_NETWORKS_MAP, &keys(&written), &keys(&there), found);
        self.known = Some(there);
        Ok(())
    }

    fn read(&self) -> Result<Tables, TableError> {
        let networks = self.networks.entries()?.into_iter();
        let networks = networks.filter(|(_, value)| *value == IS_OF_PODS);
        Ok(Tables {
            devices: self.devices.entries()?.into_iter().collect(),
            networks: networks.map(|(key, _)| key).collect(),
        })
    }
}
