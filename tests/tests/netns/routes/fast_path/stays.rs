//! What stays with the host's stack, or goes to nobody.

use super::*;

#[test]
fn nothing_skips_the_stack_where_it_is_turned_off() {
    let flags = ["--fast-path=false"];
    let network = Network::start(Families::Both, 1500, &flags);
    let before = network.forwarded("node1");
    for to in TARGETS {
        large_tcp(&network.lab, "a", to, false, 1 << 20);
    }
    assert_eq!(network.skipped("node1"), 0);
    assert!(network.forwarded("node1") - before > 30);
    let row = network.agents["node1"].status().unwrap()["fast_path"].clone();
    assert_eq!(row["off"], "--fast-path=false");
}

#[test]
fn a_pods_packets_go_to_no_other_that_has_its_interfaces_index() {
    let mut network = Network::start(Families::Both, 1500, &[]);
    network.await_fast_paths();
    let (a, d) = (
        network.lab.address("a", false),
        network.lab.address("d", false),
    );
    let socket = || Ok(UdpSocket::bind((a, 0))?);
    let socket = network.lab.place("a").namespace.run(socket).unwrap();
    let send = |count| {
        for _ in 0..count {
            // That nobody is there may be told to the sender.
            let _told = socket.send_to(b"late", (d, 4000));
        }
    };
    send(10);
    // Nobody tells the tables of what comes.
    let agent = network.agents.get_mut("node1").unwrap();
    agent.process().kill().unwrap();
    let link = network.show("node1", &["-o", "link", "show", "p-d"]);
    let index = link.split(':').next().unwrap().trim().to_owned();
    let node = network.lab.place("node1").namespace.clone();
    let name = network.lab.place("d").namespace.name().to_owned();
    let stranger = "10.244.1.77";
    node.ip("link del p-d\n").unwrap();
    thread::sleep(FORGOTTEN);
    node.ip(&format!(
        "link add p-e index {index} type veth peer name eth0 netns {name}\nlink set p-e up\n\
         route add {stranger} dev p-e\n"
    ))
    .unwrap();
    let pod = &network.lab.place("d").namespace;
    pod.ip(&format!(
        "addr add {stranger}/32 dev eth0\nlink set eth0 up\n"
    ))
    .unwrap();
    // Received by any interface, but not for itself.
    let strange = || {
        let text = fs::read_to_string("/proc/thread-self/net/snmp")?;
        let mut rows = text.lines().filter(|line| line.starts_with("Ip:"));
        let (names, values) = (rows.next().unwrap_or(""), rows.next().unwrap_or(""));
        let pairs = names.split(' ').zip(values.split(' '));
        let of = |wanted: &str| pairs.clone().find(|(name, _)| *name == wanted);
        let value = of("InReceives").and_then(|(_, value)| value.parse::<u64>().ok());
        Ok(value.unwrap_or(u64::MAX))
    };
    let before = pod.run(strange).unwrap();
    for _ in 0..20 {
        send(10);
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(pod.run(strange).unwrap(), before);
}

#[test]
fn what_the_hosts_netfilter_translates_stays_with_it() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_fast_paths();
    let d = network.lab.address("d", false);
    let node = network.lab.address("node1", false);
    let ruleset = format!(
        "table ip other {{\n chain pre {{\n type nat hook prerouting priority -100;\n \
         ip daddr {node} tcp dport 7777 dnat to {d}:8080\n }}\n}}\n"
    );
    let file = network.lab.directory().join("nat.nft");
    fs::write(&file, ruleset).unwrap();
    let loaded = network
        .lab
        .place("node1")
        .command("nft")
        .arg("-f")
        .arg(&file)
        .status()
        .unwrap();
    assert!(loaded.success());
    for from in ["a", "b", "c"] {
        let traffic = Traffic::connect(node, 7777)
            .count(5)
            .timeout_milliseconds(1000);
        let report = Flow::run(&network.lab.uncovered(from), &traffic).unwrap();
        assert!(
            report.is_clean() && report.answered == 5,
            "{from}: {report:?}"
        );
    }
}

#[test]
fn nothing_skips_the_stack_of_a_host_that_encrypts() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_fast_paths();
    let ip = |what: &str| {
        let policy = format!("xfrm policy {what} src 10.244.1.0/24 dst 10.244.2.0/24 dir fwd");
        let node = network.lab.place("node1").namespace.name().to_owned();
        let status = Command::new("ip")
            .args(["-n", &node])
            .args(policy.split(' '))
            .status();
        assert!(status.unwrap().success(), "{policy}");
    };
    ip("add");
    let off = || network.agents["node1"].status().unwrap()["fast_path"]["off"].clone();
    eventually("it is off", || {
        let told = off().as_str().is_some_and(|why| why.contains("IPsec"));
        Ok(told.then_some(()))
    })
    .unwrap();
    let before = network.skipped("node1");
    large_tcp(&network.lab, "a", "b", false, 1 << 20);
    assert_eq!(network.skipped("node1"), before);
    ip("delete");
    eventually("it is on", || Ok(off().is_null().then_some(()))).unwrap();
}
