//! Filling empty tables: planned on one thread, written on another.
//!
//! A cold start with ten thousands of Services is the one time when writing takes long. The order
//! of writes is that of planning, so packets see no less than they otherwise would.

use std::collections::BTreeMap;
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

impl Plan<'_> {
    fn hand_over(&mut self, desired: &Desired, sender: &SyncSender<Vec<Write>>) {
        let mut chunk = Vec::new();
        for (key, unit) in &desired.services {
            let id = self.tables.next(NEXT_SERVICE);
            self.ids.insert(key.clone(), id);
            for op in make(id, unit, self.tables) {
                chunk.push(Write::Service(op));
                let change = self.addresses.follow(&op, self.tables);
                chunk.extend(change.map(Write::Address));
                self.tables.commit(op);
            }
            // Nobody listens after an error, which the writer answers.
            if chunk.len() >= CHUNK && sender.send(std::mem::take(&mut chunk)).is_err() {
                return;
            }
        }
        let _heard = sender.send(chunk);
    }
}
