//! A node made of nothing but tables, routes and programs.

mod run;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use agent::desired::LbService;
use agent::lb::ebpf::addresses::Addresses;
use agent::lb::ebpf::image::Tables;
use agent::lb::ebpf::programs::{Limits, PolicyLimits, Programs};
use agent::sys::map::{List, Table, per_cpu_sums};
use agent_abi::Address;
use agent_abi::counters::{COUNTERS, COUNTERS_MAP, Counter};
use agent_abi::service::ADDRESSES_MAP;
use agent_abi::settings::{SETTINGS_MAP, SettingsV2};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::thread::UnshareFlags;

pub(crate) use run::At;
pub(crate) use services::{backend, edit_backends, set_direct, set_nodes};

/// The node: an uplink (172.31.0.1, fd00::1) with a default route, and a pod 10.244.1.5 /
/// fd00:10::5 behind its own interface.
pub(crate) struct Lab {
    programs: Programs,
    pub(crate) pins: PathBuf,
    directory: tempfile::TempDir,
    pub(crate) uplink: u32,
    pub(crate) pod: u32,
    tables: Tables,
    addresses: Addresses,
    units: BTreeMap<u32, LbService>,
}

const NETWORK: &str = "
link add uplink type veth peer name switch
link add pod type veth peer name inner
addr add 172.31.0.1/24 dev uplink
addr add fd00::1/64 dev uplink nodad
link set lo up
link set uplink up
link set switch up
link set pod up
link set inner up
route add default via 172.31.0.254
route add default via fd00::fe
route add 10.244.1.5 dev pod
route add fd00:10::5 dev pod
";

impl Lab {
    /// A fresh node, of this test's thread alone. The object must have been built.
    pub(crate) fn new() -> Self {
        Self::sized(1024)
    }

    /// The same, with room for so many entries of connections that work.
    pub(crate) fn sized(connections: u32) -> Self {
        Self::made(connections, false)
    }

    /// The same with network policy, and no tables of it.
    pub(crate) fn policed() -> Self {
        Self::policed_sized(1024)
    }

    /// The same, with room for so many entries of connections that work.
    pub(crate) fn policed_sized(connections: u32) -> Self {
        Self::made(connections, true)
    }

    /// The same with the programs of `--debug-programs`.
    pub(crate) fn debugged() -> Self {
        Self::of_object(agent::lb::ebpf::DEBUG_OBJECT, 1024, true)
    }

    fn made(connections: u32, policed: bool) -> Self {
        Self::of_object(agent::lb::ebpf::OBJECT, connections, policed)
    }

    fn of_object(object: Option<&[u8]>, connections: u32, policed: bool) -> Self {
        // Namespaces of a thread: they go with it, and no other test sees them.
        #[expect(
            unsafe_code,
            reason = "unshare is unsafe where a thread shares file descriptors"
        )]
        // SAFETY: neither flag touches file descriptors, which is what the caller has to mind.
        unsafe {
            rustix::thread::unshare_unsafe(
                UnshareFlags::NEWNET | UnshareFlags::NEWNS | UnshareFlags::FS,
            )
        }
        .expect("the bpf lane needs root");
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .unwrap();
        let directory = tempfile::tempdir().unwrap();
        mount(
            "bpf",
            directory.path(),
            "bpf",
            MountFlags::empty(),
            None::<&std::ffi::CStr>,
        )
        .unwrap();
        let pins = directory.path().join("maps");
        network(NETWORK);
        for sysctl in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{sysctl}"), "1").unwrap();
        }
        let limits = Limits {
            services: 64,
            backends: 256,
            connections,
            policy: policed.then(PolicyLimits::default),
        };
        let object = object.expect("no eBPF programs in this build; run `cargo xtask build` first");
        let programs = Programs::load(object, &pins, limits).unwrap();
        let mut lab = Self {
            programs,
            pins,
            uplink: index("uplink"),
            pod: index("pod"),
            directory,
            tables: Tables::new(1, 1, 1),
            addresses: Addresses::default(),
            units: BTreeMap::new(),
        };
        lab.configure(0, [0; 16], 0);
        lab.know_nodes();
        lab
    }

    /// A directory on this node's bpffs.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn programs(&mut self) -> &mut Programs {
        &mut self.programs
    }

    /// Writes the node's settings.
    pub(crate) fn configure(&self, flags: u32, cluster_v4: Address, cluster_v4_bits: u32) {
        self.settings(|settings| {
            settings.flags = flags;
            settings.cluster_v4 = cluster_v4;
            settings.cluster_v4_bits = cluster_v4_bits;
        });
    }

    /// Writes the node's settings as they are by default, but for a change.
    pub(crate) fn settings(&self, change: impl FnOnce(&mut SettingsV2)) {
        let mut settings = SettingsV2 {
            node_v4: address("172.31.0.1"),
            node_v6: address("fd00::1"),
            cluster_v4: [0; 16],
            cluster_v6: [0; 16],
            cluster_v4_bits: 0,
            cluster_v6_bits: 0,
            flags: 0,
            tcp_seconds: 86_400,
            tcp_closing_seconds: 10,
            udp_seconds: 120,
            mtu: 1500,
            overlay_port: [0; 2],
            _pad: [0; 2],
        };
        change(&mut settings);
        List::open(&self.pins, SETTINGS_MAP)
            .unwrap()
            .set(0, settings)
            .unwrap();
    }

    /// The cluster's nodes: this one and a second.
    #[track_caller]
    fn know_nodes(&mut self) {
        let mut map = Table::open(&self.pins, ADDRESSES_MAP).unwrap();
        let nodes = ["172.31.0.1", "172.31.0.2", "fd00::1", "fd00::2"];
        let nodes =
            nodes.map(|node: &str| agent::lb::ebpf::entries::address(node.parse().unwrap()));
        for change in self.addresses.set_nodes(BTreeSet::from(nodes)) {
            change.write(&mut map).unwrap();
        }
    }

    /// Value of a counter.
    pub(crate) fn counter(&self, counter: Counter) -> u64 {
        let position = COUNTERS.iter().position(|(c, _)| *c == counter).unwrap();
        per_cpu_sums(&self.pins, COUNTERS_MAP).unwrap()[position]
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The directory below can be removed only once nothing is mounted on it.
        if let Err(error) = unmount(self.directory.path(), UnmountFlags::DETACH) {
            eprintln!("the bpffs of a test stays mounted: {error}");
        }
    }
}

/// An address as the tables have it.
pub(crate) fn address(text: &str) -> Address {
    match text.parse().unwrap() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Runs `ip -batch` in this thread's namespace.
#[track_caller]
pub(crate) fn network(batch: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), batch).unwrap();
    let status = Command::new("ip")
        .arg("-batch")
        .arg(file.path())
        .status()
        .unwrap();
    assert!(status.success(), "ip -batch failed");
}

/// Index of an interface in this thread's namespace.
#[track_caller]
pub(crate) fn index(name: &str) -> u32 {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    );
    rustix::net::netdevice::name_to_index(socket.unwrap(), name).unwrap()
}
