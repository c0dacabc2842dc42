//! What pods send out of the cluster, seen from outside.

#[cfg(test)]
mod marks;
#[cfg(test)]
mod takeover;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, ipproto, socket};
use serde_json::Value;
use tests::harness::{Agent, Flow, Lab, Process, Traffic, eventually};

use super::large::large_tcp;
use super::{Families, Network};
use crate::cluster::web;

const PORT: u16 = 9090;

/// Somebody outside of the cluster who answers, and says who asked.
#[track_caller]
fn listen(lab: &Lab) -> Process {
    let mut command = lab.place("client").traffic();
    command
        .args(["serve", "--name", "outside", "--port", &PORT.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    Process::listening("outside", &mut command).unwrap()
}

/// Lets the router know the pods of the first node, as a fabric does that hears of them by BGP.
fn know_pods(lab: &Lab) {
    lab.router()
        .ip("route add 10.244.1.0/24 via 172.31.0.11\nroute add fd00:244:1::/64 via fd00:31::11\n")
        .unwrap();
}

/// Who the one outside sees behind TCP and UDP of a place.
#[track_caller]
fn seen_as(lab: &Lab, from: &str, v6: bool) -> Vec<String> {
    let to = lab.address("client", v6);
    let mut seen = Vec::new();
    for traffic in [
        Traffic::connect(to, PORT),
        Traffic::udp_fresh(to, PORT),
        Traffic::udp(to, PORT),
    ] {
        let traffic = traffic.count(3).timeout_milliseconds(2000);
        let report = Flow::run(&lab.uncovered(from), &traffic).unwrap();
        assert!(
            report.is_clean() && report.answered == 3,
            "{from}: {report:?}"
        );
        seen.extend(report.seen_as);
    }
    seen.dedup();
    seen
}

#[track_caller]
fn expect_seen_as(network: &Network, from: &str, as_whom: &str) {
    for v6 in network.families() {
        let expected = network.lab.address(as_whom, *v6).to_string();
        assert_eq!(seen_as(&network.lab, from, *v6), [expected], "{from}");
    }
}

fn start(flags: &[&str]) -> (Network, Process) {
    let network = Network::start(Families::Both, 1500, flags);
    network.await_routes("node1", 4);
    let outside = listen(&network.lab);
    (network, outside)
}

/// An echo of so many bytes comes back.
#[track_caller]
fn expect_echo(lab: &Lab, from: &str, to: IpAddr, size: usize) {
    // Of IPv6 no router cuts a packet: the first answer that is longer than the pod's interface
    // takes tells its sender so.
    let came_back = (0..3).any(|_| echo(lab, from, to, size));
    assert!(came_back, "{to}, {size} bytes");
}

fn echo(lab: &Lab, from: &str, to: IpAddr, size: usize) -> bool {
    const IDENTIFIER: [u8; 2] = [0x12, 0x34];
    let (family, protocol, question, answer, header) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0, 20),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129, 0),
    };
    let mut message = vec![question, 0, 0, 0, IDENTIFIER[0], IDENTIFIER[1], 0, 1];
    message.resize(8 + size, 7);
    // The kernel sums up ICMPv6 by itself.
    let words = message
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    message[2..4].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
    let came_back = lab.place(from).namespace.run(|| {
        let socket = UdpSocket::from(socket(family, SocketType::RAW, Some(protocol))?);
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        socket.send_to(&message, (to, 0))?;
        let mut buffer = vec![0; 65_536];
        loop {
            let Ok((count, _)) = socket.recv_from(&mut buffer) else {
                return Ok(false);
            };
            let got = &buffer[header..count];
            if got[0] == answer && got[4..6] == IDENTIFIER {
                return Ok(got[8..] == message[8..]);
            }
        }
    });
    came_back.unwrap()
}

#[test]
fn the_outside_sees_the_node_and_the_cluster_sees_the_pod() {
    let (network, _outside) = start(&[]);
    expect_seen_as(&network, "a", "node1");
    expect_seen_as(&network, "node1", "node1");
    // Pods and nodes of the cluster, in the subnet and behind the overlay.
    network.expect_reach();
    for v6 in [false, true] {
        let to = network.lab.address("client", v6);
        for size in [56, 4000] {
            expect_echo(&network.lab, "a", to, size);
        }
    }
    let metric = |name: &str| {
        network.agents["node1"]
            .metric(name)
            .unwrap()
            .unwrap_or_default()
    };
    assert!(metric("fairlead_egress_connections_total") >= 14.0);
    let status = network.agents["node1"].status().unwrap();
    assert_eq!(
        status["egress"]["sources"]["eth0"],
        serde_json::json!(["172.31.0.11", "fd00:31::11"])
    );
    let explained = network.agents["node1"]
        .ask(&[
            "explain",
            "--from",
            "10.244.1.10",
            "--to",
            "172.30.0.2:9090",
        ])
        .unwrap();
    assert!(
        explained
            .output
            .contains("leaves the cluster as 172.31.0.11"),
        "{explained:?}"
    );
    let other = network.agents["node1"]
        .ask(&["explain", "--from", "10.244.1.10", "--to", "10.244.2.9:80"])
        .unwrap();
    assert!(other.output.contains("pods of node2"), "{other:?}");
}

