//! A node made of nothing but tables, routes and programs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::Command;

use agent::desired::{Backend, Choice, Frontend, LbService, Pool, Pools, Scope};
use agent::lb::ebpf::addresses::Addresses;
use agent::lb::ebpf::image::{Tables, dismantle, make, sweep};
use agent::lb::ebpf::maps::Maps;
use agent::lb::ebpf::programs::{Limits, PolicyLimits, Programs};
use agent::sys::map::{List, Table, per_cpu_sums};
use agent_abi::Address;
use agent_abi::connection::{CONNECTIONS_MAP, ConnectionV2, OPENING_MAP, TupleV1};
use agent_abi::counters::{COUNTERS, COUNTERS_MAP, Counter};
use agent_abi::service::{ADDRESSES_MAP, NEXT_SERVICE};
use agent_abi::settings::{SETTINGS_MAP, SettingsV2};
use aya::programs::{TestRun as _, TestRunOptions};
use model::{Protocol, SessionAffinity, SourceRanges};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::thread::UnshareFlags;

use crate::packet::{describe, frame};

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

/// Where a packet is put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Uplink,
    Pod,
    /// Leaves the node's own stack by the uplink.
    Node,
    /// Leaves the node's own stack towards the pod.
    NodeToPod,
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
        Self::made(1024, true)
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
            _pad: 0,
        };
        change(&mut settings);
        List::open(&self.pins, SETTINGS_MAP)
            .unwrap()
            .set(0, settings)
            .unwrap();
    }

    /// Adds a service: `udp 10.96.0.10:53 172.31.0.1:30053`, backends `10.244.1.5:5353 10.244.2.7:5353`.
    /// Frontends on the node's own addresses are node ports, those in 192.0.2.0/24 external IPs,
    /// those in 203.0.113.0/24 a load balancer's; backends 10.244.1.* are local. The answer is its
    /// id.
    #[track_caller]
    pub(crate) fn service(&mut self, protocol: &str, frontends: &str, backends: &str) -> u32 {
        self.service_with(protocol, frontends, backends, |_| {})
    }

    /// The same, changed before it is written.
    #[track_caller]
    pub(crate) fn service_with(
        &mut self,
        protocol: &str,
        frontends: &str,
        backends: &str,
        change: impl FnOnce(&mut LbService),
    ) -> u32 {
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "sctp" => Protocol::Sctp,
            _ => Protocol::Udp,
        };
        let mut unit = LbService {
            frontends: frontends
                .split_whitespace()
                .map(|text| frontend(text, protocol))
                .collect(),
            backends: backends.split_whitespace().map(backend).collect(),
            choice: Choice::Random,
            affinity: SessionAffinity::None,
            sources: SourceRanges::Everybody,
        };
        change(&mut unit);
        let id = self.tables.next(NEXT_SERVICE);
        self.units.insert(id, unit);
        self.apply(id);
        id
    }

    /// Changes a service as the agent does: first what adds, then what removes.
    #[track_caller]
    pub(crate) fn change(&mut self, id: u32, change: impl FnOnce(&mut LbService)) {
        change(self.units.get_mut(&id).unwrap());
        self.apply(id);
    }

    /// Replaces the backends of a service.
    #[track_caller]
    pub(crate) fn set_backends(&mut self, id: u32, backends: &str) {
        self.change(id, |unit| {
            unit.backends = backends.split_whitespace().map(backend).collect();
        });
    }

    /// The same as [`Lab::change`], with a look at the node after every single write.
    #[track_caller]
    pub(crate) fn change_watched(
        &mut self,
        id: u32,
        change: impl FnOnce(&mut LbService),
        watch: impl FnMut(&mut Self),
    ) {
        change(self.units.get_mut(&id).unwrap());
        self.apply_watched(id, watch);
    }

    /// Takes every service away, and every connection with it.
    #[track_caller]
    pub(crate) fn clear(&mut self) {
        for id in std::mem::take(&mut self.units).into_keys() {
            self.apply(id);
        }
        for name in [CONNECTIONS_MAP, OPENING_MAP] {
            let mut table = Table::<TupleV1, ConnectionV2>::open_lru(&self.pins, name).unwrap();
            for (key, _) in table.entries().unwrap() {
                table.delete(key).unwrap();
            }
        }
    }

    #[track_caller]
    fn apply(&mut self, id: u32) {
        self.apply_watched(id, |_| {});
    }

    /// The cluster's nodes: this one and a second.
    #[track_caller]
    fn know_nodes(&mut self) {
        let mut map = Table::open(&self.pins, ADDRESSES_MAP).unwrap();
        let nodes = ["172.31.0.1", "172.31.0.2", "fd00::1", "fd00::2"];
        let nodes = nodes.map(|node: &str| agent::lb::ebpf::image::address(node.parse().unwrap()));
        for change in self.addresses.set_nodes(BTreeSet::from(nodes)) {
            change.write(&mut map).unwrap();
        }
    }

    #[track_caller]
    fn apply_watched(&mut self, id: u32, mut watch: impl FnMut(&mut Self)) {
        let unit = self.units.get(&id).cloned();
        let unit = unit.as_ref();
        let mut maps = Maps::open(&self.pins).unwrap();
        let mut addresses = Table::open(&self.pins, ADDRESSES_MAP).unwrap();
        for step in [
            |id, unit: Option<&_>, tables: &_| {
                unit.map_or_else(Vec::new, |unit| make(id, unit, tables))
            },
            |id, unit: Option<&_>, tables: &_| dismantle(id, unit, tables),
            |_, _: Option<&_>, tables: &_| sweep(tables),
        ] {
            for op in step(id, unit, &self.tables) {
                maps.write(op).unwrap();
                if let Some(change) = self.addresses.follow(&op, &self.tables) {
                    change.write(&mut addresses).unwrap();
                }
                self.tables.commit(op);
                watch(self);
            }
        }
    }

    /// Runs a packet given as text; the answer is `VERDICT PACKET`.
    #[track_caller]
    pub(crate) fn run(&mut self, at: At, packet: &str) -> String {
        let (verdict, frame) = self.run_frame(at, &frame(packet));
        match verdict.as_str() {
            "drop" => verdict,
            _ => format!("{verdict} {}", describe(&frame)),
        }
    }

    /// Runs a frame; the answer is the verdict and the frame that comes out.
    #[track_caller]
    pub(crate) fn run_frame(&mut self, at: At, frame: &[u8]) -> (String, Vec<u8>) {
        let policed = self.programs.are_policed();
        let (program, interface) = match at {
            At::Uplink => ("uplink_ingress", self.uplink),
            At::Pod if policed => ("policed_ingress", self.pod),
            At::Pod => ("workload_ingress", self.pod),
            At::Node => ("egress", self.uplink),
            At::NodeToPod if policed => ("policed_egress", self.pod),
            At::NodeToPod => ("egress", self.pod),
        };
        // `__sk_buff` of linux/bpf.h; `ifindex` is its eleventh word.
        let mut context = [0; 192];
        context[40..44].copy_from_slice(&interface.to_ne_bytes());
        let mut out = vec![0; frame.len() + 128];
        let program = self.programs.classifier(program).unwrap();
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = program.test_run(options).unwrap();
        let verdict = match result.return_value.cast_signed() {
            -1 => "pass",
            2 => "drop",
            7 => "redirect",
            other => panic!("verdict {other}"),
        };
        out.truncate(usize::try_from(result.data_size_out).unwrap());
        (verdict.to_owned(), out)
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

/// A frontend as [`Lab::service`] reads it.
#[track_caller]
pub(crate) fn frontend(text: &str, protocol: Protocol) -> Frontend {
    let endpoint: SocketAddr = text.parse().unwrap();
    let scope = if text.starts_with("172.31.0.1:") || text.starts_with("[fd00::1]") {
        Scope::NodePort
    } else if text.starts_with("192.0.2.") {
        Scope::ExternalIp
    } else if text.starts_with("203.0.113.") || text.starts_with("[fd00:1b::") {
        Scope::LoadBalancer
    } else if endpoint.ip().is_loopback() {
        Scope::Loopback
    } else {
        Scope::ClusterIp
    };
    Frontend {
        address: endpoint.ip(),
        port: NonZeroU16::new(endpoint.port()).unwrap(),
        protocol,
        scope,
        inside: Pool::Cluster,
        outside: Pool::Cluster,
        direct_return: false,
    }
}

/// A backend as [`Lab::service`] reads it; it is in the local pool where it is local.
#[track_caller]
pub(crate) fn backend(text: &str) -> Backend {
    let endpoint: SocketAddr = text.parse().unwrap();
    let local = matches!(endpoint.ip(), IpAddr::V4(v4) if v4.octets()[2] == 1)
        || text.starts_with("[fd00:10::");
    Backend {
        address: endpoint.ip(),
        port: NonZeroU16::new(endpoint.port()).unwrap(),
        local,
        pools: Pools {
            cluster: true,
            local,
        },
        weight: 1,
        node: None,
    }
}

/// Changes the backends of a unit as a set; they end in order.
pub(crate) fn edit_backends(unit: &mut LbService, change: impl FnOnce(&mut BTreeSet<Backend>)) {
    let mut backends = unit.backends.iter().copied().collect();
    change(&mut backends);
    unit.backends = backends.into_iter().collect();
}

/// Turns direct return on or off at every frontend of a unit.
pub(crate) fn set_direct(unit: &mut LbService, direct_return: bool) {
    let frontends = unit.frontends.iter().map(|frontend| Frontend {
        direct_return,
        ..*frontend
    });
    unit.frontends = frontends.collect();
}

/// Gives every backend of a unit its node's address.
pub(crate) fn set_nodes(unit: &mut LbService, node_of: impl Fn(&Backend) -> Option<IpAddr>) {
    let backends = unit.backends.iter().map(|backend| Backend {
        node: node_of(backend),
        ..*backend
    });
    unit.backends = backends.collect();
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
