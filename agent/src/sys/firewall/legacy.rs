//! The chains of the older iptables, as far as their table `filter` is there.
#![expect(
    unsafe_code,
    reason = "its tables are read by getsockopt, which has no safe wrapper for them"
)]

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use super::{Chain, Family, Filters, Hook, KeptBy};

const TABLE: &str = "filter";
/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES` of linux/netfilter_ipv4/ip_tables.h; those of IPv6 are
/// the same.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// `XT_TABLE_MAXNAMELEN`.
const NAME: usize = 32;
/// Size of `struct ipt_getinfo`: name, hooks, five entries, five underflows, count, size.
const INFO: usize = NAME + 4 + 20 + 20 + 4 + 4;
/// Where the underflows begin in it, which lead to the policies.
const UNDERFLOWS: usize = NAME + 4 + 20;
/// Where the entries begin in `struct ipt_get_entries`: name, size, padding.
const ENTRIES: usize = NAME + 8;
/// Header of a target: size, name, revision.
const TARGET: usize = 32;
/// Verdict of a target that drops: `-NF_DROP - 1`.
const DROP: i32 = -1;
/// `NF_INET_LOCAL_IN` and `NF_INET_FORWARD`.
const HOOKS: [(usize, Hook, &str); 2] = [(1, Hook::Input, "INPUT"), (2, Hook::Forward, "FORWARD")];

/// One family of it.
struct Kind {
    family: Family,
    socket: AddressFamily,
    level: libc::c_int,
    names: &'static str,
    /// Where an entry has the offset of its target: after `struct ipt_ip` and four bytes.
    target_offset: usize,
}

const KINDS: [Kind; 2] = [
    Kind {
        family: Family::Ip,
        socket: AddressFamily::INET,
        level: libc::SOL_IP,
        names: "/proc/net/ip_tables_names",
        target_offset: 84 + 4,
    },
    Kind {
        family: Family::Ip6,
        socket: AddressFamily::INET6,
        level: libc::SOL_IPV6,
        names: "/proc/net/ip6_tables_names",
        target_offset: 136 + 4,
    },
];

/// Chains of the tables `filter` of this network namespace. To ask for a table that is not there
/// makes it, so those that are there are read first.
///
/// # Errors
/// Where the kernel refuses.
pub fn chains() -> io::Result<Vec<Chain>> {
    let mut chains = Vec::new();
    for kind in KINDS {
        let names = match std::fs::read_to_string(kind.names) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        if names.lines().any(|name| name == TABLE) {
            chains.extend(kind.chains()?);
        }
    }
    Ok(chains)
}

impl Kind {
    fn chains(&self) -> io::Result<Vec<Chain>> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(self.socket, SocketType::RAW, flags, Some(ipproto::RAW))?;
        let mut info = named(INFO);
        self.get(&socket, GET_INFO, &mut info)?;
        let size = u32::from_ne_bytes(at(&info, INFO - 4)?);
        let length = usize::try_from(size).map_err(io::Error::other)?;
        let mut table = named(ENTRIES + length);
        table[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
        self.get(&socket, GET_ENTRIES, &mut table)?;
        self.parse(&info, table.get(ENTRIES..).unwrap_or_default())
    }

    /// Base chains with their policies, and the names of the others.
    fn parse(&self, info: &[u8], entries: &[u8]) -> io::Result<Vec<Chain>> {
        let mut chains = Vec::new();
        for (number, hook, name) in HOOKS {
            let offset = |start: usize| -> io::Result<usize> {
                let value = u32::from_ne_bytes(at(info, start + number * 4)?);
                usize::try_from(value).map_err(io::Error::other)
            };
            let (first, policy) = (offset(UNDERFLOWS - 20)?, offset(UNDERFLOWS)?);
            let (target, _) = self.target(entries, policy)?;
            let mut rules = first;
            let mut lets_some_pass = false;
            while rules < policy {
                let (target, next) = self.target(entries, rules)?;
                lets_some_pass |=
                    verdict(entries, target)? != DROP && !lets_nothing_pass(entries, target);
                rules += next;
            }
            chains.push(self.chain(
                name,
                Some(Filters {
                    hook,
                    drops: verdict(entries, target)? == DROP,
                    lets_some_pass,
                    ports: BTreeSet::new(),
                }),
            ));
        }
        let mut entry = 0;
        while entry < entries.len() {
            let (target, next) = self.target(entries, entry)?;
            if target_name(entries, target) == "ERROR" {
                let name = string(entries.get(target + TARGET..).unwrap_or_default());
                // The last entry of a table is one too.
                if name != "ERROR" {
                    chains.push(self.chain(&name, None));
                }
            }
            entry += next;
        }
        Ok(chains)
    }

    fn chain(&self, name: &str, filters: Option<Filters>) -> Chain {
        Chain {
            kept_by: KeptBy::Legacy,
            family: self.family,
            table: TABLE.to_owned(),
            name: name.to_owned(),
            filters,
        }
    }

    /// Where the target of an entry is, and how long the entry is.
    fn target(&self, entries: &[u8], entry: usize) -> io::Result<(usize, usize)> {
        let target = u16::from_ne_bytes(at(entries, entry + self.target_offset)?);
        let next = u16::from_ne_bytes(at(entries, entry + self.target_offset + 2)?);
        if next == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok((entry + usize::from(target), usize::from(next)))
    }

    fn get(&self, socket: &OwnedFd, option: libc::c_int, bytes: &mut [u8]) -> io::Result<()> {
        let mut length = libc::socklen_t::try_from(bytes.len()).map_err(io::Error::other)?;
        // SAFETY: the descriptor is open, `bytes` is writable for the `length` bytes that are said,
        // and both outlive the call; the kernel writes no more than that, whatever it writes is a
        // valid value of bytes.
        let done = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                self.level,
                option,
                bytes.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// A question of a length, which begins with the table's name.
fn named(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes[..TABLE.len()].copy_from_slice(TABLE.as_bytes());
    bytes
}

/// The verdict of a standard target; 0 of another.
fn verdict(entries: &[u8], target: usize) -> io::Result<i32> {
    if target_name(entries, target).is_empty() {
        Ok(i32::from_ne_bytes(at(entries, target + TARGET)?))
    } else {
        Ok(0)
    }
}

fn lets_nothing_pass(entries: &[u8], target: usize) -> bool {
    matches!(&*target_name(entries, target), "REJECT" | "LOG")
}

fn target_name(entries: &[u8], target: usize) -> String {
    string(entries.get(target + 2..target + TARGET).unwrap_or_default())
}

/// A text up to its end.
fn string(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> io::Result<[u8; N]> {
    let rest = bytes.get(offset..).unwrap_or_default();
    let found = rest.first_chunk::<N>().copied();
    found.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
