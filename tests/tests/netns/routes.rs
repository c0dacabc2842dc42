//! Pod routes: three nodes in two subnets with a router between, that knows nothing of pods.

#[cfg(test)]
mod cni;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod fast_path;
#[cfg(test)]
mod options;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::harness::{Agent, AgentOptions, Builder, Flow, Lab, Traffic, cni_program, eventually};

use crate::cluster::{expect_clean, web};

const NODES: [&str; 3] = ["node1", "node2", "node3"];
/// A pod of each node, and another of the first.
const PODS: [(&str, u8); 4] = [("a", 1), ("b", 2), ("c", 3), ("d", 1)];
const OVERLAY: &str = "fairlead-vxlan";
/// What is taken away is to be there again within this time.
const MENDED: Duration = Duration::from_secs(1);

/// Which families the cluster has.
#[derive(Clone, Copy, PartialEq)]
enum Families {
    V6,
    Both,
}

/// The lab, with the third node in a subnet of its own.
struct Network {
    // Agents first: fields are dropped in order.
    agents: BTreeMap<&'static str, Agent>,
    flags: Vec<String>,
    families: Families,
    lab: Lab,
}

impl Network {
    #[track_caller]
    fn start(families: Families, mtu: u32, flags: &[&str]) -> Self {
        let mut network = Self::build(families, mtu, flags);
        for node in NODES {
            network.start_agent(node);
        }
        for agent in network.agents.values_mut() {
            agent.wait_ready().unwrap();
        }
        network
    }

