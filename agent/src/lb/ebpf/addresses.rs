//! What the programs know of addresses alone, where a packet does not say its ports.
//!
//! [`Addresses`] follows the writes to the service maps and says what each changes here. One
//! address has many ports, and an endpoint of two Services is two backends, so they are counted.

use std::collections::BTreeMap;

use agent_abi::Address;
use agent_abi::service::{ADDRESS_BACKEND, ADDRESS_FRONTEND, BackendV2, FrontendKeyV1};

use super::tables::{Op, Tables};
use crate::sys::map::{Table, TableError};

/// How many frontends and backends have each address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    holders: BTreeMap<Address, Holders>,
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
    /// The addresses in tables just read.
    pub fn of(tables: &Tables) -> Self {
        let mut addresses = Self::default();
        for key in tables.frontends().keys() {
            addresses.add(Holder::frontend(key));
        }
        for held in tables.services().values() {
            for backend in held.backends.values() {
                addresses.add(Holder::backend(backend));
            }
        }
        addresses
    }

    /// What brings the map, as it was read, in line.
    pub fn reconcile(&self, entries: &[(Address, u32)]) -> Vec<Change> {
        let found: BTreeMap<Address, u32> = entries.iter().copied().collect();
        let missing = self.holders.iter().filter_map(|(address, holders)| {
            let bits = holders.bits();
            (found.get(address) != Some(&bits)).then_some(Change::Put(*address, bits))
        });
        let left = found
            .keys()
            .filter(|address| !self.holders.contains_key(*address))
            .map(|address| Change::Delete(*address));
        missing.chain(left).collect()
    }

    /// Follows a write to the service maps, which `tables` does not hold yet.
    pub fn follow(&mut self, op: &Op, tables: &Tables) -> [Option<Change>; 2] {
        let (new, old) = match op {
            Op::PutFrontend(key, _) if !tables.frontends().contains_key(key) => {
                (Some(Holder::frontend(key)), None)
            }
            Op::DeleteFrontend(key) if tables.frontends().contains_key(key) => {
                (None, Some(Holder::frontend(key)))
            }
            Op::PutBackend(id, value) => {
                let old = backend(tables, value.service, *id);
                (Some(Holder::backend(value)), old.map(Holder::backend))
            }
            Op::DeleteBackend { service, id } => {
                (None, backend(tables, *service, *id).map(Holder::backend))
            }
            _ => (None, None),
        };
        [
            new.and_then(|holder| self.add(holder)),
            old.and_then(|holder| self.remove(holder)),
        ]
    }

    fn add(&mut self, holder: Holder) -> Option<Change> {
        let holders = self.holders.entry(holder.address).or_default();
        let before = holders.bits();
        *holders.count(holder.bit) += 1;
        let bits = holders.bits();
        (bits != before).then_some(Change::Put(holder.address, bits))
    }

    fn remove(&mut self, holder: Holder) -> Option<Change> {
        let holders = self.holders.get_mut(&holder.address)?;
        let before = holders.bits();
        let count = holders.count(holder.bit);
        *count = count.saturating_sub(1);
        match holders.bits() {
            0 => {
                self.holders.remove(&holder.address);
                Some(Change::Delete(holder.address))
            }
            bits => (bits != before).then_some(Change::Put(holder.address, bits)),
        }
    }
}

/// A frontend or backend, by its address.
#[derive(Clone, Copy)]
struct Holder {
    address: Address,
    bit: u32,
}

impl Holder {
    fn frontend(key: &FrontendKeyV1) -> Self {
        Self {
            address: key.address,
            bit: ADDRESS_FRONTEND,
        }
    }

    fn backend(value: &BackendV2) -> Self {
        Self {
            address: value.address,
            bit: ADDRESS_BACKEND,
        }
    }
}

/// Who has one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Holders {
    frontends: u32,
    backends: u32,
}

impl Holders {
    fn count(&mut self, bit: u32) -> &mut u32 {
        match bit {
            ADDRESS_FRONTEND => &mut self.frontends,
            _ => &mut self.backends,
        }
    }

    fn bits(self) -> u32 {
        let bit = |count: u32, bit| if count > 0 { bit } else { 0 };
        bit(self.frontends, ADDRESS_FRONTEND) | bit(self.backends, ADDRESS_BACKEND)
    }
}

fn backend(tables: &Tables, service: u32, id: u32) -> Option<&BackendV2> {
    tables.services().get(&service)?.backends.get(&id)
}

#[cfg(test)]
mod tests {
    use agent_abi::mapped_v4;
    use agent_abi::service::FrontendV2;

    use super::*;

    const FRONTEND: Address = mapped_v4([10, 96, 0, 10]);
    const BACKEND: Address = mapped_v4([10, 244, 1, 5]);

    fn frontend(port: u8) -> FrontendKeyV1 {
        FrontendKeyV1 {
            address: FRONTEND,
            port: [0, port],
            protocol: 17,
            _pad: 0,
        }
    }

    fn put_backend(id: u32, address: Address) -> Op {
        let value = BackendV2 {
            address,
            port: [0, 80],
            flags: 0,
            service: 1,
            node: [0; 16],
        };
        Op::PutBackend(id, value)
    }

    #[test]
    fn an_address_stays_as_long_as_a_frontend_or_backend_has_it() {
        let value = FrontendV2 {
            service: 1,
            flags: 0,
        };
        let put = |address, bits| Some(Change::Put(address, bits));
        let delete = |address| Some(Change::Delete(address));
        let (f, b) = (ADDRESS_FRONTEND, ADDRESS_BACKEND);
        let cases = [
            (
                Op::PutFrontend(frontend(1), value),
                [put(FRONTEND, f), None],
            ),
            (Op::PutFrontend(frontend(2), value), [None, None]),
            (Op::PutFrontend(frontend(2), value), [None, None]),
            (put_backend(7, BACKEND), [put(BACKEND, b), None]),
            (put_backend(8, BACKEND), [None, None]),
            (Op::DeleteBackend { service: 1, id: 7 }, [None, None]),
            (
                put_backend(8, FRONTEND),
                [put(FRONTEND, f | b), delete(BACKEND)],
            ),
            (Op::DeleteFrontend(frontend(1)), [None, None]),
            (Op::DeleteFrontend(frontend(2)), [None, put(FRONTEND, b)]),
            (
                Op::DeleteBackend { service: 1, id: 8 },
                [None, delete(FRONTEND)],
            ),
        ];
        let (mut tables, mut addresses) = (Tables::new(1, 1, 1), Addresses::default());
        for (op, expected) in cases {
            assert_eq!(addresses.follow(&op, &tables), expected, "{op:?}");
            tables.commit(op);
            assert_eq!(addresses, Addresses::of(&tables), "{op:?}");
        }
    }

    #[test]
    fn the_map_is_brought_in_line_with_tables_just_read() {
        let mut addresses = Addresses::default();
        addresses.add(Holder::frontend(&frontend(1)));
        let entries = [(FRONTEND, 0), (BACKEND, ADDRESS_BACKEND)];
        assert_eq!(
            addresses.reconcile(&entries),
            [
                Change::Put(FRONTEND, ADDRESS_FRONTEND),
                Change::Delete(BACKEND)
            ]
        );
    }
}
