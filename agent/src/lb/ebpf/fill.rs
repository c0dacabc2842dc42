//! Filling empty tables: planned on one thread, written on another.
//!
//! A cold start with ten thousands of Services is the one time when writing takes long. The order
//! of writes is that of planning, so packets see no less than they otherwise would; but ids are taken
//! for many units at once, and a service is written when it is whole.

use std::collections::BTreeMap;
use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use agent_abi::Address;
use agent_abi::service::NEXT_SERVICE;

use super::addresses::{Addresses, Change};
use super::image::{Op, Tables, make};
use super::maps::Maps;
use crate::desired::{Desired, LbServiceKey};
use crate::sys::map::{Table, TableError};

/// Fewer units are not worth a thread.
pub(super) const WORTHWHILE: usize = 256;
/// Writes handed over at a time: half a millisecond's.
const CHUNK: usize = 512;
/// Chunks that planning may be ahead.
const AHEAD: usize = 16;

/// One write.
enum Write {
    Service(Op),
    Address(Change),
}

/// What planning brings up to date.
pub(super) struct Plan<'a> {
    pub(super) tables: &'a mut Tables,
    pub(super) addresses: &'a mut Addresses,
    pub(super) ids: &'a mut BTreeMap<LbServiceKey, u32>,
}

/// Fills empty tables with all that is desired. The answer is the number of writes.
///
/// # Errors
/// Where the kernel refuses, a full table included: the plan is ahead of what is written then, and
/// the tables have to be read back.
pub(super) fn fill(
    maps: &mut Maps,
    addresses: &mut Table<Address, u32>,
    desired: &Desired,
    mut plan: Plan<'_>,
) -> Result<u64, TableError> {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(AHEAD);
        let writer = scope.spawn(move || write_all(maps, addresses, &receiver));
        plan.hand_over(desired, &sender);
        drop(sender);
        match writer.join() {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn write_all(
    maps: &mut Maps,
    addresses: &mut Table<Address, u32>,
    chunks: &Receiver<Vec<Write>>,
) -> Result<u64, TableError> {
    let mut operations = 0;
    for write in chunks.iter().flatten() {
        match write {
            Write::Service(op) => {
                maps.write(op)?;
                operations += 1;
            }
            Write::Address(change) => change.write(addresses)?,
        }
    }
    Ok(operations)
}

/// Writes in their order, after the ids they use.
#[derive(Default)]
struct Chunk {
    ids: BTreeMap<u32, u32>,
    writes: Vec<Write>,
}

impl Chunk {
    fn into_writes(self) -> Vec<Write> {
        let taken = self.ids.into_iter();
        let taken = taken.map(|(index, next)| Write::Service(Op::Allocate { index, next }));
        taken.chain(self.writes).collect()
    }
}

impl Plan<'_> {
    fn hand_over(&mut self, desired: &Desired, sender: &SyncSender<Vec<Write>>) {
        let mut chunk = Chunk::default();
        for (key, unit) in &desired.services {
            let id = self.tables.next(NEXT_SERVICE);
            self.ids.insert(key.clone(), id);
            self.make(make(id, unit, self.tables), &mut chunk);
            // Nobody listens after an error, which the writer answers.
            if chunk.writes.len() >= CHUNK
                && sender.send(mem::take(&mut chunk).into_writes()).is_err()
            {
                return;
            }
        }
        let _heard = sender.send(chunk.into_writes());
    }

    fn make(&mut self, ops: Vec<Op>, chunk: &mut Chunk) {
        let whole = ops.iter().rposition(|op| matches!(op, Op::PutService(..)));
        for (at, op) in ops.into_iter().enumerate() {
            if let Op::Allocate { index, next } = op {
                chunk.ids.insert(index, next);
            } else if !matches!(op, Op::PutService(..)) || Some(at) == whole {
                chunk.writes.push(Write::Service(op));
            }
            let change = self.addresses.follow(&op, self.tables);
            chunk.writes.extend(change.map(Write::Address));
            self.tables.commit(op);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::unit;
    use super::*;

    #[test]
    fn what_is_handed_over_makes_the_tables_that_were_planned() {
        let (mut tables, mut addresses, mut ids) =
            (Tables::new(1, 1, 1), Addresses::default(), BTreeMap::new());
        let mut plan = Plan {
            tables: &mut tables,
            addresses: &mut addresses,
            ids: &mut ids,
        };
        let mut chunk = Chunk::default();
        for number in 1..=3 {
            let unit = unit(
                number,
                &BTreeSet::from([0, 1]),
                &BTreeSet::from([1, number]),
            );
            let ops = make(plan.tables.next(NEXT_SERVICE), &unit, plan.tables);
            plan.make(ops, &mut chunk);
        }
        let mut written = Tables::new(1, 1, 1);
        let (mut services, mut frontends) = (0, 0);
        for write in chunk.into_writes() {
            match write {
                Write::Service(op) => {
                    // An id is taken before anything has it.
                    let next = written.next(NEXT_SERVICE);
                    if let Op::PutService(id, _) = op {
                        assert!(id < next, "{id} of {next}");
                        services += 1;
                    }
                    written.commit(op);
                }
                Write::Address(_) => frontends += 1,
            }
        }
        assert_eq!(written, tables);
        assert_eq!((services, frontends), (3, 6));
    }
}
