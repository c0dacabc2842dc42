//! Debian's `portmap` after `fairlead-cni`, as a runtime chains them.

use std::net::IpAddr;

use serde_json::{Value, json};
use tests::harness::CniNode;

use crate::reach::{addresses, tcp_at};

fn list(node: &CniNode, version: &str, ranges: &[&str]) -> Vec<Value> {
    let ours = node.config(&json!({"cniVersion": version, "ranges": ranges}));
    let portmap = json!({"cniVersion": version, "name": "pods", "type": "portmap",
        "runtimeConfig": {"portMappings": [
            {"hostPort": 18080, "containerPort": 8080, "protocol": "tcp"}]}});
    vec![ours.unwrap(), portmap]
}

#[test]
fn a_port_of_the_node_leads_to_the_pod_and_is_taken_back() {
    let node = CniNode::new().unwrap();
    let names = ["c1".to_owned(), "c2".to_owned()];
    node.create(&names).unwrap();
    let uplink = "link add up0 type veth peer name up1\nlink set up0 up\nlink set up1 up\n\
                  addr add 192.168.7.1/24 dev up0\n";
    node.namespace.ip(uplink).unwrap();
    let before = node.inventory().unwrap();
    let both = ["10.244.1.0/24", "fd00:10:244:1::/64"];
    for (version, ranges) in [
        ("0.3.1", &both[..]),
        ("0.4.0", &both[..1]),
        ("1.0.0", &both),
    ] {
        let list = list(&node, version, ranges);
        let result = node.attach("c1", &list).unwrap();
        assert_eq!(result["cniVersion"], version);
        assert_eq!(addresses(&result).len(), ranges.len());
        let plain = node
            .invoke("ADD", "c2", &list[0])
            .unwrap()
            .result()
            .unwrap();
        // That of portmap 1.1.1 looks for IPv4's rules in IPv6's table too, and fails.
        if version != "0.3.1" {
            node.after("CHECK", "c1", &list[..1], &result).unwrap();
        }
        let of_node: IpAddr = "192.168.7.1".parse().unwrap();
        let client = addresses(&plain)[0];
        let seen = tcp_at(
            &node.container("c2"),
            &node.container("c1"),
            8080,
            (of_node, 18080).into(),
        );
        assert_eq!(seen.unwrap(), client, "{version}");
        node.after("DEL", "c1", &list, &result).unwrap();
        node.after("DEL", "c2", &list[..1], &plain).unwrap();
        assert_eq!(node.inventory().unwrap(), before, "{version}");
    }
}
