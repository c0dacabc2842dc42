//! One source port of a client for connections of two kinds: through a Service, and past it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use tests::harness::{AgentOptions, ServiceSpec, eventually};

use crate::cluster::{Cluster, web};

const PATIENCE: Duration = Duration::from_secs(2);
const PORT: u16 = 40_000;

#[test]
fn a_direct_tcp_connection_may_have_the_port_of_an_ended_one_through_the_service() {
    let service = ServiceSpec::new("web", 10).tcp(80, 8080).endpoints(&["b1"]);
    let cluster = Cluster::start(&[&service]);
    for v6 in [false, true] {
        let own = SocketAddr::new(cluster.lab.address("pod-a", v6), PORT);
        let balanced = SocketAddr::new(service.ip(v6), 80);
        let direct = SocketAddr::new(cluster.lab.address("b1", v6), 8080);
        // This process is in no cgroup of the lab, so its connections are balanced per packet.
        let inside = &cluster.lab.place("pod-a").namespace;
        for to in [balanced, direct, balanced, direct] {
            inside
                .run(|| exchange(own, to))
                .unwrap_or_else(|error| panic!("to {to}: {error:#}"));
        }
    }
}

#[test]
fn datagrams_of_one_port_go_through_services_of_either_node_and_past_them() {
    let service = web().endpoints(&["a1"]);
    let cluster = Cluster::start(&[&service]);
    for v6 in [false, true] {
        let own = SocketAddr::new(cluster.lab.address("pod-b", v6), PORT);
        let at_its_own_node = SocketAddr::new(service.ip(v6), 80);
        let at_the_backends_node = SocketAddr::new(cluster.lab.address("node1", v6), 30080);
        let direct = SocketAddr::new(cluster.lab.address("a1", v6), 8080);
        let inside = &cluster.lab.place("pod-b").namespace;
        for to in [
            at_the_backends_node,
            at_its_own_node,
            at_the_backends_node,
            direct,
            at_its_own_node,
            direct,
        ] {
            inside
                .run(|| ask(own, to))
                .unwrap_or_else(|error| panic!("to {to}: {error:#}"));
        }
    }
}

/// The packets are seen translated where they leave the pod's interface for its bridge.
#[test]
fn datagrams_from_behind_a_bridge_reach_a_backend_in_the_nodes_network() {
    let service = web().endpoints(&["a1"]);
    let cluster = Cluster::without_agents(AgentOptions::default(), &[&service]);
    let node = cluster.lab.place("node1").namespace.clone();
    let mut lines = "link add br0 type bridge\nlink set br0 up\n".to_owned();
    lines += "link set p-pod-a master br0\n";
    for v6 in [false, true] {
        let pod = cluster.lab.address("pod-a", v6);
        lines += &format!("route replace {pod} dev br0\n");
    }
    node.ip(&lines).unwrap();
    for v6 in [false, true] {
        let backend = SocketAddr::new(cluster.lab.address("node1", v6), 8080);
        let socket = node.run(|| Ok(UdpSocket::bind(backend)?)).unwrap();
        thread::spawn(move || echo(&socket));
    }
    let cluster = with_endpoints_in_the_nodes_network(cluster, &service);
    for v6 in [false, true] {
        let own = SocketAddr::new(cluster.lab.address("pod-a", v6), PORT);
        let to = SocketAddr::new(service.ip(v6), 80);
        let inside = &cluster.lab.place("pod-a").namespace;
        for round in 0..3 {
            inside
                .run(|| ask(own, to))
                .unwrap_or_else(|error| panic!("to {to}, round {round}: {error:#}"));
        }
    }
}

/// Starts the agents of a cluster where node1 is the endpoint of a Service.
fn with_endpoints_in_the_nodes_network(cluster: Cluster, service: &ServiceSpec) -> Cluster {
    let addresses = [false, true].map(|v6| cluster.lab.address("node1", v6));
    let manifests = cluster.lab.manifests();
    manifests
        .edit(&service.file(), |documents| {
            for document in documents {
                let v6 = document["addressType"] == "IPv6";
                if let Some(entry) = document.pointer_mut("/endpoints/0/addresses/0") {
                    *entry = addresses[usize::from(v6)].to_string().into();
                }
            }
        })
        .unwrap();
    cluster.with_agents(&["node1", "node2"])
}

/// Asks with a datagram from a port of choice; only an answer from `to` counts.
fn ask(from: SocketAddr, to: SocketAddr) -> Result<()> {
    // A process that another test starts holds a copy of the last socket until it runs its program.
    let socket = eventually("the port is free", || match UdpSocket::bind(from) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
        bound => Ok(Some(bound?)),
    })?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"hello\n")?;
    let mut answer = [0; 64];
    let length = socket.recv(&mut answer)?;
    anyhow::ensure!(answer[..length].ends_with(b"hello\n"), "another answer");
    Ok(())
}

fn echo(socket: &UdpSocket) {
    let mut datagram = [0; 64];
    while let Ok((length, from)) = socket.recv_from(&mut datagram) {
        // A client that is gone is not told.
        let _sent = socket.send_to(&datagram[..length], from);
    }
}

/// Connects from a port of choice, exchanges a line, and closes.
fn exchange(from: SocketAddr, to: SocketAddr) -> Result<()> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
    let family = if from.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let socket = socket(family, SocketType::STREAM, None)?;
    // The port is still in TIME_WAIT towards the other destination.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    bind(&socket, &from)?;
    connect(&socket, &to)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"hello\n")?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer)?;
    anyhow::ensure!(answer.ends_with("hello\n"), "{answer:?}");
    // An orderly end by the server's side as well: it closes when it reads ours.
    stream.shutdown(Shutdown::Write)?;
    anyhow::ensure!(stream.read(&mut [0])? == 0, "not closed");
    Ok(())
}