    #[track_caller]
    fn build(families: Families, mtu: u32, flags: &[&str]) -> Self {
        let mut builder = Builder::new(env!("CARGO_BIN_EXE_fairlead-traffic"), 3);
        for (pod, node) in PODS {
            builder = builder.pod(pod, node);
        }
        let lab = builder.build().unwrap();
        let network = Self {
            agents: BTreeMap::new(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            families,
            lab,
        };
        network.wire(mtu);
        network.apply_nodes(|_| {});
        network
    }

    /// Takes away the routes to pods of other nodes, and moves the third node to another subnet.
    fn wire(&self, mtu: u32) {
        let mut of_router = "link set node3 nomaster\naddr add 172.31.1.1/24 dev node3\n\
            addr add fd00:31:1::1/64 dev node3 nodad\nlink set client mtu 9000\n"
            .to_owned();
        for node in NODES {
            of_router += &format!("link set {node} mtu {mtu}\n");
        }
        of_router += &format!("link set nodes mtu {mtu}\n");
        self.lab.router().ip(&of_router).unwrap();
        for (index, node) in NODES.into_iter().enumerate() {
            let mut lines = format!("link set eth0 mtu {mtu}\n");
            for number in (1..=NODES.len()).filter(|number| *number != index + 1) {
                lines +=
                    &format!("route del 10.244.{number}.0/24\nroute del fd00:244:{number}::/64\n");
            }
            if node == "node3" {
                lines += "addr flush dev eth0 scope global\naddr add 172.31.1.13/24 dev eth0\n\
                    addr add fd00:31:1::13/64 dev eth0 nodad\n\
                    route replace default via 172.31.1.1 dev eth0\n\
                    route replace default via fd00:31:1::1 dev eth0\n";
            }
            if self.families == Families::V6 {
                lines += "addr flush dev eth0 scope global\n";
                lines += match node {
                    "node1" => "addr add fd00:31::11/64 dev eth0 nodad\n",
                    "node2" => "addr add fd00:31::12/64 dev eth0 nodad\n",
                    _ => "addr add fd00:31:1::13/64 dev eth0 nodad\n",
                };
                lines += match node {
                    "node3" => "route replace default via fd00:31:1::1 dev eth0\n",
                    _ => "route replace default via fd00:31::1 dev eth0\n",
                };
            }
            self.lab.place(node).namespace.ip(&lines).unwrap();
        }
        // As the plugin sets it up, from the MTU it is told.
        let overhead = if self.families == Families::V6 {
            70
        } else {
            50
        };
        for (pod, number) in PODS {
            let line = format!("link set eth0 mtu {}\n", mtu - overhead);
            self.lab.place(pod).namespace.ip(&line).unwrap();
            let node = &self.lab.place(&format!("node{number}")).namespace;
            node.ip(&format!("link set p-{pod} mtu {}\n", mtu - overhead))
                .unwrap();
        }
    }

    /// Writes the Nodes as they are wired, changed by a test.
    fn apply_nodes(&self, change: impl Fn(&mut Vec<Value>)) {
        let mut nodes = self.lab.node_documents();
        let only_v6 = self.families == Families::V6;
        for node in &mut nodes {
            if node["metadata"]["name"] == "node3" {
                node["status"]["addresses"] = json!([
                    {"type": "InternalIP", "address": "172.31.1.13"},
                    {"type": "InternalIP", "address": "fd00:31:1::13"},
                ]);
            }
            if only_v6 {
                let v6 = |text: &Value| text.as_str().unwrap().contains(':');
                let addresses = node["status"]["addresses"].as_array_mut().unwrap();
                addresses.retain(|address| v6(&address["address"]));
                let cidrs = node["spec"]["podCIDRs"].as_array_mut().unwrap();
                cidrs.retain(v6);
                node["spec"]["podCIDR"] = node["spec"]["podCIDRs"][0].clone();
            }
        }
        change(&mut nodes);
        self.lab.manifests().write("nodes.yaml", &nodes).unwrap();
    }

    fn options(&self, node: &str) -> AgentOptions {
        let cni = |name: &str| self.cni(node, name).display().to_string();
        let mut flags = vec![
            "--run-router".to_owned(),
            format!("--cni-conf-dir={}", cni("net.d")),
            format!("--cni-bin-dir={}", cni("bin")),
            format!("--cni-plugin={}", cni("source")),
            format!("--cni-state-dir={}", cni("leases")),
        ];
        flags.extend(self.flags.clone());
        AgentOptions {
            flags,
            ..AgentOptions::default()
        }
    }

    /// A file of a node's CNI.
    fn cni(&self, node: &str, name: &str) -> PathBuf {
        self.lab.directory().join(node).join("cni").join(name)
    }

    #[track_caller]
    fn start_agent(&mut self, node: &'static str) {
        let source = self.cni(node, "source");
        std::fs::create_dir_all(source.parent().unwrap()).unwrap();
        if !source.exists() {
            std::fs::copy(cni_program().unwrap(), &source).unwrap();
        }
        let agent = Agent::start(&self.lab, node, &self.options(node)).unwrap();
        self.agents.insert(node, agent);
    }

    fn families(&self) -> &'static [bool] {
        match self.families {
            Families::V6 => &[true],
            Families::Both => &[false, true],
        }
    }

    /// The `routing` of a node's status.
    fn routing(&self, node: &str) -> Value {
        self.agents[node].status().unwrap()["routing"].clone()
    }

    /// Waits until a node has so many routes and no failures.
    #[track_caller]
    fn await_routes(&self, node: &str, count: usize) {
        eventually("the routes are there", || {
            let routing = self.routing(node);
            let good = routing["in_kernel"] == count && routing["failures"] == json!([]);
            anyhow::ensure!(good, "{routing:#}");
            Ok(Some(()))
        })
        .unwrap();
    }

    /// Every pod reaches every other pod, and each node the pods of the others, as itself.
    #[track_caller]
    fn expect_reach(&self) {
        for v6 in self.families() {
            for (to, _) in PODS {
                for from in ["a", "b", "c", "node1", "node3"] {
                    let address = self.lab.address(to, *v6);
                    for traffic in [Traffic::connect(address, 8080), Traffic::udp(address, 8080)] {
                        let traffic = traffic.count(2).timeout_milliseconds(1000);
                        let report = Flow::run(&self.lab.uncovered(from), &traffic).unwrap();
                        assert!(
                            report.is_clean() && report.answered == 2,
                            "{from} to {to}: {report:?}"
                        );
                        if from != to && PODS.iter().any(|(pod, _)| *pod == from) {
                            let own = self.lab.address(from, *v6).to_string();
                            assert_eq!(report.seen_as.into_iter().collect::<Vec<_>>(), [own]);
                        }
                    }
                }
            }
        }
    }

