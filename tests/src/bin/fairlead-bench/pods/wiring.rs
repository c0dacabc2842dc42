//! How the pods of a lab are wired beside what the lab makes of itself.

use anyhow::Result;
use tests::harness::Lab;

/// What VXLAN takes of the uplink's 1500 bytes (RFC 7348 §5).
const MTU_IN_VXLAN: u32 = 1450;
/// The network of the tunnel's own addresses.
const TUNNEL: &str = "10.255.0";

/// Pods of the lab's nodes: name, and number of the node.
pub(super) const PODS: [(&str, u8); 3] = [("near", 1), ("beside", 1), ("far", 2)];

fn of_node(node: u8) -> impl Iterator<Item = &'static str> {
    let pods = PODS.iter().filter(move |(_, on)| *on == node);
    pods.map(|(pod, _)| *pod)
}

/// Puts the pods of each node behind a bridge, as the plugins `bridge` and `host-local` do: one network
/// a node, whose gateway is the bridge.
pub(super) fn bridge(lab: &Lab) -> Result<()> {
    for node in [1, 2] {
        let gateway = format!("10.244.{node}.1");
        let mut lines = format!(
            "link add kube-bridge type bridge\naddr add {gateway}/24 dev kube-bridge\n\
             link set kube-bridge up\n"
        );
        for (index, pod) in of_node(node).enumerate() {
            let address = lab.address(pod, false);
            lines += &format!(
                "route del {address} dev p-{pod}\nlink set p-{pod} address 02:0b:00:00:0{node}:0{index}\n\
                 link set p-{pod} master kube-bridge\n"
            );
            lab.place(pod).namespace.ip(&format!(
                "addr flush dev eth0 scope global\naddr add {address}/24 dev eth0\n\
                 route replace default via {gateway}\n"
            ))?;
        }
        lab.place(&format!("node{node}")).namespace.ip(&lines)?;
    }
    Ok(())
}

/// Makes room in the pods' packets for the tunnel's headers.
pub(super) fn shrink(lab: &Lab) -> Result<()> {
    for (pod, node) in PODS {
        let node = lab.place(&format!("node{node}"));
        let line = |link: &str| format!("link set {link} mtu {MTU_IN_VXLAN}\n");
        node.namespace.ip(&line(&format!("p-{pod}")))?;
        lab.place(pod).namespace.ip(&line("eth0"))?;
    }
    Ok(())
}

/// Takes the routes between the nodes' pods away.
pub(super) fn without_routes(lab: &Lab) -> Result<()> {
    for (node, other) in [(1, 2), (2, 1)] {
        let place = lab.place(&format!("node{node}"));
        place
            .namespace
            .ip(&format!("route del 10.244.{other}.0/24\n"))?;
    }
    Ok(())
}

/// A tunnel between the two nodes, and the routes through it.
pub(super) fn vxlan(lab: &Lab) -> Result<()> {
    for (node, other) in [(1, 2), (2, 1)] {
        let address = |node: u8| lab.address(&format!("node{node}"), false);
        let place = lab.place(&format!("node{node}"));
        place.namespace.ip(&format!(
            "link add vxlan type vxlan id 42 dstport 4789 local {} remote {}\n\
             addr add {TUNNEL}.{node}/24 dev vxlan\nlink set vxlan mtu {MTU_IN_VXLAN} up\n\
             route add 10.244.{other}.0/24 via {TUNNEL}.{other} dev vxlan\n",
            address(node),
            address(other)
        ))?;
    }
    Ok(())
}
