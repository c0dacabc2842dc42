//! What is between a lab's drivers where packets come as from a card: frames, of which nothing is copied.
//!
//! A veth gives its XDP program a copy of what another namespace's stack has sent, which no card does. Frames that
//! one driver hands to another (`XDP_REDIRECT`, `XDP_TX`) are taken as they are, by interfaces that have an XDP
//! program or GRO switched on.

use agent_abi::wire::WireV1;
use anyhow::{Context, Result, ensure};
use aya::maps::Array;
use aya::programs::Xdp;
use aya::programs::xdp::XdpMode;
use aya::{Ebpf, EbpfLoader};
use serde_json::Value;

use super::{Lab, Namespace};

/// A program that takes frames at a link. Dropped, it goes.
#[derive(Debug)]
pub struct Wire {
    _programs: Ebpf,
}

impl Wire {
    /// The router takes what a node's driver sends, and its stack sends it on.
    ///
    /// # Errors
    /// Where the kernel refuses the program.
    pub fn of_router(lab: &Lab, node: &str) -> Result<Self> {
        Self::attach(lab, lab.router(), node, None)
    }

    /// What the client sends reaches a node's driver as frames; all of its IPv4 goes there.
    ///
    /// # Errors
    /// Where the kernel refuses the program, or has no GRO.
    pub fn to_node(lab: &Lab, node: &str) -> Result<Self> {
        // A card has it.
        let mut gro = lab.place(node).command("ethtool");
        let status = gro.args(["--features", "eth0", "gro", "on"]).status();
        ensure!(
            status.context("ethtool cannot be run")?.success(),
            "{node}: no GRO"
        );
        let (interface, _) = link(lab.router(), node)?;
        let (_, receiver) = link(&lab.place(node).namespace, "eth0")?;
        let (_, sender) = link(lab.router(), "nodes")?;
        let onward = WireV1 {
            interface,
            receiver,
            sender,
        };
        Self::attach(lab, lab.router(), "client", Some(onward))
    }

    fn attach(lab: &Lab, namespace: &Namespace, at: &str, onward: Option<WireV1>) -> Result<Self> {
        let pins = lab.bpf_root("node2").join(format!("wire-{at}"));
        std::fs::create_dir_all(&pins)?;
        namespace.run(|| {
            let object = agent::lb::ebpf::OBJECT.context("the agent has no eBPF programs")?;
            let mut loader = EbpfLoader::new();
            let mut programs = loader.default_map_pin_directory(&pins).load(object)?;
            if let Some(onward) = onward {
                let map = programs.map_mut("WIRE").context("no map WIRE")?;
                Array::<_, [u32; 4]>::try_from(map)?.set(0, words(onward), 0)?;
            }
            let program = programs.program_mut("wire").context("no program wire")?;
            let program: &mut Xdp = program.try_into()?;
            program.load()?;
            program.attach(at, XdpMode::Driver)?;
            Ok(Self {
                _programs: programs,
            })
        })
    }
}

fn words(to: WireV1) -> [u32; 4] {
    let bytes = [&to.interface.to_ne_bytes()[..], &to.receiver, &to.sender].concat();
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    words
}

/// Index and Ethernet address of a link.
fn link(namespace: &Namespace, name: &str) -> Result<(u32, [u8; 6])> {
    let mut command = std::process::Command::new("ip");
    let output = command
        .args([
            "-json",
            "-netns",
            namespace.name(),
            "link",
            "show",
            "dev",
            name,
        ])
        .output()?;
    let links: Vec<Value> = serde_json::from_slice(&output.stdout).context("ip -json")?;
    let link = links.first().with_context(|| format!("no link {name}"))?;
    let index = link["ifindex"].as_u64().context("no index")?;
    let address = link["address"].as_str().context("no address")?;
    let bytes = address.split(':').map(|byte| u8::from_str_radix(byte, 16));
    let bytes: Vec<u8> = bytes.collect::<Result<_, _>>()?;
    let address = bytes.try_into().ok().context("no Ethernet address")?;
    Ok((u32::try_from(index)?, address))
}
