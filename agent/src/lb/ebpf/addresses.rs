//! What the programs know of addresses alone, where a packet does not say its ports.
//!
//! [`Addresses`] follows the writes to the service maps and the cluster's nodes, and says what each
//! changes here. One address has many ports, so frontends are counted.

use std::collections::{BTreeMap, BTreeSet};

use agent_abi::Address;
use agent_abi::service::{ADDRESS_FRONTEND, ADDRESS_NODE};

use super::tables::{Op, Tables};
use crate::sys::map::{Table, TableError};

/// Who has each address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    frontends: BTreeMap<Address, u32>,
    nodes: BTreeSet<Address>,
}

/// One write to the map of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes the bits of an address.
    Put(Address, u32),
    /// Deletes an address.
    Delete(Address),
}

impl Change {
    /// Does it.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn write(self, map: &mut Table<Address, u32>) -> Result<(), TableError> {
        match self {
            Self::Put(address, bits) => map.put(address, bits),
            Self::Delete(address) => map.delete(address),
        }
    }
}

impl Addresses {
    /// The frontends' addresses in tables just read, and the `nodes`'.
    pub fn of(tables: &Tables, nodes: BTreeSet<Address>) -> Self {
        let mut addresses = Self {
            frontends: BTreeMap::new(),
            nodes,
        };
        for key in tables.frontends().keys() {
            *addresses.frontends.entry(key.address).or_default() += 1;
        }
        addresses
    }

    /// What brings the map, as it was read, in line.
    pub fn reconcile(&self, entries: &[(Address, u32)]) -> Vec<Change> {
        let found: BTreeMap<Address, u32> = entries.iter().copied().collect();
        let wanted: BTreeSet<Address> = self.frontends.keys().chain(&self.nodes).copied().collect();
        let missing = wanted
            .iter()
            .filter(|address| found.get(*address) != Some(&self.bits(address)));
        let left = found.keys().filter(|address| !wanted.contains(*address));
        missing
            .chain(left)
            .map(|address| self.change(*address))
            .collect()
    }

    /// Follows a write to the service maps, which `tables` does not hold yet.
    pub fn follow(&mut self, op: &Op, tables: &Tables) -> Option<Change> {
        let is_known = |key| tables.frontends().contains_key(key);
        if let Op::PutFrontend(key, _) = op
            && !is_known(key)
        {
            let count = self.frontends.entry(key.address).or_default();
            *count += 1;
            return (*count == 1).then(|| self.change(key.address));
        }
        if let Op::DeleteFrontend(key) = op
            && is_known(key)
        {
            let count = self.frontends.get_mut(&key.address)?;
            *count -= 1;
            if *count == 0 {
                self.frontends.remove(&key.address);
                return Some(self.change(key.address));
            }
        }
        None
    }

    /// Follows the cluster's nodes.
    pub fn set_nodes(&mut self, nodes: BTreeSet<Address>) -> Vec<Change> {
        let before = std::mem::replace(&mut self.nodes, nodes);
        let differing = before.symmetric_difference(&self.nodes);
        differing.map(|address| self.change(*address)).collect()
    }

    fn change(&self, address: Address) -> Change {
        match self.bits(&address) {
            0 => Change::Delete(address),
            bits => Change::Put(address, bits),
        }
    }

    fn bits(&self, address: &Address) -> u32 {
        let bit = |on: bool, bit| if on { bit } else { 0 };
        bit(self.frontends.contains_key(address), ADDRESS_FRONTEND)
            | bit(self.nodes.contains(address), ADDRESS_NODE)
    }
}

#[cfg(test)]
mod tests {
    use agent_abi::mapped_v4;
    use agent_abi::service::{FrontendKeyV1, FrontendV2};

    use super::*;

    const FRONTEND: Address = mapped_v4([10, 96, 0, 10]);
    const NODE: Address = mapped_v4([172, 31, 0, 2]);

    fn put(address: Address, port: u8) -> Op {
        let value = FrontendV2 {
            service: 1,
            flags: 0,
        };
        Op::PutFrontend(key(address, port), value)
    }

    fn delete(address: Address, port: u8) -> Op {
        Op::DeleteFrontend(key(address, port))
    }

    fn key(address: Address, port: u8) -> FrontendKeyV1 {
        FrontendKeyV1 {
            address,
            port: [0, port],
            protocol: 17,
            _pad: 0,
        }
    }

    #[test]
    fn an_address_stays_as_long_as_a_frontend_or_a_node_has_it() {
        let both = ADDRESS_FRONTEND | ADDRESS_NODE;
        let cases = [
            (
                put(FRONTEND, 1),
                Some(Change::Put(FRONTEND, ADDRESS_FRONTEND)),
            ),
            (put(FRONTEND, 2), None),
            (put(FRONTEND, 2), None),
            (put(NODE, 1), Some(Change::Put(NODE, both))),
            (delete(FRONTEND, 1), None),
            (delete(FRONTEND, 1), None),
            (delete(FRONTEND, 2), Some(Change::Delete(FRONTEND))),
            (delete(NODE, 1), Some(Change::Put(NODE, ADDRESS_NODE))),
        ];
        let (mut tables, mut addresses) = (Tables::new(1, 1, 1), Addresses::default());
        let nodes = BTreeSet::from([NODE]);
        assert_eq!(
            addresses.set_nodes(nodes.clone()),
            [Change::Put(NODE, ADDRESS_NODE)]
        );
        for (op, expected) in cases {
            assert_eq!(addresses.follow(&op, &tables), expected, "{op:?}");
            tables.commit(op);
            assert_eq!(addresses, Addresses::of(&tables, nodes.clone()), "{op:?}");
        }
        assert_eq!(addresses.set_nodes(BTreeSet::new()), [Change::Delete(NODE)]);
    }

    #[test]
    fn the_map_is_brought_in_line_with_tables_just_read() {
        let mut tables = Tables::new(1, 1, 1);
        tables.commit(put(FRONTEND, 1));
        let addresses = Addresses::of(&tables, BTreeSet::new());
        let entries = [(FRONTEND, 0), (NODE, ADDRESS_NODE)];
        assert_eq!(
            addresses.reconcile(&entries),
            [
                Change::Put(FRONTEND, ADDRESS_FRONTEND),
                Change::Delete(NODE)
            ]
        );
    }
}
