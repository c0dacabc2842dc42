//! ADD: lease, then the steps of the plan. Where one fails, all is undone, the last first.

use std::io;
use std::net::IpAddr;

use crate::agent::{self, Asked, Program};
use crate::config::Config;
use crate::environment::Pod;
use crate::error::{CniError, Code};
use crate::message;
use crate::name::{End, HostInterface, Mac};
use crate::namespace::Namespace;
use crate::netlink::{Netlink, mtu, outgoing};
use crate::plan::{self, Setting, Step, Wiring};
use crate::rcu::Hurry;
use crate::request::Add;
use crate::result::Made;
use crate::store::{Holder, Store};

/// What is to be undone where a later step fails.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Undo {
    Lease,
    Pair,
}

/// Of the networks for documentation (RFC 5737, RFC 3849): the way there is the way out.
const OUTSIDE: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
/// Where there is no way out: Ethernet's.
const USUAL_MTU: u32 = 1500;

/// Makes the interface of a pod.
///
/// # Errors
/// Where that cannot be; then nothing stays behind.
pub fn add(request: &Add) -> Result<Made, CniError> {
    let Add {
        attachment,
        netns,
        pod,
        config,
    } = request;
    if config.agent.is_some() && pod.is_none() {
        return Err(CniError::new(
            Code::InvalidEnvironment,
            "CNI_ARGS names no Pod",
            "`agentSocket` is set, so K8S_POD_NAMESPACE and K8S_POD_NAME are needed",
        ));
    }
    let ranges = config.some_ranges(Code::TryAgain)?;
    let namespace = Namespace::open(netns)?;
    let mut kernel = Kernel::open(&namespace)?;
    let taken = kernel.pod.index(&attachment.ifname);
    if taken
        .map_err(|error| kernel_error("look for the pod's interface", &error))?
        .is_some()
    {
        return Err(CniError::new(
            Code::AlreadyAttached,
            format!(
                "CNI_IFNAME is {}, which the container has already",
                attachment.ifname
            ),
            "a DEL has to come first",
        ));
    }
    let mtu = match config.mtu {
        Some(mtu) => mtu,
        None => kernel
            .uplink_mtu()
            .map_err(|error| kernel_error("find the uplink's MTU", &error))?,
    };
    let holder = Holder {
        attachment: attachment.clone(),
        pod: pod.clone(),
    };
    // Unlocked again at the end of the statement: others may go on while the interface is made.
    let lease = Store::open(&config.place)?.lease(&holder, ranges, &config.addresses)?;
    let wiring = Wiring {
        host: lease.interface,
        host_mac: Mac::of(attachment, End::Host),
        ifname: attachment.ifname.clone(),
        pod_mac: config.mac.unwrap_or(Mac::of(attachment, End::Pod)),
        mtu,
        addresses: lease.addresses,
        pod: pod.clone(),
    };
    let mut undo = vec![Undo::Lease];
    for step in plan::steps(&wiring, config.agent.is_some()) {
        if let Err(error) = kernel.take(&step, &wiring, config, &mut undo) {
            return Err(undone(error, &undo, &mut kernel, config, &wiring.host));
        }
    }
    Ok(Made {
        wiring,
        netns: netns.display().to_string(),
        dns: config.dns.clone(),
    })
}

/// Undoes what is done; what cannot be undone is told, and a DEL will try again.
fn undone(
    error: CniError,
    undo: &[Undo],
    kernel: &mut Kernel<'_>,
    config: &Config,
    host: &HostInterface,
) -> CniError {
    undo.iter().rev().fold(error, |error, undo| {
        let undone = match undo {
            Undo::Lease => Store::open(&config.place).and_then(|store| store.release(host)),
            Undo::Pair => remove(&mut kernel.host, host, config.hurries),
        };
        match undone {
            Ok(()) => error,
            Err(also) => error.and(&also),
        }
    })
}

/// Removes the host's interface, and with it the pod's. That it is not there is as good. Where it
/// `hurries`, the kernel does; see [`Hurry`].
///
/// # Errors
/// Where the kernel refuses.
pub fn remove(netlink: &mut Netlink, host: &HostInterface, hurries: bool) -> Result<(), CniError> {
    let failed = |error| kernel_error(&format!("remove the interface {host}"), &error);
    let Some(index) = netlink.index(host.as_str()).map_err(failed)? else {
        return Ok(());
    };
    let _hurry = Hurry::begin(hurries);
    match netlink.change(message::remove(index)) {
        // The pod's namespace has ended meanwhile.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
            Ok(())
        }
        other => other.map_err(failed),
    }
}

