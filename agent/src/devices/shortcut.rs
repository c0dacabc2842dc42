//! Keeps the tables of the fast path, while nothing of others would be skipped by it.

use std::collections::BTreeSet;
use std::io;

use super::fast_path::{FastPath, Reach};
use crate::applier::with_causes;
use crate::lb::ebpf::attach::Mode;
use crate::lb::ebpf::fast_path::{FastPaths, Tables};
use crate::sys::{qdisc, xfrm};

/// Brings the tables of the fast path up to date; what it is now, and whether that succeeded.
/// `plan` is given the indexes of interfaces with filters of others.
pub(super) fn follow(
    tables: &mut FastPaths,
    is_wanted: bool,
    mode: Mode,
    plan: impl FnOnce(&BTreeSet<u32>) -> (Tables, Reach),
) -> (FastPath, bool) {
    let planned = if is_wanted {
        encrypted().and_then(|off| match off {
            Some(why) => Ok((Tables::default(), FastPath::Off(why))),
            None => filtered(mode).map(|filtered| {
                let (tables, reach) = plan(&filtered);
                (tables, FastPath::On(reach))
            }),
        })
    } else {
        let off = FastPath::Off("--fast-path=false".to_owned());
        Ok((Tables::default(), off))
    };
    let (wanted, found, error) = match planned {
        Ok((wanted, found)) => (wanted, found, None),
        Err(error) => {
            let why = format!("filters at interfaces or IPsec policies cannot be listed: {error}");
            let off = FastPath::Off(why.clone());
            (Tables::default(), off, Some(why))
        }
    };
    let written = tables.follow(wanted).map_err(|error| with_causes(&error));
    match error.map_or(written, Err) {
        Ok(()) => (found, true),
        Err(why) => {
            tracing::warn!(
                why,
                "pods' packets go through the host's stack; tried again in a while"
            );
            (FastPath::Off(why), false)
        }
    }
}

/// Why nothing may skip the stack where the host encrypts: its policies would be skipped too.
fn encrypted() -> io::Result<Option<String>> {
    let policies = xfrm::policies()?;
    Ok((policies != 0).then(|| {
        format!(
            "the host has {policies} IPsec policies, which the stack alone applies (ip xfrm policy)"
        )
    }))
}

/// Interfaces with filters of others, which a packet that skips the stack skips too. Before Linux 6.6
/// the qdisc is the agent's own, and its programs come first as for every other packet.
fn filtered(mode: Mode) -> io::Result<BTreeSet<u32>> {
    match mode {
        Mode::Tcx => qdisc::with_filters(),
        Mode::Clsact => Ok(BTreeSet::new()),
    }
}
