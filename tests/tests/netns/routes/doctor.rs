//! `doctor` on nodes that are broken on purpose: each fault is found, and what it says to do mends
//! it.

#[cfg(test)]
pub(super) mod ways;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tests::harness::{Agent, Answer, eventually};

use super::{Families, Network};

/// `doctor` on the first node, of its own files: its exit status and its findings.
#[track_caller]
fn doctor(network: &Network, flags: &[&str]) -> (Option<i32>, Vec<Value>) {
    let home = network.lab.directory().join("node1");
    let path = |name: &str, path: PathBuf| format!("--{name}={}", path.display());
    let flags: Vec<String> = flags
        .iter()
        .map(|flag| (*flag).to_owned())
        .chain([
            path("socket", home.join("agent.sock")),
            path("bpf-root", network.lab.bpf_root("node1")),
            path("node-root", home),
            "--cni-conf-dir=/cni/net.d".to_owned(),
        ])
        .collect();
    let words: Vec<&str> = ["doctor", "-o", "json"]
        .into_iter()
        .chain(flags.iter().map(String::as_str))
        .collect();
    let Answer {
        code,
        output,
        error,
    } = Agent::run(&network.lab, "node1", &words).unwrap();
    let report: Value =
        serde_json::from_str(&output).unwrap_or_else(|why| panic!("{why}: {output}{error}"));
    (code, report["findings"].as_array().unwrap().clone())
}

/// Runs lines of a shell on a node.
#[track_caller]
fn shell(network: &Network, node: &str, lines: &str) {
    let namespace = network.lab.place(node).namespace.path();
    let output = Command::new("nsenter")
        .arg(format!("--net={}", namespace.display()))
        .args(["sh", "-ec", lines])
        .output()
        .unwrap();
    assert!(output.status.success(), "{lines}: {output:?}");
}

/// The command that a remedy begins with.
fn command(finding: &Value) -> String {
    let remedy = finding["remedy"].as_str().unwrap();
    remedy.split(", ").next().unwrap().to_owned()
}

/// Breaks the first node; a check finds that in words, and says what mends it.
#[track_caller]
fn expect(network: &Network, check: &str, lines: &str, verdict: &str, words: &[&str]) {
    let flags: &[&str] = match check {
        "mtu" | "reach" => &["--only", check],
        _ => &["--only", check, "--no-probe"],
    };
    let before = doctor(network, flags);
    let is_good = |(code, found): &(Option<i32>, Vec<Value>)| {
        *code == Some(0) && found.iter().all(|found| found["remedy"].is_null())
    };
    assert!(is_good(&before), "{check} before: {before:?}");
    shell(network, "node1", lines);
    let (code, found) = doctor(network, flags);
    assert_eq!(
        code,
        Some(i32::from(verdict == "failure")),
        "{check}: {found:#?}"
    );
    let finding = found.iter().find(|finding| {
        let text = finding["found"].as_str().unwrap();
        finding["verdict"] == verdict && words.iter().all(|word| text.contains(word))
    });
    let finding = finding.unwrap_or_else(|| panic!("{check}: {verdict} {words:?}: {found:#?}"));
    assert!(finding["affects"].is_string(), "{finding}");
    shell(network, "node1", &command(finding));
    let after = doctor(network, flags);
    assert!(
        is_good(&after),
        "{check} after {}: {after:?}",
        command(finding)
    );
}

#[test]
fn a_node_in_order_has_nothing_to_mend() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    network.await_routes("node3", 4);
    let (code, found) = doctor(&network, &[]);
    let wrong: Vec<_> = found
        .iter()
        .filter(|found| !found["remedy"].is_null())
        .collect();
    assert_eq!((code, wrong), (Some(0), Vec::new()));
    let unknown = found
        .iter()
        .filter(|found| found["verdict"] == "could-not-tell");
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&Value>::new());
    let of =
        |check: &str| found.iter().find(|found| found["check"] == check).unwrap()["found"].clone();
    // Two families to each of two nodes, and one of them through the overlay.
    assert_eq!(of("mtu"), "full size gets through on 5 ways");
    assert_eq!(of("reach"), "5 ways, all answered");
}

