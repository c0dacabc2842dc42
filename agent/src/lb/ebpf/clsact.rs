//! Programs as filters of the `clsact` qdisc, with a priority and a handle of our own.

use std::io;

use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use rustix::io::Errno;

use super::attach::Refused;
use crate::sys::qdisc::{self, Direction};

/// Priority of our filters: before the 49152 and down that the kernel gives to those who ask for
/// none.
const PRIORITY: u16 = 61;
/// Handle of our filters, by which cleanup knows them: "FL" in ASCII.
const HANDLE: u16 = 0x464c;

/// Attaches a program to an interface, in place of ours that is there.
pub(super) fn attach(
    program: &mut SchedClassifier,
    interface: &str,
    direction: TcAttachType,
) -> Result<(), Refused> {
    match qdisc_add_clsact(interface) {
        Err(TcError::NetlinkError(error))
            if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => {}
        other => other?,
    }
    let options = NlOptions {
        priority: PRIORITY,
        handle: TcHandle::new(0, HANDLE),
        classid: None,
    };
    let id = program
        .attach_with_options(interface, direction, TcAttachOptions::Netlink(options))
        .or_else(|_| program.attach_to_link(link(interface, direction)?))?;
    // Dropping the link would remove the filter, which is to outlive this process.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Removes our filters from an interface, where there are any.
pub fn remove(interface: &str) {
    for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
        // Dropping the link removes the filter; that there is none is as good.
        drop(link(interface, direction));
    }
}

/// Whether our filters are at an interface in all these directions.
///
/// # Errors
/// Where the kernel does not tell.
pub(super) fn is_whole(index: u32, directions: &[TcAttachType]) -> io::Result<bool> {
    for direction in directions {
        let direction = match direction {
            TcAttachType::Ingress => Direction::Ingress,
            TcAttachType::Egress | TcAttachType::Custom(_) => Direction::Egress,
        };
        if !qdisc::has_filter(index, direction, PRIORITY, HANDLE)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn link(interface: &str, direction: TcAttachType) -> Result<SchedClassifierLink, ProgramError> {
    let handle = TcHandle::new(0, HANDLE);
    SchedClassifierLink::attached(interface, direction, PRIORITY, handle, None)
        .map_err(ProgramError::IOError)
}
