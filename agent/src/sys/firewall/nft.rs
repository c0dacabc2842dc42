//! The chains of nftables, over nfnetlink.

use std::collections::BTreeSet;
use std::io;

use rtnetlink::packet_core::{NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlasIterator};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::{Chain, Family, Filters, Hook, KeptBy};
use crate::sys::conntrack::attribute::{GENERIC_HEADER, Malformed, attribute, find, fixed, need};
use crate::sys::conntrack::encode::message;

/// What the kernel puts into one datagram of a listing at most.
const DATAGRAM: usize = 32 * 1024;

/// `NFNL_SUBSYS_NFTABLES << 8` with `NFT_MSG_*` of linux/netfilter/nf_tables.h.
const NEW_CHAIN: u16 = 0xa03;
const GET_CHAIN: u16 = 0xa04;
const NEW_RULE: u16 = 0xa06;
const GET_RULE: u16 = 0xa07;

/// `NFTA_*`; each module is one of its enumerations.
mod chain {
    pub(super) const TABLE: u16 = 1;
    pub(super) const NAME: u16 = 3;
    pub(super) const HOOK: u16 = 4;
    pub(super) const POLICY: u16 = 5;
    pub(super) const TYPE: u16 = 7;
    pub(super) const HOOK_NUMBER: u16 = 1;
}
mod rule {
    pub(super) const TABLE: u16 = 1;
    pub(super) const CHAIN: u16 = 2;
    pub(super) const EXPRESSIONS: u16 = 4;
    pub(super) const EXPRESSION_NAME: u16 = 1;
    pub(super) const EXPRESSION_DATA: u16 = 2;
    pub(super) const IMMEDIATE_DATA: u16 = 2;
    pub(super) const COMPARED_DATA: u16 = 3;
    pub(super) const TARGET_NAME: u16 = 1;
    pub(super) const DATA_VALUE: u16 = 1;
    pub(super) const DATA_VERDICT: u16 = 2;
    pub(super) const VERDICT_CODE: u16 = 1;
}

/// `NF_DROP` of linux/netfilter.h, as a policy and as a verdict.
const DROP: u32 = 0;
/// `NF_INET_LOCAL_IN` and `NF_INET_FORWARD`.
const INPUT: u32 = 1;
const FORWARD: u32 = 2;

/// Every chain of this network namespace. None where the kernel has no nftables.
///
/// # Errors
/// Where the kernel refuses.
pub fn chains() -> io::Result<Vec<Chain>> {
    let mut chains = Vec::new();
    let asked = ask(GET_CHAIN, 0, &[], |kind, family, attributes| {
        if kind == NEW_CHAIN {
            chains.extend(chain_of(family, attributes)?);
        }
        Ok(())
    });
    match asked {
        // nfnetlink answers EINVAL to a subsystem it has not.
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        other => other?,
    }
    for chain in &mut chains {
        let Some(filters) = &mut chain.filters else {
            continue;
        };
        let of_chain = [
            attribute(rule::TABLE, text(&chain.table)),
            attribute(rule::CHAIN, text(&chain.name)),
        ];
        let mut last = None;
        ask(
            GET_RULE,
            number_of(chain.family),
            &of_chain,
            |kind, _, attributes| {
                if kind == NEW_RULE && is_of(attributes, &chain.table, &chain.name)? {
                    let rule = rule_of(attributes)?;
                    if rule.verdict == Verdict::Passes {
                        filters.lets_some_pass = true;
                        filters.ports.extend(&rule.ports);
                    }
                    last = Some(rule);
                }
                Ok(())
            },
        )?;
        filters.drops |= last.is_some_and(|rule| rule.verdict == Verdict::Drops && !rule.matches);
    }
    Ok(chains)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INVAL | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT | Errno::OPNOTSUPP)
    )
}

/// A chain; nothing where packets of the network layer do not come to it.
fn chain_of(family: u8, attributes: &[u8]) -> Result<Option<Chain>, Malformed> {
    let Some(family) = family_of(family) else {
        return Ok(None);
    };
    let filters = match find(attributes, chain::HOOK)? {
        Some(hook) if string(find(attributes, chain::TYPE)?.unwrap_or_default()) == "filter" => {
            let hook = u32::from_be_bytes(fixed(need(hook, chain::HOOK_NUMBER)?)?);
            let policy = find(attributes, chain::POLICY)?.map(fixed).transpose()?;
            hook_of(hook).map(|hook| Filters {
                hook,
                drops: policy.map(u32::from_be_bytes) == Some(DROP),
                lets_some_pass: false,
                ports: BTreeSet::new(),
            })
        }
        _ => None,
    };
    Ok(Some(Chain {
        kept_by: KeptBy::Nft,
        family,
        table: string(need(attributes, chain::TABLE)?),
        name: string(need(attributes, chain::NAME)?),
        filters,
    }))
}