    /// What `ip` prints in a node.
    fn show(&self, node: &str, arguments: &[&str]) -> String {
        self.shown("ip", node, arguments)
    }

    fn shown(&self, program: &str, node: &str, arguments: &[&str]) -> String {
        let name = self.lab.place(node).namespace.name().to_owned();
        let output = Command::new(program)
            .args(["-n", &name])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Everything of the agent's in a node's network.
    fn inventory(&self, node: &str) -> String {
        let mut text = String::new();
        for family in ["-4", "-6"] {
            text += &self.show(
                node,
                &[family, "route", "show", "table", "all", "proto", "71"],
            );
            let rules = self.show(node, &[family, "rule"]);
            text.extend(
                rules
                    .lines()
                    .filter(|line| line.starts_with("7100:"))
                    .map(|l| format!("{l}\n")),
            );
        }
        text += &self.show(node, &["neigh", "show", "dev", OVERLAY, "nud", "permanent"]);
        text += &self.shown("bridge", node, &["fdb", "show", "dev", OVERLAY]);
        let link = self.show(node, &["-d", "link", "show", "dev", OVERLAY]);
        // The index goes up when the device is made anew.
        text += link.split_once(": ").map_or("", |(_, rest)| rest);
        text
    }
}

/// Sends a stream of `bytes` from one place to another, and has it counted.
#[track_caller]
fn large_tcp(lab: &Lab, from: &str, to: &str, v6: bool, bytes: usize) {
    let address = SocketAddr::new(lab.address(to, v6), 7070);
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
    let connect = || Ok(TcpStream::connect_timeout(&address, patience)?);
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
fn large_udp(lab: &Lab, from: &str, to: &str, v6: bool) {
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
fn expect_large(network: &Network) {
    for v6 in network.families() {
        for (from, to) in [("a", "b"), ("a", "c"), ("c", "a")] {
            large_tcp(&network.lab, from, to, *v6, 20 << 20);
            large_udp(&network.lab, from, to, *v6);
        }
    }
}

#[test]
fn pods_reach_one_another_in_the_subnet_and_across_with_anything_that_fits() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    network.await_routes("node3", 4);
    network.expect_reach();
    expect_large(&network);
    let routing = network.routing("node1");
    assert_eq!(routing["pod_mtu"], 1450);
    let row = |network: &str| {
        let rows = routing["routes"].as_array().unwrap();
        rows.iter()
            .find(|row| row["network"] == network)
            .unwrap()
            .clone()
    };
    assert_eq!(row("10.244.2.0/24")["way"], "direct, via 172.31.0.12");
    assert_eq!(row("10.244.3.0/24")["way"], "overlay, to 172.31.1.13");
    assert_eq!(
        row("fd00:244:3::/64")["why"],
        "172.31.1.13 is in no network of this node"
    );
    assert_eq!(
        network.agents["node1"].metric("fairlead_routes").unwrap(),
        Some(4.0)
    );
    // An address that no pod has is not asked for at the router.
    let gone = network.show("node1", &["route", "get", "10.244.1.200"]);
    assert!(!gone.contains("eth0"), "{gone}");
}

#[test]
fn jumbo_frames_and_the_overlay_for_all() {
    let network = Network::start(Families::Both, 9000, &["--overlay-type=full"]);
    network.await_routes("node1", 4);
    network.await_routes("node2", 4);
    network.await_routes("node3", 4);
    network.expect_reach();
    expect_large(&network);
    let routing = network.routing("node1");
    assert_eq!(routing["pod_mtu"], 8950);
    let rows = routing["routes"].as_array().unwrap();
    assert!(
        rows.iter().all(|row| row["why"] == "--overlay-type full"),
        "{routing:#}"
    );
}

#[test]
fn a_cluster_of_ipv6_alone_has_its_overlay_too() {
    let network = Network::start(Families::V6, 1500, &[]);
    network.await_routes("node1", 2);
    network.await_routes("node3", 2);
    network.expect_reach();
    expect_large(&network);
    assert_eq!(network.routing("node1")["pod_mtu"], 1430);
}

#[test]
fn services_lead_through_the_overlay() {
    let network = Network::build(Families::Both, 1500, &[]);
    let service = web().endpoints(&["b", "c"]);
    network.lab.apply(&service).unwrap();
    let mut network = network;
    NODES.into_iter().for_each(|node| network.start_agent(node));
    for agent in network.agents.values_mut() {
        agent.wait_ready().unwrap();
    }
    for node in NODES {
        network.await_routes(node, 4);
    }
    for v6 in [false, true] {
        for place in [network.lab.place("a").clone(), network.lab.uncovered("a")] {
            for traffic in [
                Traffic::connect(service.ip(v6), 80),
                Traffic::udp_fresh(service.ip(v6), 80),
            ] {
                let traffic = traffic
                    .count(60)
                    .every_milliseconds(0)
                    .timeout_milliseconds(1000);
                let report = Flow::run(&place, &traffic).unwrap();
                assert!(report.is_clean(), "{report:?}");
                assert_eq!(report.backends.keys().collect::<Vec<_>>(), ["b", "c"]);
            }
        }
        // A client outside comes in at a node whose backend is behind the overlay.
        let node = network.lab.address("node1", v6);
        let traffic = Traffic::connect(node, 30080)
            .count(40)
            .every_milliseconds(0)
            .timeout_milliseconds(1000);
        let report = Flow::run(network.lab.place("client"), &traffic).unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.backends.keys().collect::<Vec<_>>(), ["b", "c"]);
    }
}

#[test]
fn nodes_come_go_and_change_their_networks() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    let witness = Flow::start(
        network.lab.place("a"),
        &Traffic::hold(network.lab.address("b", false), 8080).every_milliseconds(2),
    )
    .unwrap();
    network.apply_nodes(|nodes| nodes.retain(|node| node["metadata"]["name"] != "node3"));
    network.await_routes("node1", 2);
    assert!(
        !network.inventory("node1").contains("172.31.1.13"),
        "{}",
        network.inventory("node1")
    );
    network.apply_nodes(|nodes| {
        nodes[2]["spec"]["podCIDRs"] = json!(["10.244.33.0/24", "fd00:244:3::/64"]);
    });
    network.await_routes("node1", 4);
    let text = network.inventory("node1");
    assert!(
        text.contains("10.244.33.0/24") && !text.contains("10.244.3.0/24"),
        "{text}"
    );
    network.apply_nodes(|_| {});
    network.await_routes("node1", 4);
    eventually("the network is back", || {
        Ok(network
            .inventory("node1")
            .contains("10.244.3.0/24")
            .then_some(()))
    })
    .unwrap();
    network.await_routes("node3", 4);
    network.expect_reach();
    expect_clean(witness);
}

