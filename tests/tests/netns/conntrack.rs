//! The kernel's connection tracking, read and written beside real traffic.
//!
//! Client and server are pods of two nodes; everything happens in the first node's namespace,
//! through which the client's packets go.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use agent::sys::conntrack::{self, Error, Flow, Tuple};
use anyhow::{Context, Result, ensure};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use tests::harness::{Builder, Lab, Namespace, Place};

/// Answers come within milliseconds; packets that nobody translates are lost.
const PATIENCE: Duration = Duration::from_secs(2);
const LOST: Duration = Duration::from_millis(300);
const KEPT: Duration = Duration::from_secs(600);

/// Translates to the server.
const RULES: &str = "
table inet lab {
    chain services {
        type nat hook prerouting priority dstnat; policy accept;
        ip daddr 10.96.0.1 meta l4proto { tcp, udp } th dport 80 dnat ip to 10.244.2.10:8080
        ip6 daddr fd00:96::1 meta l4proto { tcp, udp } th dport 80 dnat ip6 to [fd00:244:2::10]:8080
    }
}
";
/// Registers NAT, and has connections tracked, without a rule about any.
const NO_RULES: &str = "
table inet lab {
    chain services {
        type nat hook prerouting priority dstnat; policy accept;
    }
    chain tracking {
        type filter hook forward priority filter; policy accept;
        ct state new counter
    }
}
";

fn lab(rules: &str) -> Lab {
    let builder = Builder::new(env!("CARGO_BIN_EXE_fairlead-traffic"), 2);
    let lab = builder.pod("a", 1).pod("b", 2).build().unwrap();
    nft(&lab.place("node1").namespace, rules).unwrap();
    lab
}