#[test]
fn settings_and_chains_that_are_in_the_way_are_found_and_mended() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    network.await_routes("node3", 4);
    let broken = |check, lines, verdict, words| expect(&network, check, lines, verdict, words);
    broken(
        "forwarding",
        "sysctl -qw net.ipv4.ip_forward=0",
        "failure",
        &["net.ipv4.ip_forward is 0"],
    );
    broken(
        "forwarding",
        "sysctl -qw net.ipv6.conf.all.forwarding=0",
        "failure",
        &["net.ipv6"],
    );
    broken(
        "forwarding",
        "sysctl -qw net.ipv4.conf.eth0.forwarding=0",
        "failure",
        &["conf.eth0"],
    );
    broken(
        "rp-filter",
        "sysctl -qw net.ipv4.conf.fairlead-vxlan.rp_filter=1",
        "warning",
        &["strict on fairlead-vxlan"],
    );
    broken(
        "bridge-netfilter",
        "sysctl -qw net.bridge.bridge-nf-call-ip6tables=0; ip link add br9 type bridge; sysctl -qw net.bridge.bridge-nf-call-iptables=1",
        "warning",
        &["call-iptables is 1", "br9"],
    );
    broken(
        "rp-filter",
        "ip link add eth9 type bridge; ip addr add 192.0.2.1/24 dev eth9; ip link set eth9 up; ip route add default via 192.0.2.2 dev eth9 metric 900; sysctl -qw net.ipv4.conf.eth9.rp_filter=2",
        "warning",
        &["strict on eth0", "several uplinks"],
    );
    broken(
        "forward-chains",
        "nft add table inet mine; nft 'add chain inet mine forward { type filter hook forward priority 0 ; policy drop ; }'",
        "failure",
        &["inet mine forward", "everything"],
    );
    broken(
        "forward-chains",
        "iptables -P FORWARD DROP",
        "failure",
        &["ip filter FORWARD"],
    );
    broken(
        "forward-chains",
        "ip6tables -P FORWARD DROP",
        "failure",
        &["ip6 filter FORWARD"],
    );
    broken(
        "forward-chains",
        "iptables-legacy -P FORWARD DROP",
        "failure",
        &["iptables-legacy"],
    );
    broken(
        "forward-chains",
        "iptables-legacy -A FORWARD -s 192.0.2.0/24 -j ACCEPT; iptables-legacy -P FORWARD DROP",
        "warning",
        &["no rule of it"],
    );
    broken(
        "forward-chains",
        "ip6tables-legacy -A FORWARD -s 2001:db8::/32 -j REJECT; ip6tables-legacy -P FORWARD DROP",
        "failure",
        &["ip6 filter FORWARD (iptables-legacy)", "everything"],
    );
    broken(
        "input-chains",
        "nft 'add chain inet mine input { type filter hook input priority 0 ; policy drop ; }'; nft add rule inet mine input tcp dport 22 accept",
        "warning",
        &["inet mine input"],
    );
    shell(&network, "node1", "nft delete table inet mine");
    broken(
        "overlay-port",
        "ip link add vx9 type vxlan id 9 dstport 4789 local 172.31.0.11",
        "warning",
        &["vx9", "4789"],
    );
}

#[test]
fn a_last_rule_that_drops_is_as_good_as_a_policy_and_leftovers_are_told_by_name() {
    let network = Network::start(Families::Both, 1500, &[]);
    shell(
        &network,
        "node1",
        "nft add table inet firewalld
         nft 'add chain inet firewalld filter_FORWARD { type filter hook forward priority 10 ; policy accept ; }'
         nft add rule inet firewalld filter_FORWARD ct state established accept
         nft add rule inet firewalld filter_FORWARD counter reject
         iptables -N KUBE-POD-FW-ABC
         iptables-legacy -N KUBE-SERVICES
         ip link add cilium_host type bridge",
    );
    let (code, found) = doctor(&network, &["--no-probe"]);
    assert_eq!(code, Some(1));
    let wrong = |check: &str| {
        let of_check = found.iter().filter(|found| found["check"] == check);
        let text = |key: &str, found: &Value| found[key].as_str().unwrap_or_default().to_owned();
        of_check
            .map(|found| (text("found", found), text("remedy", found)))
            .collect::<Vec<_>>()
    };
    let [(text, remedy)] = &wrong("forward-chains")[..] else {
        panic!("{found:#?}");
    };
    assert!(
        text.contains("firewalld filter_FORWARD drops what no rule"),
        "{text}"
    );
    assert!(remedy.starts_with("firewall-cmd"), "{remedy}");
    let left: Vec<_> = wrong("leftover-chains")
        .into_iter()
        .map(|(text, _)| text)
        .collect();
    assert_eq!(
        left,
        [
            "there are chains of kube-proxy",
            "there are chains of kube-router"
        ]
    );
    assert!(wrong("other-dataplanes")[0].0.contains("cilium_host"));
}

