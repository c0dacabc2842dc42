//! An edge node: a machine beside the nodes that runs no agent, and has routes to all pods.

use std::fs;
use std::net::IpAddr;

use anyhow::Result;

use super::{Lab, Namespace, Place, address, cgroup, namespace, wiring};

/// Its name among the lab's namespaces and cgroups.
const NAME: &str = "edge";

impl Lab {
    /// Adds the edge node, and a directory `edge` for its files. It goes with the lab.
    pub fn add_edge_node(&self) -> Result<Place> {
        let mut place = self.client.in_cgroup(self.cgroup.join(NAME));
        NAME.clone_into(&mut place.name);
        place.namespace = Namespace::of(&self.name, NAME);
        cgroup::create(&place.cgroup)?;
        fs::create_dir(self.directory().join(NAME))?;
        let own = place.namespace.name();
        namespace::batch(
            &[],
            &format!(
                "netns add {own}\nlink add eth0 netns {own} type veth peer name {NAME} netns {}\n",
                self.router.name()
            ),
        )?;
        self.router.ip(&format!(
            "link set {NAME} master nodes\nlink set {NAME} up\n"
        ))?;
        let mut lines = "link set lo up\nlink set eth0 up\n".to_owned();
        for (v4, v6) in address::EDGE {
            lines += &format!("addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\n");
        }
        lines += &wiring::way_out();
        lines += &self.routes_to_pods(|_| true);
        place.namespace.ip(&lines)?;
        self.router.ip(&self.routes_elsewhere())?;
        Ok(place)
    }

    /// Addresses of the edge node for its first and its second proxy.
    pub fn edge_addresses(&self) -> [[IpAddr; 2]; 2] {
        address::EDGE.map(address::both)
    }
}