#[test]
fn large_transfers_and_datagrams_in_pieces_come_back() {
    let (network, _outside) = start(&[]);
    for v6 in [false, true] {
        large_tcp(&network.lab, "a", "client", v6, 20 << 20);
        let bind = |place: &str, port| {
            let address = (network.lab.address(place, v6), port);
            let bound = network
                .lab
                .place(place)
                .namespace
                .run(|| Ok(UdpSocket::bind(address)?));
            let socket = bound.unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            socket
        };
        let (server, client) = (bind("client", 7072), bind("a", 0));
        for size in [100, 4000, 30_000] {
            let sent = vec![7; size];
            let mut buffer = vec![0; 65_536];
            client.send_to(&sent, server.local_addr().unwrap()).unwrap();
            let (count, peer) = server.recv_from(&mut buffer).unwrap();
            assert_eq!((count, peer.ip()), (size, network.lab.address("node1", v6)));
            // As for `expect_echo`.
            let came_back = (0..3).any(|_| {
                server.send_to(&sent, peer).unwrap();
                client
                    .recv_from(&mut buffer)
                    .is_ok_and(|(count, _)| count == size)
            });
            assert!(came_back, "{size} bytes to {peer}");
        }
    }
}

#[test]
fn an_excluded_network_sees_the_pod_and_the_list_may_change() {
    let network = Network::build(Families::Both, 1500, &[]);
    let file = network.lab.directory().join("excluded");
    std::fs::write(&file, "fd00:30::/64\n").unwrap();
    let mut network = network;
    network.flags = vec![
        format!("--egress-excluded-cidrs-file={}", file.display()),
        "--egress-excluded-cidrs=192.0.2.0/24".to_owned(),
    ];
    network.start_agent("node1");
    network
        .agents
        .get_mut("node1")
        .unwrap()
        .wait_ready()
        .unwrap();
    know_pods(&network.lab);
    let _outside = listen(&network.lab);
    let expect = |v6, whom: &str| {
        let expected = network.lab.address(whom, v6).to_string();
        eventually("the list is in force", || {
            let seen = seen_as(&network.lab, "a", v6);
            anyhow::ensure!(seen == [expected.clone()], "{seen:?}");
            Ok(Some(()))
        })
        .unwrap();
    };
    expect(true, "a");
    expect(false, "node1");
    let to = network.lab.address("client", false);
    let held = Flow::start(
        network.lab.place("a"),
        &Traffic::hold(to, PORT).every_milliseconds(5),
    )
    .unwrap();
    std::fs::write(&file, "# all of it\n172.30.0.0/24\n").unwrap();
    expect(true, "node1");
    expect(false, "a");
    let kept = network.agents["node1"].status().unwrap()["egress"]["kept"].to_string();
    assert!(
        kept.contains("172.30.0.0/24") && kept.contains("192.0.2.0/24"),
        "{kept}"
    );
    // What makes no sense changes nothing, and is told.
    std::fs::write(&file, "172.30.0.0/24\nnonsense\n").unwrap();
    eventually("the line is named", || {
        let problems = network.agents["node1"].status()?["problems"].to_string();
        anyhow::ensure!(problems.contains("line 2: `nonsense`"), "{problems}");
        Ok(Some(()))
    })
    .unwrap();
    assert_eq!(
        seen_as(&network.lab, "a", false),
        [network.lab.address("a", false).to_string()]
    );
    std::fs::write(&file, "").unwrap();
    expect(false, "node1");
    let problems = network.agents["node1"].status().unwrap()["problems"].to_string();
    assert!(!problems.contains("nonsense"), "{problems}");
    let report = held.stop().unwrap();
    assert!(report.is_clean(), "what had begun goes on: {report:?}");
    assert_eq!(
        report.seen_as.into_iter().collect::<Vec<_>>(),
        ["172.31.0.11"]
    );
}

