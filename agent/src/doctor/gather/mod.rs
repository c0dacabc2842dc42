//! Reads the node, and asks a running agent: the edge of `doctor`.

mod files;
mod network;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::time::Duration;

use model_watch::kube_source;

use super::facts::{Agent, Facts, Pins, Seen, Unseen};
use crate::cleanup::MAPS;
use crate::config::arguments::DoctorArguments;
use crate::control::client;
use crate::lb::ebpf::layout::{self, LayoutError};
use crate::probe::Capabilities;
use crate::sys::links::Link;
use crate::sys::{bpffs, firewall, kinds, links, sysctl, vxlan};

/// An API server that does not answer by then is as good as none.
const PATIENCE: Duration = Duration::from_secs(3);

/// Settings that are looked at whatever there is.
const SETTINGS: [&str; 8] = [
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.conf.all.rp_filter",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
    "net.ipv4.ip_local_port_range",
];

/// Reads everything.
pub fn gather(arguments: &DoctorArguments) -> Facts {
    let agent = agent(arguments);
    let links: Seen<Vec<Link>> = alone(links::now()).and_then(seen);
    let interfaces: Vec<&Link> = links.iter().flatten().collect();
    let files = files::Files {
        root: &arguments.node_root,
    };
    let paths = if arguments.no_probe {
        Err(Unseen(
            "--no-probe: nothing is sent to other nodes".to_owned(),
        ))
    } else {
        network::paths(&agent, &interfaces)
    };
    Facts {
        node: seen(Capabilities::of_this_node()),
        kernel: files::kernel(),
        btf: std::path::Path::new("/sys/kernel/btf/vmlinux").exists(),
        kinds: what(kinds::try_all(), "no network namespace to try in"),
        missing_bpffs: what(
            bpffs::missing_mount(&arguments.bpf_root),
            "the file systems of --bpf-root",
        ),
        pins: pins(arguments),
        memlock: rustix::process::getrlimit(rustix::process::Resource::Memlock).current,
        inotify: inotify(),
        sysctls: sysctls(&interfaces),
        vxlans: alone(vxlan::devices()).and_then(seen),
        udp_ports: files::ports(["udp", "udp6"], None),
        tcp_ports: files::ports(["tcp", "tcp6"], Some(files::LISTENS)),
        nft: what(firewall::nft_chains(), "chains of nftables"),
        legacy: what(firewall::legacy_chains(), "chains of iptables-legacy"),
        ipvs: files::ipvs(),
        networkd: files.networkd(),
        network_manager: files.network_manager(),
        configurations: files.configurations(&arguments.cni_conf_dir),
        servers: servers(arguments, agent.is_ok()),
        paths,
        vxlan: (arguments.overlay_vni, arguments.overlay_encap_port),
        health_port: arguments.health_addr.0.map_or(0, |address| address.port()),
        agent,
        links,
    }
}

fn agent(arguments: &DoctorArguments) -> Seen<Agent> {
    let socket = &arguments.view.socket;
    Ok(Agent {
        status: seen(client::ask(socket, "/v1/status"))?,
        network: seen(client::ask(socket, "/v1/network"))?,
    })
}

fn pins(arguments: &DoctorArguments) -> Seen<Pins> {
    let pins = arguments.bpf_root.join(MAPS);
    match layout::check(&pins) {
        Err(error @ LayoutError::Strange { .. }) => Ok(Pins::Strange(error.to_string())),
        Err(error) => seen(Err(error)),
        Ok(()) if seen(layout::is_due(&pins))? => Ok(Pins::Copied),
        Ok(()) => Ok(Pins::Ours),
    }
}

fn inotify() -> Seen<bool> {
    use rustix::fs::inotify::{CreateFlags, init};
    match init(CreateFlags::CLOEXEC) {
        Ok(_instance) => Ok(true),
        Err(rustix::io::Errno::MFILE) => Ok(false),
        Err(error) => seen(Err(error)),
    }
}

fn sysctls(links: &[&Link]) -> BTreeMap<String, Seen<Option<String>>> {
    let of_links = links.iter().flat_map(|link| {
        let setting = |name: &str| sysctl::of_interface("ipv4", &link.name, name);
        [setting("forwarding"), setting("rp_filter")]
    });
    let fixed = SETTINGS.iter().map(|name| (*name).to_owned());
    fixed
        .chain(of_links)
        .map(|name| {
            let value = what(sysctl::get(&name), &name);
            (name, value)
        })
        .collect()
}

/// API servers where no agent says how it does with them.
fn servers(arguments: &DoctorArguments, runs: bool) -> Seen<Vec<(String, Result<String, String>)>> {
    if runs {
        return Ok(Vec::new());
    }
    let mut options = kube_source::Options {
        master: arguments.master.clone(),
        kubeconfig: arguments.kubeconfig.clone(),
        ..Default::default()
    };
    options.timing.connect = PATIENCE;
    options.timing.answer = PATIENCE;
    match alone(kube_source::reach(&options))? {
        Err(kube_source::Error::NotConfigured) => Err(Unseen(
            "no agent runs, and no API server is named; name one with --kubeconfig or --master"
                .to_owned(),
        )),
        other => seen(other),
    }
}

/// Does one thing in a runtime of its own.
fn alone<T>(work: impl Future<Output = T>) -> Seen<T> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = seen(builder.enable_all().build())?;
    Ok(runtime.block_on(work))
}

fn seen<T, E: std::error::Error>(result: Result<T, E>) -> Seen<T> {
    result.map_err(|error| Unseen(crate::applier::with_causes(&error)))
}

/// The same of something that the error does not name.
fn what<T>(result: io::Result<T>, name: impl Display) -> Seen<T> {
    let hint = |error: &io::Error| {
        let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
        if is_denied {
            "; run this command as root"
        } else {
            ""
        }
    };
    result.map_err(|error| Unseen(format!("{name}: cannot be read: {error}{}", hint(&error))))
}
