//! Who reaches whom, over real sockets.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tests::harness::{CniNode, Namespace};

const PATIENCE: Duration = Duration::from_secs(3);

/// Addresses of a result, in order.
pub(crate) fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().unwrap();
    let of = |ip: &Value| {
        ip["address"]
            .as_str()
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .parse()
    };
    ips.iter().map(|ip| of(ip).unwrap()).collect()
}

/// Sends a line to an address of `to` over TCP and gets it back; the address that was seen there.
pub(crate) fn tcp(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<IpAddr> {
    let listener = to.run(|| Ok(TcpListener::bind(SocketAddr::new(address, 0))?))?;
    let at = listener.local_addr()?;
    converse(from, listener, at)
}

/// The same by another address and port, which lead to a port of `to`.
pub(crate) fn tcp_at(
    from: &Namespace,
    to: &Namespace,
    port: u16,
    at: SocketAddr,
) -> Result<IpAddr> {
    let listener = to.run(|| Ok(TcpListener::bind(("0.0.0.0", port))?))?;
    converse(from, listener, at)
}

fn converse(from: &Namespace, listener: TcpListener, at: SocketAddr) -> Result<IpAddr> {
    // Without a reader, what is sent waits in the socket's buffer: no thread is needed.
    let mut stream = from.run(|| {
        let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
        stream.write_all(b"hello")?;
        Ok(stream)
    })?;
    let (mut accepted, peer) = listener.accept()?;
    let mut line = [0; 5];
    accepted.read_exact(&mut line)?;
    accepted.write_all(&line)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_exact(&mut line)?;
    assert_eq!(&line, b"hello");
    Ok(peer.ip())
}

/// Sends a datagram of this size, which has to arrive.
fn datagram(from: &Namespace, to: &Namespace, address: IpAddr, size: usize) -> Result<()> {
    let receiver = to.run(|| Ok(UdpSocket::bind(SocketAddr::new(address, 0))?))?;
    receiver.set_read_timeout(Some(PATIENCE))?;
    let at = receiver.local_addr()?;
    from.run(|| {
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        Ok(UdpSocket::bind(any)?.send_to(&vec![7; size], at)?)
    })?;
    let mut buffer = vec![0; size + 1];
    assert_eq!(receiver.recv(&mut buffer)?, size);
    Ok(())
}

#[track_caller]
fn check(ranges: &[&str], families: usize) {
    let node = CniNode::new().unwrap();
    let gateway = "link add up0 type veth peer name up1\nlink set up0 up\nlink set up1 up\n\
                   addr add 192.168.7.1/24 dev up0\naddr add fd07::1/64 dev up0 nodad\n";
    node.namespace.ip(gateway).unwrap();
    let config = node
        .config(&json!({"ranges": ranges, "mtu": 1400}))
        .unwrap();
    let names = ["a".to_owned(), "b".to_owned()];
    node.create(&names).unwrap();
    let of =
        |name: &String| addresses(&node.invoke("ADD", name, &config).unwrap().result().unwrap());
    let (a, b) = (of(&names[0]), of(&names[1]));
    assert_eq!((a.len(), b.len()), (families, families));
    let (in_a, in_b) = (node.container("a"), node.container("b"));
    for (own, other) in a.iter().zip(&b) {
        assert_eq!(tcp(&in_a, &in_b, *other).unwrap(), *own);
        assert_eq!(tcp(&in_b, &in_a, *own).unwrap(), *other);
        assert_eq!(tcp(&in_a, &in_a, *own).unwrap(), *own);
        tcp(&node.namespace, &in_a, *own).unwrap();
        let of_node = if own.is_ipv4() {
            "192.168.7.1"
        } else {
            "fd07::1"
        };
        assert_eq!(
            tcp(&in_a, &node.namespace, of_node.parse().unwrap()).unwrap(),
            *own
        );
        for size in [1, 1300, 9000] {
            datagram(&in_a, &in_b, *other, size).unwrap();
        }
    }
}

#[test]
fn pods_and_node_reach_one_another_in_both_families() {
    check(&["10.244.1.0/24", "fd00:10:244:1::/64"], 2);
}

#[test]
fn pods_and_node_reach_one_another_with_ipv4_alone() {
    check(&["10.244.1.0/24"], 1);
}

#[test]
fn pods_and_node_reach_one_another_with_ipv6_alone() {
    check(&["fd00:10:244:1::/64"], 1);
}

#[test]
fn a_pod_cannot_send_as_another() {
    let node = CniNode::new().unwrap();
    let config = node.config(&json!({})).unwrap();
    let names = ["a".to_owned(), "b".to_owned()];
    node.create(&names).unwrap();
    for name in &names {
        node.invoke("ADD", name, &config).unwrap().result().unwrap();
    }
    let (in_a, in_b) = (node.container("a"), node.container("b"));
    // An address of the range that nobody has.
    in_a.ip("addr add 10.244.1.99/32 dev eth0\n").unwrap();
    let receiver = in_b.run(|| Ok(UdpSocket::bind("10.244.1.3:0")?)).unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let at = receiver.local_addr().unwrap();
    for (from, arrives) in [("10.244.1.2:0", true), ("10.244.1.99:0", false)] {
        in_a.run(|| Ok(UdpSocket::bind(from)?.send_to(b"x", at)?))
            .unwrap();
        assert_eq!(receiver.recv(&mut [0; 8]).is_ok(), arrives, "{from}");
    }
}