/// The sockets of both namespaces, and the interfaces there once they are made.
#[derive(Debug)]
struct Kernel<'a> {
    namespace: &'a Namespace,
    host: Netlink,
    pod: Netlink,
    host_index: u32,
    pod_index: u32,
    asked: Option<Asked<'a>>,
}

impl<'a> Kernel<'a> {
    fn open(namespace: &'a Namespace) -> Result<Self, CniError> {
        let failed = |error| kernel_error("open a netlink socket", &error);
        let pod = namespace.within(Netlink::open).and_then(|opened| opened);
        Ok(Self {
            namespace,
            host: Netlink::open().map_err(failed)?,
            pod: pod.map_err(failed)?,
            host_index: 0,
            pod_index: 0,
            asked: None,
        })
    }

    fn take(
        &mut self,
        step: &Step,
        wiring: &Wiring,
        config: &'a Config,
        undo: &mut Vec<Undo>,
    ) -> Result<(), CniError> {
        if let (Step::Ask, Some(agent), Some(pod)) = (step, &config.agent, &wiring.pod) {
            self.asked = Some(agent::ask(agent, self.question(pod, wiring))?);
            return Ok(());
        }
        if *step == Step::Agent {
            let asked = self.asked.take().ok_or_else(|| {
                let why = "the plan waits for an answer that it has not asked for";
                CniError::new(Code::AgentRefused, "the agent was not asked", why)
            });
            return asked.and_then(Asked::answer);
        }
        let failed = |error| kernel_error(&step.to_string(), &error);
        if *step == Step::Pair {
            let pair = message::pair(wiring, self.namespace.as_raw_fd());
            self.host.change(pair).map_err(failed)?;
            undo.push(Undo::Pair);
        }
        self.change(step, wiring).map_err(failed)
    }

    fn change(&mut self, step: &Step, wiring: &Wiring) -> io::Result<()> {
        let (host, pod) = (self.host_index, self.pod_index);
        match step {
            Step::Pair => {
                self.host_index = found(self.host.index(wiring.host.as_str()))?;
                self.pod_index = found(self.pod.index(&wiring.ifname))?;
                Ok(())
            }
            Step::HostSetting(setting) => set(setting, wiring.host.as_str()),
            Step::HostUp { alias } => self.host.change(message::up(host, alias)),
            Step::HostNeighbour(address) => {
                let neighbour = message::neighbour(host, *address, wiring.pod_mac);
                self.host.change(neighbour)
            }
            Step::HostRoute(address) => self.host.change(message::host_route(host, *address)),
            Step::Ask | Step::Agent => Ok(()),
            Step::PodSetting(setting) => self
                .namespace
                .within(|| set(setting, &wiring.ifname))
                .and_then(|written| written),
            Step::Loopback => {
                let loopback = found(self.pod.index("lo"))?;
                self.pod.change(message::up(loopback, ""))
            }
            Step::PodAddress(address) => self.pod.change(message::address(pod, *address)),
            Step::PodUp => self.pod.change(message::up(pod, "")),
            Step::PodNeighbour(gateway) => {
                let neighbour = message::neighbour(pod, *gateway, wiring.host_mac);
                self.pod.change(neighbour)
            }
            Step::PodRoute(gateway) => self.pod.change(message::default_route(pod, *gateway)),
        }
    }

    fn question(&self, pod: &Pod, wiring: &Wiring) -> Program {
        Program::new(
            pod,
            wiring.host.as_str(),
            self.host_index,
            &wiring.addresses,
        )
    }

    /// MTU of the interface that packets leave the node by.
    fn uplink_mtu(&mut self) -> io::Result<u32> {
        for outside in OUTSIDE {
            let route = self.host.route_to(outside)?;
            if let Some(index) = route.as_ref().and_then(outgoing) {
                return Ok(mtu(&self.host.link(index)?).unwrap_or(USUAL_MTU));
            }
        }
        Ok(USUAL_MTU)
    }
}

fn found(index: io::Result<Option<u32>>) -> io::Result<u32> {
    index?.ok_or_else(|| rustix::io::Errno::NODEV.into())
}

fn set(setting: &Setting, interface: &str) -> io::Result<()> {
    let path = setting.path(interface);
    std::fs::write(&path, setting.value)
        .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}

/// An error of the kernel at a step.
pub fn kernel_error(what: &str, error: &io::Error) -> CniError {
    CniError::new(Code::Kernel, format!("cannot {what}"), error)
}
