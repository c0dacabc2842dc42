//! From [`Arguments`] to a [`Config`] that makes sense, or the first flag that makes none.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use model::k8s::Detail;
use model_watch::{Source, kube_source};

use super::arguments::{
    Arguments, ClusterArguments, CniArguments, Dataplane, EgressArguments, ExposureArguments,
    InterfaceArguments, NodePortAddress, OperationArguments, OverlayEncap, OverlayType,
    PolicyArguments, RemovalArguments, RouterArguments, ServiceArguments, TableArguments,
};
use super::{Config, ConfigError, RouterConfig, memory};
use crate::cni::conflist::PLUGIN;
use crate::cni::install::Places;
use crate::cni::stores::Stores;
use crate::desired::node::{Exposure, NodePortAddresses};
use crate::desired::route::{Encapsulation, OverlayUse, RouterOptions};
use crate::egress::excluded::Given;
use crate::lb::ebpf::programs::{Limits, PolicyLimits};
use crate::lb::ebpf::settings::{Timeouts, Translation};

impl Config {
    /// Checks the arguments.
    ///
    /// # Errors
    /// [`ConfigError`] for the first flag that makes no sense.
    pub fn new(arguments: Arguments) -> Result<Self, ConfigError> {
        let Arguments {
            command: _,
            cluster,
            services:
                ServiceArguments {
                    run_service_proxy,
                    masquerade_all,
                    cluster_cidr,
                    service_tcp_timeout,
                    service_tcpfin_timeout,
                    service_udp_timeout,
                    dataplane: Dataplane::Auto | Dataplane::Ebpf,
                },
            exposure,
            policy:
                PolicyArguments {
                    run_firewall,
                    netpol_default_deny,
                    netpol_keep_connections,
                },
            router,
            cni,
            egress,
            interfaces:
                InterfaceArguments {
                    devices,
                    xdp_devices,
                    enable_tcx,
                },
            tables,
            operation:
                OperationArguments {
                    paths,
                    health_addr,
                    kube_router_metrics,
                    log_format: _,
                    verbosity: _,
                    debug_programs,
                    rcu_expedited,
                },
            removal:
                RemovalArguments {
                    cleanup_config: _,
                    dry_run,
                },
            compatibility,
        } = arguments;
        let mut without_effect = compatibility.given();
        without_effect.extend(egress.without_effect(router.run_router));
        if router.overlay_encap == OverlayEncap::Fou {
            without_effect.push("--overlay-encap fou (vxlan is used)".to_owned());
        }
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
        let limits = limits(tables, run_firewall)?;
        let of_plugin = OfPlugin {
            socket: &paths.socket,
            hurries: rcu_expedited,
        };
        let config_sync_period = cluster.config_sync_period;
        // Peers of this node's pods may be anywhere.
        let (node_name, source) = heard_of(cluster, !run_firewall)?;
        Ok(Self {
            node_name,
            source,
            run_service_proxy,
            exposure: Arc::new(exposed(exposure)?),
            mtu: router.mtu,
            fast_path: router.fast_path,
            router: router_of(router, cni, egress, &cluster_cidr, of_plugin)?,
            translation: Translation {
                masquerade_all,
                keep_connections: netpol_keep_connections,
                policed: limits.policy.is_some(),
                cluster_cidrs: cluster_cidr,
                timeouts: timeouts(
                    service_tcp_timeout,
                    service_tcpfin_timeout,
                    service_udp_timeout,
                ),
            },
            limits,
            default_deny: netpol_default_deny,
            devices,
            xdp_devices,
            tcx: enable_tcx,
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

/// The node's name, and where the cluster is heard of: of pods, those of the node alone or all.
fn heard_of(
    arguments: ClusterArguments,
    own_pods_alone: bool,
) -> Result<(Arc<str>, Source), ConfigError> {
    let ClusterArguments {
        master,
        kubeconfig,
        manifests,
        hostname_override,
        node_name_from_environment,
        config_sync_period,
    } = arguments;
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
            pods_of_node: own_pods_alone.then(|| Arc::clone(&node_name)),
            ..Default::default()
        }),
    };
    Ok((node_name, source))
}

fn limits(arguments: TableArguments, policed: bool) -> Result<Limits, ConfigError> {
    let TableArguments {
        max_services,
        max_backends,
        max_connections,
        max_policy_entries,
    } = arguments;
    let max_connections = max_connections.unwrap_or_else(|| memory::connections(memory::total()));
    let sizes = [
        ("max-services", max_services),
        ("max-backends", max_backends),
        ("max-connections", max_connections),
        ("max-policy-entries", max_policy_entries),
    ];
    if let Some((flag, _)) = sizes.into_iter().find(|(_, size)| *size == 0) {
        return Err(ConfigError::Empty(flag));
    }
    Ok(Limits {
        services: max_services,
        backends: max_backends,
        connections: max_connections,
        policy: policed.then_some(PolicyLimits {
            entries: max_policy_entries,
        }),
    })
}

fn exposed(arguments: ExposureArguments) -> Result<Exposure, ConfigError> {
    let ExposureArguments {
        nodeport_addresses,
        nodeport_bindon_all_ip,
        localhost_nodeports,
        service_external_ip_range,
        strict_external_ip_validation,
    } = arguments;
    Ok(Exposure {
        node_ports: node_ports(&nodeport_addresses, nodeport_bindon_all_ip)?,
        loopback: localhost_nodeports,
        external_ranges: service_external_ip_range,
        any_external: !strict_external_ip_validation,
    })
}

/// What the plugin is told of the agent.
struct OfPlugin<'a> {
    socket: &'a Path,
    hurries: bool,
}

/// The pod network, where it is kept.
fn router_of(
    arguments: RouterArguments,
    cni: CniArguments,
    egress: EgressArguments,
    cluster_cidrs: &[IpNet],
    plugin: OfPlugin<'_>,
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
        fast_path: _,
    } = arguments;
    let CniArguments {
        enable_cni,
        cni_conf_dir,
        cni_conf_name,
        cni_bin_dir,
        cni_plugin,
        cni_state_dir,
    } = cni;
    let EgressArguments {
        enable_pod_egress,
        egress_excluded_cidrs,
        egress_excluded_cidrs_file,
    } = egress;
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
        stores: Stores {
            configs: cni_conf_dir.clone(),
            state_dir: cni_state_dir.clone(),
        },
        cni: enable_cni.then(|| Places {
            config: cni_conf_dir.join(cni_conf_name),
            earlier: Vec::new(),
            plugin: cni_bin_dir.join(PLUGIN),
            source: cni_plugin,
            socket: plugin.socket.to_owned(),
            state_dir: cni_state_dir,
            auto_mtu,
            hurries: plugin.hurries,
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