/// Has nft read rules in a namespace.
pub(crate) fn nft(namespace: &Namespace, text: &str) -> Result<()> {
    // A process begins in the namespace of the thread that starts it.
    let mut child = namespace.run(|| {
        let mut command = Command::new("nft");
        command.args(["-f", "-"]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        command
            .spawn()
            .context("nft cannot be run; install nftables")
    })?;
    let mut input = child.stdin.take().context("invariant: input is piped")?;
    input.write_all(text.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft: {error}");
    Ok(())
}

/// What the Services' address of a family is.
fn service(v6: bool) -> SocketAddr {
    let address: IpAddr = if v6 {
        Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 1).into()
    } else {
        Ipv4Addr::new(10, 96, 0, 1).into()
    };
    SocketAddr::new(address, 80)
}

/// The flow of the client's port to the Service, translated to the server.
fn flow(lab: &Lab, v6: bool, protocol: u8, port: u16) -> Flow {
    let client = SocketAddr::new(lab.address("a", v6), port);
    let original = Tuple {
        source: client,
        destination: service(v6),
        protocol,
    };
    let mut reply = original.reversed();
    reply.source = SocketAddr::new(lab.address("b", v6), 8080);
    Flow::established(original, reply, KEPT)
}

fn in_node<T: Send>(lab: &Lab, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    let namespace = &lab.place("node1").namespace;
    namespace.run(|| Ok(work())).unwrap()
}

#[track_caller]
fn found(lab: &Lab, original: &Tuple) -> Option<Flow> {
    let flows = in_node(lab, conntrack::dump).unwrap();
    flows.into_iter().find(|flow| flow.original == *original)
}

/// A socket of the client, from a port.
fn udp(lab: &Lab, flow: &Flow) -> UdpSocket {
    let Tuple {
        source,
        destination,
        ..
    } = flow.original;
    lab.place("a")
        .namespace
        .run(|| {
            let socket = UdpSocket::bind(source)?;
            socket.connect(destination)?;
            Ok(socket)
        })
        .unwrap()
}

fn tcp(lab: &Lab, flow: &Flow) -> TcpStream {
    let Tuple {
        source,
        destination,
        ..
    } = flow.original;
    connected(lab.place("a"), source, destination).unwrap()
}

/// A TCP connection of a place, from a port of its own.
pub(crate) fn connected(
    place: &Place,
    source: SocketAddr,
    destination: SocketAddr,
) -> Result<TcpStream> {
    place.namespace.run(|| {
        let family = match source {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        // A process started meanwhile is not to keep it open.
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &source)?;
        connect(&socket, &destination)?;
        Ok(TcpStream::from(socket))
    })
}

/// The server's answer: its name and the client as it saw it.
fn ask_udp(socket: &UdpSocket, patience: Duration) -> Option<String> {
    socket.send(b"who").unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    let mut buffer = [0; 512];
    // Silence is an error of kind WouldBlock.
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

pub(crate) fn ask_tcp(stream: &TcpStream) -> String {
    let mut writer = stream;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    writer.write_all(b"who\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// The same but for what the kernel decides.
#[track_caller]
fn assert_is(found: Option<Flow>, expected: &Flow) {
    let found = found.unwrap_or_else(|| panic!("no entry {}", expected.original));
    assert_eq!(
        (found.original, found.reply, found.tcp_state, found.mark),
        (
            expected.original,
            expected.reply,
            expected.tcp_state,
            expected.mark
        )
    );
    assert!(found.is_translated() && found.is_established(), "{found:?}");
}

#[test]
fn flows_that_rules_translate_are_listed() {
    let lab = lab(RULES);
    for v6 in [false, true] {
        let expected = flow(&lab, v6, Tuple::UDP, 40_001);
        let client = udp(&lab, &expected);
        let answer = format!("b {} who", lab.address("a", v6));
        assert_eq!(ask_udp(&client, PATIENCE).as_ref(), Some(&answer));
        assert_is(found(&lab, &expected.original), &expected);
        let expected = flow(&lab, v6, Tuple::TCP, 40_002);
        let client = tcp(&lab, &expected);
        assert_eq!(ask_tcp(&client), answer);
        assert_is(found(&lab, &expected.original), &expected);
    }
    let flows = in_node(&lab, conntrack::dump).unwrap();
    assert_eq!(flows.len(), 4, "{flows:?}");
}

#[test]
fn a_created_entry_translates_what_no_rule_does_until_it_is_deleted() {
    let lab = lab(NO_RULES);
    for v6 in [false, true] {
        let expected = Flow {
            mark: 0x4000,
            ..flow(&lab, v6, Tuple::UDP, 40_001)
        };
        let original = expected.original;
        in_node(&lab, || conntrack::create(&expected)).unwrap();
        assert_is(found(&lab, &original), &expected);
        let client = udp(&lab, &expected);
        let answer = format!("b {} who", lab.address("a", v6));
        assert_eq!(ask_udp(&client, PATIENCE).as_ref(), Some(&answer));
        let again = in_node(&lab, || conntrack::create(&expected));
        assert!(matches!(again, Err(Error::Exists(_))), "{again:?}");
        in_node(&lab, || conntrack::delete(&original)).unwrap();
        assert_eq!(found(&lab, &original), None);
        assert_eq!(ask_udp(&client, LOST), None);
        let expected = flow(&lab, v6, Tuple::TCP, 40_002);
        in_node(&lab, || conntrack::create(&expected)).unwrap();
        assert_eq!(ask_tcp(&tcp(&lab, &expected)), answer);
        in_node(&lab, || conntrack::delete(&expected.original)).unwrap();
        let gone = in_node(&lab, || conntrack::delete(&expected.original));
        assert!(matches!(gone, Err(Error::Absent(_))), "{gone:?}");
    }
}

#[test]
fn a_created_entry_changes_the_source_too() {
    let lab = lab(NO_RULES);
    for v6 in [false, true] {
        let node = SocketAddr::new(lab.address("node1", v6), 50_001);
        let answer = format!("b {} who", node.ip());
        for protocol in [Tuple::UDP, Tuple::TCP] {
            let mut expected = flow(&lab, v6, protocol, 40_001);
            expected.reply.destination = node;
            in_node(&lab, || conntrack::create(&expected)).unwrap();
            assert_is(found(&lab, &expected.original), &expected);
            if protocol == Tuple::TCP {
                assert_eq!(ask_tcp(&tcp(&lab, &expected)), answer);
            } else {
                let client = udp(&lab, &expected);
                assert_eq!(ask_udp(&client, PATIENCE).as_ref(), Some(&answer));
            }
            // Another client's flow to the same server cannot have the same replies.
            let mut second = expected;
            second.original.source.set_port(40_009);
            let refused = in_node(&lab, || conntrack::create(&second));
            assert!(matches!(refused, Err(Error::Exists(_))), "{refused:?}");
            assert_eq!(found(&lab, &second.original), None);
        }
    }
}

#[test]
fn a_connection_goes_on_under_an_entry_created_in_its_middle() {
    let lab = lab(RULES);
    let node = &lab.place("node1").namespace;
    for v6 in [false, true] {
        nft(node, &format!("delete table inet lab\n{RULES}")).unwrap();
        let expected = flow(&lab, v6, Tuple::TCP, 40_003);
        let client = tcp(&lab, &expected);
        let answer = ask_tcp(&client);
        nft(node, &format!("delete table inet lab\n{NO_RULES}")).unwrap();
        in_node(&lab, || conntrack::delete(&expected.original)).unwrap();
        in_node(&lab, || conntrack::create(&expected)).unwrap();
        for _ in 0..3 {
            assert_eq!(ask_tcp(&client), answer);
        }
        assert_is(found(&lab, &expected.original), &expected);
    }
}

#[test]
fn sctp_is_created_and_listed_as_well() {
    let lab = lab(NO_RULES);
    for v6 in [false, true] {
        let expected = flow(&lab, v6, Tuple::SCTP, 40_004);
        in_node(&lab, || conntrack::create(&expected)).unwrap();
        assert_is(found(&lab, &expected.original), &expected);
        // The kernel finds an entry by its replies too.
        in_node(&lab, || conntrack::delete(&expected.reply)).unwrap();
        assert_eq!(found(&lab, &expected.original), None);
    }
}

#[test]
fn a_listing_of_many_datagrams_is_whole() {
    let lab = lab(NO_RULES);
    let flows: Vec<_> = (10_000..11_000)
        .map(|port| flow(&lab, false, Tuple::UDP, port))
        .collect();
    in_node(&lab, || flows.iter().try_for_each(conntrack::create)).unwrap();
    let mut listed: Vec<_> = in_node(&lab, conntrack::dump)
        .unwrap()
        .into_iter()
        .map(|flow| (flow.original, flow.reply))
        .collect();
    listed.sort_unstable();
    let created: Vec<_> = flows
        .iter()
        .map(|flow| (flow.original, flow.reply))
        .collect();
    assert_eq!(listed, created);
}
