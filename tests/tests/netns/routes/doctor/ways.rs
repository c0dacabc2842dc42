//! Ways to other nodes, outside of the overlay and through it.

use super::*;

#[test]
fn a_smaller_mtu_on_the_way_is_found_with_its_size() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    network.await_routes("node3", 4);
    // A bridge drops what does not fit into a port and tells nobody; a router tells, and it does
    // not help what may not be fragmented.
    for link in ["node2", "node3"] {
        let middle = |mtu: u32| {
            let line = format!("link set {link} mtu {mtu}\n");
            network.lab.router().ip(&line).unwrap();
        };
        middle(1400);
        let (code, found) = doctor(&network, &["--only", "mtu"]);
        assert_eq!(code, Some(1), "{found:#?}");
        for finding in &found {
            let text = finding["found"].as_str().unwrap();
            let expected = format!("packets of 1500 bytes by eth0 do not reach {link}");
            assert!(
                text.contains(&expected) && text.contains("1400 bytes do"),
                "{text}"
            );
        }
        assert_eq!(found.len(), 2, "one of each family: {found:#?}");
        shell(&network, "node1", &command(&found[0]));
        eventually("it passes", || {
            let (code, found) = doctor(&network, &["--only", "mtu"]);
            anyhow::ensure!(code == Some(0), "{found:#?}");
            Ok(Some(()))
        })
        .unwrap();
        middle(1500);
        shell(&network, "node1", "ip link set eth0 mtu 1500");
        eventually("the agent has followed", || {
            Ok((network.routing("node1")["pod_mtu"] == 1450).then_some(()))
        })
        .unwrap();
    }
}

/// Adds a rule to what the router forwards.
#[track_caller]
fn on_the_way(network: &Network, rule: &str) {
    let namespace = network.lab.router().path();
    let lines = format!(
        "nft add table inet middle
         nft 'add chain inet middle forward {{ type filter hook forward priority 0 ; policy accept ; }}'
         nft add rule inet middle forward {rule}"
    );
    let output = Command::new("nsenter")
        .arg(format!("--net={}", namespace.display()))
        .args(["sh", "-ec", &lines])
        .output()
        .unwrap();
    assert!(output.status.success(), "{lines}: {output:?}");
}

#[test]
fn what_the_overlay_alone_does_not_get_through_is_found_with_its_size() {
    for families in [Families::Both, Families::V6] {
        let network = Network::start(families, 1500, &[]);
        let routes = network.families().len() * 2;
        network.await_routes("node1", routes);
        network.await_routes("node3", routes);
        let (protocol, size, overhead) = match families {
            Families::Both => ("ip", 1450, 50),
            Families::V6 => ("ip6", 1430, 70),
        };
        let only = |check: &str| doctor(&network, &["--only", check]);
        for check in ["mtu", "reach"] {
            let (code, found) = only(check);
            let wrong = found.iter().find(|found| found["verdict"] != "ok");
            assert_eq!((code, wrong), (Some(0), None), "{check}");
        }
        // The kernel allows the tunnel's packets to be cut: what is too long for a link gets through,
        // what a firewall takes for too long does not.
        let rule = match protocol {
            "ip" => "udp dport 4789 ip length gt 1400 drop",
            // Without its own header.
            _ => "udp dport 4789 ip6 length gt 1360 drop",
        };
        on_the_way(&network, rule);
        let (code, found) = only("mtu");
        assert_eq!((code, found.len()), (Some(1), 1), "{found:#?}");
        let text = found[0]["found"].as_str().unwrap();
        let most = 1400 - overhead;
        let expected = format!("packets of {size} bytes by fairlead-vxlan do not reach node3");
        assert!(
            text.starts_with(&expected) && text.contains(&format!("{most} bytes do")),
            "{text}"
        );
        // What it says mends it.
        let remedy = command(&found[0]);
        assert_eq!(remedy, "start the agents with --mtu=1400");
        let mut network = network;
        network.flags = vec!["--mtu=1400".to_owned()];
        network.kill_agent("node1");
        network.start_ready("node1");
        eventually("it passes", || {
            let (code, found) = doctor(&network, &["--only", "mtu"]);
            anyhow::ensure!(code == Some(0), "{found:#?}");
            Ok(Some(()))
        })
        .unwrap();

        on_the_way(&network, "udp dport 4789 drop");
        let (code, found) = doctor(&network, &["--only", "reach"]);
        assert_eq!((code, found.len()), (Some(1), 1), "{found:#?}");
        let text = found[0]["found"].as_str().unwrap();
        assert!(
            text.starts_with("node3 (") && text.ends_with("none that go through fairlead-vxlan"),
            "{text}"
        );
        let remedy = found[0]["remedy"].as_str().unwrap();
        assert!(remedy.starts_with("let UDP port 4789 through"), "{remedy}");
    }
}

/// The same of IPIP, between the first node and the third.
#[track_caller]
pub(in crate::routes) fn expect_ways_through_ipip(network: &Network) {
    // An emulated machine may not answer in time.
    let await_found = |check: &str, words: [&str; 2]| {
        eventually("doctor says so", || {
            let (_, found) = doctor(network, &["--only", check]);
            let is_it = |finding: &Value| {
                let text = finding["found"].as_str().unwrap();
                words.iter().all(|word| text.contains(word))
            };
            anyhow::ensure!(found.len() == 1 && is_it(&found[0]), "{found:#?}");
            Ok(found[0]["remedy"]
                .as_str()
                .map(str::to_owned)
                .or(Some(String::new())))
        })
        .unwrap()
    };
    await_found("mtu", ["full size gets through on 5 ways", ""]);
    await_found("reach", ["5 ways, all answered", ""]);
    on_the_way(network, "ip protocol 4 ip length gt 1400 drop");
    let narrow = "packets of 1480 bytes by fairlead-ipip do not reach node3";
    let remedy = await_found("mtu", [narrow, "1380 bytes do"]);
    assert!(
        remedy.starts_with("start the agents with --mtu=1400"),
        "{remedy}"
    );
    on_the_way(network, "ip protocol 4 drop");
    let remedy = await_found("reach", ["node3 (", "none that go through fairlead-ipip"]);
    assert!(
        remedy.starts_with("let IP in IP (protocol 4) through"),
        "{remedy}"
    );
}

#[test]
fn a_node_that_is_down_is_named() {
    let network = Network::start(Families::Both, 1500, &[]);
    network.await_routes("node1", 4);
    shell(&network, "node3", "ip link set eth0 down");
    let (code, found) = doctor(&network, &["--only", "reach"]);
    assert_eq!((code, found.len()), (Some(0), 2), "{found:#?}");
    for finding in &found {
        assert_eq!(finding["verdict"], "warning");
        let text = finding["found"].as_str().unwrap();
        assert!(text.starts_with("node3 ("), "{text}");
    }
}
