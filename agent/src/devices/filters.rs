//! Filters and their `clsact` qdiscs: what others delete of them, and what is left of them where links
//! have come in their place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::lb::ebpf::attach::{AttachError, Attachments, Target};
use crate::lb::ebpf::clsact;
use crate::ownership::Ownership;
use crate::sys::links::Link;
use crate::sys::qdisc;

/// Of a qdisc that somebody deletes nothing tells but a look; packets pass until it is back.
const QDISCS: Duration = Duration::from_millis(500);

/// Returns when an interface has lost the qdisc with our filters.
pub(super) async fn a_qdisc_goes(attached: &BTreeMap<u32, Target>) {
    loop {
        tokio::time::sleep(QDISCS).await;
        // Where the kernel does not tell, it is asked again.
        if let Ok(there) = qdisc::all()
            && attached.keys().any(|index| !there.contains(index))
        {
            return;
        }
    }
}

/// Has filters made anew that are gone.
pub(super) fn forget_lost(attachments: &mut Attachments, closely: bool) {
    match attachments.forget_lost(closely) {
        Ok(lost) => {
            for interface in lost {
                tracing::warn!(
                    interface,
                    "filters of ours were deleted, or its clsact qdisc with them; they are made anew"
                );
            }
        }
        Err(error) => tracing::warn!(%error, "qdiscs cannot be read; filters may be missing"),
    }
}

/// Takes back the filters of an agent that attached by them, now that links are in their place. Where
/// no link could be made, the filters stay. So do the qdiscs, until cleanup: while the kernel deletes
/// one, as while it makes one, it sends nothing by the interface.
pub(super) fn leave_clsact(ownership: &mut Ownership, links: &[Link], errors: &[AttachError]) {
    if !ownership.record().clsact {
        return;
    }
    let failed: BTreeSet<&str> = errors.iter().filter_map(AttachError::interface).collect();
    let replaced = links
        .iter()
        .filter(|link| !failed.contains(link.name.as_str()));
    replaced.for_each(|link| clsact::remove(&link.name));
    if failed.is_empty()
        && let Err(error) = ownership.remember(|record| record.clsact = false)
    {
        tracing::warn!(%error, "--cleanup-config looks for filters that are gone");
    }
}

/// Records the qdiscs that attaching is about to make, and forgets those of interfaces that are
/// gone.
pub(super) fn record_qdiscs(
    ownership: &mut Ownership,
    targets: &[Target],
    attached: &BTreeMap<u32, Target>,
) {
    let fresh = targets
        .iter()
        .filter(|target| !attached.contains_key(&target.index))
        .filter(|target| matches!(qdisc::is_there(&target.name), Ok(false)));
    let fresh: Vec<String> = fresh.map(|target| target.name.clone()).collect();
    if fresh.is_empty() {
        return;
    }
    let recorded = ownership.remember(|record| {
        record
            .qdiscs
            .retain(|name| targets.iter().any(|target| target.name == *name));
        record.qdiscs.extend(fresh);
    });
    if let Err(error) = recorded {
        // Traffic matters more than a qdisc without filters that stays behind.
        tracing::warn!(%error, "--cleanup-config will leave clsact qdiscs behind");
    }
}
