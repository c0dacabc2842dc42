//! The kernel's connection tracking of this network namespace, over ctnetlink.
//!
//! [`dump`] lists its flows, [`create`] makes one with its translation as though a NAT rule had,
//! and [`delete`] removes one. TCP, UDP and SCTP, IPv4 and IPv6; entries of other protocols and of
//! conntrack zones are passed over, since neither can be named by a [`Tuple`].
//!
//! `encode` and `decode` are pure functions over bytes; `socket` talks to the kernel. Nothing here
//! decides which flows there should be.

pub(in crate::sys) mod attribute;
mod decode;
pub(in crate::sys) mod encode;
mod flow;
mod socket;

use std::io;

use rustix::io::Errno;
use tracing::warn;

use decode::Answer;
pub use flow::{Flow, Tuple};

/// A listing is interrupted where the table was resized meanwhile, which happens once in a while.
const ATTEMPTS: usize = 8;

/// Why connection tracking cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel was built without it, or its module cannot be loaded.
    #[error(
        "the kernel does not offer its connection tracking; it needs CONFIG_NF_CT_NETLINK and \
         CONFIG_NF_NAT, or the modules nf_conntrack_netlink and nf_nat"
    )]
    Unsupported(#[source] io::Error),
    /// No entry can hold the flow.
    #[error(
        "{0}: no entry can hold this flow; all its addresses need one family, and both directions \
         the same protocol: TCP, UDP or SCTP"
    )]
    Inexpressible(Tuple),
    /// One of the flow's directions is another flow's.
    #[error("{0}: there is an entry for this flow, or for packets like its replies")]
    Exists(Tuple),
    /// There is no such flow.
    #[error("{0}: there is no entry for this flow")]
    Absent(Tuple),
    /// Listing failed.
    #[error("connection tracking cannot be listed")]
    Dump(#[source] io::Error),
    /// Creating failed.
    #[error("{flow}: no entry can be made for this flow")]
    Create {
        /// Its original direction.
        flow: Tuple,
        /// What the kernel said.
        source: io::Error,
    },
    /// Deleting failed.
    #[error("{flow}: the entry of this flow cannot be deleted")]
    Delete {
        /// Its original direction.
        flow: Tuple,
        /// What the kernel said.
        source: io::Error,
    },
}

/// All flows of TCP, UDP and SCTP. An entry that cannot be read is left out and logged.
///
/// # Errors
/// Where the kernel refuses, or changes its table again and again meanwhile.
pub fn dump() -> Result<Vec<Flow>, Error> {
    for _ in 0..ATTEMPTS {
        let Answer {
            flows,
            malformed,
            interrupted,
        } = socket::ask(&encode::dump()).map_err(dump_error)?;
        if interrupted {
            continue;
        }
        if malformed > 0 {
            warn!(
                malformed,
                "left out entries of connection tracking that cannot be read"
            );
        }
        return Ok(flows);
    }
    Err(Error::Dump(io::ErrorKind::Interrupted.into()))
}

/// Makes an entry, so that the kernel tracks and translates the flow from its next packet on.
///
/// The flow counts as established and assured, whatever its `status` and `tcp_state` say; TCP is
/// not held to a window, which nobody here knows. Packets are translated only while the namespace
/// tracks connections of the family, which some rule has to ask for (`ct state`, say), and has a NAT
/// chain of it, were it empty. An SCTP association is taken up with its next heartbeat, which
/// tells the kernel its verification tags; before that its packets are invalid to the kernel.
///
/// # Errors
/// Where the flow cannot be expressed, is there already, or the kernel refuses.
pub fn create(flow: &Flow) -> Result<(), Error> {
    let request = encode::create(flow).ok_or(Error::Inexpressible(flow.original))?;
    match socket::ask(&request) {
        Ok(_) => Ok(()),
        Err(error) => Err(create_error(flow.original, error)),
    }
}

/// Deletes the entry of a flow. The kernel finds it by either direction, so a tuple that is some
/// flow's reply deletes that flow.
///
/// # Errors
/// Where there is none, or the kernel refuses.
pub fn delete(original: &Tuple) -> Result<(), Error> {
    let request = encode::delete(original).ok_or(Error::Inexpressible(*original))?;
    match socket::ask(&request) {
        Ok(_) => Ok(()),
        Err(error) => Err(delete_error(*original, error)),
    }
}

fn dump_error(error: io::Error) -> Error {
    match Errno::from_io_error(&error) {
        // nfnetlink answers EINVAL to a subsystem it has not; a listing has nothing else to be
        // invalid about.
        Some(Errno::INVAL | Errno::NOENT) => Error::Unsupported(error),
        _ if is_unsupported(&error) => Error::Unsupported(error),
        _ => Error::Dump(error),
    }
}

fn create_error(flow: Tuple, error: io::Error) -> Error {
    match Errno::from_io_error(&error) {
        Some(Errno::EXIST) => Error::Exists(flow),
        Some(Errno::NOENT) => Error::Unsupported(error),
        _ if is_unsupported(&error) => Error::Unsupported(error),
        _ => Error::Create {
            flow,
            source: error,
        },
    }
}

fn delete_error(flow: Tuple, error: io::Error) -> Error {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => Error::Absent(flow),
        _ if is_unsupported(&error) => Error::Unsupported(error),
        _ => Error::Delete {
            flow,
            source: error,
        },
    }
}

/// No such socket; or, from ctnetlink, no NAT to set up.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT | Errno::OPNOTSUPP)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple() -> Tuple {
        Tuple {
            source: "10.0.0.1:1000".parse().unwrap(),
            destination: "10.96.0.1:80".parse().unwrap(),
            protocol: Tuple::UDP,
        }
    }

    fn told(error: Errno) -> [Error; 3] {
        [
            dump_error(error.into()),
            create_error(tuple(), error.into()),
            delete_error(tuple(), error.into()),
        ]
    }

    #[test]
    fn an_errno_means_something_else_to_each_request() {
        use Error::{Absent, Create, Delete, Dump, Exists, Unsupported};
        assert!(matches!(
            told(Errno::NOENT),
            [Unsupported(_), Unsupported(_), Absent(_)]
        ));
        assert!(matches!(
            told(Errno::INVAL),
            [Unsupported(_), Create { .. }, Delete { .. }]
        ));
        assert!(matches!(
            told(Errno::PROTONOSUPPORT),
            [Unsupported(_), Unsupported(_), Unsupported(_)]
        ));
        assert!(matches!(
            told(Errno::EXIST),
            [Dump(_), Exists(_), Delete { .. }]
        ));
        assert!(matches!(
            told(Errno::PERM),
            [Dump(_), Create { .. }, Delete { .. }]
        ));
    }

    #[test]
    fn a_flow_of_two_families_is_refused_before_the_kernel_sees_it() {
        let mixed = Tuple {
            destination: "[fd00::1]:80".parse().unwrap(),
            ..tuple()
        };
        assert!(matches!(delete(&mixed), Err(Error::Inexpressible(t)) if t == mixed));
        let flow = Flow::established(tuple(), mixed.reversed(), std::time::Duration::ZERO);
        assert!(matches!(create(&flow), Err(Error::Inexpressible(t)) if t == tuple()));
    }
}
