//! A node made of nothing but tables, routes and programs.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use agent::lb::ebpf::programs::{Limits, Programs};
use agent::sys::map::{List, Table, per_cpu_sums};
use agent_abi::Address;
use agent_abi::counters::{COUNTERS, COUNTERS_MAP, Counter};
use agent_abi::service::{
    BACKEND_LOCAL, BACKENDS_MAP, BackendV1, FRONTEND_NODE_PORT, FRONTENDS_MAP, FrontendKeyV1,
    FrontendV1, SERVICES_MAP, SLOTS_MAP, ServiceV1, SlotKeyV1,
};
use agent_abi::settings::{SETTINGS_MAP, SettingsV1};
use aya::programs::{TestRun as _, TestRunOptions};
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
    next: u32,
}

/// Where a packet is put in.
#[derive(Clone, Copy, Debug)]
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
            connections: 1024,
        };
        let object = agent::lb::ebpf::OBJECT
            .expect("no eBPF programs in this build; run `cargo xtask build` first");
        let programs = Programs::load(object, &pins, limits).unwrap();
        let index = |name| rustix::net::netdevice::name_to_index(socket(), name).unwrap();
        let lab = Self {
            programs,
            pins,
            uplink: index("uplink"),
            pod: index("pod"),
            directory,
            next: 1,
        };
        lab.configure(0, [0; 16], 0);
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
        let settings = SettingsV1 {
            node_v4: address("172.31.0.1"),
            node_v6: address("fd00::1"),
            cluster_v4,
            cluster_v6: [0; 16],
            cluster_v4_bits,
            cluster_v6_bits: 0,
            flags,
            _pad: 0,
        };
        List::open(&self.pins, SETTINGS_MAP)
            .unwrap()
            .set(0, settings)
            .unwrap();
    }

    /// Adds a service: `udp 10.96.0.10:53 172.31.0.1:30053`, backends `10.244.1.5:5353 10.244.2.7:5353`.
    /// Frontends on the node's own addresses are node ports, backends 10.244.1.* are local. The
    /// answer is its id.
    #[track_caller]
    pub(crate) fn service(&mut self, protocol: &str, frontends: &str, backends: &str) -> u32 {
        let id = self.next;
        self.next += 100;
        let backends: Vec<&str> = backends.split_whitespace().collect();
        let slots = u32::try_from(backends.len()).unwrap();
        for (slot, backend) in (0..).zip(backends) {
            let endpoint: SocketAddr = backend.parse().unwrap();
            let local = matches!(endpoint.ip(), IpAddr::V4(v4) if v4.octets()[2] == 1)
                || backend.starts_with("[fd00:10::");
            let value = BackendV1 {
                address: address(&endpoint.ip().to_string()),
                port: endpoint.port().to_be_bytes(),
                flags: if local { BACKEND_LOCAL } else { 0 },
                service: id,
            };
            Table::open(&self.pins, BACKENDS_MAP)
                .unwrap()
                .put(id + slot, value)
                .unwrap();
            Table::open(&self.pins, SLOTS_MAP)
                .unwrap()
                .put(SlotKeyV1 { service: id, slot }, id + slot)
                .unwrap();
        }
        Table::open(&self.pins, SERVICES_MAP)
            .unwrap()
            .put(id, ServiceV1 { slots })
            .unwrap();
        for frontend in frontends.split_whitespace() {
            let endpoint: SocketAddr = frontend.parse().unwrap();
            let node_port =
                frontend.starts_with("172.31.0.1:") || frontend.starts_with("[fd00::1]");
            let key = FrontendKeyV1 {
                address: address(&endpoint.ip().to_string()),
                port: endpoint.port().to_be_bytes(),
                protocol: if protocol == "tcp" { 6 } else { 17 },
                _pad: 0,
            };
            let value = FrontendV1 {
                service: id,
                flags: if node_port { FRONTEND_NODE_PORT } else { 0 },
            };
            Table::open(&self.pins, FRONTENDS_MAP)
                .unwrap()
                .put(key, value)
                .unwrap();
        }
        id
    }

    /// Takes a backend away, as the agent does: slots first.
    pub(crate) fn remove_only_backend(&self, service: u32) {
        Table::open(&self.pins, SERVICES_MAP)
            .unwrap()
            .put(service, ServiceV1 { slots: 0 })
            .unwrap();
        Table::<SlotKeyV1, u32>::open(&self.pins, SLOTS_MAP)
            .unwrap()
            .delete(SlotKeyV1 { service, slot: 0 })
            .unwrap();
        Table::<u32, BackendV1>::open(&self.pins, BACKENDS_MAP)
            .unwrap()
            .delete(service)
            .unwrap();
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
        let (program, interface) = match at {
            At::Uplink => ("uplink_ingress", self.uplink),
            At::Pod => ("workload_ingress", self.pod),
            At::Node => ("egress", self.uplink),
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

fn socket() -> std::os::fd::OwnedFd {
    rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        None,
    )
    .unwrap()
}
