//! IPsec policies of this network namespace.

use std::io;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// `XFRM_MSG_NEWSPDINFO` and `XFRM_MSG_GETSPDINFO` of linux/xfrm.h.
const ANSWER: u16 = 0x24;
const QUESTION: u16 = 0x25;
/// `NLMSG_ERROR` and `NLM_F_REQUEST` of linux/netlink.h.
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
/// `XFRMA_SPD_INFO`: six numbers, of which the first three count policies for what comes in, goes out
/// and is forwarded. The others are of single sockets.
const COUNTS: u16 = 1;

/// How many there are; none where the kernel knows no IPsec.
///
/// # Errors
/// Where netlink fails, or answers something else.
pub fn policies() -> io::Result<u32> {
    let socket = match socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::XFRM),
    ) {
        Err(Errno::PROTONOSUPPORT) => return Ok(0),
        socket => socket?,
    };
    let mut request = Vec::new();
    request.extend(20_u32.to_ne_bytes());
    request.extend(QUESTION.to_ne_bytes());
    request.extend(REQUEST.to_ne_bytes());
    // Sequence, sender, and the question's own flags.
    request.extend([0; 12]);
    retry_on_intr(|| send(&socket, &request, SendFlags::empty()))?;
    let mut buffer = [0; 512];
    let (read, _) = retry_on_intr(|| recv(&socket, &mut buffer, RecvFlags::empty()))?;
    counted(buffer.get(..read).unwrap_or_default())
}

/// Reads an answer: the header of 16 bytes, four of flags, attributes.
fn counted(answer: &[u8]) -> io::Result<u32> {
    let number = |at: usize| {
        let bytes = answer
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(u32::from_ne_bytes)
            .ok_or(io::ErrorKind::InvalidData)
    };
    let short = |at: usize| {
        let bytes = answer
            .get(at..at + 2)
            .and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(u16::from_ne_bytes)
            .ok_or(io::ErrorKind::InvalidData)
    };
    match short(4)? {
        ANSWER => {}
        ERROR => {
            let code = i32::from_ne_bytes(number(16)?.to_ne_bytes());
            return Err(io::Error::from_raw_os_error(code.wrapping_neg()));
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    let mut at = 20;
    while short(at + 2)? != COUNTS {
        at += usize::from(short(at)?).max(4).next_multiple_of(4);
    }
    let counts = [number(at + 4)?, number(at + 8)?, number(at + 12)?];
    Ok(counts.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::{ANSWER, ERROR, counted, policies};

    fn message(kind: u16, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn policies_of_all_directions_are_counted() {
        let mut rest = vec![0; 4];
        for part in [[8_u16, 2], [0, 0], [28, 1]] {
            rest.extend(part.iter().flat_map(|number| number.to_ne_bytes()));
        }
        rest.extend(
            [1_u32, 2, 3, 90, 91, 92]
                .iter()
                .flat_map(|n| n.to_ne_bytes()),
        );
        assert_eq!(counted(&message(ANSWER, &rest)).unwrap(), 6);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let refused = counted(&message(ERROR, &(-1_i32).to_ne_bytes()));
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(1));
        for bytes in [&[][..], &message(ANSWER, &[0; 4]), &message(9, &[])] {
            assert!(counted(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn the_kernel_answers() {
        policies().unwrap();
    }
}
