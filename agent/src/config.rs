//! Arguments to [`Config`], validated once.

pub mod arguments;
mod duration;
mod memory;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use model::k8s::Detail;
use model_watch::{Source, kube_source};

use crate::cni::conflist::PLUGIN;
use crate::cni::install::Places;
use crate::desired::node::{Exposure, NodePortAddresses};
use crate::desired::route::{Encapsulation, OverlayUse, RouterOptions};
use crate::egress::excluded::Given;
use crate::lb::ebpf::facility::{Timeouts, Translation};
use crate::lb::ebpf::programs::{Limits, PolicyLimits};
use arguments::{
    Arguments, NodePortAddress, OverlayEncap, OverlayType, PolicyArguments, RouterArguments,
};

/// What the agent runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of this node in the cluster.
    pub node_name: Arc<str>,
    /// Where the cluster is heard of.
    pub source: Source,
    /// Whether Services are balanced.
    pub run_service_proxy: bool,
    /// Addresses that are served.
    pub exposure: Arc<Exposure>,
    /// Source translation.
    pub translation: Translation,
    /// Sizes of the tables, and whether network policies are enforced.
    pub limits: Limits,
    /// Whether pods are closed until their policies are known.
    pub default_deny: bool,
    /// The pod network, where it is kept.
    pub router: Option<RouterConfig>,
    /// Largest packet of the network, where its interfaces say more.
    pub mtu: Option<u32>,
    /// Whether packets between pods skip the host's stack.
    pub fast_path: bool,
    /// Interfaces that lead to other machines; found where empty.
    pub devices: Vec<String>,
    /// Uplinks that get the edge path.
    pub xdp_devices: Vec<String>,
    /// How often everything is read back.
    pub config_sync_period: Duration,
    /// Where things are kept.
    pub paths: Paths,
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub health_addr: Option<SocketAddr>,
    /// Whether metrics have kube-router's names too.
    pub kube_router_metrics: bool,
    /// Whether the programs say what they do.
    pub debug_programs: bool,
    /// `--rcu-expedited`.
    pub rcu_expedited: bool,
    /// Flags that were given and change nothing.
    pub without_effect: Vec<String>,
}

/// How the pod network is kept.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// How pods of other nodes are reached.
    pub options: RouterOptions,
    /// How often the routes are read back.
    pub sync_period: Duration,
    /// Where the CNI plugin is installed, if it is.
    pub cni: Option<Places>,
    /// What keeps the pods' addresses, where what leaves the cluster is translated.
    pub egress: Option<Given>,
}

/// Where things are kept.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Files that outlive the process.
    pub state_dir: PathBuf,
    /// Directory on a bpffs for maps and links.
    pub bpf_root: PathBuf,
    /// cgroup v2 directory whose processes' `connect` calls are balanced; found where absent.
    pub cgroup_root: Option<PathBuf>,
    /// Unix socket.
    pub socket: PathBuf,
}