#[test]
fn files_and_objects_that_are_in_the_way_are_found_and_mended() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    let home = network.lab.directory().join("node1");
    let only = |check: &str| doctor(&network, &["--no-probe", "--only", check]);
    let own = home.join("cni/net.d/10-fairlead.conflist");
    eventually("the configuration is there", || {
        Ok(own.exists().then_some(()))
    })
    .unwrap();

    let foreign = own.with_file_name("05-other.conflist");
    fs::write(&foreign, r#"{"plugins": [{"type": "bridge"}]}"#).unwrap();
    let (code, found) = only("cni-configuration");
    assert_eq!(code, Some(1));
    assert_eq!(
        found[0]["found"],
        "05-other.conflist comes before 10-fairlead.conflist"
    );
    fs::remove_file(&foreign).unwrap();
    assert_eq!(only("cni-configuration").0, Some(0));

    assert_eq!(only("networkd").1[0]["verdict"], "not-applicable");
    fs::create_dir_all(home.join("run/systemd/netif")).unwrap();
    fs::write(home.join("run/systemd/netif/state"), "").unwrap();
    let (code, found) = only("networkd");
    assert_eq!(code, Some(1), "{found:#?}");
    fs::create_dir_all(home.join("etc/systemd/networkd.conf.d")).unwrap();
    fs::write(
        home.join("etc/systemd/networkd.conf.d/fairlead.conf"),
        "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n",
    )
    .unwrap();
    assert_eq!(only("networkd").1[0]["verdict"], "ok");

    network.apply_nodes(|nodes| {
        nodes[1]["spec"]["podCIDRs"] = json!(["10.244.1.128/25", "fd00:244:2::/64"]);
    });
    eventually("the overlap is found", || {
        let (code, found) = only("pod-networks");
        anyhow::ensure!(code == Some(1), "{found:#?}");
        let text = found[0]["found"].as_str().unwrap();
        assert_eq!(
            text,
            "10.244.1.0/24 of this node overlaps 10.244.1.128/25 of node node2"
        );
        Ok(Some(()))
    })
    .unwrap();
    network.apply_nodes(|_| {});
    eventually("it is gone", || {
        Ok((only("pod-networks").0 == Some(0)).then_some(()))
    })
    .unwrap();
}

#[test]
fn before_an_agent_runs_what_would_stop_it_is_found() {
    let mut network = Network::build(Families::Both, 1500, &[]);
    // As the first agent leaves it.
    shell(
        &network,
        "node1",
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
    );
    let (code, found) = doctor(&network, &[]);
    assert_eq!(code, Some(0), "{found:#?}");
    let of = |found: &[Value], check: &str| {
        let of_check = found.iter().find(|found| found["check"] == check);
        of_check.unwrap().clone()
    };
    for check in ["pod-networks", "mtu", "reach", "agent", "api-server"] {
        let finding = of(&found, check);
        assert_eq!(finding["verdict"], "could-not-tell", "{finding}");
    }
    let no_server = ["--only=api-server", "--master=https://127.0.0.1:1"];
    let (code, found) = doctor(&network, &no_server);
    assert_eq!(code, Some(1), "{found:#?}");
    assert!(
        found[0]["found"]
            .as_str()
            .unwrap()
            .contains("https://127.0.0.1:1"),
        "{found:#?}"
    );
    let no_such = Agent::run(&network.lab, "node1", &["doctor", "--only", "luck"]).unwrap();
    assert!(
        no_such.error.contains("`luck`") && no_such.code == Some(1),
        "{no_such:?}"
    );

    // Neither the device nor the port can be had: the agent's overlay would not come up.
    shell(
        &network,
        "node1",
        "ip link add vx9 type vxlan id 7100 dstport 4789 local 172.31.0.11",
    );
    let (code, found) = doctor(&network, &["--only", "overlay-port"]);
    assert_eq!(code, Some(1));
    assert!(
        found[0]["found"]
            .as_str()
            .unwrap()
            .contains("identifier 7100"),
        "{found:#?}"
    );
    network.start_agent("node1");
    eventually("the agent says so too", || {
        let (code, found) = doctor(&network, &["--only", "agent", "--no-probe"]);
        anyhow::ensure!(code == Some(1), "{found:#?}");
        Ok(Some(()))
    })
    .unwrap();
    shell(&network, "node1", &command(&found[0]));
    assert_eq!(doctor(&network, &["--only", "overlay-port"]).0, Some(0));
    network.await_routes("node1", 4);
}