#[test]
fn an_agent_that_is_killed_interrupts_nothing_and_writes_nothing_when_it_is_back() {
    let mut network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    network.await_routes("node3", 4);
    let flows: Vec<_> = network
        .families()
        .iter()
        .map(|v6| {
            let to = network.lab.address("c", *v6);
            Flow::start(
                network.lab.place("a"),
                &Traffic::udp(to, 8080).every_milliseconds(2),
            )
            .unwrap()
        })
        .collect();
    let before = network.inventory("node1");
    let link = network.show("node1", &["-o", "link", "show", OVERLAY]);
    network
        .agents
        .get_mut("node1")
        .unwrap()
        .process()
        .kill()
        .unwrap();
    assert_eq!(network.inventory("node1"), before);
    network.start_agent("node1");
    network
        .agents
        .get_mut("node1")
        .unwrap()
        .wait_ready()
        .unwrap();
    network.await_routes("node1", 4);
    assert_eq!(
        network.routing("node1")["operations_total"],
        0,
        "{:#}",
        network.routing("node1")
    );
    assert_eq!(network.inventory("node1"), before);
    assert_eq!(
        network.show("node1", &["-o", "link", "show", OVERLAY]),
        link
    );
    flows.into_iter().for_each(|flow| drop(expect_clean(flow)));
}