/// A flag that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Two networks of one family.
    #[error(
        "--cluster-cidr: {0} and {1} are of one family; give one IPv4 and one IPv6 network at most"
    )]
    ClusterCidr(IpNet, IpNet),
    /// Two answers to one question.
    #[error(
        "--nodeport-addresses: `primary` goes with no network, and neither with --nodeport-bindon-all-ip; give one of them"
    )]
    NodePortAddresses,
    /// No name.
    #[error("the node's name is not known: the host name is empty; set --hostname-override NAME")]
    NoName,
    /// A size of 0.
    #[error("--{0}: 0 entries hold nothing; give at least 1")]
    Empty(&'static str),
    /// What goes with network policy, without it.
    #[error("--{0} means nothing with --run-firewall=false; take one of the two away")]
    WithoutFirewall(&'static str),
    /// A name that leads elsewhere.
    #[error("--cni-conf-name: `{0}` is not the name of a file; --cni-conf-dir says where it is")]
    ConfName(String),
    /// A rehearsal of a removal that is turned off.
    #[error("--dry-run goes with --cleanup-config; leave it out to run the agent")]
    DryRun,
}

impl Config {
    /// Checks the arguments.
    ///
    /// # Errors
    /// [`ConfigError`] for the first flag that makes no sense.
    pub fn new(arguments: Arguments) -> Result<Self, ConfigError> {
        let mut without_effect = arguments.compatibility.given();
        without_effect.extend(arguments.router.without_effect());
        if arguments.router.overlay_encap == OverlayEncap::Fou {
            without_effect.push("--overlay-encap fou (vxlan is used)".to_owned());
        }
        let Arguments {
            command: _,
            master,
            kubeconfig,
            manifests,
            hostname_override,
            node_name_from_environment,
            config_sync_period,
            run_service_proxy,
            masquerade_all,
            cluster_cidr,
            nodeport_addresses,
            nodeport_bindon_all_ip,
            localhost_nodeports,
            service_external_ip_range,
            strict_external_ip_validation,
            service_tcp_timeout,
            service_tcpfin_timeout,
            service_udp_timeout,
            dataplane: arguments::Dataplane::Auto | arguments::Dataplane::Ebpf,
            devices,
            xdp_devices,
            max_services,
            max_backends,
            max_connections,
            policy:
                PolicyArguments {
                    run_firewall,
                    netpol_default_deny,
                    netpol_keep_connections,
                    max_policy_entries,
                },
            router,
            paths,
            health_addr,
            kube_router_metrics,
            cleanup_config: _,
            dry_run,
            log_format: _,
            verbosity: _,
            debug_programs,
            rcu_expedited,
            compatibility: _,
        } = arguments;
        if dry_run {
            return Err(ConfigError::DryRun);
        }
        let of_firewall = [
            ("netpol-default-deny", netpol_default_deny),
            ("netpol-keep-connections", netpol_keep_connections),
        ];
        if let Some((flag, _)) = of_firewall
            .iter()
            .find(|(_, given)| *given && !run_firewall)
        {
            return Err(ConfigError::WithoutFirewall(flag));
        }
        if let [first, second] = cluster_cidr.as_slice()
            && first.addr().is_ipv4() == second.addr().is_ipv4()
        {
            return Err(ConfigError::ClusterCidr(*first, *second));
        }
        let max_connections =
            max_connections.unwrap_or_else(|| memory::connections(memory::total()));
        let sizes = [
            ("max-services", max_services),
            ("max-backends", max_backends),
            ("max-connections", max_connections),
            ("max-policy-entries", max_policy_entries),
        ];
        if let Some((flag, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
            return Err(ConfigError::Empty(flag));
        }
        let given = hostname_override
            .or(node_name_from_environment)
            .filter(|name| !name.is_empty());
        let name = given.unwrap_or_else(|| {
            rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned()
        });
        if name.is_empty() {
            return Err(ConfigError::NoName);
        }
        // As kubelet does it.
        let node_name: Arc<str> = name.trim().to_lowercase().into();
        let source = match manifests {
            Some(directory) => Source::Manifests {
                directory,
                detail: Detail::Dataplane,
            },
            None => Source::Kube(kube_source::Options {
                master,
                kubeconfig,
                config_sync_period,
                // Peers of this node's pods may be anywhere.
                pods_of_node: (!run_firewall).then(|| Arc::clone(&node_name)),
                ..Default::default()
            }),
        };
        Ok(Self {
            node_name,
            source,
            run_service_proxy,
            exposure: Arc::new(Exposure {
                node_ports: node_ports(&nodeport_addresses, nodeport_bindon_all_ip)?,
                loopback: localhost_nodeports,
                external_ranges: service_external_ip_range,
                any_external: !strict_external_ip_validation,
            }),
            mtu: router.mtu,
            fast_path: router.fast_path,
            router: router_of(router, &cluster_cidr, &paths.socket)?,
            translation: Translation {
                masquerade_all,
                keep_connections: netpol_keep_connections,
                cluster_cidrs: cluster_cidr,
                timeouts: timeouts(
                    service_tcp_timeout,
                    service_tcpfin_timeout,
                    service_udp_timeout,
                ),
            },
            limits: Limits {
                services: max_services,
                backends: max_backends,
                connections: max_connections,
                policy: run_firewall.then_some(PolicyLimits {
                    entries: max_policy_entries,
                }),
            },
            default_deny: netpol_default_deny,
            devices,
            xdp_devices,
            config_sync_period,
            paths: paths.into(),
            health_addr: health_addr.0,
            kube_router_metrics,
            debug_programs,
            rcu_expedited,
            without_effect,
        })
    }
}

/// The pod network, where it is kept. The plugin asks the agent at `socket`.
fn router_of(
    arguments: RouterArguments,
    cluster_cidrs: &[IpNet],
    socket: &Path,
) -> Result<Option<RouterConfig>, ConfigError> {
    let RouterArguments {
        run_router,
        enable_overlay,
        overlay_type,
        overlay_encap,
        overlay_encap_port,
        overlay_vni,
        enable_multipath,
        auto_mtu,
        mtu: _,
        routes_sync_period,
        enable_cni,
        cni_conf_dir,
        cni_conf_name,
        cni_bin_dir,
        cni_plugin,
        cni_state_dir,
        enable_pod_egress,
        egress_excluded_cidrs,
        egress_excluded_cidrs_file,
        fast_path: _,
    } = arguments;
    if cni_conf_name.is_empty() || cni_conf_name.contains('/') {
        return Err(ConfigError::ConfName(cni_conf_name));
    }
    let overlay = match (enable_overlay, overlay_type) {
        (false, _) => OverlayUse::Off,
        (true, OverlayType::Subnet) => OverlayUse::Subnet,
        (true, OverlayType::Full) => OverlayUse::Full,
    };
    let encapsulation = match overlay_encap {
        OverlayEncap::Vxlan | OverlayEncap::Fou => Encapsulation::Vxlan {
            vni: overlay_vni,
            port: overlay_encap_port,
        },
        OverlayEncap::Ipip => Encapsulation::IpIp,
    };
    Ok(run_router.then(|| RouterConfig {
        options: RouterOptions {
            overlay,
            encapsulation,
            multipath: enable_multipath,
        },
        sync_period: routes_sync_period,
        cni: enable_cni.then(|| Places {
            config: cni_conf_dir.join(cni_conf_name),
            plugin: cni_bin_dir.join(PLUGIN),
            source: cni_plugin,
            socket: socket.to_owned(),
            state_dir: cni_state_dir,
            auto_mtu,
        }),
        egress: enable_pod_egress.then(|| Given {
            cluster_cidrs: cluster_cidrs.to_vec(),
            excluded: egress_excluded_cidrs,
            file: egress_excluded_cidrs_file,
        }),
    }))
}

fn node_ports(given: &[NodePortAddress], all: bool) -> Result<NodePortAddresses, ConfigError> {
    let networks: Vec<IpNet> = given
        .iter()
        .filter_map(|address| match address {
            NodePortAddress::Primary => None,
            NodePortAddress::Within(network) => Some(*network),
        })
        .collect();
    match (networks.len(), all) {
        (0, false) => Ok(NodePortAddresses::Primary),
        (0, true) => Ok(NodePortAddresses::All),
        (count, false) if count == given.len() => Ok(NodePortAddresses::Within(networks)),
        _ => Err(ConfigError::NodePortAddresses),
    }
}

/// 0 keeps the default, as in kube-router.
fn timeouts(tcp: Duration, tcp_closing: Duration, udp: Duration) -> Timeouts {
    let default = Timeouts::default();
    let or = |given: Duration, default| if given.is_zero() { default } else { given };
    Timeouts {
        tcp: or(tcp, default.tcp),
        tcp_closing: or(tcp_closing, default.tcp_closing),
        udp: or(udp, default.udp),
    }
}