fn hook_of(number: u32) -> Option<Hook> {
    match number {
        INPUT => Some(Hook::Input),
        FORWARD => Some(Hook::Forward),
        _ => None,
    }
}

/// `NFPROTO_*` of linux/netfilter.h.
fn family_of(number: u8) -> Option<Family> {
    match number {
        1 => Some(Family::Inet),
        2 => Some(Family::Ip),
        10 => Some(Family::Ip6),
        _ => None,
    }
}

fn number_of(family: Family) -> u8 {
    match family {
        Family::Inet => 1,
        Family::Ip => 2,
        Family::Ip6 => 10,
    }
}

/// What matters of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// Whether it concerns some packets only.
    matches: bool,
    verdict: Verdict,
    ports: Vec<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// None, as of a rule that counts.
    None,
    /// What it matches does not pass.
    Drops,
    /// What it matches passes, or goes to another chain.
    Passes,
}

fn is_of(attributes: &[u8], table: &str, chain: &str) -> Result<bool, Malformed> {
    Ok(string(need(attributes, rule::TABLE)?) == table
        && string(need(attributes, rule::CHAIN)?) == chain)
}

fn rule_of(attributes: &[u8]) -> Result<Rule, Malformed> {
    let mut found = Rule {
        matches: false,
        verdict: Verdict::None,
        ports: Vec::new(),
    };
    let expressions = find(attributes, rule::EXPRESSIONS)?.unwrap_or_default();
    for expression in NlasIterator::new(expressions) {
        let expression = expression.map_err(|_| Malformed)?;
        let expression = expression.value();
        let data = find(expression, rule::EXPRESSION_DATA)?.unwrap_or_default();
        match &*string(need(expression, rule::EXPRESSION_NAME)?) {
            "counter" | "log" => {}
            "reject" => found.verdict = Verdict::Drops,
            "immediate" => {
                let data = need(data, rule::IMMEDIATE_DATA)?;
                if let Some(verdict) = find(data, rule::DATA_VERDICT)? {
                    let code = u32::from_be_bytes(fixed(need(verdict, rule::VERDICT_CODE)?)?);
                    found.verdict = if code == DROP {
                        Verdict::Drops
                    } else {
                        Verdict::Passes
                    };
                }
            }
            "target" => {
                let name = string(need(data, rule::TARGET_NAME)?);
                found.verdict = match &*name {
                    "REJECT" | "DROP" => Verdict::Drops,
                    "LOG" | "NFLOG" => found.verdict,
                    _ => Verdict::Passes,
                };
            }
            name => {
                found.matches = true;
                let compared = if name == "cmp" {
                    find(data, rule::COMPARED_DATA)?
                } else {
                    None
                };
                let value = match compared {
                    Some(compared) => find(compared, rule::DATA_VALUE)?,
                    None => None,
                };
                found.ports.extend(
                    value
                        .and_then(|value| <[u8; 2]>::try_from(value).ok())
                        .map(u16::from_be_bytes),
                );
            }
        }
    }
    Ok(found)
}

/// A text as netlink has it.
fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

fn string(value: &[u8]) -> String {
    let value = value.strip_suffix(&[0]).unwrap_or(value);
    String::from_utf8_lossy(value).into_owned()
}

/// Asks for a listing, and has each message of it taken: kind, family, attributes.
fn ask(
    kind: u16,
    family: u8,
    attributes: &[Vec<u8>],
    mut take: impl FnMut(u16, u8, &[u8]) -> Result<(), Malformed>,
) -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::NETFILTER),
    )?;
    let request = message(kind, NLM_F_DUMP, family, attributes);
    retry_on_intr(|| send(&socket, &request, SendFlags::empty()))?;
    let mut buffer = vec![0; DATAGRAM];
    let bad = |_| io::Error::from(io::ErrorKind::InvalidData);
    loop {
        let (read, length) = retry_on_intr(|| recv(&socket, &mut buffer[..], RecvFlags::TRUNC))?;
        let bytes = buffer.get(..read).filter(|_| read == length);
        let mut rest = bytes.ok_or(io::ErrorKind::InvalidData)?;
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
            let payload = message.payload();
            match message.message_type() {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = payload.first_chunk().ok_or(Malformed).map_err(bad)?;
                    let code = i32::from_ne_bytes(*code).saturating_neg();
                    return Err(io::Error::from_raw_os_error(code));
                }
                kind => {
                    let family = payload.first().copied().unwrap_or_default();
                    let attributes = payload.get(GENERIC_HEADER..).unwrap_or_default();
                    take(kind, family, attributes).map_err(bad)?;
                }
            }
            let length = usize::try_from(message.length()).map_err(io::Error::other)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}
