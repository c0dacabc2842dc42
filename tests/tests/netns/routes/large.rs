//! Streams and datagrams that do not fit a packet, and packets that do not fit the way.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use tests::harness::{Lab, eventually, ip};

use super::{Families, Network};

/// Port of the servers here.
pub(crate) const SERVER: u16 = 7070;

/// Sends a stream of `bytes` from one place to another, and has it counted.
#[track_caller]
pub(crate) fn large_tcp(lab: &Lab, from: &str, to: &str, v6: bool, bytes: usize) {
    let by = SocketAddr::new(lab.address(to, v6), SERVER);
    large_tcp_by(lab, from, to, by, bytes);
}

/// The same by an address that leads there.
#[track_caller]
pub(crate) fn large_tcp_by(lab: &Lab, from: &str, to: &str, by: SocketAddr, bytes: usize) {
    let address = SocketAddr::new(lab.address(to, by.is_ipv6()), SERVER);
    let listener = lab
        .place(to)
        .namespace
        .run(|| Ok(TcpListener::bind(address)?))
        .unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = vec![0; 1 << 16];
        let mut total = 0;
        while total < bytes {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                count => total += count,
            }
        }
        stream.write_all(b"done").unwrap();
        total
    });
    let patience = Duration::from_secs(10);
    let connect = || Ok(TcpStream::connect_timeout(&by, patience)?);
    let mut stream = lab.place(from).namespace.run(connect).unwrap();
    stream.set_write_timeout(Some(patience)).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    stream.write_all(&vec![7; bytes]).unwrap();
    let mut done = [0; 4];
    stream.read_exact(&mut done).unwrap();
    assert_eq!(server.join().unwrap(), bytes);
}

/// Sends datagrams that have to be cut into pieces, and has them back.
#[track_caller]
pub(super) fn large_udp(lab: &Lab, from: &str, to: &str, v6: bool) {
    let bind = |place: &str, port| {
        let address: IpAddr = lab.address(place, v6);
        let socket = lab
            .place(place)
            .namespace
            .run(|| Ok(UdpSocket::bind((address, port))?));
        let socket = socket.unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        socket
    };
    let (server, client) = (bind(to, 7071), bind(from, 0));
    for size in [1400, 8000, 30_000, 60_000] {
        let sent: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut buffer = vec![0; 65_536];
        client.send_to(&sent, (lab.address(to, v6), 7071)).unwrap();
        let (count, peer) = server
            .recv_from(&mut buffer)
            .unwrap_or_else(|error| panic!("{size} bytes {from} to {to}: {error}"));
        assert!(buffer[..count] == sent[..], "{size} bytes to {to}");
        server.send_to(&sent, peer).unwrap();
        let (count, _) = client
            .recv_from(&mut buffer)
            .unwrap_or_else(|error| panic!("{size} bytes {to} to {from}: {error}"));
        assert!(buffer[..count] == sent[..], "{size} bytes from {to}");
    }
}

#[track_caller]
pub(super) fn expect_large(network: &Network) {
    for v6 in network.families() {
        for (from, to) in [("a", "b"), ("a", "c"), ("c", "a")] {
            large_tcp(&network.lab, from, to, *v6, 20 << 20);
            large_udp(&network.lab, from, to, *v6);
        }
    }
}

/// A pod's interface takes more than the overlay: what does not fit is said by the node, in both
/// families, and what is sent after fits.
#[test]
fn a_packet_that_does_not_fit_the_overlay_is_answered_with_what_would() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    network.await_routes("node3", 4);
    network
        .lab
        .place("a")
        .namespace
        .ip("link set eth0 mtu 1500\n")
        .unwrap();
    network
        .lab
        .place("node1")
        .namespace
        .ip("link set p-a mtu 1500\n")
        .unwrap();
    for v6 in [false, true] {
        let to = network.lab.address("c", v6);
        let bind = |place: &str, port: u16| {
            let address = network.lab.address(place, v6);
            let socket = || Ok(UdpSocket::bind((address, port))?);
            network.lab.place(place).namespace.run(socket).unwrap()
        };
        let (server, client) = (bind("c", 7072), bind("a", 0));
        server.set_nonblocking(true).unwrap();
        // With both headers, 1490 bytes: the first has DF, as Linux sends datagrams.
        let sent = vec![7; 1490 - 8 - if v6 { 40 } else { 20 }];
        let mut tries = 0;
        eventually("it arrives in pieces", || {
            tries += 1;
            client.send_to(&sent, (to, 7072))?;
            let mut buffer = vec![0; 2000];
            Ok(server
                .recv(&mut buffer)
                .is_ok_and(|count| count == sent.len())
                .then_some(()))
        })
        .unwrap();
        assert!(tries > 1, "the first fitted");
        let pod = &network.lab.place("a").namespace;
        let route = ip(pod, &["route", "get", &to.to_string()]).unwrap();
        assert!(route.contains("mtu 1450"), "{route}");
    }
}