#[test]
fn what_others_take_away_is_back_within_a_second() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    let before = network.inventory("node1");
    let node = &network.lab.place("node1").namespace;
    let fdb = "0a:f1:ac:1f:01:0d dst 172.31.1.13";
    assert!(before.contains(fdb), "{before}");
    let delete_entry = || {
        let arguments = [
            "fdb",
            "del",
            "0a:f1:ac:1f:01:0d",
            "dev",
            OVERLAY,
            "dst",
            "172.31.1.13",
            "self",
        ];
        network.shown("bridge", "node1", &arguments);
    };
    let lines = [
        "route del 10.244.3.0/24",
        "route del fd00:244:3::/64",
        "route del 10.244.2.0/24",
        "route del blackhole 10.244.1.0/24 metric 8000",
        "route del 172.31.1.13 table 71",
        "rule del pref 7100",
        "-6 rule del pref 7100",
        "neigh del 172.31.1.13 dev fairlead-vxlan",
        "link set fairlead-vxlan mtu 1000",
        "link set fairlead-vxlan down",
        "link del fairlead-vxlan",
        "fdb",
    ];
    let mut repaired = 0;
    // On two busy cores a look alone can take most of a second, so there are three tries.
    const TRIES: u32 = 3;
    for line in lines {
        let mended = (0..TRIES).any(|_| {
            match line.strip_prefix("-6 ") {
                _ if line == "fdb" => delete_entry(),
                Some(rest) => {
                    let words: Vec<_> = rest.split(' ').collect();
                    network.show("node1", &[&["-6"], &words[..]].concat());
                }
                None => node.ip(&format!("{line}\n")).unwrap(),
            }
            let at = Instant::now();
            eventually("it is mended", || {
                let now = network.inventory("node1");
                anyhow::ensure!(now == before, "{line}: {now}\nbefore: {before}");
                Ok(Some(()))
            })
            .unwrap();
            eprintln!("{line}: mended in {:?}", at.elapsed());
            at.elapsed() < MENDED
        });
        assert!(mended, "{line}");
        let now = eventually("the repair is counted", || {
            let count = network.routing("node1")["repaired_total"].as_u64().unwrap();
            Ok((count > repaired).then_some(count))
        });
        repaired = now.unwrap();
    }
    network.expect_reach();
    // What is not the agent's stays.
    node.ip("route add 10.99.0.0/16 via 172.31.0.1\nroute add 10.244.3.0/24 via 172.31.0.1\n")
        .unwrap();
    network.apply_nodes(|nodes| nodes.retain(|node| node["metadata"]["name"] != "node3"));
    network.await_routes("node1", 2);
    let routes = network.show("node1", &["route"]);
    assert!(
        routes.contains("10.99.0.0/16") && routes.contains("10.244.3.0/24 via 172.31.0.1"),
        "{routes}"
    );
}

#[test]
fn cleanup_leaves_nothing_of_the_network() {
    let mut network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    let config = network.cni("node1", "net.d/10-fairlead.conflist");
    eventually("the configuration is there", || {
        Ok(config.exists().then_some(()))
    })
    .unwrap();
    network.agents.remove("node1");
    let before = network.inventory("node1");
    let rehearsed = Agent::cleanup(&network.lab, "node1", &["--dry-run"]).unwrap();
    assert_eq!(rehearsed.code, Some(0), "{rehearsed:?}");
    assert!(
        rehearsed.output.contains("the overlay's device"),
        "{}",
        rehearsed.output
    );
    assert_eq!(network.inventory("node1"), before);
    let removed = Agent::cleanup(&network.lab, "node1", &[]).unwrap();
    assert_eq!(removed.code, Some(0), "{removed:?}");
    assert_eq!(network.inventory("node1"), "", "{}", removed.output);
    assert!(!config.exists() && !network.cni("node1", "bin/fairlead-cni").exists());
    let again = Agent::cleanup(&network.lab, "node1", &[]).unwrap();
    assert!(again.output.contains("nothing"), "{again:?}");
}
