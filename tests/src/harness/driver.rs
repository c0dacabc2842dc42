//! What a lab's interfaces need before their drivers send packets on (XDP).

use agent::lb::ebpf::attach::{Side, Target};
use agent::lb::ebpf::programs::{Limits, Programs};
use agent::lb::ebpf::xdp::Edge;
use anyhow::{Context, Result, ensure};

use super::Lab;

/// Makes the router take what a node's driver sends. A veth gives such a packet to nobody, unless it has an
/// XDP program itself. This one, without Services, passes everything. It stays until the router goes.
///
/// # Errors
/// Where the kernel refuses the program.
pub fn let_the_router_receive(lab: &Lab, node: &str) -> Result<()> {
    let pins = lab.bpf_root("node2").join("router");
    lab.router().run(|| {
        let limits = Limits {
            services: 1,
            backends: 1,
            connections: 1,
            policy: None,
        };
        let object = agent::lb::ebpf::OBJECT.context("the agent has no eBPF programs")?;
        let mut programs = Programs::load(object, &pins.join("maps"), limits)?;
        let links = pins.join("links");
        std::fs::create_dir(&links)?;
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::DGRAM,
            None,
        )?;
        let target = Target {
            index: rustix::net::netdevice::name_to_index(socket, node)?,
            name: node.into(),
            side: Side::Uplink,
        };
        let mut edge = Edge::new(links);
        let refused = edge.follow(&mut programs, &[target]);
        ensure!(refused.is_empty(), "{refused:?}");
        Ok(())
    })
}

/// Makes the client compute its checksums. A veth leaves that to the receiver, and what XDP sends on has
/// lost the note of it; cards have no such notes.
///
/// # Errors
/// Where the rule is refused.
pub fn complete_checksums(lab: &Lab) -> Result<()> {
    for program in ["iptables", "ip6tables"] {
        let rule = "-t mangle -A POSTROUTING -j CHECKSUM --checksum-fill".split(' ');
        let status = lab.place("client").command(program).args(rule).status();
        let status = status.with_context(|| format!("{program} cannot be run"))?;
        ensure!(status.success(), "{program}: {status}");
    }
    Ok(())
}
