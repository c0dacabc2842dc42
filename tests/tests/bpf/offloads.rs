//! Connections of the node's own stack, which leaves checksums to the device: a device that fills in none gets
//! them from the kernel when the programs are done, and what comes from it is checked by the stack.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use agent::lb::ebpf::attach::{Attachments, Mode, Side, Target};
use etherparse::{NetHeaders, PacketBuilder, PacketHeaders, TcpHeader, TransportHeader};
use tests::harness::Tun;
use tests::packets::is_valid;

use crate::lab::{Lab, index, network};

const NETWORK: &str = "
addr add 198.18.5.1/24 dev wire
addr add fd00:5::1/64 dev wire nodad
link set wire up
neigh replace 198.18.5.2 lladdr 02:00:00:00:00:09 dev wire
neigh replace fd00:5::2 lladdr 02:00:00:00:00:09 dev wire
route add 10.96.0.0/16 via 198.18.5.2
route add fd00:96::/64 via fd00:5::2
";
const WINDOW: u16 = 64_000;
/// Where the server begins to count.
const FIRST: u32 = 70_000;
const ASKED: &[u8] = b"a question of odd length";
const ANSWER: &[u8] = b"an answer";

/// What leaves, as the server sees it.
struct Seen {
    source: IpAddr,
    destination: IpAddr,
    tcp: TcpHeader,
    payload: Vec<u8>,
    macs: ([u8; 6], [u8; 6]),
}

/// The next TCP packet that leaves and is `wanted`; all are checked.
#[track_caller]
fn next(wire: &mut Tun, wanted: impl Fn(&Seen) -> bool) -> Seen {
    loop {
        let is_tcp = |frame: &[u8]| seen(frame).is_some();
        let frame = wire.next(is_tcp).unwrap();
        assert!(is_valid(&frame), "{frame:02x?}");
        if let Some(seen) = seen(&frame).filter(&wanted) {
            return seen;
        }
    }
}

/// `None` of what is no TCP.
fn seen(frame: &[u8]) -> Option<Seen> {
    let headers = PacketHeaders::from_ethernet_slice(frame).ok()?;
    let (source, destination) = match headers.net? {
        NetHeaders::Ipv4(ip, _) => (ip.source.into(), ip.destination.into()),
        NetHeaders::Ipv6(ip, _) => (ip.source.into(), ip.destination.into()),
        NetHeaders::Arp(_) => return None,
    };
    let Some(TransportHeader::Tcp(tcp)) = headers.transport else {
        return None;
    };
    Some(Seen {
        source,
        destination,
        tcp,
        payload: headers.payload.slice().to_vec(),
        macs: (frame[6..12].try_into().ok()?, frame[..6].try_into().ok()?),
    })
}

impl Seen {
    /// The frame that answers it.
    fn answer(&self, sequence: u32, is_first: bool, payload: &[u8]) -> Vec<u8> {
        let (node, server) = self.macs;
        let ethernet = PacketBuilder::ethernet2(server, node);
        let ip = match (self.destination, self.source) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 60),
            (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 60),
            _ => unreachable!("both are of a family"),
        };
        let (from, to) = (self.tcp.destination_port, self.tcp.source_port);
        let length = u32::try_from(self.payload.len()).unwrap();
        let next = self.tcp.sequence_number + length + u32::from(is_first);
        let mut step = ip.tcp(from, to, sequence, WINDOW).ack(next);
        if is_first {
            step = step.syn();
        }
        let mut frame = Vec::new();
        step.write(&mut frame, payload).unwrap();
        frame
    }
}

#[test]
fn the_stack_and_a_device_without_offloads_see_right_checksums() {
    let mut lab = Lab::new();
    let mut wire = Tun::with_frames("wire").unwrap();
    network(NETWORK);
    let target = Target {
        index: index("wire"),
        name: "wire".into(),
        side: Side::Uplink,
    };
    let mut attachments = Attachments::new(lab.directory("links"), Mode::of_this_kernel()).unwrap();
    let errors = attachments.follow(lab.programs(), std::slice::from_ref(&target));
    assert!(errors.is_empty(), "{errors:?}");
    for (service, backend) in [
        ("10.96.0.10:80", "198.18.5.2:8080"),
        // The ports stay.
        ("10.96.0.11:8080", "198.18.5.2:8080"),
        ("[fd00:96::10]:80", "[fd00:5::2]:8080"),
    ] {
        lab.service("tcp", service, backend);
        let (service, backend): (SocketAddr, SocketAddr) =
            (service.parse().unwrap(), backend.parse().unwrap());
        let client = thread::spawn(move || {
            let mut stream = TcpStream::connect_timeout(&service, Duration::from_secs(20))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.write_all(ASKED)?;
            let mut got = vec![0; ANSWER.len()];
            stream.read_exact(&mut got)?;
            std::io::Result::Ok(got)
        });
        // The connection before ends meanwhile.
        let syn = next(&mut wire, |seen| seen.tcp.syn);
        let to = SocketAddr::new(syn.destination, syn.tcp.destination_port);
        assert_eq!(to, backend);
        wire.send(&syn.answer(FIRST, true, &[])).unwrap();
        let question = next(&mut wire, |seen| !seen.payload.is_empty());
        assert_eq!(question.payload, ASKED);
        wire.send(&question.answer(FIRST + 1, false, ANSWER))
            .unwrap();
        assert_eq!(client.join().unwrap().unwrap(), ANSWER, "{service}");
    }
}