#[test]
fn who_comes_to_the_pods_own_address_is_answered_from_there() {
    let (network, _outside) = start(&[]);
    know_pods(&network.lab);
    for v6 in [false, true] {
        let to = network.lab.address("a", v6);
        for traffic in [
            Traffic::connect(to, 8080),
            Traffic::udp(to, 8080),
            Traffic::udp_fresh(to, 8080),
        ] {
            let report = Flow::run(network.lab.place("client"), &traffic.count(5)).unwrap();
            assert!(report.is_clean() && report.answered == 5, "{report:?}");
            let client = network.lab.address("client", v6).to_string();
            assert_eq!(report.seen_as.into_iter().collect::<Vec<_>>(), [client]);
        }
        expect_echo(&network.lab, "client", to, 56);
    }
}

#[test]
fn services_and_direct_return_are_as_without_it() {
    let network = Network::build(Families::Both, 1500, &[]);
    let service = web().endpoints(&["a", "b"]);
    network.lab.apply(&service).unwrap();
    let mut network = network;
    for node in super::NODES {
        network.start_agent(node);
    }
    for agent in network.agents.values_mut() {
        agent.wait_ready().unwrap();
    }
    network.await_routes("node1", 4);
    for v6 in [false, true] {
        // From outside by a node port, and from a pod by the cluster IP.
        let node = network.lab.address("node1", v6);
        for (from, traffic) in [
            ("client", Traffic::connect(node, 30080)),
            ("client", Traffic::udp_fresh(node, 30080)),
            ("a", Traffic::connect(service.ip(v6), 80)),
            ("a", Traffic::udp_fresh(service.ip(v6), 80)),
        ] {
            let traffic = traffic
                .count(40)
                .every_milliseconds(0)
                .timeout_milliseconds(2000);
            let report = Flow::run(&network.lab.uncovered(from), &traffic).unwrap();
            assert!(report.is_clean(), "{from}: {report:?}");
            assert_eq!(report.backends.keys().collect::<Vec<_>>(), ["a", "b"]);
        }
    }
}

#[test]
fn an_open_connection_outlives_the_agent_and_a_restart() {
    let (mut network, _outside) = start(&[]);
    let to = network.lab.address("client", false);
    let hold = Traffic::hold(to, PORT).every_milliseconds(2);
    let held = Flow::start(network.lab.place("a"), &hold).unwrap();
    let mut agent = network.agents.remove("node1").unwrap();
    agent.process().kill().unwrap();
    drop(agent);
    // Nobody is there, and the outside still sees the node.
    expect_seen_as(&network, "a", "node1");
    network.start_agent("node1");
    network
        .agents
        .get_mut("node1")
        .unwrap()
        .wait_ready()
        .unwrap();
    expect_seen_as(&network, "a", "node1");
    let report = held.stop().unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn turned_off_the_outside_sees_the_pod_and_cleanup_leaves_nothing() {
    let (mut network, _outside) = start(&["--enable-pod-egress=false"]);
    know_pods(&network.lab);
    expect_seen_as(&network, "a", "a");
    assert_eq!(
        network.agents["node1"].status().unwrap()["egress"],
        Value::Null
    );
    network.agents.remove("node1");
    network.flags.clear();
    network.start_agent("node1");
    network
        .agents
        .get_mut("node1")
        .unwrap()
        .wait_ready()
        .unwrap();
    expect_seen_as(&network, "a", "node1");
    network.agents.remove("node1");
    let cleaned = Agent::cleanup(&network.lab, "node1", &[]).unwrap();
    assert_eq!(cleaned.code, Some(0), "{cleaned:?}");
    assert!(!network.lab.bpf_root("node1").join("maps").exists());
    // The routes to pods went too; the way out is not the agent's.
    expect_seen_as(&network, "a", "a");
}

#[test]
fn a_refusal_from_outside_reaches_the_pod() {
    let (network, _outside) = start(&[]);
    for v6 in [false, true] {
        let closed = SocketAddr::new(network.lab.address("client", v6), 9);
        let errors = network.lab.place("a").namespace.run(|| {
            let tcp = std::net::TcpStream::connect_timeout(&closed, Duration::from_secs(3));
            let udp = UdpSocket::bind(SocketAddr::new(network.lab.address("a", v6), 0))?;
            udp.set_read_timeout(Some(Duration::from_secs(3)))?;
            udp.connect(closed)?;
            udp.send(b"anybody?")?;
            let answer = udp.recv(&mut [0; 16]);
            Ok((
                tcp.map(drop).map_err(|error| error.kind()),
                answer.map_err(|error| error.kind()),
            ))
        });
        let refused = std::io::ErrorKind::ConnectionRefused;
        assert_eq!(errors.unwrap(), (Err(refused), Err(refused)), "{closed}");
    }
}