/// Both ends of a stream say what they take when it begins, so no packet is too large even where
/// the answers to such packets are lost.
#[test]
fn streams_through_the_overlay_have_segments_that_fit_it() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    network.await_routes("node3", 4);
    for v6 in [false, true] {
        for from in ["a", "node1"] {
            let address = SocketAddr::new(network.lab.address("c", v6), 9090);
            let place = network.lab.uncovered(from);
            let patience = Duration::from_secs(5);
            let connect = || Ok(TcpStream::connect_timeout(&address, patience)?);
            let stream = place.namespace.run(connect).unwrap();
            let port = stream.local_addr().unwrap().port();
            let name = place.namespace.name().to_owned();
            let shown = std::process::Command::new("ip")
                .args([
                    "netns",
                    "exec",
                    &name,
                    "ss",
                    "-Htin",
                    &format!("sport = :{port}"),
                ])
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&shown.stdout).into_owned();
            let mss = text
                .split_whitespace()
                .find_map(|word| word.strip_prefix("mss:"));
            let mss: u32 = mss.unwrap_or_else(|| panic!("{text}")).parse().unwrap();
            // 12 bytes of each are the option of time stamps.
            let fits = if v6 { 1390 - 12 } else { 1410 - 12 };
            assert!(mss <= fits, "{from}: {mss} of {fits}");
        }
    }
}

/// Neither end knows of the overlay, and nobody has to be told.
#[test]
fn pods_that_take_more_than_the_overlay_ask_each_other_for_segments_that_fit_it() {
    for flags in [&[][..], &["--fast-path=false"]] {
        let network = Network::start(Families::Both, 1500, flags);
        network.await_routes("node1", 4);
        network.await_routes("node3", 4);
        expect_segments_that_fit(&network, &[false, true], &format!("{flags:?}"));
    }
}

/// Streams between pods that take more than the overlay, without a word from anybody of what fits.
#[track_caller]
pub(super) fn expect_segments_that_fit(network: &Network, families: &[bool], what: &str) {
    let pods = [("a", "node1"), ("c", "node3")];
    for (pod, node) in pods {
        let of_the_pod = &network.lab.place(pod).namespace;
        of_the_pod.ip("link set eth0 mtu 1500\n").unwrap();
        let of_the_node = &network.lab.place(node).namespace;
        of_the_node
            .ip(&format!("link set p-{pod} mtu 1500\n"))
            .unwrap();
    }
    let before = pods.map(|(pod, _)| errors_about_size(&network.lab, pod));
    for v6 in families {
        for (from, to) in [("a", "c"), ("c", "a")] {
            large_tcp(&network.lab, from, to, *v6, 4 << 20);
        }
    }
    let after = pods.map(|(pod, _)| errors_about_size(&network.lab, pod));
    assert_eq!(after, before, "{what}: one had to be told");
}

/// Errors that a place has been sent: fragmentation needed and others of ICMP, too big of ICMPv6.
fn errors_about_size(lab: &Lab, place: &str) -> [u64; 2] {
    let read = |file: &'static str| {
        let text = lab.place(place).namespace.run(move || {
            Ok(std::fs::read_to_string(format!(
                "/proc/thread-self/net/{file}"
            ))?)
        });
        text.unwrap()
    };
    let v4 = read("snmp");
    let mut lines = v4.lines().filter(|line| line.starts_with("Icmp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut columns = names.split(' ').zip(values.split(' '));
    let (_, unreachable) = columns.find(|(name, _)| *name == "InDestUnreachs").unwrap();
    let v6 = read("snmp6");
    let too_big = v6
        .lines()
        .find_map(|line| line.strip_prefix("Icmp6InPktTooBigs"));
    [unreachable, too_big.unwrap().trim()].map(|count| count.parse().unwrap())
}
