//! What the kernel leaves to an interface's hardware, of which a veth has all: without it every
//! packet between pods is cut to size and summed up, for nobody.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink, recv, send, socket};
use serde_json::json;
use tests::harness::{CniNode, Namespace};

/// Names as ethtool has them.
const WANTED: [&str; 7] = [
    "rx-checksum",
    "tx-checksum-ip-generic",
    "tx-generic-segmentation",
    "tx-scatter-gather",
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
];
/// Generic netlink: what tells families' numbers, and how it is asked (linux/genetlink.h).
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// Of the family `ethtool` (linux/ethtool_netlink.h).
const GET_FEATURES: u8 = 11;
const HEADER: u16 = 1;
const DEVICE: u16 = 2;
const ACTIVE: u16 = 4;
const BITS: u16 = 3;
const BIT_NAME: u16 = 2;
/// Of a message with an error.
const ERROR: u16 = 2;
/// Length of netlink's header and generic netlink's.
const HEADERS: usize = 20;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The attributes with their kinds, without the flags for what is nested.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]) & 0x3fff;
        found.push((kind, &bytes[4..length]));
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    found
}

fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut all = attributes(bytes).into_iter();
    all.find(|(of, _)| *of == kind).map(|(_, value)| value)
}

/// Asks, and answers with the attributes of the answer.
fn ask(kernel: &OwnedFd, family: u16, command: u8, question: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(HEADERS + question.len())?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(family.to_ne_bytes());
    // A request, the first, and who asks is told by the socket.
    message.extend([1, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend([command, 1, 0, 0]);
    message.extend(question);
    send(kernel, &message, SendFlags::empty())?;
    let mut answer = vec![0; 65_536];
    let (length, _) = recv(kernel, &mut answer[..], RecvFlags::empty())?;
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    ensure!(kind != ERROR, "{:?}", &answer[16..20]);
    Ok(answer[HEADERS..length].to_vec())
}

/// What an interface of a namespace does.
fn offloads(namespace: &Namespace, interface: &str) -> Result<BTreeSet<String>> {
    namespace.run(|| {
        let generic = Some(netlink::GENERIC);
        let kernel = socket(AddressFamily::NETLINK, SocketType::RAW, generic)?;
        let answer = ask(
            &kernel,
            CONTROL,
            GET_FAMILY,
            &attribute(FAMILY_NAME, b"ethtool\0"),
        )?;
        let id = find(&answer, FAMILY_ID).context("no family")?;
        let name = attribute(DEVICE, &[interface.as_bytes(), &[0]].concat());
        let question = attribute(HEADER | 0x8000, &name);
        let answer = ask(
            &kernel,
            u16::from_ne_bytes([id[0], id[1]]),
            GET_FEATURES,
            &question,
        )?;
        let active = find(&answer, ACTIVE).context("no features")?;
        let bits = attributes(find(active, BITS).context("no names")?);
        let names = bits.into_iter().filter_map(|(_, bit)| find(bit, BIT_NAME));
        let names = names.map(|name| {
            String::from_utf8_lossy(name)
                .trim_end_matches('\0')
                .to_owned()
        });
        Ok(names.collect())
    })
}

#[test]
fn both_ends_of_a_pair_take_large_packets_and_leave_sums_to_whoever_needs_them() {
    let node = CniNode::new().unwrap();
    let config = node.config(&json!({"mtu": 1400})).unwrap();
    node.create(&["c1".to_owned()]).unwrap();
    let added = node.invoke("ADD", "c1", &config).unwrap().result().unwrap();
    let host = added["interfaces"][0]["name"].as_str().unwrap();
    let wanted: BTreeSet<String> = WANTED.map(str::to_owned).into();
    for (namespace, interface) in [(&node.namespace, host), (&node.container("c1"), "eth0")] {
        let found = offloads(namespace, interface).unwrap();
        let missing: Vec<_> = wanted.difference(&found).collect();
        assert_eq!(missing, [""; 0], "{interface}: {found:?}");
    }
    // What is read is the interface's: this is of no other.
    let of_loopback = offloads(&node.namespace, "lo").unwrap();
    assert!(of_loopback.contains("loopback"), "{of_loopback:?}");
    assert!(
        !offloads(&node.namespace, host)
            .unwrap()
            .contains("loopback")
    );
}
