//! Filters and their `clsact` qdiscs: what others delete of them, and what is left of them where links
//! have come in their place.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::{Duration, Instant};

use super::LOOK;
use crate::lb::ebpf::attach::{AttachError, Attachments, Target};
use crate::lb::ebpf::clsact;
use crate::ownership::Ownership;
use crate::sys::links::Link;
use crate::sys::qdisc::{self, Deletions};

/// How long whoever deletes filters over and over, as another agent may, has it his way at most.
const PAUSE: Duration = Duration::from_millis(500);

/// When to look whether filters are still there. The kernel tells of those that are deleted, and of
/// qdiscs; packets pass until they are back.
#[derive(Debug, Default)]
pub(super) struct Losses {
    news: Option<Deletions>,
    is_told: bool,
    looked: Option<Instant>,
}

impl Losses {
    /// Whether to look at every filter now.
    pub(super) fn are_due(&mut self) -> bool {
        let are_due = mem::take(&mut self.is_told)
            || self.looked.is_none_or(|looked| looked.elapsed() >= LOOK);
        if are_due {
            self.looked = Some(Instant::now());
        }
        are_due
    }

    /// Returns when something was deleted at one of these interfaces, or may have been.
    pub(super) async fn heard(&mut self, attached: &BTreeMap<u32, Target>) {
        if !self.is_told {
            match &self.news {
                Some(news) => {
                    if let Err(error) = news.heard(|index| attached.contains_key(&index)).await {
                        tracing::debug!(%error, "news of filters were lost; they are looked at");
                        self.news = None;
                    }
                }
                // Of what went before nobody has heard.
                None => match Deletions::follow() {
                    Ok(news) => self.news = Some(news),
                    Err(error) => tracing::warn!(%error, "no news of filters; they are looked at"),
                },
            }
            self.is_told = true;
        }
        if let Some(looked) = self.looked {
            tokio::time::sleep_until((looked + PAUSE).into()).await;
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
